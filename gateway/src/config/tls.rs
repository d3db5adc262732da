//! The section `[tls]`.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};

use confique::Config;
use serde::Deserialize;

use super::rules::named_path;
use crate::transport::ClientCertificates;

/// How many certificates may be configured at once.
pub const CERTIFICATES_MAX: usize = 64;

/// TLS for vehicles and dashboards. With a certificate, every connection to server.listen is TLS (wss://); without one,
/// none is (ws://), which is for a private network or behind a load balancer that ends TLS. The files are read again on
/// SIGHUP, without closing a connection.
#[derive(Debug, Clone, PartialEq, Config)]
#[config(layer_attr(serde(deny_unknown_fields)))]
pub struct Tls {
    /// The certificates, up to 64. A client that asks for a name (SNI) is shown the one that has it, any other client the
    /// first. `chain` is a PEM file with the certificate and its intermediates, `key` a PEM file with its private key. A
    /// relative file name starts at this file's folder. For example:
    ///   certificates = [{ chain = "edge.pem", key = "edge.key.pem" }]
    #[config(default = [])]
    pub certificates: Vec<CertificateSource>,

    /// Serve clients that have TLS 1.2 only, beside those with TLS 1.3. Each costs several times as much memory.
    #[config(default = false)]
    pub tls12: bool,

    /// Certificates of clients: "off": none is asked for. "optional": a client may have one, which is then checked.
    /// "required": a vehicle must have one; dashboards may. A certificate's subject (its common name, or one of its
    /// alternative names) must be the subject of its client's token.
    #[config(default = "off")]
    pub client_certificates: ClientCertificates,

    /// The authorities that clients' certificates must come from: a PEM file.
    #[config(validate = named_path)]
    pub client_authorities: Option<PathBuf>,

    /// Certificates of clients that their authority has revoked: PEM files with CRLs. With one or more, each certificate
    /// of a client must be covered by a CRL that has not expired.
    #[config(default = [])]
    pub client_revoked: Vec<PathBuf>,
}

/// Where one certificate comes from.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertificateSource {
    /// PEM: the certificate, then its intermediates.
    pub chain: PathBuf,
    /// PEM: its private key.
    pub key: PathBuf,
}

impl Tls {
    /// Whether connections are TLS.
    pub fn is_on(&self) -> bool {
        !self.certificates.is_empty()
    }

    /// What must hold between these settings.
    ///
    /// # Errors
    /// The settings, and what to do.
    pub(super) fn check(&self) -> Result<(), String> {
        let count = self.certificates.len();
        if count > CERTIFICATES_MAX {
            return Err(format!(
                "tls.certificates has {count} certificates, allowed: up to {CERTIFICATES_MAX}"
            ));
        }
        let asks = self.client_certificates != ClientCertificates::Off;
        if asks && self.client_authorities.is_none() {
            return Err(
                "tls.client_certificates asks clients for certificates, but tls.client_authorities names no file with \
                 the authorities that they must come from"
                    .to_owned(),
            );
        }
        if asks && !self.is_on() {
            return Err(
                "tls.client_certificates asks clients for certificates, but without tls.certificates there is no TLS"
                    .to_owned(),
            );
        }
        Ok(())
    }

    /// A relative file name starts at `folder`.
    pub(super) fn locate(&mut self, folder: &Path) {
        for source in &mut self.certificates {
            source.chain = folder.join(&source.chain);
            source.key = folder.join(&source.key);
        }
        for file in self
            .client_authorities
            .iter_mut()
            .chain(&mut self.client_revoked)
        {
            *file = folder.join(&*file);
        }
    }
}
