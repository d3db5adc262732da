//! Keys that sign: for `longhaul token`, `longhaul admin` and tests.

use std::fmt;
use std::path::Path;

use jsonwebtoken::{Algorithm, EncodingKey};

use super::{KeyError, Unusable, file::read_key, secret};
use crate::config::KeyAlgorithm;

/// A key that signs tokens.
#[derive(Clone)]
pub struct SigningKey {
    algorithm: KeyAlgorithm,
    encoding: EncodingKey,
}

impl SigningKey {
    /// Reads a key that signs: an HS256 secret, or a private key in PEM (PKCS #8).
    ///
    /// # Errors
    /// The file cannot be read, or is no such key.
    pub fn load(algorithm: KeyAlgorithm, path: &Path) -> Result<Self, KeyError> {
        Self::new(algorithm, &read_key(path)?).map_err(|source| KeyError::File {
            path: path.to_owned(),
            source,
        })
    }

    /// A key from the content of its file.
    ///
    /// # Errors
    /// It is anything else.
    pub fn new(algorithm: KeyAlgorithm, content: &[u8]) -> Result<Self, Unusable> {
        let wrong = |_| Unusable::NotPrivate(algorithm);
        let encoding = match algorithm {
            KeyAlgorithm::Hs256 => EncodingKey::from_secret(secret(content)?),
            KeyAlgorithm::EdDsa => EncodingKey::from_ed_pem(content).map_err(wrong)?,
            KeyAlgorithm::Es256 => EncodingKey::from_ec_pem(content).map_err(wrong)?,
            KeyAlgorithm::Rs256 => EncodingKey::from_rsa_pem(content).map_err(wrong)?,
        };
        let key = Self {
            algorithm,
            encoding,
        };
        // A key of another curve, or a public one, is found out by using it.
        match jsonwebtoken::crypto::sign(b"", &key.encoding, key.algorithm()) {
            Ok(_) => Ok(key),
            Err(_) => Err(Unusable::NotPrivate(algorithm)),
        }
    }

    /// The algorithm that goes into the token's header.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm.of_jwt()
    }

    /// The key as the JWT library takes it.
    pub(in crate::session) fn encoding(&self) -> &EncodingKey {
        &self.encoding
    }
}

/// Says what kind of key it is and nothing of the key itself.
impl fmt::Debug for SigningKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("SigningKey")
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}
