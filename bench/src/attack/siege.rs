//! Attackers: a thread each, on plain blocking sockets with short time-outs, bounded in rate and in what they hold.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context;
use longhaul_codec::{
    Encoder, Fix, Message, Position, SUBPROTOCOL, SUBPROTOCOL_JSON, Subscribe, SubscribeMode,
};

use super::kind::Kind;
use crate::connection::client_socket;
use crate::frames::{self, Opcode};
use crate::gateway::Gateway;
use crate::handshake::Handshake;
use crate::subscribe::{self, Wanted};
use crate::token::{Mint, Role};

/// Connections that one attack holds at a time.
const HELD_MAX: usize = 1_200;
/// Addresses that one attack comes from: enough to be many, and few enough to end up in the penalty box.
const ADDRESSES: u32 = 20;
/// Vehicles as which one attack is let in: a vehicle has one connection, and a newer one would take over an older one.
const IDENTITIES: u32 = 400;
/// How long an attacker waits for the gateway to take or say something.
const PATIENCE: Duration = Duration::from_millis(300);
/// Attackers step back behind the good clients: what is measured is the gateway, not who gets the core.
const NICE: i32 = 15;
const FLOOD_MESSAGES: usize = 5_000;
const FRAGMENTS: usize = 2_000;
const BOMB_VEHICLES: u32 = 1_000_000;
const BOMB_MESSAGE_BYTES: usize = 60_000;
const TOGGLES: u64 = 2_000;
const MALFORMED_MESSAGES: usize = 500;

/// An attack under way.
pub struct Siege {
    stop: Arc<AtomicBool>,
    made: Arc<AtomicU64>,
    thread: JoinHandle<anyhow::Result<()>>,
}

impl Siege {
    /// Lets an attack of a kind begin. `wave` tells attacks apart that come one after the other: each has addresses of its
    /// own.
    ///
    /// # Errors
    /// No token can be made.
    pub fn begin(kind: Kind, wave: u8, gateway: &Gateway) -> anyhow::Result<Siege> {
        let (stop, made) = (Arc::default(), Arc::default());
        let attacker = Attacker::new(kind, wave, gateway)?;
        let thread = std::thread::Builder::new()
            .name("attacker".to_owned())
            .spawn({
                let (stop, made) = (Arc::clone(&stop), Arc::clone(&made));
                move || attacker.attack(&stop, &made)
            })?;
        Ok(Siege { stop, made, thread })
    }

    /// Ends it: how many connections attacked.
    ///
    /// # Errors
    /// The attack could not be made.
    pub fn end(self) -> anyhow::Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        match self.thread.join() {
            Ok(outcome) => outcome?,
            Err(_) => anyhow::bail!("an attacker panicked"),
        }
        Ok(self.made.load(Ordering::Relaxed))
    }
}

struct Attacker {
    kind: Kind,
    wave: u8,
    target: SocketAddr,
    /// What it says once it is connected, by whom it says it is.
    openings: Vec<Vec<u8>>,
    /// What it says once it is let in.
    then: Vec<u8>,
    held: VecDeque<TcpStream>,
    connections: u32,
}

impl Attacker {
    fn new(kind: Kind, wave: u8, gateway: &Gateway) -> anyhow::Result<Attacker> {
        let mint = Mint::from_file(&gateway.key)?;
        let handshake = Handshake::new(&gateway.host, &gateway.path);
        let name = format!("attacker-{wave}");
        let request =
            |role| -> anyhow::Result<Vec<u8>> { Ok(handshake.request(&mint.token(&name, role)?)) };
        let mut then = Vec::new();
        let opening = match kind {
            Kind::Silence => Vec::new(),
            Kind::Slowloris => b"GET /v1 HTTP/1.1\r\nHost: h\r\nX-Slow: ".to_vec(),
            Kind::Garbage => [0x16, 3, 1, 2, 0, 1, 0, 1, 0xFC, 3, 3].repeat(40),
            Kind::Headers => {
                let mut request = request(Role::Vehicle)?;
                request.truncate(request.len() - 2);
                request.extend(b"X-Filler: ");
                request.extend([b'x'; 32 << 10]);
                request.extend(b"\r\n\r\n");
                request
            }
            Kind::BadTokens => {
                let token = mint.token(&name, Role::Vehicle)?;
                let (signed, signature) = token.rsplit_once('.').context("a JWT")?;
                // As long as a good one, so that it is really checked.
                let forged: String = signature.chars().rev().collect();
                handshake.request(&format!("{signed}.{forged}"))
            }
            Kind::SubscribeBombs | Kind::Toggles => request(Role::Dashboard)?,
            Kind::Json => {
                let request = String::from_utf8(request(Role::Vehicle)?)?;
                request
                    .replace(
                        &format!("Sec-WebSocket-Protocol: {SUBPROTOCOL}\r\n"),
                        &format!("Sec-WebSocket-Protocol: {SUBPROTOCOL_JSON}\r\n"),
                    )
                    .into_bytes()
            }
            _ => request(Role::Vehicle)?,
        };
        let openings = match kind {
            Kind::HugeFrames
            | Kind::FrameFlood
            | Kind::PingFlood
            | Kind::FragmentBombs
            | Kind::Unfinished
            | Kind::FlatBuffers => (0..IDENTITIES)
                .map(|n| Ok(handshake.request(&mint.token(&format!("{name}-{n}"), Role::Vehicle)?)))
                .collect::<anyhow::Result<_>>()?,
            _ => vec![opening],
        };
        match kind {
            Kind::HugeFrames => then.extend([0x82, 0xFF, 0, 0, 0, 0, 0x40, 0, 0, 0, 1, 2, 3, 4]),
            Kind::FrameFlood => {
                let (fix, vehicle_id) = (Fix::default(), None);
                let position = Message::Position(Position { fix, vehicle_id });
                let mut encoder = Encoder::new();
                let encoded = encoder.message(&position);
                let mut frame = Vec::new();
                frames::write(&mut frame, Opcode::Binary, encoded.payload(), [0; 4]);
                then = frame.repeat(FLOOD_MESSAGES);
            }
            Kind::PingFlood => then = [0x89, 0x80, 0, 0, 0, 0].repeat(FLOOD_MESSAGES),
            Kind::FragmentBombs => {
                then.extend([0x02, 0x80, 0, 0, 0, 0]);
                then.extend([0x00, 0x80, 0, 0, 0, 0].repeat(FRAGMENTS));
            }
            Kind::Unfinished => then.extend([0x02, 0x84, 0, 0, 0, 0, 1, 2, 3, 4]),
            Kind::SubscribeBombs => {
                let ids = (0..BOMB_VEHICLES).map(|n| format!("made-up-{wave}-{n}"));
                let wanted = Wanted::Vehicles(ids.collect());
                let mut encoder = Encoder::new();
                subscribe::write_frames(&mut then, &mut encoder, wanted, 0, BOMB_MESSAGE_BYTES);
            }
            Kind::Toggles => {
                let mut encoder = Encoder::new();
                for request in 0..TOGGLES {
                    let (mode, whole_fleet) = (SubscribeMode::Replace, request % 2 == 0);
                    let toggle = Message::Subscribe(Subscribe {
                        request,
                        mode,
                        whole_fleet,
                        ..Subscribe::default()
                    });
                    let encoded = encoder.message(&toggle);
                    frames::write(&mut then, Opcode::Binary, encoded.payload(), [0; 4]);
                }
            }
            Kind::FlatBuffers => {
                let mut noise = fastrand::Rng::with_seed(u64::from(wave));
                for _ in 0..MALFORMED_MESSAGES {
                    let payload: Vec<u8> = (0..200).map(|_| noise.u8(..)).collect();
                    frames::write(&mut then, Opcode::Binary, &payload, [0; 4]);
                }
            }
            Kind::Json => {
                let payload = b"{\"type\":\"Position\",\"fix\":{\"time_ms\":[[[[[[[[";
                for _ in 0..MALFORMED_MESSAGES {
                    frames::write(&mut then, Opcode::Text, payload, [0; 4]);
                }
            }
            _ => {}
        }
        Ok(Attacker {
            kind,
            wave,
            target: gateway.target,
            openings,
            then,
            held: VecDeque::new(),
            connections: 0,
        })
    }

    fn attack(mut self, stop: &AtomicBool, made: &AtomicU64) -> anyhow::Result<()> {
        rustix::process::nice(NICE).context("stepping back behind the good clients")?;
        let every = Duration::from_secs(1) / self.kind.per_second();
        let mut next = Instant::now();
        while !stop.load(Ordering::Relaxed) {
            // What the gateway closes, or never takes, is what is wanted of it.
            if self.once().is_ok() {
                made.fetch_add(1, Ordering::Relaxed);
            }
            next = (next + every).max(Instant::now() - Duration::from_millis(100));
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
        }
        Ok(())
    }

    /// One connection.
    fn once(&mut self) -> std::io::Result<()> {
        if self.kind == Kind::Slowloris && self.connections.is_multiple_of(20) {
            for mut slow in &self.held {
                let _ = slow.write_all(b"x");
            }
        }
        let source = self
            .target
            .ip()
            .is_loopback()
            .then(|| self.source(self.connections % ADDRESSES));
        self.connections += 1;
        let socket = client_socket(self.target, source, None)?;
        socket.connect_timeout(&self.target.into(), PATIENCE)?;
        let mut stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let who = self.connections as usize % self.openings.len();
        stream.write_all(&self.openings[who])?;
        if !self.then.is_empty() {
            let mut answer = [0; 512];
            let read = stream.read(&mut answer)?;
            if answer[..read].starts_with(b"HTTP/1.1 101") {
                let _ = stream.write_all(&self.then);
            }
        }
        match self.kind {
            Kind::Silence | Kind::Slowloris | Kind::Unfinished => {
                self.held.push_back(stream);
                if self.held.len() > HELD_MAX {
                    self.held.pop_front();
                }
            }
            // An attacker that resets at once would not be heard: it waits until it is thrown out.
            _ => {
                let _ = stream.shutdown(Shutdown::Write);
                let began = Instant::now();
                let mut rest = [0; 65_536];
                while began.elapsed() < PATIENCE
                    && stream.read(&mut rest).is_ok_and(|read| read > 0)
                {}
            }
        }
        Ok(())
    }

    /// 127.16.0.1 and up: far from where the good clients connect from.
    fn source(&self, address: u32) -> Ipv4Addr {
        Ipv4Addr::from(0x7F10_0000 + (u32::from(self.wave) << 8) + address + 1)
    }
}
