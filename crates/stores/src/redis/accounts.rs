//! Accounts, each in the slot of its user; names, in one of their own.
//!
//! A name is claimed before its account is written, by a claim that tells the user and is given once. The account
//! is written as one whose name is to be looked at ([`NEW`]), and there is none yet; there is one from the moment
//! on at which the claim is kept ([`Base::keep_name`]), which fails where another has it by then. Whoever meets a
//! claim with an account keeps it for him who made it. A claim without an account is as good as none after
//! [`CLAIMED`], or at once where it was kept: then the account is gone. So a name has one account at most, however
//! long who adds one stands still between two steps.

use std::collections::HashSet;
use std::sync::Arc;

use doorward_core::Timestamp;
use doorward_core::env::{Env as _, SystemEnv, millis};
use doorward_core::event::Trail;
use doorward_core::id::{SessionId, UserId};
use doorward_core::password::PasswordHash;
use doorward_core::reset::{Reset, ResetHash};
use doorward_core::session::EndReason;
use doorward_core::store::{Account, AllEnded, StoreResult, ValidFrom, Write};
use tokio::task::JoinSet;

use super::base::{Base, args, bytes, exactly, int, list, perhaps};
use super::batches::{Mode, header, left};
use super::packed::{Packer, Reader};
use super::sessions::{TRIES, busy, done, field, valid_from_of};
use super::tags::Tag;
use super::{rows, scripts};

/// How a claim begins that is kept, where others have the time at which they were made.
const KEPT: [u8; 8] = [0; 8];
/// Longer than any operation goes on.
const CLAIMED: std::time::Duration = std::time::Duration::from_secs(30);
/// The flag of an account whose name is to be looked at: it may be another's.
const NEW: u8 = 4;
/// Accounts that are added at once.
const TOGETHER: usize = 64;
/// Names that are read at once.
const PAGE: u32 = 200;

/// What changes of a user in one script. The default changes nothing.
#[derive(Default)]
pub(super) struct Change<'a> {
    pub(super) seen: Option<ValidFrom>,
    /// The account as it was read, where the change rests on it.
    pub(super) account: Option<Vec<u8>>,
    pub(super) new_account: To,
    /// The reset as it was read, where the change rests on it.
    pub(super) seen_reset: Option<Reset>,
    pub(super) reset: To,
    /// What ends.
    pub(super) ending: Option<Ending>,
    pub(super) erase: bool,
    pub(super) trail: Option<&'a Trail>,
}

/// What becomes of a field.
#[derive(Default)]
pub(super) enum To {
    #[default]
    Itself,
    Nothing,
    This(Vec<u8>),
}

/// All sessions of a user but one end, and `valid_from` moves.
pub(super) struct Ending {
    pub(super) at: Timestamp,
    pub(super) reason: EndReason,
    pub(super) except: Option<SessionId>,
}

impl Ending {
    pub(super) fn all(at: Timestamp, reason: EndReason) -> Ending {
        Ending {
            at,
            reason,
            except: None,
        }
    }
}

/// What was changed.
pub(super) struct Changed {
    pub(super) all: AllEnded,
    pub(super) erased: u64,
}

impl To {
    fn arg(&self) -> Vec<u8> {
        match self {
            To::Itself => Vec::new(),
            To::Nothing => b"d".to_vec(),
            To::This(value) => field(b's', value),
        }
    }
}

impl Base {
    /// `None`: something was no longer as it was seen, and nothing was changed.
    pub(super) async fn change(
        &self,
        user: &UserId,
        change: Change<'_>,
    ) -> StoreResult<Option<Changed>> {
        let tag = Tag::of(user);
        let (bucket, mark) = rows::listed(user);
        let mut command = self.script(&scripts::CHANGE, tag, &[]);
        command
            .arg(&[bucket])
            .arg(&mark)
            .arg(rows::user_field(user));
        let seen = change.seen.map(|seen| seen.0.to_be_bytes().to_vec());
        let account = change.account.map(|account| field(b'1', &account));
        command
            .arg(seen.unwrap_or_default())
            .arg(account.unwrap_or_default());
        command
            .arg(change.new_account.arg())
            .arg(change.reset.arg());
        match change.ending {
            Some(Ending { at, reason, except }) => {
                let (at, except) = (at.0.to_be_bytes(), except.map(|id| id.0.to_vec()));
                command
                    .arg(&at)
                    .arg(&[reason as u8])
                    .arg(&at)
                    .arg(except.unwrap_or_default());
            }
            None => args(&mut command, [""; 4]),
        }
        let (mode, none) = (
            if change.erase {
                Mode::Erased
            } else {
                Mode::Ended
            },
            Trail::default(),
        );
        let trail = change.trail.unwrap_or(&none);
        let must = trail.once.is_some() || change.erase;
        command
            .arg(header(mode, trail))
            .arg(u8::from(must))
            .arg(u8::from(change.erase));
        let reset = change
            .seen_reset
            .map(|reset| field(b'1', &pack_reset(reset)));
        command.arg(reset.unwrap_or_default()).arg(self.seen());
        let answer = list(self.write_firmly(tag, command).await?)?;
        if answer.len() == 1 {
            return Ok(None);
        }
        let [_, valid_from, told, erased, outgoing] = exactly(answer)?;
        self.deliver(tag, &left(Some(outgoing))?, true).await?;
        let told = rows::unpack_ends(&bytes(told)?)?;
        Ok(Some(Changed {
            all: AllEnded {
                sessions: told.iter().map(|end| end.session).collect(),
                valid_from: valid_from_of(perhaps(valid_from)?)?,
            },
            erased: int(erased)?.cast_unsigned(),
        }))
    }

    /// Changes an account by what is read of it. `None`: there is none, or `seen` has moved.
    async fn change_account(
        &self,
        user: &UserId,
        seen: Option<ValidFrom>,
        change: impl Fn(Account) -> Option<Change<'static>>,
        trail: &Trail,
    ) -> StoreResult<Option<Changed>> {
        for _ in 0..TRIES {
            let Some((account, stored)) = self.stored_account(user).await? else {
                return Ok(None);
            };
            if seen.is_some_and(|seen| seen != account.valid_from) {
                return Ok(None);
            }
            let Some(change) = change(account) else {
                return Ok(None);
            };
            let change = Change {
                seen,
                account: Some(stored),
                trail: Some(trail),
                ..change
            };
            if let Some(changed) = self.change(user, change).await? {
                return Ok(Some(changed));
            }
        }
        Err(busy())
    }

    async fn stored_account(&self, user: &UserId) -> StoreResult<Option<(Account, Vec<u8>)>> {
        let found = self.written_account(user).await?;
        Ok(match found {
            Some((account, stored)) if is_new(&stored) && !self.has_its_name(&account).await? => {
                None
            }
            found => found,
        })
    }

    /// Whether the name of an account leads to it, and does so from now on.
    pub(super) async fn has_its_name(&self, account: &Account) -> StoreResult<bool> {
        let Some(claim) = self.claim_of(&account.username).await? else {
            return Ok(false);
        };
        Ok(holder(&claim)? == account.id && self.keep_name(&account.username, &claim).await?)
    }

    async fn claim_of(&self, username: &str) -> StoreResult<Option<Vec<u8>>> {
        let mut command = self.command("HGET", Tag::Names, "names");
        command.arg(username);
        perhaps(self.read_one(Tag::Names, command).await?)
    }

    /// Whether the claim is still that, and stays so.
    async fn keep_name(&self, username: &str, claim: &[u8]) -> StoreResult<bool> {
        if claim.starts_with(&KEPT) {
            return Ok(true);
        }
        let mut command = self.script(&scripts::KEEP_NAME, Tag::Names, &["names"]);
        command
            .arg(username)
            .arg(claim.get(8..).unwrap_or_default());
        Ok(int(self.write_firmly(Tag::Names, command).await?)? == 1)
    }

    /// An account as it stands there, whoever has its name.
    async fn written_account(&self, user: &UserId) -> StoreResult<Option<(Account, Vec<u8>)>> {
        let (tag, name) = (Tag::of(user), user.as_str().as_bytes());
        let mut command = self.command("HMGET", tag, "");
        command.arg(field(b'u', name)).arg(field(b'v', name));
        let [account, valid_from] = exactly(list(self.read_one(tag, command).await?)?)?;
        let Some(stored) = perhaps(account)? else {
            return Ok(None);
        };
        let valid_from = valid_from_of(perhaps(valid_from)?)?;
        Ok(Some((unpack(user, &stored, valid_from)?, stored)))
    }

    pub(super) async fn account_of(&self, user: &UserId) -> StoreResult<Option<Account>> {
        Ok(self.stored_account(user).await?.map(|(account, _)| account))
    }

    pub(super) async fn account(&self, username: &str) -> StoreResult<Option<Account>> {
        match self.claim_of(username).await? {
            Some(claim) => self.claimed(username, &claim).await,
            None => Ok(None),
        }
    }

    /// The account to which a name leads, if it leads to one.
    async fn claimed(&self, username: &str, claim: &[u8]) -> StoreResult<Option<Account>> {
        let account = self.account_of(&holder(claim)?).await?;
        Ok(account.filter(|account| &*account.username == username))
    }

    pub(super) async fn accounts(
        &self,
        after: Option<&str>,
        limit: u32,
    ) -> StoreResult<Vec<Account>> {
        let mut found = Vec::new();
        let mut after = after.map_or_else(String::new, Into::into);
        loop {
            let names = self.names_after(&after, PAGE.min(limit)).await?;
            let Some((last, _)) = names.last() else {
                return Ok(found);
            };
            after.clone_from(last);
            for (name, claim) in names {
                if found.len() >= limit as usize {
                    return Ok(found);
                }
                if let Some(claim) = claim {
                    found.extend(self.claimed(&name, &claim).await?);
                }
            }
        }
    }

    async fn names_after(
        &self,
        after: &str,
        limit: u32,
    ) -> StoreResult<Vec<(String, Option<Vec<u8>>)>> {
        let mut command = self.command("ZRANGEBYLEX", Tag::Names, "order");
        command
            .arg(format!("({after}"))
            .arg("+")
            .arg("LIMIT")
            .arg(0)
            .arg(limit);
        let names = list(self.read_one(Tag::Names, command).await?)?;
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let names: Vec<_> = names.into_iter().map(bytes).collect::<StoreResult<_>>()?;
        let mut command = self.command("HMGET", Tag::Names, "names");
        args(&mut command, &names);
        let claims = list(self.read_one(Tag::Names, command).await?)?;
        let each = names.into_iter().zip(claims).map(|(name, claim)| {
            let name = String::from_utf8(name).map_err(|_| super::base::strange())?;
            Ok((name, perhaps(claim)?))
        });
        each.collect()
    }

    pub(super) async fn add_account(&self, account: &Account, trail: &Trail) -> StoreResult<Write> {
        if self.account_of(&account.id).await?.is_some() {
            return Ok(Write::Lost);
        }
        let Some(claim) = self.claim_name(account).await? else {
            return Ok(Write::Lost);
        };
        let new = with_flag(pack(account));
        // What is written there has lost its name.
        let before = self.written_account(&account.id).await?;
        let adding = Change {
            account: Some(before.map_or_else(Vec::new, |(_, stored)| stored)),
            new_account: To::This(new.clone()),
            trail: Some(trail),
            ..Change::default()
        };
        if self.change(&account.id, adding).await?.is_none() {
            self.release_name(&account.username, &claim).await?;
            return Ok(Write::Lost);
        }
        let kept = self.keep_name(&account.username, &claim).await?;
        self.look_no_more(account, new, kept).await?;
        Ok(done(kept))
    }

    /// Many at once, those with a name or an id in common one after another.
    pub(super) async fn add_accounts(
        self: &Arc<Self>,
        accounts: Vec<(Account, Trail)>,
    ) -> StoreResult<Vec<Write>> {
        let mut written = Vec::with_capacity(accounts.len());
        for together in apart(accounts) {
            let mut adding = JoinSet::new();
            for (nth, (account, trail)) in together.into_iter().enumerate() {
                let base = Arc::clone(self);
                adding.spawn(async move { (nth, base.add_account(&account, &trail).await) });
            }
            let mut each = adding.join_all().await;
            each.sort_unstable_by_key(|(nth, _)| *nth);
            for (_, write) in each {
                written.push(write?);
            }
        }
        Ok(written)
    }

    /// A new account that has its name is one as others; one that has not goes.
    async fn look_no_more(&self, account: &Account, new: Vec<u8>, kept: bool) -> StoreResult<()> {
        let settled = Change {
            account: Some(new),
            new_account: if kept {
                To::This(pack(account))
            } else {
                To::Nothing
            },
            ..Change::default()
        };
        // Another may have done so.
        self.change(&account.id, settled).await.map(drop)
    }

    /// `None`: it is another's.
    async fn claim_name(&self, account: &Account) -> StoreResult<Option<Vec<u8>>> {
        let mut nonce = [0; 8];
        SystemEnv.fill(&mut nonce);
        let claim = [&nonce[..], account.id.as_str().as_bytes()].concat();
        let mut seen = Vec::new();
        for _ in 0..TRIES {
            let mut command = self.script(&scripts::CLAIM_NAME, Tag::Names, &["names", "order"]);
            command.arg(&*account.username).arg(&claim).arg(&seen);
            let answer = list(self.write_firmly(Tag::Names, command).await?)?;
            let [done, stands, age] = exactly(answer)?;
            if int(done)? == 1 {
                return Ok(Some([&[0xff; 8], &claim[..]].concat()));
            }
            seen = bytes(stands)?;
            if !seen.is_empty()
                && !self
                    .is_given_up(&account.username, &seen, int(age)?)
                    .await?
            {
                return Ok(None);
            }
        }
        Err(busy())
    }

    /// Whether a claim is of somebody who stopped before there was an account, or whose account was removed.
    async fn is_given_up(&self, username: &str, claim: &[u8], age: i64) -> StoreResult<bool> {
        let has_one = self.claimed(username, claim).await?.is_some();
        Ok(!has_one && age > millis(CLAIMED))
    }

    async fn release_name(&self, username: &str, claim: &[u8]) -> StoreResult<()> {
        let mut command = self.script(&scripts::RELEASE_NAME, Tag::Names, &["names", "order"]);
        command
            .arg(username)
            .arg(claim.get(8..).unwrap_or_default());
        self.write(Tag::Names, command).await.map(drop)
    }

    /// Takes an account in as it is: it has its name, whoever had it.
    pub(super) async fn put_account(&self, account: &Account) -> StoreResult<()> {
        let mut nonce = [0; 8];
        SystemEnv.fill(&mut nonce);
        let claim = [&KEPT[..], &nonce, account.id.as_str().as_bytes()].concat();
        let mut name = self.command("HSET", Tag::Names, "names");
        name.arg(&*account.username).arg(claim);
        self.write_firmly(Tag::Names, name).await?;
        let mut order = self.command("ZADD", Tag::Names, "order");
        order.arg(0).arg(&*account.username);
        self.write_firmly(Tag::Names, order).await?;
        let tag = Tag::of(&account.id);
        let mut row = self.command("HSET", tag, "");
        row.arg(field(b'u', account.id.as_str().as_bytes()))
            .arg(pack(account));
        self.write_firmly(tag, row).await.map(drop)
    }

    pub(super) async fn rehash(&self, user: &UserId, old: &str, new: &str) -> StoreResult<Write> {
        let change = |account: Account| {
            let is_old = account.password_hash.as_str() == old;
            is_old.then(|| Change {
                new_account: with_hash(account, new),
                ..Change::default()
            })
        };
        let changed = self
            .change_account(user, None, change, &Trail::default())
            .await?;
        Ok(done(changed.is_some()))
    }

    pub(super) async fn set_password(
        &self,
        user: &UserId,
        seen: Option<ValidFrom>,
        hash: &str,
        at: Timestamp,
        trail: &Trail,
    ) -> StoreResult<Option<AllEnded>> {
        let change = |account| {
            Some(Change {
                new_account: with_hash(account, hash),
                reset: To::Nothing,
                ending: Some(Ending::all(at, EndReason::PasswordChanged)),
                ..Change::default()
            })
        };
        let changed = self.change_account(user, seen, change, trail).await?;
        Ok(changed.map(|changed| changed.all))
    }

    pub(super) async fn set_disabled(
        &self,
        user: &UserId,
        disabled: bool,
        at: Timestamp,
        trail: &Trail,
    ) -> StoreResult<Option<Vec<SessionId>>> {
        let change = |account| {
            let account = Account {
                disabled,
                ..account
            };
            let ending = || Ending::all(at, EndReason::Disabled);
            Some(Change {
                new_account: To::This(pack(&account)),
                reset: if disabled { To::Nothing } else { To::Itself },
                ending: disabled.then(ending),
                ..Change::default()
            })
        };
        let changed = self.change_account(user, None, change, trail).await?;
        Ok(changed.map(|changed| changed.all.sessions))
    }

    pub(super) async fn set_privileged(
        &self,
        user: &UserId,
        privileged: bool,
        at: Timestamp,
        trail: &Trail,
    ) -> StoreResult<Option<Vec<SessionId>>> {
        let change = |account| {
            let account = Account {
                privileged,
                ..account
            };
            Some(Change {
                new_account: To::This(pack(&account)),
                ending: Some(Ending::all(at, EndReason::EndedByOperator)),
                ..Change::default()
            })
        };
        let changed = self.change_account(user, None, change, trail).await?;
        Ok(changed.map(|changed| changed.all.sessions))
    }

    pub(super) async fn remove_account(
        &self,
        user: &UserId,
        at: Timestamp,
        trail: &Trail,
    ) -> StoreResult<Option<Vec<SessionId>>> {
        let Some(account) = self.account_of(user).await? else {
            return Ok(None);
        };
        let claim = self.claim_of(&account.username).await?;
        let change = |_| {
            Some(Change {
                new_account: To::Nothing,
                reset: To::Nothing,
                ending: Some(Ending::all(at, EndReason::Disabled)),
                ..Change::default()
            })
        };
        let changed = self.change_account(user, None, change, trail).await?;
        if let (Some(_), Some(claim)) = (&changed, claim)
            && holder(&claim)? == *user
        {
            self.release_name(&account.username, &claim).await?;
        }
        Ok(changed.map(|changed| changed.all.sessions))
    }

    pub(super) async fn start_reset(
        &self,
        user: &UserId,
        reset: Reset,
        trail: &Trail,
    ) -> StoreResult<Write> {
        self.keep_reset_hash(user, reset).await?;
        let change = |account: Account| {
            (!account.disabled).then(|| Change {
                reset: To::This(pack_reset(reset)),
                ..Change::default()
            })
        };
        let changed = self.change_account(user, None, change, trail).await?;
        Ok(done(changed.is_some()))
    }

    /// Where a reset is found by its hash: before it is there, and until it would be over.
    pub(super) async fn keep_reset_hash(&self, user: &UserId, reset: Reset) -> StoreResult<()> {
        let mut command = self.command("HSET", Tag::Names, "resets");
        let leads = [&reset.expires_at.0.to_be_bytes(), user.as_str().as_bytes()].concat();
        command.arg(&reset.hash.0).arg(leads);
        self.write_firmly(Tag::Names, command).await.map(drop)
    }

    pub(super) async fn reset_of(
        &self,
        hash: ResetHash,
        now: Timestamp,
    ) -> StoreResult<Option<Account>> {
        Ok(self.user_of(hash, now).await?.map(|(account, ..)| account))
    }

    /// Whose reset it is, if it is not over, and the stored account.
    async fn user_of(
        &self,
        hash: ResetHash,
        now: Timestamp,
    ) -> StoreResult<Option<(Account, Vec<u8>, Reset)>> {
        let mut command = self.command("HGET", Tag::Names, "resets");
        command.arg(&hash.0);
        let Some(leads) = perhaps(self.read_one(Tag::Names, command).await?)? else {
            return Ok(None);
        };
        let user = user_of(leads.get(8..).unwrap_or_default())?;
        let found = self.stored_account(&user).await?;
        let mut command = self.command("HGET", Tag::of(&user), "");
        command.arg(field(b'r', user.as_str().as_bytes()));
        let reset = perhaps(self.read_one(Tag::of(&user), command).await?)?;
        let reset = reset.as_deref().map(unpack_reset).transpose()?;
        let good = reset.filter(|reset| reset.hash == hash && now < reset.expires_at);
        Ok(found
            .zip(good)
            .map(|((account, stored), reset)| (account, stored, reset)))
    }

    pub(super) async fn finish_reset(
        &self,
        hash: ResetHash,
        password_hash: &str,
        at: Timestamp,
        trail: &Trail,
    ) -> StoreResult<Option<AllEnded>> {
        for _ in 0..TRIES {
            let Some((account, stored, reset)) = self.user_of(hash, at).await? else {
                return Ok(None);
            };
            let user = account.id.clone();
            let change = Change {
                seen_reset: Some(reset),
                account: Some(stored),
                new_account: with_hash(account, password_hash),
                reset: To::Nothing,
                ending: Some(Ending::all(at, EndReason::PasswordChanged)),
                trail: Some(trail),
                ..Change::default()
            };
            if let Some(changed) = self.change(&user, change).await? {
                return Ok(Some(changed.all));
            }
        }
        Err(busy())
    }
}

/// Some at a time, in their order, so that none has anything in common with those beside it.
fn apart(accounts: Vec<(Account, Trail)>) -> Vec<Vec<(Account, Trail)>> {
    let (mut groups, mut known) = (vec![Vec::new()], HashSet::new());
    for (account, trail) in accounts {
        let mark = [
            (true, account.username.clone()),
            (false, account.id.as_str().into()),
        ];
        let is_full = known.len() >= 2 * TOGETHER;
        if is_full || mark.iter().any(|one| known.contains(one)) {
            groups.push(Vec::new());
            known.clear();
        }
        known.extend(mark);
        if let Some(last) = groups.last_mut() {
            last.push((account, trail));
        }
    }
    groups
}

fn with_hash(account: Account, hash: &str) -> To {
    To::This(pack(&Account {
        password_hash: PasswordHash::from_phc(hash),
        ..account
    }))
}

/// Whose a claim is: eight bytes of its time or [`KEPT`], a nonce of eight bytes, and the user.
fn holder(claim: &[u8]) -> StoreResult<UserId> {
    user_of(claim.get(16..).unwrap_or_default())
}

pub(super) fn user_of(text: &[u8]) -> StoreResult<UserId> {
    let text = std::str::from_utf8(text)
        .ok()
        .and_then(|text| UserId::new(text).ok());
    text.ok_or_else(|| super::packed::damaged("a user's id"))
}

pub(super) fn pack(account: &Account) -> Vec<u8> {
    let mut packer = Packer::default();
    packer.byte(u8::from(account.disabled) | u8::from(account.privileged) << 1);
    packer.i64(account.created_at.0).text(&account.username);
    packer.text(account.password_hash.as_str());
    packer.0
}

/// An account whose name is to be looked at.
fn with_flag(mut account: Vec<u8>) -> Vec<u8> {
    if let Some(flags) = account.first_mut() {
        *flags |= NEW;
    }
    account
}

pub(super) fn is_new(account: &[u8]) -> bool {
    account.first().is_some_and(|flags| flags & NEW != 0)
}

pub(super) fn unpack(user: &UserId, bytes: &[u8], valid_from: ValidFrom) -> StoreResult<Account> {
    let mut reader = Reader::new(bytes, "an account");
    let flags = reader.byte()?;
    Ok(Account {
        id: user.clone(),
        created_at: Timestamp(reader.i64()?),
        username: reader.text()?.into(),
        password_hash: PasswordHash::from_phc(reader.text()?),
        disabled: flags & 1 != 0,
        privileged: flags & 2 != 0,
        valid_from,
    })
}

pub(super) fn pack_reset(reset: Reset) -> Vec<u8> {
    [&reset.expires_at.0.to_be_bytes()[..], &reset.hash.0].concat()
}

pub(super) fn unpack_reset(bytes: &[u8]) -> StoreResult<Reset> {
    let mut reader = Reader::new(bytes, "a reset");
    let expires_at = Timestamp(reader.i64()?);
    let hash = ResetHash(reader.array()?);
    Ok(Reset { hash, expires_at })
}
