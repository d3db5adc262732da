//! What a server's processes hold for connections that say nothing.

use std::time::Duration;

use anyhow::{bail, ensure};

use super::peer::Peer;
use super::{Bench, report::Idle};
use crate::audience::Watch;
use crate::cli::duration;
use crate::crew::Crew;
use crate::gateway::Gateway;
use crate::idle::await_held;
use crate::job::{HoldTask, Job, Notice, Order, Ready, Task};
use crate::run;
use crate::token::Role;
use crate::usage;

/// From the end of the first connection to the measurement before the others.
const AFTER_FIRST: Duration = Duration::from_secs(1);

/// Holds vehicles that have reported once. One was there before and is gone, so that what the first connection costs is
/// not divided among the others.
///
/// # Errors
/// The server or the generator fails, a connection could not be made or held, or the user gave up.
pub fn measure(bench: &Bench<'_>, peer: Peer) -> anyhow::Result<Idle> {
    let args = bench.args;
    eprintln!("-- {peer}: {} idle connections", args.idle);
    let server = bench.places.start(peer)?;
    let Some(pid) = server.pid else {
        bail!("the server was not started here");
    };
    let first = hold(bench, &server, 1)?;
    release(first)?;
    bench.sleep(AFTER_FIRST)?;
    let before = usage::family_memory(pid)?;
    let crew = hold(bench, &server, args.idle)?;
    bench.sleep(duration(args.settle))?;
    let after = usage::family_memory(pid)?;
    release(crew)?;
    let each = |now: u64, then: u64| (now as f64 - then as f64) / f64::from(args.idle);
    Ok(Idle {
        connections: args.idle,
        rss_bytes_per_connection: each(after.rss, before.rss),
        pss_bytes_per_connection: each(after.pss, before.pss),
    })
}

fn hold(bench: &Bench<'_>, server: &Gateway, connections: u32) -> anyhow::Result<Crew> {
    let task = HoldTask {
        first: 0,
        connections,
        role: Some(Role::Vehicle),
        watch: Watch::Count(0),
        universe: 1,
        seed: bench.args.generator.seed,
    };
    let crew = Crew::start(&[Job::at(server, (0, 1), None, Task::Hold(task))])?;
    let ready = await_ready(bench, &crew)?;
    ensure!(
        ready.failed == 0,
        "{} of {connections} connections failed: {}",
        ready.failed,
        ready.reasons.join("; ")
    );
    Ok(crew)
}

fn await_ready(bench: &Bench<'_>, crew: &Crew) -> anyhow::Result<Ready> {
    loop {
        if let Some((_, Notice::Ready(ready))) = crew.notice(Duration::from_millis(100))? {
            return Ok(ready);
        }
        bench.check()?;
    }
}

fn release(mut crew: Crew) -> anyhow::Result<()> {
    crew.order(Order::Stop)?;
    let (dropped, reasons) = await_held(&mut crew)?;
    ensure!(
        dropped == 0,
        "{dropped} idle connections were ended: {}",
        reasons.join("; ")
    );
    Ok(())
}

impl Bench<'_> {
    fn sleep(&self, time: Duration) -> anyhow::Result<()> {
        run::sleep(time, self.interrupted)
    }

    fn check(&self) -> anyhow::Result<()> {
        run::check(self.interrupted)
    }
}
