use std::collections::BTreeSet;

use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};

use super::super::client::Answer;
use super::super::finding::Level;
use super::super::seen::{Described, Plain, Probe, Seen, Stopped};
use super::super::target::{Origin, Target};
use super::super::tls::Certificate;
use super::{SUBJECTS, findings};

const NOW: i64 = 1_800_000_000;
const DAY: i64 = 86_400;
/// 2027-01-15T08:00:00Z is `NOW`.
const DATE: &str = "Fri, 15 Jan 2027 08:00:00 GMT";

fn answer(status: u16, headers: &[(&str, &str)], body: &Value) -> Answer {
    let mut all = HeaderMap::new();
    for (name, value) in [
        ("cache-control", "no-store"),
        ("x-content-type-options", "nosniff"),
    ]
    .iter()
    .chain(headers)
    {
        let name: HeaderName = name.parse().unwrap();
        let value = HeaderValue::from_str(value).unwrap();
        if name == "set-cookie" {
            all.append(name, value);
        } else {
            all.insert(name, value);
        }
    }
    Answer {
        status,
        headers: all,
        body: body.to_string().into(),
        asked_at: NOW,
        read_at: NOW,
    }
}

fn described() -> Described {
    let described = json!({
        "info": { "title": "Doorward" },
        "servers": [{ "url": "/api/v1" }],
        "paths": {},
        "components": { "securitySchemes": {
            "access_cookie": { "name": "__Secure-access_token_cookie" },
            "refresh_cookie": { "name": "__Secure-refresh_token_cookie" },
        } },
    });
    Described::of(&answer(200, &[], &described)).unwrap()
}

/// A deployment at https that has nothing wrong.
fn at(url: &str) -> Seen {
    let mut seen = Seen::new(Target::parse(url, "/api/v1").unwrap(), None, NOW);
    seen.described = described();
    if seen.target.origin.https {
        seen.plain = Some(Plain::Silent);
        seen.certificate = Some(Certificate {
            newest: true,
            refused: None,
            from: Some(NOW - 10 * DAY),
            until: Some(NOW + 80 * DAY),
        });
    }
    let hsts = [
        ("strict-transport-security", "max-age=31536000"),
        ("date", DATE),
    ];
    seen.answers
        .push((Probe::Description, answer(200, &hsts, &json!({}))));
    seen
}

fn good() -> Seen {
    at("https://app.example.com")
}

fn login(seen: &mut Seen, cookies: &[&str]) {
    let mut headers = vec![("strict-transport-security", "max-age=31536000")];
    headers.extend(cookies.iter().map(|line| ("set-cookie", *line)));
    let body = json!({ "session": { "id": "one" }, "server_time": "2027-01-15T08:00:00Z" });
    seen.answers
        .push((Probe::Login, answer(200, &headers, &body)));
}

const ACCESS: &str =
    "__Secure-access_token_cookie=eyJ.e30.x; Path=/api/v1; HttpOnly; Secure; SameSite=Lax";
const REFRESH: &str =
    "__Secure-refresh_token_cookie=dwr_x; Path=/api/v1/refresh; HttpOnly; Secure; SameSite=Strict";

fn codes(seen: &Seen) -> Vec<&'static str> {
    let findings = findings(seen);
    let told = findings.iter().filter(|found| found.kind.level > Level::Ok);
    told.map(|found| found.kind.code).collect()
}

#[test]
fn a_good_deployment_has_no_findings_and_says_what_was_looked_at() {
    let mut seen = good();
    assert_eq!(codes(&seen), [""; 0]);
    login(&mut seen, &[ACCESS, REFRESH]);
    assert_eq!(codes(&seen), [""; 0]);
    let told: Vec<_> = findings(&seen)
        .iter()
        .map(|found| found.kind.code)
        .collect();
    assert_eq!(
        told,
        [
            "connection",
            "tls",
            "clock",
            "answers",
            "proxy",
            "cookies",
            "session"
        ]
    );
}

#[test]
fn what_stops_it_is_all_that_is_told() {
    for (stopped, code) in [
        (Stopped::Unreachable("no".into()), "unreachable"),
        (
            Stopped::Redirected("https://b.example".into()),
            "redirected",
        ),
        (Stopped::NotDoorward("404".into()), "not_doorward"),
    ] {
        let mut seen = Seen::new(good().target, None, NOW);
        seen.certificate = good().certificate;
        seen.stopped = Some(stopped);
        assert_eq!(codes(&seen), [code]);
    }
    assert_eq!(codes(&at("http://app.example.com")), ["no_tls"]);
    assert_eq!(codes(&at("http://localhost:8080")), [""; 0]);
    let mut seen = at("http://app.example.com");
    seen.withheld = true;
    assert_eq!(codes(&seen), ["no_tls", "login_withheld"]);
}

#[test]
fn a_certificate_is_told_of_before_it_expires_by_how_long_it_lives() {
    for (lives, left, soon) in [(90, 15, false), (90, 13, true), (6, 2, false), (6, 1, true)] {
        let mut seen = good();
        let certificate = seen.certificate.as_mut().unwrap();
        certificate.from = Some(NOW - (lives - left) * DAY);
        certificate.until = Some(NOW + left * DAY);
        let told: &[&str] = if soon { &["certificate_expires"] } else { &[] };
        assert_eq!(codes(&seen), told, "{left} of {lives}");
    }
    let mut seen = good();
    let certificate = seen.certificate.as_mut().unwrap();
    certificate.newest = false;
    certificate.refused = Some("it has expired".into());
    assert_eq!(codes(&seen), ["certificate_untrusted", "tls_old"]);
    seen.insecure = true;
    assert_eq!(codes(&seen), ["certificate_accepted", "tls_old"]);
}

#[test]
fn what_http_does_beside_https() {
    for (plain, told) in [
        (Plain::Answers(401), "plain_http_served"),
        (
            Plain::Redirects("http://app.example.com/".into()),
            "plain_http_misdirected",
        ),
        (Plain::Redirects("https://app.example.com/x".into()), ""),
    ] {
        let mut seen = good();
        seen.plain = Some(plain);
        assert_eq!(codes(&seen).join(" "), told);
    }
}

#[test]
fn answers_of_a_name_need_hsts() {
    for (hsts, told) in [("", true), ("max-age=0", true), ("max-age=600", false)] {
        let mut seen = good();
        seen.answers = vec![(
            Probe::Description,
            answer(
                200,
                &[("strict-transport-security", hsts), ("date", DATE)],
                &json!({}),
            ),
        )];
        assert_eq!(codes(&seen).contains(&"hsts_missing"), told, "{hsts}");
    }
}

#[test]
fn cookies_of_a_login_at_a_host_below_a_domain() {
    let with = |more: &str| format!("{ACCESS}; {more}");
    for (access, told) in [
        (with("Domain=example.com"), "cookie_domain_wide"),
        (with("Domain=app.example.com"), ""),
        (with("Domain=com"), "cookie_dropped"),
        (with("Domain=other.com"), "cookie_dropped"),
        (ACCESS.replace("; Secure", ""), "cookie_dropped"),
        (ACCESS.replace("; HttpOnly", ""), "cookie_readable"),
        (ACCESS.replace("; SameSite=Lax", ""), "same_site_missing"),
        (ACCESS.replace("/api/v1", "/api/v1/"), ""),
        (ACCESS.replace("/api/v1", "/api/v2"), "access_cookie_path"),
        (ACCESS.replace("__Secure-", ""), "cookie_renamed"),
    ] {
        let mut seen = good();
        login(&mut seen, &[&access, REFRESH]);
        assert_eq!(codes(&seen).join(" "), told, "{access}");
    }
}

#[test]
fn refresh_cookies_reach_where_sessions_are_refreshed_and_ended_and_nothing_else() {
    for (path, told) in [
        ("/api/v1/refresh", ""),
        ("/api/v1/refresh/logout", "refresh_cookie_path"),
        ("/refresh", "refresh_cookie_path"),
        ("/api/v1", "refresh_cookie_wide"),
        ("/", "refresh_cookie_wide"),
    ] {
        let mut seen = good();
        let refresh = REFRESH.replace("/api/v1/refresh", path);
        login(&mut seen, &[ACCESS, &refresh]);
        assert_eq!(codes(&seen).join(" "), told, "{path}");
    }
}

#[test]
fn a_page_of_another_site_gets_no_cookies() {
    let none = |line: &str| line.replace("Lax", "None").replace("Strict", "None");
    for (page, cookies, told) in [
        (
            "https://www.example.com",
            [ACCESS.into(), REFRESH.into()],
            "",
        ),
        (
            "https://other.com",
            [ACCESS.into(), REFRESH.into()],
            "cross_site_cookies",
        ),
        (
            "http://app.example.com",
            [ACCESS.into(), REFRESH.into()],
            "cross_site_cookies",
        ),
        (
            "https://other.com",
            [none(ACCESS), none(REFRESH)],
            "third_party_cookies",
        ),
    ] {
        let mut seen = good();
        seen.page = Origin::parse(page).unwrap();
        login(&mut seen, &[&cookies[0], &cookies[1]]);
        assert_eq!(codes(&seen).join(" "), told, "{page}");
    }
}

#[test]
fn a_protected_path_needs_the_access_cookie() {
    for (path, told) in [("/api/v1/notes", ""), ("/notes", "protected_unreached")] {
        let mut seen = good();
        seen.protected = Some(path.into());
        login(&mut seen, &[ACCESS, REFRESH]);
        assert_eq!(codes(&seen).join(" "), told, "{path}");
    }
}

#[test]
fn addresses_in_the_list_of_sessions() {
    for (own, spoofed, url, told) in [
        (
            "198.51.100.9",
            "198.51.100.9",
            "https://app.example.com",
            "",
        ),
        (
            "198.51.100.9",
            "203.0.113.77",
            "https://app.example.com",
            "address_spoofed",
        ),
        (
            "10.0.0.2",
            "10.0.0.2",
            "https://app.example.com",
            "address_of_proxy",
        ),
        ("::1", "::1", "https://app.example.com", "address_of_proxy"),
        ("10.0.0.2", "10.0.0.2", "https://10.0.0.1", ""),
        ("127.0.0.1", "127.0.0.1", "http://localhost:8080", ""),
    ] {
        let mut seen = at(url);
        login(&mut seen, &[ACCESS, REFRESH]);
        let hsts = [("strict-transport-security", "max-age=31536000")];
        let second = json!({ "session": { "id": "two" } });
        seen.answers
            .push((Probe::SpoofedLogin, answer(200, &hsts, &second)));
        let all = json!({ "sessions": [
            { "id": "one", "address": own }, { "id": "two", "address": spoofed },
        ] });
        seen.answers
            .push((Probe::Sessions, answer(200, &hsts, &all)));
        assert_eq!(codes(&seen).join(" "), told, "{own} {spoofed} {url}");
    }
}

#[test]
fn clocks_are_compared_with_the_time_of_the_answer() {
    for (off, told) in [
        (0, ""),
        (6, ""),
        (-6, ""),
        (7, "clock_differs"),
        (-62, "clock_wrong"),
    ] {
        let mut seen = good();
        seen.answers[0].1.asked_at += off;
        seen.answers[0].1.read_at += off;
        assert_eq!(codes(&seen).join(" "), told, "{off}");
    }
    let mut seen = good();
    login(&mut seen, &[ACCESS, REFRESH]);
    seen.answers[1].1.body = json!({ "server_time": "2027-01-15T08:00:30Z" })
        .to_string()
        .into();
    assert_eq!(codes(&seen), ["clock_differs"]);
}

#[test]
fn failures_and_throttling_are_told_and_not_judged() {
    let mut seen = good();
    let hsts = ("strict-transport-security", "max-age=31536000");
    let (busy, wait) = (answer(503, &[hsts], &json!({})), ("retry-after", "1"));
    seen.answers.push((Probe::PageLogin, busy));
    assert_eq!(codes(&seen), ["failing", "retry_after_missing"]);
    seen.answers.pop();
    seen.answers
        .push((Probe::ForeignLogin, answer(429, &[hsts, wait], &json!({}))));
    assert_eq!(codes(&seen), ["throttled"]);
}

#[test]
fn the_page_lists_all_that_can_be_found() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/doctor.md");
    let page = std::fs::read_to_string(page).unwrap();
    let (mut expected, mut codes) = (Vec::new(), BTreeSet::new());
    for subject in &SUBJECTS {
        expected.push(format!(
            "| `{}` | ok | {} | |",
            subject.fine.code, subject.fine.why
        ));
        for kind in [subject.fine]
            .into_iter()
            .chain(subject.kinds.iter().copied())
        {
            assert!(codes.insert(kind.code), "{} stands twice", kind.code);
        }
        expected.extend(subject.kinds.iter().map(|kind| {
            let level = kind.level.name();
            format!(
                "| `{}` | {level} | {} | {} |",
                kind.code, kind.why, kind.remedy
            )
        }));
    }
    let (_, found) = page.split_once("## What it finds").unwrap();
    let shown: Vec<_> = found
        .lines()
        .filter(|line| line.starts_with("| `"))
        .collect();
    assert_eq!(
        shown,
        expected,
        "the table should be:\n{}",
        expected.join("\n")
    );
}
