//! TLS: what a stranger sends in place of a handshake, and what becomes of records that were changed on their way.

use std::sync::{Arc, LazyLock};

use bolero::check;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig};

use crate::config::{CertificateSource, Config, Tls};
use crate::transport::session::{HANDSHAKE_BYTES_MAX, RECORD_BYTES_MAX};
use crate::transport::{Certificates, Fault, Secure, Session, Stage};

struct Fixture {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

static FIXTURE: LazyLock<Fixture> = LazyLock::new(|| {
    let made = rcgen::generate_simple_self_signed(["edge.example".to_owned()]).expect("a key");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = |name: &str, content: String| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).expect("the folder takes it");
        path
    };
    let settings = Tls {
        certificates: vec![CertificateSource {
            chain: file("chain", made.cert.pem()),
            key: file("key", made.signing_key.serialize_pem()),
        }],
        ..Config::defaults().expect("the defaults are complete").tls
    };
    let certificates = Certificates::load(&settings)
        .expect("good files")
        .expect("TLS is on");
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).expect("a certificate");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("it is known")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Fixture {
        server: certificates.current(),
        client: Arc::new(client),
    }
});

/// The first byte says how the wire cuts what is sent, and whether the rest is a handshake or comes behind one.
#[test]
fn tls() {
    check!(name = "tls").for_each(|input: &[u8]| match *input {
        [] => {}
        [shape, ref bytes @ ..] if shape & 0x80 == 0 => strange(bytes, pieces(shape)),
        [shape, low, high, flip, ref said @ ..] => {
            let at = usize::from(u16::from_le_bytes([low, high]));
            changed(said, at, flip, pieces(shape));
        }
        _ => {}
    });
}

fn pieces(shape: u8) -> usize {
    usize::from(shape & 0x7f) * 5 + 1
}

/// Anything at all, from the first byte on.
fn strange(bytes: &[u8], piece: usize) {
    let mut session = Session::new(Arc::clone(&FIXTURE.server)).expect("a session");
    let mut wire = bytes.to_vec();
    for piece in wire.chunks_mut(piece) {
        let outcome = session.receive(piece, &mut |_| panic!("nobody has been let in"));
        let mut answer = Vec::new();
        let sent = session.send(&[], &mut answer);
        assert!(answer.len() <= 2 * RECORD_BYTES_MAX);
        if let Err(Fault(why)) = outcome.and(sent) {
            assert!(!why.is_empty() && !why.contains('\n'));
            assert_eq!(session.stage(), Stage::Closed);
            break;
        }
    }
    assert!(bytes.len() > HANDSHAKE_BYTES_MAX || session.stage() != Stage::Open);
}

/// What a client says behind its handshake, with one byte of it changed: nothing is heard that was not said.
fn changed(said: &[u8], at: usize, flip: u8, piece: usize) {
    let name = ServerName::try_from("edge.example").expect("a name");
    let mut client = ClientConnection::new(Arc::clone(&FIXTURE.client), name).expect("a client");
    let mut session = Session::new(Arc::clone(&FIXTURE.server)).expect("a session");
    while session.stage() == Stage::Handshake {
        let mut up = flush(&mut client);
        session
            .receive(&mut up, &mut |_| panic!("nothing was said yet"))
            .expect("a good handshake");
        if session.stage() == Stage::Open {
            assert!(session.established().is_some());
            session.settle().expect("a session of TLS 1.3");
        }
        let mut down = Vec::new();
        session.send(&[], &mut down).expect("its part of it");
        let mut unread = &down[..];
        while !unread.is_empty() {
            client.read_tls(&mut unread).expect("it is in memory");
            client.process_new_packets().expect("good records");
        }
    }
    for part in said.chunks(piece.max(16)) {
        std::io::Write::write_all(&mut client.writer(), part).expect("it is buffered");
    }
    let mut wire = flush(&mut client);
    let is_changed = flip != 0 && !wire.is_empty();
    if is_changed {
        let at = at % wire.len();
        wire[at] ^= flip;
    }
    let mut heard = Vec::new();
    let mut outcome = Ok(());
    for piece in wire.chunks_mut(piece) {
        outcome = session.receive(piece, &mut |plain| heard.extend_from_slice(plain));
        if outcome.is_err() {
            break;
        }
    }
    assert!(said.starts_with(&heard));
    if is_changed {
        assert!(heard.len() < said.len());
    } else {
        assert_eq!((outcome, heard.len()), (Ok(()), said.len()));
        assert_eq!(session.stage(), Stage::Open);
    }
}

fn flush(client: &mut ClientConnection) -> Vec<u8> {
    let mut wire = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut wire).expect("it is in memory");
    }
    wire
}
