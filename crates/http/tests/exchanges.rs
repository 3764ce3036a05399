//! The recorded exchanges, replayed against the bare engine: no host, a store in memory, and a
//! clock that is set by hand.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod engine;

use std::path::Path;
use std::sync::Arc;

use doorward_core::memory::MemoryStore;
use doorward_http::testing::{self, Recording};
use doorward_http::{Problem, ROUTES};

use crate::engine::{Engine, route_of};

fn recordings() -> Vec<Recording> {
    testing::recordings(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/exchanges")))
}

#[test]
fn the_engine_answers_as_recorded() {
    for recording in recordings().iter().filter(|r| r.is_for("engine")) {
        pollster::block_on(async {
            let (policy, settings) = recording.settings();
            let store = Arc::new(MemoryStore::new(policy.clone()));
            let mut engine = Engine::on(store, policy, settings).await;
            recording.replay(&mut engine).await;
        });
    }
}

#[test]
fn every_code_is_recorded() {
    // These come of load and of faults.
    let elsewhere = ["overloaded", "store_unavailable"];
    let recordings = recordings();
    let exchanges = recordings.iter().flat_map(|file| &file.exchanges);
    let answers: String = exchanges.map(|e| e.answer_body.as_str()).collect();
    for (code, _) in Problem::CODES {
        let recorded = answers.contains(&format!("\"code\": \"{code}\""));
        assert!(recorded || elsewhere.contains(&code), "{code}");
    }
}

#[test]
fn every_route_is_recorded_with_a_success() {
    let recordings = recordings();
    let exchanges: Vec<_> = recordings.iter().flat_map(|file| &file.exchanges).collect();
    for route in &ROUTES {
        let recorded = exchanges.iter().any(|exchange| {
            let (method, path) = &exchange.request;
            let answered = route_of(&method.parse().unwrap(), path);
            answered == Some(route.endpoint) && exchange.status < 300
        });
        assert!(recorded, "{} {}", route.method, route.path);
    }
}
