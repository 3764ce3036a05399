//! Argon2 (RFC 9106), as PHC strings have it. Ours are of this form too.

use argon2::{Algorithm, Argon2, Version};
use base64_simd::STANDARD_NO_PAD as BASE64;
use subtle::ConstantTimeEq;

use super::{TAGS, fields, named};
use crate::password::{Memory, Params, TAG};

/// An Argon2 hash taken apart.
pub(in crate::password) struct Argon2Hash {
    pub(in crate::password) algorithm: Algorithm,
    pub(in crate::password) version: Version,
    pub(in crate::password) params: Params,
    pub(in crate::password) salt: Vec<u8>,
    pub(in crate::password) tag: Vec<u8>,
}

impl Argon2Hash {
    pub(in crate::password) fn format(&self) -> String {
        let (name, version) = (self.algorithm.as_str(), u32::from(self.version));
        let Params {
            memory_kib,
            iterations,
            parallelism,
        } = self.params;
        let salt = BASE64.encode_to_string(&self.salt);
        let tag = BASE64.encode_to_string(&self.tag);
        format!("${name}$v={version}$m={memory_kib},t={iterations},p={parallelism}${salt}${tag}")
    }

    /// Django writes `argon2` before it. Without a version it is 16.
    pub(super) fn parse(text: &str) -> Option<Argon2Hash> {
        let phc = text.strip_prefix("argon2").unwrap_or(text);
        let (name, rest) = phc.strip_prefix('$')?.split_once('$')?;
        let (version, rest) = match rest.split_once('$')? {
            ("v=19", rest) => (Version::V0x13, rest),
            ("v=16", rest) => (Version::V0x10, rest),
            _ => (Version::V0x10, rest),
        };
        let [costs, salt, tag] = fields(rest, '$')?;
        let hash = Argon2Hash {
            algorithm: algorithm(name)?,
            version,
            params: params(costs)?,
            salt: BASE64.decode_to_vec(salt).ok()?,
            tag: BASE64.decode_to_vec(tag).ok()?,
        };
        let fits = hash.salt.len() >= argon2::MIN_SALT_LEN && TAGS.contains(&hash.tag.len());
        (fits && hash.kernel().is_some()).then_some(hash)
    }

    pub(super) fn is_current(&self, params: Params) -> bool {
        let newest = (Algorithm::Argon2id, Version::V0x13, TAG);
        (self.algorithm, self.version, self.tag.len()) == newest && self.params == params
    }

    pub(super) fn matches(&self, password: &[u8], memory: &mut Memory) -> Option<bool> {
        let mut tag = vec![0; self.tag.len()];
        self.compute(password, &mut tag, memory)?;
        Some(tag.ct_eq(&self.tag).into())
    }

    /// `None`: the machine has no memory for it.
    pub(in crate::password) fn compute(
        &self,
        password: &[u8],
        tag: &mut [u8],
        memory: &mut Memory,
    ) -> Option<()> {
        let kernel = self.kernel()?;
        let blocks = memory.at_least(kernel.params().block_count())?;
        kernel
            .hash_password_into_with_memory(password, &self.salt, tag, blocks)
            .ok()
    }

    fn kernel(&self) -> Option<Argon2<'static>> {
        let Params {
            memory_kib,
            iterations,
            parallelism,
        } = self.params;
        let params = argon2::Params::new(memory_kib, iterations, parallelism, Some(self.tag.len()));
        let params = params.ok().filter(|_| self.params.is_bearable())?;
        Some(Argon2::new(self.algorithm, self.version, params))
    }
}

fn algorithm(name: &str) -> Option<Algorithm> {
    match name {
        "argon2d" => Some(Algorithm::Argon2d),
        "argon2i" => Some(Algorithm::Argon2i),
        "argon2id" => Some(Algorithm::Argon2id),
        _ => None,
    }
}

fn params(costs: &str) -> Option<Params> {
    let [memory, iterations, parallelism] = fields(costs, ',')?;
    Some(Params {
        memory_kib: named(memory, "m")?,
        iterations: named(iterations, "t")?,
        parallelism: named(parallelism, "p")?,
    })
}
