//! Whether answers arrive as they were made.

use super::super::client::Answer;
use super::super::finding::{Finding, Kind, Level, Subject, kinds};
use super::super::seen::{Probe, Seen};

kinds! {
    "answers" "answers arrive as they were made, and nothing keeps them";
    PREFIX_REWRITTEN Error "prefix_rewritten"
        "the API takes itself to be elsewhere: its cookies' paths are wrong for browsers"
        "have the proxy pass paths unchanged, and set `url_prefix` (Flask: `url_prefix` and `JWT_*_COOKIE_PATH`) to the public one";
    ERRORS_REWRITTEN Error "errors_rewritten"
        "clients tell by the `code` of an error whether to refresh, log in again or wait"
        "have the proxy pass error answers on (nginx: no `proxy_intercept_errors`; Flask: an error handler that lets Doorward's through)";
    FAILING Error "failing"
        "the server or its proxy fails"
        "see `/readyz` on the operator listener and the logs";
    THROTTLED Note "throttled"
        "what was throttled could not be judged"
        "look again later";
    RETRY_AFTER_MISSING Warning "retry_after_missing"
        "clients do not know when to try again, and try at once"
        "have the proxy add Retry-After to its own 429 and 503, and pass on that of the server";
    WWW_AUTHENTICATE_MISSING Warning "www_authenticate_missing"
        "a 401 must have it (RFC 9110, 11.6.1), and clients read the reason from it"
        "have the proxy pass `WWW-Authenticate` on";
    ANONYMOUS_ANSWERED Error "anonymous_answered"
        "a request without credentials was answered as somebody's: something adds credentials, or keeps answers"
        "have the proxy add no Authorization or Cookie, and keep no answers of the API";
    CACHED Error "cached"
        "an answer that is kept may be given to another user, with that user's data or tokens"
        "exclude the API's paths from the proxy's or CDN's cache, and have it respect `Cache-Control: no-store`";
    NO_STORE_MISSING Error "no_store_missing"
        "caches on the way and in the browser may keep answers, tokens included"
        "have the proxy pass `Cache-Control: no-store` on";
    NOSNIFF_MISSING Warning "nosniff_missing"
        "browsers may take an answer for a script or a page"
        "have the proxy pass `X-Content-Type-Options: nosniff` on";
    VARY_MISSING Warning "vary_missing"
        "a cache that keeps answers all the same would mix users up"
        "have the proxy pass `Vary` on";
    COMPRESSED Note "compressed"
        "compressed answers with secrets in them can be guessed at by their length (BREACH) where an attacker's text is beside"
        "leave the API out of the proxy's compression";
}

fn look(seen: &Seen) -> Option<Vec<Finding>> {
    if seen.stopped.is_some() {
        return None;
    }
    let mut found = Vec::new();
    found.extend(prefix(seen));
    found.extend(each(seen));
    found.extend(session(seen));
    found.extend(kept(seen));
    if seen
        .settled(Probe::Squeezed)
        .is_some_and(|answer| !answer.header("content-encoding").is_empty())
    {
        found.push(COMPRESSED.seen("an answer of the API is compressed"));
    }
    Some(found)
}

pub(super) fn is_rewritten(seen: &Seen) -> bool {
    let theirs = seen.described.prefix.as_deref();
    theirs.is_some_and(|theirs| theirs.trim_end_matches('/') != seen.target.prefix)
}

fn prefix(seen: &Seen) -> Option<Finding> {
    let (theirs, here) = (seen.described.prefix.as_deref()?, &seen.target.prefix);
    is_rewritten(seen).then(|| PREFIX_REWRITTEN.seen(format!("{here} here, {theirs} there")))
}

/// What holds for every answer of the API.
fn each(seen: &Seen) -> Vec<Finding> {
    type Judge = fn(&Answer) -> Option<(&'static Kind, String)>;
    let judges: [Judge; 5] = [failure, delay, challenge, no_store, nosniff];
    let found = judges.iter().filter_map(|judge| {
        let mut answers = seen.api_answers();
        answers.find_map(|(probe, answer)| {
            let (kind, what) = judge(answer)?;
            Some(kind.seen(format!("{probe:?}: {what}")))
        })
    });
    found.collect()
}

fn failure(answer: &Answer) -> Option<(&'static Kind, String)> {
    let status = answer.status;
    match status {
        429 => Some((&THROTTLED, "429".into())),
        500.. => Some((&FAILING, status.to_string())),
        _ => None,
    }
}

fn delay(answer: &Answer) -> Option<(&'static Kind, String)> {
    let bare = answer.header("retry-after").is_empty();
    let asks = matches!(answer.status, 429 | 503);
    (asks && bare).then(|| (&RETRY_AFTER_MISSING, answer.status.to_string()))
}

fn challenge(answer: &Answer) -> Option<(&'static Kind, String)> {
    let bare = answer.header("www-authenticate").is_empty();
    (answer.status == 401 && bare).then(|| (&WWW_AUTHENTICATE_MISSING, "401".into()))
}

fn no_store(answer: &Answer) -> Option<(&'static Kind, String)> {
    let told = answer.header("cache-control");
    let missing = !told.contains("no-store") && answer.status < 500;
    missing.then(|| (&NO_STORE_MISSING, format!("Cache-Control is '{told}'")))
}

fn nosniff(answer: &Answer) -> Option<(&'static Kind, String)> {
    let missing = !answer
        .header("x-content-type-options")
        .starts_with("nosniff")
        && answer.status < 500;
    missing.then(|| {
        (
            &NOSNIFF_MISSING,
            "no X-Content-Type-Options: nosniff".into(),
        )
    })
}

fn session(seen: &Seen) -> Vec<Finding> {
    let Some(answer) = seen.settled(Probe::Session) else {
        return Vec::new();
    };
    if answer.status == 200 {
        return vec![ANONYMOUS_ANSWERED.seen("GET /session without credentials: 200")];
    }
    let mut found = Vec::new();
    if !answer.is_problem() {
        let media_type = answer.header("content-type");
        found.push(ERRORS_REWRITTEN.seen(format!("{}, '{media_type}'", answer.status)));
    } else if answer.status == 401 && !answer.code().starts_with("token_") {
        found.push(ERRORS_REWRITTEN.seen("401 without credentials, and no code says why"));
    }
    let vary = answer.header("vary");
    let cookie = seen.described.access_cookie.is_some() && !vary.contains("cookie");
    let header = seen.described.bearer && !vary.contains("authorization");
    if (cookie || header) && vary != "*" {
        found.push(VARY_MISSING.seen(format!("Vary is '{vary}'")));
    }
    found
}

/// Whether something in between answered.
fn kept(seen: &Seen) -> Option<Finding> {
    let mut answers = seen.api_answers();
    let hit = answers.find_map(|(probe, answer)| Some(format!("{probe:?}: {}", hit(answer)?)));
    let ids = [Probe::Description, Probe::Again].map(|probe| {
        let id = seen
            .answer(probe)
            .map(|answer| answer.header("x-request-id"));
        id.filter(|id| !id.is_empty())
    });
    let twice = ids[0].is_some() && ids[0] == ids[1];
    let told = hit.or(twice.then(|| "two requests got one answer: X-Request-Id".into()));
    told.map(|told| CACHED.seen(told))
}

fn hit(answer: &Answer) -> Option<String> {
    let age = answer.header("age");
    if age.parse::<u64>().is_ok_and(|age| age > 0) {
        return Some(format!("Age is {age}"));
    }
    let names = [
        "x-cache",
        "cf-cache-status",
        "x-proxy-cache",
        "x-cache-status",
    ];
    let hit = names
        .iter()
        .find(|name| answer.header(name).contains("hit"));
    hit.map(|name| format!("{name} tells of a hit"))
}
