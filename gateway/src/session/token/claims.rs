//! The claims of a token as they come, and what type each must be of.

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::TokenError;
use crate::session::grants;

/// The claims that matter, of whatever type they came in: the type is checked with a message of its own.
#[derive(Deserialize)]
pub(super) struct Claims {
    pub(super) sub: Option<Claim>,
    pub(super) role: Option<Claim>,
    /// An operator without one is the whole node's, so null is none.
    #[serde(default, deserialize_with = "grants::present")]
    pub(super) fleet: Option<Claim>,
    pub(super) exp: Option<Claim>,
    pub(super) iat: Option<Claim>,
    #[serde(default, deserialize_with = "grants::present")]
    pub(super) nbf: Option<Claim>,
    pub(super) jti: Option<Claim>,
    pub(super) may: Option<Claim>,
    pub(super) groups: Option<Claim>,
    #[serde(default, deserialize_with = "grants::present")]
    pub(super) grants: Option<Entries>,
    pub(super) iss: Option<Claim>,
    pub(super) aud: Option<Claim>,
}

#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Claim {
    Text(String),
    /// RFC 7519 §2 allows fractions of a second.
    Number(f64),
    List(Vec<String>),
    Other(IgnoredAny),
}

#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Entries {
    List(Vec<grants::Entry>),
    Other(IgnoredAny),
}

pub(super) fn text(
    claim: &'static str,
    value: Option<Claim>,
) -> Result<Option<String>, TokenError> {
    match value {
        None => Ok(None),
        Some(Claim::Text(text)) => Ok(Some(text)),
        Some(_) => Err(TokenError::Type {
            claim,
            expected: "a string",
        }),
    }
}

pub(super) fn list(claim: &'static str, value: Option<Claim>) -> Result<Vec<String>, TokenError> {
    match value {
        None => Ok(Vec::new()),
        Some(Claim::List(list)) => Ok(list),
        Some(_) => Err(TokenError::Type {
            claim,
            expected: "a list of strings",
        }),
    }
}

pub(super) fn seconds(
    claim: &'static str,
    value: &Option<Claim>,
) -> Result<Option<u64>, TokenError> {
    match value {
        None => Ok(None),
        // The cast saturates, and a time before 1970 counts as 1970.
        Some(Claim::Number(number)) => Ok(Some(*number as u64)),
        Some(_) => Err(TokenError::Type {
            claim,
            expected: "a number of seconds",
        }),
    }
}

pub(in crate::session) fn check_id(
    claim: &'static str,
    id: &str,
    bytes_max: usize,
) -> Result<(), TokenError> {
    if id.is_empty() {
        return Err(TokenError::Empty(claim));
    }
    if id.len() > bytes_max {
        return Err(TokenError::TooLong {
            claim,
            bytes: id.len(),
            bytes_max,
        });
    }
    if id.chars().any(char::is_control) {
        return Err(TokenError::ControlCharacter(claim));
    }
    Ok(())
}
