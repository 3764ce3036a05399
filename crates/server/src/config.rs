//! Every setting in one table, and how it is read: file, then environment, then flags; each
//! overrides the one before. Unknown keys are refused.

mod adoption;
mod keys;
mod otlp;
mod table;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::ArgMatches;
use clap::parser::ValueSource;
use doorward_core::env::duration;
use doorward_core::event_log::{EventConfig, NetworkForm};
use doorward_core::limits::Cap;
use doorward_core::password::{Breached, Hashing, Rules};
use doorward_core::throttle::Budgets;
use doorward_core::webhook::{HookSecret, HookUrl, WebhookConfig};
use doorward_core::{Assurance, Delivery, EngineConfig, Policy, Sensitive};
use doorward_http::{Settings, check_proxies};
use doorward_stores::Place;
use doorward_stores::place::NotAPlace;
use http::{HeaderValue, Uri};
use ipnet::IpNet;
use tracing::level_filters::LevelFilter;
use zeroize::Zeroizing;

pub(crate) use self::table::KEYS;
use crate::exposure::{self, IN_THE_CLEAR};
use crate::secret_file;

/// What is wrong with a setting, in words that say what to change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {problem}")]
pub(crate) struct ConfigError {
    key: String,
    problem: String,
}

fn wrong(key: &str, problem: impl fmt::Display) -> ConfigError {
    ConfigError {
        key: key.into(),
        problem: problem.to_string(),
    }
}

/// The settings, checked.
pub(crate) struct Config {
    pub(crate) listen: SocketAddr,
    pub(crate) operator_listen: Option<SocketAddr>,
    pub(crate) store: Place,
    pub(crate) store_next: Option<Place>,
    pub(crate) engine: EngineConfig,
    pub(crate) settings: Settings,
    pub(crate) trusted_proxies: Vec<IpNet>,
    pub(crate) tls: Option<(PathBuf, PathBuf)>,
    pub(crate) hsts: Option<HeaderValue>,
    pub(crate) max_connections: u32,
    pub(crate) request_timeout: Duration,
    pub(crate) shutdown_timeout: Duration,
    /// Where traces go.
    pub(crate) otlp: Option<Uri>,
    pub(crate) log_level: LevelFilter,
    pub(crate) log_json: Option<bool>,
}

impl Config {
    /// Reads the file named by `--config` or `DOORWARD_CONFIG`, the environment, and the flags.
    pub(crate) fn read(arguments: &ArgMatches) -> Result<Config, ConfigError> {
        let mut values = Values::default();
        if let Some(path) = file_named(arguments) {
            let (bytes, found) =
                secret_file::read_any(path.as_ref()).map_err(|error| wrong(path, error))?;
            let text = str::from_utf8(&bytes).map_err(|_| wrong(path, "must be UTF-8"))?;
            values.add_file(path, text)?;
            if values.hold_secrets() {
                let checked = secret_file::check(path.as_ref(), &found);
                checked.map_err(|error| wrong(path, format!("holds a secret, and {error}")))?;
            }
        }
        values.add_environment(std::env::vars_os())?;
        for (key, _, _) in KEYS {
            if let Some(value) = arguments.get_one::<String>(key) {
                values.0.insert((*key).into(), value.clone());
            }
        }
        values.check()
    }
}

/// An empty variable counts as unset, as shells and unit files can hardly unset one.
fn file_named(arguments: &ArgMatches) -> Option<&String> {
    let path = arguments.get_one::<String>("config");
    let variable = arguments.value_source("config") == Some(ValueSource::EnvVariable);
    path.filter(|path| !(variable && path.is_empty()))
}

/// Texts by key.
#[derive(Default)]
pub(crate) struct Values(BTreeMap<String, String>);

impl Values {
    pub(crate) fn add_file(&mut self, path: &str, text: &str) -> Result<(), ConfigError> {
        // The parser's own message would quote the line, and with it a secret.
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
            let before = error.span().map_or(0, |span| span.start.min(text.len()));
            let line = text.get(..before).unwrap_or(text).matches('\n').count() + 1;
            wrong(
                path,
                format!("line {line} is not TOML: {}", error.message()),
            )
        })?;
        for (key, value) in table {
            known(&key)?;
            let value =
                plain(&value).ok_or_else(|| wrong(&key, "must be a text, number or list"))?;
            self.0.insert(key, value);
        }
        Ok(())
    }

    fn add_environment(
        &mut self,
        variables: impl Iterator<Item = (std::ffi::OsString, std::ffi::OsString)>,
    ) -> Result<(), ConfigError> {
        for (name, value) in variables {
            let Some(key) = name
                .to_str()
                .and_then(|name| name.strip_prefix("DOORWARD_"))
            else {
                continue;
            };
            let key = key.to_lowercase();
            if key == "config" {
                continue;
            }
            known(&key)?;
            let value = value
                .into_string()
                .map_err(|_| wrong(&key, "must be UTF-8"))?;
            self.0.insert(key, value);
        }
        Ok(())
    }

    fn text(&self, key: &str) -> &str {
        let default = KEYS
            .iter()
            .find(|(known, _, _)| *known == key)
            .map_or("", |(_, d, _)| d);
        self.0.get(key).map_or(default, String::as_str)
    }

    fn maybe(&self, key: &str) -> Option<String> {
        Some(self.text(key).to_owned()).filter(|text| !text.is_empty())
    }

    fn parsed<T: FromStr<Err: fmt::Display>>(&self, key: &str) -> Result<T, ConfigError> {
        self.text(key).parse().map_err(|error| wrong(key, error))
    }

    fn list(&self, key: &str) -> Vec<String> {
        let items = self
            .text(key)
            .split(',')
            .map(str::trim)
            .filter(|item| !item.is_empty());
        items.map(Into::into).collect()
    }

    fn each<T, E: fmt::Display>(
        &self,
        key: &str,
        of: impl Fn(&str) -> Result<T, E>,
    ) -> Result<Vec<T>, ConfigError> {
        let items = self.list(key);
        let each: Result<_, _> = items.iter().map(|item| of(item)).collect();
        each.map_err(|error| wrong(key, error))
    }

    fn switch(&self, key: &str) -> Result<bool, ConfigError> {
        match self.text(key) {
            "true" | "on" => Ok(true),
            "false" | "off" => Ok(false),
            _ => Err(wrong(key, "must be true or false")),
        }
    }

    fn duration(&self, key: &str) -> Result<Duration, ConfigError> {
        duration(self.text(key)).ok_or_else(|| {
            wrong(
                key,
                "must be a number of seconds, or one with a unit: 30s, 15m, 12h, 30d",
            )
        })
    }

    fn webhooks(&self) -> Result<WebhookConfig, ConfigError> {
        let webhooks = WebhookConfig {
            urls: self.each("webhook_urls", HookUrl::parse)?,
            secrets: self.each("webhook_secrets", HookSecret::parse)?,
            events: self.each("webhook_events", WebhookConfig::event)?,
        };
        let checked = webhooks.check(self.switch("event_log")?);
        checked.map_err(|error| wrong("settings", error))?;
        Ok(webhooks)
    }

    fn events(&self) -> Result<EventConfig, ConfigError> {
        let seal = self.maybe("seal_secret").map(Zeroizing::new);
        let seal = seal.as_ref().map(|secret| secret.as_bytes());
        let network = NetworkForm::parse(self.text("event_network"), seal);
        let events = EventConfig {
            on: self.switch("event_log")?,
            network: network.map_err(|problem| wrong("event_network", problem))?,
            retention: self.duration("event_retention")?,
            refreshes: self.duration("event_refreshes")?,
            listener: None,
        };
        events
            .check()
            .map_err(|problem| wrong("settings", problem))?;
        Ok(events)
    }

    pub(crate) fn check(&self) -> Result<Config, ConfigError> {
        let policy = self.policy()?;
        policy.check().map_err(|error| wrong("lifetimes", error))?;
        let settings = self.settings()?;
        settings.check().map_err(|error| wrong("settings", error))?;
        let operator = Some(self.text("operator_listen")).filter(|text| *text != "off");
        let operator: Option<SocketAddr> = operator
            .map(|_| self.parsed("operator_listen"))
            .transpose()?;
        let (listen, tls) = (self.parsed("listen")?, self.tls()?);
        if exposure::is_in_the_clear(&settings, listen, tls.is_some()) {
            return Err(wrong("cookie_secure", IN_THE_CLEAR));
        }
        Ok(Config {
            listen,
            operator_listen: operator,
            store: self.store()?,
            store_next: self.store_next()?,
            engine: EngineConfig {
                policy,
                key: self.key()?,
                hashing: self.hashing()?,
                adoption: self.adoption()?,
                webhooks: self.webhooks()?,
                events: self.events()?,
            },
            trusted_proxies: self.networks()?,
            tls,
            hsts: self.hsts()?,
            max_connections: self.within("max_connections", 1, 1_000_000)?,
            request_timeout: self.at_most_an_hour("request_timeout", 1)?,
            shutdown_timeout: self.at_most_an_hour("shutdown_timeout", 0)?,
            otlp: self.otlp()?,
            log_level: self.log_level()?,
            log_json: self.log_json()?,
            settings,
        })
    }

    fn policy(&self) -> Result<Policy, ConfigError> {
        let level = self.maybe("assurance").map(|level| level.parse());
        let level: Option<Assurance> = level
            .transpose()
            .map_err(|error| wrong("assurance", error))?;
        let unset = level.map_or_else(Policy::default, Assurance::policy);
        let or = |key: &str, unset| match self.0.get(key) {
            Some(_) => self.duration(key),
            None => Ok(unset),
        };
        Ok(Policy {
            access_ttl: or("access_ttl", unset.access_ttl)?,
            refresh_ttl: or("refresh_ttl", unset.refresh_ttl)?,
            session_ttl: or("session_ttl", unset.session_ttl)?,
            browser_refresh_ttl: self.maybe_duration("browser_refresh_ttl")?,
            browser_session_ttl: self.maybe_duration("browser_session_ttl")?,
            privileged_refresh_ttl: self.maybe_duration("privileged_refresh_ttl")?,
            privileged_session_ttl: self.maybe_duration("privileged_session_ttl")?,
            cap: self.cap()?,
            refresh_window: self.maybe_duration("refresh_window")?,
            fresh_ttl: or("fresh_ttl", unset.fresh_ttl)?,
            fresh_needed_for: match self.0.get("fresh_needed_for") {
                Some(_) => self.fresh_needed_for()?,
                None => unset.fresh_needed_for,
            },
            reset_ttl: self.duration("reset_ttl")?,
            assurance: level,
            clock_skew: self.duration("clock_skew")?,
            revocation_allowance: self.maybe_duration("revocation_allowance")?,
            expiry_jitter_percent: self.parsed("expiry_jitter_percent")?,
            issuer: self.maybe("issuer"),
            audience: self.maybe("audience"),
            ..Policy::default()
        })
    }

    fn maybe_duration(&self, key: &str) -> Result<Option<Duration>, ConfigError> {
        let set = self.maybe(key).map(|_| self.duration(key));
        set.transpose()
    }

    fn cap(&self) -> Result<Option<Cap>, ConfigError> {
        let over = self.parsed("sessions_over_cap")?;
        match self.maybe("sessions_per_user") {
            Some(_) => Ok(Some(Cap {
                sessions: self.parsed("sessions_per_user")?,
                over,
            })),
            None if self.0.contains_key("sessions_over_cap") => {
                Err(wrong("sessions_over_cap", "needs sessions_per_user"))
            }
            None => Ok(None),
        }
    }

    fn fresh_needed_for(&self) -> Result<Vec<Sensitive>, ConfigError> {
        let named = |error| wrong("fresh_needed_for", error);
        let each = self.list("fresh_needed_for").into_iter();
        each.map(|name| name.parse().map_err(named)).collect()
    }

    fn settings(&self) -> Result<Settings, ConfigError> {
        Ok(Settings {
            url_prefix: self.text("url_prefix").into(),
            delivery: self.delivery()?,
            cookie_secure: self.switch("cookie_secure")?,
            cookie_domain: self.maybe("cookie_domain"),
            host_cookies: self.switch("host_cookies")?,
            access_cookie_path: self.maybe("access_cookie_path"),
            allowed_origins: self.list("allowed_origins"),
            allow_same_site: self.switch("allow_same_site")?,
            csrf_strict: self.switch("csrf_strict")?,
            docs: self.switch("docs")?,
            register: self.switch("register")?,
            throttle: self.throttle()?,
            verify: true,
            // Its name there, unless it was configured.
            adopted_cookie_name: self
                .maybe("adopt_until")
                .map(|_| self.text("adopt_cookie").to_owned()),
            ..Settings::default()
        })
    }

    fn throttle(&self) -> Result<Option<Budgets>, ConfigError> {
        let mut budgets = Budgets {
            device_ttl: self.duration("device_ttl")?,
            ..Budgets::default()
        };
        let names = KEYS.iter().map(|(key, _, _)| *key);
        for key in names.filter(|key| key.starts_with("throttle_")) {
            let set = budgets.set(key, self.text(key));
            set.map_err(|error| wrong(key, error))?;
        }
        Ok(self.switch("throttle")?.then_some(budgets))
    }

    fn delivery(&self) -> Result<Vec<Delivery>, ConfigError> {
        let delivery = |name: &String| match name.as_str() {
            "cookie" => Ok(Delivery::Cookie),
            "body" => Ok(Delivery::Body),
            _ => Err(wrong(
                "delivery",
                "must be cookie, body, or both, comma-separated",
            )),
        };
        self.list("delivery").iter().map(delivery).collect()
    }

    fn store_next(&self) -> Result<Option<Place>, ConfigError> {
        let text = self.text("store_next");
        let place = (!text.is_empty()).then(|| text.parse()).transpose();
        match place.map_err(|error: NotAPlace| wrong("store_next", error))? {
            Some(Place::Memory) => Err(wrong("store_next", "nothing can be moved into memory")),
            place => Ok(place),
        }
    }

    fn store(&self) -> Result<Place, ConfigError> {
        let place = self.text("store").parse();
        place.map_err(|error: NotAPlace| wrong("store", error))
    }

    fn hashing(&self) -> Result<Hashing, ConfigError> {
        let mut hashing = Hashing::default();
        hashing.params.memory_kib = self.within("password_memory_kib", 8, 256 * 1024)?;
        hashing.params.iterations = self.within("password_iterations", 1, 16)?;
        hashing.params.parallelism = self.within("password_parallelism", 1, 16)?;
        if hashing.params.memory_kib < 8 * hashing.params.parallelism {
            return Err(wrong("password_memory_kib", "must be at least 8 a lane"));
        }
        if self.maybe("password_threads").is_some() {
            hashing.threads = self.within("password_threads", 1, 64)? as usize;
        }
        hashing.queue = self.within("password_queue", 1, 100_000)? as usize;
        hashing.rules = self.rules()?;
        Ok(hashing)
    }

    fn otlp(&self) -> Result<Option<Uri>, ConfigError> {
        let wrong = |problem| wrong("otlp_endpoint", problem);
        otlp::endpoint(self.0.get("otlp_endpoint"), |name| std::env::var(name).ok()).map_err(wrong)
    }

    fn hsts(&self) -> Result<Option<HeaderValue>, ConfigError> {
        let text = self.text("hsts");
        if text == "off" {
            return Ok(None);
        }
        let span = text.split(';').next().unwrap_or_default();
        let span = span.trim().strip_prefix("max-age=");
        let is_span = span.is_some_and(|span| span.parse::<u32>().is_ok());
        let value = HeaderValue::from_str(text).ok().filter(|_| is_span);
        let problem =
            "must begin with max-age= and seconds, as max-age=31536000; includeSubDomains";
        value.map(Some).ok_or_else(|| wrong("hsts", problem))
    }

    fn rules(&self) -> Result<Rules, ConfigError> {
        let breached = self.maybe("breached_passwords_file").map(|path| {
            let named = |error| wrong("breached_passwords_file", format!("{path}: {error}"));
            Breached::open(&path).map_err(named)
        });
        let mut rules = Rules {
            min_length: self.within("password_min_length", 8, 128)? as usize,
            service_name: self.maybe("service_name"),
            breached: breached.transpose()?,
        };
        rules.name_after(self.maybe("issuer").as_deref());
        Ok(rules)
    }

    fn within(&self, key: &str, least: u32, most: u32) -> Result<u32, ConfigError> {
        let number = self.parsed(key)?;
        if (least..=most).contains(&number) {
            Ok(number)
        } else {
            Err(wrong(key, format!("must lie between {least} and {most}")))
        }
    }

    fn at_most_an_hour(&self, key: &str, least: u64) -> Result<Duration, ConfigError> {
        let time = self.duration(key)?;
        if (least..=3600).contains(&time.as_secs()) {
            Ok(time)
        } else {
            Err(wrong(key, format!("must lie between {least}s and 1h")))
        }
    }

    fn networks(&self) -> Result<Vec<IpNet>, ConfigError> {
        let network = |text: &String| {
            let address = || text.parse::<std::net::IpAddr>().map(IpNet::from);
            text.parse::<IpNet>()
                .or_else(|_| address())
                .map_err(|error| wrong("trusted_proxies", error))
        };
        let networks = self.list("trusted_proxies");
        let networks: Vec<_> = networks.iter().map(network).collect::<Result<_, _>>()?;
        let checked = check_proxies(&networks);
        checked.map_err(|error| wrong("settings", error))?;
        Ok(networks)
    }

    fn tls(&self) -> Result<Option<(PathBuf, PathBuf)>, ConfigError> {
        match (self.maybe("tls_cert_file"), self.maybe("tls_key_file")) {
            (Some(cert), Some(key)) => {
                self.check_tls_key(&key)?;
                Ok(Some((cert.into(), key.into())))
            }
            (None, None) => Ok(None),
            _ => Err(wrong("tls_cert_file", "and tls_key_file go together")),
        }
    }

    fn log_level(&self) -> Result<LevelFilter, ConfigError> {
        match self.text("log_level") {
            "error" => Ok(LevelFilter::ERROR),
            "warn" => Ok(LevelFilter::WARN),
            "info" => Ok(LevelFilter::INFO),
            "debug" => Ok(LevelFilter::DEBUG),
            "trace" => Ok(LevelFilter::TRACE),
            _ => Err(wrong(
                "log_level",
                "must be error, warn, info, debug or trace",
            )),
        }
    }

    fn log_json(&self) -> Result<Option<bool>, ConfigError> {
        match self.text("log_format") {
            "auto" => Ok(None),
            "human" => Ok(Some(false)),
            "json" => Ok(Some(true)),
            _ => Err(wrong("log_format", "must be human, json or auto")),
        }
    }
}

fn known(key: &str) -> Result<(), ConfigError> {
    if KEYS.iter().any(|(known, _, _)| *known == key) {
        Ok(())
    } else {
        Err(wrong(
            key,
            "there is no such setting; `doorward serve --help` lists them",
        ))
    }
}

fn plain(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Boolean(switch) => Some(switch.to_string()),
        toml::Value::Array(items) => {
            let items: Option<Vec<_>> = items.iter().map(|item| item.as_str()).collect();
            items.map(|items| items.join(","))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use doorward_core::limits::OverCap;

    use super::table::Key;
    use super::*;
    use doorward_core::Timestamp;

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
}
