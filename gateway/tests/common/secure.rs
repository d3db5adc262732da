//! TLS for tests: an authority of the test's own, certificates that it signs, and rustls as a client.

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::{PrivatePkcs8KeyDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use tungstenite::WebSocket;
use tungstenite::client::IntoClientRequest;

use super::gateway::Gateway;
use super::http::dial;

/// A connection over TLS.
pub type Stream = StreamOwned<ClientConnection, TcpStream>;

/// Signs certificates.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: rcgen::Certificate,
}

impl Authority {
    /// A new one.
    pub fn new() -> Authority {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(DnType::CommonName, "the test's authority");
        let certificate = params.self_signed(&key).expect("it signs itself");
        Authority {
            issuer: Issuer::new(params, key),
            certificate,
        }
    }

    fn certify(&self, names: &[&str]) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().expect("a key");
        let alternatives: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(alternatives).expect("names");
        params.distinguished_name.push(DnType::CommonName, names[0]);
        let certificate = params.signed_by(&key, &self.issuer).expect("it signs");
        (certificate, key)
    }

    /// Writes `NAME.pem` and `NAME.key.pem` for these names, and `ca.pem`.
    pub fn write(&self, folder: &Path, name: &str, names: &[&str]) {
        let (certificate, key) = self.certify(names);
        for (file, content) in [
            (format!("{name}.pem"), certificate.pem()),
            (format!("{name}.key.pem"), key.serialize_pem()),
            ("ca.pem".to_owned(), self.certificate.pem()),
        ] {
            std::fs::write(folder.join(file), content).expect("the folder takes it");
        }
    }

    /// A client that trusts this authority alone, with a certificate for `subject` if there is one.
    pub fn client(&self, subject: Option<&str>, tls12: bool) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots
            .add(self.certificate.der().clone())
            .expect("it is an authority");
        let versions: &[_] = if tls12 { &[&TLS12] } else { &[&TLS13] };
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .expect("the provider has them")
            .with_root_certificates(roots);
        Arc::new(match subject {
            None => builder.with_no_client_auth(),
            Some(subject) => {
                let (certificate, key) = self.certify(&[subject]);
                let key = PrivatePkcs8KeyDer::from(key.serialize_der());
                builder
                    .with_client_auth_cert(vec![certificate.der().clone()], key.into())
                    .expect("they belong together")
            }
        })
    }
}

/// A gateway with TLS, and the authority of its certificate.
pub struct Secured {
    /// The gateway.
    pub gateway: Gateway,
    /// Who signed its certificate, and may sign its clients'.
    pub authority: Authority,
    files: tempfile::TempDir,
}

impl Secured {
    /// Starts one for `localhost`, with these further settings of `[tls]` and further arguments.
    pub fn start(shards: usize, settings: &str, arguments: &[&str]) -> Secured {
        let authority = Authority::new();
        let files = tempfile::tempdir().expect("a folder for certificates");
        authority.write(files.path(), "edge", &["localhost", "127.0.0.1"]);
        let file = files.path().join("longhaul.toml");
        let text = if settings.contains("[tls]") {
            settings.to_owned()
        } else {
            format!(
                "[tls]\ncertificates = [{{ chain = \"edge.pem\", key = \"edge.key.pem\" }}]\n{settings}"
            )
        };
        std::fs::write(&file, text).expect("the folder takes it");
        let mut all = vec!["--config", file.to_str().expect("a plain name")];
        all.extend(arguments);
        Secured {
            gateway: Gateway::start_with(shards, &all),
            authority,
            files,
        }
    }

    /// Where certificates lie, `ca.pem` among them.
    pub fn files(&self) -> &Path {
        self.files.path()
    }

    /// The authority's certificate.
    pub fn ca(&self) -> PathBuf {
        self.files.path().join("ca.pem")
    }

    /// The WebSocket endpoint, for clients that look its name up.
    pub fn url(&self) -> String {
        format!("wss://localhost:{}/v1", self.gateway.listen().port())
    }

    /// A TLS connection to `name`, its handshake not begun.
    pub fn dial(&self, config: Arc<ClientConfig>, name: &str) -> Stream {
        let name = ServerName::try_from(name.to_owned()).expect("a name");
        let client = ClientConnection::new(config, name).expect("the settings are good");
        StreamOwned::new(client, dial(self.gateway.listen()))
    }

    /// A WebSocket over it, JSON, past its Welcome; or why there is none.
    pub fn connect(
        &self,
        config: Arc<ClientConfig>,
        token: &str,
    ) -> Result<WebSocket<Stream>, String> {
        let mut request = self.url().into_client_request().expect("the URL is good");
        let headers = request.headers_mut();
        let authorization = format!("Bearer {token}");
        headers.insert("Authorization", authorization.parse().expect("plain"));
        headers.insert(
            "Sec-WebSocket-Protocol",
            "longhaul.v1.json".parse().expect("plain"),
        );
        let stream = self.dial(config, "localhost");
        let (mut socket, _) =
            tungstenite::client(request, stream).map_err(|error| match error {
                tungstenite::HandshakeError::Failure(tungstenite::Error::Http(response)) => {
                    let body = response.body().clone().unwrap_or_default();
                    format!("{} {}", response.status(), String::from_utf8_lossy(&body))
                }
                error => error.to_string(),
            })?;
        let welcome = socket.read().map_err(|error| error.to_string())?;
        assert!(welcome.to_string().contains("\"Welcome\""), "{welcome}");
        Ok(socket)
    }

    /// The same, with what a client usually has.
    pub fn connected(&self, role: &str, subject: &str) -> WebSocket<Stream> {
        let token = self.gateway.token(role, super::gateway::FLEET, subject);
        self.connect(self.authority.client(None, false), &token)
            .unwrap_or_else(|error| panic!("no upgrade: {error}"))
    }
}
