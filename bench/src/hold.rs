//! Holds idle connections. They are taken off epoll as soon as they are ready, so that the generator's own
//! bookkeeping in the kernel is not counted as theirs, and are read in slices to answer pings.

use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::Duration;

use anyhow::{Context, bail};
use longhaul_codec::{AckKind, Encoder, Fix, MessageRef, decode};
use socket2::Socket;

use crate::audience::{Audience, Filter, Watch};
use crate::clock::now_ns;
use crate::connection::{Closed, Incoming, client_socket};
use crate::dialect::{Dialect, Heard, Speech, Who};
use crate::job::{HoldTask, Job, Notice, Order, Ready, tell};
use crate::pool::{Handler, OPENING_MAX, Pool, source_address};
use crate::position::PositionFrame;
use crate::schedule::synthetic_id;
use crate::subscribe::{self, Wanted};
use crate::token::{Mint, Role};

/// How often each connection is read, if there are few.
const READ_EACH: Duration = Duration::from_millis(200);
/// How often, however many there are: a ping must be answered before the gateway takes its client for dead.
const READ_EACH_MAX: Duration = Duration::from_secs(20);
/// Of all processes together; where there are many connections each is read less often. Reading for nothing must not be
/// what the machine does.
const READS_PER_SECOND_MAX: usize = 50_000;
/// Between two slices, for each two processes that there are.
const TURN: Duration = Duration::from_millis(10);
/// How long nothing may happen before the rest counts as failed.
const SETUP_NS: u64 = 15_000_000_000;
const REASONS_MAX: usize = 4;
/// What each vehicle reports, once.
const FIX: Fix = Fix {
    time_ms: 0,
    vehicle: 0,
    lat_e7: 524_000_000,
    lon_e7: 135_000_000,
    speed_cm_s: 0,
    heading_cdeg: 0,
};

/// Runs a [`HoldTask`] in this process.
///
/// # Errors
/// Sockets that cannot be made, or a main process that is gone.
pub fn run(job: &Job, task: &HoldTask, orders: &Receiver<Order>) -> anyhow::Result<()> {
    match task.role {
        None => hold_bare(job, task, orders),
        Some(role) => hold(job, task, role, orders),
    }
}

fn hold_bare(job: &Job, task: &HoldTask, orders: &Receiver<Order>) -> anyhow::Result<()> {
    let began = now_ns();
    let mut sockets: Vec<Socket> = Vec::with_capacity(task.connections as usize);
    for client in task.first..task.first + task.connections {
        let socket = client_socket(
            job.target,
            source_address(job.target, client as usize),
            None,
        )?;
        socket
            .connect(&job.target.into())
            .context("connecting to the bare listener")?;
        sockets.push(socket);
        if sockets.len().is_multiple_of(1_000) {
            let of = task.connections as usize;
            tell(&Notice::Connecting {
                ready: sockets.len(),
                of,
            })?;
        }
    }
    let seconds = (now_ns() - began) as f64 / 1e9;
    tell(&Notice::Ready(Ready {
        connected: sockets.len(),
        seconds,
        ..Ready::default()
    }))?;
    // Any order, and the end of the input, means the same here.
    let _ = orders.recv();
    drop(sockets);
    tell(&Notice::Held {
        dropped: 0,
        reasons: Vec::new(),
    })
}

fn hold(job: &Job, task: &HoldTask, role: Role, orders: &Receiver<Order>) -> anyhow::Result<()> {
    let mint = match job.dialect {
        Dialect::Longhaul => Some(Mint::from_file(&job.key)?),
        _ => None,
    };
    let mut pool = Pool::new(
        job.target,
        job.dialect.handshake(&job.host, &job.path),
        task.first as usize,
    )?;
    pool.secure = job.secure()?;
    let mut holders = Holders::new(job.dialect, task, role)?;
    let began = now_ns();
    let (mut moved, mut told) = (began, began);
    let of = task.connections as usize;
    let mut opened = 0;
    while holders.ready + holders.closed < of {
        while opened < of && opened - holders.ready - holders.closed < OPENING_MAX {
            let number = task.first + opened as u32;
            let subject = match role {
                Role::Vehicle => synthetic_id(number),
                Role::Dashboard => format!("dashboard-{number}"),
            };
            let token = match &mint {
                Some(mint) => mint.token(&subject, role)?,
                None => String::new(),
            };
            pool.open(&token, &mut holders);
            opened += 1;
        }
        let before = holders.ready + holders.closed;
        pool.turn(TURN, &mut holders)?;
        for id in std::mem::take(&mut holders.newly_ready) {
            pool.detach(id);
        }
        let now = now_ns();
        if holders.ready + holders.closed > before {
            moved = now;
        } else if now - moved > SETUP_NS {
            holders.note("no answer".to_owned());
            break;
        }
        if now - told > 250_000_000 {
            told = now;
            tell(&Notice::Connecting {
                ready: holders.ready,
                of,
            })?;
        }
    }
    let connected = holders.ready;
    tell(&Notice::Ready(Ready {
        connected,
        failed: of - connected,
        reasons: std::mem::take(&mut holders.reasons),
        seconds: (moved - began) as f64 / 1e9,
        names_missing: 0,
    }))?;
    holders.closed = 0;
    // An answer to a ping may be late; what is measured beside them may not. Refused means it makes no difference.
    let _ = rustix::process::nice(10);
    let (turn, slices) = rhythm(job.processes, of);
    for slice in (0..slices).cycle() {
        if !matches!(orders.try_recv(), Err(TryRecvError::Empty)) {
            break;
        }
        pool.sweep(
            opened * slice / slices..opened * (slice + 1) / slices,
            &mut holders,
        );
        std::thread::sleep(turn);
    }
    let Holders {
        closed, reasons, ..
    } = holders;
    drop(pool);
    tell(&Notice::Held {
        dropped: closed,
        reasons,
    })
}

/// The pause between two slices, and how many slices the connections of a process are read in.
fn rhythm(processes: usize, connections: usize) -> (Duration, usize) {
    let turn = TURN * u32::try_from(processes.div_ceil(2)).unwrap_or(u32::MAX);
    let bounded = (processes * connections) as f64 / READS_PER_SECOND_MAX as f64;
    let each = bounded.clamp(READ_EACH.as_secs_f64(), READ_EACH_MAX.as_secs_f64());
    (turn, ((each / turn.as_secs_f64()) as usize).max(1))
}

struct Holders {
    role: Role,
    /// Number of the first, among all processes.
    first: u32,
    /// For a server that does not speak Longhaul's protocol.
    speech: Option<Box<dyn Speech>>,
    audience: Audience,
    encoder: Encoder,
    position: PositionFrame,
    rng: fastrand::Rng,
    acks: Vec<u32>,
    ready: usize,
    newly_ready: Vec<usize>,
    closed: usize,
    reasons: Vec<String>,
}

impl Holders {
    fn new(dialect: Dialect, task: &HoldTask, role: Role) -> anyhow::Result<Self> {
        let speech = dialect.speech(task.connections as usize);
        if speech.is_some() && role != Role::Vehicle {
            bail!("idle dashboards of other servers are not measured");
        }
        let watches = match task.watch {
            Watch::Count(count) => Watch::Count(count.min(task.universe)),
            Watch::All => Watch::All,
        };
        Ok(Self {
            role,
            first: task.first,
            audience: Audience {
                vehicles: task.universe,
                watches: vec![watches; task.connections as usize],
                seed: task.seed.wrapping_add(u64::from(task.first)),
            },
            encoder: Encoder::new(),
            position: PositionFrame::new(true)?,
            rng: fastrand::Rng::with_seed(task.seed),
            speech,
            acks: vec![0; task.connections as usize],
            ready: 0,
            newly_ready: Vec::new(),
            closed: 0,
            reasons: Vec::new(),
        })
    }

    fn note(&mut self, reason: String) {
        if self.reasons.len() < REASONS_MAX && !self.reasons.contains(&reason) {
            self.reasons.push(reason);
        }
    }

    fn is_ready(&mut self, id: usize) {
        self.ready += 1;
        self.newly_ready.push(id);
    }

    /// A vehicle of a server that does not speak Longhaul's protocol.
    fn foreign(
        &mut self,
        speech: &mut dyn Speech,
        id: usize,
        incoming: &Incoming<'_>,
        reply: &mut Vec<u8>,
    ) {
        let vehicle = synthetic_id(self.first + id as u32);
        let message = match incoming {
            Incoming::Upgraded => return speech.hello(id, &Who::Vehicle(vehicle), reply),
            Incoming::Message { message, .. } => message,
            Incoming::Pong => return,
        };
        let mut ready = false;
        speech.hear(id, message, reply, &mut |heard| match heard {
            Heard::Ready => ready = true,
            Heard::Report(_) => self.note("a vehicle was sent a report".to_owned()),
            Heard::Fault(why) => self.note(why),
        });
        if ready {
            let wrap = |message: &[u8], body: &mut Vec<u8>| speech.report(&vehicle, message, body);
            let frame = self.position.wrapped(&FIX, &mut self.rng, wrap);
            reply.extend_from_slice(frame);
            self.is_ready(id);
        }
    }
}

impl Handler for Holders {
    fn incoming(&mut self, id: usize, incoming: Incoming<'_>, _now_ns: u64, reply: &mut Vec<u8>) {
        if let Some(mut speech) = self.speech.take() {
            self.foreign(&mut *speech, id, &incoming, reply);
            self.speech = Some(speech);
            return;
        }
        let Incoming::Message { message, .. } = incoming else {
            return;
        };
        match decode(message) {
            Ok(MessageRef::Welcome(_)) if self.role == Role::Vehicle => {
                let frame = self.position.patch(&FIX, &mut self.rng);
                reply.extend_from_slice(frame);
                self.is_ready(id);
            }
            Ok(MessageRef::Welcome(welcome)) => {
                let wanted = match self.audience.filter(id) {
                    Filter::All => Wanted::WholeFleet,
                    Filter::Some(vehicles) => {
                        Wanted::Vehicles(vehicles.into_iter().map(synthetic_id).collect())
                    }
                };
                let limit = welcome.message_bytes_max().max(4_096) as usize;
                self.acks[id] = subscribe::write_frames(reply, &mut self.encoder, wanted, 0, limit);
                if self.acks[id] == 0 {
                    self.is_ready(id);
                }
            }
            Ok(MessageRef::Ack(ack)) if ack.kind() == AckKind::Subscribe.into() => {
                self.acks[id] = self.acks[id].saturating_sub(1);
                if self.acks[id] == 0 {
                    self.is_ready(id);
                }
            }
            Ok(MessageRef::Error(error)) => {
                self.note(format!("{:?}: {}", error.code(), error.message()));
            }
            Ok(_) => {}
            Err(error) => self.note(format!("a message does not decode: {error}")),
        }
    }

    fn closed(&mut self, _id: usize, why: Closed) {
        self.closed += 1;
        self.note(why.to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_connections_are_read_less_often() {
        for (processes, connections) in [
            (1, 100),
            (1, 10_000),
            (1, 19_000),
            (2, 19_000),
            (6, 17_000),
            (53, 19_000),
            (200, 19_000),
        ] {
            let (turn, slices) = rhythm(processes, connections);
            let each = turn.as_secs_f64() * slices as f64;
            let reads = (processes * connections) as f64 / each;
            if processes * connections > 10_000 {
                let as_rare_as_may_be = each >= 0.9 * READ_EACH_MAX.as_secs_f64();
                assert!(
                    reads <= 1.3 * READS_PER_SECOND_MAX as f64 || as_rare_as_may_be,
                    "{reads}"
                );
            } else {
                assert!(each >= 0.19, "{each}");
            }
            assert!(each <= READ_EACH_MAX.as_secs_f64(), "{each}");
        }
    }
}
