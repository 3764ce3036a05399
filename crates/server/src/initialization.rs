//! INITIALIZATION: from settings to a door, or to the store alone, which is all that commands need.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use doorward_axum::{Builder, Doorward};
use doorward_core::Event;
use doorward_core::store::Store;
use doorward_stores::Place;
use rustix::fs::{Access, AtFlags, CWD, accessat};

use crate::Outcome;
use crate::config::Config;

/// Opens the store and everything above it; each event goes to `on_event`.
pub(crate) async fn open(
    config: &Config,
    on_event: impl Fn(&Event) + Send + Sync + 'static,
) -> Outcome<Doorward> {
    let mut builder = builder(config)?;
    builder.engine = config.engine.clone();
    builder.settings = config.settings.clone();
    builder.trusted_proxies.clone_from(&config.trusted_proxies);
    builder.on_event = Box::new(on_event);
    Ok(builder.open().await?)
}

fn builder(config: &Config) -> Outcome<Builder> {
    look(&config.store)?;
    let mut builder = Doorward::at(config.store.clone());
    builder.store_next.clone_from(&config.store_next);
    Ok(builder)
}

/// The store without the work in the background: it makes no keys, and removes nothing by a policy
/// that need not be the server's. Makes the file where there is none.
pub(crate) fn store(config: &Config) -> Outcome<Arc<dyn Store>> {
    look(&config.store)?;
    let (next, policy) = (config.store_next.as_ref(), config.engine.policy.clone());
    Ok(config.store.open_before(next, policy, false)?)
}

/// Refuses what cannot be a store before it is opened.
fn look(place: &Place) -> Outcome {
    if let Place::Sqlite(path) = place {
        is_there(path)?;
    }
    Ok(())
}

/// Whether there is a file. Refuses what cannot be a database before SQLite looks at it: one that
/// is no file may keep the opener waiting. Does not open it: whoever closes a file gives up all locks
/// that the process has on it, SQLite's among them.
pub(crate) fn is_there(path: &Path) -> Outcome<bool> {
    let name = path.display();
    let words = match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return in_a_directory(path),
        Err(error) => error.to_string(),
        Ok(found) if found.is_dir() => {
            format!("is a directory; name a file in it: sqlite://{name}/doorward.db")
        }
        Ok(found) if !found.is_file() => "is no regular file; name another one".into(),
        Ok(_) => match accessat(
            CWD,
            path,
            Access::READ_OK | Access::WRITE_OK,
            AtFlags::EACCESS,
        ) {
            Ok(()) => return Ok(true),
            Err(error) => format!(
                "{}; run this as the user that the file belongs to",
                io::Error::from(error)
            ),
        },
    };
    Err(format!("{name}: {words}").into())
}

/// That there is none, where one could be made.
fn in_a_directory(path: &Path) -> Outcome<bool> {
    let directory = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    match directory.map(fs::metadata) {
        None => Ok(false),
        Some(Ok(found)) if found.is_dir() => Ok(false),
        Some(_) => Err(format!(
            "{}: there is no such directory; make it first",
            path.display()
        )
        .into()),
    }
}
