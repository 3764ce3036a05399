//! Which servers a URL names, and how to talk to them.
//!
//! ```text
//! redis://host:6379/?prefix=doorward:                 one server
//! rediss://host:6380/?ca=/etc/ssl/ours.pem            by TLS
//! redis://a:6379,b:6379,c:6379/?cluster               a cluster, some of whose nodes are named
//! redis+sentinel://a:26379,b:26379,c:26379/main       whichever server the sentinels say
//! ```

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// What keys begin with, where nothing else is said.
const PREFIX: &str = "doorward:";
const PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26_379;
/// How long a write that opens or ends a session waits for its replicas.
const WAIT_FOR: Duration = Duration::from_secs(1);
/// A longer wait than an operation may take is none.
const LONGEST_WAIT: Duration = Duration::from_secs(4);

/// A server's host and port.
pub(super) type Host = (String, u16);

/// A Redis. Its `Display` and `Debug` hold no password.
#[derive(Clone, PartialEq, Eq)]
pub struct Address {
    pub(super) hosts: Vec<Host>,
    pub(super) kind: Kind,
    pub(super) tls: bool,
    /// A file of certificates to trust in place of the web's.
    pub(super) ca: Option<PathBuf>,
    pub(super) user: Option<String>,
    pub(super) password: Option<String>,
    /// What sentinels are asked with.
    pub(super) sentinel_user: Option<String>,
    pub(super) sentinel_password: Option<String>,
    pub(super) database: u8,
    pub(super) prefix: String,
    /// How many replicas must have a write that opens or ends a session; `None`: one, where there are any.
    pub(super) wait: Option<u32>,
    pub(super) wait_for: Duration,
}

/// How its servers belong together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Single,
    Cluster,
    /// The name of the primary.
    Sentinel(String),
}

impl Address {
    /// The URL's schemes.
    pub const SCHEMES: [&str; 4] = [
        "redis://",
        "rediss://",
        "redis+sentinel://",
        "rediss+sentinel://",
    ];

    /// Whether a text names a Redis.
    #[must_use]
    pub fn is_one(text: &str) -> bool {
        Self::SCHEMES.iter().any(|scheme| text.starts_with(scheme))
    }

    /// Whether the URL holds a password.
    #[must_use]
    pub fn has_password(&self) -> bool {
        self.password.is_some() || self.sentinel_password.is_some()
    }

    fn scheme(&self) -> &'static str {
        match (self.tls, &self.kind) {
            (false, Kind::Sentinel(_)) => "redis+sentinel",
            (true, Kind::Sentinel(_)) => "rediss+sentinel",
            (false, _) => "redis",
            (true, _) => "rediss",
        }
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), &'static str> {
        match key {
            "cluster" if self.kind == Kind::Single => self.kind = Kind::Cluster,
            "prefix" => self.prefix = prefix(value)?,
            "wait" => self.wait = Some(value.parse().map_err(|_| "wait must be a number")?),
            "wait_ms" => {
                let millis = value.parse().map_err(|_| "wait_ms must be a number")?;
                self.wait_for = Duration::from_millis(millis);
            }
            "sentinel_user" if self.is_by_sentinel() => self.sentinel_user = Some(decoded(value)?),
            "sentinel_password" if self.is_by_sentinel() => {
                self.sentinel_password = Some(decoded(value)?);
            }
            "sentinel_user" | "sentinel_password" => {
                return Err("sentinel_user and sentinel_password need redis+sentinel://");
            }
            "ca" if self.tls => self.ca = Some(decoded(value)?.into()),
            "ca" => return Err("ca needs rediss://"),
            _ => {
                return Err(
                    "knows prefix, cluster, wait, wait_ms, ca, sentinel_user and sentinel_password as parameters",
                );
            }
        }
        Ok(())
    }

    fn is_by_sentinel(&self) -> bool {
        matches!(self.kind, Kind::Sentinel(_))
    }

    fn check(&self) -> Result<(), &'static str> {
        let is_waiting = self.wait != Some(0);
        if self.kind == Kind::Single && self.hosts.len() > 1 {
            Err("names several hosts: end it in ?cluster, or begin it with redis+sentinel://")
        } else if self.kind != Kind::Single && self.database != 0 {
            Err("can only be of database 0 in a cluster or with sentinels")
        } else if is_waiting && !(Duration::from_millis(1)..=LONGEST_WAIT).contains(&self.wait_for)
        {
            Err("wait_ms must be 1 to 4000")
        } else {
            Ok(())
        }
    }
}

impl FromStr for Address {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (scheme, rest) = text.split_once("://").ok_or("must be redis://HOST")?;
        let (tls, by_sentinel) = match scheme {
            "redis" => (false, false),
            "rediss" => (true, false),
            "redis+sentinel" => (false, true),
            "rediss+sentinel" => (true, true),
            _ => return Err("must begin with redis:// or rediss://"),
        };
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (credentials, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (user, password) = credentials.split_once(':').unwrap_or((credentials, ""));
        let port = if by_sentinel { SENTINEL_PORT } else { PORT };
        let given = |text: &str| decoded(text).map(|text| Some(text).filter(|it| !it.is_empty()));
        let mut address = Address {
            hosts: hosts
                .split(',')
                .map(|text| host(text, port))
                .collect::<Result<_, _>>()?,
            kind: kind(by_sentinel, path)?,
            tls,
            ca: None,
            user: given(user)?,
            password: given(password)?,
            sentinel_user: None,
            sentinel_password: None,
            database: if by_sentinel { 0 } else { database(path)? },
            prefix: PREFIX.into(),
            wait: None,
            wait_for: WAIT_FOR,
        };
        for parameter in query.split('&').filter(|it| !it.is_empty()) {
            let (key, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            address.set(key, value)?;
        }
        address.check()?;
        Ok(address)
    }
}

fn kind(by_sentinel: bool, path: &str) -> Result<Kind, &'static str> {
    match (by_sentinel, path) {
        (false, _) => Ok(Kind::Single),
        (true, "") => Err("must name the primary too: redis+sentinel://HOST/NAME"),
        (true, name) => Ok(Kind::Sentinel(decoded(name)?)),
    }
}

fn database(path: &str) -> Result<u8, &'static str> {
    match path {
        "" => Ok(0),
        number => number
            .parse()
            .map_err(|_| "its path must be the number of a database"),
    }
}

fn host(text: &str, port: u16) -> Result<Host, &'static str> {
    let (host, rest) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, rest)) => (host, rest),
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    let port = match rest.strip_prefix(':') {
        None if rest.is_empty() => port,
        None => return Err("must have its port after its host"),
        Some(port) => port.parse().map_err(|_| "must have a port of 1 to 65535")?,
    };
    if host.is_empty() || port == 0 {
        return Err("names no host; redis://127.0.0.1:6379 does");
    }
    Ok((host.into(), port))
}

/// What keys begin with: braces would decide where they lie.
fn prefix(text: &str) -> Result<String, &'static str> {
    let text = decoded(text)?;
    if text.len() > 64 || text.contains(['{', '}']) || text.contains(char::is_control) {
        return Err("prefix must be at most 64 characters without braces");
    }
    Ok(text)
}

fn decoded(text: &str) -> Result<String, &'static str> {
    const WRONG: &str = "has a % that is not followed by two digits of base 16";
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        if *byte == b'%' {
            let (digits, after) = rest.split_at_checked(2).ok_or(WRONG)?;
            let digits = std::str::from_utf8(digits).map_err(|_| WRONG)?;
            bytes.push(u8::from_str_radix(digits, 16).map_err(|_| WRONG)?);
            rest = after;
        } else {
            bytes.push(*byte);
        }
    }
    String::from_utf8(bytes).map_err(|_| WRONG)
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://", self.scheme())?;
        for (number, (host, port)) in self.hosts.iter().enumerate() {
            let comma = if number > 0 { "," } else { "" };
            let brackets = if host.contains(':') {
                ("[", "]")
            } else {
                ("", "")
            };
            write!(f, "{comma}{}{host}{}:{port}", brackets.0, brackets.1)?;
        }
        match &self.kind {
            Kind::Single if self.database == 0 => f.write_str("/"),
            Kind::Single => write!(f, "/{}", self.database),
            Kind::Cluster => f.write_str("/?cluster"),
            Kind::Sentinel(name) => write!(f, "/{name}"),
        }?;
        if self.prefix == PREFIX {
            return Ok(());
        }
        let mark = if self.kind == Kind::Cluster { '&' } else { '?' };
        write!(f, "{mark}prefix={}", self.prefix)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Address {
        text.parse().unwrap()
    }

    #[test]
    fn what_is_written_names_the_same_servers_but_holds_no_password() {
        for (text, told) in [
            ("redis://a", "redis://a:6379/"),
            (
                "redis://u:p%40ss@a:1/2?prefix=x:",
                "redis://a:1/2?prefix=x:",
            ),
            (
                "redis://:p@a,b:2/?cluster&wait=2",
                "redis://a:6379,b:2/?cluster",
            ),
            ("rediss://[::1]:9/?ca=/x.pem", "rediss://[::1]:9/"),
            (
                "redis+sentinel://a,b:3/main?sentinel_user=u&sentinel_password=p%26",
                "redis+sentinel://a:26379,b:3/main",
            ),
        ] {
            let address = read(text);
            assert_eq!(address.to_string(), told);
            assert_eq!(format!("{address:?}"), format!("Address({told})"));
            assert_eq!(read(told).hosts, address.hosts);
        }
        let address = read("redis://u:p%40ss@a/");
        assert_eq!(address.user.as_deref(), Some("u"));
        assert_eq!(address.password.as_deref(), Some("p@ss"));
        assert!(address.has_password() && !read("redis://a").has_password());
        assert!(read("redis+sentinel://a/main?sentinel_password=p").has_password());
    }

    #[test]
    fn what_names_no_servers_is_refused() {
        for text in [
            "redis://",
            "redis://a,b",
            "redis://a:0",
            "redis://a:x",
            "redis://a/x",
            "redis://a/1?cluster",
            "redis://a/?prefix={x}",
            "redis://a/?prefix=%7bx",
            "redis://a/?prefix=%",
            "redis://a/?ca=/x",
            "redis://a/?wait_ms=0",
            "redis://a/?wait_ms=9999",
            "redis://a/?wait=-1",
            "redis://a/?other=1",
            "redis+sentinel://a",
            "redis://a/?sentinel_password=p",
            "http://a",
        ] {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
    }
}
