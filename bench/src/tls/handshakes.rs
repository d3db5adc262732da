//! Clients that make TLS handshakes and nothing else: connect, shake hands, hear what comes after it, leave.

use std::io::{ErrorKind, Read};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustls::HandshakeKind;
use socket2::SockRef;

use super::Secure;
use crate::run::{self, Interrupted};

/// How long a server may take for anything.
const PATIENCE: Duration = Duration::from_secs(10);
const REASONS_MAX: usize = 4;

/// Who makes them.
pub struct Clients {
    /// Where to.
    pub target: SocketAddr,
    /// Whom they trust.
    pub certificate: PathBuf,
    /// Each goes on where its last session ended.
    pub resumes: bool,
    /// How many there are at the same time.
    pub count: u16,
}

/// What they made.
#[derive(Debug, Default)]
pub struct Made {
    /// From scratch.
    pub full: u64,
    /// From a ticket.
    pub resumed: u64,
    /// Not at all.
    pub failed: u64,
    /// Why, the first few.
    pub reasons: Vec<String>,
}

impl Clients {
    /// Makes handshakes for this long.
    ///
    /// # Errors
    /// The certificate cannot be read, or the user gave up.
    pub fn run(&self, time: Duration, interrupted: &Interrupted) -> anyhow::Result<Made> {
        let until = Instant::now() + time;
        let mut sum = Made::default();
        std::thread::scope(|scope| {
            let clients: Vec<_> = (0..self.count)
                .map(|_| scope.spawn(|| self.one(until, interrupted)))
                .collect();
            for client in clients {
                let made = client
                    .join()
                    .map_err(|_| anyhow::anyhow!("a client panicked"))??;
                sum.full += made.full;
                sum.resumed += made.resumed;
                sum.failed += made.failed;
                sum.reasons.extend(made.reasons);
            }
            sum.reasons.truncate(REASONS_MAX);
            Ok(sum)
        })
    }

    fn one(&self, until: Instant, interrupted: &Interrupted) -> anyhow::Result<Made> {
        let secure = Secure::trusting(&self.certificate, self.resumes)?;
        let mut made = Made::default();
        while Instant::now() < until {
            run::check(interrupted)?;
            match shake_hands(self.target, &secure) {
                Ok(HandshakeKind::Resumed) => made.resumed += 1,
                Ok(_) => made.full += 1,
                Err(error) => {
                    made.failed += 1;
                    if made.reasons.len() < REASONS_MAX {
                        made.reasons.push(error.to_string());
                    }
                }
            }
        }
        Ok(made)
    }
}

/// One handshake, which the server has seen the end of when this returns: it has sent its tickets, or closed.
fn shake_hands(target: SocketAddr, secure: &Secure) -> anyhow::Result<HandshakeKind> {
    let mut stream = TcpStream::connect(target)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    // An abortive close leaves no TIME_WAIT behind, of which there would soon be one per port.
    SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
    let mut session = secure.session()?;
    while session.is_handshaking() {
        session.complete_io(&mut stream)?;
    }
    session.send_close_notify();
    while session.wants_write() {
        session.write_tls(&mut stream)?;
    }
    stream.shutdown(Shutdown::Write)?;
    loop {
        match session.read_tls(&mut stream) {
            Ok(0) => break,
            Ok(_) => {
                let state = session.process_new_packets()?;
                if state.peer_has_closed() {
                    break;
                }
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => break,
            Err(error) => return Err(error.into()),
        }
    }
    // What was sent after close_notify is nobody's.
    let _ = stream.read(&mut [0; 64]);
    session
        .handshake_kind()
        .ok_or_else(|| anyhow::anyhow!("the handshake did not end"))
}
