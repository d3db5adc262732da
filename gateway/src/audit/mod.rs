//! The audit log: one JSON line for each act that matters to whoever has to know later who got in, who did not, and who
//! did what. It is apart from the process's own log, and no token is ever in it.
//!
//! - `audit/act.rs`: what a line says
//! - `audit/file.rs`: the file: mode 0600, rotated by size and age, opened again when it was moved away
//! - `audit/writer.rs`: the thread that writes
//!
//! [`Audit::record`] never waits: acts go through a bounded queue, and what finds no room is counted, here and in the
//! file. If there is no file, nothing is made and nothing is kept; ask [`Audit::is_on`] before an act is put together.
#![forbid(unsafe_code)]

mod act;
mod file;
mod writer;

use std::{
    hash::{BuildHasher, RandomState},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc::{Sender, channel},
    },
    time::Duration,
};

use crossbeam::queue::ArrayQueue;

pub use self::{
    act::{Act, Kind, Role, Who},
    file::Rules,
    writer::Handle,
};
use crate::{
    config,
    limits::{AUDIT_SAME_PER_SECOND_MAX, AUDIT_TEXT_BYTES_MAX, Limits},
    metrics::AuditMetrics,
};

/// What an act weighs in the queue, without its texts.
pub const ACT_BYTES: usize = size_of::<Act>() + size_of::<usize>();
/// How long a reopening may take.
const REOPEN_WITHIN: Duration = Duration::from_secs(5);

/// Why there is no audit log although one is asked for.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The file cannot be opened.
    #[error(
        "cannot write the audit log {path} (audit.file): name a file that this user can make and write, or leave the \
         setting out",
        path = path.display()
    )]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// No further thread.
    #[error("cannot start the thread of the audit log")]
    Thread(#[source] std::io::Error),
}

/// Where acts go. Shared by shards, the control plane and whoever else has something to say.
#[derive(Debug, Default)]
pub struct Audit {
    on: Option<On>,
}

#[derive(Debug)]
struct On {
    queue: ArrayQueue<Act>,
    lost: Lost,
    /// Of strangers among clients.
    refusals: Budget,
    /// Of strangers at the control plane: those out there must not hide them.
    admin_refusals: Budget,
    known: Known,
    orders: Sender<writer::Order>,
}

impl On {
    fn new(limits: &Limits, orders: Sender<writer::Order>) -> On {
        On {
            queue: ArrayQueue::new(limits.audit_queue_max),
            lost: Lost::default(),
            refusals: Budget::new(limits.audit_refusals_per_second_max),
            admin_refusals: Budget::new(limits.audit_refusals_per_second_max),
            known: Known::new(),
            orders,
        }
    }

    /// Whether the act gets a line of its own; counts it if not.
    fn admit(&self, act: &Act) -> bool {
        let second = act.unix_ms / 1_000;
        let (admitted, lost) = match (act.kind, &act.who.subject) {
            // Strangers cost nothing to be, and must not wash away what others did.
            (Kind::Refuse, None) => (self.refusals.admit(second), &self.lost.refusals),
            (Kind::Admin, None) => (self.admin_refusals.admit(second), &self.lost.refusals),
            // Nor must those who are known: to ask for what is not granted costs nothing, either.
            (_, Some(_)) if act.changes_nothing() => {
                (self.known.admit(&act.who, second), &self.lost.repeats)
            }
            _ => (true, &self.lost.repeats),
        };
        if !admitted {
            lost.fetch_add(1, Relaxed);
        }
        admitted
    }
}

/// Acts that are not in the file, since the process started.
#[derive(Debug, Default)]
struct Lost {
    /// The queue was full.
    dropped: AtomicU64,
    /// Refusals of strangers beyond what a second takes.
    refusals: AtomicU64,
    /// Acts of one who is known beyond what a second takes.
    repeats: AtomicU64,
}

impl Audit {
    /// Keeps nothing.
    pub fn off() -> Arc<Audit> {
        Arc::default()
    }

    /// Opens the file and starts the thread that writes, if the settings name a file.
    ///
    /// # Errors
    /// The file cannot be used: whoever asks for an audit log must know.
    pub fn start(
        settings: &config::Audit,
        limits: &Limits,
        node: &str,
        metrics: Arc<AuditMetrics>,
    ) -> Result<(Arc<Audit>, Option<Handle>), AuditError> {
        let Some(path) = &settings.file else {
            return Ok((Audit::off(), None));
        };
        let rules = Rules {
            bytes_max: settings.rotate_bytes,
            age_max: match settings.rotate_after_s {
                0 => None,
                seconds => Some(Duration::from_secs(seconds)),
            },
            keep: settings.keep as usize,
        };
        let file = file::AuditFile::open(path, rules).map_err(|source| AuditError::Unusable {
            path: path.clone(),
            source,
        })?;
        let (orders, ordered) = channel();
        let audit = Arc::new(Audit {
            on: Some(On::new(limits, orders)),
        });
        let handle = writer::Writer::new(Arc::clone(&audit), file, node.into(), metrics)
            .start(ordered)
            .map_err(AuditError::Thread)?;
        Ok((audit, Some(handle)))
    }

    /// Whether there is a file.
    #[inline]
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.on.is_some()
    }

    /// Hands an act over to the thread that writes. Never waits; what finds no room is counted.
    pub fn record(&self, mut act: Act) {
        let Some(on) = &self.on else { return };
        if !on.admit(&act) {
            return;
        }
        shorten(&mut act);
        if on.queue.push(act).is_err() {
            on.lost.dropped.fetch_add(1, Relaxed);
        }
    }

    /// Opens the file anew, after another program has moved it away. Says what became of it.
    ///
    /// # Errors
    /// Why the file cannot be opened; the old one is written on, and it is tried again.
    pub fn reopen(&self) -> Result<String, String> {
        let Some(on) = &self.on else {
            return Ok("there is none (audit.file)".to_owned());
        };
        let (reply, said) = channel();
        let ended = |_| "the thread of the audit log has ended".to_owned();
        on.orders
            .send(writer::Order::Reopen(reply))
            .map_err(|error| ended(error.to_string()))?;
        match said.recv_timeout(REOPEN_WITHIN) {
            Ok(outcome) => outcome.map(|()| "opened anew".to_owned()),
            Err(_) => Err(format!(
                "it was not opened within {} s; is its disk stuck?",
                REOPEN_WITHIN.as_secs()
            )),
        }
    }
}

/// Texts may quote what a peer sent, and must not grow with it.
fn shorten(act: &mut Act) {
    for text in [&mut act.what, &mut act.why].into_iter().flatten() {
        if text.len() > AUDIT_TEXT_BYTES_MAX {
            let end = text.floor_char_boundary(AUDIT_TEXT_BYTES_MAX);
            *text = text[..end].to_owned().into();
        }
    }
}

/// What each of those who are known may have written in a second, in a table of a fixed size. Two who meet in one place
/// share it; the hash is keyed at random, so that nobody can choose whom to meet.
#[derive(Debug)]
struct Known {
    hasher: RandomState,
    places: Box<[Budget]>,
}

/// Places of [`Known`], of 16 bytes.
const KNOWN_PLACES: usize = 4_096;

impl Known {
    fn new() -> Known {
        let places = std::iter::repeat_with(|| Budget::new(AUDIT_SAME_PER_SECOND_MAX));
        Known {
            hasher: RandomState::new(),
            places: places.take(KNOWN_PLACES).collect(),
        }
    }

    fn admit(&self, who: &Who, unix_s: u64) -> bool {
        let hash = self.hasher.hash_one((&who.fleet, &who.subject));
        self.places[hash as usize % KNOWN_PLACES].admit(unix_s)
    }
}

/// How many lines a second takes.
#[derive(Debug)]
struct Budget {
    per_second_max: u32,
    /// The second, in the upper 32 bits, and how many there were in it.
    second_and_count: AtomicU64,
}

impl Budget {
    fn new(per_second_max: u32) -> Budget {
        Budget {
            per_second_max,
            second_and_count: AtomicU64::new(0),
        }
    }

    /// Counts one; false if there were enough in this second.
    fn admit(&self, unix_s: u64) -> bool {
        let second = unix_s << 32;
        let counted = |before: u64| {
            let count = if before & !0xFFFF_FFFF == second {
                (before & 0xFFFF_FFFF) as u32
            } else {
                0
            };
            (count < self.per_second_max).then(|| second | u64::from(count + 1))
        };
        self.per_second_max == 0
            || self
                .second_and_count
                .fetch_update(Relaxed, Relaxed, counted)
                .is_ok()
    }
}

/// Milliseconds since the Unix epoch, for who has no tick.
#[must_use]
pub fn unix_ms() -> u64 {
    std::time::SystemTime::UNIX_EPOCH
        .elapsed()
        .map_or(0, |since| since.as_millis() as u64)
}

#[cfg(test)]
mod tests;
