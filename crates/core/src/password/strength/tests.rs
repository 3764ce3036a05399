use std::sync::Arc;

use pollster::FutureExt as _;

use super::*;
use crate::env::Timestamp;
use crate::password::{Hashing, Params, Passwords, generated};
use crate::testing::TestEnv;

fn typed(text: &str) -> Password {
    Password::new(text).unwrap()
}

fn rules() -> Rules {
    Rules {
        service_name: Some("Polar Bank".into()),
        ..Rules::default()
    }
}

fn checked(text: &str) -> Result<()> {
    rules().check("ada.lovelace@example.org", &typed(text))
}

#[test]
fn what_is_guessed_first_is_refused_with_the_reason() {
    let table = [
        ("hunter2", SHORT),
        ("xK9#pQ2$vL7@mN", SHORT),
        ("ääääääääääääää", SHORT),
        ("passwordpassword", COMMON),
        ("PasswordPassword", COMMON),
        ("p4ssw0rdp4ssw0rd", COMMON),
        ("ｐａｓｓｗｏｒｄｐａｓｓｗｏｒｄ", COMMON),
        ("123456789qwerty", COMMON),
        ("1qaz2wsx3edc4rfv", COMMON),
        ("Password!2024-12", COMMON),
        ("password1234567", COMMON),
        ("(((letmein123)))", PATTERN),
        ("aaaaaaaaaaaaaaaa", COMMON),
        ("gggggggggggggggggggggg", PATTERN),
        ("abcabcabcabcabcabc", PATTERN),
        ("abcdefghijklmnop", COMMON),
        ("bcdefghijklmnopqr", PATTERN),
        ("qwertyuiopasdfgh", COMMON),
        ("wertyuiopasdfghj", PATTERN),
        ("qwertzuiopasdfgh", PATTERN),
        ("1234567890123456", COMMON),
        ("3456789012345678901", PATTERN),
        ("2468024680246802", PATTERN),
        ("0987654321098765", PATTERN),
        ("monkeymonkeymonkey1", PATTERN),
        ("dragon-dragon-dragon", PATTERN),
        ("drowssapnogardx", PATTERN),
        ("iloveyouforever", COMMON),
        ("foreveriloveyou2", PATTERN),
        ("summer2024summer2024", PATTERN),
        ("あああああああああああああああああ", PATTERN),
        ("йцукенгшщзхъфывап", PATTERN),
        ("               !", PATTERN),
        ("ada.lovelace@example.org", NAMED),
        ("AdaLovelace2024!", NAMED),
        ("4d4-l0v3l4c3-2024", NAMED),
        ("ecalevol.ada-xyz", NAMED),
        ("PolarBank-PolarBank", NAMED),
        ("polarbankada2024", NAMED),
        ("lovelacelovelace", NAMED),
        ("10v31ac3-lovelace-1815", NAMED),
        ("Doorward-Doorward1", NAMED),
    ];
    let reasons = table.clone().map(|(text, _)| (text, checked(text)));
    assert_eq!(reasons, table.map(|(text, reason)| (text, Err(reason))));
}

#[test]
fn the_3000_commonest_that_are_long_enough_are_refused() {
    let lines = include_str!("../common.txt").lines();
    let words = lines.filter_map(|line| line.split('\t').next());
    let long: Vec<&str> = words.filter(|word| word.len() >= 15).collect();
    assert!(long.len() >= 3_000, "{}", long.len());
    for word in long {
        for typed_as in [word.to_owned(), word.to_uppercase(), format!("{word}!")] {
            assert!(checked(&typed_as).is_err(), "{typed_as}");
        }
    }
}

#[test]
fn what_takes_many_guesses_is_accepted_whatever_it_is_made_of() {
    let longest = "une phrase très longue, que personne ne devine jamais. ".repeat(18);
    let table = [
        "correct horse battery",
        "correct horse battery staple",
        "correcthorsebattery",
        "a wholly new one",
        "a much better passphrase",
        "the bear bought a bank",
        "ada was born on a sunday",
        "xK9#pQ2$vL7@mNa",
        "849302758391047",
        "k3wq-9xzd-pm4t-hu7c-2vnb",
        "żółć gęślą jaźń",
        "правильная лошадь батарейка",
        "馬正電池釘書針天空海月山川雨雪",
        "👨‍👩‍👧 walks along the river",
        "               z7Qp  k2",
        &longest[..1000],
    ];
    for text in table {
        assert_eq!(checked(text), Ok(()), "{text}");
    }
}

#[test]
fn every_length_from_the_shortest_to_the_longest_is_accepted() {
    // A text that repeats nothing.
    let text: String = (0..256_u32)
        .filter_map(|n| char::from_u32(0x4e00 + n * n % 20_000))
        .collect();
    for length in 15..=256 {
        let text: String = text.chars().take(length).collect();
        assert_eq!(checked(&text), Ok(()), "{length}");
    }
}

#[test]
fn the_length_is_counted_in_characters_after_normalization() {
    let rules = Rules {
        min_length: 8,
        ..Rules::default()
    };
    assert_eq!(rules.check("", &typed("ñáéíóúüx")), Ok(()));
    assert_eq!(
        rules.check("", &typed("n\u{303}a\u{301}e\u{301}i\u{301}")),
        Err(SHORT)
    );
}

#[test]
fn a_name_of_a_letter_or_two_refuses_nothing() {
    for name in ["", "a", "e", "th", "a.b.c", "\u{130}", "!!!"] {
        assert_eq!(
            rules().check(name, &typed("correct horse battery")),
            Ok(()),
            "{name}"
        );
    }
}

#[test]
fn a_service_without_a_name_is_called_what_its_tokens_say() {
    let named = |service: Option<&str>, issuer| {
        let mut rules = Rules {
            service_name: service.map(Into::into),
            ..Rules::default()
        };
        rules.name_after(issuer);
        rules.service_name
    };
    let host = Some("login.polar.example".into());
    assert_eq!(
        named(None, Some("https://login.polar.example:8443/auth?x")),
        host
    );
    assert_eq!(named(None, Some("login.polar.example")), host);
    assert_eq!(
        named(Some("Polar"), Some("https://x.example")),
        Some("Polar".into())
    );
    assert_eq!(named(None, None), None);
}

#[test]
fn a_password_of_a_breach_is_refused_and_none_passes_unchecked() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("breached.txt");
    // SHA-1 of "correct horse battery staple".
    std::fs::write(&path, "ABF7AAD6438836DBE526AA231ABDE2D0EEF74D42:384\n").unwrap();
    let rules = Rules {
        breached: Some(Breached::open(&path).unwrap()),
        ..Rules::default()
    };
    assert_eq!(
        rules.check("ada", &typed("correct horse battery staple")),
        Err(BREACHED)
    );
    assert_eq!(rules.check("ada", &typed("correct horse battery")), Ok(()));
    std::fs::remove_file(&path).unwrap();
    let unchecked = rules.check("ada", &typed("correct horse battery"));
    assert_eq!(unchecked, Err(Error::StoreUnavailable));
}

#[test]
fn passwords_that_are_made_here_are_accepted() {
    let env = TestEnv::new(Timestamp(1_800_000_000_000), 1);
    for _ in 0..500 {
        let text = generated(&env);
        assert_eq!(checked(&text), Ok(()), "{}", *text);
    }
}

#[test]
fn a_refused_password_is_not_hashed() {
    let hashing = Hashing {
        params: Params::FAST_FOR_TESTS,
        threads: 1,
        ..Hashing::default()
    };
    let env = Arc::new(TestEnv::new(Timestamp(1_800_000_000_000), 1));
    let passwords = Passwords::new(hashing, env);
    let refused = passwords
        .hash_new("ada", typed("passwordpassword"))
        .block_on();
    assert_eq!(refused, Err(COMMON));
    assert_eq!(passwords.hashes(), 0);
    passwords
        .hash_new("ada", typed("correct horse battery"))
        .block_on()
        .unwrap();
    assert_eq!(passwords.hashes(), 1);
}
