//! What `config.py` hands over, as the engine's own types. Each refusal begins with the option's
//! name, so that Python can name the app's own key.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use doorward_core::adoption::{Adoption, AdoptionConfig, Names};
use doorward_core::event_log::NetworkForm;
use doorward_core::keys::{Algorithm, KeyConfig, check_secret};
use doorward_core::limits::{Cap, OverCap};
use doorward_core::password::Breached;
use doorward_core::throttle::Budgets;
use doorward_core::webhook::{HookSecret, HookUrl, WebhookConfig};
use doorward_core::{Assurance, Delivery, EngineConfig, Sensitive, Timestamp, jws};
use doorward_http::{DoubleSubmit, Endpoint, Location, SameSite, Settings, check_proxies};
use doorward_stores::Place;
use doorward_stores::place::NotAPlace;
use http::Method;
use ipnet::IpNet;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyMapping, PyString};
use zeroize::Zeroizing;

/// Everything that a door is made from.
#[derive(Clone)]
pub(crate) struct Options {
    pub(crate) place: Place,
    /// The store that it is to be left for.
    pub(crate) place_next: Option<Place>,
    pub(crate) engine: EngineConfig,
    pub(crate) settings: Settings,
    pub(crate) trusted_proxies: Vec<IpNet>,
    /// Whether the built-in accounts answer every question.
    pub(crate) settles: bool,
}

pub(crate) fn wrong(name: &str, problem: impl std::fmt::Display) -> PyErr {
    PyValueError::new_err(format!("{name}: {problem}"))
}

impl Options {
    /// Reads and checks all of them; one that is not known here is refused.
    pub(crate) fn read(options: &Bound<'_, PyMapping>) -> PyResult<Options> {
        let mut read = Reading::default();
        // First: what is set beside it may only be stricter.
        if let Some(level) = options
            .get_item("assurance")
            .ok()
            .filter(|it| !it.is_none())
        {
            let level = level
                .extract::<String>()
                .and_then(|level| parsed::<Assurance>(&level));
            read.options.engine.policy = level?.policy();
        }
        for item in options.items()?.iter() {
            let (name, value): (Bound<'_, PyString>, Bound<'_, PyAny>) = item.extract()?;
            let name = name.to_str()?;
            if !value.is_none() {
                read.take(name, &value)
                    .map_err(|error| named(name, &error, value.py()))?;
            }
        }
        read.check()
    }
}

/// Whatever is wrong with a value is said of its option.
fn named(name: &str, error: &PyErr, py: Python<'_>) -> PyErr {
    wrong(name, error.value(py))
}

struct Reading {
    options: Options,
    secret: Option<Zeroizing<Vec<u8>>>,
    private_key: Option<Zeroizing<Vec<u8>>>,
    algorithm: Option<Algorithm>,
    sessions_per_user: Option<NonZeroU32>,
    over_cap: Option<OverCap>,
    throttle: bool,
    budgets: Budgets,
    event_network: Option<String>,
    adopt: Adopt,
}

/// Of another program's tokens. Without a date nothing of it counts.
#[derive(Default)]
struct Adopt {
    until: Option<Timestamp>,
    secret: Option<Zeroizing<Vec<u8>>>,
    key: Option<Zeroizing<Vec<u8>>>,
    algorithm: Option<jws::Algorithm>,
    issuer: Option<Vec<String>>,
    audience: Option<Vec<String>>,
    claim: Option<String>,
    names: Names,
}

impl Adopt {
    fn adoption(&self) -> PyResult<Option<Arc<Adoption>>> {
        let Some(until) = self.until else {
            return Ok(None);
        };
        let hs256 = jws::Algorithm::Hs(jws::Sha::Sha256);
        let algorithm = self.algorithm.unwrap_or(hs256);
        let (option, key) = match algorithm {
            jws::Algorithm::Hs(_) => ("adopt_secret", &self.secret),
            _ => ("adopt_key", &self.key),
        };
        let key = key.clone();
        let adoption = Adoption::new(AdoptionConfig {
            algorithm,
            key: key.ok_or_else(|| wrong(option, "must be set where adopt_until is"))?,
            until,
            issuer: self.issuer.clone(),
            audience: self.audience.clone(),
            identity_claim: self.claim.clone().unwrap_or_else(|| "sub".into()),
            names: self.names,
        });
        let adoption = adoption.map_err(|error| wrong(option, error))?;
        Ok(Some(Arc::new(adoption)))
    }
}

fn foreign_algorithm(value: &Bound<'_, PyAny>) -> PyResult<jws::Algorithm> {
    let algorithm = jws::Algorithm::named(&value.extract::<String>()?);
    algorithm.ok_or_else(|| PyValueError::new_err("is no algorithm that is known"))
}

fn names(text: &str) -> PyResult<Names> {
    match text {
        "id" => Ok(Names::Ids),
        "username" => Ok(Names::Usernames),
        _ => Err(PyValueError::new_err("must be id or username")),
    }
}

impl Default for Reading {
    fn default() -> Self {
        Reading {
            options: Options {
                place: Place::Memory,
                place_next: None,
                engine: EngineConfig::default(),
                settings: Settings::default(),
                trusted_proxies: Vec::new(),
                settles: true,
            },
            secret: None,
            private_key: None,
            algorithm: None,
            sessions_per_user: None,
            over_cap: None,
            throttle: true,
            budgets: Budgets::default(),
            adopt: Adopt::default(),
            event_network: None,
        }
    }
}

impl Reading {
    fn take(&mut self, name: &str, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let Options {
            engine, settings, ..
        } = &mut self.options;
        match name {
            "store_next" => {
                self.options.place_next = Some(place(&value.extract::<String>()?)?);
            }
            "store" => self.options.place = place(&value.extract::<String>()?)?,
            "url_prefix" => settings.url_prefix = value.extract()?,
            "delivery" => settings.delivery = each(value, delivery)?,
            "cookie_secure" => settings.cookie_secure = value.extract()?,
            "cookie_domain" => settings.cookie_domain = Some(value.extract()?),
            "host_cookies" => settings.host_cookies = value.extract()?,
            "access_cookie_path" => settings.access_cookie_path = Some(value.extract()?),
            "allowed_origins" => settings.allowed_origins = value.extract()?,
            "allow_same_site" => settings.allow_same_site = value.extract()?,
            "csrf_strict" => settings.csrf_strict = value.extract()?,
            "docs" => settings.docs = value.extract()?,
            "device_cookie_path" => settings.device_cookie_path = Some(value.extract()?),
            "register" => settings.register = value.extract()?,
            "change_password" => settings.change_password = value.extract()?,
            "unmounted" => settings.unmounted = each(value, endpoint)?,
            "same_site" => settings.same_site = Some(same_site(&value.extract::<String>()?)?),
            "access_cookie_name" => settings.access_cookie_name = Some(value.extract()?),
            "refresh_cookie_name" => settings.refresh_cookie_name = Some(value.extract()?),
            "refresh_cookie_path" => settings.refresh_cookie_path = Some(value.extract()?),
            "session_cookie" => settings.session_cookie = Some(value.extract()?),
            "locations" => settings.locations = Some(each(value, location)?),
            "header_name" => settings.header_name = value.extract()?,
            "header_type" => settings.header_type = value.extract()?,
            "query_name" => settings.query_name = value.extract()?,
            "query_value_prefix" => settings.query_value_prefix = value.extract()?,
            "json_key" => settings.json_key = value.extract()?,
            "refresh_json_key" => settings.refresh_json_key = value.extract()?,
            "message_key" => settings.message_key = value.extract()?,
            "double_submit" => {
                engine.policy.csrf = true;
                settings.double_submit = Some(double_submit(value.cast()?)?);
            }
            "renew" => settings.renew = value.extract()?,
            "settles" => self.options.settles = value.extract()?,
            "trusted_proxies" => self.options.trusted_proxies = each(value, network)?,
            _ => return self.take_of_engine(name, value),
        }
        Ok(())
    }

    fn take_of_engine(&mut self, name: &str, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let EngineConfig {
            policy,
            key,
            hashing,
            events,
            webhooks,
            ..
        } = &mut self.options.engine;
        match name {
            "access_ttl" => policy.access_ttl = seconds(value)?,
            "refresh_ttl" => policy.refresh_ttl = seconds(value)?,
            "session_ttl" => policy.session_ttl = seconds(value)?,
            "browser_refresh_ttl" => policy.browser_refresh_ttl = Some(seconds(value)?),
            "browser_session_ttl" => policy.browser_session_ttl = Some(seconds(value)?),
            "privileged_refresh_ttl" => policy.privileged_refresh_ttl = Some(seconds(value)?),
            "privileged_session_ttl" => policy.privileged_session_ttl = Some(seconds(value)?),
            "sessions_per_user" => {
                let number = within(value, 1, u32::MAX)?;
                self.sessions_per_user = NonZeroU32::new(number);
            }
            "sessions_over_cap" => self.over_cap = Some(parsed(&value.extract::<String>()?)?),
            "fresh_needed_for" => policy.fresh_needed_for = each(value, parsed::<Sensitive>)?,
            "assurance" => {}
            "reset_ttl" => policy.reset_ttl = seconds(value)?,
            "refresh_window" => policy.refresh_window = Some(seconds(value)?),
            "fresh_ttl" => policy.fresh_ttl = seconds(value)?,
            "clock_skew" => policy.clock_skew = seconds(value)?,
            "revocation_allowance" => policy.revocation_allowance = Some(seconds(value)?),
            "expiry_jitter_percent" => {
                policy.expiry_jitter_percent = u8::try_from(within(value, 0, 50)?)?;
            }
            "issuer" => policy.issuer = Some(value.extract()?),
            "audience" => policy.audience = Some(value.extract()?),
            "throttle" => self.throttle = value.extract()?,
            "throttle_account" | "throttle_network" | "throttle_overall" | "throttle_device" => {
                let set = self.budgets.set(name, &value.extract::<String>()?);
                set.map_err(|error| PyValueError::new_err(error.to_string()))?;
            }
            "device_ttl" => self.budgets.device_ttl = seconds(value)?,
            "exp_leeway" => policy.exp_leeway = seconds(value)?,
            "nbf" => policy.nbf = value.extract()?,
            "identity_claim" => policy.identity_claim = Some(value.extract()?),
            "algorithm" => self.algorithm = Some(parsed(&value.extract::<String>()?)?),
            "secret" => self.secret = Some(bytes(value)?),
            "private_key" => self.private_key = Some(bytes(value)?),
            "seal_secret_previous" => {
                let secrets: Vec<Bound<'_, PyAny>> = value.extract()?;
                let secrets = secrets.iter().map(bytes).collect::<PyResult<_>>();
                key.seal_secret_previous = secrets?;
            }
            "seal_secret" => key.seal_secret = Some(bytes(value)?),
            "adopt_until" => self.adopt.until = Some(parsed(&value.extract::<String>()?)?),
            "adopt_secret" => self.adopt.secret = Some(bytes(value)?),
            "adopt_key" => self.adopt.key = Some(bytes(value)?),
            "adopt_algorithm" => self.adopt.algorithm = Some(foreign_algorithm(value)?),
            "adopt_issuer" => self.adopt.issuer = Some(value.extract()?),
            "adopt_audience" => self.adopt.audience = Some(value.extract()?),
            "adopt_claim" => self.adopt.claim = Some(value.extract()?),
            "adopt_names" => self.adopt.names = names(&value.extract::<String>()?)?,
            "webhook_urls" => webhooks.urls = each(value, worded(HookUrl::parse))?,
            "webhook_secrets" => webhooks.secrets = each(value, worded(HookSecret::parse))?,
            "webhook_events" => webhooks.events = each(value, worded(WebhookConfig::event))?,
            "event_log" => events.on = value.extract()?,
            "event_network" => self.event_network = Some(value.extract()?),
            "event_retention" => events.retention = seconds(value)?,
            "event_refreshes" => events.refreshes = seconds(value)?,
            "password_memory_kib" => hashing.params.memory_kib = within(value, 8, 256 * 1024)?,
            "password_iterations" => hashing.params.iterations = within(value, 1, 16)?,
            "password_parallelism" => hashing.params.parallelism = within(value, 1, 16)?,
            "password_threads" => hashing.threads = within(value, 1, 64)? as usize,
            "password_queue" => hashing.queue = within(value, 1, 100_000)? as usize,
            "password_min_length" => hashing.rules.min_length = within(value, 8, 128)? as usize,
            "service_name" => hashing.rules.service_name = Some(value.extract()?),
            "breached_passwords_file" => hashing.rules.breached = Some(breached(value)?),
            _ => return Err(no_such_option()),
        }
        Ok(())
    }

    fn check(self) -> PyResult<Options> {
        let (key, adoption) = (self.key()?, self.adopt.adoption()?);
        let cap = self.cap()?;
        let network = self.event_network.as_deref().unwrap_or("truncated");
        let seal = key.seal_secret.as_ref().map(|secret| secret.as_slice());
        let network = NetworkForm::parse(network, seal);
        let mut options = self.options;
        options.engine.events.network =
            network.map_err(|problem| self::wrong("event_network", problem))?;
        options.engine.key = key;
        options.engine.policy.cap = cap;
        options.settings.throttle = self.throttle.then_some(self.budgets);
        options.engine.adoption = adoption;
        let issuer = options.engine.policy.issuer.as_deref();
        options.engine.hashing.rules.name_after(issuer);
        let wrong = |problem: &dyn std::fmt::Display| PyValueError::new_err(problem.to_string());
        options
            .engine
            .policy
            .check()
            .map_err(|error| wrong(&error))?;
        options
            .engine
            .events
            .check()
            .map_err(|error| wrong(&error))?;
        let webhooks = options.engine.webhooks.check(options.engine.events.on);
        webhooks.map_err(|error| wrong(&error))?;
        options.settings.check().map_err(|error| wrong(&error))?;
        check_proxies(&options.trusted_proxies).map_err(|error| wrong(&error))?;
        Ok(options)
    }

    fn cap(&self) -> PyResult<Option<Cap>> {
        match (self.sessions_per_user, self.over_cap) {
            (Some(sessions), over) => Ok(Some(Cap {
                sessions,
                over: over.unwrap_or(OverCap::EndOldest),
            })),
            (None, Some(_)) => Err(wrong("sessions_over_cap", "needs sessions_per_user")),
            (None, None) => Ok(None),
        }
    }

    fn key(&self) -> PyResult<KeyConfig> {
        let default = if self.secret.is_some() {
            Algorithm::HS256
        } else {
            Algorithm::EdDSA
        };
        let algorithm = self.algorithm.unwrap_or(default);
        let key = match (algorithm, &self.secret, &self.private_key) {
            (Algorithm::HS256, Some(secret), _) => {
                check_secret(secret).map_err(|error| wrong("secret", error))?;
                Some(secret.clone())
            }
            (Algorithm::HS256, None, Some(_)) => {
                return Err(wrong("private_key", "HS256 takes a secret instead"));
            }
            (_, _, Some(pem)) => Some(private_key(algorithm, pem)?),
            (_, Some(_), None) => {
                let problem = format!("{} takes a private key instead", algorithm.name());
                return Err(wrong("secret", problem));
            }
            (_, None, None) => None,
        };
        let config = KeyConfig {
            algorithm,
            key,
            seal_secret: self.options.engine.key.seal_secret.clone(),
            seal_secret_previous: self.options.engine.key.seal_secret_previous.clone(),
        };
        if let Some(seal) = &config.seal_secret {
            check_secret(seal).map_err(|error| wrong("seal_secret", error))?;
        }
        let checked = config.check();
        checked.map_err(|error| PyValueError::new_err(error.to_string()))?;
        Ok(config)
    }
}

fn private_key(algorithm: Algorithm, pem: &[u8]) -> PyResult<Zeroizing<Vec<u8>>> {
    let algorithm = jws::Algorithm::named(algorithm.name());
    let key = algorithm.and_then(|algorithm| jws::pkcs8(algorithm, pem).ok());
    key.ok_or_else(|| wrong("private_key", "is no private key of this algorithm in PEM"))
}

fn place(text: &str) -> PyResult<Place> {
    text.parse()
        .map_err(|error: NotAPlace| PyValueError::new_err(error.to_string()))
}

fn seconds(value: &Bound<'_, PyAny>) -> PyResult<Duration> {
    let span = Duration::try_from_secs_f64(value.extract()?);
    span.map_err(|_| PyValueError::new_err("must be a length of time, not negative"))
}

fn breached(value: &Bound<'_, PyAny>) -> PyResult<Breached> {
    let path: PathBuf = value.extract()?;
    let named = |error| PyValueError::new_err(format!("{}: {error}", path.display()));
    Breached::open(&path).map_err(named)
}

fn bytes(value: &Bound<'_, PyAny>) -> PyResult<Zeroizing<Vec<u8>>> {
    let text = value.extract::<String>().map(String::into_bytes);
    text.or_else(|_| value.extract()).map(Zeroizing::new)
}

fn within(value: &Bound<'_, PyAny>, least: u32, most: u32) -> PyResult<u32> {
    let number = value.extract::<u32>().ok();
    let number = number.filter(|number| (least..=most).contains(number));
    number.ok_or_else(|| {
        PyValueError::new_err(format!("must be a number between {least} and {most}"))
    })
}

fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str) -> PyResult<T> {
    text.parse()
        .map_err(|error: T::Err| PyValueError::new_err(error.to_string()))
}

fn each<T>(value: &Bound<'_, PyAny>, of: impl Fn(&str) -> PyResult<T>) -> PyResult<Vec<T>> {
    let texts: Vec<String> = value.extract()?;
    texts.iter().map(|text| of(text)).collect()
}

/// What the engine refuses, as Python has it.
fn worded<T, E: std::fmt::Display>(
    of: impl Fn(&str) -> Result<T, E>,
) -> impl Fn(&str) -> PyResult<T> {
    move |text| of(text).map_err(|error| PyValueError::new_err(error.to_string()))
}

fn same_site(name: &str) -> PyResult<SameSite> {
    match name.to_ascii_lowercase().as_str() {
        "strict" => Ok(SameSite::Strict),
        "lax" => Ok(SameSite::Lax),
        "none" => Ok(SameSite::None),
        _ => Err(PyValueError::new_err("must be Strict, Lax or None")),
    }
}

fn location(name: &str) -> PyResult<Location> {
    match name {
        "cookies" => Ok(Location::Cookie),
        "headers" => Ok(Location::Header),
        "query_string" => Ok(Location::QueryString),
        "json" => Ok(Location::Json),
        _ => Err(PyValueError::new_err(
            "a location must be cookies, headers, query_string or json",
        )),
    }
}

fn double_submit(value: &Bound<'_, PyMapping>) -> PyResult<DoubleSubmit> {
    let mut asked = DoubleSubmit::default();
    for item in value.items()?.iter() {
        let (name, value): (String, Bound<'_, PyAny>) = item.extract()?;
        match name.as_str() {
            "methods" => asked.methods = each(&value, parsed::<Method>)?,
            "in_cookies" => asked.in_cookies = value.extract()?,
            "check_form" => asked.check_form = value.extract()?,
            _ => csrf_name(&mut asked, &name, value.extract()?)?,
        }
    }
    Ok(asked)
}

/// Such as `access_header`.
fn csrf_name(asked: &mut DoubleSubmit, name: &str, value: String) -> PyResult<()> {
    let (names, field) = match name.split_once('_') {
        Some(("access", field)) => (&mut asked.access, field),
        Some(("refresh", field)) => (&mut asked.refresh, field),
        _ => return Err(no_such_option()),
    };
    match field {
        "header" => names.header_name = value,
        "field" => names.field_name = value,
        "cookie_name" => names.cookie_name = value,
        "cookie_path" => names.cookie_path = value,
        _ => return Err(no_such_option()),
    }
    Ok(())
}

fn no_such_option() -> PyErr {
    PyValueError::new_err("there is no such option")
}

pub(crate) fn delivery(name: &str) -> PyResult<Delivery> {
    match name {
        "cookie" => Ok(Delivery::Cookie),
        "body" => Ok(Delivery::Body),
        _ => Err(PyValueError::new_err("delivery must be cookie or body")),
    }
}

fn network(text: &str) -> PyResult<IpNet> {
    let address = || text.parse::<std::net::IpAddr>().map(IpNet::from);
    let network = text.parse::<IpNet>().or_else(|_| address());
    network.map_err(|error| PyValueError::new_err(format!("{text}: {error}")))
}

/// The endpoint of a name of `ROUTES`.
pub(crate) fn endpoint(name: &str) -> PyResult<Endpoint> {
    let route = crate::door::NAMES.iter().find(|(_, known)| *known == name);
    let endpoint = route.map(|(endpoint, _)| *endpoint);
    endpoint.ok_or_else(|| PyValueError::new_err("there is no such endpoint"))
}
