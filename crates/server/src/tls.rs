//! TLS by rustls; the certificate is read again when its file changes.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use crate::Outcome;

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

    /// Reads changed files again. A pair that cannot be used leaves the old one in place.
    pub(crate) async fn watch(self: Arc<Self>) {
        let mut seen = self.changed_at();
        let mut ticks = tokio::time::interval(LOOK);
        loop {
            ticks.tick().await;
            let now = self.changed_at();
            if now == seen {
                continue;
            }
            seen = now;
            match load(&self.cert, &self.key) {
                Ok(acceptor) => {
                    *self.current.write().unwrap_or_else(PoisonError::into_inner) = acceptor;
                    tracing::info!("the certificate was read again");
                }
                Err(error) => tracing::error!(%error, "the new certificate cannot be used"),
            }
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

fn load(cert: &Path, key: &Path) -> Outcome<TlsAcceptor> {
    let named = |path: &Path, error: rustls_pki_types::pem::Error| {
        format!("{}: no certificate or key in PEM: {error}", path.display())
    };
    let chain: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(cert).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let chain = chain.map_err(|error| named(cert, error))?;
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| named(key, error))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, private)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
