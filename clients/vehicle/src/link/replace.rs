//! A new connection beside the old one: because the gateway goes away, or because the token ends and the gateway takes no
//! other in its place (see `renewal`). The old one is
//! closed when the new one is there, so nothing is lost in between, and nobody sees the vehicle go offline.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use longhaul_codec::Drain;

use super::dial::{Dialer, Link};
use super::driver::ask;
use crate::Endpoint;
use crate::config::Config;
use crate::session::rules::{Ended, Verdict, verdict};
use crate::token::Token;

/// Why there is to be a new connection.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Cause {
    /// The gateway goes away, and this is where to go.
    Drain(Endpoint),
    /// The token ends, and the gateway did not take another on this connection.
    Token,
}

type Opening = Pin<Box<dyn Future<Output = Result<Link, Ended>> + Send>>;

/// When to open the next connection, and the one that is being opened.
pub(super) struct Replacement {
    config: Arc<Config>,
    dialer: Dialer,
    due: Option<(Instant, Cause)>,
    failures: u32,
    opening: Option<(Cause, Opening)>,
}

impl Replacement {
    pub(super) fn new(config: Arc<Config>, dialer: Dialer) -> Self {
        Self {
            config,
            dialer,
            due: None,
            failures: 0,
            opening: None,
        }
    }

    /// A connection begins.
    pub(super) fn begin(&mut self) {
        self.failures = 0;
        self.due = None;
    }

    /// The token ends, and the present connection does not take another. A Drain knows better where to go.
    pub(super) fn renew(&mut self, now: Instant) {
        self.due.get_or_insert((now, Cause::Token));
    }

    /// The gateway goes away.
    pub(super) fn drain(&mut self, drain: &Drain, now: Instant) {
        let home = &self.config.endpoint;
        let to = drain
            .alternative
            .as_deref()
            .map(|url| home.alternative(url));
        let to = match to {
            None => home.clone(),
            Some(Ok(other)) => other,
            Some(Err(why)) => {
                tracing::warn!("the gateway names another one, which is not followed: {why}");
                home.clone()
            }
        };
        let at = now + Duration::from_millis(drain.reconnect_after_ms.into());
        self.due = Some((at, Cause::Drain(to)));
        self.failures = 0;
    }

    /// When [`Replacement::start`] has something to do.
    pub(super) fn due_at(&self) -> Option<Instant> {
        let due = self.due.as_ref().map(|(at, _)| *at);
        due.filter(|_| self.opening.is_none())
    }

    /// Begins to open a connection, if it is time.
    pub(super) fn start(&mut self, present: &Token, now: Instant) {
        if self.opening.is_some() {
            return;
        }
        let Some((_, cause)) = self.due.take_if(|(at, _)| *at <= now) else {
            return;
        };
        let (config, dialer) = (Arc::clone(&self.config), self.dialer.clone());
        let (present, reason) = (present.clone(), cause.clone());
        let opening = async move {
            match reason {
                Cause::Drain(to) => dialer.dial(&to, present).await,
                Cause::Token => {
                    let token = ask(&config).await?;
                    if token == present {
                        return Err(Ended::NoToken(
                            "the one that ends soon came again".to_owned(),
                        ));
                    }
                    dialer.dial(&config.endpoint, token).await
                }
            }
        };
        self.opening = Some((cause, Box::pin(opening)));
    }

    pub(super) fn is_opening(&self) -> bool {
        self.opening.is_some()
    }

    /// Until the connection is there, or failed. Never, if none is being opened. May be called again when it was
    /// dropped before.
    pub(super) async fn opened(&mut self) -> Result<Link, Ended> {
        match &mut self.opening {
            Some((_, opening)) => opening.await,
            None => std::future::pending().await,
        }
    }

    /// What [`Replacement::opened`] gave was taken note of. After a failure it is tried again later, as long as the old
    /// connection is there.
    pub(super) fn settle(&mut self, failed: Option<&Ended>, now: Instant, rng: &mut fastrand::Rng) {
        let Some((cause, _)) = self.opening.take() else {
            return;
        };
        let Some(failed) = failed else { return };
        tracing::warn!("no new connection beside the present one yet: {failed}");
        self.failures = self.failures.saturating_add(1);
        let (wait, cause) = match (verdict(failed), cause) {
            (Verdict::After(exactly), cause) => (exactly, cause),
            // The token is what is wrong with it.
            (Verdict::NewToken { .. }, _) => (self.wait(rng), Cause::Token),
            // The other place is of no use: back to one's own.
            (_, Cause::Drain(_)) => (self.wait(rng), Cause::Drain(self.config.endpoint.clone())),
            (_, Cause::Token) => (self.wait(rng), Cause::Token),
        };
        // A Drain that came in the meantime knows better.
        self.due.get_or_insert((now + wait, cause));
    }

    fn wait(&self, rng: &mut fastrand::Rng) -> Duration {
        self.config.reconnect.wait(self.failures, rng)
    }
}
