//! The keys that tokens are signed and checked with.
//!
//! A key knows its algorithm, and only that one: what a token's header says never chooses how a key is used.
//!
//! - `keys/file.rs`: reading a key's file
//! - `keys/public.rs`: keys that check: PEM files, JWKs, secrets
//! - `keys/set.rs`: JSON Web Key Sets
//! - `keys/signing.rs`: keys that sign
#![forbid(unsafe_code)]

use std::fmt;
use std::io;
use std::path::PathBuf;

use jsonwebtoken::{Algorithm, DecodingKey};

use crate::config::{KeyAlgorithm, KeySource};
use crate::limits::KEY_FILE_BYTES_MAX;

mod file;
mod public;
pub mod set;
mod signing;

pub use file::{read, warn_if_readable_by_all};
pub use signing::SigningKey;

/// Shortest HS256 secret: as long as the hash (RFC 7518 §3.2).
pub const SECRET_BYTES_MIN: usize = 32;
/// Shortest RSA modulus (RFC 7518 §3.3).
pub const RSA_BITS_MIN: usize = 2_048;
/// Longest RSA modulus: a longer one makes every check cost the gateway more than it costs an attacker to ask for it.
pub const RSA_BITS_MAX: usize = 8_192;

/// Why a key cannot be used. No message holds any of the key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file could not be read.
    #[error("cannot read the key file {path}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The file does not hold a usable key.
    #[error("the key file {path} is of no use", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with its content.
        source: Unusable,
    },
    /// The file does not hold a usable set of keys.
    #[error("the key set {path} is of no use", path = path.display())]
    Set {
        /// The file.
        path: PathBuf,
        /// What is wrong with its content.
        source: set::SetError,
    },
}

/// What is wrong with a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// An HS256 secret is too short to be safe.
    #[error(
        "an HS256 secret has at least {SECRET_BYTES_MIN} bytes, this one has {0}; make one with `openssl rand -hex 32`"
    )]
    ShortSecret(usize),
    /// PEM where a secret belongs: a public key as an HMAC secret would let anyone sign.
    #[error("it is a PEM file, which is no HS256 secret; is the algorithm EdDSA, ES256 or RS256?")]
    PemAsSecret,
    /// A private key where the public one belongs.
    #[error(
        "it holds a private key, and the gateway needs only the public one; \
         make it with `openssl pkey -in PRIVATE.pem -pubout -out PUBLIC.pem`"
    )]
    PrivateKey,
    /// Not a public key of the algorithm.
    #[error("it is not {} in PEM (\"-----BEGIN PUBLIC KEY-----\")", public_name(*.0))]
    NotPublic(KeyAlgorithm),
    /// Not a private key of the algorithm.
    #[error(
        "it is not {} in PEM (\"-----BEGIN PRIVATE KEY-----\"); make one with `openssl genpkey {} -out PRIVATE.pem`",
        private_name(*.0), how_to_make(*.0)
    )]
    NotPrivate(KeyAlgorithm),
    /// An RSA key that is too short to be safe, or too long to be checked at this rate.
    #[error("its RSA modulus has {0} bits, allowed: {RSA_BITS_MIN} to {RSA_BITS_MAX}")]
    RsaBits(usize),
    /// An RSA key whose exponent makes signatures worthless, or takes too long.
    #[error("its RSA exponent is even, or less than 3, or has more than 33 bits")]
    RsaExponent,
    /// The file is larger than any key.
    #[error("it is larger than {KEY_FILE_BYTES_MAX} bytes")]
    TooLarge,
}

fn public_name(algorithm: KeyAlgorithm) -> &'static str {
    match algorithm {
        KeyAlgorithm::Hs256 => "a secret",
        KeyAlgorithm::EdDsa => "an Ed25519 public key",
        KeyAlgorithm::Es256 => "a public key on the curve P-256",
        KeyAlgorithm::Rs256 => "an RSA public key",
    }
}

fn private_name(algorithm: KeyAlgorithm) -> &'static str {
    match algorithm {
        KeyAlgorithm::Hs256 => "a secret",
        KeyAlgorithm::EdDsa => "an Ed25519 private key",
        KeyAlgorithm::Es256 => "a private key on the curve P-256 (PKCS #8)",
        KeyAlgorithm::Rs256 => "an RSA private key of at least 2048 bits (PKCS #8)",
    }
}

fn how_to_make(algorithm: KeyAlgorithm) -> &'static str {
    match algorithm {
        KeyAlgorithm::Hs256 => "",
        KeyAlgorithm::EdDsa => "-algorithm ed25519",
        KeyAlgorithm::Es256 => "-algorithm EC -pkeyopt ec_paramgen_curve:P-256",
        KeyAlgorithm::Rs256 => "-algorithm RSA -pkeyopt rsa_keygen_bits:2048",
    }
}

/// A key that checks signatures.
#[derive(Clone)]
pub struct Key {
    algorithm: KeyAlgorithm,
    kid: Option<String>,
    decoding: DecodingKey,
}

impl Key {
    /// Reads the key that a configuration entry names.
    ///
    /// # Errors
    /// The file cannot be read, or is no key of the entry's algorithm.
    pub fn load(source: &KeySource) -> Result<Self, KeyError> {
        let content = file::read_key(&source.file)?;
        if source.algorithm == KeyAlgorithm::Hs256 {
            warn_if_readable_by_all(&source.file);
        }
        Self::new(source.algorithm, &content, source.kid.clone()).map_err(|unusable| {
            KeyError::File {
                path: source.file.clone(),
                source: unusable,
            }
        })
    }

    /// The only algorithm that this key is used with.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm.of_jwt()
    }

    /// The `kid` of the tokens that this key is for.
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// The key as the JWT library takes it.
    pub(super) fn decoding(&self) -> &DecodingKey {
        &self.decoding
    }
}

/// Says what kind of key it is and nothing of the key itself.
impl fmt::Debug for Key {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Key")
            .field("algorithm", &self.algorithm)
            .field("kid", &self.kid)
            .finish_non_exhaustive()
    }
}

impl KeyAlgorithm {
    /// The algorithm as the JWT library names it.
    pub(super) fn of_jwt(self) -> Algorithm {
        match self {
            Self::Hs256 => Algorithm::HS256,
            Self::EdDsa => Algorithm::EdDSA,
            Self::Es256 => Algorithm::ES256,
            Self::Rs256 => Algorithm::RS256,
        }
    }
}

/// An HMAC secret as it stands in a file: one line break at its end does not count.
fn secret(content: &[u8]) -> Result<&[u8], Unusable> {
    if content.windows(11).any(|window| window == b"-----BEGIN ") {
        return Err(Unusable::PemAsSecret);
    }
    let line = content.strip_suffix(b"\n").unwrap_or(content);
    let secret = line.strip_suffix(b"\r").unwrap_or(line);
    if secret.len() < SECRET_BYTES_MIN {
        return Err(Unusable::ShortSecret(secret.len()));
    }
    Ok(secret)
}

#[cfg(test)]
impl Key {
    /// A key from an HMAC secret.
    pub fn hs256(content: &[u8], kid: Option<String>) -> Result<Self, Unusable> {
        Self::new(KeyAlgorithm::Hs256, content, kid)
    }

    /// A key from an Ed25519 public key in PEM.
    pub fn ed25519(pem: &[u8], kid: Option<String>) -> Result<Self, Unusable> {
        Self::new(KeyAlgorithm::EdDsa, pem, kid)
    }
}

#[cfg(test)]
impl SigningKey {
    /// A key from an HMAC secret.
    pub fn hs256(content: &[u8]) -> Result<Self, Unusable> {
        Self::new(KeyAlgorithm::Hs256, content)
    }
}

#[cfg(test)]
mod tests;
