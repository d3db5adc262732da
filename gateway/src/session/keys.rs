//! The keys that tokens are signed and checked with, and how they are read from files.
//!
//! A key knows its algorithm, and only that one: what a token's header says never chooses how a key is used.
#![forbid(unsafe_code)]

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey};

use crate::config::{KeyAlgorithm, KeySource};

/// Shortest HS256 secret: as long as the hash (RFC 7518 §3.2).
pub const SECRET_BYTES_MIN: usize = 32;
/// No key file is larger.
const FILE_BYTES_MAX: u64 = 65_536;
/// Length of an Ed25519 public key (RFC 8032 §5.1.5).
const ED25519_PUBLIC_BYTES: usize = 32;

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
    #[error("it is a PEM file, which is no HS256 secret; is the algorithm EdDSA?")]
    PemAsSecret,
    /// A private key where the public one belongs.
    #[error(
        "it holds a private key, and the gateway needs only the public one; \
         make it with `openssl pkey -in PRIVATE.pem -pubout -out PUBLIC.pem`"
    )]
    PrivateKey,
    /// Not an Ed25519 public key.
    #[error("it is not an Ed25519 public key in PEM (\"-----BEGIN PUBLIC KEY-----\")")]
    NotEd25519Public,
    /// Not an Ed25519 private key.
    #[error(
        "it is not an Ed25519 private key in PEM (\"-----BEGIN PRIVATE KEY-----\"); \
         make one with `openssl genpkey -algorithm ed25519 -out PRIVATE.pem`"
    )]
    NotEd25519Private,
    /// The file is larger than any key.
    #[error("it is larger than {FILE_BYTES_MAX} bytes")]
    TooLarge,
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
        let content = read(&source.file)?;
        let key = match source.algorithm {
            KeyAlgorithm::Hs256 => {
                warn_if_readable_by_all(&source.file);
                Self::hs256(&content, source.kid.clone())
            }
            KeyAlgorithm::EdDsa => Self::ed25519(&content, source.kid.clone()),
        };
        key.map_err(|unusable| KeyError::File {
            path: source.file.clone(),
            source: unusable,
        })
    }

    /// A key from an HMAC secret; one line break at its end does not count.
    ///
    /// # Errors
    /// The secret is too short, or a PEM file.
    pub fn hs256(content: &[u8], kid: Option<String>) -> Result<Self, Unusable> {
        let decoding = DecodingKey::from_secret(secret(content)?);
        Ok(Self {
            algorithm: KeyAlgorithm::Hs256,
            kid,
            decoding,
        })
    }

    /// A key from an Ed25519 public key in PEM.
    ///
    /// # Errors
    /// The text is anything else.
    pub fn ed25519(pem: &[u8], kid: Option<String>) -> Result<Self, Unusable> {
        if has_tag(pem, "PRIVATE KEY") {
            return Err(Unusable::PrivateKey);
        }
        if !has_tag(pem, "PUBLIC KEY") {
            return Err(Unusable::NotEd25519Public);
        }
        let decoding = DecodingKey::from_ed_pem(pem).map_err(|_| Unusable::NotEd25519Public)?;
        match decoding.try_get_as_bytes() {
            Ok(bytes) if bytes.len() == ED25519_PUBLIC_BYTES => {}
            _ => return Err(Unusable::NotEd25519Public),
        }
        Ok(Self {
            algorithm: KeyAlgorithm::EdDsa,
            kid,
            decoding,
        })
    }

    /// The only algorithm that this key is used with.
    pub fn algorithm(&self) -> Algorithm {
        jwt_algorithm(self.algorithm)
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

/// A key that signs tokens.
#[derive(Clone)]
pub struct SigningKey {
    algorithm: KeyAlgorithm,
    encoding: EncodingKey,
}

impl SigningKey {
    /// Reads a key that signs: an HS256 secret, or an Ed25519 private key in PEM.
    ///
    /// # Errors
    /// The file cannot be read, or is no such key.
    pub fn load(algorithm: KeyAlgorithm, path: &Path) -> Result<Self, KeyError> {
        let content = read(path)?;
        let key = match algorithm {
            KeyAlgorithm::Hs256 => Self::hs256(&content),
            KeyAlgorithm::EdDsa => Self::ed25519(&content),
        };
        key.map_err(|source| KeyError::File {
            path: path.to_owned(),
            source,
        })
    }

    /// A key from an HMAC secret; one line break at its end does not count.
    ///
    /// # Errors
    /// The secret is too short, or a PEM file.
    pub fn hs256(content: &[u8]) -> Result<Self, Unusable> {
        Ok(Self {
            algorithm: KeyAlgorithm::Hs256,
            encoding: EncodingKey::from_secret(secret(content)?),
        })
    }

    /// A key from an Ed25519 private key in PEM (PKCS #8).
    ///
    /// # Errors
    /// The text is anything else.
    pub fn ed25519(pem: &[u8]) -> Result<Self, Unusable> {
        let encoding = EncodingKey::from_ed_pem(pem).map_err(|_| Unusable::NotEd25519Private)?;
        Ok(Self {
            algorithm: KeyAlgorithm::EdDsa,
            encoding,
        })
    }

    /// The algorithm that goes into the token's header.
    pub fn algorithm(&self) -> Algorithm {
        jwt_algorithm(self.algorithm)
    }

    /// The key as the JWT library takes it.
    pub(super) fn encoding(&self) -> &EncodingKey {
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

fn jwt_algorithm(algorithm: KeyAlgorithm) -> Algorithm {
    match algorithm {
        KeyAlgorithm::Hs256 => Algorithm::HS256,
        KeyAlgorithm::EdDsa => Algorithm::EdDSA,
    }
}

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

fn has_tag(pem: &[u8], tag: &str) -> bool {
    let begin = format!("-----BEGIN {tag}-----");
    pem.windows(begin.len())
        .any(|window| window == begin.as_bytes())
}

fn read(path: &Path) -> Result<Vec<u8>, KeyError> {
    let failed = |source| KeyError::Read {
        path: path.to_owned(),
        source,
    };
    let mut content = Vec::new();
    File::open(path)
        .map_err(failed)?
        .take(FILE_BYTES_MAX + 1)
        .read_to_end(&mut content)
        .map_err(failed)?;
    if content.len() as u64 > FILE_BYTES_MAX {
        return Err(KeyError::File {
            path: path.to_owned(),
            source: Unusable::TooLarge,
        });
    }
    Ok(content)
}

/// A secret that every user of the machine can read is worth a word, but some secret stores mount files like that.
pub fn warn_if_readable_by_all(path: &Path) {
    const READABLE_BY_ALL: u32 = 0o004;
    if path
        .metadata()
        .is_ok_and(|file| file.permissions().mode() & READABLE_BY_ALL != 0)
    {
        tracing::warn!(file = %path.display(), "every user of this machine can read this secret; chmod 600 it");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::token::test_keys::{OTHER_PUBLIC_PEM, PRIVATE_PEM, PUBLIC_PEM, SECRET};

    #[test]
    fn a_secret_is_long_enough_and_no_pem() {
        assert!(Key::hs256(SECRET, None).is_ok());
        assert!(Key::hs256(&[7; SECRET_BYTES_MIN], None).is_ok());
        assert_eq!(
            Key::hs256(&[7; SECRET_BYTES_MIN - 1], None).unwrap_err(),
            Unusable::ShortSecret(31)
        );
        let mut with_line_break = [7; SECRET_BYTES_MIN];
        with_line_break[SECRET_BYTES_MIN - 1] = b'\n';
        assert_eq!(
            Key::hs256(&with_line_break, None).unwrap_err(),
            Unusable::ShortSecret(31)
        );
        assert_eq!(
            Key::hs256(PUBLIC_PEM.as_bytes(), None).unwrap_err(),
            Unusable::PemAsSecret
        );
        assert_eq!(
            SigningKey::hs256(PRIVATE_PEM.as_bytes()).unwrap_err(),
            Unusable::PemAsSecret
        );
    }

    #[test]
    fn an_ed25519_key_is_the_half_that_is_needed() {
        assert!(Key::ed25519(PUBLIC_PEM.as_bytes(), None).is_ok());
        assert!(Key::ed25519(OTHER_PUBLIC_PEM.as_bytes(), None).is_ok());
        assert_eq!(
            Key::ed25519(PRIVATE_PEM.as_bytes(), None).unwrap_err(),
            Unusable::PrivateKey
        );
        assert_eq!(
            Key::ed25519(SECRET, None).unwrap_err(),
            Unusable::NotEd25519Public
        );
        assert_eq!(
            Key::ed25519(b"", None).unwrap_err(),
            Unusable::NotEd25519Public
        );
        assert!(SigningKey::ed25519(PRIVATE_PEM.as_bytes()).is_ok());
        assert_eq!(
            SigningKey::ed25519(PUBLIC_PEM.as_bytes()).unwrap_err(),
            Unusable::NotEd25519Private
        );
        let truncated = &PUBLIC_PEM.as_bytes()[..60];
        assert_eq!(
            Key::ed25519(truncated, None).unwrap_err(),
            Unusable::NotEd25519Public
        );
    }

    /// The whole chain of causes.
    fn refusal(key: Result<Key, KeyError>) -> String {
        format!("{:#}", anyhow::Error::from(key.unwrap_err()))
    }

    #[test]
    fn a_file_that_is_missing_or_huge_is_named() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("absent.key");
        let source = KeySource {
            algorithm: KeyAlgorithm::Hs256,
            file: file.clone(),
            kid: None,
        };
        assert!(refusal(Key::load(&source)).contains("absent.key"));
        std::fs::write(&file, vec![b'a'; FILE_BYTES_MAX as usize + 1]).expect("a file");
        assert!(refusal(Key::load(&source)).contains("larger than 65536 bytes"));
        std::fs::write(&file, vec![b'a'; FILE_BYTES_MAX as usize]).expect("a file");
        assert!(Key::load(&source).is_ok());
    }

    #[test]
    fn debug_output_holds_nothing_of_a_key() {
        let secret = "correct horse battery staple, and some more";
        let shown = format!(
            "{:?} {:?} {:?}",
            Key::hs256(secret.as_bytes(), Some("2026".to_owned())).expect("a key"),
            SigningKey::hs256(secret.as_bytes()).expect("a key"),
            SigningKey::ed25519(PRIVATE_PEM.as_bytes()).expect("a key"),
        );
        assert!(shown.contains("2026") && shown.contains("Hs256"), "{shown}");
        for leak in [
            "horse",
            "99, 111, 114",
            PRIVATE_PEM.lines().nth(1).expect("a body"),
        ] {
            assert!(!shown.contains(leak), "{shown}");
        }
    }
}
