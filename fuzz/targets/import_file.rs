//! Files of users: whatever is in them, an account is taken as a whole or refused, a second run finds what
//! the first added, and no message shows a hash.
#![no_main]

use std::io;

use doorward_core::event_log::EventConfig;
use doorward_core::import::{Format, Options, Refusal, Tally, Watch};
use doorward_core::memory::MemoryStore;
use doorward_core::operator::Operator;
use doorward_core::password::{Hashing, Passwords};
use doorward_core::{EventLog, SystemEnv};
use libfuzzer_sys::fuzz_target;
use pollster::FutureExt;
use std::sync::Arc;

/// Stands in inputs for a hash, which no input finds by itself.
const HASH: &str = "$2b$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW";

struct Told(Vec<u64>);

impl Watch for Told {
    fn refused(&mut self, refusal: &Refusal) -> io::Result<()> {
        assert!(!format!("{refusal}{refusal:?}").contains(HASH));
        self.0.push(refusal.line);
        Ok(())
    }
    fn read(&mut self, _: u64, _: &Tally) -> io::Result<()> {
        Ok(())
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((flags, text)) = input.split_first() else {
        return;
    };
    let is_csv = flags & 1 == 0;
    let format = if is_csv {
        Format::Csv
    } else {
        Format::JsonLines
    };
    let options = Options {
        ignore_others: flags & 2 != 0,
        ..Options::default()
    };
    let text: Vec<u8> = match std::str::from_utf8(text) {
        Ok(text) => text.replace("{hash}", HASH).into(),
        Err(_) => text.into(),
    };
    let (store, env) = (Arc::new(MemoryStore::default()), Arc::new(SystemEnv));
    let events = EventLog::new(store.clone(), EventConfig::default(), env.clone());
    let operator = Operator::new(store.clone(), Arc::new(events), env);
    let passwords = Passwords::new(Hashing::default(), Arc::new(SystemEnv));
    let run = |options| {
        let mut told = Told(Vec::new());
        let import = operator.import(&passwords, options);
        let tally = import.run(&*text, format, &mut told).block_on();
        tally.ok().map(|tally| (tally, told.0))
    };
    let dry = Options {
        dry_run: true,
        ..options
    };
    let before = run(dry);
    let first = run(options);
    let second = run(options);
    assert_eq!(before, first);
    let (Some((first, refused)), Some((second, again))) = (first, second) else {
        return;
    };
    assert_eq!(second.added, 0);
    assert_eq!(first.added + first.there_already, second.there_already);
    assert!(refused == again && refused.is_sorted());
});
