//! What is asked without a login: a table of requests.

use super::client::Ask;
use super::seen::{Probe, Seen};
use super::target::Origin;

/// The origin of nobody's page (RFC 6761: `example` is never registered).
pub(crate) const FOREIGN: &str = "https://evil.example";

/// What a browser says of the page that asks.
pub(crate) fn as_page(ask: Ask, page: &Origin, to: &Origin) -> Ask {
    let ask = ask.header("origin", page.to_string());
    if !to.is_trustworthy() {
        return ask;
    }
    ask.header("sec-fetch-site", relation(page, to))
        .header("sec-fetch-mode", "cors")
        .header("sec-fetch-dest", "empty")
}

fn relation(page: &Origin, to: &Origin) -> &'static str {
    if page == to {
        "same-origin"
    } else if page.is_same_site(to) {
        "same-site"
    } else {
        "cross-site"
    }
}

/// The requests of nobody, as far as what they ask for is mounted.
pub(crate) fn anonymous(seen: &Seen) -> Vec<(Probe, Ask)> {
    let mut asks = reads(seen);
    asks.extend(logins(seen));
    asks.extend(others(seen));
    asks
}

fn reads(seen: &Seen) -> Vec<(Probe, Ask)> {
    let session = || Ask::new("GET", seen.target.path("/session"));
    let mut asks = vec![(
        Probe::Again,
        Ask::new("GET", seen.target.path("/openapi.json")),
    )];
    if !seen.described.mounts("get", "/session") {
        return asks;
    }
    let squeezed = session().header("accept-encoding", "gzip, br");
    asks.push((Probe::Session, session()));
    asks.push((Probe::Squeezed, squeezed));
    asks.push((Probe::ForeignRead, session().header("origin", FOREIGN)));
    let preflight = |origin: &str| {
        Ask::new("OPTIONS", seen.target.path("/session"))
            .header("origin", origin)
            .header("access-control-request-method", "GET")
            .header("access-control-request-headers", "content-type")
    };
    asks.push((Probe::ForeignPreflight, preflight(FOREIGN)));
    if seen.is_cross_origin() {
        let page = seen.page.to_string();
        asks.push((Probe::PageRead, session().header("origin", &page)));
        asks.push((Probe::PagePreflight, preflight(&page)));
    }
    if seen.described.bearer {
        let bad = session().header("authorization", "Bearer doctor");
        asks.push((Probe::BadBearer, bad));
    }
    asks
}

/// All are empty, so that none counts as a failed login: whoever passes gets a 400.
fn logins(seen: &Seen) -> Vec<(Probe, Ask)> {
    if !seen.described.mounts("post", "/login") {
        return Vec::new();
    }
    let (to, page) = (&seen.target.origin, &seen.page);
    let bare = || Ask::new("POST", seen.target.path("/login"));
    let login = || bare().json("{}");
    let foreign = || {
        login()
            .header("origin", FOREIGN)
            .header("sec-fetch-site", "cross-site")
    };
    let disguised = foreign()
        .header("x-forwarded-host", "evil.example")
        .header("x-original-host", "evil.example")
        .header("forwarded", "host=evil.example;proto=https")
        .header("x-forwarded-proto", "https")
        .header("x-original-method", "GET")
        .header("x-forwarded-method", "GET")
        .header("x-http-method-override", "GET");
    vec![
        (Probe::PageLogin, as_page(login(), page, to)),
        (Probe::HostLogin, login().header("origin", to.to_string())),
        (Probe::ForeignLogin, foreign()),
        (Probe::OriginLogin, login().header("origin", FOREIGN)),
        (
            Probe::FetchLogin,
            login().header("sec-fetch-site", "cross-site"),
        ),
        (Probe::DisguisedLogin, disguised),
        (
            Probe::TextLogin,
            as_page(bare().typed("text/plain", "{}"), page, to),
        ),
    ]
}

fn others(seen: &Seen) -> Vec<(Probe, Ask)> {
    let (to, page) = (&seen.target.origin, &seen.page);
    let mut asks = vec![
        (Probe::Metrics, Ask::new("GET", "/metrics")),
        (Probe::Ready, Ask::new("GET", "/readyz")),
    ];
    if let Some(name) = &seen.described.refresh_cookie {
        let refresh = Ask::new("POST", seen.target.path("/refresh"));
        let refresh = refresh.header("cookie", format!("{name}=doctor"));
        asks.push((Probe::BadRefresh, as_page(refresh, page, to)));
    }
    if seen.described.mounts("delete", "/sessions") {
        let delete = Ask::new("DELETE", seen.target.path("/sessions"));
        asks.push((Probe::Delete, as_page(delete, page, to)));
    }
    if seen.described.mounts("get", "/verify") {
        asks.push((Probe::Verify, Ask::new("GET", seen.target.path("/verify"))));
    }
    asks
}
