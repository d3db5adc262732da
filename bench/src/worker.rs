//! A generator process: this same binary with a hidden subcommand, told what to do on its standard input.

use std::io::BufRead;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::mpsc::{Receiver, channel};

use anyhow::Context;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use socket2::{Domain, Socket, Type};

use crate::churn::crowd;
use crate::events::{consume, publish};
use crate::job::{Job, Notice, Order, Task, tell};
use crate::out::out;
use crate::storm::herd;
use crate::{hold, load, usage};

/// How far a load steps back behind a steady one whose latency is measured.
const BESIDE_NICE: i32 = 15;

/// Reads a [`Job`] from standard input and does it. The end of the input ends it, so that no generator outlives its
/// main process.
///
/// # Errors
/// A main process that does not say what to do.
pub fn run() -> anyhow::Result<()> {
    let mut first = String::new();
    std::io::stdin().lock().read_line(&mut first)?;
    let job: Job = serde_json::from_str(&first).context("the first line is no job")?;
    usage::raise_open_files()?;
    if let Some(core) = job.core {
        let mut set = CpuSet::new();
        set.set(core)?;
        sched_setaffinity(Pid::from_raw(0), &set).context("pinning the generator to its core")?;
    }
    if is_beside(&job.task) {
        // Where a core is shared, it is not to make the steady load late: what is measured is the gateway.
        rustix::process::nice(BESIDE_NICE).context("stepping back behind the steady load")?;
    }
    let orders = listen_for_orders();
    let result = match &job.task {
        Task::Load(task) => load::run(&job, task, &orders),
        Task::Hold(task) => hold::run(&job, task, &orders),
        Task::Churn(task) => crowd::run(&job, task, &orders),
        Task::Storm(task) => herd::run(&job, task, &orders),
        Task::Publish(task) => publish::run(&job, task, &orders),
        Task::Consume(task) => consume::run(&job, task, &orders),
    };
    if let Err(error) = result {
        tell(&Notice::Failed(format!("{error:#}")))?;
    }
    Ok(())
}

/// Whether a task runs beside a steady load.
fn is_beside(task: &Task) -> bool {
    match task {
        Task::Storm(_) | Task::Consume(_) => true,
        Task::Publish(task) => task.beside,
        Task::Load(_) | Task::Hold(_) | Task::Churn(_) => false,
    }
}

fn listen_for_orders() -> Receiver<Order> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            let order = line.ok().and_then(|line| serde_json::from_str(&line).ok());
            if sender.send(order.unwrap_or(Order::Stop)).is_err() {
                break;
            }
        }
    });
    receiver
}

/// The listener of a bare run: accepts and does nothing else. Prints its port; ends with its input.
///
/// # Errors
/// The listener cannot be made, or `accept` fails.
pub fn accept() -> anyhow::Result<()> {
    usage::raise_open_files()?;
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
    // The standard library's backlog of 128 drops SYNs, each of which costs a second.
    socket.listen(4_096)?;
    let listener = TcpListener::from(socket);
    out!("{}", listener.local_addr()?.port());
    let orders = listen_for_orders();
    std::thread::spawn(move || {
        let mut held = Vec::new();
        while let Ok((socket, _)) = listener.accept() {
            held.push(socket);
        }
    });
    // Nothing is ever ordered: this waits for the end of the input.
    let _ = orders.recv();
    Ok(())
}
