//! Where tokens come from. They never reach a log.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use thiserror::Error;

/// The longest token: the gateway takes 8 KiB of headers in all.
const BYTES_MAX: usize = 8_000;

/// A text that is no token. The text itself is not in the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TokenError {
    /// Nothing.
    #[error("the token is empty")]
    Empty,
    /// More than a gateway reads.
    #[error("the token has {0} bytes, and the most is {BYTES_MAX}")]
    TooLong(usize),
    /// A JSON Web Token is made of plain characters.
    #[error(
        "byte {0} of the token is a blank or not plain ASCII: is it the token, and nothing else?"
    )]
    Character(usize),
}

/// A token. What is printed of it says nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// Blanks and line breaks around it are taken off, since files end with one.
    ///
    /// # Errors
    /// It cannot stand in a header.
    pub fn new(text: &str) -> Result<Self, TokenError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(TokenError::Empty);
        }
        if text.len() > BYTES_MAX {
            return Err(TokenError::TooLong(text.len()));
        }
        match text.bytes().position(|byte| !byte.is_ascii_graphic()) {
            Some(at) => Err(TokenError::Character(at)),
            None => Ok(Self(text.to_owned())),
        }
    }

    pub(crate) fn secret(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Token(…)")
    }
}

type Answer = Pin<Box<dyn Future<Output = Result<Token, String>> + Send>>;

/// Who is asked for a token: at the beginning, before the present one ends, and when it was refused.
///
/// ```
/// use longhaul_vehicle::{Token, TokenSource};
///
/// let tokens = TokenSource::new(|| async {
///     // Ask your own service here; it may take its time.
///     let text = String::from("eyJhbGciOi...");
///     Token::new(&text).map_err(|error| error.to_string())
/// });
/// # let _ = tokens;
/// ```
#[derive(Clone)]
pub struct TokenSource(Arc<dyn Fn() -> Answer + Send + Sync>);

impl TokenSource {
    /// `ask` gives a token, or says why there is none: it is asked again later. The reason is logged, so it should not
    /// have a secret in it.
    pub fn new<F, A>(ask: F) -> Self
    where
        F: Fn() -> A + Send + Sync + 'static,
        A: Future<Output = Result<Token, String>> + Send + 'static,
    {
        Self(Arc::new(move || Box::pin(ask())))
    }

    /// Always this one. When it ends, the client is without.
    pub fn fixed(token: Token) -> Self {
        Self::new(move || std::future::ready(Ok(token.clone())))
    }

    pub(crate) fn ask(&self) -> Answer {
        (self.0)()
    }
}

impl fmt::Debug for TokenSource {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("TokenSource(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_checked_and_never_shown() {
        let token = Token::new(" abc.def-_\n").unwrap();
        assert_eq!(token.secret(), "abc.def-_");
        assert!(!format!("{token:?} {:?}", TokenSource::fixed(token.clone())).contains("abc"));
        for (text, error) in [
            ("", TokenError::Empty),
            (" \n", TokenError::Empty),
            ("a b", TokenError::Character(1)),
            ("aä", TokenError::Character(1)),
        ] {
            assert_eq!(Token::new(text), Err(error), "{text:?}");
        }
        assert!(Token::new(&"a".repeat(BYTES_MAX + 1)).is_err());
    }
}
