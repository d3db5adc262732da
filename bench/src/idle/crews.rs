//! The processes that hold the connections.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::bail;

use super::Bench;
use crate::audience::Watch;
use crate::crew::{CONNECTIONS_PER_PROCESS, Crew};
use crate::dialect::Dialect;
use crate::gateway::Gateway;
use crate::job::{HoldTask, Job, Notice, Order, Ready, Task};
use crate::report::grouped;
use crate::token::Role;

/// Where connections are made to.
pub enum Target<'a> {
    /// A listener on this port that only accepts.
    Bare(u16),
    /// The gateway.
    Gateway(&'a Gateway),
}

impl Bench<'_> {
    /// The number of the first that is held: those before have the load's ids and source addresses.
    pub fn first(&self) -> u32 {
        if self.args.rate == 0 {
            return 0;
        }
        self.args.vehicles + self.args.dashboards
    }

    /// One connection, opened and closed; a dashboard subscribes to every vehicle there is by id, so that the names
    /// that all share are not counted as the connections'.
    pub fn warm_up(&self, gateway: &Gateway) -> anyhow::Result<()> {
        let mut job = self.job(
            0,
            1,
            Some(Role::from(self.args.role)),
            &Target::Gateway(gateway),
        );
        if let Task::Hold(task) = &mut job.task {
            task.connections = 1;
            task.watch = Watch::Count(self.args.universe);
        }
        let mut crew = Crew::start(&[job])?;
        let ready = self.await_ready(&mut crew, "warm-up", |_| {})?;
        if ready.failed > 0 {
            bail!("the first connection failed: {}", ready.reasons.join("; "));
        }
        self.sleep(Duration::from_millis(500))?;
        crew.order(Order::Stop)?;
        await_held(&mut crew)?;
        drop(crew);
        self.sleep(Duration::from_secs(1))
    }

    /// The jobs of as many processes as it takes; `role`: none for bare sockets.
    pub fn jobs<'t>(&self, role: Option<Role>, target: impl Fn(usize) -> Target<'t>) -> Vec<Job> {
        let processes = (self.args.connections as usize)
            .div_ceil(CONNECTIONS_PER_PROCESS)
            .max(1);
        (0..processes)
            .map(|process| self.job(process, processes, role, &target(process)))
            .collect()
    }

    fn job(
        &self,
        process: usize,
        processes: usize,
        role: Option<Role>,
        target: &Target<'_>,
    ) -> Job {
        let share = |upto: usize| (self.args.connections as usize * upto / processes) as u32;
        let (first, end) = (share(process), share(process + 1));
        let task = HoldTask {
            first: self.first() + first,
            connections: end - first,
            role,
            watch: self.args.watch,
            universe: self.args.universe,
            seed: self.args.seed,
        };
        let (place, task) = ((process, processes), Task::Hold(task));
        match *target {
            Target::Gateway(gateway) => Job::at(gateway, place, None, task),
            Target::Bare(port) => Job {
                dialect: Dialect::Longhaul,
                target: (Ipv4Addr::LOCALHOST, port).into(),
                host: String::new(),
                path: String::new(),
                key: PathBuf::new(),
                certificate: None,
                process,
                processes,
                core: None,
                task,
            },
        }
    }

    /// All processes' connections, made. `look` is told once a second, and at the end, how many there are.
    pub fn await_ready(
        &self,
        crew: &mut Crew,
        what: &str,
        mut look: impl FnMut(usize),
    ) -> anyhow::Result<Ready> {
        let mut sum = Ready::default();
        let mut waiting = crew.len();
        let mut connected = vec![0; crew.len()];
        let mut shown = Instant::now();
        while waiting > 0 {
            match crew.notice(Duration::from_millis(100))? {
                Some((process, Notice::Connecting { ready, .. })) => connected[process] = ready,
                Some((process, Notice::Ready(ready))) => {
                    connected[process] = ready.connected;
                    sum.connected += ready.connected;
                    sum.failed += ready.failed;
                    sum.seconds = sum.seconds.max(ready.seconds);
                    sum.reasons.extend(ready.reasons);
                    waiting -= 1;
                }
                _ => {}
            }
            if waiting == 0 || shown.elapsed() > Duration::from_secs(1) {
                shown = Instant::now();
                let connected = connected.iter().sum::<usize>();
                eprintln!("{what}: {} ready", grouped(connected as u64));
                look(connected);
            }
            self.check()?;
        }
        Ok(sum)
    }
}

/// Waits for the end of a hold: how many connections were ended by the gateway, and why.
///
/// # Errors
/// A generator process failed.
pub fn await_held(crew: &mut Crew) -> anyhow::Result<(usize, Vec<String>)> {
    let (mut waiting, mut dropped, mut reasons) = (crew.len(), 0, Vec::new());
    while waiting > 0 {
        if let Some((
            _,
            Notice::Held {
                dropped: more,
                reasons: why,
            },
        )) = crew.notice(Duration::from_secs(1))?
        {
            waiting -= 1;
            dropped += more;
            reasons.extend(why);
        }
    }
    Ok((dropped, reasons))
}
