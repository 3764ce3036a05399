//! Whatever a body is, an endpoint answers it with a document and a stable code, or does what was asked
//! for. The first byte of an input chooses the endpoint.
#![no_main]

use std::cell::RefCell;

use bytes::Bytes;
use doorward_core::Delivery;
use doorward_fuzz::{World, request};
use doorward_http::Endpoint;
use libfuzzer_sys::fuzz_target;

const ASKED: [Endpoint; 6] = [
    Endpoint::Login,
    Endpoint::Refresh,
    Endpoint::Logout,
    Endpoint::Reauthenticate,
    Endpoint::ChangePassword,
    Endpoint::Register,
];

thread_local! {
    // Made anew where an input ended its session.
    static WORLD: RefCell<World> = RefCell::new(World::new(Delivery::Body));
}

fuzz_target!(|input: &[u8]| {
    let Some((which, body)) = input.split_first() else {
        return;
    };
    let endpoint = ASKED[usize::from(*which) % ASKED.len()];
    WORLD.with_borrow_mut(|world| {
        let body = match std::str::from_utf8(body) {
            Ok(text) => Bytes::from(world.filled(text)),
            Err(_) => Bytes::copy_from_slice(body),
        };
        let bearer = format!("Bearer {}", world.grant.access.as_str());
        let asked = request(endpoint)
            .header("content-type", "application/json")
            .header("authorization", bearer)
            .body(body);
        world.ask(endpoint, asked.expect("a request"));
        if !world.is_alive() {
            *world = World::new(Delivery::Body);
        }
    });
});
