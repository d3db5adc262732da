//! JSON Web Key Sets (RFC 7517 §5): what an identity provider publishes, or a file holds.
//!
//! Keys that are of no use here (of another algorithm, for encryption) are left out, because providers publish them side
//! by side with those that are. A set in which none is of use is an error.

use jsonwebtoken::jwk::{
    AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm as JwkAlgorithm, KeyOperations,
    PublicKeyUse,
};
use serde::Deserialize;
use serde_json::Value;

use super::Key;
use crate::config::KeyAlgorithm;
use crate::limits::{KEYS_PER_SET_MAX, KID_BYTES_MAX};

/// Where a set comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A file of this machine, which may hold secrets.
    File,
    /// Somewhere else: what stands there is known to others.
    Elsewhere,
}

/// The keys of a set that are of use.
#[derive(Debug, Clone)]
pub struct Set {
    /// At least one.
    pub keys: Vec<Key>,
    /// How many others there are.
    pub left_out: usize,
}

/// Why a set is of no use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SetError {
    /// Not of the form `{"keys": [...]}`.
    #[error("it is no JSON Web Key Set, such as {{\"keys\": [{{\"kty\": \"OKP\", ...}}]}}")]
    Form,
    /// Too many keys.
    #[error("it has {0} keys, allowed: up to {KEYS_PER_SET_MAX}")]
    TooMany(usize),
    /// Larger than a set may be.
    #[error("it is larger than {} bytes", crate::limits::KEY_SET_BYTES_MAX)]
    TooLarge,
    /// None of use.
    #[error("none of its {count} keys is of use; the first one {first}")]
    NothingOfUse {
        /// How many there are.
        count: usize,
        /// Why the first one is not.
        first: &'static str,
    },
}

#[derive(Deserialize)]
struct Document {
    keys: Vec<Value>,
}

/// Reads a set. `algorithms`: which ones are allowed; empty: all.
///
/// # Errors
/// See [`SetError`].
pub fn parse(json: &[u8], origin: Origin, algorithms: &[KeyAlgorithm]) -> Result<Set, SetError> {
    let document: Document = serde_json::from_slice(json).map_err(|_| SetError::Form)?;
    let count = document.keys.len();
    if count > KEYS_PER_SET_MAX {
        return Err(SetError::TooMany(count));
    }
    let mut first = None;
    let mut keys = Vec::new();
    for value in document.keys {
        match usable(value, origin, algorithms) {
            Ok(key) => keys.push(key),
            Err(why) => {
                first.get_or_insert(why);
            }
        }
    }
    if keys.is_empty() {
        let first = first.unwrap_or("is missing");
        return Err(SetError::NothingOfUse { count, first });
    }
    let left_out = count - keys.len();
    Ok(Set { keys, left_out })
}

fn usable(value: Value, origin: Origin, algorithms: &[KeyAlgorithm]) -> Result<Key, &'static str> {
    if value.get("d").is_some() {
        return Err("is a private key, which nobody but its owner may have");
    }
    let jwk: Jwk = serde_json::from_value(value).map_err(|_| "is no JWK (RFC 7517)")?;
    let common = &jwk.common;
    if !matches!(common.public_key_use, None | Some(PublicKeyUse::Signature)) {
        return Err("is not for signatures (`use`)");
    }
    if let Some(operations) = &common.key_operations
        && !operations.contains(&KeyOperations::Verify)
    {
        return Err("is not for checking signatures (`key_ops`)");
    }
    let (algorithm, named) = match &jwk.algorithm {
        AlgorithmParameters::OctetKeyPair(pair) if pair.curve == EllipticCurve::Ed25519 => {
            (KeyAlgorithm::EdDsa, JwkAlgorithm::EdDSA)
        }
        AlgorithmParameters::EllipticCurve(point) if point.curve == EllipticCurve::P256 => {
            (KeyAlgorithm::Es256, JwkAlgorithm::ES256)
        }
        AlgorithmParameters::RSA(_) => (KeyAlgorithm::Rs256, JwkAlgorithm::RS256),
        AlgorithmParameters::OctetKey(_) if origin == Origin::File => {
            (KeyAlgorithm::Hs256, JwkAlgorithm::HS256)
        }
        AlgorithmParameters::OctetKey(_) => {
            return Err("is a secret (`oct`), and what is published is none");
        }
        _ => return Err("is none of Ed25519, P-256 and RSA"),
    };
    if common.key_algorithm.is_some_and(|other| other != named) {
        return Err("is for an algorithm (`alg`) that is none of EdDSA, ES256 and RS256");
    }
    if !algorithms.is_empty() && !algorithms.contains(&algorithm) {
        return Err("is for an algorithm that auth.algorithms does not have");
    }
    let kid = common.key_id.clone();
    if kid.as_ref().is_some_and(|kid| kid.len() > KID_BYTES_MAX) {
        return Err("has a `kid` that is too long");
    }
    let decoding =
        jsonwebtoken::DecodingKey::from_jwk(&jwk).map_err(|_| "has a part that is no base64url")?;
    if algorithm == KeyAlgorithm::Hs256
        && decoding
            .try_get_as_bytes()
            .is_ok_and(|secret| secret.len() < super::SECRET_BYTES_MIN)
    {
        return Err("is a secret that is too short to be safe");
    }
    Key::checked(algorithm, decoding, kid)
        .map_err(|_| "is not a point of its curve, or not an RSA key of a safe size")
}
