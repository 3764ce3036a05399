//! The registered claims (RFC 7519, 4.1), checked in the order and words of `PyJWT`.

use serde::Deserialize;
use serde_json::Value;
use subtle::ConstantTimeEq;

use super::{Fault, Refused, object, present};

/// The claims that decide; `null` is a value, not absence.
#[derive(Debug, Default, Deserialize)]
#[expect(missing_docs, reason = "RFC 7519 and Flask-JWT-Extended name them")]
pub struct Claims {
    #[serde(default, deserialize_with = "present")]
    pub iat: Option<Value>,
    #[serde(default, deserialize_with = "present")]
    pub nbf: Option<Value>,
    #[serde(default, deserialize_with = "present")]
    pub exp: Option<Value>,
    #[serde(default, deserialize_with = "present")]
    pub iss: Option<Value>,
    #[serde(default, deserialize_with = "present")]
    pub aud: Option<Value>,
    #[serde(default, deserialize_with = "present")]
    pub sub: Option<Value>,
    #[serde(default, deserialize_with = "present")]
    pub jti: Option<Value>,
    #[serde(default, deserialize_with = "present", rename = "type")]
    pub kind: Option<Value>,
    #[serde(default, deserialize_with = "present")]
    pub fresh: Option<Value>,
    #[serde(default, deserialize_with = "present")]
    pub csrf: Option<Value>,
}

/// What a token must say to be accepted.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// One of these must be among its audiences; `None`: it is not asked.
    pub audience: Option<Vec<String>>,
    /// One of these must be its issuer; `None`: it is not asked.
    pub issuer: Option<Vec<String>>,
    /// Seconds by which clocks may differ.
    pub leeway: f64,
    /// Whether `sub` must be a string.
    pub verify_subject: bool,
}

impl Claims {
    /// `None`: not an object, or JSON that only lenient parsers read (`NaN`, a claim twice). Those
    /// are for the caller to read or refuse.
    #[must_use]
    pub fn read(payload: &[u8]) -> Option<Claims> {
        object(payload)
    }

    /// Everything but whether it has expired, see [`Claims::has_expired`]; `now` in seconds.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn check(&self, rules: &Rules, now: f64) -> Result<(), Refused> {
        self.check_times(now + rules.leeway)?;
        self.check_issuer(rules)?;
        self.check_audience(rules)?;
        let is_text = |claim: &Option<Value>| claim.as_ref().is_none_or(Value::is_string);
        if rules.verify_subject && !is_text(&self.sub) {
            return Err(Fault::InvalidSubject.with("Subject must be a string"));
        }
        if !is_text(&self.jti) {
            return Err(Fault::InvalidTokenId.with("JWT ID must be a string"));
        }
        Ok(())
    }

    /// A token without `exp` never expires.
    #[must_use]
    pub fn has_expired(&self, rules: &Rules, now: f64) -> bool {
        let expires = self.exp.as_ref().and_then(seconds);
        expires.is_some_and(|expires| expires <= now - rules.leeway)
    }

    /// Whether its double-submit value is `value`, compared in constant time; `None`: it has none.
    #[must_use]
    pub fn has_csrf(&self, value: &str) -> Option<bool> {
        let own = self.csrf.as_ref()?.as_str().unwrap_or_default();
        Some(!own.is_empty() && bool::from(own.as_bytes().ct_eq(value.as_bytes())))
    }

    fn check_times(&self, latest: f64) -> Result<(), Refused> {
        let moment = |claim: &Option<Value>, refused: Refused| match claim {
            Some(value) => seconds(value).map(Some).ok_or(refused),
            None => Ok(None),
        };
        let text = "Issued At claim (iat) must be an integer.";
        let issued = moment(&self.iat, Fault::InvalidIssuedAt.with(text))?;
        if issued.is_some_and(|issued| issued > latest) {
            return Err(Fault::Immature.with("The token is not yet valid (iat)"));
        }
        let text = "Not Before claim (nbf) must be an integer.";
        let starts = moment(&self.nbf, Fault::Decode.with(text))?;
        if starts.is_some_and(|starts| starts > latest) {
            return Err(Fault::Immature.with("The token is not yet valid (nbf)"));
        }
        let text = "Expiration Time claim (exp) must be an integer.";
        moment(&self.exp, Fault::Decode.with(text)).map(|_| ())
    }

    fn check_issuer(&self, rules: &Rules) -> Result<(), Refused> {
        let Some(accepted) = &rules.issuer else {
            return Ok(());
        };
        match &self.iss {
            None => Err(Fault::MissingClaim.with("iss")),
            Some(Value::String(issuer)) if accepted.contains(issuer) => Ok(()),
            Some(Value::String(_)) => Err(Fault::InvalidIssuer.with("Invalid issuer")),
            Some(_) => Err(Fault::InvalidIssuer.with("Payload Issuer (iss) must be a string")),
        }
    }

    fn check_audience(&self, rules: &Rules) -> Result<(), Refused> {
        let Some(accepted) = &rules.audience else {
            return Ok(());
        };
        let claimed = self.aud.as_ref().filter(|claim| !is_falsy(claim));
        let claimed = claimed.ok_or(Fault::MissingClaim.with("aud"))?;
        let claimed =
            texts(claimed).ok_or(Fault::InvalidAudience.with("Invalid claim format in token"))?;
        if claimed
            .iter()
            .any(|own| accepted.iter().any(|one| one == own))
        {
            Ok(())
        } else {
            Err(Fault::InvalidAudience.with("Audience doesn't match"))
        }
    }
}

/// What Python makes of it by `int()`: numbers, their text, booleans.
fn seconds(claim: &Value) -> Option<f64> {
    match claim {
        Value::Number(number) => number.as_f64().map(f64::trunc),
        Value::String(text) => {
            let digits = text.trim().trim_start_matches(['+', '-']);
            let is_whole = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
            let moment = text.trim().parse().ok();
            moment.filter(|moment: &f64| is_whole && moment.is_finite())
        }
        Value::Bool(value) => Some(f64::from(u8::from(*value))),
        _ => None,
    }
}

fn is_falsy(claim: &Value) -> bool {
    match claim {
        Value::Null | Value::Bool(false) => true,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(values) => values.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(true) => false,
    }
}

/// A text, or a list of texts.
fn texts(claim: &Value) -> Option<Vec<&str>> {
    match claim {
        Value::String(text) => Some(vec![text]),
        Value::Array(values) => values.iter().map(Value::as_str).collect(),
        _ => None,
    }
}
