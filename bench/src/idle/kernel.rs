//! What the kernel holds for connections.

use std::time::{Duration, Instant};

use super::crews::{Target, await_held};
use super::{Bench, LOOK};
use crate::cli::duration;
use crate::crew::{BareListener, CONNECTIONS_PER_PROCESS, Crew};
use crate::job::Order;
use crate::usage::{self, Slab};

/// How long the kernel may take to free what a run left behind.
pub const RELEASE_MAX: Duration = Duration::from_secs(60);
/// How long the kernel's memory may take to become steady after the last connection.
pub const SETTLE_MAX: Duration = Duration::from_secs(75);
/// Steady: it changed by less than this many bytes per connection from one look to the next, three times.
const STEADY_BYTES: u64 = 8;

/// Kernel memory per connection, in bytes, of both ends.
#[derive(Clone, Copy, Debug)]
pub struct Kernel {
    /// All of it.
    pub total: f64,
    /// Without caches of files.
    pub unreclaimable: f64,
}

impl Kernel {
    /// From the slab before and after so many connections.
    pub fn each(before: Slab, after: Slab, connections: usize) -> Self {
        let each =
            |before: u64, after: u64| (after as f64 - before as f64) / connections.max(1) as f64;
        Self {
            total: each(before.total, after.total),
            unreclaimable: each(before.unreclaimable, after.unreclaimable),
        }
    }
}

impl Bench<'_> {
    /// What a connection to a listener that only accepts costs the kernel.
    pub fn bare(&self) -> anyhow::Result<Kernel> {
        let connections = self.args.connections as usize;
        let processes = connections.div_ceil(CONNECTIONS_PER_PROCESS).max(1);
        let listeners = (0..processes)
            .map(|_| BareListener::start())
            .collect::<Result<Vec<_>, _>>()?;
        let before = self.steady_slab(RELEASE_MAX)?;
        let ports: Vec<u16> = listeners.iter().map(|listener| listener.port).collect();
        let jobs = self.jobs(None, |process| Target::Bare(ports[process]));
        let mut crew = Crew::start(&jobs)?;
        let ready = self.await_ready(&mut crew, "bare sockets", |_| {})?;
        let after = self.steady_slab(SETTLE_MAX)?;
        let kernel = Kernel::each(before, after, ready.connected);
        eprintln!(
            "bare sockets: {:.0} bytes of kernel memory each, both ends",
            kernel.total
        );
        crew.order(Order::Stop)?;
        await_held(&mut crew)?;
        drop((crew, listeners));
        self.steady_slab(RELEASE_MAX)?;
        Ok(kernel)
    }

    /// The kernel's slab memory once it no longer changes (or after `longest`).
    pub fn steady_slab(&self, longest: Duration) -> anyhow::Result<Slab> {
        eprintln!("waiting until the kernel's memory is steady");
        let longest = self
            .args
            .settle
            .map_or(longest, |seconds| longest.min(duration(seconds)));
        let began = Instant::now();
        let steady_bytes = STEADY_BYTES * u64::from(self.args.connections.max(1_000));
        let mut last = usage::slab()?;
        let mut steady = 0;
        while steady < 3 && began.elapsed() < longest {
            self.sleep(LOOK)?;
            let now = usage::slab()?;
            steady = if now.unreclaimable.abs_diff(last.unreclaimable) < steady_bytes {
                steady + 1
            } else {
                0
            };
            last = now;
        }
        Ok(last)
    }
}
