//! Lines on standard output: one JSON object each, with one key that says what it is.

use std::io::Write;

use data_encoding::BASE64;
use longhaul_vehicle::{Command, Notice, State};
use serde_json::{Value, json};
use tokio::sync::mpsc;

/// Lines that may wait for whoever reads them. Then the program waits as well.
const LINES_MAX: usize = 1_024;

/// Writes lines from a thread of its own, since standard output may block.
#[derive(Debug)]
pub(super) struct Output {
    lines: mpsc::Sender<Value>,
    writer: std::thread::JoinHandle<()>,
}

impl Output {
    pub(super) fn start() -> Self {
        let (lines, mut written) = mpsc::channel::<Value>(LINES_MAX);
        let writer = std::thread::spawn(move || {
            let mut out = std::io::stdout().lock();
            while let Some(line) = written.blocking_recv() {
                // Nobody reads any more: events are delivered all the same.
                if writeln!(out, "{line}").and_then(|()| out.flush()).is_err() {
                    return;
                }
            }
        });
        Self { lines, writer }
    }

    pub(super) async fn line(&self, line: Value) {
        let _ = self.lines.send(line).await;
    }

    /// Writes what is left.
    pub(super) fn finish(self) {
        drop(self.lines);
        let _ = self.writer.join();
    }
}

pub(super) fn queued(id: u64) -> Value {
    json!({ "queued": { "id": id } })
}

/// What is wrong with a line of the input, from 1.
pub(super) fn error(line: u64, what: impl ToString) -> Value {
    json!({ "error": { "line": line, "what": what.to_string() } })
}

/// Notices that came faster than they were read.
pub(super) fn missed(notices: u64) -> Value {
    json!({ "missed": { "notices": notices } })
}

pub(super) fn notice(notice: &Notice) -> Value {
    match notice {
        Notice::Acked { id } => json!({ "acked": { "id": id } }),
        Notice::Refused { id, code, why } => {
            json!({ "refused": { "id": id, "code": code, "why": why } })
        }
        Notice::Dropped { id } => json!({ "dropped": { "id": id } }),
        Notice::Warned { code, why } => json!({ "warned": { "code": code, "why": why } }),
    }
}

pub(super) fn command(command: &Command) -> Value {
    json!({ "command": {
        "command_id": command.command_id,
        "name": command.name,
        "ttl_ms": command.ttl_ms,
        "accepted_ms": command.accepted_ms,
        "redelivered": command.redelivered,
        "content_type": command.content_type,
        "text": std::str::from_utf8(&command.payload).ok(),
        "payload_base64": BASE64.encode(&command.payload),
    } })
}

pub(super) fn state(state: &State) -> Value {
    let state = match state {
        State::Connecting { attempt } => json!({ "name": "Connecting", "attempt": attempt }),
        State::Connected {
            fleet,
            vehicle,
            node,
            ..
        } => json!({ "name": "Connected", "fleet": fleet, "vehicle": vehicle, "node": node }),
        State::Draining => json!({ "name": "Draining" }),
        State::Waiting { until, why } => {
            let wait = until.saturating_duration_since(std::time::Instant::now());
            json!({ "name": "Waiting", "wait_ms": wait.as_millis() as u64, "why": why })
        }
        State::Stopped { why } => json!({ "name": "Stopped", "why": why.to_string() }),
    };
    json!({ "state": state })
}
