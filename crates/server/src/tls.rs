//! TLS by rustls; the certificate is read again when its file changes, and at SIGHUP.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::signal::unix::Signal;
use tokio_rustls::TlsAcceptor;

use crate::{Outcome, secret_file};

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(5);

/// The certificate in use.
pub(crate) struct Tls {
    cert: PathBuf,
    key: PathBuf,
    current: RwLock<TlsAcceptor>,
}

impl Tls {
    pub(crate) fn open(cert: PathBuf, key: PathBuf) -> Outcome<Arc<Self>> {
        let acceptor = load(&cert, &key)?;
        Ok(Arc::new(Tls {
            cert,
            key,
            current: RwLock::new(acceptor),
        }))
    }

    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        self.current
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// A pair that cannot be used leaves the old one in place.
    fn read_again(&self) {
        match load(&self.cert, &self.key) {
            Ok(acceptor) => {
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = acceptor;
                tracing::info!("the certificate was read again");
            }
            Err(error) => tracing::error!(%error, "the new certificate cannot be used"),
        }
    }

    fn changed_at(&self) -> [Option<SystemTime>; 2] {
        let changed = |path: &Path| {
            std::fs::metadata(path)
                .and_then(|meta| meta.modified())
                .ok()
        };
        [changed(&self.cert), changed(&self.key)]
    }
}

/// Reads the certificate again when its files changed, and at each SIGHUP, which does nothing else:
/// it must not end a server that outlives its terminal.
pub(crate) async fn watch(tls: Option<Arc<Tls>>, mut hangups: Signal) {
    let changed_at = || tls.as_ref().map(|tls| tls.changed_at());
    let mut seen = changed_at();
    let mut ticks = tokio::time::interval(LOOK);
    loop {
        let asked = tokio::select! {
            _ = ticks.tick() => false,
            _ = hangups.recv() => true,
        };
        let now = changed_at();
        let changed = std::mem::replace(&mut seen, now) != now;
        match &tls {
            Some(tls) if asked || changed => tls.read_again(),
            None if asked => tracing::info!("SIGHUP: there is nothing to read again"),
            _ => {}
        }
    }
}

fn load(cert: &Path, key: &Path) -> Outcome<TlsAcceptor> {
    let named = |path: &Path, error: rustls_pki_types::pem::Error| {
        format!("{}: no certificate or key in PEM: {error}", path.display())
    };
    let chain: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(cert).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let chain = chain.map_err(|error| named(cert, error))?;
    let private = secret_file::read(key).map_err(|error| format!("{}: {error}", key.display()))?;
    let private = PrivateKeyDer::from_pem_slice(&private).map_err(|error| named(key, error))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, private)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
