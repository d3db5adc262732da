//! What a peer may send: messages and bytes per second. Within the burst nobody notices; over it the peer is told, once;
//! over twice the burst it is closed.

use std::ops::ControlFlow;

use longhaul_codec::ErrorCode;

use super::{Core, clock::Now, dialogue::Speaker, ring::Key};
use crate::session::{close, penalty::Offence, rate::Verdict, rejection::Rejection};

impl Core {
    /// Holds one message against its sender's allowance. One that is over it is not taken.
    #[inline]
    pub(super) fn allow_message(&mut self, key: Key, speaker: Speaker, now: Now) -> Verdict {
        let Some(rate) = self.messages_rate else {
            return Verdict::Within;
        };
        let Some(connection) = self.connections.get_mut(key) else {
            return Verdict::FarOver;
        };
        if matches!(speaker, Speaker::Echo) {
            return Verdict::Within;
        }
        let verdict = connection.messages.take(1, rate, now.mono_us);
        if verdict == Verdict::Within {
            connection.warned_messages = false;
        } else {
            self.too_many_messages(key, verdict);
        }
        verdict
    }

    #[cold]
    fn too_many_messages(&mut self, key: Key, verdict: Verdict) {
        self.metrics.limit_hit_messages.inc();
        if verdict == Verdict::FarOver {
            self.offend(key, Offence::Rate);
            return self.close(key, close::RATE_LIMITED);
        }
        if let Some(connection) = self.connections.get_mut(key)
            && !std::mem::replace(&mut connection.warned_messages, true)
        {
            let limits = &self.config.limits;
            let says = format!(
                "more than {} messages at once and {} a second (limits.messages_per_second_max): this one and those \
                 that follow too soon are not taken; go on like this and you are closed",
                limits.messages_burst, limits.messages_per_second_max
            );
            self.reject(key, Rejection::new(ErrorCode::LimitReached, 0, says));
        }
    }

    /// Holds received bytes against their sender's allowance. They may be part of a message, so they are taken all the
    /// same, or the connection is closed.
    #[inline]
    pub(super) fn allow_bytes(
        &mut self,
        key: Key,
        speaker: Speaker,
        count: usize,
        now: Now,
    ) -> ControlFlow<()> {
        let Some(rate) = self.bytes_rate else {
            return ControlFlow::Continue(());
        };
        let Some(connection) = self.connections.get_mut(key) else {
            return ControlFlow::Break(());
        };
        if matches!(speaker, Speaker::Echo) {
            return ControlFlow::Continue(());
        }
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        match connection.bytes.take(count, rate, now.mono_us) {
            Verdict::Within => {
                connection.warned_bytes = false;
                ControlFlow::Continue(())
            }
            verdict => self.too_many_bytes(key, verdict),
        }
    }

    #[cold]
    fn too_many_bytes(&mut self, key: Key, verdict: Verdict) -> ControlFlow<()> {
        self.metrics.limit_hit_bytes.inc();
        if verdict == Verdict::FarOver {
            self.offend(key, Offence::Rate);
            self.close(key, close::RATE_LIMITED);
        } else if let Some(connection) = self.connections.get_mut(key)
            && !std::mem::replace(&mut connection.warned_bytes, true)
        {
            let limits = &self.config.limits;
            let says = format!(
                "more than {} bytes at once and {} a second (limits.bytes_per_second_max): go on like this and you are \
                 closed",
                limits.bytes_burst, limits.bytes_per_second_max
            );
            self.reject(key, Rejection::new(ErrorCode::LimitReached, 0, says));
        }
        self.flow(key)
    }
}
