//! What a single value must satisfy. The section structs name these functions beside the field, so that a
//! value is refused where it is read, with its line.
#![forbid(unsafe_code)]

use std::fmt::Display;
use std::path::Path;

use ipnet::IpNet;

use super::sections::ProxyProtocol;
use crate::limits::{DRAIN_TEXT_BYTES_MAX, NETWORKS_MAX, ORIGINS_MAX};
use crate::session::origin;

/// The value lies between `MIN` and `MAX`, both included.
///
/// # Errors
/// The value and the allowed range, in words.
pub fn within<const MIN: u64, const MAX: u64>(
    value: &(impl Copy + Display + TryInto<u64>),
) -> Result<(), String> {
    match (*value).try_into() {
        Ok(number) if (MIN..=MAX).contains(&number) => Ok(()),
        _ => Err(format!("{value} is out of range, allowed: {MIN} to {MAX}")),
    }
}

/// As [`within`], and a power of two.
///
/// # Errors
/// The value and what is allowed, in words.
pub fn power_of_two_within<const MIN: u64, const MAX: u64>(value: &u32) -> Result<(), String> {
    within::<MIN, MAX>(value)?;
    if value.is_power_of_two() {
        Ok(())
    } else {
        Err(format!(
            "{value} is not a power of two, allowed: powers of two from {MIN} to {MAX}"
        ))
    }
}

/// A short text without control characters, such as a node's name.
///
/// # Errors
/// What is wrong with the text, in words.
pub fn short_text(value: &impl AsRef<str>) -> Result<(), String> {
    const BYTES_MAX: usize = 255;
    let value = value.as_ref();
    if value.is_empty() {
        return Err("the text is empty; leave the setting out instead".to_owned());
    }
    if value.len() > BYTES_MAX {
        return Err(format!(
            "the text has {} bytes, allowed: 1 to {BYTES_MAX}",
            value.len()
        ));
    }
    if value.chars().any(char::is_control) {
        return Err("the text has a control character".to_owned());
    }
    Ok(())
}

/// An address that a WebSocket client can be sent to.
///
/// # Errors
/// What is wrong with it, in words.
pub fn websocket_url(value: &impl AsRef<str>) -> Result<(), String> {
    let value = value.as_ref();
    let wrong = |why: &str| {
        Err(format!(
            "{value:?} {why}, allowed: ws://HOST[:PORT]/PATH or wss://HOST[:PORT]/PATH of up to \
             {DRAIN_TEXT_BYTES_MAX} bytes"
        ))
    };
    if value.len() > DRAIN_TEXT_BYTES_MAX {
        return wrong("is too long");
    }
    match value.parse::<http::Uri>() {
        Ok(uri) if !matches!(uri.scheme_str(), Some("ws" | "wss")) => {
            wrong("does not begin with ws:// or wss://")
        }
        Ok(uri) if uri.host().is_none_or(str::is_empty) => wrong("has no host"),
        Ok(_) => Ok(()),
        Err(_) => wrong("is no URL"),
    }
}

/// A path that is not empty.
///
/// # Errors
/// What to do instead, in words.
pub fn named_path(value: &impl AsRef<Path>) -> Result<(), String> {
    if value.as_ref().as_os_str().is_empty() {
        return Err("the path is empty; leave the setting out instead".to_owned());
    }
    Ok(())
}

/// Not too many networks: each is looked at for an address.
///
/// # Errors
/// How many there are, and how many there may be.
pub fn networks(value: &impl AsRef<[IpNet]>) -> Result<(), String> {
    let count = value.as_ref().len();
    if count > NETWORKS_MAX {
        return Err(format!("{count} networks, allowed: up to {NETWORKS_MAX}"));
    }
    Ok(())
}

/// Networks of load balancers: some, and not too many.
///
/// # Errors
/// What is wrong, and what to do.
pub fn balancers(value: &ProxyProtocol) -> Result<(), String> {
    if value.from.is_empty() {
        return Err("no networks: leave the setting out instead".to_owned());
    }
    networks(&value.from)
}

/// Origins as browsers send them.
///
/// # Errors
/// The first one that no browser sends, in words.
pub fn origins(value: &impl AsRef<[String]>) -> Result<(), String> {
    let value = value.as_ref();
    if value.len() > ORIGINS_MAX {
        return Err(format!(
            "{} origins, allowed: up to {ORIGINS_MAX}",
            value.len()
        ));
    }
    value.iter().try_for_each(|entry| origin::check(entry))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alternative_is_a_websocket_url() {
        for good in ["ws://h", "wss://edge-2.example:443/v1"] {
            assert_eq!(websocket_url(&good), Ok(()), "{good}");
        }
        for (wrong, says) in [
            ("", "is no URL"),
            ("edge-2", "does not begin with"),
            ("https://edge-2/v1", "does not begin with"),
            ("wss://", "is no URL"),
            ("wss://a b/", "is no URL"),
        ] {
            let error = websocket_url(&wrong).unwrap_err();
            assert!(error.contains(says), "{wrong:?}: {error}");
        }
        assert!(websocket_url(&format!("ws://{}", "h".repeat(300))).is_err());
    }

    #[test]
    fn a_range_includes_both_ends() {
        assert_eq!(within::<2, 5>(&2u16), Ok(()));
        assert_eq!(within::<2, 5>(&5usize), Ok(()));
        assert_eq!(
            within::<2, 5>(&1u64).unwrap_err(),
            "1 is out of range, allowed: 2 to 5"
        );
        assert_eq!(
            within::<2, 5>(&6u32).unwrap_err(),
            "6 is out of range, allowed: 2 to 5"
        );
        assert_eq!(
            within::<2, 5>(&-1i32).unwrap_err(),
            "-1 is out of range, allowed: 2 to 5"
        );
    }

    #[test]
    fn a_power_of_two_says_which_ones() {
        assert_eq!(power_of_two_within::<16, 64>(&32), Ok(()));
        assert!(
            power_of_two_within::<16, 64>(&33)
                .unwrap_err()
                .contains("powers of two from 16 to 64")
        );
        assert!(
            power_of_two_within::<16, 64>(&128)
                .unwrap_err()
                .contains("16 to 64")
        );
    }

    #[test]
    fn a_text_is_short_and_printable() {
        assert_eq!(short_text(&"edge-1"), Ok(()));
        assert!(short_text(&"").unwrap_err().contains("empty"));
        assert!(short_text(&"a\nb").unwrap_err().contains("control"));
        assert!(
            short_text(&"a".repeat(256))
                .unwrap_err()
                .contains("256 bytes")
        );
    }

    #[test]
    fn a_path_has_a_name() {
        assert_eq!(named_path(&"state"), Ok(()));
        assert!(named_path(&"").unwrap_err().contains("empty"));
    }
}
