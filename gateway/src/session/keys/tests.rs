use serde_json::json;

use super::set::{Origin, Set, SetError};
use super::*;
use crate::limits::KEYS_PER_SET_MAX;

fn hs256(content: &[u8], kid: Option<String>) -> Result<Key, Unusable> {
    Key::new(KeyAlgorithm::Hs256, content, kid)
}

fn ed25519(content: &[u8], kid: Option<String>) -> Result<Key, Unusable> {
    Key::new(KeyAlgorithm::EdDsa, content, kid)
}

fn sign_hs256(content: &[u8]) -> Result<SigningKey, Unusable> {
    SigningKey::new(KeyAlgorithm::Hs256, content)
}

fn sign_ed25519(content: &[u8]) -> Result<SigningKey, Unusable> {
    SigningKey::new(KeyAlgorithm::EdDsa, content)
}

use crate::session::token::test_keys::{
    EC_PRIVATE_PEM, EC_PUBLIC_PEM, K1_PUBLIC_PEM, OTHER_PUBLIC_PEM, P384_PRIVATE_PEM,
    P384_PUBLIC_PEM, PRIVATE_PEM, PUBLIC_PEM, RSA_PKCS1_PEM, RSA_PRIVATE_PEM, RSA_PUBLIC_PEM,
    SECRET, SHORT_RSA_PUBLIC_PEM,
};

#[test]
fn a_secret_is_long_enough_and_no_pem() {
    assert!(hs256(SECRET, None).is_ok());
    assert!(hs256(&[7; SECRET_BYTES_MIN], None).is_ok());
    assert_eq!(
        hs256(&[7; SECRET_BYTES_MIN - 1], None).unwrap_err(),
        Unusable::ShortSecret(31)
    );
    let mut with_line_break = [7; SECRET_BYTES_MIN];
    with_line_break[SECRET_BYTES_MIN - 1] = b'\n';
    assert_eq!(
        hs256(&with_line_break, None).unwrap_err(),
        Unusable::ShortSecret(31)
    );
    assert_eq!(
        hs256(PUBLIC_PEM.as_bytes(), None).unwrap_err(),
        Unusable::PemAsSecret
    );
    assert_eq!(
        sign_hs256(PRIVATE_PEM.as_bytes()).unwrap_err(),
        Unusable::PemAsSecret
    );
}

#[test]
fn an_ed25519_key_is_the_half_that_is_needed() {
    assert!(ed25519(PUBLIC_PEM.as_bytes(), None).is_ok());
    assert!(ed25519(OTHER_PUBLIC_PEM.as_bytes(), None).is_ok());
    assert_eq!(
        ed25519(PRIVATE_PEM.as_bytes(), None).unwrap_err(),
        Unusable::PrivateKey
    );
    assert_eq!(
        ed25519(SECRET, None).unwrap_err(),
        Unusable::NotPublic(KeyAlgorithm::EdDsa)
    );
    assert_eq!(
        ed25519(b"", None).unwrap_err(),
        Unusable::NotPublic(KeyAlgorithm::EdDsa)
    );
    assert!(sign_ed25519(PRIVATE_PEM.as_bytes()).is_ok());
    assert_eq!(
        sign_ed25519(PUBLIC_PEM.as_bytes()).unwrap_err(),
        Unusable::NotPrivate(KeyAlgorithm::EdDsa)
    );
    let truncated = &PUBLIC_PEM.as_bytes()[..60];
    assert_eq!(
        ed25519(truncated, None).unwrap_err(),
        Unusable::NotPublic(KeyAlgorithm::EdDsa)
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
    std::fs::write(&file, vec![b'a'; KEY_FILE_BYTES_MAX as usize + 1]).expect("a file");
    assert!(refusal(Key::load(&source)).contains("larger than 65536 bytes"));
    std::fs::write(&file, vec![b'a'; KEY_FILE_BYTES_MAX as usize]).expect("a file");
    assert!(Key::load(&source).is_ok());
}

#[test]
fn debug_output_holds_nothing_of_a_key() {
    let secret = "correct horse battery staple, and some more";
    let shown = format!(
        "{:?} {:?} {:?}",
        hs256(secret.as_bytes(), Some("2026".to_owned())).expect("a key"),
        sign_hs256(secret.as_bytes()).expect("a key"),
        sign_ed25519(PRIVATE_PEM.as_bytes()).expect("a key"),
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

#[test]
fn a_public_key_is_of_its_algorithm_and_safe() {
    use KeyAlgorithm::{EdDsa, Es256, Rs256};
    let load = |algorithm, pem: &str| Key::new(algorithm, pem.as_bytes(), None).map(|_| ());
    for (algorithm, pem) in [
        (EdDsa, PUBLIC_PEM),
        (Es256, EC_PUBLIC_PEM),
        (Rs256, RSA_PUBLIC_PEM),
    ] {
        assert_eq!(load(algorithm, pem), Ok(()), "{algorithm:?}");
        for other in [EdDsa, Es256, Rs256] {
            if other != algorithm {
                assert_eq!(load(other, pem), Err(Unusable::NotPublic(other)));
            }
        }
    }
    for pem in [PRIVATE_PEM, EC_PRIVATE_PEM, RSA_PRIVATE_PEM] {
        for algorithm in [EdDsa, Es256, Rs256] {
            assert_eq!(load(algorithm, pem), Err(Unusable::PrivateKey));
        }
    }
    assert_eq!(
        load(Es256, P384_PUBLIC_PEM),
        Err(Unusable::NotPublic(Es256))
    );
    assert_eq!(load(Es256, K1_PUBLIC_PEM), Err(Unusable::NotPublic(Es256)));
    assert_eq!(
        load(Rs256, SHORT_RSA_PUBLIC_PEM),
        Err(Unusable::RsaBits(1_024))
    );
    assert_eq!(load(Rs256, RSA_PKCS1_PEM), Err(Unusable::NotPublic(Rs256)));
    for (algorithm, pem) in [
        (EdDsa, EC_PRIVATE_PEM),
        (Es256, P384_PRIVATE_PEM),
        (Es256, RSA_PRIVATE_PEM),
        (Rs256, EC_PRIVATE_PEM),
        (Rs256, RSA_PUBLIC_PEM),
        (Es256, EC_PUBLIC_PEM),
    ] {
        assert_eq!(
            SigningKey::new(algorithm, pem.as_bytes()).map(|_| ()),
            Err(Unusable::NotPrivate(algorithm)),
            "{algorithm:?}"
        );
    }
}

fn jwk(of: serde_json::Value) -> serde_json::Value {
    let mut key = json!({ "kty": "OKP", "crv": "Ed25519", "x": X, "kid": "a" });
    for (name, value) in of.as_object().expect("an object") {
        key[name] = value.clone();
    }
    key
}

const X: &str = "GoiLX0SvtJakfWp8KknsF1QgwwBtLSfWoEoIZu0nMqw";

fn parse(keys: &[serde_json::Value], origin: Origin) -> Result<Set, SetError> {
    let text = json!({ "keys": keys }).to_string();
    set::parse(text.as_bytes(), origin, &[])
}

#[test]
fn a_set_has_the_keys_of_every_kind() {
    let numbers = |pem: &str, algorithm| {
        let key = Key::new(algorithm, pem.as_bytes(), None).expect("a key");
        serde_json::to_value(
            jsonwebtoken::jwk::Jwk::from_decoding_key(key.decoding(), Some(key.algorithm()))
                .expect("its parts"),
        )
        .expect("JSON")
    };
    let secret = json!({ "kty": "oct", "k": data_encoding::BASE64URL_NOPAD.encode(SECRET) });
    let all = [
        jwk(json!({})),
        numbers(EC_PUBLIC_PEM, KeyAlgorithm::Es256),
        numbers(RSA_PUBLIC_PEM, KeyAlgorithm::Rs256),
        secret,
    ];
    let kinds = |set: Set| set.keys.iter().map(Key::algorithm).collect::<Vec<_>>();
    assert_eq!(
        kinds(parse(&all, Origin::File).expect("good")),
        [
            Algorithm::EdDSA,
            Algorithm::ES256,
            Algorithm::RS256,
            Algorithm::HS256
        ]
    );
    let elsewhere = parse(&all, Origin::Elsewhere).expect("good");
    assert_eq!(elsewhere.left_out, 1);
    assert_eq!(
        kinds(elsewhere),
        [Algorithm::EdDSA, Algorithm::ES256, Algorithm::RS256]
    );
    let text = json!({ "keys": all }).to_string();
    let only = set::parse(text.as_bytes(), Origin::File, &[KeyAlgorithm::Es256]).expect("good");
    assert_eq!((only.keys.len(), only.left_out), (1, 3));
}

#[test]
fn a_key_of_a_set_that_is_of_no_use_is_left_out_with_its_reason() {
    let short = json!({ "kty": "oct", "k": "c2hvcnQ" });
    for (key, says) in [
        (jwk(json!({ "d": "AAAA" })), "private key"),
        (jwk(json!({ "use": "enc" })), "not for signatures"),
        (jwk(json!({ "key_ops": ["sign"] })), "key_ops"),
        (jwk(json!({ "alg": "RS256" })), "`alg`"),
        (jwk(json!({ "alg": "whatever" })), "`alg`"),
        (jwk(json!({ "crv": "X25519" })), "none of"),
        (jwk(json!({ "kty": "new" })), "none of"),
        (jwk(json!({ "kid": "k".repeat(257) })), "too long"),
        (jwk(json!({ "kid": 5 })), "no JWK"),
        (jwk(json!({ "x": "!" })), "base64url"),
        (jwk(json!({ "x": "AAAA" })), "point of its curve"),
        (
            json!({ "kty": "RSA", "n": "AAAA", "e": "AQAB" }),
            "safe size",
        ),
        (
            json!({ "kty": "EC", "crv": "P-256", "x": X, "y": X }),
            "point of its curve",
        ),
        (
            json!({ "kty": "EC", "crv": "P-384", "x": X, "y": X }),
            "none of",
        ),
        (short, "too short"),
        (json!(5), "no JWK"),
    ] {
        let error = parse(std::slice::from_ref(&key), Origin::File).expect_err("of no use");
        let SetError::NothingOfUse { count: 1, first } = error else {
            panic!("{key}: {error}")
        };
        assert!(first.contains(says), "{key}: {first}");
        let beside = parse(&[key, jwk(json!({}))], Origin::File).expect("one is good");
        assert_eq!((beside.keys.len(), beside.left_out), (1, 1));
    }
    for good in [
        jwk(json!({ "use": "sig", "alg": "EdDSA", "key_ops": ["verify"] })),
        jwk(json!({ "x5t": "AAAA", "whatever": { "deep": [1] } })),
    ] {
        assert!(parse(&[good], Origin::Elsewhere).is_ok());
    }
}

#[test]
fn a_set_has_its_form_and_its_bounds() {
    for text in ["", "[]", "{}", "{\"keys\": {}}", "null", "{\"keys\": [}"] {
        assert_eq!(
            set::parse(text.as_bytes(), Origin::File, &[]).map(|_| ()),
            Err(SetError::Form),
            "{text}"
        );
    }
    assert!(matches!(
        parse(&[], Origin::File),
        Err(SetError::NothingOfUse { count: 0, .. })
    ));
    let many = vec![jwk(json!({})); KEYS_PER_SET_MAX + 1];
    assert!(parse(&many[1..], Origin::File).is_ok());
    assert_eq!(
        parse(&many, Origin::File).map(|_| ()),
        Err(SetError::TooMany(65))
    );
}
