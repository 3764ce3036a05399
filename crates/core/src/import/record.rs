//! What a line says: columns by whatever name, and the account that they make.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;

use super::{Fault, Options};
use crate::account::canonical;
use crate::env::Timestamp;
use crate::id::UserId;
use crate::password::{Password, PasswordHash};

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Column {
    Username,
    PasswordHash,
    Password,
    Id,
    Disabled,
    Enabled,
    CreatedAt,
}

/// The names of columns, in any case. docs/moving-in.md shows them too.
const NAMES: [(&str, Column); 18] = [
    ("username", Column::Username),
    ("user_name", Column::Username),
    ("login", Column::Username),
    ("password_hash", Column::PasswordHash),
    ("hashed_password", Column::PasswordHash),
    ("pw_hash", Column::PasswordHash),
    ("hash", Column::PasswordHash),
    ("password", Column::Password),
    ("id", Column::Id),
    ("user_id", Column::Id),
    ("disabled", Column::Disabled),
    ("is_disabled", Column::Disabled),
    ("enabled", Column::Enabled),
    ("active", Column::Enabled),
    ("is_active", Column::Enabled),
    ("created_at", Column::CreatedAt),
    ("created", Column::CreatedAt),
    ("date_joined", Column::CreatedAt),
];

impl Column {
    fn named(name: &str) -> Option<Column> {
        let name = name.trim().to_lowercase();
        let found = NAMES.iter().find(|(known, _)| *known == name);
        found.map(|(_, column)| *column)
    }

    /// Whether one of them says all that the other says.
    fn clashes(self, other: Column) -> bool {
        let is_state = |column| matches!(column, Column::Disabled | Column::Enabled);
        let is_secret = |column| matches!(column, Column::PasswordHash | Column::Password);
        self == other || is_state(self) && is_state(other) || is_secret(self) && is_secret(other)
    }
}

/// The columns of a file of CSV.
pub(super) struct Columns(Vec<Option<Column>>);

impl Columns {
    pub(super) fn of(
        names: &[String],
        passwords: bool,
        ignore_others: bool,
    ) -> Result<Columns, Box<str>> {
        if names.iter().all(|name| Column::named(name).is_none()) {
            return Err("the first line names no column that is known: is it missing?".into());
        }
        let mut columns: Vec<Option<Column>> = Vec::new();
        for (place, name) in (1..).zip(names) {
            let column = Column::named(name);
            if column.is_none() && !ignore_others {
                let name = shown(name).unwrap_or_default();
                return Err(format!(
                    "the first line names the columns, and column {place} {name} is none that is \
                     known; rename it, or say --ignore-others"
                )
                .into());
            }
            if column.is_some_and(|new| columns.iter().flatten().any(|old| old.clashes(new))) {
                return Err(format!("the column {name} says what another says already").into());
            }
            columns.push(column);
        }
        let has = |column| columns.contains(&Some(column));
        if !has(Column::Username) {
            return Err("there is no column username; the first line names the columns".into());
        }
        match (passwords, has(Column::PasswordHash), has(Column::Password)) {
            (false, _, true) => Err(PLAIN.into()),
            (false, false, _) => Err("there is no column password_hash".into()),
            (true, true, _) => Err("with --passwords there is no column password_hash".into()),
            (true, _, false) => Err("with --passwords there must be a column password".into()),
            _ => Ok(Columns(columns)),
        }
    }

    pub(super) fn record<'a>(
        &self,
        fields: impl ExactSizeIterator<Item = Option<&'a str>>,
    ) -> Result<Record, Fault> {
        if fields.len() != self.0.len() {
            let words = format!(
                "has {} fields, and the first line {}; a field with a comma stands in quotes",
                fields.len(),
                self.0.len()
            );
            return Err(Fault::new("fields_missing", words));
        }
        let mut record = Record::default();
        for (column, field) in self.0.iter().zip(fields) {
            let field = field.ok_or_else(not_utf8)?;
            if let Some(column) = column {
                record.set(*column, field.into());
            }
        }
        Ok(record)
    }
}

/// What a column of passwords is answered with.
const PLAIN: &str = "password is for plain-text passwords, which --passwords hashes (slowly); hashes \
     are in a column password_hash";

/// A name, where it looks like one. In its place may stand a hash or a password, which is never shown.
fn shown(name: &str) -> Option<&str> {
    let is_part = |char: char| char.is_alphanumeric() || matches!(char, '_' | '-' | ' ');
    let is_name = name.chars().count() <= 40 && name.chars().all(is_part);
    is_name.then_some(name)
}

fn not_utf8() -> Fault {
    Fault::new("not_utf8", "is not UTF-8")
}

/// The fields of a line that are known. Its `Debug` would show passwords: there is none.
#[derive(Default)]
pub(super) struct Record {
    fields: Vec<(Column, String)>,
    /// The first field of another name.
    other: Option<String>,
}

impl Record {
    fn set(&mut self, column: Column, text: String) {
        self.fields.push((column, text));
    }

    fn take(&mut self, column: Column) -> Option<String> {
        let at = self.fields.iter().position(|(own, _)| *own == column)?;
        Some(self.fields.swap_remove(at).1)
    }

    /// An object of texts, whole numbers and truth values.
    pub(super) fn of_json(line: &[u8]) -> Result<Record, Fault> {
        let line = std::str::from_utf8(line).map_err(|_| not_utf8())?;
        let Members(members) = serde_json::from_str(line)
            .map_err(|_| Fault::new("not_json", "is not one JSON object"))?;
        let mut record = Record::default();
        for (name, value) in members {
            let Some(column) = Column::named(&name) else {
                record.other.get_or_insert(name);
                continue;
            };
            if record.fields.iter().any(|(old, _)| old.clashes(column)) {
                let words = format!("{name} says what another member says already");
                return Err(Fault::new("field_twice", words));
            }
            match scalar(&value) {
                Some(text) => record.set(column, text),
                None if value.is_null() && matches!(column, Column::Id | Column::CreatedAt) => {}
                None => {
                    let words = format!("{name} must be a text");
                    return Err(Fault::new("field_invalid", words));
                }
            }
        }
        Ok(record)
    }

    /// The account that it describes.
    pub(super) fn candidate(
        mut self,
        options: Options,
        now: Timestamp,
    ) -> Result<Candidate, Fault> {
        let typed = self.take(Column::Username);
        let typed = typed.filter(|name| !name.is_empty());
        let typed = typed.ok_or_else(|| Fault::new("username_missing", "has no username"))?;
        let username = canonical(&typed).map_err(|_| {
            let words = "the username must have 1 to 128 characters, none of them invisible, no \
                space at an end";
            Fault::new("username_invalid", words)
        })?;
        self.rest(username.clone(), options, now)
            .map_err(|fault| fault.of(&username))
    }

    fn rest(
        mut self,
        username: Box<str>,
        options: Options,
        now: Timestamp,
    ) -> Result<Candidate, Fault> {
        if let Some(other) = self.other.take().filter(|_| !options.ignore_others) {
            let name = shown(&other).unwrap_or("a name that is none");
            let words =
                format!("{name} is no member that is known; rename it, or say --ignore-others");
            return Err(Fault::new("field_unknown", words));
        }
        Ok(Candidate {
            secret: self.secret(options.passwords)?,
            id: self.id()?,
            disabled: self.disabled()?,
            created_at: self.created_at(now)?,
            username,
        })
    }

    fn secret(&mut self, passwords: bool) -> Result<Secret, Fault> {
        let given = |text: Option<String>| text.filter(|text| !text.is_empty());
        let hash = given(self.take(Column::PasswordHash)).map(|text| PasswordHash::from_phc(&text));
        let password = given(self.take(Column::Password));
        match (passwords, hash, password) {
            (false, _, Some(_)) => Err(Fault::new("password_plain", PLAIN)),
            (false, None, None) => Err(Fault::new("hash_missing", "has no password_hash")),
            (false, Some(hash), None) => match hash.refusal() {
                Some(words) => Err(Fault::new(
                    "hash_refused",
                    format!("the hash is refused: {words}"),
                )),
                None => Ok(Secret::Hash(hash)),
            },
            (true, Some(_), _) => {
                let words = "has a password_hash, which goes without --passwords";
                Err(Fault::new("field_unknown", words))
            }
            (true, None, None) => Err(Fault::new("password_missing", "has no password")),
            (true, None, Some(text)) if PasswordHash::from_phc(&text).is_known() => {
                let words = "the password is a hash: name the column password_hash, and go without \
                     --passwords";
                Err(Fault::new("password_is_hash", words))
            }
            (true, None, Some(text)) => Password::new(&text).map(Secret::Password).map_err(|_| {
                let words = "the password must have 1 to 1,024 bytes and no NUL";
                Fault::new("password_invalid", words)
            }),
        }
    }

    fn id(&mut self) -> Result<Option<UserId>, Fault> {
        let text = self.take(Column::Id).filter(|text| !text.is_empty());
        let id = text.map(|text| UserId::new(&text)).transpose();
        id.map_err(|_| {
            let words = "the id must have 1 to 255 bytes, none of them a control character";
            Fault::new("id_invalid", words)
        })
    }

    /// Whoever was shut out stays so: what is no answer is refused.
    fn disabled(&mut self) -> Result<bool, Fault> {
        let disabled = self.take(Column::Disabled).map(|text| truth(&text));
        let enabled = self.take(Column::Enabled).map(|text| truth(&text));
        match (disabled, enabled) {
            (None, None) => Ok(false),
            (Some(Some(disabled)), None) => Ok(disabled),
            (None, Some(Some(enabled))) => Ok(!enabled),
            _ => {
                let words = "whether it is disabled must be true or false, yes or no, 1 or 0";
                Err(Fault::new("disabled_invalid", words))
            }
        }
    }

    fn created_at(&mut self, now: Timestamp) -> Result<Option<Timestamp>, Fault> {
        let Some(text) = self.take(Column::CreatedAt).filter(|text| !text.is_empty()) else {
            return Ok(None);
        };
        let soon = now + std::time::Duration::from_secs(24 * 3600);
        let time = text
            .parse()
            .ok()
            .filter(|time| (Timestamp(0)..=soon).contains(time));
        time.map(Some).ok_or_else(|| {
            let words = "created_at must be a time that has been, as 2024-05-17T08:30:00Z or in \
                 seconds since 1970";
            Fault::new("created_at_invalid", words)
        })
    }
}

/// Somebody who may become an account.
pub(super) struct Candidate {
    pub(super) username: Box<str>,
    pub(super) secret: Secret,
    pub(super) id: Option<UserId>,
    pub(super) disabled: bool,
    pub(super) created_at: Option<Timestamp>,
}

pub(super) enum Secret {
    Hash(PasswordHash),
    Password(Password),
}

fn truth(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "t" | "yes" | "y" | "1" | "on" => Some(true),
        "false" | "f" | "no" | "n" | "0" | "off" => Some(false),
        _ => None,
    }
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(truth) => Some(truth.to_string()),
        Value::Number(number) if !number.is_f64() => Some(number.to_string()),
        _ => None,
    }
}

/// The members of an object, those that are given twice too.
struct Members(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Each;
        impl<'de> Visitor<'de> for Each {
            type Value = Members;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        from.deserialize_map(Each)
    }
}
