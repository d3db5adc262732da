//! What handshakes go by: our certificates by name, the authorities of clients' certificates. Read from files, and read
//! again while connections live on.

use std::{
    collections::HashMap,
    fmt,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use arc_swap::ArcSwap;
use rustls::{
    RootCertStore, ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{
        CertificateDer, CertificateRevocationListDer, PrivateKeyDer,
        pem::{self, PemObject},
    },
    server::{
        ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier,
        danger::ClientCertVerifier,
    },
    sign::CertifiedKey,
    version::{TLS12, TLS13},
};
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, prelude::FromDer};

use super::peer_name::ClientCertificates;
use crate::config::{CertificateSource, Tls};

/// No file of certificates or keys is larger.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// The one application protocol (ALPN) that WebSocket has (RFC 8441 would be another).
const HTTP_1_1: &[u8] = b"http/1.1";

/// Why TLS cannot be set up. No message holds any of a key.
#[derive(Debug, thiserror::Error)]
pub enum CertificatesError {
    /// A file cannot be read.
    #[error("cannot read {path} ({setting})", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The setting that names it.
        setting: &'static str,
        /// What the operating system said.
        source: io::Error,
    },
    /// A file is not what it should be.
    #[error("{path} ({setting}) {reason}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The setting that names it.
        setting: &'static str,
        /// What is wrong with it, and what to do.
        reason: String,
    },
    /// The library refuses what the settings ask for.
    #[error("the TLS library does not take these settings: {0}")]
    Library(String),
}

/// The certificates in force.
pub struct Certificates {
    settings: Tls,
    current: ArcSwap<ServerConfig>,
}

impl fmt::Debug for Certificates {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Certificates").finish_non_exhaustive()
    }
}

impl Certificates {
    /// Reads the files that the settings name. `None`: no TLS.
    ///
    /// # Errors
    /// The first file that is of no use.
    pub fn load(settings: &Tls) -> Result<Option<Arc<Certificates>>, CertificatesError> {
        if !settings.is_on() {
            return Ok(None);
        }
        Ok(Some(Arc::new(Certificates {
            current: ArcSwap::from(build(settings)?),
            settings: settings.clone(),
        })))
    }

    /// Reads the files again. Handshakes from now on go by them; who is connected is left alone. Tickets of before are
    /// good no more: whoever comes back with one shows a certificate anew.
    ///
    /// # Errors
    /// The first file that is of no use. Everything is as before then.
    pub fn reload(&self) -> Result<(), CertificatesError> {
        self.current.store(build(&self.settings)?);
        Ok(())
    }

    /// What a new session goes by.
    pub fn current(&self) -> Arc<ServerConfig> {
        self.current.load_full()
    }

    /// What is asked of clients.
    pub fn of_clients(&self) -> ClientCertificates {
        self.settings.client_certificates
    }
}

fn build(settings: &Tls) -> Result<Arc<ServerConfig>, CertificatesError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let library = |error: rustls::Error| CertificatesError::Library(error.to_string());
    let versions = if settings.tls12 {
        &[&TLS13, &TLS12][..]
    } else {
        &[&TLS13]
    };
    let named = Named::load(&settings.certificates, &provider)?;
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions)
        .map_err(library)?;
    let builder = match clients(settings, provider)? {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(Arc::new(named));
    config.alpn_protocols = vec![HTTP_1_1.to_vec()];
    // Sessions are resumed by tickets, which the clients keep: nothing per client here.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = aws_lc_rs::Ticketer::new().map_err(library)?;
    config.send_tls13_tickets = 1;
    config.enable_secret_extraction = true;
    Ok(Arc::new(config))
}

/// What checks the certificates of clients, if they are asked for some.
fn clients(
    settings: &Tls,
    provider: Arc<CryptoProvider>,
) -> Result<Option<Arc<dyn ClientCertVerifier>>, CertificatesError> {
    const AUTHORITIES: &str = "tls.client_authorities";
    const REVOKED: &str = "tls.client_revoked";
    let Some(file) = &settings.client_authorities else {
        return Ok(None);
    };
    if settings.client_certificates == ClientCertificates::Off {
        return Ok(None);
    }
    let mut roots = RootCertStore::empty();
    for certificate in certificates_of(file, AUTHORITIES)? {
        roots.add(certificate).map_err(|error| {
            wrong(
                file,
                AUTHORITIES,
                format!("has an authority that is none: {error}"),
            )
        })?;
    }
    let mut revoked = Vec::new();
    for file in &settings.client_revoked {
        let content = read(file, REVOKED)?;
        let before = revoked.len();
        for list in CertificateRevocationListDer::pem_slice_iter(&content) {
            revoked.push(list.map_err(|error| not_pem(file, REVOKED, &error))?);
        }
        if revoked.len() == before {
            let reason = "holds no CRL (\"-----BEGIN X509 CRL-----\")".to_owned();
            return Err(wrong(file, REVOKED, reason));
        }
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .with_crls(revoked)
        // Whether a vehicle must have one is decided by its token, which says that it is a vehicle.
        .allow_unauthenticated()
        .build()
        .map_err(|error| CertificatesError::Library(error.to_string()))?;
    Ok(Some(verifier))
}

/// Our certificates, by the names that clients ask for.
#[derive(Debug)]
struct Named {
    /// Lower case; "*.example.com" as it stands in a certificate.
    by_name: HashMap<String, Arc<CertifiedKey>>,
    first: Option<Arc<CertifiedKey>>,
}

impl Named {
    fn load(
        sources: &[CertificateSource],
        provider: &CryptoProvider,
    ) -> Result<Named, CertificatesError> {
        let mut named = Named {
            by_name: HashMap::new(),
            first: None,
        };
        for source in sources {
            let chain = certificates_of(&source.chain, "tls.certificates")?;
            let names = chain
                .first()
                .map(|leaf| dns_names(leaf))
                .unwrap_or_default();
            let key = Arc::new(certified(source, chain, provider)?);
            for name in names {
                // The first that has a name is shown for it.
                named
                    .by_name
                    .entry(name)
                    .or_insert_with(|| Arc::clone(&key));
            }
            named.first.get_or_insert(key);
        }
        Ok(named)
    }

    fn find(&self, name: &str) -> Option<&Arc<CertifiedKey>> {
        let name = name.to_ascii_lowercase();
        self.by_name.get(&name).or_else(|| {
            // A wildcard stands for one label (RFC 9525 §6.3).
            let (_, parent) = name.split_once('.')?;
            self.by_name.get(&format!("*.{parent}"))
        })
    }
}

impl ResolvesServerCert for Named {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        hello
            .server_name()
            .and_then(|name| self.find(name))
            .or(self.first.as_ref())
            .cloned()
    }
}

/// A certificate with its private key, which belong together.
fn certified(
    source: &CertificateSource,
    chain: Vec<CertificateDer<'static>>,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, CertificatesError> {
    const SETTING: &str = "tls.certificates";
    let content = read(&source.key, SETTING)?;
    let key = PrivateKeyDer::from_pem_slice(&content).map_err(|error| match error {
        pem::Error::NoItemsFound => {
            let reason = "holds no private key (\"-----BEGIN PRIVATE KEY-----\")".to_owned();
            wrong(&source.key, SETTING, reason)
        }
        error => not_pem(&source.key, SETTING, &error),
    })?;
    crate::session::keys::warn_if_readable_by_all(&source.key);
    CertifiedKey::from_der(chain, key, provider).map_err(|error| {
        let reason = format!(
            "and {} do not belong together, or are of a kind that is not served: {error}",
            source.chain.display()
        );
        wrong(&source.key, SETTING, reason)
    })
}

/// The certificates in a PEM file, at least one.
fn certificates_of(
    file: &Path,
    setting: &'static str,
) -> Result<Vec<CertificateDer<'static>>, CertificatesError> {
    let content = read(file, setting)?;
    let certificates = CertificateDer::pem_slice_iter(&content)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| not_pem(file, setting, &error))?;
    if certificates.is_empty() {
        let reason = "holds no certificate (\"-----BEGIN CERTIFICATE-----\")".to_owned();
        return Err(wrong(file, setting, reason));
    }
    Ok(certificates)
}

/// The names that a certificate is for, in lower case.
fn dns_names(certificate: &[u8]) -> Vec<String> {
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else {
        return Vec::new();
    };
    let extension = certificate.subject_alternative_name().ok().flatten();
    extension
        .iter()
        .flat_map(|extension| &extension.value.general_names)
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
            _ => None,
        })
        .collect()
}

fn read(path: &Path, setting: &'static str) -> Result<Vec<u8>, CertificatesError> {
    let failed = |source| CertificatesError::Read {
        path: path.to_owned(),
        setting,
        source,
    };
    let mut content = Vec::new();
    File::open(path)
        .map_err(failed)?
        .take(FILE_BYTES_MAX + 1)
        .read_to_end(&mut content)
        .map_err(failed)?;
    if content.len() as u64 > FILE_BYTES_MAX {
        let reason = format!("is larger than {FILE_BYTES_MAX} bytes");
        return Err(wrong(path, setting, reason));
    }
    Ok(content)
}

fn wrong(path: &Path, setting: &'static str, reason: String) -> CertificatesError {
    CertificatesError::File {
        path: path.to_owned(),
        setting,
        reason,
    }
}

fn not_pem(path: &Path, setting: &'static str, error: &pem::Error) -> CertificatesError {
    wrong(path, setting, format!("is no good PEM file: {error}"))
}

#[cfg(test)]
mod tests;
