//! `postgres://` URLs: what the driver reads of them, and a few parameters of our own.

use std::fmt;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};

/// A URL of a PostgreSQL database, as `libpq` writes them, and besides:
///
/// - `pool=4`: connections that this process opens at most, and one to listen;
/// - `schema=doorward`: where its tables are;
/// - `swaps=fast`: refreshes do not wait for the disk;
/// - `sslrootcert=PATH`, `sslmode=verify-full`; `password_file=PATH`.
///
/// Neither its `Display` nor its `Debug` holds the password.
#[derive(Clone)]
pub struct PostgresUrl {
    text: Arc<str>,
    config: Arc<Config>,
    own: Own,
}

/// What the driver does not know.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Own {
    pool: usize,
    schema: Arc<str>,
    fast: bool,
    tls: Tls,
    roots: Option<PathBuf>,
    password_file: Option<PathBuf>,
}

/// What is asked of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tls {
    /// None.
    Off,
    /// Where the server has it; its certificate is not looked at. Against eavesdroppers only.
    Any,
    /// The certificate must be good and of this name.
    Verified,
}

impl PostgresUrl {
    pub(super) fn pool(&self) -> usize {
        self.own.pool
    }

    pub(super) fn fast(&self) -> bool {
        self.own.fast
    }

    pub(super) fn tls(&self) -> Tls {
        self.own.tls
    }

    pub(super) fn roots(&self) -> Option<&PathBuf> {
        self.own.roots.as_ref()
    }

    pub(super) fn schema(&self) -> &str {
        &self.own.schema
    }

    /// With a password, where the URL has none: from its file, or `PGPASSWORD`.
    pub(super) fn config(&self) -> Result<Config, String> {
        let mut config = (*self.config).clone();
        if config.get_password().is_some() {
            return Ok(config);
        }
        if let Some(path) = &self.own.password_file {
            config.password(password_in(path).map_err(|why| format!("password_file: {why}"))?);
        } else if let Ok(password) = std::env::var("PGPASSWORD") {
            config.password(password);
        }
        Ok(config)
    }

    /// What the driver is to do for each host alone, in their order: by itself it waits for one that takes the
    /// connection and says nothing, and never comes to the next.
    pub(super) fn hosts(&self) -> Result<Vec<Config>, String> {
        let all = self.config()?;
        let count = all.get_hosts().len().max(all.get_hostaddrs().len());
        Ok((0..count).map(|at| alone(&all, at)).collect())
    }

    /// Whether whoever reads it can log in.
    #[must_use]
    pub fn is_secret(&self) -> bool {
        self.config.get_password().is_some()
    }

    /// Which store it is: the same for all who use it, and no secret.
    pub(super) fn name(&self) -> String {
        self.text.to_string()
    }
}

/// Whether a text begins as such a URL does.
#[must_use]
pub(crate) fn is_postgres(text: &str) -> bool {
    text.starts_with("postgres://") || text.starts_with("postgresql://")
}

impl FromStr for PostgresUrl {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        if text.matches('@').count() > 1 {
            return Err(AMBIGUOUS);
        }
        let (base, query) = text.split_once('?').unwrap_or((text, ""));
        let (mut own, mut theirs) = (Own::default(), Vec::new());
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            if !own.take(name, value)? {
                theirs.push(pair);
            }
        }
        let joined = if theirs.is_empty() {
            base.to_owned()
        } else {
            format!("{base}?{}", theirs.join("&"))
        };
        let parsed: Result<Config, _> = joined.parse();
        let mut config = parsed.map_err(|_| if theirs.is_empty() { NOT_ONE } else { UNKNOWN })?;
        if config.get_hosts().is_empty() {
            config.host("localhost");
        }
        own.finish(&mut config)?;
        Ok(PostgresUrl {
            text: shown(&config, &own).into(),
            config: Arc::new(config),
            own,
        })
    }
}

const UNKNOWN: &str = "is no PostgreSQL URL, or has a parameter that is not known or cannot be read: \
    pool, schema, swaps, sslmode, sslrootcert, password_file, and those of libpq are known";
const NOT_ONE: &str = "is no PostgreSQL URL; postgres://doorward@localhost/doorward is one";
/// The driver takes what follows the first one for a host, which is shown: the end of a password.
const AMBIGUOUS: &str = "has more than one @: in a password it is %40";

impl Default for Own {
    fn default() -> Self {
        Own {
            pool: 4,
            schema: "doorward".into(),
            fast: false,
            tls: Tls::Off,
            roots: None,
            password_file: None,
        }
    }
}

impl Own {
    /// Whether the parameter is one of ours.
    fn take(&mut self, name: &str, value: &str) -> Result<bool, &'static str> {
        match name {
            "pool" => {
                let pool = value.parse().ok().filter(|pool| (1..=100).contains(pool));
                self.pool = pool.ok_or("pool must be a number from 1 to 100")?;
            }
            "schema" => self.schema = schema(value)?,
            "swaps" => {
                self.fast = match value {
                    "fast" => true,
                    "durable" => false,
                    _ => return Err("swaps must be durable or fast"),
                }
            }
            "sslrootcert" => self.roots = Some(path(value)?),
            "password_file" | "passfile" => self.password_file = Some(path(value)?),
            "sslmode" if value == "verify-full" || value == "verify-ca" => self.tls = Tls::Verified,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// What the driver is to do for it.
    fn finish(&mut self, config: &mut Config) -> Result<(), &'static str> {
        let wanted = config.get_ssl_mode() != SslMode::Disable;
        if wanted && self.roots.is_some() {
            self.tls = Tls::Verified;
        } else if wanted && self.tls != Tls::Verified {
            self.tls = Tls::Any;
        }
        if self.tls == Tls::Verified {
            config.ssl_mode(SslMode::Require);
        }
        if self.tls == Tls::Verified
            && config
                .get_hosts()
                .iter()
                .any(|host| matches!(host, Host::Unix(_)))
        {
            return Err("sslmode: a socket has no TLS");
        }
        if config.get_application_name().is_none() {
            config.application_name("doorward");
        }
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(Duration::from_millis(1500));
        }
        if config.get_tcp_user_timeout().is_none() {
            // What is sent again after a silence comes ever later: a new connection is there sooner.
            config.tcp_user_timeout(Duration::from_secs(2));
        }
        always(config);
        Ok(())
    }
}

/// A password that nobody else can read.
fn password_in(path: &Path) -> Result<String, String> {
    let found = std::fs::metadata(path).map_err(|error| error.to_string())?;
    if found.permissions().mode() & 0o077 != 0 {
        return Err("others may read it; chmod 600".into());
    }
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    Ok(text.trim_end_matches(['\n', '\r']).to_owned())
}

/// Names that need no escape.
fn schema(value: &str) -> Result<Arc<str>, &'static str> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    let fits = (1..=50).contains(&value.len()) && value.bytes().all(plain);
    if fits {
        Ok(value.into())
    } else {
        Err("schema must be 1 to 50 lower-case letters, digits and _")
    }
}

fn path(value: &str) -> Result<PathBuf, &'static str> {
    let mut bytes = Vec::new();
    let mut rest = value.bytes();
    while let Some(byte) = rest.next() {
        let hex = |digit: Option<u8>| digit.and_then(|digit| (digit as char).to_digit(16));
        bytes.push(match byte {
            b'%' => match (hex(rest.next()), hex(rest.next())) {
                (Some(high), Some(low)) => u8::try_from(high * 16 + low).unwrap_or_default(),
                _ => return Err("a path has an escape that is none"),
            },
            byte => byte,
        });
    }
    let text = String::from_utf8(bytes).map_err(|_| "a path is not UTF-8")?;
    if text.is_empty() {
        Err("a path is empty")
    } else {
        Ok(text.into())
    }
}

/// One host of several, and everything else.
fn alone(all: &Config, at: usize) -> Config {
    let mut one = Config::new();
    match all.get_hosts().get(at) {
        Some(Host::Tcp(name)) => drop(one.host(name)),
        Some(Host::Unix(path)) => drop(one.host_path(path)),
        None => {}
    }
    if let Some(address) = all.get_hostaddrs().get(at) {
        one.hostaddr(*address);
    }
    if let Some(port) = all.get_ports().get(at).or(all.get_ports().first()) {
        one.port(*port);
    }
    login(&mut one, all);
    one.ssl_mode(all.get_ssl_mode());
    one.ssl_negotiation(all.get_ssl_negotiation());
    one.channel_binding(all.get_channel_binding());
    if let Some(span) = all.get_connect_timeout() {
        one.connect_timeout(*span);
    }
    if let Some(span) = all.get_tcp_user_timeout() {
        one.tcp_user_timeout(*span);
    }
    always(&mut one);
    one
}

/// As whom, where to, and by what name.
fn login(one: &mut Config, all: &Config) {
    if let Some(user) = all.get_user() {
        one.user(user);
    }
    if let Some(password) = all.get_password() {
        one.password(password);
    }
    if let Some(name) = all.get_dbname() {
        one.dbname(name);
    }
    if let Some(options) = all.get_options() {
        one.options(options);
    }
    if let Some(name) = all.get_application_name() {
        one.application_name(name);
    }
}

/// What holds for every connection.
fn always(config: &mut Config) {
    config.keepalives(true);
    config.keepalives_idle(Duration::from_secs(2));
    config.keepalives_interval(Duration::from_secs(1));
    config.keepalives_retries(3);
    config.target_session_attrs(TargetSessionAttrs::ReadWrite);
}

/// What tells it from others, without its secrets.
fn shown(config: &Config, own: &Own) -> String {
    let ports = config.get_ports();
    let port = |at: usize| ports.get(at).or(ports.first()).copied().unwrap_or(5432);
    let hosts = config
        .get_hosts()
        .iter()
        .enumerate()
        .map(|(at, host)| match host {
            Host::Tcp(name) => format!("{name}:{}", port(at)),
            Host::Unix(path) => format!("{}:{}", path.display(), port(at)),
        });
    let hosts: Vec<_> = hosts.collect();
    let user = config
        .get_user()
        .map(|user| format!("{user}@"))
        .unwrap_or_default();
    let database = config
        .get_dbname()
        .or(config.get_user())
        .unwrap_or_default();
    format!(
        "postgres://{user}{}/{database}?schema={}",
        hosts.join(","),
        own.schema
    )
}

impl PartialEq for PostgresUrl {
    fn eq(&self, other: &Self) -> bool {
        self.config == other.config && self.own == other.own
    }
}

impl Eq for PostgresUrl {}

impl fmt::Display for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
