//! Which pages may read answers.

use super::super::client::Answer;
use super::super::finding::{Finding, Kind, Level, Subject, kinds};
use super::super::probes::FOREIGN;
use super::super::seen::{Probe, Seen};

kinds! {
    "cors" "no other page may read answers but those that are meant to";
    CORS_REFLECTED Error "cors_reflected"
        "any page can read the answers of a visitor who is logged in"
        "have the proxy add no CORS headers of its own; list pages in `allowed_origins`";
    CORS_WILDCARD Warning "cors_wildcard"
        "any page may read what needs no cookie, and `*` does not work with cookies"
        "have the proxy add no CORS headers of its own; list pages in `allowed_origins`";
    CORS_PAGE_REFUSED Error "cors_page_refused"
        "the page cannot read answers"
        "set `allowed_origins` to the page's origin, exactly (Flask: `DOORWARD_ALLOWED_ORIGINS`), and have the proxy pass `Origin` and the CORS headers";
    PREFLIGHT_REFUSED Error "preflight_refused"
        "browsers ask by OPTIONS before they send JSON to another origin, and send nothing where that fails"
        "have the proxy pass OPTIONS and its answer unchanged";
}

fn look(seen: &Seen) -> Option<Vec<Finding>> {
    seen.settled(Probe::ForeignRead)?;
    let found = [foreign(seen), page(seen), preflight(seen)];
    Some(found.into_iter().flatten().collect())
}

fn allowed(answer: &Answer) -> (String, bool) {
    let credentials = answer.header("access-control-allow-credentials") == "true";
    (answer.header("access-control-allow-origin"), credentials)
}

fn foreign(seen: &Seen) -> Option<Finding> {
    let probes = [Probe::ForeignRead, Probe::ForeignPreflight];
    probes.into_iter().find_map(|probe| {
        let (origin, credentials) = allowed(seen.settled(probe)?);
        if origin == FOREIGN || origin == "null" {
            Some(CORS_REFLECTED.seen(format!(
                "{probe:?}: {origin} is allowed, credentials {credentials}"
            )))
        } else {
            (origin == "*").then(|| CORS_WILDCARD.seen(format!("{probe:?}: * is allowed")))
        }
    })
}

fn page(seen: &Seen) -> Option<Finding> {
    let page = seen.page.to_string();
    let (origin, credentials) = allowed(seen.settled(Probe::PageRead)?);
    let cookies = seen.described.refresh_cookie.is_some() || !seen.described.is_there;
    let reads = origin == page && (credentials || !cookies);
    (!reads).then(|| {
        CORS_PAGE_REFUSED.seen(format!(
            "{page}: '{origin}' is allowed, credentials {credentials}"
        ))
    })
}

/// Where even reading is refused, that is told already.
fn preflight(seen: &Seen) -> Option<Finding> {
    let answer = seen.settled(Probe::PagePreflight)?;
    let (origin, _) = allowed(answer);
    let headers = answer.header("access-control-allow-headers");
    let passes = (200..300).contains(&answer.status)
        && origin == seen.page.to_string()
        && headers.contains("content-type");
    let told = !passes && page(seen).is_none();
    told.then(|| PREFLIGHT_REFUSED.seen(format!("OPTIONS is answered {}", answer.status)))
}
