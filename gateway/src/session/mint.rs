//! Making tokens: for development, tests and small installations. A fleet's own issuer makes its own.
#![forbid(unsafe_code)]

use jsonwebtoken::{Header, encode};
use serde::Serialize;

use super::grants;
use super::keys::SigningKey;
use super::rights::Right;
use super::token::{DASHBOARD, IdBounds, OPERATOR, TokenError, VEHICLE};

/// Whom a new token is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Bearer {
    /// Publishes its own positions and events.
    Vehicle,
    /// Watches vehicles of its fleet.
    Dashboard,
    /// Gives orders to a node, over the control plane.
    Operator,
}

/// What a new token says.
#[derive(Debug, Clone)]
pub struct NewToken {
    /// Whom it is for.
    pub role: Bearer,
    /// The fleet; only an operator's may have none.
    pub fleet: Option<String>,
    /// The vehicle's id, the dashboard's user, or the operator.
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
    /// The groups that a vehicle is in.
    pub groups: Vec<String>,
    /// The entries of the claim `grants`; none: no such claim.
    pub grants: Option<Vec<serde_json::Value>>,
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
    #[serde(skip_serializing_if = "Option::is_none")]
    fleet: Option<&'a str>,
    iat: u64,
    exp: u64,
    jti: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    iss: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    aud: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    may: Vec<&'static str>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    groups: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    grants: Option<&'a [serde_json::Value]>,
}

/// Signs a token with a random id of its own.
///
/// # Errors
/// The ids are not within `bounds`, or signing fails.
pub fn mint(key: &SigningKey, token: &NewToken, bounds: IdBounds) -> Result<String, MintError> {
    let fleet = match (&token.fleet, token.role) {
        (Some(fleet), _) => Some(fleet.as_str()),
        (None, Bearer::Operator) => None,
        (None, _) => return Err(TokenError::Missing("fleet").into()),
    };
    bounds.check(fleet, &token.subject, None)?;
    check_grants(token, bounds)?;
    let mut header = Header::new(key.algorithm());
    header.kid.clone_from(&token.kid);
    let claims = Claims {
        sub: &token.subject,
        role: match token.role {
            Bearer::Vehicle => VEHICLE,
            Bearer::Dashboard => DASHBOARD,
            Bearer::Operator => OPERATOR,
        },
        fleet,
        iat: token.issued_unix,
        exp: token.expires_unix,
        jti: format!(
            "{:032x}",
            u128::from(getrandom::u64()?) << 64 | u128::from(getrandom::u64()?)
        ),
        iss: token.issuer.as_deref(),
        aud: token.audience.as_deref(),
        may: token.may.iter().map(|right| right.name()).collect(),
        groups: &token.groups,
        grants: token.grants.as_deref(),
    };
    Ok(encode(&header, &claims, key.encoding())?)
}

/// Reads groups and grants as a gateway does.
fn check_grants(token: &NewToken, bounds: IdBounds) -> Result<(), TokenError> {
    let bearer = match token.role {
        Bearer::Vehicle => grants::Bearer::Vehicle,
        Bearer::Dashboard => grants::Bearer::Dashboard,
        Bearer::Operator => return Ok(()),
    };
    grants::groups(token.groups.clone())?;
    let Some(entries) = token.grants.clone() else {
        return Ok(());
    };
    let wrong = |_| TokenError::Type {
        claim: "grants",
        expected: "a list of objects",
    };
    let entries = serde_json::from_value(entries.into()).map_err(wrong)?;
    grants::grants(entries, bearer, bounds.subject_bytes_max).map(drop)
}
