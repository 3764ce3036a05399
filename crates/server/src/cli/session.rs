//! `doorward session`: look at sessions and end them.

use clap::ArgMatches;
use doorward_core::account::canonical;
use doorward_core::operator::{Operator, event_line};
use doorward_core::store::{SessionStore, Store};
use doorward_core::{Env, Error, Policy, Session, SessionId, SystemEnv, Timestamp, UserId};

use super::{date, existing, operator, report, say, shown};
use crate::Outcome;
use crate::config::Config;

pub(crate) async fn run(config: Config, arguments: &ArgMatches) -> Outcome {
    let store = existing(&config)?;
    match arguments.subcommand() {
        Some(("list", arguments)) => match arguments.get_one::<String>("name") {
            Some(name) => list_of(name, &*store, &config.engine.policy).await,
            None => list(&*store, &config.engine.policy).await,
        },
        Some(("end", arguments)) => end(arguments, &operator(&config, store)).await,
        Some(("why", arguments)) => {
            let id = arguments.get_one::<String>("id").map_or("", String::as_str);
            let id: SessionId = id.parse().map_err(|_| format!("{id} is no session id"))?;
            let operator = operator(&config, store);
            let (chain, words) = operator.why(id, &config.engine.policy).await?;
            let mut lines = chain.iter().map(event_line);
            lines.try_for_each(|line| say(&line))?;
            say(&format!("{id}: {words}"))
        }
        _ => Ok(()),
    }
}

async fn end(arguments: &ArgMatches, operator: &Operator) -> Outcome {
    let given = |name| arguments.get_one::<String>(name);
    if let Some(name) = given("user") {
        let user = operator.account(name).await?;
        let user = user.ok_or_else(|| nobody(name))?;
        return end_of(&user, name, operator).await;
    }
    if let Some(id) = given("user-id") {
        let user = UserId::new(id).map_err(|_| format!("{} is no user id", shown(id)))?;
        return end_of(&user, id, operator).await;
    }
    if arguments.get_flag("all") {
        let ended = operator.end_all().await?;
        return report(&format!("everybody: {ended} ended"));
    }
    let id = given("id").map_or("", String::as_str);
    let id: SessionId = id.parse().map_err(|_| format!("{id} is no session id"))?;
    match operator.end_session(id).await {
        Err(Error::NotFound) => Err(format!("there is no session {id}").into()),
        Err(error) => Err(error.into()),
        Ok(()) => report(&format!("{id}: ended")),
    }
}

async fn end_of(user: &UserId, called: &str, operator: &Operator) -> Outcome {
    let ended = operator.end_user(user).await?;
    report(&format!("{}: {ended} ended", shown(called)))
}

fn nobody(name: &str) -> String {
    format!("there is no account named {}", shown(name))
}

async fn list_of(name: &str, store: &dyn Store, policy: &Policy) -> Outcome {
    let account = match canonical(name) {
        Ok(name) => store.account(&name).await?,
        Err(_) => None,
    };
    let account = account.ok_or_else(|| nobody(name))?;
    let restored_at = store.restored_at().await?;
    show_live(store.sessions_of(&account.id).await?, restored_at, policy)
}

async fn list(store: &(impl SessionStore + ?Sized), policy: &Policy) -> Outcome {
    let (mut after, restored_at) = (None, store.restored_at().await?);
    loop {
        let page = store.sessions(after, 1000).await?;
        let Some(last) = page.last() else {
            return Ok(());
        };
        after = Some(last.id);
        show_live(page, restored_at, policy)?;
    }
}

/// A store knows which sessions were ended; those that expired are told by time.
fn show_live(sessions: Vec<Session>, restored_at: Timestamp, policy: &Policy) -> Outcome {
    let now = SystemEnv.now();
    let rows = sessions.into_iter();
    let rows = rows.map(|session| session.since_restored(restored_at));
    let mut live = rows.filter(|session| session.over(now, policy).is_none());
    live.try_for_each(|session| show(&session))
}

fn show(session: &Session) -> Outcome {
    let device = session.device.name.as_deref().map_or("-".into(), shown);
    let (created, used) = (date(session.created_at), date(session.last_used()));
    let (id, owner) = (session.id, shown(session.user.as_str()));
    say(&format!("{id}\t{owner}\t{created}\t{used}\t{device}"))
}
