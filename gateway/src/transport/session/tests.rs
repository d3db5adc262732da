//! Our end against rustls' own client, in memory.

use std::io::{Read, Write};
use std::path::Path;

use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use super::{sealed::KEY_UPDATE, *};
use crate::config::{CertificateSource, Config, Tls};
use crate::transport::{Certificates, ClientCertificates, record::content};

/// A certificate authority that signs both ends' certificates, in a folder.
pub(in crate::transport) struct Authority {
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
    certificate: rcgen::Certificate,
}

impl Authority {
    pub fn new() -> Authority {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        Authority {
            issuer: rcgen::Issuer::new(params, key),
            certificate,
        }
    }

    pub fn pem(&self) -> String {
        self.certificate.pem()
    }

    /// A certificate for these names, the first of which is its common name, and its key.
    pub fn certify(&self, names: &[&str]) -> (rcgen::Certificate, rcgen::KeyPair) {
        let key = rcgen::KeyPair::generate().unwrap();
        let alternatives: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = rcgen::CertificateParams::new(alternatives).unwrap();
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, names[0]);
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }

    /// The same as files.
    pub fn write(&self, folder: &Path, names: &[&str]) -> CertificateSource {
        let (certificate, key) = self.certify(names);
        let file = |kind: &str, content: String| {
            let path = folder.join(format!("{}.{kind}.pem", names[0].replace('*', "any")));
            std::fs::write(&path, content).unwrap();
            path
        };
        CertificateSource {
            chain: file("chain", certificate.pem()),
            key: file("key", key.serialize_pem()),
        }
    }

    pub fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.der().clone()).unwrap();
        roots
    }
}

pub(in crate::transport) fn settings(certificates: Vec<CertificateSource>) -> Tls {
    Tls {
        certificates,
        ..Config::defaults().unwrap().tls
    }
}

struct World {
    authority: Authority,
    _folder: tempfile::TempDir,
    certificates: Arc<Certificates>,
}

impl World {
    fn new(tls12: bool) -> World {
        let (authority, folder) = (Authority::new(), tempfile::tempdir().unwrap());
        let mut settings = settings(vec![authority.write(folder.path(), &["edge.example"])]);
        settings.tls12 = tls12;
        settings.client_certificates = ClientCertificates::Optional;
        let file = folder.path().join("ca.pem");
        std::fs::write(&file, authority.pem()).unwrap();
        settings.client_authorities = Some(file);
        World {
            certificates: Certificates::load(&settings).unwrap().unwrap(),
            authority,
            _folder: folder,
        }
    }

    fn config(&self, certificate: Option<&str>, old: bool) -> ClientConfig {
        let versions: &[_] = if old {
            &[&rustls::version::TLS12]
        } else {
            &[&rustls::version::TLS13]
        };
        let builder = ClientConfig::builder_with_provider(Arc::new(
            rustls::crypto::aws_lc_rs::default_provider(),
        ))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(self.authority.roots());
        match certificate {
            None => builder.with_no_client_auth(),
            Some(name) => {
                let (certificate, key) = self.authority.certify(&[name]);
                let chain: Vec<CertificateDer<'static>> = vec![certificate.der().clone()];
                let key = PrivatePkcs8KeyDer::from(key.serialize_der());
                builder.with_client_auth_cert(chain, key.into()).unwrap()
            }
        }
    }

    fn talk(&self, config: ClientConfig, piece: usize) -> Talk {
        self.talk_with(Arc::new(config), piece)
    }

    fn talk_with(&self, config: Arc<ClientConfig>, piece: usize) -> Talk {
        let name = ServerName::try_from("edge.example").unwrap();
        Talk {
            client: ClientConnection::new(config, name).unwrap(),
            session: Session::new(self.certificates.current()).unwrap(),
            established: None,
            heard: Vec::new(),
            piece,
        }
    }
}

/// A client and a session, and what has come of it.
struct Talk {
    client: ClientConnection,
    session: Session,
    established: Option<Established>,
    /// What the client has said.
    heard: Vec<u8>,
    /// The wire carries so many bytes at a time.
    piece: usize,
}

impl Talk {
    /// Carries bytes to and fro until nobody has any.
    fn carry(&mut self) -> Result<(), Fault> {
        loop {
            let mut up = Vec::new();
            while self.client.wants_write() {
                self.client.write_tls(&mut up).unwrap();
            }
            for piece in up.chunks_mut(self.piece) {
                let heard = &mut self.heard;
                let before = self.session.stage();
                self.session.receive(piece, &mut |plain| {
                    heard.extend_from_slice(plain);
                    // Where it lies, as unmasking does.
                    plain.fill(0);
                })?;
                if before == Stage::Handshake && self.session.stage() == Stage::Open {
                    self.established = self.session.established();
                    self.session.settle()?;
                    let heard = &mut self.heard;
                    self.session
                        .receive(&mut [], &mut |plain| heard.extend_from_slice(plain))?;
                }
            }
            let mut down = Vec::new();
            self.session.send(&[], &mut down)?;
            if up.is_empty() && down.is_empty() {
                return Ok(());
            }
            self.hear(&down);
        }
    }

    fn hear(&mut self, mut wire: &[u8]) {
        while !wire.is_empty() {
            self.client.read_tls(&mut wire).unwrap();
            self.client.process_new_packets().unwrap();
        }
    }

    /// The gateway says something, which the client understands.
    fn say(&mut self, text: &[u8]) {
        let mut wire = Vec::new();
        self.session.send(text, &mut wire).unwrap();
        let mut said = Vec::new();
        for piece in wire.chunks(4_096) {
            self.hear(piece);
            let mut room = vec![0; 65_536];
            while let Ok(read) = self.client.reader().read(&mut room)
                && read > 0
            {
                said.extend_from_slice(&room[..read]);
            }
        }
        assert!(said == text, "{} of {} bytes", said.len(), text.len());
    }

    /// The client says something, which the gateway understands.
    fn ask(&mut self, text: &[u8]) {
        self.heard.clear();
        for part in text.chunks(30_000) {
            self.client.writer().write_all(part).unwrap();
            self.carry().unwrap();
        }
        assert!(self.heard == text, "{} of {}", self.heard.len(), text.len());
    }
}

#[test]
fn both_sides_talk_however_the_wire_cuts_it() {
    for (old, piece) in [
        (false, 1),
        (false, 7),
        (false, 1_000),
        (false, usize::MAX),
        (true, 1),
        (true, 5_000),
    ] {
        let world = World::new(old);
        let mut talk = world.talk(world.config(None, old), piece);
        talk.client.writer().write_all(b"early bird").unwrap();
        talk.carry().unwrap();
        assert_eq!(talk.heard, b"early bird", "behind the handshake, {piece}");
        let kind = matches!(talk.session.state, State::Sealed(_));
        assert_eq!((talk.session.stage(), kind), (Stage::Open, !old));
        assert_eq!(
            talk.established,
            Some(Established {
                resumed: false,
                names: None
            })
        );
        for length in [1, 100, 16_384, 16_385, 60_000] {
            let text: Vec<u8> = (0..length).map(|n| n as u8).collect();
            talk.say(&text);
            talk.ask(&text);
        }
        assert_eq!(
            (
                talk.session.held.capacity(),
                talk.session.outgoing.capacity()
            ),
            (0, 0),
            "idle: no buffer"
        );
    }
}

#[test]
fn a_certificate_names_its_client_and_a_ticket_brings_it_back() {
    let world = World::new(false);
    let config = Arc::new(world.config(Some("bus-1"), false));
    for resumed in [false, true] {
        let mut talk = world.talk_with(Arc::clone(&config), usize::MAX);
        talk.carry().unwrap();
        talk.say(b"x");
        let established = talk.established.clone().unwrap();
        assert_eq!(established.resumed, resumed);
        let check = |subject| {
            let names = established.names.as_ref();
            PeerNames::check(names, ClientCertificates::Required, true, subject, 0)
        };
        assert!(check("bus-1").is_ok() && check("bus-2").is_err());
    }
    // Read again: old tickets are good no more, and new clients are served.
    world.certificates.reload().unwrap();
    let mut talk = world.talk_with(config, usize::MAX);
    talk.carry().unwrap();
    assert!(!talk.established.unwrap().resumed);
}

#[test]
fn a_certificate_of_a_stranger_is_refused() {
    let world = World::new(false);
    let stranger = World::new(false);
    let mut config = world.config(None, false);
    config.client_auth_cert_resolver = stranger
        .config(Some("bus-1"), false)
        .client_auth_cert_resolver;
    let mut talk = world.talk(config, usize::MAX);
    let Fault(reason) = talk.carry().unwrap_err();
    assert!(reason.contains("invalid peer certificate"), "{reason}");
    assert!(talk.session.has_outgoing(), "it is told, by an alert");
    assert_eq!(talk.session.stage(), Stage::Closed);
}

#[test]
fn keys_are_updated_when_the_peer_asks_and_when_ours_wears_out() {
    let world = World::new(false);
    let mut talk = world.talk(world.config(None, false), 100);
    talk.carry().unwrap();
    for _ in 0..3 {
        talk.client.refresh_traffic_keys().unwrap();
        talk.ask(b"with the next key");
        talk.say(b"with our next key");
    }
    let State::Sealed(sealed) = &mut talk.session.state else {
        panic!("not sealed")
    };
    // As after 2^24 records: both ends count the same.
    let before = sealed.tx.sequence_for_tests();
    assert!(before < 10);
    sealed.renew_tx(&mut talk.session.outgoing).unwrap();
    talk.say(b"with another key");
    talk.ask(b"and the old one");
}

#[test]
fn the_end_is_said_by_both_sides() {
    for old in [false, true] {
        let world = World::new(old);
        let mut talk = world.talk(world.config(None, old), usize::MAX);
        talk.carry().unwrap();
        talk.session.close();
        talk.session.close();
        let mut wire = Vec::new();
        talk.session.send(b"never said", &mut wire).unwrap();
        if old {
            assert_eq!(talk.session.stage(), Stage::Closed);
        }
        let mut talk = world.talk(world.config(None, old), usize::MAX);
        talk.carry().unwrap();
        talk.client.send_close_notify();
        talk.carry().unwrap();
        assert_eq!(talk.session.stage(), Stage::Closed);
    }
}

#[test]
fn bytes_that_are_no_tls_end_it_with_an_alert() {
    let world = World::new(false);
    let mut session = Session::new(world.certificates.current()).unwrap();
    let mut wire = b"GET /v1 HTTP/1.1\r\nHost: h\r\n\r\n".to_vec();
    let Fault(reason) = session
        .receive(&mut wire, &mut |_| panic!("nothing was said"))
        .unwrap_err();
    assert!(!reason.is_empty());
    assert_eq!(session.stage(), Stage::Closed);

    let mut talk = world.talk(world.config(None, false), usize::MAX);
    talk.carry().unwrap();
    let mut forged = vec![23, 3, 3, 0, 30];
    forged.resize(35, 7);
    let fault = talk
        .session
        .receive(&mut forged, &mut |_| panic!("nothing was said"));
    assert_eq!(
        fault,
        Err(Fault(
            "a record that does not open (bad_record_mac)".to_owned()
        ))
    );
    let mut wire = Vec::new();
    talk.session.send(b"", &mut wire).unwrap();
    let mut rest = wire.as_slice();
    talk.client.read_tls(&mut rest).unwrap();
    let error = talk.client.process_new_packets().unwrap_err();
    assert_eq!(
        error,
        rustls::Error::AlertReceived(rustls::AlertDescription::BadRecordMac)
    );
}

#[test]
fn a_peer_that_says_nothing_in_many_records_is_cut_off() {
    let world = World::new(false);
    let mut talk = world.talk(world.config(None, false), usize::MAX);
    talk.carry().unwrap();
    let State::Sealed(sealed) = &talk.session.state else {
        panic!("not sealed")
    };
    let mut peer = sealed.rx.copy_for_tests();
    let outcome = (0..100).try_for_each(|_| {
        let mut wire = Vec::new();
        peer.seal(content::APPLICATION, b"", &mut wire).unwrap();
        talk.session.receive(&mut wire, &mut |_| {})
    });
    let Err(Fault(reason)) = outcome else {
        panic!("100 empty records went through")
    };
    assert!(reason.contains("say nothing"), "{reason}");
}

/// With a word in between, which makes it count as one that says something.
#[test]
fn a_peer_that_asks_for_keys_and_does_not_read_gets_one_answer() {
    let world = World::new(false);
    let mut talk = world.talk(world.config(None, false), usize::MAX);
    talk.carry().unwrap();
    for _ in 0..10 {
        talk.client.refresh_traffic_keys().unwrap();
        talk.client.writer().write_all(b"x").unwrap();
        let mut up = Vec::new();
        while talk.client.wants_write() {
            talk.client.write_tls(&mut up).unwrap();
        }
        talk.session.receive(&mut up, &mut |_| {}).unwrap();
    }
    assert!(
        talk.session.outgoing.len() < 64,
        "{} bytes wait",
        talk.session.outgoing.len()
    );
    talk.say(b"with the next key");
    talk.ask(b"and its own");
}

#[test]
fn a_handshake_may_wait_and_has_a_bound() {
    let world = World::new(false);
    let mut talk = world.talk(world.config(None, false), usize::MAX);
    let mut hello = Vec::new();
    talk.client.write_tls(&mut hello).unwrap();
    talk.session.hold(&hello).unwrap();
    assert_eq!(talk.session.stage(), Stage::Handshake);
    talk.session.receive(&mut [], &mut |_| {}).unwrap();
    talk.carry().unwrap();
    talk.say(b"served");

    let mut session = Session::new(world.certificates.current()).unwrap();
    assert!(session.hold(&[0; HANDSHAKE_BYTES_MAX]).is_ok());
    assert!(session.hold(&[0]).is_err());
    assert_eq!(session.stage(), Stage::Closed);
}

/// rustls 0.23.46 panics when it is asked for an alert that it does not have.
#[test]
fn faults_for_which_there_is_no_alert_are_survived() {
    let world = World::new(true);
    let mut hello = Vec::new();
    let mut client = world.talk(world.config(None, false), usize::MAX).client;
    client.write_tls(&mut hello).unwrap();
    let part = |of: usize| {
        let mut record = vec![22, 3, 1, 0, 0];
        record.extend_from_slice(&hello[5..5 + of]);
        record[4] = of as u8;
        record
    };
    for wire in [
        vec![22, 3, 1, 0, 5, 1, 0xff, 0xff, 0xff, 0],
        [part(6), vec![23, 3, 3, 0, 1, 0]].concat(),
        [part(6), vec![20, 3, 3, 0, 1, 1]].concat(),
        [part(6), vec![21, 3, 3, 0, 2, 1, 0]].concat(),
        vec![22, 3, 1, 0, 0],
        vec![99; 100],
    ] {
        let mut session = Session::new(world.certificates.current()).unwrap();
        let outcome = session.receive(&mut wire.clone(), &mut |_| {});
        let mut down = Vec::new();
        session.send(b"x", &mut down).unwrap();
        session.close();
        assert!(
            outcome.is_err() || session.stage() == Stage::Handshake,
            "{wire:?}"
        );
    }
}

/// What comes in one piece with the end of the handshake is for the record layer alone.
#[test]
fn pieces_of_messages_behind_the_handshake_are_refused() {
    for old in [false, true] {
        let world = World::new(old);
        for pieces in [1, 2] {
            let mut talk = world.talk(world.config(None, old), usize::MAX);
            talk.carry().unwrap();
            // A handshake message of which only the beginning is there, sealed by the client.
            let State::Sealed(sealed) = &mut talk.session.state else {
                assert!(old);
                continue;
            };
            let mut peer = sealed.rx.copy_for_tests();
            let mut wire = Vec::new();
            for _ in 0..pieces {
                peer.seal(content::HANDSHAKE, &[KEY_UPDATE], &mut wire)
                    .unwrap();
            }
            let fault = talk.session.receive(&mut wire, &mut |_| {}).unwrap_err();
            assert!(fault.0.contains("does not belong"), "{fault}");
            assert!(talk.session.held.is_empty());
        }
    }
}

#[test]
fn key_updates_have_a_bound_and_are_answered_once() {
    let world = World::new(false);
    let mut talk = world.talk(world.config(None, false), usize::MAX);
    talk.carry().unwrap();
    let outcome = (0..1_000).try_for_each(|n| {
        talk.client.refresh_traffic_keys().unwrap();
        talk.client.writer().write_all(b"x").unwrap();
        let mut up = Vec::new();
        talk.client.write_tls(&mut up).unwrap();
        // It is never sent anything.
        let outcome = talk.session.receive(&mut up, &mut |_| {});
        assert!(
            talk.session.outgoing.len() < 100,
            "{n}: {}",
            talk.session.outgoing.len()
        );
        outcome
    });
    let Err(Fault(reason)) = outcome else {
        panic!("1000 key updates went through")
    };
    assert!(reason.contains("too many key updates"), "{reason}");
}

#[test]
fn who_says_no_more_may_still_be_told_something() {
    let world = World::new(false);
    let mut talk = world.talk(world.config(None, false), usize::MAX);
    talk.carry().unwrap();
    talk.client.writer().write_all(b"goodbye").unwrap();
    talk.client.send_close_notify();
    talk.carry().unwrap();
    assert_eq!(
        (talk.heard.as_slice(), talk.session.stage()),
        (&b"goodbye"[..], Stage::Closed)
    );
    talk.say(b"goodbye to you");
    talk.session.close();
    let mut wire = Vec::new();
    talk.session.send(b"not this", &mut wire).unwrap();
    assert_eq!(
        wire.len(),
        5 + 2 + 1 + 16,
        "close_notify, and nothing behind it"
    );
}

#[test]
fn any_bytes_are_survived() {
    let world = std::panic::AssertUnwindSafe(World::new(true));
    bolero::check!().for_each(|bytes: &[u8]| {
        let world = &*world;
        let mut session = Session::new(world.certificates.current()).unwrap();
        for piece in bytes.to_vec().chunks_mut(100) {
            let _ = session.receive(piece, &mut |_| {});
        }
        let mut talk = world.talk(world.config(None, false), usize::MAX);
        talk.carry().unwrap();
        let _ = talk.session.receive(&mut bytes.to_vec(), &mut |_| {});
    });
}
