//! Tokens that have been used for a call. Pure: time is passed in.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

/// How often what is over is forgotten, in seconds.
const FORGET_EVERY_S: u64 = 1;

/// The ids of tokens that are good no more, each until the token itself ends.
#[derive(Debug)]
pub struct Spent {
    until: HashMap<Box<str>, u64>,
    max: usize,
    forgot_unix: u64,
}

/// As it stands in a file.
#[derive(Debug, Serialize, Deserialize)]
struct Line {
    token_id: Box<str>,
    until: u64,
}

/// Why a token does not do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SpentError {
    /// It has been used.
    #[error("this token has been used for a call; make a new one for each")]
    Already,
    /// Nobody could tell whether it is used again.
    #[error("too many tokens have been used of late; try again in a minute")]
    Full,
}

impl Spent {
    /// Remembers up to `max`.
    pub fn new(max: usize) -> Spent {
        Spent {
            until: HashMap::new(),
            max,
            forgot_unix: 0,
        }
    }

    /// Learns of those that another process has used: the text of a file of them.
    ///
    /// # Errors
    /// It is none.
    pub fn learn(&mut self, text: &[u8]) -> Result<(), serde_json::Error> {
        let lines = text
            .split(|&byte| byte == b'\n')
            .filter(|line| !line.is_empty());
        for line in lines {
            let Line { token_id, until } = serde_json::from_slice(line)?;
            self.until.insert(token_id, until);
        }
        Ok(())
    }

    /// All of them, for a file.
    pub fn lines(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for (token_id, &until) in &self.until {
            let token_id = token_id.clone();
            // A string and a number into memory: nothing in it can fail.
            if serde_json::to_writer(&mut out, &Line { token_id, until }).is_ok() {
                out.push(b'\n');
            }
        }
        out
    }

    /// Uses a token up. `until`: when it is refused for its age, in seconds since the Unix epoch, as `now` is.
    ///
    /// # Errors
    /// It has been used, or there is no room to remember it.
    pub fn spend(&mut self, token_id: &str, until: u64, now: u64) -> Result<(), SpentError> {
        if now >= self.forgot_unix.saturating_add(FORGET_EVERY_S) {
            self.forgot_unix = now;
            self.until.retain(|_, until| *until > now);
        }
        if self.until.contains_key(token_id) {
            return Err(SpentError::Already);
        }
        if self.until.len() >= self.max {
            return Err(SpentError::Full);
        }
        self.until.insert(token_id.into(), until);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_good_once_until_it_ends() {
        let mut spent = Spent::new(2);
        assert_eq!(spent.spend("a", 110, 100), Ok(()));
        assert_eq!(spent.spend("a", 110, 100), Err(SpentError::Already));
        assert_eq!(spent.spend("b", 120, 109), Ok(()));
        assert_eq!(spent.spend("a", 110, 109), Err(SpentError::Already));
        assert_eq!(spent.spend("c", 120, 109), Err(SpentError::Full));
        assert_eq!(spent.spend("c", 120, 110), Ok(()), "a has ended");
        assert_eq!(spent.spend("b", 120, 119), Err(SpentError::Already));
    }
}
