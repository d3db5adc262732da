//! A fresh token on the present connection (`Authenticate`), before its token ends. Where the gateway does not take it, a
//! new connection beside this one does: see `replace`.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use longhaul_codec::{Authenticate, ErrorCode, TokenExpiring, Welcome};

use super::driver::ask;
use crate::config::Config;
use crate::session::rules::Ended;
use crate::token::Token;

/// A token is not exchanged more often, however short its life.
const REFRESH_AFTER_MIN: Duration = Duration::from_secs(1);
/// How long the gateway may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Requests are numbered from here, where no event is: an Error says the number, and not of what.
const FIRST_REQUEST: u64 = 1 << 63;

type Asking = Pin<Box<dyn Future<Output = Result<Token, Ended>> + Send>>;

/// Where the exchange of a token is.
pub(super) struct Renewal {
    config: Arc<Config>,
    /// When a token is asked for.
    due: Option<Instant>,
    asking: Option<Asking>,
    /// What is to be sent.
    ready: Option<Authenticate>,
    /// What the gateway was sent, or is to be, and until when it may answer.
    offered: Option<(u64, Token, Instant)>,
    requests: u64,
    failures: u32,
    /// When the connection began, by this clock and by the gateway's.
    began: (Instant, u64),
}

/// What became of an offered token.
pub(super) enum Answered {
    /// It is tried again here, later.
    Later,
    /// Not on this connection.
    Elsewhere,
}

impl Renewal {
    pub(super) fn new(config: Arc<Config>, now: Instant) -> Self {
        Self {
            config,
            due: None,
            asking: None,
            ready: None,
            offered: None,
            requests: FIRST_REQUEST,
            failures: 0,
            began: (now, 0),
        }
    }

    /// A connection begins: its token ends some day.
    pub(super) fn begin(&mut self, welcome: &Welcome, now: Instant, rng: &mut fastrand::Rng) {
        let after = refresh_after(welcome, self.config.token_margin, rng);
        *self = Self {
            due: after.map(|after| now + after),
            requests: self.requests,
            began: (now, welcome.gateway_time_ms),
            ..Self::new(Arc::clone(&self.config), now)
        };
    }

    /// The gateway says that the token ends soon. Of a fleet whose tokens end together, each vehicle asks at a moment of
    /// its own in the first half of what is left.
    pub(super) fn warned(&mut self, said: TokenExpiring, now: Instant, rng: &mut fastrand::Rng) {
        if self.asking.is_some() || self.offered.is_some() {
            return;
        }
        let (began, gateway_ms) = self.began;
        let gateway_ms = gateway_ms + (now - began).as_millis() as u64;
        let left = Duration::from_millis(said.expires_ms.saturating_sub(gateway_ms));
        let at = now + left.mul_f64(rng.f64() / 2.0);
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }

    /// When [`Renewal::start`] or [`Renewal::overdue`] has something to do.
    pub(super) fn due_at(&self) -> Option<Instant> {
        let answer = self.offered.as_ref().map(|(_, _, until)| *until);
        answer.or(self.due.filter(|_| self.asking.is_none()))
    }

    /// Asks for a token, if it is time.
    pub(super) fn start(&mut self, now: Instant) {
        if self.asking.is_none() && self.due.take_if(|at| *at <= now).is_some() {
            let config = Arc::clone(&self.config);
            self.asking = Some(Box::pin(async move { ask(&config).await }));
        }
    }

    /// Until there is an answer. Never, if nobody was asked. May be called again when it was dropped before.
    pub(super) async fn asked(&mut self) -> Result<Token, Ended> {
        match &mut self.asking {
            Some(asking) => asking.await,
            None => std::future::pending().await,
        }
    }

    /// What [`Renewal::asked`] gave. After a failure it is asked again later, as long as the connection is there.
    pub(super) fn got(
        &mut self,
        answer: Result<Token, Ended>,
        present: &Token,
        now: Instant,
        rng: &mut fastrand::Rng,
    ) {
        self.asking = None;
        let token = match answer {
            Ok(token) if token != *present => token,
            Ok(_) => return self.again("the one that ends soon came again", now, rng),
            Err(why) => return self.again(&why.to_string(), now, rng),
        };
        self.requests += 1;
        let request = self.requests;
        self.ready = Some(Authenticate {
            request,
            token: token.secret().to_owned(),
        });
        self.offered = Some((request, token, now + ANSWER_WITHIN));
    }

    /// The message to be sent, once.
    pub(super) fn next(&mut self) -> Option<Authenticate> {
        self.ready.take()
    }

    /// The gateway has taken the request of this number.
    pub(super) fn acked(&mut self, request: u64) -> Option<Token> {
        let (_, token, _) = self.offered.take_if(|(number, ..)| *number == request)?;
        self.failures = 0;
        Some(token)
    }

    /// The gateway has refused the request of this number. None: it is not one of these.
    pub(super) fn refused(
        &mut self,
        request: u64,
        code: ErrorCode,
        now: Instant,
        rng: &mut fastrand::Rng,
    ) -> Option<Answered> {
        self.offered.take_if(|(number, ..)| *number == request)?;
        Some(if code == ErrorCode::LimitReached {
            self.again("the gateway has no time for it", now, rng);
            Answered::Later
        } else {
            Answered::Elsewhere
        })
    }

    /// Whether the gateway owes an answer: an older one does not know the message.
    pub(super) fn overdue(&mut self, now: Instant) -> bool {
        self.offered.take_if(|(.., until)| *until <= now).is_some()
    }

    fn again(&mut self, why: &str, now: Instant, rng: &mut fastrand::Rng) {
        tracing::warn!("no fresh token yet: {why}");
        self.failures = self.failures.saturating_add(1);
        self.due = Some(now + self.config.reconnect.wait(self.failures, rng));
    }
}

/// How long after its Welcome a connection's token is exchanged. By the gateway's clock alone: the vehicle's may be
/// wrong.
fn refresh_after(welcome: &Welcome, margin: Duration, rng: &mut fastrand::Rng) -> Option<Duration> {
    if welcome.expires_ms == 0 {
        return None;
    }
    let life = welcome.expires_ms.saturating_sub(welcome.gateway_time_ms);
    let life = Duration::from_millis(life);
    let margin = margin.min(life / 10).mul_f64(1.0 + rng.f64());
    Some(life.saturating_sub(margin).max(REFRESH_AFTER_MIN))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_exchanged_before_it_ends_by_the_gateways_clock() {
        let mut rng = fastrand::Rng::with_seed(1);
        let second = Duration::from_secs(1);
        for (life_s, margin_s, least_s, most_s) in
            [(3_600, 60, 3_480, 3_540), (100, 60, 80, 90), (1, 60, 1, 1)]
        {
            for _ in 0..100 {
                let welcome = Welcome {
                    gateway_time_ms: 5,
                    expires_ms: 5 + life_s * 1_000,
                    ..Welcome::default()
                };
                let after = refresh_after(&welcome, margin_s * second, &mut rng).unwrap();
                assert!(after >= least_s * second && after <= most_s * second);
            }
        }
        assert_eq!(
            refresh_after(&Welcome::default(), second, &mut rng),
            None,
            "it does not end"
        );
    }
}
