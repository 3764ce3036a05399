//! The bare engine as a door: no host, and a clock that is set by hand.

#![allow(dead_code, reason = "each test uses a part of it")]

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use doorward_core::keys::{KeyConfig, KeyRing};
use doorward_core::password::{Hashing, Params, Password, Passwords};
use doorward_core::revocation::{Bounds, Revocations};
use doorward_core::store::Store;
use doorward_core::testing::TestEnv;
use doorward_core::{Accounts, Env, Policy, Service, Timestamp};
use doorward_http::testing::{self, Door, PASSWORD, USERS};
use doorward_http::{Api, Asked, Client, Endpoint, InBody, Need, ROUTES, Route, Settings, settle};
use http::{Method, Request, Response};
use serde_json::Value;

/// The host's part: which endpoint a request is for.
pub(crate) fn route_of(method: &Method, path: &str) -> Option<Endpoint> {
    Some(matching(method.as_str(), path)?.endpoint)
}

pub(crate) fn matching(method: &str, path: &str) -> Option<&'static Route> {
    let path = path.split('?').next().unwrap_or_default();
    let path = path.strip_prefix("/api/v1")?;
    let fits = |pattern: &str| match pattern.split_once('{') {
        Some((before, _)) => path
            .strip_prefix(before)
            .is_some_and(|id| !id.contains('/')),
        None => pattern == path,
    };
    let mut routes = ROUTES.iter();
    routes.find(|route| route.method == method && fits(route.path))
}

/// The engine behind a door of nothing but function calls.
pub(crate) struct Engine {
    pub(crate) api: Api,
    pub(crate) accounts: Accounts,
    pub(crate) env: Arc<TestEnv>,
}

impl Engine {
    pub(crate) async fn on(store: Arc<dyn Store>, policy: Policy, settings: Settings) -> Self {
        let engine = Engine::bare(store, policy, settings).await;
        for user in USERS {
            let password = Password::new(PASSWORD).unwrap();
            engine.accounts.register(user, password).await.unwrap();
        }
        engine
    }

    /// Without accounts.
    pub(crate) async fn bare(store: Arc<dyn Store>, policy: Policy, settings: Settings) -> Self {
        let test_env = Arc::new(TestEnv::new(Timestamp::from_seconds(1_800_000_000), 7));
        let env: Arc<dyn Env> = Arc::clone(&test_env) as _;
        let keys = KeyRing::open(&*store, KeyConfig::default(), &policy, Arc::clone(&env)).await;
        let revocations = Arc::new(Revocations::new(Bounds::of(&policy), store.feed()));
        let service = Service::new(
            Arc::clone(&store),
            Arc::new(keys.unwrap()),
            Arc::clone(&revocations),
            policy,
            Arc::clone(&env),
        );
        service.tick().await.unwrap();
        let hashing = Hashing {
            params: Params::FAST_FOR_TESTS,
            ..Hashing::default()
        };
        let passwords = Arc::new(Passwords::new(hashing, Arc::clone(&env)));
        let accounts = Accounts::new(store, passwords, revocations, env);
        Engine {
            api: Api::new(Arc::new(service), settings).unwrap(),
            accounts,
            env: test_env,
        }
    }

    /// Routes of an app: one for sessions, one for fresh sessions. The app reads its own bodies.
    fn guarded(&self, request: Request<Bytes>) -> Response<Bytes> {
        let (parts, body) = request.into_parts();
        let need = match parts.uri.path() {
            "/api/v1/hello" => Need::Session,
            "/api/v1/payment" => Need::Fresh,
            path => panic!("no route for {path}"),
        };
        let token = in_json(&body, &self.api.settings().json_key);
        let csrf = self.api.settings().double_submit.as_ref();
        let csrf = csrf.and_then(|own| in_form(&body, &own.access.field_name));
        let asked = Asked::of(&parts).with(InBody {
            token: token.as_deref(),
            csrf: csrf.as_deref(),
        });
        match self.api.verify(&asked, need) {
            Ok(verified) => Response::builder()
                .header("content-type", "text/plain; charset=utf-8")
                .body(format!("hello {}", verified.claims.user()).into())
                .unwrap(),
            Err(problem) => self.api.refuse(&asked, &problem),
        }
    }
}

fn in_json(body: &[u8], key: &str) -> Option<String> {
    let body: Value = serde_json::from_slice(body).ok()?;
    body[key].as_str().map(Into::into)
}

fn in_form(body: &[u8], field: &str) -> Option<String> {
    let mut fields = form_urlencoded::parse(body);
    let value = fields.find(|(name, _)| name == field);
    value.map(|(_, value)| value.into_owned())
}

impl Door for Engine {
    async fn send(&mut self, request: Request<Bytes>) -> Response<Bytes> {
        self.env.advance(Duration::from_millis(1));
        if request.method() == Method::OPTIONS {
            return self.api.preflight(&request.into_parts().0);
        }
        let Some(endpoint) = route_of(request.method(), request.uri().path()) else {
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
