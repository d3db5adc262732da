use jsonwebtoken::{Algorithm, EncodingKey, encode};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::test_keys::{OTHER_PUBLIC_PEM, OTHER_SECRET, PRIVATE_PEM, PUBLIC_PEM, SECRET};
use super::*;
use crate::config::Config;
use crate::session::keys::SigningKey;
use crate::session::mint::{Grant, MintError, mint};

const NOW: u64 = 1_900_000_000;

fn verifier_with(keys: Vec<Key>, change: impl FnOnce(&mut Auth)) -> Verifier {
    let mut config = Config::defaults().expect("the defaults are complete");
    change(&mut config.auth);
    Verifier::new(keys, &config.auth, &config.limits)
}

fn verifier(keys: Vec<Key>) -> Verifier {
    verifier_with(keys, |_| {})
}

fn secret(kid: Option<&str>) -> Key {
    Key::hs256(SECRET, kid.map(str::to_owned)).expect("a key")
}

fn public(pem: &str, kid: Option<&str>) -> Key {
    Key::ed25519(pem.as_bytes(), kid.map(str::to_owned)).expect("a key")
}

fn claims() -> Value {
    json!({ "sub": "truck-17", "role": "vehicle", "fleet": "berlin", "exp": NOW + 60 })
}

fn with(claim: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[claim] = value;
    claims
}

fn hs256(claims: &Value) -> String {
    sign(
        &Header::new(Algorithm::HS256),
        claims,
        &EncodingKey::from_secret(SECRET),
    )
}

fn sign(header: &Header, claims: &Value, key: &EncodingKey) -> String {
    encode(header, claims, key).expect("a token")
}

fn eddsa(kid: Option<&str>) -> String {
    let mut header = Header::new(Algorithm::EdDSA);
    header.kid = kid.map(str::to_owned);
    sign(
        &header,
        &claims(),
        &EncodingKey::from_ed_pem(PRIVATE_PEM.as_bytes()).expect("a key"),
    )
}

#[test]
fn a_good_token_says_who_its_bearer_is() {
    let expected = Identity {
        role: Role::Vehicle,
        fleet: "berlin".to_owned(),
        subject: "truck-17".to_owned(),
        expires_unix: NOW + 60,
        token_id: None,
    };
    let both = verifier(vec![secret(None), public(PUBLIC_PEM, None)]);
    assert_eq!(both.verify(&hs256(&claims()), NOW), Ok(expected.clone()));
    assert_eq!(both.verify(&eddsa(None), NOW), Ok(expected));

    let mut more = with("role", json!("dashboard"));
    more["jti"] = json!("t-1");
    more["whatever"] = json!({ "deep": [1, null] });
    let identity = both.verify(&hs256(&more), NOW).expect("it is good");
    assert_eq!(
        (identity.role, identity.token_id.as_deref()),
        (Role::Dashboard, Some("t-1"))
    );
}

#[test]
fn each_claim_is_checked() {
    use TokenError::{ControlCharacter, Empty, Expired, Missing, NotYetValid, TooLong, Type};
    let string = "a string";
    let number = "a number of seconds";
    let verifier = verifier(vec![secret(None)]);
    for (claim, value, error) in [
        ("sub", Value::Null, Missing("sub")),
        (
            "sub",
            json!(5),
            Type {
                claim: "sub",
                expected: string,
            },
        ),
        ("sub", json!(""), Empty("sub")),
        ("sub", json!("a\u{0}b"), ControlCharacter("sub")),
        ("sub", json!("a\u{85}b"), ControlCharacter("sub")),
        (
            "sub",
            json!("x".repeat(129)),
            TooLong {
                claim: "sub",
                bytes: 129,
                bytes_max: 128,
            },
        ),
        ("fleet", Value::Null, Missing("fleet")),
        (
            "fleet",
            json!(["a"]),
            Type {
                claim: "fleet",
                expected: string,
            },
        ),
        ("fleet", json!(""), Empty("fleet")),
        (
            "fleet",
            json!("é".repeat(33)),
            TooLong {
                claim: "fleet",
                bytes: 66,
                bytes_max: 64,
            },
        ),
        ("role", Value::Null, Missing("role")),
        ("role", json!("Vehicle"), TokenError::Role),
        (
            "role",
            json!(true),
            Type {
                claim: "role",
                expected: string,
            },
        ),
        (
            "jti",
            json!(7),
            Type {
                claim: "jti",
                expected: string,
            },
        ),
        (
            "jti",
            json!("x".repeat(129)),
            TooLong {
                claim: "jti",
                bytes: 129,
                bytes_max: 128,
            },
        ),
        ("exp", Value::Null, Missing("exp")),
        (
            "exp",
            json!("tomorrow"),
            Type {
                claim: "exp",
                expected: number,
            },
        ),
        (
            "exp",
            json!({}),
            Type {
                claim: "exp",
                expected: number,
            },
        ),
        ("exp", json!(NOW - 30), Expired { seconds: 30 }),
        ("exp", json!(-1), Expired { seconds: NOW }),
        (
            "iat",
            json!("now"),
            Type {
                claim: "iat",
                expected: number,
            },
        ),
        ("nbf", json!(NOW + 31), NotYetValid { seconds: 31 }),
        (
            "nbf",
            json!([]),
            Type {
                claim: "nbf",
                expected: number,
            },
        ),
    ] {
        assert_eq!(
            verifier.verify(&hs256(&with(claim, value.clone())), NOW),
            Err(error),
            "{claim} = {value}"
        );
    }
    for (claim, value) in [
        ("sub", json!("x".repeat(128))),
        ("sub", json!("машина 7/ü")),
        ("exp", json!(NOW - 29)),
        ("exp", json!((NOW + 60) as f64 + 0.5)),
        ("exp", json!(u64::MAX)),
        ("nbf", json!(NOW + 30)),
        ("iat", json!(NOW + 1_000)),
        ("iss", json!("anyone")),
        ("aud", json!("anything")),
    ] {
        assert!(
            verifier
                .verify(&hs256(&with(claim, value.clone())), NOW)
                .is_ok(),
            "{claim} = {value}"
        );
    }
}

#[test]
fn issuer_and_audience_are_checked_if_configured() {
    let verifier = verifier_with(vec![secret(None)], |auth| {
        auth.issuer = Some("fleetco".to_owned());
        auth.audience = Some("longhaul".to_owned());
    });
    let check = |iss: Value, aud: Value| {
        let mut claims = with("iss", iss);
        claims["aud"] = aud;
        verifier.verify(&hs256(&claims), NOW).map(|_| ())
    };
    assert_eq!(check(json!("fleetco"), json!("longhaul")), Ok(()));
    assert_eq!(
        check(json!("fleetco"), json!(["other", "longhaul"])),
        Ok(())
    );
    assert_eq!(
        check(json!("mallory"), json!("longhaul")),
        Err(TokenError::Issuer)
    );
    assert_eq!(
        check(Value::Null, json!("longhaul")),
        Err(TokenError::Issuer)
    );
    assert_eq!(
        check(json!("fleetco"), json!("other")),
        Err(TokenError::Audience)
    );
    assert_eq!(
        check(json!("fleetco"), json!(["other"])),
        Err(TokenError::Audience)
    );
    assert_eq!(
        check(json!("fleetco"), Value::Null),
        Err(TokenError::Audience)
    );
}

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

#[test]
fn a_minted_token_is_accepted() {
    let grant = Grant {
        role: Role::Dashboard,
        fleet: "berlin".to_owned(),
        subject: "ops".to_owned(),
        issued_unix: NOW,
        expires_unix: NOW + 60,
        kid: Some("2026".to_owned()),
        issuer: Some("fleetco".to_owned()),
        audience: Some("longhaul".to_owned()),
    };
    let keys = vec![secret(Some("2026")), public(PUBLIC_PEM, Some("2026"))];
    let verifier = verifier_with(keys, |auth| {
        auth.issuer = Some("fleetco".to_owned());
        auth.audience = Some("longhaul".to_owned());
    });
    let bounds = IdBounds {
        subject_bytes_max: 128,
        fleet_bytes_max: 64,
    };
    for key in [
        SigningKey::hs256(SECRET).expect("a key"),
        SigningKey::ed25519(PRIVATE_PEM.as_bytes()).expect("a key"),
    ] {
        let token = mint(&key, &grant, bounds).expect("a token");
        let identity = verifier.verify(&token, NOW).expect("it is good");
        assert_eq!(
            (
                identity.role,
                identity.fleet.as_str(),
                identity.subject.as_str()
            ),
            (Role::Dashboard, "berlin", "ops")
        );
        assert!(identity.token_id.is_some());
    }
    let nameless = Grant {
        subject: String::new(),
        ..grant
    };
    let key = SigningKey::hs256(SECRET).expect("a key");
    assert!(matches!(
        mint(&key, &nameless, bounds),
        Err(MintError::Refused(TokenError::Empty("sub")))
    ));
}

#[test]
fn neither_errors_nor_debug_output_show_token_or_secret() {
    let verifier = verifier(vec![secret(Some("2026"))]);
    let shown = format!("{verifier:?}");
    assert!(
        !shown.contains("thirty-two") && !shown.contains("97, 32, 115"),
        "{shown}"
    );
    let token = sign(
        &Header::new(Algorithm::HS256),
        &with("sub", json!("truck\u{7}hush")),
        &EncodingKey::from_secret(SECRET),
    );
    let shown = format!("{0} {0:?}", verifier.verify(&token, NOW).unwrap_err());
    assert!(
        !shown.contains("hush") && !shown.contains("berlin"),
        "{shown}"
    );
}

#[test]
fn the_verifier_is_shared_between_threads() {
    fn shared<T: Send + Sync + 'static>() {}
    shared::<Verifier>();
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
