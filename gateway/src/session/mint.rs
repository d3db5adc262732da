//! Making tokens: for development, tests and small installations. A fleet's own issuer makes its own.
#![forbid(unsafe_code)]

use jsonwebtoken::{Header, encode};
use serde::Serialize;

use super::keys::SigningKey;
use super::rights::Right;
use super::token::{IdBounds, Role, TokenError};

/// What a new token says.
#[derive(Debug, Clone)]
pub struct Grant {
    /// Vehicle or dashboard.
    pub role: Role,
    /// The fleet.
    pub fleet: String,
    /// The vehicle's id, or the dashboard's user.
    pub subject: String,
    /// When it is issued: seconds since the Unix epoch.
    pub issued_unix: u64,
    /// When it ends: seconds since the Unix epoch.
    pub expires_unix: u64,
    /// For the header: which key it is.
    pub kid: Option<String>,
    /// For a gateway that checks `iss`.
    pub issuer: Option<String>,
    /// For a gateway that checks `aud`.
    pub audience: Option<String>,
    /// What a dashboard may do beyond watching. A vehicle's are ignored by the gateway.
    pub may: Vec<Right>,
}

/// Why no token was made.
#[derive(Debug, thiserror::Error)]
pub enum MintError {
    /// The gateway would refuse it.
    #[error("a gateway would refuse this token")]
    Refused(#[from] TokenError),
    /// The library could not sign.
    #[error("cannot sign")]
    Sign(#[from] jsonwebtoken::errors::Error),
    /// The system has no random bytes for the token's id.
    #[error("the system gives no random bytes")]
    Random(#[from] getrandom::Error),
}

#[derive(Serialize)]
struct Claims<'a> {
    sub: &'a str,
    role: &'static str,
    fleet: &'a str,
    iat: u64,
    exp: u64,
    jti: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    iss: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    aud: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    may: Vec<&'static str>,
}

/// Signs a token with a random id of its own.
///
/// # Errors
/// The ids are not within `bounds`, or signing fails.
pub fn mint(key: &SigningKey, grant: &Grant, bounds: IdBounds) -> Result<String, MintError> {
    bounds.check(&grant.fleet, &grant.subject, None)?;
    let mut header = Header::new(key.algorithm());
    header.kid.clone_from(&grant.kid);
    let claims = Claims {
        sub: &grant.subject,
        role: grant.role.name(),
        fleet: &grant.fleet,
        iat: grant.issued_unix,
        exp: grant.expires_unix,
        jti: format!("{:016x}", getrandom::u64()?),
        iss: grant.issuer.as_deref(),
        aud: grant.audience.as_deref(),
        may: grant.may.iter().map(|right| right.name()).collect(),
    };
    Ok(encode(&header, &claims, key.encoding())?)
}
