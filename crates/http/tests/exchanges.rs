//! The recorded exchanges, replayed against the bare engine: no host, a store in memory, and a
//! clock that is set by hand.

#![allow(clippy::unwrap_used, reason = "a test may")]

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use doorward_core::keys::{KeyConfig, KeyRing};
use doorward_core::memory::MemoryStore;
use doorward_core::password::{Hashing, Params, Password, Passwords};
use doorward_core::revocation::{Bounds, Revocations};
use doorward_core::store::Store;
use doorward_core::testing::TestEnv;
use doorward_core::{Accounts, Env, Service, Timestamp};
use doorward_http::testing::{self, Door, PASSWORD, Recording, USERS};
use doorward_http::{Api, Client, Endpoint, Need, Problem, ROUTES, settle};
use http::{Method, Request, Response};

fn recordings() -> Vec<Recording> {
    testing::recordings(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/exchanges")))
}

#[test]
fn the_engine_answers_as_recorded() {
    for recording in recordings().iter().filter(|r| r.is_for("engine")) {
        pollster::block_on(async {
            let mut engine = Engine::open(recording).await;
            recording.replay(&mut engine).await;
        });
    }
}

#[test]
fn every_code_is_recorded() {
    // These come of load and of faults.
    let elsewhere = ["too_many_attempts", "overloaded", "store_unavailable"];
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
            let answered = route_of(method.parse().unwrap(), path);
            answered == Some(route.endpoint) && exchange.status < 300
        });
        assert!(recorded, "{} {}", route.method, route.path);
    }
}

/// The host's part: which endpoint a request is for.
#[expect(clippy::needless_pass_by_value, reason = "a method made for the call")]
fn route_of(method: Method, path: &str) -> Option<Endpoint> {
    let path = path.split('?').next().unwrap_or_default();
    let path = path.strip_prefix("/api/v1")?;
    let fits = |pattern: &str| match pattern.split_once('{') {
        Some((before, _)) => path
            .strip_prefix(before)
            .is_some_and(|id| !id.contains('/')),
        None => pattern == path,
    };
    let mut routes = ROUTES.iter();
    let route = routes.find(|route| route.method == method && fits(route.path))?;
    Some(route.endpoint)
}

struct Engine {
    api: Api,
    accounts: Accounts,
    env: Arc<TestEnv>,
}

impl Engine {
    async fn open(recording: &Recording) -> Self {
        let (policy, settings) = recording.settings();
        let test_env = Arc::new(TestEnv::new(Timestamp::from_seconds(1_800_000_000), 7));
        let env: Arc<dyn Env> = Arc::clone(&test_env) as _;
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new(policy.clone()));
        let keys = KeyRing::open(&*store, KeyConfig::default(), Arc::clone(&env)).await;
        let service = Service::new(
            Arc::clone(&store),
            Arc::new(keys.unwrap()),
            Arc::new(Revocations::new(Bounds::of(&policy), store.feed())),
            policy,
            Arc::clone(&env),
        );
        service.tick().await.unwrap();
        let hashing = Hashing {
            params: Params::FAST_FOR_TESTS,
            ..Hashing::default()
        };
        let passwords = Arc::new(Passwords::new(hashing, Arc::clone(&env)));
        let accounts = Accounts::new(store, passwords, env);
        for user in USERS {
            let password = Password::new(PASSWORD).unwrap();
            accounts.register(user, password).await.unwrap();
        }
        Engine {
            api: Api::new(Arc::new(service), settings).unwrap(),
            accounts,
            env: test_env,
        }
    }

    /// Routes of an app: one for sessions, one for fresh sessions.
    fn guarded(&self, request: Request<Bytes>) -> Response<Bytes> {
        let (parts, _) = request.into_parts();
        let need = match parts.uri.path() {
            "/api/v1/hello" => Need::Session,
            "/api/v1/payment" => Need::Fresh,
            path => panic!("no route for {path}"),
        };
        match self.api.guard(&parts, need) {
            Ok(claims) => Response::builder()
                .header("content-type", "text/plain; charset=utf-8")
                .body(format!("hello {}", claims.user()).into())
                .unwrap(),
            Err(refusal) => *refusal,
        }
    }
}

impl Door for Engine {
    async fn send(&mut self, request: Request<Bytes>) -> Response<Bytes> {
        self.env.advance(Duration::from_millis(1));
        if request.method() == Method::OPTIONS {
            return self.api.preflight(&request.into_parts().0);
        }
        let Some(endpoint) = route_of(request.method().clone(), request.uri().path()) else {
            return self.guarded(request);
        };
        let client = Client {
            address: Some(Ipv4Addr::LOCALHOST.into()),
        };
        let reply = self.api.call(endpoint, request, client).await;
        settle(reply, &self.accounts).await.response
    }

    async fn operate(&mut self, words: &[&str]) {
        testing::operate(self.api.service(), &self.accounts, words).await;
    }

    async fn wait(&mut self, span: Duration) {
        self.env.advance(span);
        // What a host does every second.
        self.api.service().tick().await.unwrap();
    }
}
