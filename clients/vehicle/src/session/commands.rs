//! Whether a command is new. The gateway delivers at least once, and doing a thing twice may be worse than not at all:
//! so each is handed to the caller once, and answered again from here when it comes again.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use longhaul_codec::{Command, CommandResult, CommandStatus};
use thiserror::Error;

/// How many commands may be in the caller's hands. The gateway sends no more than 8 without a result; those whose time
/// is over come on top.
pub(crate) const IN_HAND_MAX: usize = 64;
/// How many results are remembered.
const ANSWERED_MAX: usize = 256;
/// How many bytes of them.
const ANSWERED_BYTES_MAX: usize = 1 << 20;

/// Why a result was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum AnswerError {
    /// No such command is in the caller's hands.
    #[error(
        "command {0} is not waiting for a result: it never came, or was answered before, or its time was over long ago"
    )]
    Unknown(u64),
    /// More than the gateway takes in one message.
    #[error("a result of {bytes} bytes, the limit is {max}: shorten it")]
    TooLarge {
        /// Of the payload and the content type.
        bytes: usize,
        /// What fits.
        max: usize,
    },
    /// `Expired` is the gateway's to say.
    #[error(
        "a vehicle answers Done, Refused or Failed; Expired is what the gateway says when no answer came"
    )]
    Expired,
}

/// What to do with a command that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Handling {
    /// Hand it to the caller.
    New(Command),
    /// The caller has it.
    InHand,
    /// This is the result.
    Answered,
}

/// The commands that this client knows.
#[derive(Debug, Default)]
pub(crate) struct Book {
    /// Number, and when its life ends.
    in_hand: VecDeque<(u64, Instant)>,
    answered: VecDeque<CommandResult>,
    answered_bytes: usize,
    /// Numbers of results to be sent.
    outbox: VecDeque<u64>,
}

impl Book {
    /// A command came.
    pub(crate) fn came(&mut self, command: Command, now: Instant) -> Handling {
        let id = command.command_id;
        if self.result(id).is_some() {
            self.send(id);
            return Handling::Answered;
        }
        if self.in_hand.iter().any(|(known, _)| *known == id) {
            return Handling::InHand;
        }
        if self.in_hand.len() >= IN_HAND_MAX {
            self.in_hand.retain(|(_, until)| *until > now);
        }
        if self.in_hand.len() >= IN_HAND_MAX {
            self.refuse(id, "the vehicle has too many commands in hand");
            return Handling::Answered;
        }
        let life = Duration::from_millis(command.ttl_ms.into());
        self.in_hand.push_back((id, now + life));
        Handling::New(command)
    }

    /// The caller could not be given a command that [`Book::came`] called new.
    pub(crate) fn not_handed(&mut self, id: u64, why: &str) {
        self.in_hand.retain(|(known, _)| *known != id);
        self.refuse(id, why);
    }

    /// The caller has a result.
    pub(crate) fn answer(&mut self, result: CommandResult) -> Result<(), AnswerError> {
        let id = result.command_id;
        let known = self.in_hand.iter().position(|(known, _)| *known == id);
        let at = known.ok_or(AnswerError::Unknown(id))?;
        self.in_hand.remove(at);
        self.note(result);
        Ok(())
    }

    /// The next result to be sent.
    pub(crate) fn next(&self) -> Option<&CommandResult> {
        self.outbox.front().and_then(|id| self.result(*id))
    }

    /// [`Book::next`] was sent. If that was in vain, the command comes again on the next connection.
    pub(crate) fn sent(&mut self) {
        self.outbox.pop_front();
    }

    fn refuse(&mut self, id: u64, why: &str) {
        self.note(CommandResult {
            command_id: id,
            status: CommandStatus::Refused,
            content_type: Some("text/plain".to_owned()),
            payload: why.as_bytes().to_vec(),
            vehicle: 0,
        });
    }

    fn note(&mut self, result: CommandResult) {
        self.answered_bytes += bytes_of(&result);
        let id = result.command_id;
        self.answered.push_back(result);
        self.send(id);
        while self.answered.len() > 1
            && (self.answered.len() > ANSWERED_MAX || self.answered_bytes > ANSWERED_BYTES_MAX)
        {
            if let Some(oldest) = self.answered.pop_front() {
                self.answered_bytes -= bytes_of(&oldest);
                self.outbox.retain(|id| *id != oldest.command_id);
            }
        }
    }

    fn send(&mut self, id: u64) {
        if !self.outbox.contains(&id) {
            self.outbox.push_back(id);
        }
    }

    fn result(&self, id: u64) -> Option<&CommandResult> {
        // Those that come again are the last ones.
        self.answered
            .iter()
            .rev()
            .find(|result| result.command_id == id)
    }
}

fn bytes_of(result: &CommandResult) -> usize {
    result.payload.len() + result.content_type.as_ref().map_or(0, String::len)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(command_id: u64) -> Command {
        let (name, ttl_ms) = ("lock".to_owned(), 1_000);
        Command {
            command_id,
            name,
            ttl_ms,
            ..Command::default()
        }
    }

    fn result(command_id: u64, bytes: usize) -> CommandResult {
        let payload = vec![7; bytes];
        CommandResult {
            command_id,
            payload,
            ..CommandResult::default()
        }
    }

    fn sent(book: &mut Book) -> Vec<(u64, CommandStatus)> {
        let mut all = Vec::new();
        while let Some(next) = book.next() {
            all.push((next.command_id, next.status));
            book.sent();
        }
        all
    }

    #[test]
    fn a_command_is_handed_out_once_and_answered_as_often_as_it_comes() {
        let now = Instant::now();
        let mut book = Book::default();
        assert_eq!(book.came(command(5), now), Handling::New(command(5)));
        assert_eq!(book.came(command(5), now), Handling::InHand);
        assert_eq!(sent(&mut book), []);
        assert_eq!(book.answer(result(5, 3)), Ok(()));
        assert_eq!(sent(&mut book), [(5, CommandStatus::Done)]);
        assert_eq!(book.came(command(5), now), Handling::Answered);
        assert_eq!(book.came(command(5), now), Handling::Answered);
        assert_eq!(
            sent(&mut book),
            [(5, CommandStatus::Done)],
            "one answer for two"
        );
        assert_eq!(book.answer(result(5, 3)), Err(AnswerError::Unknown(5)));
        assert_eq!(book.answer(result(6, 3)), Err(AnswerError::Unknown(6)));
    }

    #[test]
    fn a_caller_that_does_not_answer_is_bounded() {
        let now = Instant::now();
        let mut book = Book::default();
        let most = IN_HAND_MAX as u64;
        for id in 1..=most {
            assert!(matches!(book.came(command(id), now), Handling::New(_)));
        }
        assert_eq!(book.came(command(99), now), Handling::Answered);
        assert_eq!(sent(&mut book), [(99, CommandStatus::Refused)]);
        // Their time is over: nobody waits for them any more.
        let later = now + Duration::from_secs(2);
        assert!(matches!(book.came(command(100), later), Handling::New(_)));
        assert_eq!(book.answer(result(1, 0)), Err(AnswerError::Unknown(1)));
    }

    #[test]
    fn what_nobody_takes_is_refused() {
        let mut book = Book::default();
        book.came(command(1), Instant::now());
        book.not_handed(1, "nobody");
        assert_eq!(sent(&mut book), [(1, CommandStatus::Refused)]);
    }

    #[test]
    fn results_are_bounded_by_number_and_bytes() {
        let now = Instant::now();
        for (bytes, kept) in [(0, ANSWERED_MAX), (ANSWERED_BYTES_MAX / 4, 4)] {
            let mut book = Book::default();
            for id in 1..=2 * ANSWERED_MAX as u64 {
                book.came(command(id), now);
                book.answer(result(id, bytes)).expect("it is in hand");
            }
            assert_eq!(book.answered.len(), kept);
            assert_eq!(book.answered_bytes, kept * bytes);
            assert_eq!(sent(&mut book).len(), kept);
        }
    }
}
