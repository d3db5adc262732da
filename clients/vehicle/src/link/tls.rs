//! Whom `wss://` trusts.

use std::io;
use std::sync::Arc;

use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::Trust;

/// A connector that trusts those, and no others. Reads files.
pub(super) fn connector(trust: &Trust) -> Result<TlsConnector, String> {
    let mut roots = RootCertStore::empty();
    match trust {
        Trust::System => {
            let found = rustls_native_certs::load_native_certs();
            let (added, _) = roots.add_parsable_certificates(found.certs);
            if added == 0 {
                let errors: Vec<_> = found.errors.iter().map(ToString::to_string).collect();
                return Err(format!(
                    "the system has no certificate authorities ({}): install them (ca-certificates), or name a file of them",
                    errors.join("; ")
                ));
            }
        }
        Trust::File(path) => {
            let wrong = |error: String| format!("certificates in {}: {error}", path.display());
            let found = CertificateDer::pem_file_iter(path)
                .and_then(Iterator::collect::<Result<Vec<_>, _>>)
                .map_err(|error| wrong(error.to_string()))?;
            let (added, _) = roots.add_parsable_certificates(found);
            if added == 0 {
                return Err(wrong("there are none; it has to be PEM".to_owned()));
            }
        }
    }
    // The provider is named, so that nothing depends on which one the rest of a program has installed.
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// A failed handshake in words that say where to look.
pub(super) fn failed(error: &io::Error) -> String {
    format!("TLS: {error}")
}
