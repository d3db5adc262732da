//! The thread that keeps state: snapshots, handovers, and what other processes hand over.
//!
//! [`super::load`] comes first, before anybody can connect. Then [`Loaded::start`]; [`Handle::drain`] if the process is
//! to drain; and [`Handle::stop`] when its shards have ended.

use std::{
    fs::File,
    io,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread,
    time::{Duration, Instant},
};

use longhaul_filter_engine::{FleetId, VehicleIndex};

use super::{
    apply::Taken,
    file::{Header, Kind},
    folder::Written,
    load::{Inner, Keeping, Loaded, Now},
    walk::{Versions, write_all, write_changed},
};

/// How often the folder is looked at for handover files, and one is written while draining.
const STEP: Duration = Duration::from_millis(500);
/// How long a vehicle that was sent away may take to come back, by its reconnect delay and a slow network.
const COME_WITHIN: Duration = Duration::from_secs(30);
/// How long the last files may take.
const STOP_WITHIN: Duration = Duration::from_secs(20);
/// A snapshot of two million vehicles takes most of a second of CPU, which is to come out of what shards leave.
const NICE: i32 = 5;
/// How often a failure to write is said.
const COMPLAIN_EVERY: Duration = Duration::from_secs(30);

impl Loaded {
    /// Starts the thread. `announce` is called with vehicles of one fleet whose position has changed, and with those
    /// whose presence has, by what another process handed over. `look` is called twice a second: for what else other
    /// processes leave in the folder.
    ///
    /// # Errors
    /// When there can be no further thread.
    pub fn start(
        self,
        announce: impl Fn(FleetId, &[VehicleIndex], &[VehicleIndex]) + Send + 'static,
        look: impl Fn() + Send + 'static,
    ) -> io::Result<Handle> {
        let (commands, orders) = channel();
        let (done, ended) = channel();
        thread::Builder::new()
            .name("longhaul-state".to_owned())
            .spawn(move || {
                // Linux counts this for the thread. A refusal costs no more than some latency.
                let _ = rustix::process::setpriority_process(None, NICE);
                Keeper::new(self, announce, Now::read()).run(&orders, look);
                let _ = done.send(());
            })?;
        Ok(Handle { commands, ended })
    }
}

/// What the keeper is told.
#[derive(Debug, Clone, Copy)]
enum Command {
    Drain { expect_until_ms: u64 },
    Stop,
}

/// The running keeper.
#[derive(Debug)]
pub struct Handle {
    commands: Sender<Command>,
    ended: Receiver<()>,
}

impl Handle {
    /// This process drains: everything is handed over to its successor now, and what still comes in from now on.
    /// `leaves_within`: when its last vehicle has been sent away. The successor takes a vehicle to be on its way until
    /// then and a little longer, and to be offline if it has not come. Returns at once.
    pub fn drain(&self, leaves_within: Duration) {
        let comes_within = (leaves_within + COME_WITHIN).as_millis() as u64;
        let _ = self.commands.send(Command::Drain {
            expect_until_ms: Now::read().unix_ms.saturating_add(comes_within),
        });
    }

    /// Writes the last files, and waits for that. Call it when no shard writes positions any more.
    pub fn stop(self) {
        let _ = self.commands.send(Command::Stop);
        if self.ended.recv_timeout(STOP_WITHIN).is_err() {
            tracing::error!(
                "the last state file was not written within {} s; the newest positions may be lost",
                STOP_WITHIN.as_secs()
            );
        }
    }
}

/// A process that drains.
#[derive(Debug)]
struct Handing {
    expect_until_ms: u64,
    /// Everything was written once.
    complete: bool,
    /// What was written.
    versions: Versions,
}

/// Does one thing after the other; [`Keeper::run`] does them in time.
#[derive(Debug)]
pub(super) struct Keeper<A> {
    inner: Inner,
    announce: A,
    next_snapshot: Instant,
    handing: Option<Handing>,
    /// How many handover files were written.
    handovers: u32,
    complained: Option<Instant>,
}

impl<A: Fn(FleetId, &[VehicleIndex], &[VehicleIndex])> Keeper<A> {
    pub(super) fn new(loaded: Loaded, announce: A, now: Now) -> Keeper<A> {
        Keeper {
            next_snapshot: now.at + loaded.inner.keeping.snapshot_every,
            inner: loaded.inner,
            announce,
            handing: None,
            handovers: 0,
            complained: None,
        }
    }

    fn run(mut self, orders: &Receiver<Command>, look: impl Fn()) {
        loop {
            let order = orders.recv_timeout(STEP);
            let now = Now::read();
            match order {
                Ok(Command::Drain { expect_until_ms }) => self.drain(expect_until_ms, now),
                Err(RecvTimeoutError::Timeout) => {
                    look();
                    self.step(now);
                }
                Ok(Command::Stop) | Err(RecvTimeoutError::Disconnected) => return self.stop(now),
            }
        }
    }

    /// What there is to do twice a second.
    pub(super) fn step(&mut self, now: Now) {
        if self.handing.is_some() {
            self.hand_over(now);
        } else {
            self.take_handovers(now);
        }
        self.give_up(now);
        if now.at >= self.next_snapshot {
            self.next_snapshot = now.at + self.inner.keeping.snapshot_every;
            let done = self.snapshot(now);
            self.note(done, now);
        }
    }

    /// Begins to hand over.
    pub(super) fn drain(&mut self, expect_until_ms: u64, now: Now) {
        if let Some(handing) = &mut self.handing {
            // Who has come since then is to be expected as well: everything once more.
            handing.expect_until_ms = expect_until_ms;
            handing.complete = false;
            self.hand_over(now);
        } else {
            // What is waiting here is for this process, and part of what it hands over.
            self.take_handovers(now);
            self.handing = Some(Handing {
                expect_until_ms,
                complete: false,
                versions: Versions::default(),
            });
            self.hand_over(now);
        }
    }

    /// Writes what the next process needs.
    pub(super) fn stop(mut self, now: Now) {
        let done = self.last_files(now);
        self.note(done, now);
    }

    fn last_files(&mut self, now: Now) -> io::Result<()> {
        let folder = Arc::clone(&self.inner.keeping.folder);
        let merged = !folder.has_company()?;
        if merged {
            // Whoever left something else here is gone: it becomes part of the last snapshot.
            let foreign = !folder.owns_snapshot();
            self.inner.take_all(now, foreign, &mut Taken::default());
        }
        let last = (merged || folder.owns_snapshot())
            .then(|| self.write_snapshot(now))
            .transpose()?;
        // Under one lock: a process that starts now reads the folder before all of it, or after.
        let turn = folder.turn()?;
        let alone = !folder.has_company()?;
        if let Some(last) = last
            && (folder.owns_snapshot() || (merged && alone))
        {
            self.publish_snapshot(last, now)?;
            if alone {
                // The snapshot has everything.
                for path in folder.own_handovers()? {
                    self.inner.remove(&path);
                }
                return Ok(());
            }
        }
        drop(turn);
        match &self.handing {
            Some(handing) if handing.complete => self.hand_over_changes(now),
            _ => self.hand_over_everything(now, 0),
        }
    }

    fn snapshot(&mut self, now: Now) -> io::Result<()> {
        let folder = Arc::clone(&self.inner.keeping.folder);
        // A process that drains has a successor, whose snapshot has more.
        let may = |draining: bool| !draining || folder.owns_snapshot();
        let draining = self.handing.is_some();
        if !may(draining) {
            return Ok(());
        }
        let written = self.write_snapshot(now)?;
        let _turn = folder.turn()?;
        if may(draining) {
            self.publish_snapshot(written, now)?;
        }
        Ok(())
    }

    fn write_snapshot(&self, now: Now) -> io::Result<Written> {
        let Keeping { folder, fleet, .. } = &self.inner.keeping;
        let header = self.header(Kind::Snapshot, 0, now);
        folder.write(&header, |writer| write_all(fleet, writer, |_, _| {}))
    }

    fn publish_snapshot(&self, written: Written, now: Now) -> io::Result<()> {
        let Keeping {
            folder, metrics, ..
        } = &self.inner.keeping;
        let vehicles = folder.publish_snapshot(written)?;
        metrics.snapshots.inc();
        metrics.snapshot_vehicles.set(vehicles);
        metrics.snapshot_time_s.set(now.unix_ms / 1_000);
        Ok(())
    }

    fn header(&self, kind: Kind, expect_until_ms: u64, now: Now) -> Header {
        Header {
            kind,
            instance: self.inner.keeping.folder.instance(),
            written_ms: now.unix_ms,
            expect_until_ms,
        }
    }

    fn hand_over(&mut self, now: Now) {
        let done = match &self.handing {
            None => Ok(()),
            Some(handing) if !handing.complete => {
                self.hand_over_everything(now, handing.expect_until_ms)
            }
            // While nobody has taken the last one, nobody waits for the next one; it will have everything since.
            Some(_) => match self.inner.keeping.folder.own_handovers() {
                Ok(left) if left.is_empty() => self.hand_over_changes(now),
                Ok(_) => Ok(()),
                Err(error) => Err(error),
            },
        };
        self.note(done, now);
    }

    fn hand_over_everything(&mut self, now: Now, expect_until_ms: u64) -> io::Result<()> {
        let Keeping { folder, fleet, .. } = &self.inner.keeping;
        let header = self.header(Kind::Handover, expect_until_ms, now);
        let mut versions = Versions::default();
        let written = folder.write(&header, |writer| {
            write_all(fleet, writer, |vehicle, version| {
                versions.set(vehicle, version)
            })
        })?;
        self.publish_handover(written)?;
        if let Some(handing) = &mut self.handing {
            handing.complete = true;
            handing.versions = versions;
        }
        Ok(())
    }

    fn hand_over_changes(&mut self, now: Now) -> io::Result<()> {
        // Until the file is there, nothing counts as handed over.
        let mut versions = self
            .handing
            .as_mut()
            .map(|handing| std::mem::take(&mut handing.versions))
            .unwrap_or_default();
        let Keeping { folder, fleet, .. } = &self.inner.keeping;
        let header = self.header(Kind::Handover, 0, now);
        let written = folder.write(&header, |writer| {
            write_changed(fleet, writer, &mut versions)
        })?;
        if written.vehicles() > 0 {
            self.publish_handover(written)?;
        }
        if let Some(handing) = &mut self.handing {
            handing.versions = versions;
        }
        Ok(())
    }

    fn publish_handover(&mut self, written: Written) -> io::Result<()> {
        self.handovers += 1;
        self.inner
            .keeping
            .folder
            .publish_handover(written, self.handovers)?;
        self.inner.keeping.metrics.handovers.inc();
        Ok(())
    }

    fn take_handovers(&mut self, now: Now) {
        let paths = match self.inner.keeping.folder.handovers_of_others() {
            Ok(paths) => paths,
            Err(error) => return self.note(Err(error), now),
        };
        let mut total = Taken::default();
        for path in paths {
            if self.inner.set_aside.contains(&path) {
                continue;
            }
            let file = File::open(&path);
            if self
                .inner
                .take(&path, file, now, &mut total, &self.announce)
            {
                tracing::info!(
                    vehicles = total.vehicles,
                    positions = total.positions,
                    "took over from a process that drains"
                );
                // What was taken is nowhere else until a snapshot has it.
                self.next_snapshot = now.at;
            }
        }
    }

    fn give_up(&mut self, now: Now) {
        let Inner {
            expected, keeping, ..
        } = &mut self.inner;
        for (_, late) in expected.extract_if(.., |(until, _)| *until <= now.at) {
            late.give_up(&keeping.fleet, now.unix_ms, &self.announce);
        }
    }

    fn note(&mut self, done: io::Result<()>, now: Now) {
        let Err(error) = done else {
            self.complained = None;
            return;
        };
        self.inner.keeping.metrics.errors.inc();
        let said = self
            .complained
            .is_some_and(|said| now.at < said + COMPLAIN_EVERY);
        if !said {
            self.complained = Some(now.at);
            tracing::error!(
                "cannot write state in {}: {error}. Make room there, or make it writable for this user; it is tried again \
                 in a while, and until then a restart begins with an older state",
                self.inner.keeping.folder.path().display()
            );
        }
    }
}
