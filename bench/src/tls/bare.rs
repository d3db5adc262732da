//! Servers that are rustls and nothing else, for comparison.

use std::io::{Cursor, ErrorKind, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};
use rustls::{ClientConnection, HandshakeKind, ServerConfig, ServerConnection};

use super::report::Rate;
use super::{Certificate, Secure};

/// No flight of a handshake is longer.
const FLIGHT_BYTES: usize = 16 << 10;

/// CPU time of this thread, in microseconds.
fn thread_cpu_us() -> anyhow::Result<f64> {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?;
    Ok(time.tv_sec() as f64 * 1e6 + time.tv_nsec() as f64 / 1e3)
}

/// Handshakes between a client and a server in one thread, without a socket; what the server's part of it takes.
///
/// # Errors
/// A handshake fails, or is of the other kind.
pub fn in_memory(certificate: &Certificate, resumes: bool, time: Duration) -> anyhow::Result<Rate> {
    let server = certificate.server()?;
    let secure = Secure::trusting(&certificate.chain, resumes)?;
    let began = Instant::now();
    let (mut count, mut spent) = (0_u64, 0.0);
    while count < 2 || began.elapsed() < time {
        let (kind, cpu_us) = once(&server, &secure)?;
        let wanted = if resumes && count > 0 {
            HandshakeKind::Resumed
        } else {
            HandshakeKind::Full
        };
        anyhow::ensure!(kind == wanted, "a handshake was {kind:?}, not {wanted:?}");
        count += 1;
        spent += cpu_us;
    }
    Ok(Rate::new(count, spent, began.elapsed()))
}

/// One, with its tickets; of which kind it was, and the server's CPU time in microseconds.
fn once(config: &Arc<ServerConfig>, secure: &Secure) -> anyhow::Result<(HandshakeKind, f64)> {
    let mut client = secure.session()?;
    let mut spent = 0.0;
    let began = thread_cpu_us()?;
    let mut server = ServerConnection::new(Arc::clone(config))?;
    spent += thread_cpu_us()? - began;
    let mut flight = Vec::with_capacity(FLIGHT_BYTES);
    loop {
        while client.wants_write() {
            client.write_tls(&mut flight)?;
        }
        let to_server = std::mem::take(&mut flight);
        let began = thread_cpu_us()?;
        let mut unread = Cursor::new(&to_server);
        while (unread.position() as usize) < to_server.len() {
            server.read_tls(&mut unread)?;
            server.process_new_packets()?;
        }
        while server.wants_write() {
            server.write_tls(&mut flight)?;
        }
        spent += thread_cpu_us()? - began;
        if flight.is_empty() {
            break;
        }
        receive(&mut client, &std::mem::take(&mut flight))?;
    }
    let kind = server.handshake_kind();
    let began = thread_cpu_us()?;
    drop(server);
    spent += thread_cpu_us()? - began;
    Ok((
        kind.ok_or_else(|| anyhow::anyhow!("the handshake did not end"))?,
        spent,
    ))
}

fn receive(client: &mut ClientConnection, bytes: &[u8]) -> anyhow::Result<()> {
    let mut unread = Cursor::new(bytes);
    while (unread.position() as usize) < bytes.len() {
        client.read_tls(&mut unread)?;
        client.process_new_packets()?;
    }
    Ok(())
}

/// One thread that accepts, shakes hands, hears the end, and accepts the next.
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    ending: Arc<AtomicBool>,
    spent_us: Arc<AtomicU64>,
    fault: Arc<Mutex<Option<String>>>,
    thread: Option<JoinHandle<()>>,
}

/// What it took.
#[derive(Clone, Copy, Debug)]
pub struct Spent {
    /// CPU time of its thread, in microseconds.
    pub cpu_us: f64,
}

impl Server {
    /// Starts one on a free port of the loopback interface.
    ///
    /// # Errors
    /// There is no such port.
    pub fn start(config: Arc<ServerConfig>) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let mut server = Self {
            address: listener.local_addr()?,
            ending: Arc::default(),
            spent_us: Arc::default(),
            fault: Arc::default(),
            thread: None,
        };
        let (ending, spent_us, fault) = (
            Arc::clone(&server.ending),
            Arc::clone(&server.spent_us),
            Arc::clone(&server.fault),
        );
        server.thread = Some(std::thread::spawn(move || {
            for stream in listener.incoming() {
                if ending.load(Ordering::Acquire) {
                    return;
                }
                let served = stream
                    .map_err(anyhow::Error::from)
                    .and_then(|stream| serve(stream, &config));
                if let Err(error) = served {
                    *fault.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.to_string());
                }
                if let Ok(spent) = thread_cpu_us() {
                    spent_us.store(spent as u64, Ordering::Release);
                }
            }
        }));
        Ok(server)
    }

    /// What its thread has taken so far, by the end of its last connection.
    pub fn spent(&self) -> Spent {
        Spent {
            cpu_us: self.spent_us.load(Ordering::Acquire) as f64,
        }
    }

    /// The last thing that went wrong.
    #[cfg(test)]
    pub fn fault(&self) -> Option<String> {
        self.fault
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::Release);
        // Wakes it up.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        let fault = self.fault.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(fault) = &*fault {
            eprintln!("the server of plain rustls: {fault}");
        }
    }
}

fn serve(mut stream: TcpStream, config: &Arc<ServerConfig>) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    let mut session = ServerConnection::new(Arc::clone(config))?;
    while session.is_handshaking() {
        session.complete_io(&mut stream)?;
    }
    // The tickets.
    while session.wants_write() {
        session.write_tls(&mut stream)?;
    }
    loop {
        match session.read_tls(&mut stream) {
            Ok(0) => return Ok(()),
            Ok(_) => {
                session.process_new_packets()?;
                match session.reader().read(&mut [0; 64]) {
                    Ok(0) => return Ok(()),
                    Ok(_) => {}
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error.into()),
                }
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}
