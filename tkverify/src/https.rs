//! Whom an `https` server must be vouched for by: the roots that come with the program, or, as
//! elsewhere, those of the file that `SSL_CERT_FILE` names, for authorities of one's own.

use ureq::config::ConfigBuilder;
use ureq::typestate::AgentScope;

/// Why this program cannot speak `https`; `None` when it can.
pub(crate) type Fault = Option<String>;

/// Adds the roots to an agent's settings.
#[cfg(not(feature = "tls"))]
pub(crate) fn rooted(config: ConfigBuilder<AgentScope>) -> (ConfigBuilder<AgentScope>, Fault) {
    (config, Some("this program was built without https (feature `tls` of tkverify)".to_owned()))
}

/// Adds the roots to an agent's settings.
#[cfg(feature = "tls")]
pub(crate) fn rooted(config: ConfigBuilder<AgentScope>) -> (ConfigBuilder<AgentScope>, Fault) {
    let Some(path) = std::env::var_os(VARIABLE) else { return (config, None) };
    match roots(path.as_ref()) {
        Ok(roots) => (config.tls_config(ureq::tls::TlsConfig::builder().root_certs(roots).build()), None),
        Err(why) => (config, Some(format!("{VARIABLE}={}: {why}", path.display()))),
    }
}

/// The name under which OpenSSL and others look for such a file.
#[cfg(feature = "tls")]
const VARIABLE: &str = "SSL_CERT_FILE";

/// The certificates of a PEM file; anything else in it is passed over.
#[cfg(feature = "tls")]
fn roots(path: &std::path::Path) -> Result<ureq::tls::RootCerts, String> {
    use ureq::tls::{PemItem, RootCerts, parse_pem};

    let text = std::fs::read(path).map_err(|e| e.to_string())?;
    let mut certificates = Vec::new();
    for item in parse_pem(&text) {
        if let PemItem::Certificate(certificate) = item.map_err(|_| "not a PEM file")? {
            certificates.push(certificate);
        }
    }
    if certificates.is_empty() {
        return Err("no certificate is in it".to_owned());
    }
    Ok(RootCerts::new_with_certs(&certificates))
}

#[cfg(all(test, feature = "tls"))]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_gives_no_root_is_said_to() {
        let dir = testkit::TempDir::new();
        let file = dir.join("roots.pem");
        assert!(roots(&file).is_err_and(|why| why.contains("No such file")));
        std::fs::write(&file, "").unwrap();
        assert_eq!(roots(&file).unwrap_err(), "no certificate is in it");
        std::fs::write(&file, "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n").unwrap();
        assert_eq!(roots(&file).unwrap_err(), "not a PEM file");
    }
}
