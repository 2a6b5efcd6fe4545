//! A connection to a member: in clear, or by TLS 1.3 with a certificate that the given authority
//! has signed for the member's address. The system's authorities count for nothing.

use std::fmt;
use std::sync::Arc;

use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, version};

use super::gateway::io;

/// What begins the reason of a handshake that one side would not go on with.
pub(super) const TLS: &str = "TLS: ";

/// Whom `https` trusts, and as whom it answers.
#[derive(Clone)]
pub struct Tls(Arc<ClientConfig>);

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}

impl Tls {
    /// Trusts the authorities of a PEM file and no other. `own` is a certificate chain and its
    /// key, both PEM, for a cluster that asks its clients for one.
    ///
    /// # Errors
    /// What does not read, in words.
    pub fn new(authorities: &[u8], own: Option<(&[u8], &[u8])>) -> Result<Self, String> {
        let chain = |pem: &[u8]| -> Result<Vec<_>, String> {
            let chain = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>().map_err(io)?;
            if chain.is_empty() { Err("no certificate in PEM".to_owned()) } else { Ok(chain) }
        };
        let mut roots = RootCertStore::empty();
        for authority in chain(authorities)? {
            roots.add(authority).map_err(io)?;
        }
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&version::TLS13])
            .map_err(io)?
            .with_root_certificates(roots);
        let config = match own {
            None => config.with_no_client_auth(),
            Some((own, key)) => {
                let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| "no private key in PEM")?;
                config.with_client_auth_cert(chain(own)?, key).map_err(io)?
            }
        };
        Ok(Self(Arc::new(config)))
    }
}

pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// The connection as hyper reads and writes it.
pub(super) async fn wrap(
    tcp: TcpStream,
    host: &str,
    tls: Option<&Tls>,
) -> Result<TokioIo<Box<dyn Stream>>, String> {
    let Some(Tls(config)) = tls else { return Ok(TokioIo::new(Box::new(tcp))) };
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name).trim_matches(['[', ']']);
    let name = ServerName::try_from(name.to_owned()).map_err(io)?;
    let stream = TlsConnector::from(Arc::clone(config)).connect(name, tcp).await;
    let told = |error: std::io::Error| match error.get_ref() {
        Some(refused) if refused.is::<tokio_rustls::rustls::Error>() => format!("{TLS}{refused}"),
        // The connection broke; the next one may not.
        Some(_) | None => format!("the handshake of TLS broke off: {error}"),
    };
    Ok(TokioIo::new(Box::new(stream.map_err(told)?)))
}
