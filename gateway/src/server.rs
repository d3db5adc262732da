//! Starts the control plane and waits for a signal.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::signal::unix::{SignalKind, signal};

use crate::control::{self, ControlState, Health};
use crate::metrics::Metrics;
use crate::startup::Startup;

/// Runs until SIGINT or SIGTERM.
///
/// # Errors
/// What kept it from starting.
pub fn run(startup: Startup) -> anyhow::Result<()> {
    let metrics = Metrics::new(0);
    let health = Health::new(0, Duration::from_secs(15), Instant::now());
    let state = ControlState {
        node: startup.config.node_name(),
        health,
        registry: metrics.registry(),
    };
    let control = control::spawn(startup.config.control.listen, Arc::new(state))?;
    tracing::info!(address = %control.address(), "control plane listening");
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(async {
            let mut terminate = signal(SignalKind::terminate())?;
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminate.recv() => {}
            }
            Ok::<_, std::io::Error>(())
        })?;
    control.stop();
    Ok(())
}
