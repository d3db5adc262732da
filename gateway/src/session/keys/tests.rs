use super::*;

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

use crate::session::token::test_keys::{OTHER_PUBLIC_PEM, PRIVATE_PEM, PUBLIC_PEM, SECRET};

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
