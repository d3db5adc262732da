//! The HTTP upgrade: what a stranger sends first.

use std::sync::LazyLock;

use bolero::check;

use crate::config::Config;
use crate::session::admission::Admission;
use crate::session::credentials;
use crate::session::keys::Key;
use crate::session::token::{Verifier, test_keys::SECRET};
use crate::websocket::Refusal;
use crate::websocket::upgrade::{UpgradeLimits, accept, parse_request};

const LIMITS: UpgradeLimits = UpgradeLimits {
    header_bytes_max: 2_048,
    headers_max: 32,
};

static VERIFIER: LazyLock<Verifier> = LazyLock::new(|| {
    let config = Config::defaults().expect("the defaults are complete");
    let key = Key::hs256(SECRET, None).expect("a key");
    Verifier::new(vec![key], &config.auth, &config.limits)
});

#[test]
fn upgrade() {
    check!(name = "upgrade").for_each(check_head);
}

fn check_head(bytes: &[u8]) {
    match parse_request(bytes, &LIMITS) {
        Ok(Some((request, used))) => {
            assert!(used <= bytes.len() && used <= LIMITS.header_bytes_max);
            // However slowly it came, it was not refused before it was whole.
            for cut in [1, used / 2, used - 1] {
                assert!(matches!(parse_request(&bytes[..cut], &LIMITS), Ok(None)));
            }
            let answer = accept(&request, None).expect("what was parsed is an upgrade");
            assert!(answer.starts_with(b"HTTP/1.1 101 ") && answer.ends_with(b"\r\n\r\n"));
            let admission = Admission {
                verifier: &VERIFIER,
                unix_s: 1_900_000_000,
                echo: true,
            };
            if let Err(refusal) = admission.decide(&request) {
                check_refusal(refusal);
            }
            if let Ok(presented) = credentials::present(&request) {
                // A short one could stand in any text.
                let is_shown = format!("{presented:?}").contains(&*presented.token);
                assert!(!is_shown || presented.token.len() < 16);
            }
        }
        Ok(None) => assert!(bytes.len() < LIMITS.header_bytes_max),
        Err(refusal) => check_refusal(refusal),
    }
}

/// A refusal is one whole HTTP response: nothing of the request can end its head early.
fn check_refusal(refusal: Refusal) {
    let answer = refusal.response();
    let head_end = answer
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .expect("a head that ends");
    let head = std::str::from_utf8(&answer[..head_end]).expect("a head is text");
    let length = head
        .lines()
        .find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length")
                .then(|| value.trim().parse::<usize>().ok())?
        })
        .expect("it says how long its body is");
    assert_eq!(answer.len(), head_end + 4 + length, "{head}");
    assert!(head.starts_with("HTTP/1.1 4") || head.starts_with("HTTP/1.1 5"));
}
