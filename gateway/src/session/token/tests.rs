use jsonwebtoken::{Algorithm, EncodingKey, encode};
use serde_json::{Value, json};

use super::test_keys::{PRIVATE_PEM, PUBLIC_PEM, SECRET};
use super::*;
use crate::config::{Config, KeyAlgorithm};
use crate::session::keys::SigningKey;
use crate::session::mint::{Bearer, MintError, NewToken, mint};
use crate::session::rights::Right;

mod signatures;

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
    Key::new(KeyAlgorithm::Hs256, SECRET, kid.map(str::to_owned)).expect("a key")
}

fn public(pem: &str, kid: Option<&str>) -> Key {
    Key::new(KeyAlgorithm::EdDsa, pem.as_bytes(), kid.map(str::to_owned)).expect("a key")
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
        issued_unix: None,
        token_id: None,
        may: Rights::default(),
        groups: Box::default(),
        grants: None,
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
    use TokenError::{
        ControlCharacter, Empty, Expired, IssuedLater, Missing, NotYetValid, TooLong, Type,
    };
    let string = "a string";
    let number = "a number of seconds";
    let rights = "a list of strings";
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
        // An operator without a fleet is the whole node's: null is no fleet, and no way to leave it out.
        (
            "fleet",
            Value::Null,
            Type {
                claim: "fleet",
                expected: string,
            },
        ),
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
            "may",
            json!("command"),
            Type {
                claim: "may",
                expected: rights,
            },
        ),
        (
            "may",
            json!(["command", 7]),
            Type {
                claim: "may",
                expected: rights,
            },
        ),
        (
            "may",
            json!({ "command": true }),
            Type {
                claim: "may",
                expected: rights,
            },
        ),
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
        ("iat", json!(NOW + 31), IssuedLater { seconds: 31 }),
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
        ("iat", json!(NOW + 30)),
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
fn a_dashboard_may_command_if_its_token_says_so() {
    let verifier = verifier(vec![secret(None)]);
    for (role, may, command) in [
        ("dashboard", json!(["command"]), true),
        ("dashboard", json!(["fly", "command"]), true),
        ("dashboard", json!(["fly", "Command"]), false),
        ("dashboard", json!([]), false),
        ("dashboard", Value::Null, false),
        ("vehicle", json!(["command"]), false),
    ] {
        let mut claims = with("role", json!(role));
        claims["may"] = may.clone();
        let identity = verifier.verify(&hs256(&claims), NOW).expect("it is good");
        assert_eq!(identity.may, Rights { command }, "{role} {may}");
    }
    let identity = verifier.verify(&hs256(&claims()), NOW).expect("it is good");
    assert!(!identity.may.command, "no claim, no right");
}

#[test]
fn an_operator_gets_in_where_operators_do_and_nobody_else() {
    let verifier = verifier(vec![secret(None)]);
    let operator = |fleet: Value, jti: Value| {
        let mut claims = with("role", json!("operator"));
        if fleet.is_null() {
            claims.as_object_mut().expect("claims").remove("fleet");
        } else {
            claims["fleet"] = fleet;
        }
        claims["jti"] = jti;
        hs256(&claims)
    };
    let mut of_null = with("role", json!("operator"));
    (of_null["fleet"], of_null["jti"]) = (Value::Null, json!("j-0"));
    assert!(verifier.verify_operator(&hs256(&of_null), NOW).is_err());
    let token = operator(Value::Null, json!("j-1"));
    let found = verifier.verify_operator(&token, NOW).expect("it is good");
    assert_eq!(
        (found.fleet, found.subject.as_str(), found.token_id.as_str()),
        (None, "truck-17", "j-1")
    );
    assert_eq!(verifier.verify(&token, NOW), Err(TokenError::Operator));
    let bound = verifier
        .verify_operator(&operator(json!("berlin"), json!("j-2")), NOW)
        .expect("it is good");
    assert_eq!(bound.fleet.as_deref(), Some("berlin"));
    for (fleet, jti, error) in [
        (json!(""), json!("j"), TokenError::Empty("fleet")),
        (Value::Null, Value::Null, TokenError::Missing("jti")),
        (Value::Null, json!(""), TokenError::Empty("jti")),
    ] {
        assert_eq!(
            verifier.verify_operator(&operator(fleet, jti), NOW),
            Err(error)
        );
    }
    for role in ["vehicle", "dashboard"] {
        assert_eq!(
            verifier.verify_operator(&hs256(&with("role", json!(role))), NOW),
            Err(TokenError::NotOperator),
            "{role}"
        );
    }
    for role in ["Operator", "admin", ""] {
        let token = hs256(&with("role", json!(role)));
        assert_eq!(verifier.verify_operator(&token, NOW), Err(TokenError::Role));
        assert_eq!(verifier.verify(&token, NOW), Err(TokenError::Role));
    }
    assert_eq!(
        verifier.verify(&"a".repeat(TOKEN_BYTES_MAX + 1), NOW),
        Err(TokenError::TooLarge(TOKEN_BYTES_MAX + 1))
    );
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
fn a_minted_token_is_accepted() {
    let new = NewToken {
        role: Bearer::Dashboard,
        fleet: Some("berlin".to_owned()),
        subject: "ops".to_owned(),
        issued_unix: NOW,
        expires_unix: NOW + 60,
        kid: Some("2026".to_owned()),
        issuer: Some("fleetco".to_owned()),
        audience: Some("longhaul".to_owned()),
        may: vec![Right::Command],
        groups: vec![],
        grants: None,
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
        SigningKey::new(KeyAlgorithm::Hs256, SECRET).expect("a key"),
        SigningKey::new(KeyAlgorithm::EdDsa, PRIVATE_PEM.as_bytes()).expect("a key"),
    ] {
        let token = mint(&key, &new, bounds).expect("a token");
        let identity = verifier.verify(&token, NOW).expect("it is good");
        assert_eq!(
            (
                identity.role,
                identity.fleet.as_str(),
                identity.subject.as_str()
            ),
            (Role::Dashboard, "berlin", "ops")
        );
        assert!(identity.token_id.is_some() && identity.may.command);
    }
    let nameless = NewToken {
        subject: String::new(),
        ..new
    };
    let key = SigningKey::new(KeyAlgorithm::Hs256, SECRET).expect("a key");
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
