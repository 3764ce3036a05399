//! The settings that are secrets, and those that name files of them.

use std::fmt;

use doorward_core::keys::{Algorithm, KeyConfig, check_secret};
use zeroize::Zeroizing;

use doorward_stores::Place;

use super::{ConfigError, Values, wrong};
use crate::secret_file;

/// Those that only the server may know.
const SECRETS: [&str; 5] = [
    "secret",
    "seal_secret",
    "seal_secret_previous",
    "adopt_secret",
    "webhook_secrets",
];

impl Values {
    pub(super) fn hold_secrets(&self) -> bool {
        let store = self.0.get("store").and_then(|url| url.parse().ok());
        SECRETS.iter().any(|key| self.0.contains_key(*key))
            || store.is_some_and(|place: Place| place.is_secret())
    }

    pub(super) fn key(&self) -> Result<KeyConfig, ConfigError> {
        let secret = self.0.get("secret").cloned();
        let default = if secret.is_some() {
            Algorithm::HS256
        } else {
            Algorithm::EdDSA
        };
        let algorithm = match self.maybe("algorithm") {
            Some(name) => name.parse().map_err(|error| wrong("algorithm", error))?,
            None => default,
        };
        let file = self.maybe("private_key_file");
        let key = match (algorithm, secret, file) {
            (Algorithm::HS256, Some(secret), None) => {
                check_secret(secret.as_bytes()).map_err(|error| wrong("secret", error))?;
                Some(Zeroizing::new(secret.into_bytes()))
            }
            (_, Some(_), _) => {
                return Err(wrong("secret", "is for HS256 without private_key_file"));
            }
            (Algorithm::HS256, None, Some(_)) => {
                return Err(wrong("private_key_file", "HS256 takes a secret instead"));
            }
            (_, None, Some(path)) => Some(private_key(&path)?),
            (_, None, None) => None,
        };
        let config = KeyConfig {
            algorithm,
            key,
            seal_secret: self.seal_secret()?,
            seal_secret_previous: self.previous_seal_secrets()?,
        };
        let name = if self.maybe("private_key_file").is_some() {
            "private_key_file"
        } else {
            "seal_secret"
        };
        config.check().map_err(|error| wrong(name, error))?;
        Ok(config)
    }

    fn seal_secret(&self) -> Result<Option<Zeroizing<Vec<u8>>>, ConfigError> {
        let refused = |problem: &dyn fmt::Display| Err(wrong("seal_secret", problem));
        // A secret that was to be there, and was not put in: no reason to go on without one.
        let Some(secret) = self.0.get("seal_secret").cloned() else {
            return Ok(None);
        };
        match check_secret(secret.as_bytes()) {
            Err(error) => refused(&error),
            Ok(()) if secret == self.text("secret") => refused(&"must differ from secret"),
            Ok(()) => Ok(Some(Zeroizing::new(secret.into_bytes()))),
        }
    }

    /// Each of the list; and all of it, since a secret may have a comma in it.
    fn previous_seal_secrets(&self) -> Result<Vec<Zeroizing<Vec<u8>>>, ConfigError> {
        let key = "seal_secret_previous";
        let Some(text) = self.0.get(key) else {
            return Ok(Vec::new());
        };
        if text.is_empty() {
            return Err(wrong(key, "is empty; leave it out where there is none"));
        }
        let several = self.list(key).into_iter().filter(|item| item != text);
        let all = std::iter::once(text.clone()).chain(several);
        Ok(all.map(|text| Zeroizing::new(text.into_bytes())).collect())
    }

    /// A key that is used for two things is stolen from either.
    pub(super) fn check_tls_key(&self, path: &str) -> Result<(), ConfigError> {
        let named = |error: secret_file::Refused| wrong("tls_key_file", format!("{path}: {error}"));
        let bytes = secret_file::read(path.as_ref()).map_err(named)?;
        let signs = self.maybe("private_key_file");
        let same = signs.is_some_and(|signs| {
            secret_file::read(signs.as_ref()).is_ok_and(|other| *other == *bytes)
        });
        if same {
            return Err(wrong("tls_key_file", "must differ from private_key_file"));
        }
        Ok(())
    }
}

/// PEM or DER.
fn private_key(path: &str) -> Result<Zeroizing<Vec<u8>>, ConfigError> {
    use rustls_pki_types::PrivatePkcs8KeyDer;
    use rustls_pki_types::pem::PemObject;
    let named =
        |problem: &dyn fmt::Display| wrong("private_key_file", format!("{path}: {problem}"));
    let bytes = secret_file::read(path.as_ref()).map_err(|error| named(&error))?;
    if !bytes.starts_with(b"-----BEGIN") {
        return Ok(bytes);
    }
    let key = PrivatePkcs8KeyDer::from_pem_slice(&bytes);
    let key = key.map_err(|_| {
        named(&"is no PKCS#8 key; make one with: openssl genpkey -algorithm ed25519")
    })?;
    Ok(Zeroizing::new(key.secret_pkcs8_der().to_vec()))
}
