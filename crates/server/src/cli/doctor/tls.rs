//! What a server's certificate is worth, by this machine's roots.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use doorward_core::{Env, SystemEnv};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, Error,
    ProtocolVersion, RootCertStore, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::Outcome;

/// A connection's TLS, and the certificate it came with.
#[derive(Clone, Debug, Default)]
pub(crate) struct Certificate {
    /// Whether it is TLS 1.3.
    pub(crate) newest: bool,
    /// Why it is not to be trusted.
    pub(crate) refused: Option<String>,
    /// Seconds since the epoch, where known.
    pub(crate) from: Option<i64>,
    pub(crate) until: Option<i64>,
}

/// How certificates are looked at.
pub(crate) struct Trust {
    provider: Arc<CryptoProvider>,
    /// None where this machine has no roots.
    verifier: Option<Arc<WebPkiServerVerifier>>,
}

impl Trust {
    pub(crate) fn of_this_machine() -> Self {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
        Trust {
            verifier: verifier.build().ok(),
            provider,
        }
    }

    /// Settings for connections that carry something. Without `insecure` they need a certificate
    /// that verifies.
    pub(crate) fn config(&self, insecure: bool) -> Outcome<Arc<ClientConfig>> {
        let verifier = self.verifier.clone().filter(|_| !insecure);
        let verifier: Arc<dyn ServerCertVerifier> = match verifier {
            Some(verifier) => verifier,
            None if insecure => Arc::new(Any(Arc::clone(&self.provider))),
            None => return Err(NO_ROOTS.into()),
        };
        let config = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        Ok(Arc::new(config))
    }

    /// What a finished handshake showed.
    pub(crate) fn look(&self, connection: &ClientConnection, host: &ServerName<'_>) -> Certificate {
        let chain = connection.peer_certificates().unwrap_or_default();
        let judge = |seconds: u64| self.judge(chain, host, seconds);
        let now = u64::try_from(SystemEnv.now().seconds()).unwrap_or_default();
        // Verifiers tell a certificate's times to those who ask from outside of them.
        Certificate {
            newest: connection.protocol_version() == Some(ProtocolVersion::TLSv1_3),
            refused: judge(now).err().map(|error| words(&error)),
            from: judge(0).err().and_then(|error| times(&error)),
            until: judge(FAR).err().and_then(|error| times(&error)),
        }
    }

    fn judge(
        &self,
        chain: &[CertificateDer<'_>],
        host: &ServerName<'_>,
        at: u64,
    ) -> Result<ServerCertVerified, Error> {
        let verifier = self.verifier.as_ref();
        let verifier = verifier.ok_or_else(|| Error::General(NO_ROOTS.into()))?;
        let (first, rest) = chain.split_first().ok_or(Error::NoCertificatesPresented)?;
        let at = UnixTime::since_unix_epoch(Duration::from_secs(at));
        verifier.verify_server_cert(first, rest, host, &[], at)
    }
}

const NO_ROOTS: &str =
    "this machine has no root certificates: install ca-certificates, or set SSL_CERT_FILE";

/// The year 9999.
const FAR: u64 = 253_370_764_800;

fn times(error: &Error) -> Option<i64> {
    let at = match error {
        Error::InvalidCertificate(CertificateError::ExpiredContext { not_after, .. }) => not_after,
        Error::InvalidCertificate(CertificateError::NotValidYetContext { not_before, .. }) => {
            not_before
        }
        _ => return None,
    };
    i64::try_from(at.as_secs()).ok()
}

fn words(error: &Error) -> String {
    use CertificateError as C;
    match error {
        Error::InvalidCertificate(C::Expired | C::ExpiredContext { .. }) => "it has expired".into(),
        Error::InvalidCertificate(C::NotValidYet | C::NotValidYetContext { .. }) => {
            "it is not valid yet".into()
        }
        Error::InvalidCertificate(C::NotValidForName | C::NotValidForNameContext { .. }) => {
            "it is not for this host".into()
        }
        Error::InvalidCertificate(C::UnknownIssuer) => {
            "no root that this machine trusts issued it, or the chain lacks what lies between"
                .into()
        }
        error => error.to_string(),
    }
}

/// Takes any certificate, but the handshake must still be signed by it.
struct Any(Arc<CryptoProvider>);

impl fmt::Debug for Any {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Any")
    }
}

impl ServerCertVerifier for Any {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
