//! Session tokens: JSON Web Tokens (RFC 7519), signed with Ed25519 (`EdDSA`, RFC 8037) or HMAC (`HS256`, RFC 7518).
//!
//! | claim | meaning |
//! |---|---|
//! | `sub` | the vehicle's id, or the dashboard's user |
//! | `role` | `vehicle` or `dashboard` |
//! | `fleet` | the fleet that the peer belongs to |
//! | `exp` | when the token ends, in seconds since the Unix epoch; required |
//! | `nbf` | optional: not valid before |
//! | `jti` | optional: the token's own id |
//! | `may` | optional: what a dashboard may do beyond watching, a list of names: `command` |
//! | `iss`, `aud` | checked if the configuration names them |
//!
//! Time is passed in. The algorithm is the key's, never the header's choice: the header only narrows down which keys
//! are tried (RFC 8725 §3.1).
#![forbid(unsafe_code)]

use std::fmt;

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, Header, Validation, decode, decode_header};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::keys::Key;
use super::rights::Rights;
use crate::config::Auth;
use crate::limits::Limits;

/// What kind of peer a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum Role {
    /// Publishes its own positions and events.
    Vehicle,
    /// Watches vehicles of its fleet.
    Dashboard,
}

impl Role {
    /// The role as it stands in a token.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Vehicle => "vehicle",
            Self::Dashboard => "dashboard",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        [Self::Vehicle, Self::Dashboard]
            .into_iter()
            .find(|role| role.name() == name)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

/// Who a peer is, by its token alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Vehicle or dashboard.
    pub role: Role,
    /// The fleet that it belongs to.
    pub fleet: String,
    /// The vehicle's id, or the dashboard's user.
    pub subject: String,
    /// When the token ends: seconds since the Unix epoch.
    pub expires_unix: u64,
    /// The token's own id, if it has one.
    pub token_id: Option<String>,
    /// What it may do beyond its role. A vehicle has none, whatever its token says.
    pub may: Rights,
}

/// Why a token is refused, in words for whoever wrote it. No message repeats any of the token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not three base64url parts, or a header that is no JWT header of a known algorithm.
    #[error(
        "the token is not a signed JWT: three base64url parts joined by dots, its header naming EdDSA or HS256"
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
    /// The role is neither vehicle nor dashboard.
    #[error("the token's claim `role` is neither \"vehicle\" nor \"dashboard\"")]
    Role,
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

/// Checks tokens. Shared by all shards behind an `Arc`; [`Verifier::verify`] takes no lock and does no I/O.
#[derive(Debug)]
pub struct Verifier {
    keys: Vec<(Key, Validation)>,
    leeway_s: u64,
    issuer: Option<String>,
    audience: Option<String>,
    bounds: IdBounds,
}

/// How long the ids in a token may be.
#[derive(Debug, Clone, Copy)]
pub struct IdBounds {
    /// Of `sub` and `jti`, in bytes.
    pub subject_bytes_max: usize,
    /// Of `fleet`, in bytes.
    pub fleet_bytes_max: usize,
}

impl IdBounds {
    /// The bounds that the configuration sets.
    pub fn new(limits: &Limits) -> Self {
        Self {
            subject_bytes_max: limits.vehicle_id_bytes_max,
            fleet_bytes_max: limits.fleet_id_bytes_max,
        }
    }

    /// Checks the ids that a token carries.
    ///
    /// # Errors
    /// The first claim that is empty, too long or has a control character.
    pub fn check(
        self,
        fleet: &str,
        subject: &str,
        token_id: Option<&str>,
    ) -> Result<(), TokenError> {
        check_id("fleet", fleet, self.fleet_bytes_max)?;
        check_id("sub", subject, self.subject_bytes_max)?;
        token_id.map_or(Ok(()), |id| check_id("jti", id, self.subject_bytes_max))
    }
}

impl Verifier {
    /// A verifier for these keys; `auth` gives leeway, issuer and audience.
    pub fn new(keys: Vec<Key>, auth: &Auth, limits: &Limits) -> Self {
        Self {
            keys: keys.into_iter().map(with_validation).collect(),
            leeway_s: auth.leeway_s,
            issuer: auth.issuer.clone(),
            audience: auth.audience.clone(),
            bounds: IdBounds::new(limits),
        }
    }

    /// Who the bearer of this token is. `now_unix`: seconds since the Unix epoch.
    ///
    /// # Errors
    /// The first thing that is wrong with the token.
    pub fn verify(&self, token: &str, now_unix: u64) -> Result<Identity, TokenError> {
        let header = decode_header(token).map_err(|_| TokenError::Malformed)?;
        if header.crit.is_some() {
            return Err(TokenError::Critical);
        }
        let claims = self.signed_claims(token, &header)?;
        self.check_times(&claims, now_unix)?;
        self.check_parties(&claims)?;
        self.identity(claims)
    }

    /// The claims, once a key has confirmed the signature: the key of the token's `kid`, else every key without one.
    fn signed_claims(&self, token: &str, header: &Header) -> Result<Claims, TokenError> {
        let named = |key: &Key| header.kid.is_some() && key.kid() == header.kid.as_deref();
        let kid_is_known = self.keys.iter().any(|(key, _)| named(key));
        // A token without a kid may be of any key; one with a kid that is not configured only of a key that has none.
        let fits = |key: &Key| match (kid_is_known, &header.kid) {
            (true, _) => named(key),
            (false, Some(_)) => key.kid().is_none(),
            (false, None) => true,
        };
        let mut refusal = match (&header.kid, self.keys.iter().any(|(key, _)| fits(key))) {
            (Some(_), false) => TokenError::UnknownKey,
            _ => TokenError::Algorithm(header.alg),
        };
        for (key, validation) in &self.keys {
            if !fits(key) || key.algorithm() != header.alg {
                continue;
            }
            match decode::<Claims>(token, key.decoding(), validation) {
                Ok(data) => return Ok(data.claims),
                Err(error) => match error.kind() {
                    ErrorKind::InvalidSignature => refusal = TokenError::Signature,
                    // The signature is checked before the claims are parsed, so these are the claims.
                    ErrorKind::Json(_) | ErrorKind::Utf8(_) => return Err(TokenError::Claims),
                    _ => return Err(TokenError::Malformed),
                },
            }
        }
        Err(refusal)
    }

    fn check_times(&self, claims: &Claims, now_unix: u64) -> Result<(), TokenError> {
        let expires = seconds("exp", &claims.exp)?.ok_or(TokenError::Missing("exp"))?;
        // RFC 7519 §4.1.4: not accepted on or after that time.
        if now_unix >= expires.saturating_add(self.leeway_s) {
            return Err(TokenError::Expired {
                seconds: now_unix - expires,
            });
        }
        seconds("iat", &claims.iat)?;
        match seconds("nbf", &claims.nbf)? {
            Some(from) if from > now_unix.saturating_add(self.leeway_s) => {
                Err(TokenError::NotYetValid {
                    seconds: from - now_unix,
                })
            }
            _ => Ok(()),
        }
    }

    fn check_parties(&self, claims: &Claims) -> Result<(), TokenError> {
        if let Some(issuer) = &self.issuer {
            match &claims.iss {
                Some(Claim::Text(text)) if text == issuer => {}
                _ => return Err(TokenError::Issuer),
            }
        }
        if let Some(audience) = &self.audience {
            match &claims.aud {
                Some(Claim::Text(text)) if text == audience => {}
                Some(Claim::List(list)) if list.contains(audience) => {}
                _ => return Err(TokenError::Audience),
            }
        }
        Ok(())
    }

    fn identity(&self, claims: Claims) -> Result<Identity, TokenError> {
        let role = text("role", claims.role)?.ok_or(TokenError::Missing("role"))?;
        let role = Role::from_name(&role).ok_or(TokenError::Role)?;
        let fleet = text("fleet", claims.fleet)?.ok_or(TokenError::Missing("fleet"))?;
        let subject = text("sub", claims.sub)?.ok_or(TokenError::Missing("sub"))?;
        let token_id = text("jti", claims.jti)?;
        self.bounds.check(&fleet, &subject, token_id.as_deref())?;
        let expires_unix = seconds("exp", &claims.exp)?.ok_or(TokenError::Missing("exp"))?;
        let names = list("may", claims.may)?;
        let may = match role {
            Role::Vehicle => Rights::default(),
            Role::Dashboard => Rights::named(names.iter().map(String::as_str)),
        };
        Ok(Identity {
            role,
            fleet,
            subject,
            expires_unix,
            token_id,
            may,
        })
    }
}

/// The library checks the signature only: for the times it would read the system's clock.
fn with_validation(key: Key) -> (Key, Validation) {
    let mut validation = Validation::new(key.algorithm());
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.validate_aud = false;
    (key, validation)
}

/// The claims that matter, of whatever type they came in: the type is checked with a message of its own.
#[derive(Deserialize)]
struct Claims {
    sub: Option<Claim>,
    role: Option<Claim>,
    fleet: Option<Claim>,
    exp: Option<Claim>,
    iat: Option<Claim>,
    nbf: Option<Claim>,
    jti: Option<Claim>,
    may: Option<Claim>,
    iss: Option<Claim>,
    aud: Option<Claim>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Claim {
    Text(String),
    /// RFC 7519 §2 allows fractions of a second.
    Number(f64),
    List(Vec<String>),
    Other(IgnoredAny),
}

fn text(claim: &'static str, value: Option<Claim>) -> Result<Option<String>, TokenError> {
    match value {
        None => Ok(None),
        Some(Claim::Text(text)) => Ok(Some(text)),
        Some(_) => Err(TokenError::Type {
            claim,
            expected: "a string",
        }),
    }
}

fn list(claim: &'static str, value: Option<Claim>) -> Result<Vec<String>, TokenError> {
    match value {
        None => Ok(Vec::new()),
        Some(Claim::List(list)) => Ok(list),
        Some(_) => Err(TokenError::Type {
            claim,
            expected: "a list of strings",
        }),
    }
}

fn seconds(claim: &'static str, value: &Option<Claim>) -> Result<Option<u64>, TokenError> {
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

fn check_id(claim: &'static str, id: &str, bytes_max: usize) -> Result<(), TokenError> {
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

#[cfg(test)]
pub mod test_keys;
#[cfg(test)]
mod tests;
