//! A connection to a member, in clear.

use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// What `https` needs; this program was built without it.
#[derive(Debug, Clone)]
pub enum Tls {}

/// The connection as hyper reads and writes it.
pub(super) async fn wrap(
    tcp: TcpStream,
    _: &str,
    is_tls: bool,
    _: Option<&Tls>,
) -> Result<TokioIo<TcpStream>, String> {
    if is_tls {
        return Err("https needs a tksign that was built with the feature etcd-tls".to_owned());
    }
    Ok(TokioIo::new(tcp))
}
