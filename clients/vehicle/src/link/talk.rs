//! One connection: what to send, what comes, when to move. Also the next one, if it is opened beside this one.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use longhaul_codec::{AckKind, Command, Drain, Encoder, Error, MessageRef, decode};
use tokio_tungstenite::tungstenite::{Error as WsError, Message as Frame};

use super::dial::{Link, close, closed};
use super::driver::{Driver, Outcome, left};
use super::renewal::{Answered, Renewal};
use super::replace::Replacement;
use crate::session::commands::Handling;
use crate::session::heartbeat::{Beat, Heartbeat};
use crate::session::pace::Pace;
use crate::session::rules::{Ended, Refusal, refusal};
use crate::session::window::Window;
use crate::shared::Shared;
use crate::status::{Notice, State, count};
use crate::token::Token;

/// For goodbyes.
const CLOSE_WITHIN: Duration = Duration::from_secs(2);
/// For a close frame that may stand behind a failed write.
const LAST_WORDS_WITHIN: Duration = Duration::from_millis(500);
/// When nothing is due.
const IDLE: Duration = Duration::from_secs(60);

/// What a conversation waits for.
enum Happening {
    Frame(Option<Result<Frame, WsError>>),
    Flushed(Result<(), WsError>),
    Fleeting(Option<Bytes>),
    Opened(Box<Result<Link, Ended>>),
    Asked(Result<Token, Ended>),
    Woken,
    Left,
}

/// A connection, and what belongs to it alone.
pub(super) struct Talk<'d> {
    pub(super) driver: &'d mut Driver,
    pub(super) shared: Arc<Shared>,
    pub(super) link: Link,
    pub(super) replacement: Replacement,
    pub(super) renewal: Renewal,
    pub(super) window: Window,
    pub(super) pace: Pace,
    pub(super) heartbeat: Heartbeat,
    pub(super) encoder: Encoder,
    /// The socket has not taken everything yet.
    pub(super) flushing: bool,
    pub(super) paced_until: Option<Instant>,
    /// Positions and events take turns, so that neither starves when the rate is used up.
    pub(super) position_was_last: bool,
}

impl Driver {
    /// Talks until the connection ends and no other has taken its place.
    pub(super) async fn talk(&mut self, link: Link) -> Outcome {
        let now = Instant::now();
        while self.fleeting.try_recv().is_ok() {
            // Meant for an earlier connection.
            count(&self.shared.tally.fleeting_dropped, 1);
        }
        let mut talk = Talk {
            shared: Arc::clone(&self.shared),
            replacement: Replacement::new(Arc::clone(&self.config), self.dialer.clone()),
            renewal: Renewal::new(Arc::clone(&self.config), now),
            window: Window::new(1, self.config.retry, self.config.ack_within),
            pace: Pace::new(self.config.rate, now),
            heartbeat: Heartbeat::new(Duration::ZERO, self.config.pong_within, now),
            encoder: Encoder::new(),
            flushing: false,
            paced_until: None,
            position_was_last: false,
            driver: self,
            link,
        };
        talk.run().await
    }
}

impl Talk<'_> {
    async fn run(&mut self) -> Outcome {
        if let Err(why) = self.begin() {
            return Outcome::NotMine(why);
        }
        loop {
            let outcome = match self.turn().await {
                Ok(None) => continue,
                Ok(Some(outcome)) => outcome,
                Err(error) => Outcome::Ended(self.last_words(error).await),
            };
            match outcome {
                Outcome::Ended(ended) if self.replacement.is_opening() => {
                    // The new connection may itself be what ended the old one (4502): wait for it.
                    tracing::info!(
                        "the old connection has ended while a new one is opened: {ended}"
                    );
                    let opened = tokio::select! {
                        opened = self.replacement.opened() => opened,
                        () = left(&mut self.driver.leaving) => return Outcome::Left,
                    };
                    match opened {
                        Ok(link) => {
                            self.link = link;
                            self.driver.connected();
                            if let Err(why) = self.begin() {
                                return Outcome::NotMine(why);
                            }
                        }
                        Err(ended) => return Outcome::Ended(ended),
                    }
                }
                Outcome::Ended(ended) => return Outcome::Ended(ended),
                other => {
                    self.say_goodbye().await;
                    return other;
                }
            }
        }
    }

    /// A connection is there, the first one or one in place of another.
    fn begin(&mut self) -> Result<(), String> {
        let now = Instant::now();
        self.replacement.settle(None, now, &mut self.driver.rng);
        let (welcome, config) = (&self.link.welcome, &self.driver.config);
        self.shared
            .queue
            .belongs_to(&welcome.fleet, &welcome.subject)?;
        self.window = Window::new(
            welcome.event_window as usize,
            config.retry,
            config.ack_within,
        );
        self.pace = Pace::new(config.rate, now);
        let heartbeat = Duration::from_millis(welcome.heartbeat_ms.into());
        self.heartbeat = Heartbeat::new(heartbeat, config.pong_within, now);
        self.replacement.begin();
        self.renewal.begin(welcome, now, &mut self.driver.rng);
        (self.flushing, self.paced_until) = (false, None);
        tracing::info!(
            vehicle = welcome.subject,
            fleet = welcome.fleet,
            node = welcome.node,
            window = welcome.event_window,
            "connected"
        );
        self.shared.queue.hold_to(0);
        self.shared.recall_position();
        self.shared.enter(State::Connected {
            since: SystemTime::now(),
            fleet: welcome.fleet.clone(),
            vehicle: welcome.subject.clone(),
            node: welcome.node.clone(),
        });
        Ok(())
    }

    /// Sends what may be sent, and takes one thing that happens.
    async fn turn(&mut self) -> Result<Option<Outcome>, WsError> {
        let now = Instant::now();
        self.renewal.start(now);
        if self.renewal.overdue(now) {
            tracing::warn!("the gateway does not answer a fresh token");
            self.replacement.renew(now);
        }
        self.replacement.start(&self.link.token, now);
        self.fill(now).await?;
        let beat = match self.heartbeat.poll(now) {
            Beat::Ping => {
                // A socket that takes nothing would not take a ping either; its silence counts all the same.
                if !self.flushing {
                    self.link.sink.feed(Frame::Ping(Bytes::new())).await?;
                    self.flushing = true;
                }
                now + self.driver.config.pong_within
            }
            Beat::Quiet(until) => until,
            Beat::Dead => return Ok(Some(lost("the link is dead: a ping was not answered"))),
        };
        if self.window.is_stuck(now) {
            return Ok(Some(lost("the gateway owes the answer to an event")));
        }
        let due = [
            Some(beat),
            self.window.wake_at(now),
            self.replacement.due_at(),
            self.renewal.due_at(),
            self.paced_until.filter(|_| !self.flushing),
        ];
        let wake_at = due.into_iter().flatten().min().unwrap_or(now + IDLE);
        let paced = self.paced_until.is_some();
        let happening = tokio::select! {
            frame = self.link.stream.next() => Happening::Frame(frame),
            done = self.link.sink.flush(), if self.flushing => Happening::Flushed(done),
            () = self.shared.wake.notified() => Happening::Woken,
            event = self.driver.fleeting.recv(), if !self.flushing && !paced => Happening::Fleeting(event),
            opened = self.replacement.opened() => Happening::Opened(Box::new(opened)),
            asked = self.renewal.asked() => Happening::Asked(asked),
            () = tokio::time::sleep_until(wake_at.into()) => Happening::Woken,
            () = left(&mut self.driver.leaving) => Happening::Left,
        };
        self.happened(happening).await
    }

    async fn happened(&mut self, happening: Happening) -> Result<Option<Outcome>, WsError> {
        let now = Instant::now();
        match happening {
            Happening::Woken => {}
            Happening::Left => return Ok(Some(Outcome::Left)),
            Happening::Flushed(done) => {
                done?;
                self.flushing = false;
            }
            Happening::Fleeting(event) => {
                if let Some(event) = event {
                    self.fleeting(event, now).await?;
                }
            }
            Happening::Opened(opened) => match *opened {
                Ok(link) => return Ok(self.swap(link)),
                Err(failed) => {
                    let rng = &mut self.driver.rng;
                    self.replacement.settle(Some(&failed), now, rng);
                }
            },
            Happening::Asked(answer) => {
                let rng = &mut self.driver.rng;
                self.renewal.got(answer, &self.link.token, now, rng);
            }
            Happening::Frame(None) => return Ok(Some(lost("it ended without a close frame"))),
            Happening::Frame(Some(frame)) => {
                self.heartbeat.heard(now);
                match frame? {
                    Frame::Binary(bytes) => self.message(&bytes, now),
                    Frame::Close(close) => {
                        // Our own close frame, which the library has prepared, is the polite end.
                        let reply = self.link.sink.flush();
                        let _ = tokio::time::timeout(LAST_WORDS_WITHIN, reply).await;
                        return Ok(Some(Outcome::Ended(closed(close))));
                    }
                    Frame::Text(_) => tracing::warn!("a text on a binary connection is ignored"),
                    // Pings are answered by the library, with the next read.
                    Frame::Ping(_) | Frame::Pong(_) | Frame::Frame(_) => {}
                }
            }
        }
        Ok(None)
    }

    fn message(&mut self, bytes: &[u8], now: Instant) {
        match decode(bytes) {
            Ok(MessageRef::Ack(ack)) if AckKind::try_from(ack.kind()) == Ok(AckKind::Event) => {
                self.window.acked(ack.id(), now);
                self.shared.acked(ack.id());
            }
            Ok(MessageRef::Ack(ack))
                if AckKind::try_from(ack.kind()) == Ok(AckKind::Authenticate) =>
            {
                if let Some(token) = self.renewal.acked(ack.id()) {
                    tracing::info!("a fresh token is in force");
                    count(&self.shared.tally.renewals, 1);
                    self.link.token = token;
                }
            }
            Ok(MessageRef::TokenExpiring(said)) => {
                self.renewal.warned(said.into(), now, &mut self.driver.rng);
            }
            Ok(MessageRef::Error(error)) => self.error(error.into(), now),
            Ok(MessageRef::Command(command)) => self.command(command.into(), now),
            Ok(MessageRef::Drain(drain)) => self.drain(drain.into(), now),
            Ok(other) => tracing::debug!("{} is ignored", other.name()),
            Err(error) => tracing::warn!("a message is ignored: {error}"),
        }
    }

    fn error(&mut self, error: Error, now: Instant) {
        let Error { code, id, .. } = error;
        let why = error.message;
        if id == 0 {
            tracing::warn!(?code, "the gateway did not take something: {why}");
            return self.shared.tell(Notice::Warned { code, why });
        }
        if let Some(answered) = self.renewal.refused(id, code, now, &mut self.driver.rng) {
            tracing::warn!(?code, "the gateway did not take a fresh token: {why}");
            if let Answered::Elsewhere = answered {
                self.replacement.renew(now);
            }
            return;
        }
        match refusal(code) {
            Refusal::Permanent => {
                self.window.refused_for_good(id, now);
                self.shared.refused(id, code, why);
            }
            Refusal::Transient => {
                tracing::info!(id, ?code, "the gateway did not take an event yet: {why}");
                self.window.refused_for_now(id, now, &mut self.driver.rng);
                self.shared.queue.hold_to(self.window.held_to());
            }
        }
    }

    fn command(&mut self, command: Command, now: Instant) {
        let id = command.command_id;
        let handling = self.shared.book().came(command, now);
        if let Handling::New(command) = handling {
            match self.driver.commands.try_send(command) {
                Ok(()) => count(&self.shared.tally.commands, 1),
                Err(_) => {
                    tracing::warn!(id, "a command is refused: nobody takes it");
                    let why = "the vehicle takes no commands now";
                    self.shared.book().not_handed(id, why);
                }
            }
        }
    }

    fn drain(&mut self, drain: Drain, now: Instant) {
        tracing::info!(
            after_ms = drain.reconnect_after_ms,
            alternative = drain.alternative,
            reason = drain.reason,
            "the gateway goes away"
        );
        self.replacement.drain(&drain, now);
        self.shared.enter(State::Draining);
    }

    /// The new connection takes the place of this one, which ends in the background: what is still answered on it
    /// counts.
    fn swap(&mut self, link: Link) -> Option<Outcome> {
        let old = std::mem::replace(&mut self.link, link);
        self.driver.connected();
        let shared = Arc::clone(&self.shared);
        tokio::spawn(close(old, CLOSE_WITHIN, move |bytes| {
            if let Ok(MessageRef::Ack(ack)) = decode(bytes)
                && AckKind::try_from(ack.kind()) == Ok(AckKind::Event)
            {
                shared.acked(ack.id());
            }
        }));
        self.begin().err().map(Outcome::NotMine)
    }

    async fn say_goodbye(&mut self) {
        let _ = tokio::time::timeout(CLOSE_WITHIN, async {
            if self.link.sink.send(Frame::Close(None)).await.is_err() {
                return;
            }
            while let Some(Ok(frame)) = self.link.stream.next().await {
                if let Frame::Binary(bytes) = frame {
                    self.message(&bytes, Instant::now());
                }
            }
        })
        .await;
    }

    /// The socket has failed. The gateway's close frame, which says why, may be there all the same.
    async fn last_words(&mut self, error: WsError) -> Ended {
        let words = async {
            loop {
                match self.link.stream.next().await {
                    Some(Ok(Frame::Close(close))) => return Some(closed(close)),
                    Some(Ok(Frame::Binary(bytes))) => self.message(&bytes, Instant::now()),
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => return None,
                }
            }
        };
        let words = tokio::time::timeout(LAST_WORDS_WITHIN, words).await;
        let words = words.ok().flatten();
        words.unwrap_or_else(|| Ended::Lost(error.to_string()))
    }
}

fn lost(why: &str) -> Outcome {
    Outcome::Ended(Ended::Lost(why.to_owned()))
}
