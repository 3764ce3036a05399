//! Every setting in one table, and how it is read: file, then environment, then flags; each
//! overrides the one before. Unknown keys are refused.

mod adoption;
mod keys;
mod otlp;
mod table;
#[cfg(test)]
mod tests;
mod values;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::ArgMatches;
use clap::parser::ValueSource;
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
use self::values::wrong;
pub(crate) use self::values::{ConfigError, Values};
use crate::exposure::{self, IN_THE_CLEAR};
use crate::secret_file;

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

impl Values {
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
