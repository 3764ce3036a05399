//! scrypt (RFC 7914).

use base64_simd::{STANDARD, STANDARD_NO_PAD};
use subtle::ConstantTimeEq;

use super::{fields, hex, named, number};
use crate::password::Memory;

/// 128 N r, in bytes.
const MEMORY: u64 = 256 << 20;

/// 128 N r p: what is written and read.
const WORK: u64 = 512 << 20;

/// r and p: what is taken besides 128 N r stays small.
const SMALL: std::ops::RangeInclusive<u32> = 1..=64;

/// What Werkzeug and Django write, in bytes. Less was cut off by a column that is too short.
const FULL: usize = 64;

/// What PHC strings have, in bytes: what is cut short would match too.
const PHC: [usize; 2] = [32, 64];

/// A scrypt hash taken apart.
pub(in crate::password) struct Scrypt {
    costs: Costs,
    salt: Vec<u8>,
    tag: Vec<u8>,
}

struct Costs {
    params: ::scrypt::Params,
    memory: usize,
}

impl Scrypt {
    pub(super) fn parse(text: &str) -> Option<Scrypt> {
        if let Some(rest) = text.strip_prefix("$scrypt$") {
            Self::parse_phc(rest)
        } else if let Some(rest) = text.strip_prefix("scrypt:") {
            Self::parse_werkzeug(rest)
        } else {
            Self::parse_django(text.strip_prefix("scrypt$")?)
        }
    }

    /// `ln=15,r=8,p=1$salt$tag`
    fn parse_phc(text: &str) -> Option<Scrypt> {
        let [costs, salt, tag] = fields(text, '$')?;
        let [ln, r, p] = fields(costs, ',')?;
        let n = 1_u32.checked_shl(named(ln, "ln")?)?;
        let hash = Scrypt {
            costs: Costs::of(n, named(r, "r")?, named(p, "p")?)?,
            salt: STANDARD_NO_PAD.decode_to_vec(salt).ok()?,
            tag: STANDARD_NO_PAD.decode_to_vec(tag).ok()?,
        };
        PHC.contains(&hash.tag.len()).then_some(hash)
    }

    /// `32768:8:1$salt$tag`
    fn parse_werkzeug(text: &str) -> Option<Scrypt> {
        let [costs, salt, tag] = fields(text, '$')?;
        let [n, r, p] = fields(costs, ':')?;
        Self::full([n, r, p], salt, hex(tag)?)
    }

    /// `16384$salt$8$5$tag`
    fn parse_django(text: &str) -> Option<Scrypt> {
        let [n, salt, r, p, tag] = fields(text, '$')?;
        Self::full([n, r, p], salt, STANDARD.decode_to_vec(tag).ok()?)
    }

    fn full([n, r, p]: [&str; 3], salt: &str, tag: Vec<u8>) -> Option<Scrypt> {
        let costs = Costs::of(number(n)?, number(r)?, number(p)?)?;
        let salt = salt.into();
        (tag.len() == FULL).then_some(Scrypt { costs, salt, tag })
    }

    pub(super) fn matches(&self, password: &[u8], memory: &mut Memory) -> Option<bool> {
        let mut tag = vec![0; self.tag.len()];
        let Costs {
            params,
            memory: bytes,
        } = &self.costs;
        let compute = || ::scrypt::scrypt(password, &self.salt, params, &mut tag).ok();
        memory.beside(*bytes, compute)?;
        Some(tag.ct_eq(&self.tag).into())
    }
}

impl Costs {
    /// `None`: no such costs, or beyond a ceiling.
    fn of(n: u32, r: u32, p: u32) -> Option<Costs> {
        let memory = u64::from(n).checked_mul(u64::from(r))?.checked_mul(128)?;
        let work = memory.checked_mul(p.into())?;
        let small = SMALL.contains(&r) && SMALL.contains(&p);
        let bearable = small && memory <= MEMORY && work <= WORK;
        let valid = n > 1 && n.is_power_of_two();
        let log_n = u8::try_from(n.trailing_zeros())
            .ok()
            .filter(|_| valid && bearable)?;
        Some(Costs {
            params: ::scrypt::Params::new(log_n, r, p).ok()?,
            memory: usize::try_from(memory).ok()?,
        })
    }
}
