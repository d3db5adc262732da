//! The control plane: health, readiness, metrics, drain and orders over HTTP, on a thread of its own so that nothing here can delay a
//! shard.
//!
//! - `control/health.rs`: what shards report, and what follows from it
//! - `control/routes.rs`: the endpoints
//! - `control/admin/`: those for operators
//! - `control/http.rs`: connections, bounded in number and time
#![forbid(unsafe_code)]

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use prometheus_client::registry::Registry;
use serde::Deserialize;
use tokio::sync::oneshot;

pub mod admin;
pub mod health;
mod http;
mod routes;

pub use admin::Admin;
pub use health::Health;

use crate::{limits::CONTROL_BLOCKING_THREADS_MAX, server::reload::Reloaded};

/// What a drain is to tell clients.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DrainOrder {
    /// Where to go instead; none: what `drain.alternative` says.
    pub alternative: Option<String>,
    /// Why, for people.
    pub reason: Option<String>,
}

/// What the endpoints answer from.
pub struct ControlState {
    /// Begins a drain; false if the process is past that.
    pub drain: Box<dyn Fn(DrainOrder) -> bool + Send + Sync>,
    /// Reads files again; one at a time.
    pub reload: Box<dyn Fn() -> Vec<Reloaded> + Send + Sync>,
    /// What admin calls rest on.
    pub admin: Admin,
    /// What those about groups rest on.
    pub groups: admin::GroupCalls,
    /// Whether `/drain` needs an operator's token as well.
    pub drain_needs_token: bool,
    /// Makes a shard panic, for the test that the process does not survive it.
    #[cfg(debug_assertions)]
    pub panic: Box<dyn Fn(usize) -> bool + Send + Sync>,
    /// What this node calls itself.
    pub node: String,
    /// What the shards report.
    pub health: Arc<Health>,
    /// What `/metrics` encodes.
    pub registry: Registry,
}

/// Why the control plane did not start.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The address cannot be listened on.
    #[error(
        "cannot listen on {address} for the control plane; \
         the address is set by control.listen (--control-listen, LONGHAUL_CONTROL_LISTEN)"
    )]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the operating system said.
        source: io::Error,
    },
    /// The thread or its runtime could not be made.
    #[error("cannot start the control plane's thread")]
    Start(#[source] io::Error),
}

/// A running control plane. It stops when this is dropped.
#[derive(Debug)]
pub struct Handle {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Handle {
    /// The address that it listens on, with the port that the system chose if port 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers what is under way, for a bounded time, and ends the thread.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // The receiver is gone if the thread ended by itself; there is nothing left to stop then.
        let _ = self.stop.take().map(|stop| stop.send(()));
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the control plane's thread panicked");
        }
    }
}

/// Binds the address, then serves it on a new thread.
///
/// # Errors
/// The address cannot be bound, or the thread cannot be made.
pub fn spawn(listen: SocketAddr, state: Arc<ControlState>) -> Result<Handle, ControlError> {
    let failed = |source| ControlError::Listen {
        address: listen,
        source,
    };
    let listener = TcpListener::bind(listen).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;

    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(CONTROL_BLOCKING_THREADS_MAX)
        .build()
        .map_err(ControlError::Start)?;
    let listener = {
        let _in_runtime = runtime.enter();
        tokio::net::TcpListener::from_std(listener).map_err(ControlError::Start)?
    };
    let (stop, stopped) = oneshot::channel();
    let thread = thread::Builder::new()
        .name("longhaul-ctl".to_owned())
        .spawn(move || runtime.block_on(http::serve(listener, routes::router(state), stopped)))
        .map_err(ControlError::Start)?;
    Ok(Handle {
        address,
        stop: Some(stop),
        thread: Some(thread),
    })
}

#[cfg(test)]
mod tests;
