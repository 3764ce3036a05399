//! Hashes that are not verified, by name: nothing of their text is shown.

/// How they begin, and what is said of them. The first that fits counts.
const FORMS: [(&str, &str); 34] = [
    ("$argon2", ARGON2),
    ("argon2$", ARGON2),
    ("$2a$", BCRYPT),
    ("$2b$", BCRYPT),
    ("$2y$", BCRYPT),
    ("bcrypt", BCRYPT),
    ("$bcrypt-sha256$", BCRYPT),
    (
        "$2x$",
        "$2x$ is what a faulty bcrypt wrote, and is not verified",
    ),
    ("$scrypt$", SCRYPT),
    ("scrypt:", SCRYPT),
    ("scrypt$", SCRYPT),
    ("$7$", "$7$ (scrypt of crypt(3)) is not verified"),
    ("$pbkdf2", PBKDF2),
    ("pbkdf2", PBKDF2),
    ("$1$", "$1$ (MD5 of crypt(3)) is not verified"),
    ("$5$", "$5$ (SHA-256 of crypt(3)) is not verified"),
    ("$6$", "$6$ (SHA-512 of crypt(3)) is not verified"),
    ("$y$", "$y$ (yescrypt) is not verified"),
    ("$gy$", "$gy$ (gost-yescrypt) is not verified"),
    ("$apr1$", "$apr1$ (MD5 of Apache) is not verified"),
    ("$P$", "$P$ (phpass) is not verified"),
    ("$H$", "$H$ (phpass) is not verified"),
    ("$S$", "$S$ (Drupal) is not verified"),
    ("{", "{...} (LDAP) is not verified"),
    ("md5$", "md5$ (one round of MD5) is not verified"),
    ("sha1$", "sha1$ (one round of SHA-1) is not verified"),
    ("sha224$", SHA2),
    ("sha256$", SHA2),
    ("sha384$", SHA2),
    ("sha512$", SHA2),
    ("unsalted_", "a digest without salt is not verified"),
    ("crypt$", "crypt$ (DES) is not verified"),
    (
        "!",
        "a password that was made unusable: nobody logs in by it",
    ),
    (
        "*",
        "a password that was made unusable: nobody logs in by it",
    ),
];

const ARGON2: &str = "Argon2 that is cut short, has a key or data of its own, or costs more than 256 MiB, 16 passes or 16 lanes";
const BCRYPT: &str = "bcrypt that is cut short, or of a cost beyond 15";
const SCRYPT: &str =
    "scrypt that is cut short, or costs more than 256 MiB, or 512 MiB times its lanes";
const PBKDF2: &str =
    "PBKDF2 that is cut short, of an unknown digest, or of more than 5 million rounds";
const SHA2: &str = "sha2 of one round (Werkzeug's of old) is not verified";

/// Why no password matches a text of no known form.
pub(in crate::password) fn refusal(text: &str) -> &'static str {
    let form = FORMS.iter().find(|(begin, _)| text.starts_with(begin));
    form.map_or(
        "of no known form: a plain text, or a digest without its name",
        |(_, words)| words,
    )
}
