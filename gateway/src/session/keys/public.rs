//! Keys that check: whether a text is one, and a safe one, is found out here and not by the first token.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, ParsedPublicKey, VerificationAlgorithm,
};
use jsonwebtoken::DecodingKey;
use jsonwebtoken::jwk::{AlgorithmParameters, Jwk, RSAKeyParameters};

use super::{Key, RSA_BITS_MAX, RSA_BITS_MIN, Unusable, secret};
use crate::config::KeyAlgorithm;

/// Longest RSA exponent, in bits: that of the library that checks.
const RSA_EXPONENT_BITS_MAX: usize = 33;

impl Key {
    /// A key from the content of its file: a public key in PEM, or an HMAC secret.
    ///
    /// # Errors
    /// It is anything else.
    pub fn new(
        algorithm: KeyAlgorithm,
        content: &[u8],
        kid: Option<String>,
    ) -> Result<Self, Unusable> {
        let wrong = || Unusable::NotPublic(algorithm);
        let decoding = match algorithm {
            KeyAlgorithm::Hs256 => DecodingKey::from_secret(secret(content)?),
            _ if has_private_key(content) => return Err(Unusable::PrivateKey),
            _ if !has_tag(content, "PUBLIC KEY") => return Err(wrong()),
            KeyAlgorithm::EdDsa => DecodingKey::from_ed_pem(content).map_err(|_| wrong())?,
            KeyAlgorithm::Es256 => DecodingKey::from_ec_pem(content).map_err(|_| wrong())?,
            KeyAlgorithm::Rs256 => DecodingKey::from_rsa_pem(content).map_err(|_| wrong())?,
        };
        Self::checked(algorithm, decoding, kid)
    }

    /// A key whose parts came in whatever form, if it is a good one.
    pub(super) fn checked(
        algorithm: KeyAlgorithm,
        decoding: DecodingKey,
        kid: Option<String>,
    ) -> Result<Self, Unusable> {
        let wrong = || Unusable::NotPublic(algorithm);
        let parses = |with: &'static dyn VerificationAlgorithm| {
            let bytes = decoding.try_get_as_bytes().map_err(|_| wrong())?;
            ParsedPublicKey::new(with, bytes).map_err(|_| wrong())
        };
        match algorithm {
            KeyAlgorithm::Hs256 => {}
            KeyAlgorithm::EdDsa => drop(parses(&ED25519)?),
            KeyAlgorithm::Es256 => drop(parses(&ECDSA_P256_SHA256_FIXED)?),
            KeyAlgorithm::Rs256 => match Jwk::from_decoding_key(&decoding, None) {
                Ok(Jwk {
                    algorithm: AlgorithmParameters::RSA(parameters),
                    ..
                }) => check_rsa(&parameters)?,
                _ => return Err(wrong()),
            },
        }
        Ok(Self {
            algorithm,
            kid,
            decoding,
        })
    }
}

fn check_rsa(parameters: &RSAKeyParameters) -> Result<(), Unusable> {
    let number = |text: &str| {
        // The library takes the same alphabet; what it would not take is no key.
        data_encoding::BASE64URL_NOPAD
            .decode(text.as_bytes())
            .map_err(|_| Unusable::NotPublic(KeyAlgorithm::Rs256))
    };
    let (modulus, exponent) = (number(&parameters.n)?, number(&parameters.e)?);
    let modulus_bits = bits(&modulus);
    if !(RSA_BITS_MIN..=RSA_BITS_MAX).contains(&modulus_bits) {
        return Err(Unusable::RsaBits(modulus_bits));
    }
    let is_odd = exponent.last().is_some_and(|last| last & 1 == 1);
    if !is_odd || !(2..=RSA_EXPONENT_BITS_MAX).contains(&bits(&exponent)) {
        return Err(Unusable::RsaExponent);
    }
    Ok(())
}

/// The length of a number whose most significant byte comes first.
fn bits(number: &[u8]) -> usize {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    match &number[zeros..] {
        [] => 0,
        [first, rest @ ..] => 8 - first.leading_zeros() as usize + 8 * rest.len(),
    }
}

fn has_private_key(pem: &[u8]) -> bool {
    [
        "PRIVATE KEY",
        "EC PRIVATE KEY",
        "RSA PRIVATE KEY",
        "ENCRYPTED PRIVATE KEY",
    ]
    .iter()
    .any(|tag| has_tag(pem, tag))
}

fn has_tag(pem: &[u8], tag: &str) -> bool {
    let begin = format!("-----BEGIN {tag}-----");
    pem.windows(begin.len())
        .any(|window| window == begin.as_bytes())
}
