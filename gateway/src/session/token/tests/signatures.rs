//! Which key a token is checked with, and what no key lets through.

use proptest::prelude::*;

use super::*;
use crate::session::token::test_keys::{
    EC_PRIVATE_PEM, EC_PUBLIC_PEM, OTHER_EC_PUBLIC_PEM, OTHER_PUBLIC_PEM, OTHER_RSA_PUBLIC_PEM,
    OTHER_SECRET, P384_PRIVATE_PEM, RSA_PRIVATE_PEM, RSA_PUBLIC_PEM,
};

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

/// Each algorithm with its signing key and its public key.
fn pairs() -> [(KeyAlgorithm, &'static [u8], &'static [u8]); 4] {
    [
        (KeyAlgorithm::Hs256, SECRET, SECRET),
        (
            KeyAlgorithm::EdDsa,
            PRIVATE_PEM.as_bytes(),
            PUBLIC_PEM.as_bytes(),
        ),
        (
            KeyAlgorithm::Es256,
            EC_PRIVATE_PEM.as_bytes(),
            EC_PUBLIC_PEM.as_bytes(),
        ),
        (
            KeyAlgorithm::Rs256,
            RSA_PRIVATE_PEM.as_bytes(),
            RSA_PUBLIC_PEM.as_bytes(),
        ),
    ]
}

fn signed(algorithm: KeyAlgorithm, key: &[u8], kid: Option<&str>) -> String {
    let key = SigningKey::new(algorithm, key).expect("a key");
    let mut header = Header::new(key.algorithm());
    header.kid = kid.map(str::to_owned);
    sign(&header, &claims(), key.encoding())
}

fn key(algorithm: KeyAlgorithm, content: &[u8], kid: Option<&str>) -> Key {
    Key::new(algorithm, content, kid.map(str::to_owned)).expect("a key")
}

#[test]
fn each_algorithm_opens_what_its_own_key_signed_and_nothing_else() {
    for (algorithm, private, public) in pairs() {
        let token = signed(algorithm, private, None);
        let own = verifier(vec![key(algorithm, public, None)]);
        assert!(own.verify(&token, NOW).is_ok(), "{algorithm:?}");
        for part in 0..3 {
            // One character of each part is another one.
            let mut parts: Vec<String> = token.split('.').map(str::to_owned).collect();
            let at = parts[part].len() / 2;
            let other = if &parts[part][at..=at] == "x" {
                "y"
            } else {
                "x"
            };
            parts[part].replace_range(at..=at, other);
            let tampered = parts.join(".");
            assert!(own.verify(&tampered, NOW).is_err(), "{algorithm:?} {part}");
        }
        let others = pairs()
            .into_iter()
            .filter(|(other, ..)| *other != algorithm)
            .map(|(other, _, public)| key(other, public, None));
        assert_eq!(
            verifier(others.collect()).verify(&token, NOW),
            Err(TokenError::Algorithm(algorithm.of_jwt())),
            "{algorithm:?} with the keys of all others"
        );
        let all = pairs().map(|(each, _, public)| key(each, public, None));
        assert!(verifier(all.to_vec()).verify(&token, NOW).is_ok());
    }
    for (algorithm, private, public) in [
        (KeyAlgorithm::Hs256, OTHER_SECRET, SECRET),
        (
            KeyAlgorithm::EdDsa,
            PRIVATE_PEM.as_bytes(),
            OTHER_PUBLIC_PEM.as_bytes(),
        ),
        (
            KeyAlgorithm::Es256,
            EC_PRIVATE_PEM.as_bytes(),
            OTHER_EC_PUBLIC_PEM.as_bytes(),
        ),
        (
            KeyAlgorithm::Rs256,
            RSA_PRIVATE_PEM.as_bytes(),
            OTHER_RSA_PUBLIC_PEM.as_bytes(),
        ),
    ] {
        let wrong = verifier(vec![key(algorithm, public, None)]);
        assert_eq!(
            wrong.verify(&signed(algorithm, private, None), NOW),
            Err(TokenError::Signature),
            "{algorithm:?} with another key"
        );
    }
}

/// The public key is in everybody's hands: it must not serve as a secret, in no form that somebody may have it in.
#[test]
fn no_public_key_serves_as_an_hmac_secret() {
    for (algorithm, _, public) in pairs().into_iter().skip(1) {
        let key = key(algorithm, public, Some("2026"));
        let der = key.decoding().try_get_as_bytes().unwrap_or(&[]).to_vec();
        let both = verifier(vec![key, secret(None)]);
        for forged in [public, public.trim_ascii_end(), der.as_slice()] {
            for (kid, error) in [
                (None, TokenError::Signature),
                (Some("2026"), TokenError::Algorithm(Algorithm::HS256)),
            ] {
                let mut header = Header::new(Algorithm::HS256);
                header.kid = kid.map(str::to_owned);
                let token = sign(&header, &claims(), &EncodingKey::from_secret(forged));
                assert_eq!(
                    both.verify(&token, NOW),
                    Err(error),
                    "{algorithm:?} {kid:?}"
                );
            }
        }
    }
}

#[test]
fn algorithms_of_the_same_family_are_no_alternative() {
    let rsa = EncodingKey::from_rsa_pem(RSA_PRIVATE_PEM.as_bytes()).expect("a key");
    let verifier = verifier(vec![key(
        KeyAlgorithm::Rs256,
        RSA_PUBLIC_PEM.as_bytes(),
        None,
    )]);
    for algorithm in [
        Algorithm::RS384,
        Algorithm::RS512,
        Algorithm::PS256,
        Algorithm::PS512,
    ] {
        let token = sign(&Header::new(algorithm), &claims(), &rsa);
        assert_eq!(
            verifier.verify(&token, NOW),
            Err(TokenError::Algorithm(algorithm))
        );
    }
    let p384 = EncodingKey::from_ec_pem(P384_PRIVATE_PEM.as_bytes()).expect("a key");
    let token = sign(&Header::new(Algorithm::ES384), &claims(), &p384);
    assert_eq!(
        verifier.verify(&token, NOW),
        Err(TokenError::Algorithm(Algorithm::ES384))
    );
}

#[test]
fn no_spelling_of_none_is_an_algorithm() {
    let keys = pairs().map(|(each, _, public)| key(each, public, None));
    let verifier = verifier(keys.to_vec());
    let good = hs256(&claims());
    let parts: Vec<&str> = good.split('.').collect();
    for alg in [
        "none", "None", "NONE", "nOnE", "", "hs256", "HS256 ", "null",
    ] {
        let header = serde_json::json!({ "alg": alg, "typ": "JWT" }).to_string();
        let header = data_encoding::BASE64URL_NOPAD.encode(header.as_bytes());
        for signature in ["", parts[2]] {
            let token = format!("{header}.{}.{signature}", parts[1]);
            assert_eq!(
                verifier.verify(&token, NOW),
                Err(TokenError::Malformed),
                "{alg:?}"
            );
        }
    }
}

#[test]
fn two_keys_of_one_kid_are_both_tried() {
    let keys = verifier(vec![
        key(KeyAlgorithm::EdDsa, OTHER_PUBLIC_PEM.as_bytes(), Some("a")),
        key(KeyAlgorithm::EdDsa, PUBLIC_PEM.as_bytes(), Some("a")),
        key(KeyAlgorithm::Es256, EC_PUBLIC_PEM.as_bytes(), Some("a")),
    ]);
    for (algorithm, private) in [
        (KeyAlgorithm::EdDsa, PRIVATE_PEM),
        (KeyAlgorithm::Es256, EC_PRIVATE_PEM),
    ] {
        let token = signed(algorithm, private.as_bytes(), Some("a"));
        assert!(keys.verify(&token, NOW).is_ok(), "{algorithm:?}");
    }
}

#[test]
fn so_many_keys_are_tried_and_no_more() {
    let mut many =
        vec![key(KeyAlgorithm::EdDsa, OTHER_PUBLIC_PEM.as_bytes(), None); KEYS_TRIED_MAX];
    many.push(key(KeyAlgorithm::EdDsa, PUBLIC_PEM.as_bytes(), None));
    assert_eq!(
        verifier(many.clone()).verify(&eddsa(None), NOW),
        Err(TokenError::Signature)
    );
    many.remove(0);
    assert!(verifier(many).verify(&eddsa(None), NOW).is_ok());
}

#[test]
fn a_token_that_lasts_too_long_is_refused_if_there_is_a_bound() {
    let bound = verifier_with(vec![secret(None)], |auth| auth.lifetime_max_s = 3_600);
    let lasting = |iat: Value, exp: u64| {
        let mut claims = with("iat", iat);
        claims["exp"] = json!(exp);
        bound.verify(&hs256(&claims), NOW).map(|_| ())
    };
    assert_eq!(lasting(json!(NOW), NOW + 3_600), Ok(()));
    assert_eq!(
        lasting(json!(NOW), NOW + 3_601),
        Err(TokenError::LastsTooLong {
            seconds: 3_601,
            seconds_max: 3_600
        })
    );
    assert_eq!(
        lasting(Value::Null, NOW + 60),
        Err(TokenError::Missing("iat"))
    );
}
