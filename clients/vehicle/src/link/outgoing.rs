//! What goes out on a connection, and in which order.

use std::time::Instant;

use bytes::Bytes;
use futures_util::SinkExt;
use longhaul_codec::{ErrorCode, Position};
use tokio_tungstenite::tungstenite::{Error as WsError, Message as Frame};

use super::talk::Talk;
use crate::status::count;

/// What is handed to the socket at once. More would only wait there, where a newer position cannot overtake it.
const BATCH_BYTES: usize = 32 << 10;

impl Talk<'_> {
    /// Hands the socket what there is to send, unless it is still busy with the last of it.
    pub(super) async fn fill(&mut self, now: Instant) -> Result<(), WsError> {
        if self.flushing || self.paced_until.is_some_and(|until| now < until) {
            return Ok(());
        }
        self.paced_until = None;
        let mut left = BATCH_BYTES;
        while left > 0 {
            let Some(bytes) = self.next(now) else { break };
            left = left.saturating_sub(bytes.len());
            self.link.sink.feed(Frame::Binary(bytes)).await?;
            self.flushing = true;
        }
        Ok(())
    }

    /// The next message, which counts as sent.
    fn next(&mut self, now: Instant) -> Option<Bytes> {
        if let Some(fresh) = self.renewal.next() {
            // Whatever the pace: without it, there is soon no connection to send on.
            let message = fresh.into();
            let bytes = Bytes::copy_from_slice(self.encoder.message(&message).payload());
            let _ = self.pace.take(bytes.len(), now);
            return Some(bytes);
        }
        // A statement of its own, so that the lock is not held below.
        let result = self.shared.book().next().cloned();
        if let Some(result) = result {
            let message = result.into();
            let bytes = Bytes::copy_from_slice(self.encoder.message(&message).payload());
            self.may_send(bytes.len(), now)?;
            self.shared.book().sent();
            return Some(bytes);
        }
        let event = loop {
            let after = self.window.may_send_after(now);
            let Some((id, bytes)) = after.and_then(|after| self.shared.queue.next_after(after))
            else {
                break None;
            };
            let max = self.link.welcome.message_bytes_max as usize;
            if max == 0 || bytes.len() <= max {
                break Some((id, bytes));
            }
            // The gateway would close the connection over it, again and again.
            let why = format!(
                "{} bytes, and the gateway takes {max} in a message",
                bytes.len()
            );
            let code = ErrorCode::TooLarge;
            self.shared.refused(id, code, why);
        };
        let turn_of_event = self.position_was_last && event.is_some();
        if let Some(fix) = self.shared.position().filter(|_| !turn_of_event) {
            let vehicle_id = None;
            let message = Position { fix, vehicle_id }.into();
            let bytes = Bytes::copy_from_slice(self.encoder.message(&message).payload());
            self.may_send(bytes.len(), now)?;
            self.shared.position_sent(fix);
            self.position_was_last = true;
            return Some(bytes);
        }
        let (id, bytes) = event?;
        self.may_send(bytes.len(), now)?;
        self.window.sent(id, now);
        self.position_was_last = false;
        Some(bytes)
    }

    fn may_send(&mut self, bytes: usize, now: Instant) -> Option<()> {
        match self.pace.take(bytes, now) {
            Ok(()) => Some(()),
            Err(at) => {
                self.paced_until = Some(at);
                None
            }
        }
    }

    pub(super) async fn fleeting(&mut self, event: Bytes, now: Instant) -> Result<(), WsError> {
        if self.may_send(event.len(), now).is_none() {
            count(&self.shared.tally.fleeting_dropped, 1);
            return Ok(());
        }
        count(&self.shared.tally.fleeting_sent, 1);
        self.flushing = true;
        self.link.sink.feed(Frame::Binary(event)).await
    }
}
