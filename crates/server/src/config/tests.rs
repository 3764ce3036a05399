use doorward_core::Timestamp;
use doorward_core::env::duration;
use doorward_core::limits::OverCap;

use super::table::Key;
use super::*;

fn checked(pairs: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let pairs = pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    Values(pairs.collect()).check()
}

#[test]
fn the_page_shows_this_table() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/settings.md");
    let page = std::fs::read_to_string(page).unwrap();
    let lines = page.lines().filter(|line| line.starts_with("| `"));
    let rows: Vec<&str> = lines.collect();
    let row = |(key, default, help): &Key| match *default {
        "" => format!("| `{key}` | none | {help} |"),
        default => format!("| `{key}` | `{default}` | {help} |"),
    };
    assert_eq!(rows, KEYS.iter().map(row).collect::<Vec<_>>());
}

#[test]
fn the_defaults_are_in_order() {
    let config = checked(&[]).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(config.engine.policy, Policy::default());
    let settings = Settings {
        verify: true,
        ..Settings::default()
    };
    assert_eq!(config.settings, settings);
}

#[test]
fn what_cannot_be_used_is_refused_by_name() {
    for (key, value) in [
        ("access_ttl", "0"),
        ("refresh_ttl", "1m"),
        ("refresh_window", "10m"),
        ("browser_refresh_ttl", "31d"),
        ("browser_session_ttl", "1m"),
        ("privileged_refresh_ttl", "15m"),
        ("privileged_session_ttl", "91d"),
        ("sessions_per_user", "0"),
        ("sessions_per_user", "many"),
        ("sessions_over_cap", "refuse"),
        ("fresh_needed_for", "logout"),
        ("assurance", "aal4"),
        ("reset_ttl", "21m"),
        ("reset_ttl", "0"),
        ("secret", "short"),
        ("secret", "changeme-changeme-changeme-changeme"),
        ("algorithm", "none"),
        ("seal_secret", "short"),
        ("seal_secret", ""),
        ("secret", ""),
        ("seal_secret", "changeme-changeme-changeme-changeme"),
        ("delivery", "pigeon"),
        ("throttle", "maybe"),
        ("device_ttl", "1m"),
        ("throttle_account", "off"),
        ("throttle_device", "0/5m"),
        ("throttle_network", "5"),
        ("throttle_overall", "5/0"),
        ("store", "mysql://x"),
        ("trusted_proxies", "everyone"),
        ("tls_cert_file", "only.pem"),
        ("url_prefix", "api"),
        ("cookie_secure", "maybe"),
        ("allowed_origins", "https://a.example/path"),
        ("adopt_secret", "without a date"),
        ("adopt_until", "2030-01-01"),
        ("url_prefix", "/:a"),
        ("url_prefix", "/*a"),
        ("url_prefix", "/{x}"),
        ("store", "sqlite://"),
        ("store", "sqlite://:memory:"),
        ("max_connections", "0"),
        ("max_connections", "18446744073709551615"),
        ("request_timeout", "0"),
        ("request_timeout", "2h"),
        ("shutdown_timeout", "18446744073709551615"),
        ("shutdown_timeout", "106751991167d"),
    ] {
        assert!(
            checked(&[(key, value)]).is_err(),
            "{key} = {value} was accepted"
        );
    }
}

#[test]
fn a_level_of_assurance_sets_what_is_unset_and_bounds_what_is_set() {
    let with = |pairs: &[_]| checked(pairs).map(|config| config.engine.policy);
    let level = ("assurance", "aal2");
    assert_eq!(with(&[level]).unwrap(), Assurance::Aal2.policy());
    let stricter = with(&[level, ("refresh_ttl", "30m")]).unwrap();
    assert_eq!(stricter.refresh_ttl, Duration::from_secs(30 * 60));
    assert_eq!(stricter.session_ttl, Duration::from_secs(24 * 3600));
    for (key, looser) in [
        ("refresh_ttl", "2h"),
        ("session_ttl", "25h"),
        ("access_ttl", "16m"),
        ("fresh_ttl", "11m"),
        ("fresh_needed_for", "end_sessions"),
        ("fresh_needed_for", ""),
    ] {
        let error = with(&[level, (key, looser)]).err();
        let text = error.map(|error| error.to_string()).unwrap_or_default();
        assert!(text.contains(key), "{key}: {text}");
    }
}

#[test]
fn a_cap_says_what_happens_at_one_more() {
    let cap = |pairs: &[_]| {
        checked(pairs)
            .map(|config| config.engine.policy.cap)
            .unwrap()
    };
    let per_user = ("sessions_per_user", "3");
    assert_eq!(cap(&[]), None);
    assert_eq!(cap(&[per_user]).unwrap().over, OverCap::EndOldest);
    let refused = cap(&[per_user, ("sessions_over_cap", "refuse")]).unwrap();
    assert_eq!((refused.sessions.get(), refused.over), (3, OverCap::Refuse));
}

#[test]
fn new_passwords_are_long_and_not_named_after_the_service() {
    let rules = |pairs: &[_]| checked(pairs).map(|config| config.engine.hashing.rules);
    let url = ("issuer", "https://polar.example/");
    assert_eq!(rules(&[]).unwrap().min_length, 15);
    let named = rules(&[url]).unwrap().service_name;
    assert_eq!(named.as_deref(), Some("polar.example"));
    let named = rules(&[url, ("service_name", "Polar")])
        .unwrap()
        .service_name;
    assert_eq!(named.as_deref(), Some("Polar"));
}

#[test]
fn a_file_of_breached_passwords_that_cannot_be_used_is_refused_by_name() {
    for path in ["/there/is/none", "Cargo.toml", "src"] {
        let error = checked(&[("breached_passwords_file", path)]).err();
        let text = error.map(|error| error.to_string()).unwrap_or_default();
        let begin = format!("breached_passwords_file: {path}: ");
        assert!(text.starts_with(&begin), "{text}");
    }
}

#[test]
fn adoption_takes_a_key_of_its_algorithm_and_a_date() {
    let with =
        |pairs: &[(&str, &str)]| checked(&[&[("adopt_until", "2030-01-01")], pairs].concat());
    let secret = ("adopt_secret", "weak");
    let adoption = with(&[secret]).unwrap_or_else(|error| panic!("{error}"));
    let adoption = adoption.engine.adoption.unwrap();
    assert_eq!(adoption.until(), Timestamp::from_seconds(1_893_456_000));
    assert!(adoption.weakness().is_some());
    for wrong in [
        &[secret, ("adopt_algorithm", "none")][..],
        &[secret, ("adopt_algorithm", "RS256")],
        &[secret, ("adopt_until", "soon")],
        &[secret, ("adopt_names", "email")],
        &[("adopt_key_file", "Cargo.toml")],
        &[
            ("adopt_key_file", "Cargo.toml"),
            ("adopt_algorithm", "EdDSA"),
        ],
    ] {
        let error = with(wrong).err().map(|error| error.to_string()).unwrap();
        assert!(
            error.starts_with("adopt_") && !error.contains("weak"),
            "{error}"
        );
    }
}

#[test]
fn the_old_secret_is_none_that_is_used_here() {
    const ONE: &str = "7f0c3a9e51d24b86a1c9e3f05b7d2846";
    for own in ["secret", "seal_secret"] {
        let (until, adopted) = (("adopt_until", "2030-01-01"), ("adopt_secret", ONE));
        let error = checked(&[(own, ONE), until, adopted]).err();
        let error = error.map(|error| error.to_string());
        let wanted = format!("adopt_secret: must differ from {own}");
        assert_eq!(error, Some(wanted));
    }
}

#[test]
fn the_seal_secret_is_one_of_its_own() {
    const ONE: &str = "7f0c3a9e51d24b86a1c9e3f05b7d2846";
    const OTHER: &str = "b1946ac92492d2347c6235b4d2611184";
    let both = |seal| checked(&[("secret", ONE), ("seal_secret", seal)]);
    let config = both(OTHER).unwrap_or_else(|error| panic!("{error}"));
    let sealed = config.engine.key.seal_secret.map(|secret| secret.to_vec());
    assert_eq!(sealed.as_deref(), Some(OTHER.as_bytes()));
    let error = both(ONE).err().map(|error| error.to_string());
    assert_eq!(
        error.as_deref(),
        Some("seal_secret: must differ from secret")
    );
}

#[test]
fn a_broken_file_does_not_put_its_secret_into_the_error() {
    let text = "listen = \"127.0.0.1:1\"\nsecret = \"hush hush hush\nstore = 1";
    let error = Values::default()
        .add_file("doorward.toml", text)
        .unwrap_err()
        .to_string();
    assert!(!error.contains("hush"), "{error}");
}

#[test]
fn durations_have_units() {
    assert_eq!(duration("90"), Some(Duration::from_secs(90)));
    assert_eq!(duration("15m"), Some(Duration::from_secs(900)));
    assert_eq!(duration("2d"), Some(Duration::from_secs(172_800)));
    assert_eq!(duration(""), None);
    assert_eq!(duration("5 m"), None);
    assert_eq!(duration("99999999999999999999d"), None);
}
