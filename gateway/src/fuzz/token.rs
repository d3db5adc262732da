//! Tokens: any text, any header, and any claims under a good signature.

use std::sync::LazyLock;

use bolero::check;
use jsonwebtoken::{Algorithm, EncodingKey, crypto};

use crate::config::Config;
use crate::session::keys::Key;
use crate::session::token::test_keys::{PUBLIC_PEM, SECRET};
use crate::session::token::{IdBounds, Verifier};

const NOW: u64 = 1_900_000_000;
const GOOD_HEADER: &[u8] = br#"{"alg":"HS256","typ":"JWT"}"#;
const GOOD_CLAIMS: &[u8] =
    br#"{"sub":"truck-17","role":"vehicle","fleet":"berlin","exp":1900000060}"#;

struct Fixture {
    verifier: Verifier,
    bounds: IdBounds,
    leeway_s: u64,
    key: EncodingKey,
}

static FIXTURE: LazyLock<Fixture> = LazyLock::new(|| {
    let config = Config::defaults().expect("the defaults are complete");
    let keys = vec![
        Key::hs256(SECRET, None).expect("a key"),
        Key::ed25519(PUBLIC_PEM.as_bytes(), Some("k1".to_owned())).expect("a key"),
    ];
    Fixture {
        verifier: Verifier::new(keys, &config.auth, &config.limits),
        bounds: IdBounds::new(&config.limits),
        leeway_s: config.auth.leeway_s,
        key: EncodingKey::from_secret(SECRET),
    }
});

/// The first byte says what the rest is: claims, a header, or the whole token.
#[test]
fn token() {
    check!(name = "token").for_each(|input: &[u8]| {
        let Some((&kind, bytes)) = input.split_first() else {
            return;
        };
        match kind % 3 {
            0 => check_token(&signed(GOOD_HEADER, bytes)),
            1 => check_token(&signed(bytes, GOOD_CLAIMS)),
            _ => {
                if let Ok(text) = std::str::from_utf8(bytes) {
                    check_token(text);
                }
            }
        }
    });
}

fn signed(header: &[u8], claims: &[u8]) -> String {
    let message = format!("{}.{}", base64url(header), base64url(claims));
    let signature = crypto::sign(message.as_bytes(), &FIXTURE.key, Algorithm::HS256)
        .expect("HMAC takes any message");
    format!("{message}.{signature}")
}

/// RFC 4648 §5, without padding (RFC 7515 §2).
fn base64url(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits = (0..3).fold(0_usize, |bits, n| {
            bits << 8 | usize::from(*chunk.get(n).unwrap_or(&0))
        });
        for n in 0..=chunk.len() {
            text.push(char::from(LETTERS[bits >> (18 - 6 * n) & 63]));
        }
    }
    text
}

fn check_token(token: &str) {
    match FIXTURE.verifier.verify(token, NOW) {
        Ok(identity) => {
            assert!(identity.expires_unix.saturating_add(FIXTURE.leeway_s) > NOW);
            let id = identity.token_id.as_deref();
            FIXTURE
                .bounds
                .check(Some(&identity.fleet), &identity.subject, id)
                .expect("ids within their bounds");
        }
        Err(error) => {
            let says = error.to_string();
            assert!(!says.is_empty() && !says.contains('\n'));
            assert!(token.len() < 40 || !says.contains(token) || is_our_own(token));
        }
    }
}

/// Somebody may send what the gateway says itself: then it says so of another token, too.
fn is_our_own(token: &str) -> bool {
    let other: String = token.chars().skip(1).collect();
    let says = FIXTURE.verifier.verify(&other, NOW);
    says.is_err_and(|error| error.to_string().contains(token))
}

#[test]
fn a_good_token_gets_through_the_fixture() {
    let token = signed(GOOD_HEADER, GOOD_CLAIMS);
    let identity = FIXTURE.verifier.verify(&token, NOW).expect("it is good");
    assert_eq!(identity.subject, "truck-17");
}
