//! The clients against servers of plain rustls.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;

use rustls::{ServerConnection, StreamOwned};
use tempfile::TempDir;

use super::*;
use crate::connection::{Closed, Incoming};
use crate::frames::{self, Opcode};
use crate::handshake::Handshake;
use crate::pool::{Handler, Pool};

const SHORT: Duration = Duration::from_millis(200);

fn certificate() -> (TempDir, Certificate) {
    let folder = TempDir::new().unwrap();
    let certificate = Certificate::make(folder.path()).unwrap();
    (folder, certificate)
}

#[test]
fn handshakes_are_of_the_kind_that_was_asked_for() {
    let (_folder, certificate) = certificate();
    for resumes in [false, true] {
        assert!(in_memory_count(&certificate, resumes) >= 2);
        let server = bare::Server::start(certificate.server().unwrap()).unwrap();
        let clients = Clients {
            target: server.address,
            certificate: certificate.chain.clone(),
            resumes,
            count: 1,
        };
        let made = clients.run(SHORT, &Interrupted::default()).unwrap();
        assert_eq!(
            (made.failed, server.fault()),
            (0, None),
            "{:?}",
            made.reasons
        );
        if resumes {
            assert!(made.full == 1 && made.resumed > 0, "{made:?}");
        } else {
            assert!(made.full > 0 && made.resumed == 0, "{made:?}");
        }
        assert!(server.spent().cpu_us > 0.0);
    }
}

fn in_memory_count(certificate: &Certificate, resumes: bool) -> u64 {
    let rate = bare::in_memory(certificate, resumes, SHORT).unwrap();
    assert!(rate.cpu_us_each > 0.0);
    rate.handshakes
}

#[test]
fn somebody_elses_certificate_is_not_trusted() {
    let (_folder, ours) = certificate();
    let (_other, theirs) = certificate();
    let server = bare::Server::start(theirs.server().unwrap()).unwrap();
    let clients = Clients {
        target: server.address,
        certificate: ours.chain,
        resumes: false,
        count: 1,
    };
    let made = clients.run(SHORT, &Interrupted::default()).unwrap();
    assert!(made.failed > 0 && made.full == 0, "{made:?}");
    assert!(made.made(false).is_err());
}

#[derive(Default)]
struct Heard {
    upgraded: bool,
    bytes: usize,
    closed: Vec<Closed>,
}

impl Handler for Heard {
    fn incoming(&mut self, _: usize, incoming: Incoming<'_>, _: u64, reply: &mut Vec<u8>) {
        match incoming {
            Incoming::Upgraded => {
                self.upgraded = true;
                frames::write(reply, Opcode::Binary, b"hello", [0; 4]);
            }
            Incoming::Message { message, .. } => self.bytes += message.len(),
            Incoming::Pong => {}
        }
    }

    fn closed(&mut self, _: usize, why: Closed) {
        self.closed.push(why);
    }
}

/// Many records in one burst: an edge-triggered poller does not say again that more is there.
#[test]
fn a_pool_upgrades_and_reads_over_tls() {
    const MESSAGES: usize = 400;
    const BYTES: usize = 1_000;
    let (_folder, certificate) = certificate();
    let config = certificate.server().unwrap();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let target = listener.local_addr().unwrap();
    let server = std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let session = ServerConnection::new(Arc::clone(&config)).unwrap();
        let mut tls = StreamOwned::new(session, stream);
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            tls.read_exact(&mut byte).unwrap();
            request.push(byte[0]);
        }
        let request = String::from_utf8(request).unwrap();
        let nonce = request
            .lines()
            .find_map(|line| line.strip_prefix("Sec-WebSocket-Key: "))
            .unwrap();
        let accept = tungstenite::handshake::derive_accept_key(nonce.as_bytes());
        write!(
            tls,
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: {}\r\n\r\n",
            longhaul_codec::SUBPROTOCOL
        )
        .unwrap();
        let mut hello = [0; 11];
        tls.read_exact(&mut hello).unwrap();
        assert_eq!(&hello[6..], b"hello");
        let mut frame = vec![0x82, 126];
        frame.extend((BYTES as u16).to_be_bytes());
        frame.extend([7; BYTES]);
        for _ in 0..MESSAGES {
            tls.write_all(&frame).unwrap();
        }
        tls.conn.send_close_notify();
        tls.flush().unwrap();
    });
    let mut pool = Pool::new(target, Handshake::new("localhost", "/v1"), 0).unwrap();
    pool.secure = Some(Secure::trusting(&certificate.chain, false).unwrap());
    let mut heard = Heard::default();
    pool.open("token", &mut heard);
    let began = Instant::now();
    while heard.closed.is_empty() && began.elapsed() < Duration::from_secs(20) {
        pool.turn(Duration::from_millis(50), &mut heard).unwrap();
    }
    assert!(heard.upgraded);
    assert_eq!(heard.bytes, MESSAGES * BYTES, "{:?}", heard.closed);
    assert!(
        matches!(heard.closed[..], [Closed::Eof]),
        "{:?}",
        heard.closed
    );
    server.join().unwrap();
}
