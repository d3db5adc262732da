//! Fetching a set of keys. The client is `ureq`: blocking, which is what a thread of its own wants; small; and with the
//! cryptography that is here anyway (rustls on aws-lc-rs).

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Proxy};

use crate::config::{KeyAlgorithm, KeySetSource};
use crate::limits::{KEY_FETCH_TIMEOUT, KEY_SET_BYTES_MAX};
use crate::session::keys::read;
use crate::session::keys::set::{self, Origin, Set, SetError};

/// Bytes of a file of certificates.
const CA_BYTES_MAX: u64 = 1 << 20;
/// Bytes of an answer's headers.
const HEADER_BYTES_MAX: usize = 16_384;

/// Why there is no set.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// No connection, no TLS, no answer in time, or a longer one than allowed.
    #[error("{0}")]
    Http(#[from] ureq::Error),
    /// An answer, and not the set.
    #[error("the answer is {0}, and not 200 (redirects are not followed)")]
    Status(u16),
    /// The answer is no set of use.
    #[error(transparent)]
    Set(#[from] SetError),
    /// The file of certificates cannot be used.
    #[error("cannot use the certificates in {path}: {why}", path = path.display())]
    Ca {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
}

/// A set, and the text that it was made of.
#[derive(Debug)]
pub struct Fetched {
    /// The keys.
    pub set: Set,
    /// What came.
    pub text: Vec<u8>,
}

/// Fetches a set of keys; it takes [`KEY_FETCH_TIMEOUT`] at most.
///
/// # Errors
/// See [`FetchError`].
pub fn fetch(
    url: &str,
    source: &KeySetSource,
    algorithms: &[KeyAlgorithm],
) -> Result<Fetched, FetchError> {
    let agent = agent(url, source.ca.as_deref())?;
    let mut answer = agent
        .get(url)
        .header("Accept", "application/jwk-set+json, application/json")
        .call()?;
    let status = answer.status().as_u16();
    if status != 200 {
        return Err(FetchError::Status(status));
    }
    let text = answer
        .body_mut()
        .with_config()
        .limit(KEY_SET_BYTES_MAX)
        .read_to_vec()?;
    let set = set::parse(&text, Origin::Elsewhere, algorithms)?;
    Ok(Fetched { set, text })
}

/// A client for one fetch: nothing is kept between two of them, so that certificates that were exchanged are seen.
fn agent(url: &str, ca: Option<&Path>) -> Result<Agent, FetchError> {
    let is_tls = url.starts_with("https://");
    let mut config = Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .timeout_global(Some(KEY_FETCH_TIMEOUT))
        .max_response_header_size(HEADER_BYTES_MAX)
        .max_idle_connections(0)
        .user_agent(concat!("longhaul/", env!("CARGO_PKG_VERSION")))
        // Plain HTTP is for this machine, which no proxy is.
        .proxy(if is_tls { Proxy::try_from_env() } else { None })
        .https_only(is_tls);
    if is_tls {
        config = config.tls_config(
            TlsConfig::builder()
                .unversioned_rustls_crypto_provider(Arc::new(
                    rustls::crypto::aws_lc_rs::default_provider(),
                ))
                .root_certs(RootCerts::Specific(Arc::new(roots(ca)?)))
                .build(),
        );
    }
    Ok(config.build().new_agent())
}

/// The system's certificates, and those of the setting.
fn roots(ca: Option<&Path>) -> Result<Vec<Certificate<'static>>, FetchError> {
    let system = rustls_native_certs::load_native_certs();
    let mut roots: Vec<_> = system
        .certs
        .iter()
        .map(|der| Certificate::from_der(der).to_owned())
        .collect();
    if let Some(path) = ca {
        let failed = |why: String| FetchError::Ca {
            path: path.to_owned(),
            why,
        };
        let content = read(path, CA_BYTES_MAX)
            .and_then(|content| content.ok_or_else(|| io::Error::other("it is too large")))
            .map_err(|error| failed(error.to_string()))?;
        let before = roots.len();
        for item in parse_pem(&content) {
            if let PemItem::Certificate(one) = item.map_err(|error| failed(error.to_string()))? {
                roots.push(one);
            }
        }
        if roots.len() == before {
            return Err(failed(
                "it has no \"-----BEGIN CERTIFICATE-----\"".to_owned(),
            ));
        }
    }
    Ok(roots)
}
