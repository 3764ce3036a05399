//! A settings file is used or refused in words that name the setting, and never shows a secret.
#![no_main]

#[allow(dead_code, unreachable_pub)]
#[path = "../../crates/server/src/config.rs"]
mod config;

use config::Values;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    // Names of files are opened, and this machine's are not part of an input.
    if text.contains("_file") {
        return;
    }
    let mut values = Values::default();
    let read = values.add_file("doorward.toml", text);
    if let Err(refused) = read.and_then(|()| values.check().map(drop)) {
        assert!(!refused.to_string().is_empty());
    }
});
