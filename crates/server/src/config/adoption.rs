//! The settings of adoption: see [`doorward_core::adoption`].
//!
//! The old secret is held like our own ones, but may be weak, which the log points out: it signs
//! nothing here.

use std::sync::Arc;

use doorward_core::adoption::{Adoption, AdoptionConfig, Names};
use doorward_core::jws;
use zeroize::Zeroizing;

use super::{ConfigError, Values, wrong};
use crate::secret_file;

/// What verifies foreign tokens, and the setting that it is of.
type Key = (&'static str, Zeroizing<Vec<u8>>);

impl Values {
    /// Off without a date: whoever has the old key can make such tokens.
    pub(super) fn adoption(&self) -> Result<Option<Arc<Adoption>>, ConfigError> {
        let (secret, file) = (self.maybe("adopt_secret"), self.maybe("adopt_key_file"));
        if self.maybe("adopt_until").is_none() {
            return match (&secret, &file) {
                (None, None) => Ok(None),
                _ => Err(wrong(
                    "adopt_until",
                    "must say until when tokens are adopted",
                )),
            };
        }
        let name = self.text("adopt_algorithm");
        let algorithm = jws::Algorithm::named(name);
        let algorithm =
            algorithm.ok_or_else(|| wrong("adopt_algorithm", "is none that is known"))?;
        let (option, key) = self.adopted_key(name, algorithm, secret, file)?;
        let adoption = Adoption::new(AdoptionConfig {
            algorithm,
            key,
            until: self.parsed("adopt_until")?,
            issuer: self.maybe("adopt_issuer").map(|issuer| vec![issuer]),
            audience: self.maybe("adopt_audience").map(|audience| vec![audience]),
            identity_claim: "sub".into(),
            names: self.adopted_names()?,
        });
        let adoption = adoption.map_err(|error| wrong(option, error))?;
        Ok(Some(Arc::new(adoption)))
    }

    fn adopted_key(
        &self,
        name: &str,
        algorithm: jws::Algorithm,
        secret: Option<String>,
        file: Option<String>,
    ) -> Result<Key, ConfigError> {
        let is_secret = matches!(algorithm, jws::Algorithm::Hs(_));
        match (secret, file) {
            (Some(secret), None) if is_secret => Ok(("adopt_secret", self.adopted_secret(secret)?)),
            (None, Some(path)) if !is_secret => Ok(("adopt_key_file", public_key(&path)?)),
            _ if is_secret => {
                let problem = format!("{name} takes one, and no file");
                Err(wrong("adopt_secret", problem))
            }
            _ => {
                let problem = format!("{name} takes one, and no secret");
                Err(wrong("adopt_key_file", problem))
            }
        }
    }

    /// Others know it: what it seals or signs here would be theirs.
    fn adopted_secret(&self, secret: String) -> Result<Zeroizing<Vec<u8>>, ConfigError> {
        for own in ["secret", "seal_secret"] {
            if secret == self.text(own) {
                return Err(wrong("adopt_secret", format!("must differ from {own}")));
            }
        }
        Ok(Zeroizing::new(secret.into_bytes()))
    }

    fn adopted_names(&self) -> Result<Names, ConfigError> {
        match self.text("adopt_names") {
            "id" => Ok(Names::Ids),
            "username" => Ok(Names::Usernames),
            _ => Err(wrong("adopt_names", "must be id or username")),
        }
    }
}

/// It is no secret: others may read its file.
fn public_key(path: &str) -> Result<Zeroizing<Vec<u8>>, ConfigError> {
    let read = secret_file::read_any(path.as_ref());
    let (bytes, _) = read.map_err(|error| wrong("adopt_key_file", format!("{path}: {error}")))?;
    Ok(bytes)
}
