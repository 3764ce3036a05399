//! Hashes of other making are told apart without doing their work: nothing here may take long.
#![no_main]

use doorward_core::password::PasswordHash;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let hash = PasswordHash::from_phc(text);
    let known = hash.is_known();
    assert!(
        !known || text.len() <= 1024,
        "a hash of {} bytes",
        text.len()
    );
    assert_eq!(format!("{hash:?}"), "PasswordHash([redacted])");
});
