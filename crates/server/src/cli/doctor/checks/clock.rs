//! Whether the clocks agree: the proxy's, the engine's, and this machine's.

use super::super::client::Answer;
use super::super::cookies::http_date;
use super::super::finding::{Finding, Kind, Level, Subject, kinds};
use super::super::seen::{Probe, Seen};

kinds! {
    "clock" "its clocks and this machine's agree";
    CLOCK_DIFFERS Warning "clock_differs"
        "tokens are refused for being from the future once clocks are apart by more than the leeway, 5 s at least"
        "run NTP on the server, its proxy and this machine; whose clock is wrong cannot be told from here";
    CLOCK_WRONG Error "clock_wrong"
        "clocks further apart than `clock_skew` (60 s) end sessions too early or too late, and break TLS and `Max-Age`"
        "run NTP on the server, its proxy and this machine; whose clock is wrong cannot be told from here";
}

/// The smallest leeway of tokens.
const LEEWAY: i64 = 5;
/// The default of `clock_skew`.
const SKEW: i64 = 60;

fn look(seen: &Seen) -> Option<Vec<Finding>> {
    let answers = seen.answers.iter().map(|(_, answer)| answer);
    let dates = answers
        .filter(|answer| !is_kept(answer))
        .filter_map(|answer| {
            let date = answer.headers.get("date")?.to_str().ok()?;
            Some(off(http_date(date)?, answer))
        });
    let login = seen.settled(Probe::Login);
    let engine = login.and_then(|login| Some(off(server_time(login)?, login)));
    let token = login.and_then(|login| Some(off(issued_at(seen, login)?, login)));
    let dates = dates.min_by_key(|off| off.abs());
    let clocks = [
        ("Date", dates),
        ("server_time", engine),
        ("iat of the token", token),
    ];
    let clocks = clocks.into_iter();
    let clocks: Vec<_> = clocks
        .filter_map(|(what, off)| Some((what, off?)))
        .collect();
    if clocks.is_empty() {
        return None;
    }
    let worst = clocks.iter().map(|(_, off)| off.abs()).max()?;
    let kind = match worst {
        off if off > SKEW => &CLOCK_WRONG,
        off if off > LEEWAY => &CLOCK_DIFFERS,
        _ => return Some(Vec::new()),
    };
    let told = clocks.iter().filter(|(_, off)| off.abs() > LEEWAY);
    let told: Vec<_> = told
        .map(|(what, off)| format!("{what} is {off:+} s off"))
        .collect();
    Some(vec![kind.seen(told.join(", "))])
}

/// How far `at` lies outside of the time in which the answer was made.
fn off(at: i64, answer: &Answer) -> i64 {
    at - at.clamp(answer.asked_at - 1, answer.read_at + 1)
}

fn is_kept(answer: &Answer) -> bool {
    answer.headers.contains_key("age")
}

fn server_time(login: &Answer) -> Option<i64> {
    let time: jiff::Timestamp = login.json()["server_time"].as_str()?.parse().ok()?;
    Some(time.as_second())
}

/// Read without being verified: who made it up lies to himself.
fn issued_at(seen: &Seen, login: &Answer) -> Option<i64> {
    let body = login.json();
    let cookies = seen.cookies();
    let cookie = cookies
        .iter()
        .find(|cookie| seen.described.is_access(&cookie.name));
    let token = cookie.map(|cookie| cookie.value().to_owned());
    let token = token.or_else(|| body["access_token"].as_str().map(str::to_owned))?;
    let payload = token.split('.').nth(1)?;
    let payload = base64_simd::URL_SAFE_NO_PAD.decode_to_vec(payload).ok()?;
    let claims: serde_json::Value = serde_json::from_slice(&payload).ok()?;
    claims["iat"].as_i64()
}
