//! Every setting: its key, its default, and what it is.

/// A line of the table: key, default ("" for none), what it is.
pub(crate) type Key = (&'static str, &'static str, &'static str);

/// The settings. docs/settings.md shows the same table.
pub(crate) const KEYS: &[Key] = &[
    ("listen", "127.0.0.1:8080", "address of the API"),
    (
        "operator_listen",
        "127.0.0.1:9080",
        "address of /healthz, /readyz and /metrics; 'off' for none",
    ),
    (
        "store",
        "sqlite://doorward.db",
        "sqlite://PATH, postgres://USER@HOST/DATABASE, redis://HOST, or memory:",
    ),
    (
        "store_next",
        "",
        "the store that this one is to be left for: the process goes over by itself",
    ),
    ("url_prefix", "/api/v1", "where the API is mounted"),
    (
        "delivery",
        "cookie,body",
        "how tokens may travel; the first is the default",
    ),
    ("access_ttl", "15m", "how long an access token lives"),
    ("refresh_ttl", "30d", "idle limit of a session"),
    ("session_ttl", "90d", "absolute limit of a session"),
    (
        "browser_refresh_ttl",
        "",
        "idle limit of sessions that are not remembered [default: refresh_ttl]",
    ),
    (
        "browser_session_ttl",
        "",
        "absolute limit of sessions that are not remembered [default: session_ttl]",
    ),
    (
        "privileged_refresh_ttl",
        "",
        "idle limit of privileged sessions [default: refresh_ttl]",
    ),
    (
        "privileged_session_ttl",
        "",
        "absolute limit of privileged sessions [default: session_ttl]",
    ),
    (
        "sessions_per_user",
        "",
        "sessions that a user may have at once [default: any number]",
    ),
    (
        "sessions_over_cap",
        "end_oldest",
        "at one more: end_oldest, or refuse the login",
    ),
    (
        "refresh_window",
        "",
        "requests of one client this close together count as one [default: 30s]",
    ),
    (
        "fresh_ttl",
        "10m",
        "how long a password check keeps a session fresh",
    ),
    (
        "fresh_needed_for",
        "",
        "what only a fresh session may do: change_password, end_sessions, comma-separated",
    ),
    (
        "assurance",
        "",
        "aal1, aal2 or aal3 of NIST SP 800-63B-4: its lifetimes are defaults and bounds",
    ),
    (
        "reset_ttl",
        "20m",
        "how long the token of a password reset is good, 20m at most",
    ),
    (
        "clock_skew",
        "60s",
        "how far clocks of two nodes may be apart",
    ),
    (
        "revocation_allowance",
        "",
        "how long tokens are verified while the store does not answer, 10s to 24h [default: access_ttl, at least 10s]",
    ),
    (
        "expiry_jitter_percent",
        "5",
        "share of access_ttl by which an access token may end early, so that clients do not refresh in step; 0 to 50",
    ),
    (
        "algorithm",
        "",
        "EdDSA, HS256, ES256, PS256 or RS256 [default: EdDSA, or HS256 with a secret]",
    ),
    ("secret", "", "key of HS256, 32 bytes or more"),
    (
        "private_key_file",
        "",
        "PKCS#8 key that signs access tokens, PEM or DER [default: one in the store]",
    ),
    (
        "seal_secret",
        "",
        "seals the keys in the store, 32 bytes or more",
    ),
    (
        "seal_secret_previous",
        "",
        "those before it, which still open what they sealed, comma-separated",
    ),
    ("issuer", "", "iss of access tokens"),
    ("audience", "", "aud of access tokens"),
    (
        "adopt_until",
        "",
        "until this date refresh tokens of Flask-JWT-Extended become sessions",
    ),
    (
        "adopt_secret",
        "",
        "the secret that they are signed with; nothing is signed with it here",
    ),
    (
        "adopt_key_file",
        "",
        "the public key that verifies them, PEM, in place of a secret",
    ),
    ("adopt_algorithm", "HS256", "what they are signed by"),
    ("adopt_issuer", "", "their iss, where they have one"),
    ("adopt_audience", "", "their aud, where they have one"),
    (
        "adopt_cookie",
        "refresh_token_cookie",
        "the cookie that they come in",
    ),
    (
        "adopt_names",
        "id",
        "what their sub is: the id or the username of an account",
    ),
    ("cookie_secure", "true", "cookies travel over https only"),
    ("cookie_domain", "", "Domain of the cookies"),
    (
        "host_cookies",
        "false",
        "cookies are named __Host-, with the path / and no domain",
    ),
    (
        "access_cookie_path",
        "",
        "Path of the access cookie [default: url_prefix]",
    ),
    (
        "docs",
        "true",
        "GET /openapi.json and GET /docs describe the API",
    ),
    (
        "allowed_origins",
        "",
        "other origins whose pages may call the API, comma-separated",
    ),
    (
        "allow_same_site",
        "false",
        "pages of sibling subdomains may call the API",
    ),
    (
        "csrf_strict",
        "false",
        "refuse unsafe cookie requests without Sec-Fetch-Site and Origin",
    ),
    (
        "trusted_proxies",
        "",
        "networks whose X-Forwarded-For is believed, comma-separated",
    ),
    ("register", "off", "on: POST /register makes accounts"),
    ("throttle", "on", "off: failed logins cost nothing"),
    (
        "throttle_account",
        "10/15m",
        "failures of an account by devices that are not known: at once, and in which time they come back",
    ),
    (
        "throttle_network",
        "100/15m",
        "failures of an IPv4 address or an IPv6 /64, and its registrations; off for none",
    ),
    (
        "throttle_overall",
        "3000/10m",
        "failures of all devices that are not known; off for none",
    ),
    (
        "throttle_device",
        "5/5m",
        "failures of a device that has logged in to the account before",
    ),
    (
        "device_ttl",
        "180d",
        "how long a device is known after its last login",
    ),
    ("password_memory_kib", "19456", "Argon2id: memory"),
    ("password_iterations", "2", "Argon2id: passes"),
    ("password_parallelism", "1", "Argon2id: lanes"),
    (
        "password_threads",
        "",
        "hashing threads [default: one a core]",
    ),
    (
        "password_queue",
        "64",
        "logins that may wait for a hashing thread",
    ),
    (
        "password_min_length",
        "15",
        "shortest new password, in characters",
    ),
    (
        "service_name",
        "",
        "new passwords made from it are refused [default: the host of issuer]",
    ),
    (
        "breached_passwords_file",
        "",
        "new passwords in it are refused: lines SHA1:COUNT, or a directory of ranges",
    ),
    (
        "tls_cert_file",
        "",
        "certificate chain, PEM; with it the API is served by https",
    ),
    ("tls_key_file", "", "its private key, PEM"),
    (
        "hsts",
        "max-age=31536000",
        "Strict-Transport-Security, with tls_cert_file; 'off' for none",
    ),
    ("max_connections", "4096", "connections at once"),
    (
        "request_timeout",
        "30s",
        "longest time for a body to come, for an answer to be made, and for a client to take none of it",
    ),
    (
        "shutdown_timeout",
        "20s",
        "longest time for requests that are under way at the end",
    ),
    (
        "event_log",
        "on",
        "on: the store keeps what happens to sessions and accounts",
    ),
    (
        "event_network",
        "truncated",
        "how it keeps addresses: truncated, hashed, full or none",
    ),
    ("event_retention", "90d", "how long it keeps them"),
    (
        "event_refreshes",
        "1d",
        "of a session's refreshes it keeps the first in so long; 0: each",
    ),
    (
        "webhook_urls",
        "",
        "where events are posted to, comma-separated; needs webhook_secrets",
    ),
    (
        "webhook_secrets",
        "",
        "whsec_ and base64; each signs every message, so that one can be changed, comma-separated",
    ),
    (
        "webhook_events",
        "",
        "which events are posted, comma-separated [default: all but refreshed]",
    ),
    (
        "otlp_endpoint",
        "",
        "where traces go, by OTLP over http: http://HOST:4318; 'off' for nowhere [default: OTEL_EXPORTER_OTLP_ENDPOINT]",
    ),
    ("log_level", "info", "error, warn, info, debug or trace"),
    (
        "log_format",
        "auto",
        "human, json, or auto: human on a terminal",
    ),
];
