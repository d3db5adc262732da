//! Which key a token is checked with, and what no key lets through.

use proptest::prelude::*;

use super::*;
use crate::session::token::test_keys::{OTHER_PUBLIC_PEM, OTHER_SECRET};

#[test]
fn the_key_decides_not_the_header() {
    let ed25519_only = verifier(vec![public(PUBLIC_PEM, None)]);
    assert_eq!(
        ed25519_only.verify(&hs256(&claims()), NOW),
        Err(TokenError::Algorithm(Algorithm::HS256))
    );
    let hs256_only = verifier(vec![secret(None)]);
    assert_eq!(
        hs256_only.verify(&eddsa(None), NOW),
        Err(TokenError::Algorithm(Algorithm::EdDSA))
    );
    assert_eq!(
        verifier(vec![]).verify(&eddsa(None), NOW),
        Err(TokenError::Algorithm(Algorithm::EdDSA))
    );

    // Another HMAC with the right secret is not HS256.
    let hs512 = sign(
        &Header::new(Algorithm::HS512),
        &claims(),
        &EncodingKey::from_secret(SECRET),
    );
    assert_eq!(
        hs256_only.verify(&hs512, NOW),
        Err(TokenError::Algorithm(Algorithm::HS512))
    );
}

/// The classic attack: sign with HMAC and the public key, which everybody has, as the secret.
#[test]
fn a_public_key_never_serves_as_an_hmac_secret() {
    let key = public(PUBLIC_PEM, Some("2026"));
    let raw = key
        .decoding()
        .try_get_as_bytes()
        .expect("its bytes")
        .to_vec();
    let both = verifier(vec![key, secret(None)]);
    for forged_secret in [
        PUBLIC_PEM.as_bytes(),
        PUBLIC_PEM.trim_end().as_bytes(),
        &raw,
    ] {
        for (kid, error) in [
            (None, TokenError::Signature),
            (Some("2026"), TokenError::Algorithm(Algorithm::HS256)),
        ] {
            let mut header = Header::new(Algorithm::HS256);
            header.kid = kid.map(str::to_owned);
            let token = sign(&header, &claims(), &EncodingKey::from_secret(forged_secret));
            assert_eq!(both.verify(&token, NOW), Err(error), "kid {kid:?}");
        }
    }
}

#[test]
fn unsigned_and_misshapen_tokens_are_refused() {
    let verifier = verifier(vec![secret(None)]);
    let good = hs256(&claims());
    let parts: Vec<&str> = good.split('.').collect();
    // {"alg":"none"} and {"alg":"None","typ":"JWT"}
    for header in ["eyJhbGciOiJub25lIn0", "eyJhbGciOiJOb25lIiwidHlwIjoiSldUIn0"] {
        for signature in ["", parts[2]] {
            let token = format!("{header}.{}.{signature}", parts[1]);
            assert_eq!(
                verifier.verify(&token, NOW),
                Err(TokenError::Malformed),
                "{token}"
            );
        }
    }
    for token in [
        "",
        ".",
        "..",
        "...",
        "a.b.c",
        "a.b",
        parts[0],
        &format!("{good}."),
        &format!(".{good}"),
    ] {
        assert_eq!(
            verifier.verify(token, NOW),
            Err(TokenError::Malformed),
            "{token}"
        );
    }
    assert_eq!(
        verifier.verify(&format!("{}.{}.", parts[0], parts[1]), NOW),
        Err(TokenError::Signature)
    );
    assert_eq!(
        verifier.verify(&format!("{}.{}.!", parts[0], parts[1]), NOW),
        Err(TokenError::Malformed)
    );
    assert_eq!(
        verifier.verify(&hs256(&json!([1, 2])), NOW),
        Err(TokenError::Claims)
    );
    assert_eq!(
        verifier.verify(&hs256(&json!("text")), NOW),
        Err(TokenError::Claims)
    );

    let mut header = Header::new(Algorithm::HS256);
    header.crit = Some(vec!["b64".to_owned()]);
    let token = sign(&header, &claims(), &EncodingKey::from_secret(SECRET));
    assert_eq!(verifier.verify(&token, NOW), Err(TokenError::Critical));
}

#[test]
fn a_kid_chooses_the_key() {
    let keys = verifier(vec![
        public(OTHER_PUBLIC_PEM, Some("old")),
        public(PUBLIC_PEM, Some("new")),
    ]);
    assert!(keys.verify(&eddsa(Some("new")), NOW).is_ok());
    assert!(
        keys.verify(&eddsa(None), NOW).is_ok(),
        "without a kid, each key of the algorithm is tried"
    );
    assert_eq!(
        keys.verify(&eddsa(Some("old")), NOW),
        Err(TokenError::Signature)
    );
    assert_eq!(
        keys.verify(&eddsa(Some("none")), NOW),
        Err(TokenError::UnknownKey)
    );

    let nameless = verifier(vec![
        public(OTHER_PUBLIC_PEM, Some("old")),
        public(PUBLIC_PEM, None),
    ]);
    assert!(
        nameless.verify(&eddsa(Some("2031")), NOW).is_ok(),
        "a key without a kid takes any"
    );
    let token = eddsa(Some("x"));
    assert_eq!(
        verifier(vec![secret(None)]).verify(&token, NOW),
        Err(TokenError::Algorithm(Algorithm::EdDSA))
    );
}

proptest! {
    #[test]
    fn no_text_makes_the_verifier_panic(token in "\\PC{0,200}") {
        prop_assert!(verifier(vec![secret(None), public(PUBLIC_PEM, None)]).verify(&token, NOW).is_err());
    }

    #[test]
    fn a_changed_byte_is_noticed(position: prop::sample::Index, byte in "[A-Za-z0-9_.-]") {
        let good = hs256(&claims());
        let position = position.index(good.len());
        prop_assume!(!good[position..].starts_with(byte.as_str()));
        let mut changed = good.clone();
        changed.replace_range(position..=position, &byte);
        // The last character of a base64url part has bits that stand for nothing; strict decoding refuses them too.
        prop_assert!(verifier(vec![secret(None)]).verify(&changed, NOW).is_err(), "{changed}");
    }

    #[test]
    fn a_token_of_another_secret_is_refused(now in 0..NOW) {
        let token = sign(&Header::new(Algorithm::HS256), &claims(), &EncodingKey::from_secret(OTHER_SECRET));
        prop_assert_eq!(verifier(vec![secret(None)]).verify(&token, now), Err(TokenError::Signature));
    }
}
