//! Foreign tokens, as `flask_doorward.jwt_extended` sees them: one call makes one, one call checks one.
//!
//! What a JSON text means to the app is what Python's parser makes of it: dictionaries are filled by
//! it, when asked for. The claims that decide are read here, and by Python where they are unusual.

mod json;

use std::collections::HashMap;
use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use doorward_core::jws::{
    Algorithm, Claims, Fault, Jws, Refused, Rules, SigningKey, Verdict, VerifyingKey, header_of,
    random_uuids, to_be_signed, token,
};
use pyo3::exceptions::{PyNotImplementedError, PyOSError, PyTypeError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyBytes, PyDict, PyList, PyString};
use serde_json::Value;

use self::json::{json, write, write_text};

/// Signs and verifies; remembers the keys that it has parsed.
#[pyclass(frozen, name = "Jws", module = "flask_doorward._native")]
#[derive(Default)]
pub(crate) struct Signatures {
    signing: Keys<SigningKey>,
    verifying: Keys<VerifyingKey>,
}

#[pymethods]
impl Signatures {
    #[new]
    fn new() -> Signatures {
        Signatures::default()
    }

    /// A token of the claims that most have and no others, with ids that are made here: what `sign`
    /// makes of them in a dictionary. `None`: the identity is none of JSON's own types.
    #[pyo3(signature = (key, algorithm, fresh, issued, kind, name, identity, expires, nbf, csrf))]
    #[expect(
        clippy::too_many_arguments,
        reason = "a dictionary would cost as much as the rest"
    )]
    fn issue(
        &self,
        key: &Bound<'_, PyAny>,
        algorithm: &str,
        fresh: bool,
        issued: i64,
        kind: &Bound<'_, PyString>,
        name: &Bound<'_, PyString>,
        identity: &Bound<'_, PyAny>,
        expires: i64,
        nbf: bool,
        csrf: bool,
    ) -> PyResult<Option<String>> {
        let [jti, double_submit] = uuids()?;
        let mut out = Vec::with_capacity(320);
        let written = write!(
            out,
            r#"{{"fresh":{fresh},"iat":{issued},"jti":"{jti}","type":"#
        )
        .is_ok()
            && write_text(kind, &mut out)
            && write!(out, ",").is_ok()
            && write_text(name, &mut out)
            && write!(out, ":").is_ok()
            && write(identity, &mut out, 0)?;
        if !written {
            return Ok(None);
        }
        if nbf {
            let _ = write!(out, r#","nbf":{issued}"#);
        }
        if csrf {
            let _ = write!(out, r#","csrf":"{double_submit}""#);
        }
        let _ = write!(out, r#","exp":{expires}}}"#);
        self.signed(key.py(), &out, key, algorithm, None).map(Some)
    }

    /// A token of these claims. `header`: its JSON, where it is more than algorithm and type.
    /// `encoder`: the class for values that JSON does not know.
    #[pyo3(signature = (claims, key, algorithm, header=None, encoder=None))]
    fn sign(
        &self,
        claims: &Bound<'_, PyDict>,
        key: &Bound<'_, PyAny>,
        algorithm: &str,
        header: Option<&[u8]>,
        encoder: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<String> {
        self.signed(claims.py(), &json(claims, encoder)?, key, algorithm, header)
    }

    /// The claims of a token that is signed by `key` and keeps the rules at `now`, in seconds.
    #[pyo3(signature = (token, key, rules, now, csrf=None, allow_expired=false))]
    fn verify(
        &self,
        token: &Bound<'_, PyAny>,
        key: &Bound<'_, PyAny>,
        rules: &TokenRules,
        now: f64,
        csrf: Option<&str>,
        allow_expired: bool,
    ) -> PyResult<Token> {
        let py = token.py();
        let text = text(token)?;
        let jws = Jws::read(text).map_err(|refused| malformed(py, text, &refused))?;
        let signed = self.check_signature(py, &jws, key, &rules.algorithms);
        let token = Token::of(jws);
        // A payload that is no JSON object is answered as such, whoever signed it.
        let claims = token.claims(py);
        let claims = claims.and_then(|claims| signed.map(|()| claims))?;
        rules.check(py, &token, claims, now, csrf)?;
        if !allow_expired && claims.has_expired(&rules.claims, now) {
            return Err(token.expired(py));
        }
        Ok(token)
    }
}

impl Signatures {
    fn signed(
        &self,
        py: Python<'_>,
        payload: &[u8],
        key: &Bound<'_, PyAny>,
        algorithm: &str,
        header: Option<&[u8]>,
    ) -> PyResult<String> {
        let unknown = || PyNotImplementedError::new_err("Algorithm not supported");
        let known = Algorithm::named(algorithm).ok_or_else(unknown)?;
        let signing = self.signing.of(known, bytes(key)?, SigningKey::of);
        let signing = signing.map_err(|refused| error(py, &refused))?;
        let signed = if let Some(header) = header {
            to_be_signed(header, payload)
        } else {
            let parts = [br#"{"alg":""#, algorithm.as_bytes(), br#"","typ":"JWT"}"#];
            to_be_signed(&parts.concat(), payload)
        };
        let made = if signing.is_slow() {
            py.detach(|| signing.sign(&signed))
        } else {
            signing.sign(&signed)
        };
        let signature = match made.map_err(|refused| error(py, &refused))? {
            Some(signature) => signature,
            None => with_cryptography(py, "sign")?
                .call1((key, algorithm, signed.as_bytes()))?
                .extract()?,
        };
        Ok(token(signed, &signature))
    }

    fn check_signature(
        &self,
        py: Python<'_>,
        jws: &Jws<'_>,
        key: &Bound<'_, PyAny>,
        allowed: &[String],
    ) -> PyResult<()> {
        let algorithm = jws.algorithm(allowed);
        let algorithm = algorithm.map_err(|refused| error(py, &refused))?;
        let verifying = self.verifying.of(algorithm, bytes(key)?, VerifyingKey::of);
        let verifying = verifying.map_err(|refused| error(py, &refused))?;
        let good = match jws.is_signed_by(&verifying) {
            Verdict::Signed => true,
            Verdict::Forged => false,
            Verdict::TooShort => {
                let (signed, signature) = jws.signed();
                let arguments = (key, algorithm.name(), signed.as_bytes(), signature);
                with_cryptography(py, "verify")?
                    .call1(arguments)?
                    .extract()?
            }
        };
        let forged = || raised(py, "InvalidSignatureError", "Signature verification failed");
        good.then_some(()).ok_or_else(forged)
    }
}

/// What signs and verifies with RSA keys that are too short for the engine.
fn with_cryptography<'py>(py: Python<'py>, function: &str) -> PyResult<Bound<'py, PyAny>> {
    py.import("flask_doorward.jwt_extended.cryptography_keys")?
        .getattr(function)
}

/// Parsed keys by algorithm and text.
struct Keys<K>(Mutex<HashMap<Algorithm, ByText<K>>>);

type ByText<K> = HashMap<Box<[u8]>, Arc<K>>;

impl<K> Default for Keys<K> {
    fn default() -> Self {
        Keys(Mutex::default())
    }
}

impl<K> Keys<K> {
    /// An app whose every user has a key of its own must not grow without end.
    const MOST: usize = 256;

    fn of(
        &self,
        algorithm: Algorithm,
        text: &[u8],
        parse: impl Fn(Algorithm, &[u8]) -> Result<K, Refused>,
    ) -> Result<Arc<K>, Refused> {
        let mut keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = keys.entry(algorithm).or_default();
        if let Some(key) = known.get(text) {
            return Ok(key.clone());
        }
        let key = Arc::new(parse(algorithm, text)?);
        if known.len() == Self::MOST {
            known.clear();
        }
        known.insert(text.into(), key.clone());
        Ok(key)
    }
}

/// What a token must say to be accepted.
#[pyclass(frozen, name = "Rules", module = "flask_doorward._native")]
pub(crate) struct TokenRules {
    algorithms: Vec<String>,
    claims: Rules,
    identity_claim: String,
}

#[pymethods]
impl TokenRules {
    #[new]
    #[pyo3(signature = (algorithms, audience, issuer, leeway, verify_sub, identity_claim))]
    fn new(
        algorithms: Vec<String>,
        audience: Option<Vec<String>>,
        issuer: Option<Vec<String>>,
        leeway: f64,
        verify_sub: bool,
        identity_claim: String,
    ) -> TokenRules {
        let claims = Rules {
            audience,
            issuer,
            leeway,
            verify_subject: verify_sub,
        };
        TokenRules {
            algorithms,
            claims,
            identity_claim,
        }
    }
}

impl TokenRules {
    fn check(
        &self,
        py: Python<'_>,
        token: &Token,
        claims: &Claims,
        now: f64,
        csrf: Option<&str>,
    ) -> PyResult<()> {
        let kept = claims.check(&self.claims, now);
        kept.map_err(|refused| error(py, &refused))?;
        let missing = |claim: &str| {
            let text = format!("Missing claim: {claim}");
            raised(py, "JWTDecodeError", &text)
        };
        let has_identity = match self.identity_claim.as_str() {
            "sub" => claims.sub.is_some(),
            // The dictionary has these in any case.
            "type" => claims.kind.is_some(),
            "fresh" => claims.fresh.is_some(),
            "jti" => claims.jti.is_some(),
            other => token.payload(py)?.contains(other)?,
        };
        if !has_identity {
            return Err(missing(&self.identity_claim));
        }
        match csrf.map(|value| claims.has_csrf(value)) {
            None | Some(Some(true)) => Ok(()),
            Some(None) => Err(missing("csrf")),
            Some(Some(false)) => {
                let text = "CSRF double submit tokens do not match";
                Err(raised(py, "CSRFError", text))
            }
        }
    }
}

/// A token that was taken apart. Its dictionaries are filled when they are asked for, once.
#[pyclass(frozen, module = "flask_doorward._native")]
pub(crate) struct Token {
    header_json: Vec<u8>,
    payload_json: Vec<u8>,
    claims: PyOnceLock<Claims>,
    header: PyOnceLock<Py<PyDict>>,
    payload: PyOnceLock<Py<PyDict>>,
}

#[pymethods]
impl Token {
    #[getter]
    fn header<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let parse = || parsed(py, &self.header_json, "header").map(Bound::unbind);
        let header = self.header.get_or_try_init(py, parse)?;
        Ok(header.bind(py).clone())
    }

    #[getter]
    fn payload<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let parse = || filled(parsed(py, &self.payload_json, "payload")?);
        let payload = self.payload.get_or_try_init(py, parse)?;
        Ok(payload.bind(py).clone())
    }

    /// One claim; `sub`, `type` and `fresh` without filling the dictionary.
    fn __getitem__<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
        match self.plain(py, name) {
            Some(value) => Ok(value),
            None => self.payload(py)?.as_any().get_item(name),
        }
    }

    #[pyo3(signature = (name, default=None))]
    fn get<'py>(
        &self,
        py: Python<'py>,
        name: &str,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        match self.plain(py, name) {
            None => Ok(self.payload(py)?.get_item(name)?.or(default)),
            value => Ok(value),
        }
    }
}

impl Token {
    fn of(jws: Jws<'_>) -> Token {
        let (header_json, payload_json) = jws.into_parts();
        Token {
            header_json,
            payload_json,
            claims: PyOnceLock::new(),
            header: PyOnceLock::new(),
            payload: PyOnceLock::new(),
        }
    }

    fn claims(&self, py: Python<'_>) -> PyResult<&Claims> {
        self.claims.get_or_try_init(py, || {
            let unusual = || unusual(&parsed(py, &self.payload_json, "payload")?);
            Claims::read(&self.payload_json).map_or_else(unusual, Ok)
        })
    }

    /// A claim that decides, where the dictionary has not been filled: then it may have been changed.
    fn plain<'py>(&self, py: Python<'py>, name: &str) -> Option<Bound<'py, PyAny>> {
        let claims = self
            .claims
            .get(py)
            .filter(|_| self.payload.get(py).is_none())?;
        let claim = match name {
            "sub" => &claims.sub,
            "type" => &claims.kind,
            "fresh" => &claims.fresh,
            _ => return None,
        };
        match claim {
            Some(Value::String(text)) => Some(PyString::new(py, text).into_any()),
            Some(Value::Bool(value)) => Some(PyBool::new(py, *value).to_owned().into_any()),
            _ => None,
        }
    }

    fn expired(&self, py: Python<'_>) -> PyErr {
        let refused = raised(py, "ExpiredSignatureError", "Signature has expired");
        let told = self.header(py).and_then(|header| {
            refused.value(py).setattr("jwt_header", header)?;
            refused.value(py).setattr("jwt_data", self.payload(py)?)
        });
        told.err().unwrap_or(refused)
    }
}

/// The dictionary of a header or payload, by Python's parser and in its words.
fn parsed<'py>(py: Python<'py>, json: &[u8], part: &str) -> PyResult<Bound<'py, PyDict>> {
    static LOADS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let refused = |why: &str| {
        let text = format!("Invalid {part} string: {why}");
        raised(py, "DecodeError", &text)
    };
    let loads = LOADS.import(py, "json", "loads")?;
    let value = match loads.call1((PyBytes::new(py, json),)) {
        Ok(value) => value,
        Err(why) => return Err(refused(&why.value(py).to_string())),
    };
    let object = value.cast_into::<PyDict>();
    object.map_err(|_| refused("must be a json object"))
}

/// What every payload has: the claims of this extension, also where another issuer left them out.
fn filled(payload: Bound<'_, PyDict>) -> PyResult<Py<PyDict>> {
    let py = payload.py();
    let default = |name: &str, value: Bound<'_, PyAny>| {
        if payload.contains(name)? {
            return Ok(());
        }
        payload.set_item(name, value)
    };
    default("type", PyString::intern(py, "access").into_any())?;
    default("fresh", PyBool::new(py, false).to_owned().into_any())?;
    default("jti", py.None().into_bound(py))?;
    Ok(payload.unbind())
}

/// The claims of JSON that only Python reads, such as one with `NaN` in it.
fn unusual(payload: &Bound<'_, PyDict>) -> PyResult<Claims> {
    let claim = |name: &str| {
        let value = payload.get_item(name)?;
        value.map(|value| value_of(&value, 0)).transpose()
    };
    Ok(Claims {
        iat: claim("iat")?,
        nbf: claim("nbf")?,
        exp: claim("exp")?,
        iss: claim("iss")?,
        aud: claim("aud")?,
        sub: claim("sub")?,
        jti: claim("jti")?,
        kind: claim("type")?,
        fresh: claim("fresh")?,
        csrf: claim("csrf")?,
    })
}

/// As far as a rule asks for it: what JSON does not know is `null`, which no rule accepts.
fn value_of(value: &Bound<'_, PyAny>, depth: u8) -> PyResult<Value> {
    Ok(if let Ok(value) = value.cast::<PyBool>() {
        value.is_true().into()
    } else if let Ok(text) = value.cast::<PyString>() {
        text.to_string_lossy().into_owned().into()
    } else if let Ok(number) = value.extract::<i64>() {
        number.into()
    } else if let Ok(number) = value.extract::<f64>() {
        number.into()
    } else if let Ok(list) = value.cast::<PyList>()
        && depth == 0
    {
        let values: PyResult<Vec<Value>> = list.iter().map(|item| value_of(&item, 1)).collect();
        values?.into()
    } else {
        Value::Null
    })
}

/// The text of a token, as str or bytes.
fn text<'a>(token: &'a Bound<'_, PyAny>) -> PyResult<&'a str> {
    let text = if let Ok(text) = token.cast::<PyString>() {
        text.to_str().ok()
    } else if let Ok(bytes) = token.cast::<PyBytes>() {
        std::str::from_utf8(bytes.as_bytes()).ok()
    } else {
        None
    };
    let refused = "Invalid token type. Token must be a <class 'bytes'>";
    text.ok_or_else(|| raised(token.py(), "DecodeError", refused))
}

/// The bytes of a key, which may be a str.
fn bytes<'a>(key: &'a Bound<'_, PyAny>) -> PyResult<&'a [u8]> {
    if let Ok(text) = key.cast::<PyString>() {
        return Ok(text.to_str()?.as_bytes());
    }
    let bytes = key.cast::<PyBytes>().map(PyBytesMethods::as_bytes);
    bytes.map_err(|_| PyTypeError::new_err("Expected a string or bytes value"))
}

/// Where the header is no JSON, Python's parser has the words.
fn malformed(py: Python<'_>, token: &str, refused: &Refused) -> PyErr {
    let header = header_of(token).filter(|_| refused.fault == Fault::Header);
    let worded = header.and_then(|header| parsed(py, &header, "header").err());
    worded.unwrap_or_else(|| error(py, refused))
}

fn error(py: Python<'_>, refused: &Refused) -> PyErr {
    let class = match refused.fault {
        Fault::Decode | Fault::Header => "DecodeError",
        Fault::InvalidToken => "InvalidTokenError",
        Fault::InvalidAlgorithm => "InvalidAlgorithmError",
        Fault::InvalidKey => "InvalidKeyError",
        Fault::InvalidIssuedAt => "InvalidIssuedAtError",
        Fault::Immature => "ImmatureSignatureError",
        Fault::InvalidAudience => "InvalidAudienceError",
        Fault::InvalidIssuer => "InvalidIssuerError",
        Fault::InvalidSubject => "InvalidSubjectError",
        Fault::InvalidTokenId => "InvalidJTIError",
        Fault::MissingClaim => "MissingRequiredClaimError",
    };
    raised(py, class, &refused.text)
}

/// An exception of the compatibility layer, which knows whether `PyJWT` is there.
fn raised(py: Python<'_>, class: &str, text: &str) -> PyErr {
    let made = py
        .import("flask_doorward.jwt_extended.token_errors")
        .and_then(|errors| errors.getattr(class)?.call1((text,)));
    made.map_or_else(|failed| failed, PyErr::from_value)
}

/// The header of a token whose signature nobody has checked.
#[pyfunction]
pub(crate) fn unverified_header<'py>(token: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyDict>> {
    let (header, _) = unverified(token)?;
    parsed(token.py(), &header, "header")
}

/// The claims of a token whose signature nobody has checked.
#[pyfunction]
pub(crate) fn unverified_claims<'py>(token: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyDict>> {
    let (_, payload) = unverified(token)?;
    parsed(token.py(), &payload, "payload")
}

fn unverified(token: &Bound<'_, PyAny>) -> PyResult<(Vec<u8>, Vec<u8>)> {
    let text = text(token)?;
    let jws = Jws::read(text).map_err(|refused| malformed(token.py(), text, &refused))?;
    Ok(jws.into_parts())
}

/// The first cookie of a name in a `Cookie` header that has no quotes in it.
#[pyfunction]
pub(crate) fn cookie<'a>(header: &'a str, name: &str) -> Option<&'a str> {
    const SPACE: [char; 2] = [' ', '\t'];
    let pairs = header
        .split(';')
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let mut pairs = pairs.map(|(key, value)| (key.trim_matches(SPACE), value.trim_matches(SPACE)));
    let found = pairs.find(|(key, value)| *key == name && !value.contains(SPACE));
    found.map(|(_, value)| value)
}

/// What follows a scheme in a header such as `Authorization`, in whose fields it occurs once. `None`:
/// it does not; empty: something else than one word follows.
#[pyfunction]
pub(crate) fn credential<'a>(header: &'a str, scheme: &str) -> Option<&'a str> {
    // A proxy may have joined several headers of the name.
    let fields = header.split(',').map(str::split_whitespace);
    let mut fields = fields.filter_map(|mut words| {
        // RFC 7235, 2.1: the scheme is written in any case.
        let is_ours = words.next()?.eq_ignore_ascii_case(scheme);
        is_ours.then_some(words)
    });
    let (Some(mut words), None) = (fields.next(), fields.next()) else {
        return None;
    };
    match (words.next(), words.next()) {
        (Some(token), None) => Some(token),
        _ => Some(""),
    }
}

/// A random UUID (RFC 9562, 5.4).
#[pyfunction]
pub(crate) fn uuid4() -> PyResult<String> {
    uuids().map(|[id]| id)
}

/// Two of them, for the randomness of one: most of what they cost.
#[pyfunction]
pub(crate) fn uuid4s() -> PyResult<(String, String)> {
    uuids().map(Into::into)
}

fn uuids<const COUNT: usize>() -> PyResult<[String; COUNT]> {
    random_uuids().ok_or_else(|| PyOSError::new_err("no randomness"))
}
