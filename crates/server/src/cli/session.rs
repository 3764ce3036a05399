//! `doorward session`: look at sessions and end them.

use clap::ArgMatches;
use doorward_core::account::canonical;
use doorward_core::ending::end_all;
use doorward_core::store::{SessionStore, Store};
use doorward_core::{EndReason, Env, Policy, Session, SessionId, SystemEnv, UserId};

use super::{date, existing, report, say, shown};
use crate::Outcome;
use crate::config::Config;

pub(crate) async fn run(config: Config, arguments: &ArgMatches) -> Outcome {
    let store = existing(&config)?;
    match arguments.subcommand() {
        Some(("list", arguments)) => match arguments.get_one::<String>("name") {
            Some(name) => list_of(name, &*store, &config.engine.policy).await,
            None => list(&*store, &config.engine.policy).await,
        },
        Some(("end", arguments)) => end(arguments, &*store).await,
        _ => Ok(()),
    }
}

const WHY: EndReason = EndReason::EndedByOperator;

async fn end(arguments: &ArgMatches, store: &dyn Store) -> Outcome {
    let given = |name| arguments.try_get_one::<String>(name).ok().flatten();
    if let Some(name) = given("user") {
        return end_of(&named(name, store).await?, name, store).await;
    }
    if let Some(id) = given("user-id") {
        let user = UserId::new(id).map_err(|_| format!("{} is no user id", shown(id)))?;
        return end_of(&user, id, store).await;
    }
    if arguments.get_flag("all") {
        let ended = end_all(store, &SystemEnv, WHY).await?;
        return report(&format!("everybody: {ended} ended"));
    }
    let id = given("id").map_or("", String::as_str);
    let id: SessionId = id.parse().map_err(|_| format!("{id} is no session id"))?;
    let ended = store.end(id, SystemEnv.now(), WHY).await?;
    ended.ok_or_else(|| format!("there is no session {id}"))?;
    report(&format!("{id}: ended"))
}

async fn end_of(user: &UserId, called: &str, store: &dyn Store) -> Outcome {
    let ended = store.end_user(user, SystemEnv.now(), WHY, None).await?;
    report(&format!("{}: {} ended", shown(called), ended.len()))
}

async fn named(name: &str, store: &dyn Store) -> Outcome<UserId> {
    let account = match canonical(name) {
        Ok(name) => store.account(&name).await?,
        Err(_) => None,
    };
    let account = account.ok_or_else(|| format!("there is no account named {}", shown(name)))?;
    Ok(account.id)
}

async fn list_of(name: &str, store: &dyn Store, policy: &Policy) -> Outcome {
    let user = named(name, store).await?;
    show_live(&store.sessions_of(&user).await?, policy)
}

async fn list(store: &(impl SessionStore + ?Sized), policy: &Policy) -> Outcome {
    let mut after = None;
    loop {
        let page = store.sessions(after, 1000).await?;
        let Some(last) = page.last() else {
            return Ok(());
        };
        after = Some(last.id);
        show_live(&page, policy)?;
    }
}

/// A store knows which sessions were ended; those that expired are told by time.
fn show_live(sessions: &[Session], policy: &Policy) -> Outcome {
    let now = SystemEnv.now();
    let mut live = sessions
        .iter()
        .filter(|session| session.over(now, policy).is_none());
    live.try_for_each(show)
}

fn show(session: &Session) -> Outcome {
    let device = session.device.name.as_deref().map_or("-".into(), shown);
    let (created, used) = (date(session.created_at), date(session.last_used()));
    let (id, owner) = (session.id, shown(session.user.as_str()));
    say(&format!("{id}\t{owner}\t{created}\t{used}\t{device}"))
}
