//! `doorward session`: look at sessions and end them.

use clap::ArgMatches;
use doorward_core::store::SessionStore;
use doorward_core::{EndReason, Session, SessionId};

use super::{date, open, say};
use crate::Outcome;
use crate::config::Config;

pub(crate) async fn run(config: Config, arguments: &ArgMatches) -> Outcome {
    let door = open(&config).await?;
    match arguments.subcommand() {
        Some(("list", arguments)) => match arguments.get_one::<String>("name") {
            Some(name) => {
                let account = door.accounts().find(name).await;
                let account = account.map_err(|_| format!("there is no account named {name}"))?;
                let sessions = door.service().sessions_of(&account.id).await?;
                sessions.iter().for_each(show);
                Ok(())
            }
            None => list(&**door.service().store()).await,
        },
        Some(("end", arguments)) => {
            let id = arguments.get_one::<String>("id").map_or("", String::as_str);
            let id: SessionId = id.parse().map_err(|_| format!("{id} is no session id"))?;
            door.service()
                .session(id)
                .await
                .map_err(|_| format!("there is no session {id}"))?;
            door.service().end(id, EndReason::EndedByOperator).await.0?;
            say(&format!("{id}: ended"));
            Ok(())
        }
        _ => Ok(()),
    }
}

async fn list(store: &(impl SessionStore + ?Sized)) -> Outcome {
    let mut after = None;
    loop {
        let page = store.sessions(after, 1000).await?;
        let Some(last) = page.last() else {
            return Ok(());
        };
        after = Some(last.id);
        page.iter().for_each(show);
    }
}

fn show(session: &Session) {
    let device = session.device.name.as_deref().unwrap_or("-");
    let (created, used) = (date(session.created_at), date(session.last_used()));
    say(&format!(
        "{}\t{}\t{created}\t{used}\t{device}",
        session.id, session.user
    ));
}
