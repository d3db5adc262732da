//! From standard input to the gateway, and from the gateway to standard output.

use std::io::{BufRead, BufReader, Read};
use std::time::Duration;

use anyhow::Context;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesOrdered;
use longhaul_vehicle::{Command, Notice, PublishError, State, StopReason, Vehicle};
use serde_json::Value;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, mpsc, watch};

use super::cli::Cli;
use super::input::{Input, parse};
use super::output::{self, Output};
use super::{ALL_ACKED, EVENTS_LEFT, STOPPED};

/// The longest line that is read.
const LINE_BYTES_MAX: u64 = 4 << 20;
/// Lines that are read ahead.
const LINES_AHEAD: usize = 64;
/// Events that may wait for the disk at once.
const PUBLISHING_MAX: usize = 256;
/// After SIGTERM: enough for an answer from the gateway, and less than a supervisor's patience.
const SHORT_LINGER: Duration = Duration::from_secs(5);

/// A line of the input, or that it was too long.
type Read1 = (u64, Option<Vec<u8>>);
/// What becomes of an event that is being published.
type Publishing = BoxFuture<'static, (u64, Result<u64, PublishError>)>;

/// What happens besides the input.
enum Happening {
    Line(Value),
    State(State),
    Signal,
}

/// Why the input is not read to its end.
enum End {
    Signal,
    Stopped,
}

/// What goes on in the program.
struct Program {
    vehicle: Vehicle,
    output: Output,
    commands: mpsc::Receiver<Command>,
    notices: broadcast::Receiver<Notice>,
    state: watch::Receiver<State>,
    publishing: FuturesOrdered<Publishing>,
    stop: [Signal; 2],
}

/// Runs until the input ends, a signal comes or the client stops. Gives the exit code.
pub(super) async fn run(cli: Cli) -> anyhow::Result<u8> {
    let (vehicle, commands) = Vehicle::start(cli.config()?)?;
    let mut program = Program {
        output: Output::start(),
        commands,
        notices: vehicle.notices(),
        state: vehicle.state(),
        publishing: FuturesOrdered::new(),
        stop: [
            signal(SignalKind::terminate()).context("signals")?,
            signal(SignalKind::interrupt()).context("signals")?,
        ],
        vehicle,
    };
    if let Some(file) = &program.vehicle.opened().moved_aside {
        let what = serde_json::json!({ "queue_moved_aside": { "file": file } });
        program.output.line(what).await;
    }
    program.state.mark_changed();
    let signalled = program.input().await;
    let linger = if signalled {
        SHORT_LINGER
    } else {
        cli.linger()
    };
    Ok(program.end(linger).await)
}

impl Program {
    /// Until the input ends. True: by a signal.
    async fn input(&mut self) -> bool {
        let mut lines = read_lines();
        let mut more = true;
        while more || !self.publishing.is_empty() {
            let room = self.publishing.len() < PUBLISHING_MAX;
            let happening = tokio::select! {
                line = lines.recv(), if more && room => match line {
                    Some((number, line)) => {
                        self.line(number, line).await;
                        continue;
                    }
                    None => {
                        more = false;
                        continue;
                    }
                },
                happening = self.other() => happening,
            };
            match self.say(happening).await {
                Some(End::Signal) => return true,
                Some(End::Stopped) => return false,
                None => {}
            }
        }
        false
    }

    /// One thing that happens besides the input. May be dropped and called again.
    async fn other(&mut self) -> Happening {
        let [terminate, interrupt] = &mut self.stop;
        tokio::select! {
            Some((line, done)) = self.publishing.next() => Happening::Line(match done {
                Ok(id) => output::queued(id),
                Err(error) => output::error(line, error),
            }),
            Some(command) = self.commands.recv() => Happening::Line(output::command(&command)),
            notice = self.notices.recv() => match notice {
                Ok(notice) => Happening::Line(output::notice(&notice)),
                Err(RecvError::Lagged(missed)) => Happening::Line(output::missed(missed)),
                // Not while the client is held.
                Err(RecvError::Closed) => std::future::pending().await,
            },
            Ok(()) = self.state.changed() => {
                Happening::State(self.state.borrow_and_update().clone())
            }
            _ = terminate.recv() => Happening::Signal,
            _ = interrupt.recv() => Happening::Signal,
        }
    }

    /// Says what happened, and whether that is the end.
    async fn say(&mut self, happening: Happening) -> Option<End> {
        match happening {
            Happening::Signal => return Some(End::Signal),
            Happening::Line(line) => self.output.line(line).await,
            Happening::State(state) => {
                self.output.line(output::state(&state)).await;
                return matches!(state, State::Stopped { .. }).then_some(End::Stopped);
            }
        }
        None
    }

    async fn line(&mut self, number: u64, line: Option<Vec<u8>>) {
        let Some(line) = line else {
            let what = format!("longer than {LINE_BYTES_MAX} bytes");
            return self.output.line(output::error(number, what)).await;
        };
        if line.iter().all(u8::is_ascii_whitespace) {
            return;
        }
        if let Err(what) = self.act(number, &line).await {
            self.output.line(output::error(number, what)).await;
        }
    }

    async fn act(&mut self, number: u64, line: &[u8]) -> Result<(), String> {
        let text = |error: &dyn std::error::Error| error.to_string();
        match parse(line).map_err(|error| text(&error))? {
            Input::Position(fix) => self.vehicle.report(fix).map_err(|error| text(&error)),
            Input::Result(result) => self.vehicle.answer(result).map_err(|error| text(&error)),
            Input::Send(event) => match self.vehicle.send(event) {
                Ok(true) => Ok(()),
                Ok(false) => Err("dropped: qos 0, and there is no connection with room".to_owned()),
                Err(error) => Err(text(&error)),
            },
            Input::Publish(event) => {
                let pending = self.vehicle.submit(event).await;
                let pending = pending.map_err(|error| text(&error))?;
                let done = async move { (number, pending.durable().await) };
                self.publishing.push_back(Box::pin(done));
                Ok(())
            }
        }
    }

    /// Waits for the gateway to have every event, and says how it ended.
    async fn end(mut self, linger: Duration) -> u8 {
        let vehicle = self.vehicle.clone();
        let mut closing = Box::pin(vehicle.close(linger));
        let mut signalled = false;
        let left = loop {
            let happening = tokio::select! {
                left = &mut closing => break left,
                happening = self.other() => happening,
            };
            if let Some(End::Signal) = self.say(happening).await
                && !signalled
            {
                signalled = true;
                closing = Box::pin(vehicle.close(SHORT_LINGER));
            }
        };
        // What became of the last events.
        while let Ok(notice) = self.notices.try_recv() {
            self.output.line(output::notice(&notice)).await;
        }
        let stopped = vehicle.stopped();
        tracing::info!(events = left, "in the queue at the end");
        self.output.finish();
        match stopped {
            Some(StopReason::TakenOver(_) | StopReason::NotMine(_)) => STOPPED,
            _ if left > 0 => EVENTS_LEFT,
            _ => ALL_ACKED,
        }
    }
}

/// Reads lines in a thread of its own, since standard input may block for ever.
fn read_lines() -> mpsc::Receiver<Read1> {
    let (send, lines) = mpsc::channel(LINES_AHEAD);
    std::thread::spawn(move || {
        let mut input = BufReader::new(std::io::stdin().lock());
        let mut number = 0;
        loop {
            number += 1;
            match read_line(&mut input) {
                Ok(Some(line)) => {
                    if send.blocking_send((number, line)).is_err() {
                        return;
                    }
                }
                Ok(None) => return,
                Err(error) => return tracing::error!("standard input: {error}"),
            }
        }
    });
    lines
}

/// A line without its end; None in it: too long, and skipped.
fn read_line(input: &mut impl BufRead) -> std::io::Result<Option<Option<Vec<u8>>>> {
    let mut line = Vec::new();
    if input
        .by_ref()
        .take(LINE_BYTES_MAX)
        .read_until(b'\n', &mut line)?
        == 0
    {
        return Ok(None);
    }
    if line.len() as u64 == LINE_BYTES_MAX && line.last() != Some(&b'\n') {
        input.skip_until(b'\n')?;
        return Ok(Some(None));
    }
    Ok(Some(Some(line)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_too_long_is_skipped() {
        let mut text = b"one\n".to_vec();
        text.extend(vec![b'x'; LINE_BYTES_MAX as usize + 5]);
        text.extend(b"\ntwo");
        let mut input = BufReader::new(text.as_slice());
        let mut next = || read_line(&mut input).unwrap();
        assert_eq!(next(), Some(Some(b"one\n".to_vec())));
        assert_eq!(next(), Some(None));
        assert_eq!(next(), Some(Some(b"two".to_vec())));
        assert_eq!(next(), None);
    }
}
