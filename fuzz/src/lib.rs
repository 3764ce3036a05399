//! What the targets share: an engine with one live session, whose clock and randomness are fixed, so
//! that an input means the same at every run.

use std::sync::Arc;

use bytes::Bytes;
use doorward_core::account::Identity;
use doorward_core::keys::{Algorithm, KeyConfig};
use doorward_core::memory::MemoryStore;
use doorward_core::password::Params;
use doorward_core::service::{Grant, Terms};
use doorward_core::testing::TestEnv;
use doorward_core::{Delivery, Device, Engine, EngineConfig, Timestamp, UserId};
use doorward_http::{Api, Client, Endpoint, ROUTES, Settings, settle};
use http::{Request, Response};
use pollster::FutureExt;

/// Signs access tokens; targets sign payloads of their own with it.
pub const SECRET: &[u8] = b"f2c1a7d09b8e4c63a5508e17dd94b3c6";
/// Stand in inputs for the live session's tokens.
pub const ACCESS: &str = "{access}";
pub const REFRESH: &str = "{refresh}";

/// An engine and a session.
pub struct World {
    pub engine: Engine,
    pub api: Api,
    pub grant: Grant,
}

impl World {
    /// A session whose tokens travel by `delivery`.
    pub fn new(delivery: Delivery) -> World {
        let mut config = EngineConfig::default();
        config.hashing.params = Params::FAST_FOR_TESTS;
        config.key = KeyConfig {
            algorithm: Algorithm::HS256,
            key: Some(SECRET.to_vec().into()),
            ..KeyConfig::default()
        };
        let store = Arc::new(MemoryStore::new(config.policy.clone()));
        let env = Arc::new(TestEnv::new(Timestamp::from_seconds(1_800_000_000), 7));
        let engine = Engine::open(store, config, env)
            .block_on()
            .expect("an engine");
        let settings = Settings {
            register: true,
            verify: true,
            ..Settings::default()
        };
        let api = Api::new(Arc::clone(engine.service()), settings).expect("an API");
        let grant = login(&engine, delivery);
        World { engine, api, grant }
    }

    /// The input with the session's tokens in their places.
    pub fn filled(&self, input: &str) -> String {
        let filled = input.replace(ACCESS, self.grant.access.as_str());
        filled.replace(REFRESH, self.grant.refresh.as_str())
    }

    /// Asks, and holds the answer to what every answer promises.
    pub fn ask(&self, endpoint: Endpoint, request: Request<Bytes>) -> Response<Bytes> {
        let reply = self.api.call(endpoint, request, Client::default());
        let reply = async { settle(reply.await, self.engine.accounts()).await };
        let response = reply.block_on().response;
        let status = response.status().as_u16();
        assert!(status < 500 || status == 503, "{response:?}");
        assert_eq!(response.headers()["cache-control"], "no-store");
        if status >= 400 {
            let problem: serde_json::Value =
                serde_json::from_slice(response.body()).expect("a problem document");
            assert!(problem["code"].is_string());
        }
        response
    }

    /// Whether the session goes on.
    pub fn is_alive(&self) -> bool {
        let row = self.engine.service().session(self.grant.session.id);
        row.block_on().expect("a row").ended.is_none()
    }
}

fn login(engine: &Engine, delivery: Delivery) -> Grant {
    let identity = Identity {
        user: UserId::new("ada").expect("an id"),
        username: Some("ada".into()),
        valid_from: None,
        claims: None,
    };
    let terms = Terms {
        started_at: engine.service().now(),
        remember: false,
        delivery,
        device: Device::default(),
    };
    let (grant, _) = engine.service().login(identity, terms).block_on();
    grant.expect("a session")
}

/// A request to an endpoint, as a browser on the same site sends it.
pub fn request(endpoint: Endpoint) -> http::request::Builder {
    let mut routes = ROUTES.iter();
    let route = routes
        .find(|route| route.endpoint == endpoint)
        .expect("a route");
    let path = route
        .path
        .replace("{id}", "0123456789abcdef0123456789abcdef");
    Request::builder()
        .method(route.method.clone())
        .uri(format!("/api/v1{path}"))
        .header("sec-fetch-site", "same-origin")
}
