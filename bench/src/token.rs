//! Development tokens, minted with the gateway's own key (RFC 7519, HS256).

use std::path::Path;

use anyhow::Context;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde::{Deserialize, Serialize};

/// The fleet that all generated vehicles belong to.
pub const FLEET: &str = "bench";

/// What a token may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Reports its own position.
    Vehicle,
    /// Watches vehicles.
    Dashboard,
}

#[derive(Serialize)]
struct Claims<'a> {
    sub: &'a str,
    role: Role,
    fleet: &'a str,
    iat: u64,
    exp: u64,
}

/// Mints tokens from one key.
pub struct Mint {
    key: EncodingKey,
    iat: u64,
}

impl Mint {
    /// Reads the secret: the file's content without a trailing line break.
    ///
    /// # Errors
    /// The file is unreadable or empty.
    pub fn from_file(path: &Path) -> anyhow::Result<Self> {
        let content = std::fs::read(path)
            .with_context(|| format!("reading the token key {}", path.display()))?;
        let end = content
            .iter()
            .rposition(|byte| !matches!(byte, b'\n' | b'\r'));
        let secret = &content[..end.map_or(0, |last| last + 1)];
        anyhow::ensure!(
            !secret.is_empty(),
            "the token key {} is empty",
            path.display()
        );
        Ok(Self {
            key: EncodingKey::from_secret(secret),
            iat: crate::clock::wall_ms() / 1_000,
        })
    }

    /// A token that is good for a day.
    ///
    /// # Errors
    /// The signature cannot be made (never, with HS256).
    pub fn token(&self, subject: &str, role: Role) -> anyhow::Result<String> {
        let claims = Claims {
            sub: subject,
            role,
            fleet: FLEET,
            iat: self.iat,
            exp: self.iat + 86_400,
        };
        Ok(encode(&Header::new(Algorithm::HS256), &claims, &self.key)?)
    }
}
