//! Attempts, and the buckets that each is charged to. See ARCHITECTURE.md, "Failed logins".

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};
use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

use super::turns::{Entered, Turns};
use super::{BucketKey, Budgets, Change, Limit, Outcome, Refused, Step};
use crate::Service;
use crate::account::{Refusal, canonical, is_invisible};
use crate::device_token::{self, DeviceId, DeviceText, Holder};
use crate::env::Timestamp;
use crate::error::{Error, Result};
use crate::id::SessionId;
use crate::keys::RefreshKey;

/// How soon to try again when too much is under way.
const SOON: Duration = Duration::from_secs(1);

/// What somebody tries, before anything of it is looked at.
#[derive(Clone, Copy, Debug)]
pub enum Attempt<'a> {
    /// To log in.
    Login {
        /// As it was typed, whoever it is.
        username: &'a str,
        /// What may be the device's token for this account.
        devices: &'a [&'a str],
        /// Where from; `None`: nobody knows.
        address: Option<IpAddr>,
    },
    /// To pass a password check within a session.
    Confirm(SessionId),
    /// To make an account.
    Register {
        /// Where from; `None`: nobody knows.
        address: Option<IpAddr>,
    },
}

/// Admits attempts while their budgets last, and settles them.
pub struct Throttle {
    service: Arc<Service>,
    /// `None`: everything is admitted, and no device is known.
    budgets: Option<Budgets>,
    turns: Arc<Turns>,
}

impl Throttle {
    /// The throttle of whoever shares the service's store.
    #[must_use]
    pub fn new(service: Arc<Service>, budgets: Option<Budgets>) -> Self {
        Throttle {
            service,
            budgets,
            turns: Arc::default(),
        }
    }

    /// Charges an attempt to its buckets. One that may be too many, depending on others that are under
    /// way, waits for them; so what it returns must be settled soon, or dropped.
    ///
    /// # Errors
    /// [`Error::TooManyAttempts`], [`Error::StoreUnavailable`].
    pub async fn admit(self: &Arc<Self>, attempt: Attempt<'_>) -> Result<Admitted> {
        let Some(budgets) = &self.budgets else {
            return Ok(self.admitted(None, None));
        };
        let key = self.service.keys().current_refresh(self.service.now())?;
        let device = self.device_of(attempt, budgets).await?;
        let buckets = buckets(attempt, device, budgets, &key);
        let charged = if buckets.is_empty() {
            None
        } else {
            Some(self.charge(buckets).await?)
        };
        let login = match attempt {
            Attempt::Login { username, .. } => Some(Login {
                username: username.into(),
                device: device.unwrap_or_else(|| DeviceId::random(self.service.env())),
            }),
            _ => None,
        };
        Ok(self.admitted(charged, login))
    }

    fn admitted(self: &Arc<Self>, charged: Option<Charged>, login: Option<Login>) -> Admitted {
        Admitted {
            throttle: Arc::clone(self),
            charged: charged.map(Box::new),
            login: login.map(Box::new),
        }
    }

    /// The device that the attempt comes from, if it has logged in to the same account before, by the
    /// password that this still has.
    async fn device_of(&self, attempt: Attempt<'_>, budgets: &Budgets) -> Result<Option<DeviceId>> {
        let (username, devices) = match attempt {
            Attempt::Login {
                username, devices, ..
            } if !devices.is_empty() => (username, devices),
            _ => return Ok(None),
        };
        let holder = self.holder(username).await?;
        let when = (self.service.now(), budgets.device_ttl);
        let keys = self.service.keys();
        let known = |text: &&str| device_token::verify(text, &holder, when, keys);
        Ok(devices.iter().find_map(known))
    }

    async fn holder<'a>(&self, username: &'a str) -> Result<Holder<'a>> {
        let account = match canonical(username) {
            Ok(name) => self.service.store().account(&name).await?,
            Err(_) => None,
        };
        let password = account.map_or([0; 32], |account| {
            Sha256::digest(account.password_hash.as_str()).into()
        });
        Ok(Holder { username, password })
    }

    /// The token of a device whose user has just shown to know the account's password, where devices
    /// are told apart.
    ///
    /// # Errors
    /// [`Error::StoreUnavailable`].
    pub async fn known(&self, username: &str) -> Result<Option<DeviceText>> {
        if self.budgets.is_none() {
            return Ok(None);
        }
        let device = DeviceId::random(self.service.env());
        self.sign(device, username).await.map(Some)
    }

    async fn sign(&self, device: DeviceId, username: &str) -> Result<DeviceText> {
        let holder = self.holder(username).await?;
        let now = self.service.now();
        let key = self.service.keys().current_refresh(now)?;
        Ok(device_token::sign(device, &holder, now, &key))
    }

    async fn charge(&self, buckets: Buckets) -> Result<Charged> {
        let keys: Box<[BucketKey]> = buckets.iter().map(|(key, _)| *key).collect();
        loop {
            let entered = self.turns.enter(keys.clone());
            let at = self.service.now();
            let charge = Change {
                at,
                buckets: buckets.clone(),
                step: Step::Charge,
            };
            match self.service.store().change_buckets(charge).await? {
                Ok(()) => {
                    return Ok(Charged {
                        at,
                        buckets,
                        _entered: entered,
                    });
                }
                Err(Refused::Wait(span)) => return Err(too_many(span)),
                Err(Refused::Busy(key)) => {
                    let turn = entered.wait(key);
                    let turn = turn.ok_or(Error::TooManyAttempts { retry_after: SOON })?;
                    // Either way it is worth another try.
                    let _ = turn.await;
                }
            }
        }
    }
}

/// In whole seconds, rounded up: who comes back then is not sent away again.
fn too_many(span: i64) -> Error {
    let seconds = u64::try_from(span).unwrap_or(0).div_ceil(1000);
    Error::TooManyAttempts {
        retry_after: Duration::from_secs(seconds),
    }
}

type Buckets = Vec<(BucketKey, Limit)>;

fn buckets(
    attempt: Attempt<'_>,
    device: Option<DeviceId>,
    budgets: &Budgets,
    key: &RefreshKey,
) -> Buckets {
    let own = budgets.with_pause(budgets.device);
    match (attempt, device) {
        // Nothing that others do stands in the way.
        (Attempt::Login { .. }, Some(device)) => vec![(key.bucket("device:", device.bytes()), own)],
        (Attempt::Confirm(session), _) => vec![(key.bucket("session:", &session.0), own)],
        (
            Attempt::Login {
                username, address, ..
            },
            None,
        ) => {
            let account = key.bucket("account:", folded(username).as_bytes());
            let overall = budgets
                .overall
                .map(|all| (key.bucket("overall:", b""), all.into()));
            let account = (account, budgets.with_pause(budgets.account));
            let network = of_network(address, "network:", budgets, key);
            [account]
                .into_iter()
                .chain(network)
                .chain(overall)
                .collect()
        }
        (Attempt::Register { address }, _) => {
            let network = of_network(address, "register:", budgets, key);
            network.into_iter().collect()
        }
    }
}

fn of_network(
    address: Option<IpAddr>,
    kind: &str,
    budgets: &Budgets,
    key: &RefreshKey,
) -> Option<(BucketKey, Limit)> {
    let budget = budgets.network?;
    let bucket = match address?.to_canonical() {
        IpAddr::V4(address) => key.bucket(kind, &address.octets()),
        // A customer has a /64 at least, and changes addresses within it.
        IpAddr::V6(address) => key.bucket(kind, &address.octets()[..8]),
    };
    Some((bucket, budget.into()))
}

/// A name without what the host's own look-up may leave out of account: case, accents, width, white
/// space. Names that differ by nothing else share a bucket.
fn folded(username: &str) -> String {
    let bare = username.nfkd().filter(|c| !is_combining_mark(*c));
    let bare = bare.filter(|c| !c.is_whitespace() && !is_invisible(*c));
    bare.flat_map(char::to_lowercase).collect()
}

/// An attempt that may go on. Dropped without being settled, it counts as failed once
/// [`super::PATIENCE`] is over.
pub struct Admitted {
    throttle: Arc<Throttle>,
    /// `None`: nothing limits it.
    charged: Option<Box<Charged>>,
    login: Option<Box<Login>>,
}

struct Charged {
    at: Timestamp,
    buckets: Buckets,
    _entered: Entered,
}

struct Login {
    username: Box<str>,
    device: DeviceId,
}

impl fmt::Debug for Admitted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Admitted")
    }
}

impl Admitted {
    /// It is over. After a login that succeeded: the token by which its device is known from now on.
    ///
    /// # Errors
    /// [`Error::StoreUnavailable`]: the outcome must not be told, since it may not have been counted.
    pub async fn settle(self, outcome: Outcome) -> Result<Option<DeviceText>> {
        let service = &self.throttle.service;
        if let Some(charged) = self.charged {
            let settle = Change {
                at: service.now(),
                buckets: charged.buckets,
                step: Step::Settle {
                    charged_at: charged.at,
                    outcome,
                },
            };
            // A settlement is never refused.
            let _ = service.store().change_buckets(settle).await?;
        }
        let login = self.login.filter(|_| outcome == Outcome::Success);
        let Some(login) = login else {
            return Ok(None);
        };
        let Login { username, device } = *login;
        self.throttle.sign(device, &username).await.map(Some)
    }

    /// The throttle that admitted it.
    #[must_use]
    pub fn throttle(&self) -> &Arc<Throttle> {
        &self.throttle
    }
}

impl<T> From<&Result<T, Refusal>> for Outcome {
    /// Of a password check.
    fn from(result: &Result<T, Refusal>) -> Self {
        match result.as_ref().map_err(|refusal| &refusal.error) {
            Ok(_) => Outcome::Success,
            Err(Error::InvalidCredentials) => Outcome::Failure,
            Err(_) => Outcome::Neither,
        }
    }
}
