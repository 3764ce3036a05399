//! What a store that fails and a queue that is full look like on the wire, and what is left behind.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod engine;

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use doorward_core::error::StoreError;
use doorward_core::event::{Entry, EventName, Filter, Record, Trail};
use doorward_core::keys::{KeyId, StoredKey};
use doorward_core::limits::Opening;
use doorward_core::memory::MemoryStore;
use doorward_core::password::{Hashing, PasswordHash, Passwords};
use doorward_core::reset::{Reset, ResetHash};
use doorward_core::revocation::Ended;
use doorward_core::revocation::{Bounds, Revocations};
use doorward_core::store::{
    Account, AccountStore, AllEnded, Delivery, EventStore, KeyStore, Opened, OutboxStore,
    SessionStore, StoreResult, ThrottleStore, ValidFrom, Write,
};
use doorward_core::throttle::{Change, Refused};
use doorward_core::{
    Accounts, EndReason, Env, Identity, Policy, Session, SessionId, Timestamp, UserId,
};
use doorward_http::testing::{Door, PASSWORD};
use doorward_http::{Answer, Ask, Client, Endpoint, ROUTES, Reply, Settings, settle};
use http::{Request, Response};
use pollster::block_on;
use serde_json::{Value, json};

use crate::engine::{Engine, route_of};

/// A store on which something happens before each operation.
struct Faulty {
    inner: MemoryStore,
    before: Mutex<Box<Before>>,
}

/// What happens, by the name of the operation.
type Before = dyn FnMut(&str, &MemoryStore) -> StoreResult<()> + Send;

impl Faulty {
    fn new() -> Arc<Self> {
        Arc::new(Faulty {
            inner: MemoryStore::new(Policy::default()),
            before: Mutex::new(Box::new(|_, _| Ok(()))),
        })
    }

    fn before(&self, what: impl FnMut(&str, &MemoryStore) -> StoreResult<()> + Send + 'static) {
        *self.before.lock().unwrap() = Box::new(what);
    }

    fn fails_at(&self, name: &'static str) {
        self.before(move |operation, _| {
            if name == "all" || operation == name {
                return Err(StoreError("down".into()));
            }
            Ok(())
        });
    }

    fn enter(&self, operation: &str) -> StoreResult<()> {
        (self.before.lock().unwrap())(operation, &self.inner)
    }
}

#[async_trait]
impl SessionStore for Faulty {
    async fn open(&self, opening: Opening, trail: &Trail) -> StoreResult<Opened> {
        self.enter("open")?;
        self.inner.open(opening, trail).await
    }
    async fn adopt(
        &self,
        session: Session,
        seen: ValidFrom,
        until: Timestamp,
        trail: &Trail,
    ) -> StoreResult<Write> {
        self.enter("adopt")?;
        self.inner.adopt(session, seen, until, trail).await
    }
    async fn was_adopted(&self, id: SessionId) -> StoreResult<bool> {
        self.enter("was_adopted")?;
        self.inner.was_adopted(id).await
    }
    async fn load(&self, id: SessionId) -> StoreResult<Option<Session>> {
        self.enter("load")?;
        self.inner.load(id).await
    }
    async fn swap(&self, session: Session) -> StoreResult<Write> {
        self.enter("swap")?;
        self.inner.swap(session).await
    }
    async fn end(
        &self,
        id: SessionId,
        at: Timestamp,
        reason: EndReason,
        trail: &Trail,
    ) -> StoreResult<Option<Session>> {
        self.enter("end")?;
        self.inner.end(id, at, reason, trail).await
    }
    async fn tell_end(&self, end: Ended) -> StoreResult<()> {
        self.enter("tell_end")?;
        self.inner.tell_end(end).await
    }
    async fn end_user(
        &self,
        user: &UserId,
        at: Timestamp,
        reason: EndReason,
        except: Option<SessionId>,
        trail: &Trail,
    ) -> StoreResult<Vec<SessionId>> {
        self.enter("end_user")?;
        let ended = self.inner.end_user(user, at, reason, except, trail);
        ended.await
    }
    async fn valid_from(&self, user: &UserId) -> StoreResult<ValidFrom> {
        self.enter("valid_from")?;
        self.inner.valid_from(user).await
    }
    async fn sessions_of(&self, user: &UserId) -> StoreResult<Vec<Session>> {
        self.enter("sessions_of")?;
        self.inner.sessions_of(user).await
    }
    async fn sessions(&self, after: Option<SessionId>, limit: u32) -> StoreResult<Vec<Session>> {
        self.enter("sessions")?;
        self.inner.sessions(after, limit).await
    }
    async fn ended_after(&self, cursor: u64, limit: u32) -> StoreResult<(Vec<Ended>, u64)> {
        self.enter("ended_after")?;
        self.inner.ended_after(cursor, limit).await
    }
    async fn kept_of(&self, user: &UserId) -> StoreResult<Vec<Session>> {
        self.inner.kept_of(user).await
    }
    async fn erase(
        &self,
        user: &UserId,
        at: Timestamp,
        reason: EndReason,
        trail: &Trail,
    ) -> StoreResult<u64> {
        self.inner.erase(user, at, reason, trail).await
    }
    async fn restored_at(&self) -> StoreResult<Timestamp> {
        self.enter("restored_at")?;
        self.inner.restored_at().await
    }
    async fn set_restored(&self, at: Timestamp, trail: &Trail) -> StoreResult<()> {
        self.enter("set_restored")?;
        self.inner.set_restored(at, trail).await
    }
    async fn purge(
        &self,
        now: Timestamp,
        log_before: Timestamp,
        limit: u32,
        trail: &Trail,
    ) -> StoreResult<u32> {
        self.enter("purge")?;
        self.inner.purge(now, log_before, limit, trail).await
    }
}

#[async_trait]
impl AccountStore for Faulty {
    async fn add_account(&self, account: Account, trail: &Trail) -> StoreResult<Write> {
        self.enter("add_account")?;
        self.inner.add_account(account, trail).await
    }
    async fn add_accounts(&self, accounts: Vec<(Account, Trail)>) -> StoreResult<Vec<Write>> {
        self.enter("add_accounts")?;
        self.inner.add_accounts(accounts).await
    }
    async fn account(&self, username: &str) -> StoreResult<Option<Account>> {
        self.enter("account")?;
        self.inner.account(username).await
    }
    async fn account_of(&self, user: &UserId) -> StoreResult<Option<Account>> {
        self.enter("account_of")?;
        self.inner.account_of(user).await
    }
    async fn accounts(&self, after: Option<&str>, limit: u32) -> StoreResult<Vec<Account>> {
        self.enter("accounts")?;
        self.inner.accounts(after, limit).await
    }
    async fn rehash(&self, user: &UserId, old: &str, new: &str) -> StoreResult<Write> {
        self.enter("rehash")?;
        self.inner.rehash(user, old, new).await
    }
    async fn set_password(
        &self,
        user: &UserId,
        seen: Option<ValidFrom>,
        hash: &str,
        at: Timestamp,
        trail: &Trail,
    ) -> StoreResult<Option<AllEnded>> {
        self.enter("set_password")?;
        self.inner.set_password(user, seen, hash, at, trail).await
    }
    async fn set_disabled(
        &self,
        user: &UserId,
        disabled: bool,
        at: Timestamp,
        trail: &Trail,
    ) -> StoreResult<Option<Vec<SessionId>>> {
        self.enter("set_disabled")?;
        self.inner.set_disabled(user, disabled, at, trail).await
    }
    async fn remove_account(
        &self,
        user: &UserId,
        at: Timestamp,
        trail: &Trail,
    ) -> StoreResult<Option<Vec<SessionId>>> {
        self.enter("remove_account")?;
        self.inner.remove_account(user, at, trail).await
    }
    async fn set_privileged(
        &self,
        user: &UserId,
        privileged: bool,
        at: Timestamp,
        trail: &Trail,
    ) -> StoreResult<Option<Vec<SessionId>>> {
        self.enter("set_privileged")?;
        self.inner.set_privileged(user, privileged, at, trail).await
    }
    async fn start_reset(&self, user: &UserId, reset: Reset, trail: &Trail) -> StoreResult<Write> {
        self.enter("start_reset")?;
        self.inner.start_reset(user, reset, trail).await
    }
    async fn reset_of(&self, hash: ResetHash, now: Timestamp) -> StoreResult<Option<Account>> {
        self.enter("reset_of")?;
        self.inner.reset_of(hash, now).await
    }
    async fn finish_reset(
        &self,
        hash: ResetHash,
        password_hash: &str,
        at: Timestamp,
        trail: &Trail,
    ) -> StoreResult<Option<AllEnded>> {
        self.enter("finish_reset")?;
        self.inner
            .finish_reset(hash, password_hash, at, trail)
            .await
    }
}

#[async_trait]
impl KeyStore for Faulty {
    async fn keys(&self) -> StoreResult<Vec<StoredKey>> {
        self.enter("keys")?;
        self.inner.keys().await
    }
    async fn add_key(&self, key: StoredKey, only_if_none: bool) -> StoreResult<Write> {
        self.enter("add_key")?;
        self.inner.add_key(key, only_if_none).await
    }
    async fn update_keys(&self, keys: Vec<StoredKey>) -> StoreResult<Write> {
        self.enter("update_keys")?;
        self.inner.update_keys(keys).await
    }
    async fn remove_key(&self, id: KeyId) -> StoreResult<Write> {
        self.enter("remove_key")?;
        self.inner.remove_key(id).await
    }
}

#[async_trait]
impl ThrottleStore for Faulty {
    async fn change_buckets(&self, change: Change) -> StoreResult<Result<(), Refused>> {
        self.enter("change_buckets")?;
        self.inner.change_buckets(change).await
    }
    async fn purge_buckets(&self, now: Timestamp, limit: u32) -> StoreResult<u32> {
        self.enter("purge_buckets")?;
        self.inner.purge_buckets(now, limit).await
    }
}

#[async_trait]
impl EventStore for Faulty {
    async fn append(&self, records: Vec<Record>) -> StoreResult<()> {
        self.enter("append")?;
        self.inner.append(records).await
    }
    async fn events_after(
        &self,
        cursor: u64,
        filter: &Filter,
        limit: u32,
    ) -> StoreResult<(Vec<Entry>, u64)> {
        self.inner.events_after(cursor, filter, limit).await
    }
    async fn events_before(
        &self,
        before: Option<u64>,
        filter: &Filter,
        limit: u32,
    ) -> StoreResult<Vec<Entry>> {
        self.enter("events_before")?;
        self.inner.events_before(before, filter, limit).await
    }
    async fn purge_events(&self, before: Timestamp, limit: u32) -> StoreResult<u32> {
        self.inner.purge_events(before, limit).await
    }
}

#[async_trait]
impl OutboxStore for Faulty {
    async fn outbox_cursor(&self, address: &str) -> StoreResult<Option<u64>> {
        self.inner.outbox_cursor(address).await
    }
    async fn enqueue(
        &self,
        address: &str,
        cursor: (Option<u64>, u64),
        places: &[u64],
        due: Timestamp,
    ) -> StoreResult<Write> {
        self.inner.enqueue(address, cursor, places, due).await
    }
    async fn claim(
        &self,
        address: &str,
        now: Timestamp,
        until: Timestamp,
        limit: u32,
    ) -> StoreResult<Vec<Delivery>> {
        self.inner.claim(address, now, until, limit).await
    }
    async fn settle(
        &self,
        address: &str,
        place: u64,
        again: Option<(u32, Timestamp)>,
    ) -> StoreResult<()> {
        self.inner.settle(address, place, again).await
    }
}

/// An engine on such a store, with a session of ada's in each delivery.
struct Shop {
    engine: Engine,
    store: Arc<Faulty>,
    bearer: Value,
    cookies: (String, String),
}

impl Shop {
    fn open() -> Self {
        let store = Faulty::new();
        let settings = Settings {
            register: true,
            ..Settings::default()
        };
        let on = Engine::on(Arc::clone(&store) as _, Policy::default(), settings);
        let mut engine = block_on(on);
        let bearer = block_on(engine.send(login("body")));
        let cookies = block_on(engine.send(login("cookie")));
        let set: Vec<_> = cookies.headers().get_all("set-cookie").iter().collect();
        let pair = |at: usize| {
            set[at]
                .to_str()
                .unwrap()
                .split(';')
                .next()
                .unwrap()
                .to_owned()
        };
        Shop {
            bearer: parsed(&bearer),
            cookies: (pair(0), pair(1)),
            engine,
            store,
        }
    }

    fn ask(&mut self, request: Request<Bytes>) -> Response<Bytes> {
        block_on(self.engine.send(request))
    }

    /// The same, with what happened on the way.
    fn answer(&mut self, request: Request<Bytes>) -> Answer {
        let endpoint = route_of(request.method(), request.uri().path()).unwrap();
        let reply = self.engine.api.call(endpoint, request, Client::default());
        block_on(async { settle(reply.await, &self.engine.accounts).await })
    }

    fn access(&self) -> String {
        format!("Bearer {}", self.bearer["access_token"].as_str().unwrap())
    }

    fn refresh_body(&self) -> Value {
        json!({ "refresh_token": self.bearer["refresh_token"] })
    }

    /// A good request for a route.
    fn request(&self, method: &str, path: &str, endpoint: Endpoint) -> Request<Bytes> {
        let body = match endpoint {
            Endpoint::Login => return login("body"),
            Endpoint::Refresh | Endpoint::Logout => self.refresh_body(),
            Endpoint::Reauthenticate => json!({ "password": PASSWORD }),
            Endpoint::ChangePassword => json!({ "current": PASSWORD, "new": "a wholly new one" }),
            Endpoint::ResetPassword => {
                let token = format!("dwp_{}", "A".repeat(43));
                json!({ "token": token, "new": "a wholly new one" })
            }
            Endpoint::Register => json!({ "username": "eve", "password": PASSWORD }),
            _ => Value::Null,
        };
        let path = path.replace("{id}", self.bearer["session"]["id"].as_str().unwrap());
        let mut request = request(method, &path, &body);
        let access = self.access().parse().unwrap();
        request.headers_mut().insert("authorization", access);
        request
    }
}

fn request(method: &str, path: &str, body: &Value) -> Request<Bytes> {
    let body = if body.is_null() {
        Bytes::new()
    } else {
        body.to_string().into()
    };
    Request::builder()
        .method(method)
        .uri(format!("/api/v1{path}"))
        .header("host", "api.example")
        .header("content-type", "application/json")
        .body(body)
        .unwrap()
}

fn login(delivery: &str) -> Request<Bytes> {
    let body = json!({ "username": "ada", "password": PASSWORD, "delivery": delivery });
    request("POST", "/login", &body)
}

fn parsed(response: &Response<Bytes>) -> Value {
    serde_json::from_slice(response.body()).unwrap()
}

fn is_refused(response: &Response<Bytes>, code: &str, what: &str) {
    assert_eq!(response.status(), 503, "{what}");
    let headers = response.headers();
    assert_eq!(
        headers["content-type"], "application/problem+json",
        "{what}"
    );
    assert_eq!(headers["cache-control"], "no-store", "{what}");
    let seconds: u64 = headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!(seconds >= 1, "{what}");
    assert!(!headers.contains_key("www-authenticate"), "{what}");
    assert!(!headers.contains_key("set-cookie"), "{what}");
    assert_eq!(parsed(response)["code"], code, "{what}");
}

#[test]
fn a_store_that_does_not_answer_is_a_503_on_every_route_that_needs_it() {
    let needs_none = [
        Endpoint::Jwks,
        Endpoint::OpenApi,
        Endpoint::Docs,
        Endpoint::DocsAsset,
        Endpoint::Verify,
    ];
    for route in &ROUTES {
        let mut shop = Shop::open();
        shop.store.fails_at("all");
        let path = route.path.replace("{asset}", "start.js");
        let request = shop.request(route.method.as_str(), &path, route.endpoint);
        let answer = shop.ask(request);
        if needs_none.contains(&route.endpoint) {
            assert_eq!(answer.status(), 200, "{path}");
        } else {
            is_refused(&answer, "store_unavailable", route.path);
        }
    }
}

#[test]
fn a_strict_look_is_a_503_where_the_store_does_not_answer_and_any_other_is_not() {
    let mut shop = Shop::open();
    shop.store.fails_at("load");
    let mut ask = |query: &str| {
        let request = shop.request("GET", &format!("/verify{query}"), Endpoint::Verify);
        shop.ask(request)
    };
    assert_eq!(ask("").status(), 200);
    is_refused(&ask("?strict=1"), "store_unavailable", "strict");
    for query in [
        "?strict=0",
        "?strict=",
        "?strict=1&strict=1",
        "?strict=%31%31",
    ] {
        assert_eq!(ask(query).status(), 400, "{query}");
    }
}

#[test]
fn what_cannot_be_counted_is_not_tried_and_what_was_not_counted_not_told() {
    for (right, failing) in [(true, 1), (false, 1), (true, 2), (false, 2)] {
        let (mut shop, mut calls) = (Shop::open(), 0);
        let before = shop.engine.passwords.hashes();
        shop.store.before(move |operation, _| {
            calls += usize::from(operation == "change_buckets");
            if operation == "change_buckets" && calls == failing {
                return Err(StoreError("down".into()));
            }
            Ok(())
        });
        let mut asked = login("body");
        if !right {
            let body = json!({ "username": "ada", "password": "wrong", "delivery": "body" });
            *asked.body_mut() = body.to_string().into();
        }
        is_refused(&shop.ask(asked), "store_unavailable", "login");
        let hashes = shop.engine.passwords.hashes() - before;
        assert_eq!(hashes, failing as u64 - 1);
    }
}

#[test]
fn a_login_that_fails_leaves_the_session_that_it_was_to_replace() {
    let mut shop = Shop::open();
    let mut again = login("cookie");
    let cookie = shop.cookies.0.parse().unwrap();
    again.headers_mut().insert("cookie", cookie);
    shop.store.fails_at("open");
    is_refused(&shop.ask(again), "store_unavailable", "login");
    shop.store.fails_at("nothing");
    let mut refresh = request("POST", "/refresh", &Value::Null);
    let cookie = shop.cookies.1.parse().unwrap();
    refresh.headers_mut().insert("cookie", cookie);
    assert_eq!(shop.ask(refresh).status(), 200);
}

#[test]
fn a_full_hashing_queue_is_a_503_that_says_when_to_come_back() {
    let mut shop = Shop::open();
    let env: Arc<dyn Env> = Arc::clone(&shop.engine.env) as _;
    let full = Hashing {
        queue: 0,
        ..Hashing::default()
    };
    let full = Arc::new(Passwords::new(full, Arc::clone(&env)));
    let revocations = Arc::new(Revocations::new(Bounds::of(&Policy::default()), None));
    shop.engine.accounts = Accounts::new(Arc::clone(&shop.store) as _, full, revocations, env);
    for path in ["/login", "/reauthenticate", "/password", "/register"] {
        let route = ROUTES.iter().find(|route| route.path == path).unwrap();
        let asked = shop.request("POST", path, route.endpoint);
        is_refused(&shop.ask(asked), "overloaded", path);
    }
}

fn change(shop: &Shop) -> Request<Bytes> {
    shop.request("POST", "/password", Endpoint::ChangePassword)
}

#[test]
fn a_change_of_password_tells_how_many_sessions_it_ended() {
    let mut shop = Shop::open();
    let answer = shop.answer(change(&shop));
    assert_eq!(answer.response.status(), 200);
    let names: Vec<_> = answer
        .events
        .iter()
        .map(|event| event.name.as_str())
        .collect();
    assert_eq!(names, ["password_changed", "sessions_ended", "logged_in"]);
    let ended = &answer.events[1];
    assert_eq!((ended.name, ended.count), (EventName::SessionsEnded, 2));
}

#[test]
fn an_account_disabled_during_a_change_of_password_gets_no_session() {
    // Before the change took effect the current password is refused; after it only the session is.
    for (operation, status) in [("set_password", 403), ("open", 401)] {
        let mut shop = Shop::open();
        let user = UserId::new(shop.bearer["user"]["id"].as_str().unwrap()).unwrap();
        shop.store.before(move |now, store| {
            if now == operation {
                let at = Timestamp::from_seconds(1_800_000_100);
                let _ = block_on(store.set_disabled(&user, true, at, &Trail::default()))?;
            }
            Ok(())
        });
        let answer = shop.ask(change(&shop));
        assert_eq!(answer.status(), status, "{operation}");
        let user = UserId::new(shop.bearer["user"]["id"].as_str().unwrap()).unwrap();
        let live = block_on(shop.store.inner.sessions_of(&user)).unwrap();
        assert_eq!(live, [], "{operation}");
    }
}

#[test]
fn of_two_changes_by_the_same_password_one_takes_effect() {
    let mut shop = Shop::open();
    let user = UserId::new(shop.bearer["user"]["id"].as_str().unwrap()).unwrap();
    let other = PasswordHash::from_phc("$other");
    let (hash, mut raced) = (other.clone(), false);
    shop.store.before(move |now, store| {
        if now == "set_password" && !std::mem::replace(&mut raced, true) {
            let at = Timestamp::from_seconds(1_800_000_100);
            block_on(store.set_password(&user, None, hash.as_str(), at, &Trail::default()))?;
        }
        Ok(())
    });
    let answer = shop.ask(change(&shop));
    assert_eq!(answer.status(), 403);
    let account = block_on(shop.store.inner.account("ada")).unwrap().unwrap();
    assert_eq!(account.password_hash, other);
}

#[test]
fn a_host_with_its_own_users_keeps_name_and_claims_and_ends_the_rest() {
    let mut shop = Shop::open();
    let asked = change(&shop);
    let answer = block_on(by_host(&mut shop, asked, None)).unwrap_done();
    let body = parsed(&answer.response);
    assert_eq!(body["user"]["username"], "ada");
    let token = body["access_token"].as_str().unwrap();
    let claims = shop.engine.api.service().verify(token).unwrap();
    let claims: Value = serde_json::from_slice(claims.json()).unwrap();
    assert_eq!(claims["role"], "teacher");
    let ended = &answer.events[1];
    assert_eq!((ended.name, ended.count), (EventName::SessionsEnded, 2));
    assert_eq!(shop.ask(request_session(&shop.access())).status(), 401);
    assert_eq!(
        shop.ask(request_session(&format!("Bearer {token}")))
            .status(),
        200
    );
}

#[test]
fn a_user_whom_the_host_disables_during_a_change_gets_no_session() {
    let mut shop = Shop::open();
    let asked = change(&shop);
    let reason = Some(EndReason::Disabled);
    let answer = block_on(by_host(&mut shop, asked, reason)).unwrap_done();
    assert_eq!(answer.response.status(), 401);
    assert_eq!(parsed(&answer.response)["code"], "session_ended");
}

fn request_session(access: &str) -> Request<Bytes> {
    let mut asked = request("GET", "/session", &Value::Null);
    asked
        .headers_mut()
        .insert("authorization", access.parse().unwrap());
    asked
}

/// A host that keeps its own users, and may end their sessions while it answers.
async fn by_host(shop: &mut Shop, request: Request<Bytes>, ends: Option<EndReason>) -> Reply {
    let api = shop.engine.api.clone();
    let reply = api.call(Endpoint::ChangePassword, request, Client::default());
    let Reply::Ask(Ask::SetPassword { user, next, .. }) = reply.await else {
        panic!("no question");
    };
    shop.engine.env.advance(std::time::Duration::from_millis(5));
    if let Some(reason) = ends {
        api.service().end_user(&user, reason, None).await.0.unwrap();
    }
    let identity = Identity {
        user,
        username: Some("ada".into()),
        valid_from: None,
        claims: Some(r#"{"role":"teacher"}"#.into()),
        privileged: false,
    };
    next.answer(Ok(identity.into())).await
}

trait Done {
    fn unwrap_done(self) -> Answer;
}

impl Done for Reply {
    fn unwrap_done(self) -> Answer {
        match self {
            Reply::Done(answer) => answer,
            Reply::Ask(ask) => panic!("another question: {ask:?}"),
        }
    }
}

/// The operations that a request makes.
fn operations(shop: &mut Shop, request: Request<Bytes>) -> Vec<String> {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let into = Arc::clone(&seen);
    shop.store.before(move |operation, _| {
        into.lock().unwrap().push(operation.to_owned());
        Ok(())
    });
    assert!(shop.ask(request).status().is_success());
    let operations = seen.lock().unwrap().clone();
    shop.store.before(|_, _| Ok(()));
    operations
}

#[test]
fn neither_a_refresh_nor_an_end_costs_an_operation_more_for_its_record() {
    let mut shop = Shop::open();
    let refresh = shop.request("POST", "/refresh", Endpoint::Refresh);
    assert_eq!(operations(&mut shop, refresh), ["load", "swap"]);
    let logout = shop.request("POST", "/logout", Endpoint::Logout);
    assert_eq!(operations(&mut shop, logout), ["end"]);
}

#[test]
fn a_record_that_the_store_does_not_take_is_written_later() {
    let mut shop = Shop::open();
    let names = |shop: &Shop| {
        let everything = Filter::default();
        let records = shop.store.inner.events_after(0, &everything, 100);
        let (entries, _) = block_on(records).unwrap();
        let names = entries.iter().map(|entry| entry.record.event.name);
        names.collect::<Vec<_>>()
    };
    let before = names(&shop).len();
    let again = shop.request("POST", "/reauthenticate", Endpoint::Reauthenticate);
    shop.store.fails_at("append");
    assert_eq!(shop.ask(again).status(), 200);
    assert_eq!(names(&shop).len(), before);
    shop.store.before(|_, _| Ok(()));
    block_on(shop.engine.api.service().tick()).unwrap();
    assert_eq!(names(&shop)[before..], [EventName::Reauthenticated]);
}
