//! Whether another site's page can log a visitor in, and the site's own page can log in.

use super::super::finding::{Finding, Kind, Level, Subject, kinds};
use super::super::seen::{Probe, Seen};

kinds! {
    "csrf" "another site's login is refused, this page's is not";
    LOGIN_BLOCKED Error "login_blocked"
        "login is described, and nobody can reach it"
        "have the proxy pass POST to the API";
    CSRF_OPEN Error "csrf_open"
        "any page can log a visitor in as somebody else, and act for those who are logged in"
        "have the proxy pass `Origin` and `Sec-Fetch-Site`; check `allowed_origins`";
    ORIGIN_DROPPED Error "origin_dropped"
        "browsers without fetch metadata are not protected from other sites' requests"
        "have the proxy pass `Origin` unchanged; check `allowed_origins`";
    FETCH_METADATA_DROPPED Warning "fetch_metadata_dropped"
        "other sites' requests are told by `Origin` alone"
        "have the proxy pass the `Sec-Fetch-*` headers";
    FORWARDED_HOST_BELIEVED Warning "forwarded_host_believed"
        "whoever sends such a header decides which site this is"
        "have the proxy overwrite X-Forwarded-Host and Forwarded, and pass Host; Flask: `ProxyFix` with `x_host` only behind a proxy that sets it";
    PAGE_REFUSED Error "page_refused"
        "the page cannot log anybody in"
        "pass `Host` on at the proxy; for a page of another origin set `allowed_origins` (of a sibling subdomain, or `allow_same_site`; Flask: `DOORWARD_ALLOWED_ORIGINS`)";
    HOST_REWRITTEN Warning "host_rewritten"
        "browsers that send no fetch metadata are refused: their Origin is not the Host that arrives"
        "have the proxy pass `Host` unchanged (nginx: `proxy_set_header Host $http_host`)";
    TEXT_ACCEPTED Error "text_accepted"
        "a form of another site can send text/plain without a preflight"
        "have the proxy pass bodies and Content-Type unchanged";
}

fn look(seen: &Seen) -> Option<Vec<Finding>> {
    let status = seen.status(Probe::PageLogin)?;
    if !matches!(status, 400 | 403) {
        let told = || LOGIN_BLOCKED.seen(format!("an empty login is answered {status}, not 400"));
        return seen.described.is_there.then(|| vec![told()]);
    }
    let found = [foreign(seen), page(seen), text(seen)];
    Some(found.into_iter().flatten().collect())
}

/// Whether what should be refused was not.
fn passes(seen: &Seen, probe: Probe) -> Option<String> {
    let status = seen.status(probe)?;
    (status != 403).then(|| format!("{probe:?} is answered {status}, not 403"))
}

fn foreign(seen: &Seen) -> Option<Finding> {
    if let Some(told) = passes(seen, Probe::ForeignLogin) {
        return Some(CSRF_OPEN.seen(told));
    }
    let (origin, fetch) = (
        passes(seen, Probe::OriginLogin),
        passes(seen, Probe::FetchLogin),
    );
    if let Some(told) = origin {
        Some(ORIGIN_DROPPED.seen(told))
    } else if let Some(told) = fetch {
        Some(FETCH_METADATA_DROPPED.seen(told))
    } else {
        passes(seen, Probe::DisguisedLogin).map(|told| FORWARDED_HOST_BELIEVED.seen(told))
    }
}

fn page(seen: &Seen) -> Option<Finding> {
    if seen.status(Probe::PageLogin) == Some(403) {
        return Some(PAGE_REFUSED.seen(format!("a login from {} is answered 403", seen.page)));
    }
    let refused = seen.status(Probe::HostLogin) == Some(403);
    refused.then(|| {
        let own = &seen.target.origin;
        HOST_REWRITTEN.seen(format!(
            "with `Origin: {own}` alone a login is answered 403"
        ))
    })
}

/// An empty body is no form, so one that does not arrive shows here too.
fn text(seen: &Seen) -> Option<Finding> {
    let accepted = seen.status(Probe::TextLogin) == Some(400);
    accepted.then(|| TEXT_ACCEPTED.seen("a login as text/plain is answered 400, not 415"))
}
