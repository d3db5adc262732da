//! Session tokens: JSON Web Tokens (RFC 7519), signed with Ed25519 (`EdDSA`, RFC 8037), ECDSA on P-256 (`ES256`), RSA
//! (`RS256`) or HMAC (`HS256`, all RFC 7518).
//!
//! | claim | meaning |
//! |---|---|
//! | `sub` | the vehicle's id, or the dashboard's user |
//! | `role` | `vehicle`, `dashboard` or `operator` |
//! | `fleet` | the fleet that the peer belongs to; an operator may leave it out: it is one of the whole node |
//! | `exp` | when the token ends, in seconds since the Unix epoch; required |
//! | `nbf` | optional: not valid before |
//! | `jti` | optional: the token's own id; an operator's must have one |
//! | `iat` | optional: when it was issued; not in the future |
//! | `groups` | optional: the groups of its fleet that a vehicle is in, a list of names |
//! | `grants` | optional: what a dashboard may see and do, what a vehicle may publish; see `session/grants.rs` |
//! | `may` | optional, where there are no `grants`: what a dashboard may do beyond watching, a list of names: `command` |
//! | `iss`, `aud` | checked if the configuration names them |
//!
//! Time is passed in. The algorithm is the key's, never the header's choice: the header only narrows down which keys
//! are tried (RFC 8725 §3.1).
#![forbid(unsafe_code)]

use std::fmt;
use std::sync::Arc;

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Header, Validation, decode, decode_header};

use super::grants::{self, Grants};
use super::hint::KeyHint;
use super::keys::Key;
use super::rights::Rights;
use crate::config::Auth;
use crate::limits::{KEYS_TRIED_MAX, Limits, TOKEN_BYTES_MAX};

mod claims;
mod error;

use self::claims::{Claim, Claims, Entries, list, seconds, text};

pub(super) use self::claims::check_id;
pub use self::error::TokenError;

/// The roles as they stand in a token.
pub(super) const VEHICLE: &str = "vehicle";
pub(super) const DASHBOARD: &str = "dashboard";
pub(super) const OPERATOR: &str = "operator";

/// What kind of peer a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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
            Self::Vehicle => VEHICLE,
            Self::Dashboard => DASHBOARD,
        }
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
    /// When it was issued, if it says so: seconds since the Unix epoch.
    pub issued_unix: Option<u64>,
    /// The token's own id, if it has one.
    pub token_id: Option<String>,
    /// What it may do beyond its role, if there are no `grants`. A vehicle has none, whatever its token says.
    pub may: Rights,
    /// The groups that a vehicle is in by its token, sorted. Of a dashboard: none.
    pub groups: Box<[Box<str>]>,
    /// What it was granted. None: a dashboard may read of its whole fleet, and command it if [`Identity::may`] says so;
    /// a vehicle may publish everything.
    pub grants: Option<Grants>,
}

/// Who may give orders to the node, by its token alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operator {
    /// The fleet that it is bound to; none: the whole node.
    pub fleet: Option<String>,
    /// Who it is.
    pub subject: String,
    /// When the token ends: seconds since the Unix epoch.
    pub expires_unix: u64,
    /// When it was issued, if it says so: seconds since the Unix epoch.
    pub issued_unix: Option<u64>,
    /// The token's own id.
    pub token_id: String,
}

/// Checks tokens. Shared by all shards behind an `Arc`; [`Verifier::verify`] takes no lock and does no I/O.
#[derive(Debug)]
pub struct Verifier {
    keys: Vec<(Key, Validation)>,
    leeway_s: u64,
    lifetime_max_s: u64,
    issuer: Option<String>,
    audience: Option<String>,
    bounds: IdBounds,
    /// Who is told of tokens whose key is not there.
    hint: Option<Arc<KeyHint>>,
    /// Some keys have not been fetched yet.
    pending: bool,
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
        fleet: Option<&str>,
        subject: &str,
        token_id: Option<&str>,
    ) -> Result<(), TokenError> {
        fleet.map_or(Ok(()), |id| check_id("fleet", id, self.fleet_bytes_max))?;
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
            lifetime_max_s: auth.lifetime_max_s,
            issuer: auth.issuer.clone(),
            audience: auth.audience.clone(),
            bounds: IdBounds::new(limits),
            hint: None,
            pending: false,
        }
    }

    /// The same, with more keys elsewhere. `pending`: some of them have not been fetched yet, so that a token that no key
    /// is for may be good all the same.
    #[must_use]
    pub fn with_more_elsewhere(self, hint: Arc<KeyHint>, pending: bool) -> Self {
        Self {
            hint: Some(hint),
            pending,
            ..self
        }
    }

    /// Who the bearer of this token is, a vehicle or a dashboard. `now_unix`: seconds since the Unix epoch.
    ///
    /// # Errors
    /// The first thing that is wrong with the token; an operator's is [`TokenError::Operator`].
    pub fn verify(&self, token: &str, now_unix: u64) -> Result<Identity, TokenError> {
        let (claims, times) = self.checked_claims(token, now_unix)?;
        self.identity(claims, times)
    }

    /// The operator whose token this is.
    ///
    /// # Errors
    /// The first thing that is wrong with the token; that of anybody else is [`TokenError::NotOperator`].
    pub fn verify_operator(&self, token: &str, now_unix: u64) -> Result<Operator, TokenError> {
        let (claims, times) = self.checked_claims(token, now_unix)?;
        self.operator(claims, times)
    }

    fn checked_claims(&self, token: &str, now_unix: u64) -> Result<(Claims, Times), TokenError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::TooLarge(token.len()));
        }
        let header = decode_header(token).map_err(|_| TokenError::Malformed)?;
        if header.crit.is_some() {
            return Err(TokenError::Critical);
        }
        let claims = self.signed_claims(token, &header)?;
        let times = self.check_times(&claims, now_unix)?;
        self.check_parties(&claims)?;
        Ok((claims, times))
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
        if (header.kid.is_some() && !kid_is_known || self.keys.is_empty())
            && let Some(hint) = &self.hint
        {
            hint.raise();
        }
        let mut refusal = match (&header.kid, self.keys.iter().any(|(key, _)| fits(key))) {
            (Some(_), false) => TokenError::UnknownKey,
            _ => TokenError::Algorithm(header.alg),
        };
        let fitting = self
            .keys
            .iter()
            .filter(|(key, _)| fits(key) && key.algorithm() == header.alg);
        for (key, validation) in fitting.take(KEYS_TRIED_MAX) {
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
        // A key that is here is not one of those that are to come.
        Err(if self.pending && !kid_is_known {
            TokenError::KeysPending
        } else {
            refusal
        })
    }

    fn check_times(&self, claims: &Claims, now_unix: u64) -> Result<Times, TokenError> {
        let expires_unix = seconds("exp", &claims.exp)?.ok_or(TokenError::Missing("exp"))?;
        // RFC 7519 §4.1.4: not accepted on or after that time.
        if now_unix >= expires_unix.saturating_add(self.leeway_s) {
            return Err(TokenError::Expired {
                seconds: now_unix - expires_unix,
            });
        }
        let latest = now_unix.saturating_add(self.leeway_s);
        match seconds("nbf", &claims.nbf)? {
            Some(from) if from > latest => {
                return Err(TokenError::NotYetValid {
                    seconds: from - now_unix,
                });
            }
            _ => {}
        }
        let issued_unix = seconds("iat", &claims.iat)?;
        match issued_unix {
            Some(issued) if issued > latest => Err(TokenError::IssuedLater {
                seconds: issued - now_unix,
            }),
            _ => self.check_lifetime(Times {
                expires_unix,
                issued_unix,
            }),
        }
    }

    fn check_lifetime(&self, times: Times) -> Result<Times, TokenError> {
        if self.lifetime_max_s == 0 {
            return Ok(times);
        }
        let issued = times.issued_unix.ok_or(TokenError::Missing("iat"))?;
        match times.expires_unix.saturating_sub(issued) {
            seconds if seconds > self.lifetime_max_s => Err(TokenError::LastsTooLong {
                seconds,
                seconds_max: self.lifetime_max_s,
            }),
            _ => Ok(times),
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

    fn identity(&self, claims: Claims, times: Times) -> Result<Identity, TokenError> {
        let role = text("role", claims.role)?.ok_or(TokenError::Missing("role"))?;
        let (role, bearer) = match role.as_str() {
            VEHICLE => (Role::Vehicle, grants::Bearer::Vehicle),
            DASHBOARD => (Role::Dashboard, grants::Bearer::Dashboard),
            OPERATOR => return Err(TokenError::Operator),
            _ => return Err(TokenError::Role),
        };
        let fleet = text("fleet", claims.fleet)?.ok_or(TokenError::Missing("fleet"))?;
        let subject = text("sub", claims.sub)?.ok_or(TokenError::Missing("sub"))?;
        let token_id = text("jti", claims.jti)?;
        self.bounds
            .check(Some(&fleet), &subject, token_id.as_deref())?;
        let names = list("may", claims.may)?;
        let groups = grants::groups(list("groups", claims.groups)?)?;
        let may = match role {
            Role::Vehicle => Rights::default(),
            Role::Dashboard => Rights::named(names.iter().map(String::as_str)),
        };
        let granted = match claims.grants {
            None => None,
            Some(Entries::List(entries)) => Some(grants::grants(
                entries,
                bearer,
                self.bounds.subject_bytes_max,
            )?),
            Some(Entries::Other(_)) => {
                return Err(TokenError::Type {
                    claim: "grants",
                    expected: "a list of objects, each field of which stands there once",
                });
            }
        };
        Ok(Identity {
            role,
            fleet,
            subject,
            expires_unix: times.expires_unix,
            issued_unix: times.issued_unix,
            token_id,
            may,
            groups: match role {
                Role::Vehicle => groups,
                Role::Dashboard => Box::default(),
            },
            grants: granted,
        })
    }

    fn operator(&self, claims: Claims, times: Times) -> Result<Operator, TokenError> {
        let role = text("role", claims.role)?.ok_or(TokenError::Missing("role"))?;
        match role.as_str() {
            OPERATOR => {}
            VEHICLE | DASHBOARD => return Err(TokenError::NotOperator),
            _ => return Err(TokenError::Role),
        }
        let fleet = text("fleet", claims.fleet)?;
        let subject = text("sub", claims.sub)?.ok_or(TokenError::Missing("sub"))?;
        let token_id = text("jti", claims.jti)?.ok_or(TokenError::Missing("jti"))?;
        self.bounds
            .check(fleet.as_deref(), &subject, Some(&token_id))?;
        Ok(Operator {
            fleet,
            subject,
            expires_unix: times.expires_unix,
            issued_unix: times.issued_unix,
            token_id,
        })
    }
}

/// A token's times, checked: seconds since the Unix epoch.
#[derive(Clone, Copy)]
struct Times {
    expires_unix: u64,
    issued_unix: Option<u64>,
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

#[cfg(test)]
pub mod test_keys;
#[cfg(test)]
mod tests;
