//! Tokens of every algorithm, and the keys that they are checked with, exchanged while the gateway runs.

mod common;

use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use common::client::Client;
use common::eventually;
use common::gateway::{FLEET, Gateway, bound_to_this_thread, token};
use common::http::{Metrics, exchange, upgrade};
use data_encoding::BASE64URL_NOPAD;
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

/// What `openssl` prints, given the arguments.
fn openssl(arguments: &[&str]) -> Vec<u8> {
    let output = Command::new("openssl")
        .args(arguments)
        .stderr(Stdio::null())
        .output()
        .expect("openssl is there");
    assert!(output.status.success(), "{arguments:?}");
    output.stdout
}

fn text(path: &Path) -> &str {
    path.to_str().expect("temporary folders have plain names")
}

/// A pair of keys in two files.
struct Pair {
    algorithm: &'static str,
    private: PathBuf,
    public: PathBuf,
}

impl Pair {
    fn new(folder: &Path, algorithm: &'static str, name: &str) -> Pair {
        let kind: &[&str] = match algorithm {
            "EdDSA" => &["-algorithm", "ed25519"],
            "ES256" => &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
            _ => &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
        };
        let private = folder.join(format!("{name}.pem"));
        let public = folder.join(format!("{name}.pub.pem"));
        openssl(&[&["genpkey", "-out", text(&private)], kind].concat());
        openssl(&[
            "pkey",
            "-in",
            text(&private),
            "-pubout",
            "-out",
            text(&public),
        ]);
        Pair {
            algorithm,
            private,
            public,
        }
    }

    fn token(&self, kid: &str, subject: &str) -> String {
        let key = ["--key", text(&self.private), "--algorithm", self.algorithm];
        let kid: &[&str] = if kid.is_empty() { &[] } else { &["--kid", kid] };
        token(&[&key, kid].concat(), "vehicle", FLEET, subject)
    }

    /// The public key of an Ed25519 pair as a JWK: its last 32 bytes.
    fn jwk(&self, kid: &str) -> Value {
        let der = openssl(&[
            "pkey",
            "-pubin",
            "-in",
            text(&self.public),
            "-outform",
            "DER",
        ]);
        let x = BASE64URL_NOPAD.encode(&der[der.len() - 32..]);
        json!({ "kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": kid, "x": x })
    }
}

/// An identity provider: a folder behind a small web server.
struct Provider {
    folder: PathBuf,
    port: u16,
    tls: Option<(PathBuf, PathBuf)>,
    process: Option<Child>,
}

const SERVER: &str = "\
import http.server, os, ssl, sys
os.chdir(sys.argv[1])
class Handler(http.server.SimpleHTTPRequestHandler):
    def do_GET(self):
        if self.path == '/moved':
            self.send_response(302)
            self.send_header('Location', '/jwks.json')
            self.end_headers()
        else:
            super().do_GET()
    def log_message(self, *_):
        pass
server = http.server.ThreadingHTTPServer(('127.0.0.1', int(sys.argv[2])), Handler)
if len(sys.argv) > 3:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[3], sys.argv[4])
    server.socket = context.wrap_socket(server.socket, server_side=True)
print('ready', flush=True)
server.serve_forever()
";

impl Provider {
    fn new(folder: &Path, tls: Option<(PathBuf, PathBuf)>) -> Provider {
        let probe = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let port = probe.local_addr().expect("it is bound").port();
        let folder = folder.join("provider");
        std::fs::create_dir(&folder).expect("the folder takes it");
        Provider {
            folder,
            port,
            tls,
            process: None,
        }
    }

    fn up(&mut self) {
        let mut command = bound_to_this_thread("python3");
        command.args(["-c", SERVER, text(&self.folder), &self.port.to_string()]);
        if let Some((certificate, key)) = &self.tls {
            command.args([certificate, key]);
        }
        let mut process = command
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 is there");
        let mut ready = [0; 5];
        // The pipe stays open: the provider may not have written all of its line.
        let stdout = process.stdout.as_mut().expect("it is piped");
        std::io::Read::read_exact(stdout, &mut ready).expect("the provider is up");
        self.process = Some(process);
    }

    fn down(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    fn publish(&self, keys: &[Value]) {
        self.publish_text(&json!({ "keys": keys }).to_string());
    }

    fn publish_text(&self, text: &str) {
        let next = self.folder.join("next");
        let mut file = std::fs::File::create(&next).expect("the folder takes it");
        file.write_all(text.as_bytes())
            .expect("the folder takes it");
        std::fs::rename(&next, self.folder.join("jwks.json")).expect("the folder takes it");
    }

    fn url(&self, path: &str) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{}/{path}", self.port)
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.down();
    }
}

fn set(url: &str, more: &str) -> String {
    format!("auth.key_sets=[{{ url = \"{url}\"{more} }}]")
}

fn pem(tag: &str, der: &[u8]) -> String {
    let text = data_encoding::BASE64.encode(der);
    format!("-----BEGIN {tag}-----\n{text}\n-----END {tag}-----\n")
}

fn status(gateway: &Gateway, token: &str) -> u16 {
    let mut stream = common::http::dial(gateway.listen());
    stream
        .write_all(upgrade(token).as_bytes())
        .expect("it is taken");
    let mut head = [0; 12];
    std::io::Read::read_exact(&mut stream, &mut head).expect("an answer");
    let text = String::from_utf8_lossy(&head).into_owned();
    text[9..12].parse().expect("a status")
}

fn metric(gateway: &Gateway, series: &str) -> u64 {
    Metrics::of(gateway.control()).value(series)
}

#[test]
fn tokens_of_all_algorithms_get_in_and_only_by_their_own_key() {
    let folder = TempDir::new().expect("a folder");
    let pairs = ["EdDSA", "ES256", "RS256"].map(|algorithm| {
        let pair = Pair::new(folder.path(), algorithm, algorithm);
        let other = Pair::new(folder.path(), algorithm, &format!("other-{algorithm}"));
        (pair, other)
    });
    let keys: Vec<String> = pairs
        .iter()
        .map(|(pair, _)| {
            let (algorithm, file) = (pair.algorithm, text(&pair.public));
            format!("{{ algorithm = \"{algorithm}\", file = \"{file}\" }}")
        })
        .collect();
    let keys = format!("auth.keys=[{}]", keys.join(", "));
    let gateway = Gateway::start_with(2, &["--set", &keys]);
    for (pair, other) in &pairs {
        let good = pair.token("", pair.algorithm);
        let mut client = Client::connect(&gateway, &good);
        assert_eq!(client.welcome().subject, pair.algorithm);
        assert_eq!(client.drain(), []);
        let answer = exchange(gateway.listen(), upgrade(&other.token("", "x")).as_bytes());
        assert_eq!(answer.status, 401);
        assert!(answer.body.contains("signature"), "{}", answer.body);
    }
    // The public key, which everybody has, as a secret.
    let (pair, _) = &pairs[2];
    let secret = folder.path().join("forged");
    let public = std::fs::read_to_string(&pair.public).expect("it is there");
    let body: String = public
        .lines()
        .filter(|line| !line.starts_with('-'))
        .collect();
    std::fs::write(&secret, body).expect("the folder takes it");
    let forged = token(
        &["--key", text(&secret), "--algorithm", "HS256"],
        "vehicle",
        FLEET,
        "x",
    );
    assert_eq!(status(&gateway, &forged), 401);
    drop(Client::connect(&gateway, &gateway.vehicle_token("dev")));
}

#[test]
fn an_operator_has_no_business_on_the_data_plane() {
    let gateway = Gateway::start(1);
    let operator = gateway.token("operator", FLEET, "ada");
    let answer = exchange(gateway.listen(), upgrade(&operator).as_bytes());
    assert_eq!(answer.status, 403);
    assert!(answer.body.contains("control plane"), "{}", answer.body);
}

/// The provider takes a new key into use: tokens of it get in without a restart, and those of the old one do not, once
/// it is gone.
#[test]
fn keys_rotate_without_a_restart() {
    let folder = TempDir::new().expect("a folder");
    let old = Pair::new(folder.path(), "EdDSA", "old");
    let new = Pair::new(folder.path(), "EdDSA", "new");
    let mut provider = Provider::new(folder.path(), None);
    provider.publish(&[old.jwk("1")]);
    provider.up();
    let set = set(&provider.url("jwks.json"), ", refresh_s = 3600");
    let gateway = Gateway::start_with(2, &["--set", &set]);
    eventually("the keys are there", || {
        status(&gateway, &old.token("1", "a")) == 101
    });
    let mut long_connected = Client::connect(&gateway, &old.token("1", "b"));
    assert_eq!(metric(&gateway, "longhaul_keys{from=\"url\"}"), 1);
    assert!(metric(&gateway, "longhaul_key_sets_fetched_timestamp_seconds") > 1_700_000_000);

    provider.publish(&[old.jwk("1"), new.jwk("2")]);
    // The next fetch is an hour away: the token's kid hurries it, ten seconds after the one before at the earliest.
    eventually("a token of the new key gets in", || {
        status(&gateway, &new.token("2", "a")) == 101
    });
    assert_eq!(status(&gateway, &old.token("1", "a")), 101, "both are good");

    provider.publish(&[new.jwk("2")]);
    gateway.signal(Signal::HUP);
    eventually("the old key is gone", || {
        status(&gateway, &old.token("1", "a")) == 401
    });
    assert_eq!(status(&gateway, &new.token("2", "a")), 101);
    assert_eq!(
        long_connected.drain(),
        [],
        "who is connected is so until the token ends"
    );
    assert!(metric(&gateway, "longhaul_key_set_fetches_total") >= 3);
}

#[test]
fn a_flood_of_made_up_keys_does_not_reach_the_provider() {
    let folder = TempDir::new().expect("a folder");
    let pair = Pair::new(folder.path(), "EdDSA", "one");
    let mut provider = Provider::new(folder.path(), None);
    provider.publish(&[pair.jwk("1")]);
    provider.up();
    let set = set(&provider.url("jwks.json"), ", refresh_s = 3600");
    let gateway = Gateway::start_with(2, &["--set", &set]);
    eventually("the keys are there", || {
        status(&gateway, &pair.token("1", "a")) == 101
    });
    for n in 0..100 {
        assert_eq!(
            status(&gateway, &pair.token(&format!("made-up-{n}"), "a")),
            401
        );
    }
    let fetches = metric(&gateway, "longhaul_key_set_fetches_total");
    assert!(
        fetches <= 12,
        "one in ten seconds, however long this took: {fetches}"
    );
}

#[test]
fn without_its_provider_a_gateway_starts_and_waits_or_takes_what_it_kept() {
    let folder = TempDir::new().expect("a folder");
    let pair = Pair::new(folder.path(), "EdDSA", "one");
    let mut provider = Provider::new(folder.path(), None);
    provider.publish(&[pair.jwk("1")]);
    let cache = folder.path().join("cache.json");
    let more = format!(", refresh_s = 10, cache = \"{}\"", text(&cache));
    let set = set(&provider.url("jwks.json"), &more);
    let good = pair.token("1", "a");

    let gateway = Gateway::start_with(1, &["--set", &set]);
    let answer = exchange(gateway.listen(), upgrade(&good).as_bytes());
    assert_eq!(answer.status, 503, "{}", answer.body);
    assert!(answer.header("retry-after").is_some());
    assert!(answer.body.contains("not been fetched"), "{}", answer.body);
    eventually("it was tried", || {
        metric(&gateway, "longhaul_key_set_fetches_failed_total") > 0
    });
    // Keys of this machine need no provider.
    drop(Client::vehicle(&gateway, "dev"));
    provider.up();
    eventually("the provider is back", || status(&gateway, &good) == 101);
    drop(gateway);

    provider.down();
    let gateway = Gateway::start_with(1, &["--set", &set]);
    assert_eq!(status(&gateway, &good), 101, "with the set that was kept");
    eventually("it is failing", || {
        metric(&gateway, "longhaul_key_set_fetches_failed_total") > 0
    });
    assert_eq!(status(&gateway, &good), 101, "and it stays in force");
    drop(gateway);

    // Too old: refresh_s and stale_max_s are over.
    let mut kept: Value =
        serde_json::from_slice(&std::fs::read(&cache).expect("it is there")).expect("JSON");
    let fetched = kept["fetched_unix"].as_u64().expect("a time");
    kept["fetched_unix"] = json!(fetched - 86_400 - 10);
    std::fs::write(&cache, kept.to_string()).expect("the folder takes it");
    let gateway = Gateway::start_with(1, &["--set", &set]);
    assert_eq!(status(&gateway, &good), 503);
}

#[test]
fn a_set_that_is_none_changes_nothing() {
    let folder = TempDir::new().expect("a folder");
    let pair = Pair::new(folder.path(), "EdDSA", "one");
    let mut provider = Provider::new(folder.path(), None);
    provider.publish(&[pair.jwk("1")]);
    provider.up();
    let set = set(&provider.url("jwks.json"), "");
    let gateway = Gateway::start_with(1, &["--set", &set]);
    let good = pair.token("1", "a");
    eventually("the keys are there", || status(&gateway, &good) == 101);
    let secret = json!({ "kty": "oct", "kid": "1", "k": BASE64URL_NOPAD.encode(&[7; 40]) });
    for wrong in [
        "<html>".to_owned(),
        json!({ "keys": [] }).to_string(),
        json!({ "keys": [secret] }).to_string(),
        json!({ "keys": [], "padding": "x".repeat(300_000) }).to_string(),
    ] {
        provider.publish_text(&wrong);
        let before = metric(&gateway, "longhaul_key_set_fetches_failed_total");
        gateway.signal(Signal::HUP);
        eventually("it was refused", || {
            metric(&gateway, "longhaul_key_set_fetches_failed_total") > before
        });
        assert_eq!(status(&gateway, &good), 101);
        assert_eq!(metric(&gateway, "longhaul_keys{from=\"url\"}"), 1);
    }
}

#[test]
fn redirects_are_not_followed() {
    let folder = TempDir::new().expect("a folder");
    let pair = Pair::new(folder.path(), "EdDSA", "one");
    let mut provider = Provider::new(folder.path(), None);
    provider.publish(&[pair.jwk("1")]);
    provider.up();
    let set = set(&provider.url("moved"), "");
    let gateway = Gateway::start_with(1, &["--set", &set]);
    eventually("it was refused", || {
        metric(&gateway, "longhaul_key_set_fetches_failed_total") > 0
    });
    assert!(gateway.log().contains("redirects are not followed"));
    assert_eq!(status(&gateway, &pair.token("1", "a")), 503);
}

#[test]
fn a_provider_is_known_by_its_certificate() {
    let folder = TempDir::new().expect("a folder");
    let pair = Pair::new(folder.path(), "EdDSA", "one");
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate");
    let certificate = folder.path().join("certificate.pem");
    let key = folder.path().join("certificate.key");
    std::fs::write(&certificate, pem("CERTIFICATE", made.cert.der())).expect("the folder takes it");
    std::fs::write(&key, pem("PRIVATE KEY", &made.signing_key.serialize_der()))
        .expect("the folder takes it");
    let mut provider = Provider::new(folder.path(), Some((certificate.clone(), key)));
    provider.publish(&[pair.jwk("1")]);
    provider.up();
    let good = pair.token("1", "a");

    let trusting = set(
        &provider.url("jwks.json"),
        &format!(", ca = \"{}\"", text(&certificate)),
    );
    let gateway = Gateway::start_with(1, &["--set", &trusting]);
    eventually("the keys are there", || status(&gateway, &good) == 101);
    drop(gateway);

    let gateway = Gateway::start_with(1, &["--set", &set(&provider.url("jwks.json"), "")]);
    eventually("a stranger's certificate is refused", || {
        metric(&gateway, "longhaul_key_set_fetches_failed_total") > 0
    });
    assert_eq!(status(&gateway, &good), 503);
}

/// Files of keys are read again on SIGHUP: all of them or none.
#[test]
fn a_reload_reads_key_files_again() {
    let folder = TempDir::new().expect("a folder");
    let old = Pair::new(folder.path(), "ES256", "old");
    let new = Pair::new(folder.path(), "ES256", "new");
    let file = folder.path().join("in-use.pem");
    std::fs::copy(&old.public, &file).expect("the folder takes it");
    let keys = format!(
        "auth.keys=[{{ algorithm = \"ES256\", file = \"{}\" }}]",
        text(&file)
    );
    let gateway = Gateway::start_with(1, &["--set", &keys]);
    assert_eq!(status(&gateway, &old.token("", "a")), 101);

    std::fs::write(&file, "no key").expect("the folder takes it");
    gateway.signal(Signal::HUP);
    eventually("it says what is wrong", || {
        gateway.log().contains("is of no use")
    });
    assert_eq!(status(&gateway, &old.token("", "a")), 101, "as it was");

    std::fs::copy(&new.public, &file).expect("the folder takes it");
    gateway.signal(Signal::HUP);
    eventually("the new key is in force", || {
        status(&gateway, &new.token("", "a")) == 101
    });
    assert_eq!(status(&gateway, &old.token("", "a")), 401);
}
