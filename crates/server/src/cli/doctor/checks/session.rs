//! What a session can do from login to logout.

use super::super::finding::{Finding, Kind, Level, Subject, kinds};
use super::super::seen::{Probe, Seen};

kinds! {
    "session" "login, refresh and logout work as from a browser, and logout counts at once";
    LOGIN_REFUSED Error "login_refused"
        "the rest could not be looked at"
        "check the name and the password; make an account for this (`doorward user add`)";
    SESSION_REFUSED Error "session_refused"
        "a request with the session's own credential was refused"
        "check that all instances have one `store`, `issuer` and `audience`, and that the proxy changes no cookie";
    REFRESH_REFUSED Error "refresh_refused"
        "sessions end with their first access token"
        "check that all instances have one `store`, and that the proxy changes no cookie";
    REFRESH_SETS_NOTHING Error "refresh_sets_nothing"
        "browsers keep the old token, which ends the session as stolen once it is used later"
        "have the proxy pass Set-Cookie, all of its lines";
    LOGOUT_REFUSED Error "logout_refused"
        "users cannot log out"
        "check that the proxy passes `/refresh/logout`, and `allowed_origins` for pages of other origins";
    LOGOUT_KEEPS_COOKIES Error "logout_keeps_cookies"
        "the next user of the browser still has them"
        "have the proxy pass all Set-Cookie lines, and change paths and domains in all answers or in none";
    LOGOUT_LINGERS Error "logout_lingers"
        "an access token works after logout: an instance does not learn of ended sessions"
        "have all instances share one `store`, and verify by Doorward, not by the public keys alone";
    PROTECTED_OPEN Error "protected_open"
        "it is answered without a session"
        "guard the route (Flask: `auth.required`, `auth.protect`), or have the proxy ask `/verify`";
    PROTECTED_REFUSED Error "protected_refused"
        "it is refused with a session"
        "check which cookie and which `audience` the route's guard looks at";
    SESSION_LEFT Warning "session_left"
        "a session that this command opened could not be ended"
        "end it: `doorward session list`, `doorward session end`; its device is `doorward doctor`";
}

fn look(seen: &Seen) -> Option<Vec<Finding>> {
    seen.answer(Probe::Login)?;
    let mut found = Vec::from_iter(login(seen));
    if seen.is_logged_in() {
        let more = [
            who(seen),
            refresh(seen),
            logout(seen),
            after(seen),
            protected(seen),
        ];
        found.extend(more.into_iter().flatten());
    }
    if seen.open > 0 {
        found.push(SESSION_LEFT.seen(format!("{} sessions are open", seen.open)));
    }
    Some(found)
}

fn login(seen: &Seen) -> Option<Finding> {
    let answer = seen.settled(Probe::Login)?;
    let told = || {
        LOGIN_REFUSED.seen(format!(
            "login is answered {} {}",
            answer.status,
            answer.code()
        ))
    };
    (answer.status != 200).then(told)
}

/// Whether a browser, or a client with tokens, sent what is needed: where it did not, or where it did
/// not arrive, that is told already.
fn has_access(seen: &Seen, probe: Probe) -> bool {
    arrives(seen) && sends(seen, probe, |name| seen.described.is_access(name))
}

fn has_refresh(seen: &Seen, probe: Probe) -> bool {
    arrives(seen) && sends(seen, probe, |name| seen.described.is_refresh(name))
}

fn sends(seen: &Seen, probe: Probe, is_it: impl Fn(&str) -> bool) -> bool {
    let by_body = seen.described.refresh_cookie.is_none() && seen.cookies().is_empty();
    by_body || seen.sent(probe).iter().any(|name| is_it(name))
}

fn arrives(seen: &Seen) -> bool {
    let bad = seen.settled(Probe::BadRefresh);
    bad.is_none_or(|answer| answer.code() != "token_missing")
}

fn who(seen: &Seen) -> Option<Finding> {
    let answer = seen.settled(Probe::Who)?;
    let refused = answer.status != 200 && has_access(seen, Probe::Who);
    refused
        .then(|| SESSION_REFUSED.seen(format!("GET /session: {} {}", answer.status, answer.code())))
}

fn refresh(seen: &Seen) -> Option<Finding> {
    let answer = seen.settled(Probe::Refresh)?;
    if !has_refresh(seen, Probe::Refresh) {
        return None;
    }
    if answer.status != 200 {
        return Some(REFRESH_REFUSED.seen(format!("{} {}", answer.status, answer.code())));
    }
    let silent = !seen.cookies().is_empty() && !answer.headers.contains_key("set-cookie");
    silent.then(|| REFRESH_SETS_NOTHING.seen("an answer to refresh has no Set-Cookie"))
}

fn logout(seen: &Seen) -> Option<Finding> {
    let answer = seen.settled(Probe::Logout)?;
    if answer.status != 204 {
        return Some(LOGOUT_REFUSED.seen(format!("{} {}", answer.status, answer.code())));
    }
    let is_token =
        |name: &&String| seen.described.is_access(name) || seen.described.is_refresh(name);
    let names: Vec<_> = seen.left.iter().filter(is_token).cloned().collect();
    let names = names.join(", ");
    (!names.is_empty()).then(|| LOGOUT_KEEPS_COOKIES.seen(format!("left: {names}")))
}

fn after(seen: &Seen) -> Option<Finding> {
    let ended = seen.status(Probe::Logout) == Some(204) && has_refresh(seen, Probe::Logout);
    let lingers = ended && seen.status(Probe::AfterLogout) == Some(200);
    lingers.then(|| LOGOUT_LINGERS.seen("GET /session after logout: 200"))
}

fn protected(seen: &Seen) -> Option<Finding> {
    let path = seen.protected.as_deref()?;
    let open = seen.status(Probe::ProtectedOpen)?;
    if (200..300).contains(&open) {
        return Some(PROTECTED_OPEN.seen(format!("GET {path} without a session: {open}")));
    }
    let status = seen.status(Probe::Protected)?;
    let refused = matches!(status, 401 | 403) && has_access(seen, Probe::Protected);
    refused.then(|| PROTECTED_REFUSED.seen(format!("GET {path} with a session: {status}")))
}
