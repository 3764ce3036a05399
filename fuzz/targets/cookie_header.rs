//! Whatever stands in a Cookie header, it opens a session only by the session's own token, and ends one
//! only where that is asked for. The first byte of an input chooses what is asked for.
#![no_main]

use std::cell::RefCell;

use bytes::Bytes;
use doorward_core::Delivery;
use doorward_fuzz::{ACCESS, REFRESH, World, request};
use doorward_http::Endpoint;
use libfuzzer_sys::fuzz_target;

const ASKED: [Endpoint; 6] = [
    Endpoint::Session,
    Endpoint::Refresh,
    Endpoint::Logout,
    Endpoint::Sessions,
    Endpoint::EndSessions,
    Endpoint::Verify,
];

thread_local! {
    // Made anew after each input that holds a token of its session.
    static WORLD: RefCell<World> = RefCell::new(World::new(Delivery::Cookie));
}

fuzz_target!(|input: &[u8]| WORLD.with_borrow_mut(|world| ask(world, input)));

fn ask(world: &mut World, input: &[u8]) {
    let Some((which, cookies)) = input.split_first() else {
        return;
    };
    let endpoint = ASKED[usize::from(*which) % ASKED.len()];
    let text = String::from_utf8_lossy(cookies);
    let is_named = text.contains(ACCESS) || text.contains(REFRESH);
    // As bytes, unless there is something to fill in.
    let cookies = if is_named {
        world.filled(&text).into_bytes()
    } else {
        cookies.to_vec()
    };
    let asked = request(endpoint)
        .header("cookie", cookies)
        .body(Bytes::new());
    let Ok(asked) = asked else { return };
    let answer = world.ask(endpoint, asked);
    if is_named {
        *world = World::new(Delivery::Cookie);
    } else {
        assert!(world.is_alive());
        assert!(answer.status() == 401 || endpoint == Endpoint::Logout);
    }
}
