use std::path::PathBuf;

use serde_json::{Value, json};

use super::*;
use crate::config::{Config, KeyAlgorithm, KeySetSource, KeySource};
use crate::session::token::TokenError;
use crate::session::token::test_keys::{OTHER_PUBLIC_PEM, PUBLIC_PEM};

const NOW: u64 = 1_900_000_000;
/// The public half of the key in [`PUBLIC_PEM`].
const X: &str = "GoiLX0SvtJakfWp8KknsF1QgwwBtLSfWoEoIZu0nMqw";

struct Place {
    folder: tempfile::TempDir,
    config: Config,
}

impl Place {
    fn new() -> Place {
        Place {
            folder: tempfile::tempdir().expect("a folder"),
            config: Config::defaults().expect("the defaults are complete"),
        }
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).expect("the folder takes it");
        path
    }

    fn key(&mut self, name: &str, pem: &str) {
        let file = self.write(name, pem);
        self.config.auth.keys.push(KeySource {
            algorithm: KeyAlgorithm::EdDsa,
            file,
            kid: Some(name.to_owned()),
        });
    }

    fn url(&mut self, stale_max_s: u64) -> PathBuf {
        let cache = self.folder.path().join("cache.json");
        self.config.auth.key_sets.push(KeySetSource {
            file: None,
            url: Some("https://idp.example/keys".to_owned()),
            refresh_s: Some(100),
            stale_max_s: Some(stale_max_s),
            cache: Some(cache.clone()),
            ca: None,
        });
        cache
    }

    fn open(&self) -> Result<Arc<KeyKeeper>, KeyError> {
        KeyKeeper::open(&self.config.auth, &self.config.limits, None, NOW)
    }
}

fn set() -> Value {
    json!({ "keys": [{ "kty": "OKP", "crv": "Ed25519", "x": X, "kid": "idp-1" }] })
}

/// A token of a key that nobody has, but with this `kid`: what the verifier says of it tells whether it knows the kid.
fn says_of(keeper: &KeyKeeper, kid: &str) -> TokenError {
    let header = data_encoding::BASE64URL_NOPAD
        .encode(json!({ "alg": "EdDSA", "kid": kid }).to_string().as_bytes());
    let token = format!("{header}.e30.{}", "A".repeat(86));
    let verifier = keeper.trust().verifier();
    verifier.verify(&token, NOW).expect_err("nobody signed it")
}

#[test]
fn a_reload_takes_all_files_or_none() {
    let mut place = Place::new();
    place.key("one", PUBLIC_PEM);
    place.key("two", OTHER_PUBLIC_PEM);
    let file = place.write("set.json", &set().to_string());
    place.config.auth.key_sets.push(KeySetSource {
        file: Some(file.clone()),
        url: None,
        refresh_s: None,
        stale_max_s: None,
        cache: None,
        ca: None,
    });
    let keeper = place.open().expect("good files");
    for kid in ["one", "two", "idp-1"] {
        assert_eq!(says_of(&keeper, kid), TokenError::Signature, "{kid}");
    }
    assert_eq!(says_of(&keeper, "three"), TokenError::UnknownKey);

    let renamed = set().to_string().replace("idp-1", "idp-2");
    std::fs::write(&file, &renamed).expect("the folder takes it");
    place.write("two", "no key");
    let error = keeper.reload().expect_err("one file is broken");
    assert!(error.to_string().contains("two"), "{error}");
    assert_eq!(
        says_of(&keeper, "idp-1"),
        TokenError::Signature,
        "as it was"
    );
    assert_eq!(says_of(&keeper, "two"), TokenError::Signature, "as it was");

    place.write("two", PUBLIC_PEM);
    keeper.reload().expect("good files");
    assert_eq!(says_of(&keeper, "idp-1"), TokenError::UnknownKey);
    assert_eq!(says_of(&keeper, "idp-2"), TokenError::Signature);
}

#[test]
fn a_set_that_was_never_fetched_is_waited_for() {
    let mut place = Place::new();
    place.url(1_000);
    let keeper = place.open().expect("it starts without");
    assert!(keeper.has_keys());
    assert_eq!(says_of(&keeper, "idp-1"), TokenError::KeysPending);
    assert!(keeper.hint.take(), "somebody asked for it");
    assert!(!keeper.hint.take());
}

#[test]
fn a_kept_set_is_good_until_it_is_stale() {
    let mut place = Place::new();
    let cache = place.url(1_000);
    let kept = |url: &str, fetched_unix: u64, set: Value| {
        let cached = cache::Cached {
            url: url.to_owned(),
            fetched_unix,
            set,
        };
        cache::store(&cache, &cached).expect("the folder takes it");
        says_of(&place.open().expect("it starts"), "idp-1")
    };
    let url = "https://idp.example/keys";
    let (good, pending) = (TokenError::Signature, TokenError::KeysPending);
    assert_eq!(kept(url, NOW - 1, set()), good);
    assert_eq!(kept(url, NOW + 99_999, set()), good);
    assert_eq!(kept(url, NOW - 1_099, set()), good, "refresh and stale");
    assert_eq!(kept(url, NOW - 1_100, set()), pending, "too old");
    assert_eq!(kept("https://other.example/", NOW, set()), pending);
    assert_eq!(kept(url, NOW, json!({ "keys": [] })), pending);
    for broken in ["", "{", "[]", "{\"url\":1}"] {
        std::fs::write(&cache, broken).expect("the folder takes it");
        assert_eq!(says_of(&place.open().expect("it starts"), "idp-1"), pending);
    }
}

#[test]
fn an_unknown_key_is_told_once_until_it_was_heard() {
    let mut place = Place::new();
    let cache = place.url(1_000);
    let cached = cache::Cached {
        url: "https://idp.example/keys".to_owned(),
        fetched_unix: NOW,
        set: set(),
    };
    cache::store(&cache, &cached).expect("the folder takes it");
    let keeper = place.open().expect("it starts");
    assert_eq!(says_of(&keeper, "idp-1"), TokenError::Signature);
    assert!(!keeper.hint.take(), "a known key is no reason");
    assert_eq!(says_of(&keeper, "idp-2"), TokenError::UnknownKey);
    assert!(keeper.hint.take());
}
