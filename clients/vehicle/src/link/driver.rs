//! From one connection to the next, until the client is closed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use longhaul_codec::Command;
use tokio::sync::{mpsc, watch};

use super::dial::{Dialer, Link};
use crate::config::Config;
use crate::session::course::{Course, Step, Want};
use crate::session::rules::Ended;
use crate::shared::Shared;
use crate::status::{State, StopReason, count};
use crate::token::Token;

/// How a conversation ended.
pub(super) enum Outcome {
    Ended(Ended),
    /// The client was closed.
    Left,
    /// The queue is another vehicle's.
    NotMine(String),
}

/// Keeps a connection.
pub(crate) struct Driver {
    pub(super) config: Arc<Config>,
    pub(super) shared: Arc<Shared>,
    pub(super) dialer: Dialer,
    pub(super) course: Course,
    pub(super) rng: fastrand::Rng,
    /// For the caller.
    pub(super) commands: mpsc::Sender<Command>,
    /// Events with QoS 0, as they are sent.
    pub(super) fleeting: mpsc::Receiver<Bytes>,
    /// True: the client is to end.
    pub(super) leaving: watch::Receiver<bool>,
    token: Option<Token>,
    /// The gateway has said not to come with this one again.
    spent: Option<Token>,
}

impl Driver {
    pub(crate) fn new(
        config: Arc<Config>,
        shared: Arc<Shared>,
        commands: mpsc::Sender<Command>,
        fleeting: mpsc::Receiver<Bytes>,
        leaving: watch::Receiver<bool>,
    ) -> Self {
        Self {
            dialer: Dialer {
                trust: Arc::new(config.trust.clone()),
                within: config.connect_within,
            },
            course: Course::new(config.reconnect, config.steady_after),
            rng: fastrand::Rng::new(),
            config,
            shared,
            commands,
            fleeting,
            leaving,
            token: None,
            spent: None,
        }
    }

    /// Until the client is closed, or taken over.
    pub(crate) async fn run(mut self) {
        let why = self.keep().await;
        match &why {
            StopReason::Closed => tracing::info!("closed"),
            why => tracing::error!("stopped: {why}"),
        }
        self.shared.queue.hold_to(0);
        self.shared.enter(State::Stopped { why });
    }

    async fn keep(&mut self) -> StopReason {
        let mut want = Want::Asked;
        loop {
            let attempt = self.course.attempt();
            self.shared.enter(State::Connecting { attempt });
            let mut leaving = self.leaving.clone();
            let opened = tokio::select! {
                opened = self.connect(want) => opened,
                () = left(&mut leaving) => return StopReason::Closed,
            };
            let ended = match opened {
                Ok(link) => {
                    self.token = Some(link.token.clone());
                    self.connected();
                    match self.talk(link).await {
                        Outcome::Ended(ended) => ended,
                        Outcome::Left => return StopReason::Closed,
                        Outcome::NotMine(why) => return StopReason::NotMine(why),
                    }
                }
                Err(ended) => ended,
            };
            // What was on its way may be sent anew, and so may also be dropped.
            self.shared.queue.hold_to(0);
            match self.course.ended(&ended, Instant::now(), &mut self.rng) {
                Step::Stop => return StopReason::TakenOver(ended.to_string()),
                Step::Back { wait, token } => {
                    want = token;
                    tracing::warn!(wait_ms = wait.as_millis() as u64, "not connected: {ended}");
                    if self.wait(wait, ended.to_string()).await {
                        return StopReason::Closed;
                    }
                }
            }
        }
    }

    /// There is a (further) connection.
    pub(super) fn connected(&mut self) {
        self.course.connected(Instant::now());
        count(&self.shared.tally.connections, 1);
    }

    async fn connect(&mut self, want: Want) -> Result<Link, Ended> {
        match want {
            Want::Other => self.spent = self.token.take(),
            Want::Asked => self.token = None,
            Want::Same => {}
        }
        let token = match self.token.clone() {
            Some(token) => token,
            None => ask(&self.config).await?,
        };
        if self.spent.as_ref() == Some(&token) {
            // It is not kept, so the next attempt asks again.
            return Err(Ended::NoToken(
                "the one that the gateway does not take any more came again".to_owned(),
            ));
        }
        self.token = Some(token.clone());
        self.dialer.dial(&self.config.endpoint, token).await
    }

    /// True: the client is to end.
    async fn wait(&mut self, wait: Duration, why: String) -> bool {
        if wait.is_zero() {
            return *self.leaving.borrow();
        }
        let until = Instant::now() + wait;
        self.shared.enter(State::Waiting { until, why });
        tokio::select! {
            () = tokio::time::sleep_until(until.into()) => false,
            () = left(&mut self.leaving) => true,
        }
    }
}

/// Asks for a token, with patience.
pub(super) async fn ask(config: &Config) -> Result<Token, Ended> {
    match tokio::time::timeout(config.token_within, config.tokens.ask()).await {
        Ok(answer) => answer.map_err(Ended::NoToken),
        Err(_) => Err(Ended::NoToken(format!(
            "no answer within {:?}",
            config.token_within
        ))),
    }
}

/// Until the client is to end. Nobody there to say so any more means the same.
pub(super) async fn left(leaving: &mut watch::Receiver<bool>) {
    let _ = leaving.wait_for(|leave| *leave).await;
}
