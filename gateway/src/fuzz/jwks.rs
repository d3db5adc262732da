//! Key sets: what an identity provider publishes, or who is in its place.

use bolero::check;
use jsonwebtoken::Algorithm;

use crate::config::{Config, KeyAlgorithm};
use crate::limits::KEYS_PER_SET_MAX;
use crate::session::keys::set::{Origin, parse};
use crate::session::token::Verifier;

const TOKEN: &str = "eyJhbGciOiJFZERTQSJ9.e30.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

#[test]
fn jwks() {
    check!(name = "jwks").for_each(|bytes: &[u8]| {
        for origin in [Origin::Elsewhere, Origin::File] {
            match parse(bytes, origin, &[]) {
                Ok(set) => {
                    assert!((1..=KEYS_PER_SET_MAX).contains(&(set.keys.len() + set.left_out)));
                    for key in &set.keys {
                        // What others know is no secret.
                        assert!(origin == Origin::File || key.algorithm() != Algorithm::HS256);
                    }
                    // A key that was taken can be used.
                    let config = Config::defaults().expect("the defaults are complete");
                    let verifier = Verifier::new(set.keys, &config.auth, &config.limits);
                    assert!(verifier.verify(TOKEN, 1_900_000_000).is_err());
                }
                Err(error) => assert!(!error.to_string().contains('\n')),
            }
        }
        if let Ok(set) = parse(bytes, Origin::File, &[KeyAlgorithm::Es256]) {
            assert!(
                set.keys
                    .iter()
                    .all(|key| key.algorithm() == Algorithm::ES256)
            );
        }
    });
}
