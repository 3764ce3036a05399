//! A settings file is used or refused in words that name the setting, and never shows a secret.
#![no_main]

/// The server is a program without a library.
#[allow(dead_code, unreachable_pub)]
#[path = "../../crates/server/src"]
mod server {
    pub mod config;
    pub mod exposure;
    pub mod secret_file;
}

use libfuzzer_sys::fuzz_target;
use server::config::Values;
#[allow(unused_imports)]
use server::{exposure, secret_file};

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
