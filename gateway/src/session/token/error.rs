//! Why a token is refused.

use jsonwebtoken::Algorithm;

use crate::limits::TOKEN_BYTES_MAX;

/// Why a token is refused, in words for whoever wrote it. No message repeats any of the token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not three base64url parts, or a header that is no JWT header of a known algorithm.
    #[error(
        "the token is not a signed JWT: three base64url parts joined by dots, its header naming EdDSA, ES256, RS256 or HS256"
    )]
    Malformed,
    /// The header demands an extension (RFC 7515 §4.1.11); none is known here.
    #[error(
        "the token's header has `crit`, which asks for an extension that this gateway does not have"
    )]
    Critical,
    /// No configured key has the token's algorithm.
    #[error("the token is signed with {0:?}, and this gateway has no key of that algorithm for it")]
    Algorithm(Algorithm),
    /// The header's `kid` is not configured.
    #[error("the token names a key (`kid`) that this gateway does not have")]
    UnknownKey,
    /// No key made this signature.
    #[error("the token's signature is not by a key of this gateway")]
    Signature,
    /// The claims are not a JSON object.
    #[error("the token's claims are not a JSON object, or one of them stands there twice")]
    Claims,
    /// A claim that must be there is not.
    #[error("the token has no claim `{0}`")]
    Missing(&'static str),
    /// A claim has another type than it must have.
    #[error("the token's claim `{claim}` is not {expected}")]
    Type {
        /// The claim.
        claim: &'static str,
        /// What it must be.
        expected: &'static str,
    },
    /// The role is none that there is.
    #[error("the token's claim `role` is neither \"vehicle\" nor \"dashboard\" nor \"operator\"")]
    Role,
    /// An operator where a vehicle or a dashboard belongs.
    #[error("an operator's token is for the control plane; vehicles and dashboards connect here")]
    Operator,
    /// A vehicle or a dashboard where an operator belongs.
    #[error("the token's claim `role` is not \"operator\", and only an operator may do this")]
    NotOperator,
    /// A list has too many entries.
    #[error("the token's claim `{claim}` has {count} entries, allowed: {count_max}")]
    TooMany {
        /// The claim.
        claim: &'static str,
        /// How many.
        count: usize,
        /// The bound.
        count_max: usize,
    },
    /// An entry of `grants` is wrong.
    #[error("the token's claim `grants`, entry {at}, {wrong}")]
    Grant {
        /// Which one, from 0.
        at: usize,
        /// What is wrong.
        wrong: &'static str,
    },
    /// The whole token is too long.
    #[error("the token has {0} bytes, allowed: {TOKEN_BYTES_MAX}")]
    TooLarge(usize),
    /// Its keys may be among those that have not been fetched yet.
    #[error("the keys that this token may be signed with have not been fetched yet; come back")]
    KeysPending,
    /// It lasts longer than tokens may.
    #[error(
        "the token lasts {seconds} s from `iat` to `exp`, allowed: {seconds_max} (auth.lifetime_max_s)"
    )]
    LastsTooLong {
        /// How long.
        seconds: u64,
        /// The bound.
        seconds_max: u64,
    },
    /// It was issued in the future.
    #[error("the token was issued {seconds} s in the future; does a clock run wrong?")]
    IssuedLater {
        /// How far, by the gateway's clock.
        seconds: u64,
    },
    /// An id is empty.
    #[error("the token's claim `{0}` is empty")]
    Empty(&'static str),
    /// An id is too long.
    #[error("the token's claim `{claim}` has {bytes} bytes, allowed: {bytes_max}")]
    TooLong {
        /// The claim.
        claim: &'static str,
        /// Its length.
        bytes: usize,
        /// The bound, from `[limits]`.
        bytes_max: usize,
    },
    /// An id has a control character.
    #[error("the token's claim `{0}` has a control character")]
    ControlCharacter(&'static str),
    /// The token has ended.
    #[error("the token expired {seconds} s ago; ask for a new one")]
    Expired {
        /// How long ago, by the gateway's clock.
        seconds: u64,
    },
    /// The token is not valid yet.
    #[error("the token is not valid for another {seconds} s; does a clock run wrong?")]
    NotYetValid {
        /// How long until it is, by the gateway's clock.
        seconds: u64,
    },
    /// `iss` is not the configured one.
    #[error("the token's claim `iss` is not the issuer that this gateway accepts")]
    Issuer,
    /// `aud` does not have the configured one.
    #[error("the token's claim `aud` does not name the audience that this gateway is")]
    Audience,
}
