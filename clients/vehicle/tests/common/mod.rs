//! What the tests share: a gateway, a dashboard that notes what it sees, and a client's set-up.
//!
//! Nothing waits for longer than [`PATIENCE`], and no outcome depends on how long something took.
#![allow(
    dead_code,
    reason = "every test binary has this module and uses its part of it"
)]

use std::path::Path;
use std::time::{Duration, Instant};

use longhaul_vehicle::{Backoff, Config, QueueConfig, State, Token, TokenSource, Vehicle};
use tokio::sync::watch;

pub mod dashboard;
pub mod gateway;
pub mod listener;
pub mod proxy;

pub use dashboard::Dashboard;
pub use gateway::Gateway;

/// How long anything may take before a test gives up: far longer than it takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A number from the environment, for whoever repeats a run or makes it longer.
pub fn setting(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("{name}={text} is no number")),
        Err(_) => default,
    }
}

/// Shows what the library logs, if LONGHAUL_LOG says so.
fn log() {
    if let Ok(filter) = std::env::var("LONGHAUL_LOG") {
        let format = tracing_subscriber::fmt().with_env_filter(filter);
        // Only the first test of a binary sets it.
        let _ = format.with_writer(std::io::stderr).try_init();
    }
}

/// A configuration with short waits, for a vehicle of the gateway's fleet.
pub fn config(url: &str, token: &str, folder: &Path, id: &str) -> Config {
    log();
    let token = Token::new(token).expect("a token");
    let tokens = TokenSource::fixed(token);
    let queue = QueueConfig::new(folder.join(format!("{id}.queue")));
    let mut config = Config::new(url, tokens, queue).expect("the URL is good");
    let ms = Duration::from_millis;
    config.reconnect = Backoff::new(ms(20), ms(500)).expect("it is in range");
    config.retry = Backoff::new(ms(20), ms(200)).expect("it is in range");
    config
}

/// A client for `id` that goes straight to the gateway.
pub fn start(gateway: &Gateway, folder: &Path, id: &str) -> Vehicle {
    let config = config(&gateway.url(), &gateway.vehicle_token(id), folder, id);
    let (vehicle, mut commands) = Vehicle::start(config).expect("it starts");
    // Nobody takes commands, and nobody refuses them.
    tokio::spawn(async move { while commands.recv().await.is_some() {} });
    vehicle
}

/// Waits for a state.
#[track_caller]
pub fn reaches(
    vehicle: &Vehicle,
    what: &'static str,
    is: impl Fn(&State) -> bool,
) -> impl Future<Output = State> {
    let mut state: watch::Receiver<State> = vehicle.state();
    async move {
        let reached = tokio::time::timeout(PATIENCE, state.wait_for(|state| is(state))).await;
        let reached = reached.ok().and_then(Result::ok).map(|state| state.clone());
        reached.unwrap_or_else(|| panic!("not {what} within {PATIENCE:?}: {:?}", *state.borrow()))
    }
}

/// Waits for a connection.
pub async fn connected(vehicle: &Vehicle) -> State {
    reaches(vehicle, "connected", |state| {
        matches!(state, State::Connected { .. })
    })
    .await
}

/// Asks until the answer is yes.
pub async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let asked = Instant::now();
    while !holds() {
        assert!(
            asked.elapsed() < PATIENCE,
            "not within {PATIENCE:?}: {what}"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
