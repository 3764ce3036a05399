//! What lies between: whether it passes on what it should, and nothing else.

use std::net::IpAddr;

use serde_json::Value;

use super::super::finding::{Finding, Kind, Level, Subject, kinds};
use super::super::seen::{Probe, Seen};
use super::super::visit::SPOOFED;

kinds! {
    "proxy" "headers and methods arrive, and nothing that is the operator's is public";
    AUTHORIZATION_DROPPED Error "authorization_dropped"
        "clients with bearer tokens are refused"
        "have the proxy pass `Authorization` (Apache with mod_wsgi: `WSGIPassAuthorization On`)";
    COOKIES_DROPPED Error "cookies_dropped"
        "browsers cannot refresh"
        "have the proxy pass `Cookie` unchanged";
    GARBAGE_CLEARS Error "garbage_clears"
        "a lost race would log browsers out: a 401 never clears cookies here"
        "have the proxy, or an `after_request` of the app, leave Set-Cookie alone";
    METHOD_BLOCKED Error "method_blocked"
        "users cannot end their other sessions"
        "allow DELETE at the proxy or its firewall";
    OPERATOR_PUBLIC Error "operator_public"
        "metrics and health tell strangers of users and load"
        "bind `operator_listen` to an address that is not public, and have the proxy pass only the API's paths";
    VERIFY_PUBLIC Note "verify_public"
        "`GET /verify` is for proxies; to browsers it tells no more than `/session` does"
        "have the proxy refuse it from outside";
    ADDRESS_SPOOFED Error "address_spoofed"
        "whoever sends such a header chooses the address that sessions, logs and limits see"
        "list in `trusted_proxies` only networks of proxies, and have the proxy overwrite X-Forwarded-For; Flask: `ProxyFix` counts exactly the proxies there are";
    ADDRESS_OF_PROXY Warning "address_of_proxy"
        "all users seem to come from one address: lists of sessions, logs and limits are blind"
        "have the proxy set X-Forwarded-For, and list it in `trusted_proxies` (Flask: `DOORWARD_TRUSTED_PROXIES`)";
}

fn look(seen: &Seen) -> Option<Vec<Finding>> {
    if seen.stopped.is_some() {
        return None;
    }
    let found = [
        authorization(seen),
        cookies(seen),
        clears(seen),
        method(seen),
        operator(seen),
        verify(seen),
        address(seen),
    ];
    Some(found.into_iter().flatten().collect())
}

fn authorization(seen: &Seen) -> Option<Finding> {
    let code = seen.settled(Probe::BadBearer)?.code();
    let dropped = code == "token_missing";
    dropped.then(|| AUTHORIZATION_DROPPED.seen("a bearer token is answered token_missing"))
}

fn cookies(seen: &Seen) -> Option<Finding> {
    let code = seen.settled(Probe::BadRefresh)?.code();
    let dropped = code == "token_missing";
    dropped.then(|| COOKIES_DROPPED.seen("a refresh cookie is answered token_missing"))
}

fn clears(seen: &Seen) -> Option<Finding> {
    let answer = seen.settled(Probe::BadRefresh)?;
    let sets = answer.status == 401 && answer.headers.contains_key("set-cookie");
    sets.then(|| GARBAGE_CLEARS.seen("a refused refresh sets cookies"))
}

fn method(seen: &Seen) -> Option<Finding> {
    let answer = seen.settled(Probe::Delete)?;
    let blocked =
        !matches!(answer.status, 401 | 403) || answer.status == 403 && !answer.is_problem();
    blocked.then(|| METHOD_BLOCKED.seen(format!("DELETE is answered {}, not 401", answer.status)))
}

fn operator(seen: &Seen) -> Option<Finding> {
    let metrics = seen.answer(Probe::Metrics);
    let metrics = metrics.is_some_and(|answer| answer.text().contains("\ndoorward_"));
    let ready = seen.answer(Probe::Ready);
    let ready = ready.is_some_and(|answer| answer.status == 200 && answer.text() == "ready\n");
    let told = match (metrics, ready) {
        (false, false) => return None,
        (true, _) => "/metrics is public",
        (false, true) => "/readyz is public",
    };
    Some(OPERATOR_PUBLIC.seen(told))
}

fn verify(seen: &Seen) -> Option<Finding> {
    let answer = seen.settled(Probe::Verify)?;
    let told = answer.is_problem();
    told.then(|| VERIFY_PUBLIC.seen("GET /verify is answered"))
}

/// By what the list of sessions has of the two logins.
fn address(seen: &Seen) -> Option<Finding> {
    let own = recorded(seen, Probe::Login)?;
    if recorded(seen, Probe::SpoofedLogin).is_some_and(|address| address == SPOOFED) {
        return Some(ADDRESS_SPOOFED.seen(format!(
            "a login that claimed {SPOOFED} is recorded as from there"
        )));
    }
    let public =
        seen.target.origin.address().is_none_or(is_public) && !seen.target.origin.is_loopback();
    let inner = own.parse().is_ok_and(|address| !is_public(address));
    (public && inner)
        .then(|| ADDRESS_OF_PROXY.seen(format!("this login is recorded as from {own}")))
}

fn recorded(seen: &Seen, login: Probe) -> Option<String> {
    let id = seen.settled(login)?.json()["session"]["id"].clone();
    let all = seen.settled(Probe::Sessions)?.json();
    let mut all = all["sessions"].as_array()?.iter();
    let session = all.find(|session| session["id"] == id && id != Value::Null)?;
    session["address"].as_str().map(str::to_owned)
}

fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            !(address.is_private() || address.is_loopback() || address.is_link_local())
        }
        IpAddr::V6(address) => {
            !(address.is_loopback() || address.is_unique_local() || address.is_unicast_link_local())
        }
    }
}
