use super::*;
use crate::event::{Actor, Event, Record};
use crate::session::EndReason;
use crate::{SessionId, UserId};

fn entry() -> Entry {
    let user = UserId::new("ada").unwrap();
    let event = Event::ended(&user, SessionId([7; 16]), EndReason::Logout);
    Entry {
        place: 12,
        record: Record {
            at: Timestamp(1_800_000_000_123),
            event,
            actor: Actor::User,
            network: None,
            device: None,
            agent: None,
        },
    }
}

/// The example of the specification's reference libraries.
#[test]
fn a_signature_is_that_of_standard_webhooks() {
    let secret = HookSecret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
    let signature = secret.sign(
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1_614_265_330,
        r#"{"test": 2432232314}"#,
    );
    assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
}

#[test]
fn the_id_stays_and_the_time_moves() {
    let secrets = [HookSecret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap()];
    let first = Message::new(&entry(), &secrets, Timestamp(1_800_000_001_000));
    let again = Message::new(&entry(), &secrets, Timestamp(1_800_000_009_000));
    assert_eq!((&first.id, &first.body), (&again.id, &again.body));
    assert_ne!(first.signature, again.signature);
    let body: serde_json::Value = serde_json::from_str(&first.body).unwrap();
    assert_eq!(body["type"], "session_ended");
    assert_eq!(body["timestamp"], "2027-01-15T08:00:00.123Z");
    assert_eq!(body["data"]["reason"], "logout");
    let mut other = entry();
    other.place = 13;
    assert_ne!(Message::new(&other, &secrets, Timestamp(0)).id, first.id);
}

#[test]
fn each_secret_signs() {
    let secret = |text| HookSecret::parse(text).unwrap();
    let both = [
        secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
        secret("whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX"),
    ];
    let message = Message::new(&entry(), &both, Timestamp(0));
    let signatures: Vec<_> = message.signature.split(' ').collect();
    assert!(signatures.len() == 2 && signatures.iter().all(|one| one.starts_with("v1,")));
}

#[test]
fn addresses_are_private_on_their_way() {
    for good in [
        "https://example.org/hook?a=b",
        "https://example.org",
        "http://127.0.0.1:8000/x",
        "http://[::1]:8000/",
        "http://localhost/x",
    ] {
        assert!(HookUrl::parse(good).is_ok(), "{good}");
    }
    for bad in [
        "",
        "example.org",
        "https://",
        "https:///x",
        "http://example.org/",
        "http://localhost.example.org/",
        "http://127.0.0.1@example.org/",
        "https://user:pass@example.org/",
        "ftp://example.org",
        "https://exa mple.org",
        "https://example.org/\n",
        "https://?x",
        "https://example.org:99999/",
        "https://example.org:0/",
        "https://example.org:/",
        "https://::1/",
    ] {
        assert!(HookUrl::parse(bad).is_err(), "{bad}");
    }
    let url = HookUrl::parse("https://example.org/hook/s3cret").unwrap();
    assert_eq!(format!("{url:?}"), "HookUrl(example.org)");
}

#[test]
fn secrets_have_a_form_and_a_length() {
    for bad in [
        "",
        "whsec_",
        "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "whsec_c2hvcnQ=",
        "whsec_!!!!",
    ] {
        assert!(HookSecret::parse(bad).is_err(), "{bad}");
    }
    let zeros = format!("whsec_{}", STANDARD.encode_to_string([0; 32]));
    assert!(HookSecret::parse(&zeros).is_err());
    let long = format!("whsec_{}", STANDARD.encode_to_string([1; 65]));
    assert!(HookSecret::parse(&long).is_err());
}

#[test]
fn what_makes_no_sense_together_is_refused() {
    let urls = vec![HookUrl::parse("https://example.org").unwrap()];
    let secrets = vec![HookSecret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap()];
    let with = |urls: &[HookUrl], secrets: &[HookSecret]| WebhookConfig {
        urls: urls.to_vec(),
        secrets: secrets.to_vec(),
        events: Vec::new(),
    };
    assert!(with(&[], &[]).check(false).is_ok());
    assert!(with(&urls, &secrets).check(true).is_ok());
    assert!(with(&urls, &[]).check(true).is_err());
    assert!(with(&[], &secrets).check(true).is_err());
    assert!(with(&urls, &secrets).check(false).is_err());
}

#[test]
fn refreshes_are_sent_where_they_are_asked_for() {
    let config = WebhookConfig::default();
    assert!(config.wants(EventName::LoggedIn) && !config.wants(EventName::Refreshed));
    let events = vec![EventName::Refreshed];
    let config = WebhookConfig { events, ..config };
    assert!(!config.wants(EventName::LoggedIn) && config.wants(EventName::Refreshed));
}
