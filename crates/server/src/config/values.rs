//! What is set, as texts by key, and how each becomes a value.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use doorward_core::env::duration;

use super::table::KEYS;

/// What is wrong with a setting, in words that say what to change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {problem}")]
pub(crate) struct ConfigError {
    key: String,
    problem: String,
}

pub(super) fn wrong(key: &str, problem: impl fmt::Display) -> ConfigError {
    ConfigError {
        key: key.into(),
        problem: problem.to_string(),
    }
}

/// Texts by key.
#[derive(Default)]
pub(crate) struct Values(pub(super) BTreeMap<String, String>);

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

    pub(super) fn add_environment(
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

    pub(super) fn text(&self, key: &str) -> &str {
        let default = KEYS
            .iter()
            .find(|(known, _, _)| *known == key)
            .map_or("", |(_, d, _)| d);
        self.0.get(key).map_or(default, String::as_str)
    }

    pub(super) fn maybe(&self, key: &str) -> Option<String> {
        Some(self.text(key).to_owned()).filter(|text| !text.is_empty())
    }

    pub(super) fn parsed<T: FromStr<Err: fmt::Display>>(
        &self,
        key: &str,
    ) -> Result<T, ConfigError> {
        self.text(key).parse().map_err(|error| wrong(key, error))
    }

    pub(super) fn list(&self, key: &str) -> Vec<String> {
        let items = self
            .text(key)
            .split(',')
            .map(str::trim)
            .filter(|item| !item.is_empty());
        items.map(Into::into).collect()
    }

    pub(super) fn each<T, E: fmt::Display>(
        &self,
        key: &str,
        of: impl Fn(&str) -> Result<T, E>,
    ) -> Result<Vec<T>, ConfigError> {
        let items = self.list(key);
        let each: Result<_, _> = items.iter().map(|item| of(item)).collect();
        each.map_err(|error| wrong(key, error))
    }

    pub(super) fn switch(&self, key: &str) -> Result<bool, ConfigError> {
        match self.text(key) {
            "true" | "on" => Ok(true),
            "false" | "off" => Ok(false),
            _ => Err(wrong(key, "must be true or false")),
        }
    }

    pub(super) fn duration(&self, key: &str) -> Result<Duration, ConfigError> {
        duration(self.text(key)).ok_or_else(|| {
            wrong(
                key,
                "must be a number of seconds, or one with a unit: 30s, 15m, 12h, 30d",
            )
        })
    }

    pub(super) fn maybe_duration(&self, key: &str) -> Result<Option<Duration>, ConfigError> {
        let set = self.maybe(key).map(|_| self.duration(key));
        set.transpose()
    }

    pub(super) fn within(&self, key: &str, least: u32, most: u32) -> Result<u32, ConfigError> {
        let number = self.parsed(key)?;
        if (least..=most).contains(&number) {
            Ok(number)
        } else {
            Err(wrong(key, format!("must lie between {least} and {most}")))
        }
    }

    pub(super) fn at_most_an_hour(&self, key: &str, least: u64) -> Result<Duration, ConfigError> {
        let time = self.duration(key)?;
        if (least..=3600).contains(&time.as_secs()) {
            Ok(time)
        } else {
            Err(wrong(key, format!("must lie between {least}s and 1h")))
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
