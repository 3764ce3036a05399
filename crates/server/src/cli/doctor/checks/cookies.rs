//! The cookies that login sets: whether browsers keep them, send them where they must, and nowhere else.

use super::super::cookies::{SameSite, SetCookie, covers};
use super::super::finding::{Finding, Kind, Level, Subject, kinds};
use super::super::seen::Seen;
use super::answers::is_rewritten;

kinds! {
    "cookies" "names, flags, paths and domains are as browsers need them";
    COOKIES_MISSING Error "cookies_missing"
        "browsers get no session"
        "have the proxy pass Set-Cookie, all of its lines";
    COOKIE_RENAMED Error "cookie_renamed"
        "the API looks for another name"
        "have the proxy leave the names of cookies alone";
    COOKIE_DROPPED Error "cookie_dropped"
        "browsers drop it, and nobody stays logged in"
        "have the proxy leave Set-Cookie alone; over plain http set `cookie_secure` to false (Flask: `JWT_COOKIE_SECURE`), `cookie_domain` to none or this host's own";
    COOKIE_READABLE Error "cookie_readable"
        "a script that gets into the page can steal the session"
        "have the proxy leave HttpOnly alone";
    COOKIE_NOT_SECURE Error "cookie_not_secure"
        "it goes over http as well, where it can be caught"
        "set `cookie_secure` to true (Flask: `JWT_COOKIE_SECURE`), and have the proxy leave Secure alone";
    SAME_SITE_MISSING Warning "same_site_missing"
        "some browsers send it with every other site's requests"
        "have the proxy leave SameSite alone (Flask: `JWT_COOKIE_SAMESITE`)";
    CROSS_SITE_COOKIES Error "cross_site_cookies"
        "browsers keep and send SameSite=Lax and Strict cookies for pages of the same site only"
        "serve page and API from one registrable domain by one scheme, best from one origin by a proxy; or use `delivery` = `body`";
    THIRD_PARTY_COOKIES Warning "third_party_cookies"
        "Safari, Firefox and others block or partition the cookies of another site"
        "serve page and API from one registrable domain; or use `delivery` = `body`";
    ACCESS_COOKIE_PATH Error "access_cookie_path"
        "browsers do not send it to the API"
        "set `access_cookie_path` to `/` or the public prefix (Flask: `JWT_ACCESS_COOKIE_PATH`), and have the proxy leave paths alone";
    REFRESH_COOKIE_PATH Error "refresh_cookie_path"
        "browsers do not send it to where sessions are refreshed and ended"
        "have its path cover `/refresh` of the public prefix: `url_prefix` (Flask: `JWT_REFRESH_COOKIE_PATH`)";
    REFRESH_COOKIE_WIDE Warning "refresh_cookie_wide"
        "the token that lives longest goes along with every request, to whatever answers there"
        "set its path to `/refresh` below the prefix (Flask: `JWT_REFRESH_COOKIE_PATH`)";
    COOKIE_DOMAIN_WIDE Warning "cookie_domain_wide"
        "every host below that domain gets the tokens"
        "leave `cookie_domain` unset (Flask: `JWT_COOKIE_DOMAIN`)";
    PROTECTED_UNREACHED Error "protected_unreached"
        "browsers do not send the access cookie there"
        "set `access_cookie_path` to cover it (Flask: `JWT_ACCESS_COOKIE_PATH`)";
}

fn look(seen: &Seen) -> Option<Vec<Finding>> {
    let asked = seen.described.refresh_cookie.is_some();
    let cookies = seen.cookies();
    if !seen.is_logged_in() || !asked && cookies.is_empty() {
        return None;
    }
    if cookies.is_empty() {
        return Some(vec![COOKIES_MISSING.seen("login sets no cookie")]);
    }
    let mut found = renamed(seen, &cookies);
    let (dropped, kept): (Vec<_>, Vec<_>) = cookies
        .iter()
        .partition(|cookie| cookie.refused(&seen.target.origin).is_some());
    found.extend(dropped.iter().filter_map(|cookie| {
        let why = cookie.refused(&seen.target.origin)?;
        Some(COOKIE_DROPPED.seen(format!("{}: {why}", cookie.name)))
    }));
    for cookie in kept {
        found.extend(flags(cookie, seen));
        found.extend(sites(cookie, seen));
        found.extend(paths(cookie, seen));
    }
    Some(found)
}

fn is_token(cookie: &SetCookie, seen: &Seen) -> bool {
    seen.described.is_access(&cookie.name) || seen.described.is_refresh(&cookie.name)
}

fn renamed(seen: &Seen, cookies: &[SetCookie]) -> Vec<Finding> {
    let expected = [
        &seen.described.access_cookie,
        &seen.described.refresh_cookie,
    ];
    let missing = expected
        .into_iter()
        .flatten()
        .filter(|name| !cookies.iter().any(|cookie| cookie.name == **name));
    missing
        .map(|name| COOKIE_RENAMED.seen(format!("login does not set {name}")))
        .collect()
}

fn flags(cookie: &SetCookie, seen: &Seen) -> Vec<Finding> {
    let mut found = Vec::new();
    let name = &cookie.name;
    if !cookie.http_only && is_token(cookie, seen) {
        found.push(COOKIE_READABLE.seen(format!("{name} has no HttpOnly")));
    }
    if !cookie.secure && seen.target.origin.https {
        found.push(COOKIE_NOT_SECURE.seen(format!("{name} has no Secure")));
    }
    if cookie.same_site.is_none() {
        found.push(SAME_SITE_MISSING.seen(format!("{name} has no SameSite")));
    }
    found
}

fn sites(cookie: &SetCookie, seen: &Seen) -> Vec<Finding> {
    let mut found = Vec::new();
    let (name, origin) = (&cookie.name, &seen.target.origin);
    if !seen.page.is_same_site(origin) {
        let page = &seen.page;
        found.push(if cookie.same_site == Some(SameSite::None) {
            THIRD_PARTY_COOKIES.seen(format!("{name}, for a page of {page}"))
        } else {
            CROSS_SITE_COOKIES.seen(format!("{name}, for a page of {page}"))
        });
    }
    let domain = cookie.domain.as_ref();
    if let Some(domain) = domain.filter(|domain| **domain != origin.host) {
        found.push(COOKIE_DOMAIN_WIDE.seen(format!("{name} has Domain={domain}")));
    }
    found
}

/// Where the proxy rewrites paths, all of them are wrong, and that is told already.
fn paths(cookie: &SetCookie, seen: &Seen) -> Option<Finding> {
    if is_rewritten(seen) {
        return None;
    }
    let (name, at) = (&cookie.name, |below: &str| seen.target.path(below));
    let path = cookie.path_at(&at("/login"));
    let told = |kind: &'static Kind| Some(kind.seen(format!("{name} has Path={path}")));
    if seen.described.is_refresh(name) {
        match [at("/refresh"), at("/refresh/logout"), at("/session")].map(|at| covers(&path, &at)) {
            [true, true, false] => None,
            [true, true, true] => told(&REFRESH_COOKIE_WIDE),
            _ => told(&REFRESH_COOKIE_PATH),
        }
    } else if seen.described.is_access(name) {
        let protected = seen.protected.as_deref();
        if !covers(&path, &at("/session")) {
            told(&ACCESS_COOKIE_PATH)
        } else if protected.is_some_and(|asked| !covers(&path, asked)) {
            told(&PROTECTED_UNREACHED)
        } else {
            None
        }
    } else {
        None
    }
}
