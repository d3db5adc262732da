//! What must hold for the settings of keys, and where their files are.
#![forbid(unsafe_code)]

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::{Auth, KeySetSource};
use crate::limits::KEY_SETS_MAX;

impl Auth {
    /// Checks keys and sets of keys against each other.
    pub(super) fn check(&self) -> Result<(), String> {
        for key in &self.keys {
            if !self.algorithms.is_empty() && !self.algorithms.contains(&key.algorithm) {
                return Err(format!(
                    "auth.keys has the key {} for an algorithm that auth.algorithms does not have: add it there",
                    key.file.display()
                ));
            }
        }
        if self.key_sets.len() > KEY_SETS_MAX {
            return Err(format!(
                "auth.key_sets has {} sets, allowed: up to {KEY_SETS_MAX}",
                self.key_sets.len()
            ));
        }
        for (at, set) in self.key_sets.iter().enumerate() {
            set.check()
                .map_err(|wrong| format!("auth.key_sets, entry {at}, {wrong}"))?;
        }
        Ok(())
    }

    /// A relative file starts at the configuration file's folder.
    pub(super) fn locate_keys(&mut self, config_file: Option<&Path>) {
        let Some(folder) = config_file.and_then(Path::parent) else {
            return;
        };
        let locate = |file: &mut PathBuf| *file = folder.join(&*file);
        for key in &mut self.keys {
            locate(&mut key.file);
        }
        for set in &mut self.key_sets {
            let files = [&mut set.file, &mut set.cache, &mut set.ca];
            files.into_iter().flatten().for_each(locate);
        }
    }
}

impl KeySetSource {
    /// How often a set is fetched, in seconds.
    pub fn refresh_s(&self) -> u64 {
        self.refresh_s.unwrap_or(300)
    }

    /// For how long its keys are good when it cannot be fetched, in seconds.
    pub fn stale_max_s(&self) -> u64 {
        self.stale_max_s.unwrap_or(86_400)
    }

    fn check(&self) -> Result<(), String> {
        let Some(url) = &self.url else {
            if self.file.is_none() {
                return Err("has neither `file` nor `url`".to_owned());
            }
            let of_url = [
                (self.refresh_s.is_some(), "refresh_s"),
                (self.stale_max_s.is_some(), "stale_max_s"),
                (self.cache.is_some(), "cache"),
                (self.ca.is_some(), "ca"),
            ];
            return match of_url.into_iter().find(|(is_set, _)| *is_set) {
                Some((_, name)) => Err(format!("has `{name}`, which is for a `url` only")),
                None => Ok(()),
            };
        };
        if self.file.is_some() {
            return Err("has both `file` and `url`: make two entries of them".to_owned());
        }
        if !(10..=86_400).contains(&self.refresh_s()) {
            return Err("has a `refresh_s` out of range, allowed: 10 to 86400".to_owned());
        }
        if self.stale_max_s() > 31_536_000 {
            return Err("has a `stale_max_s` out of range, allowed: 0 to 31536000".to_owned());
        }
        check_url(url)
    }
}

/// An address that keys may be fetched from: over TLS, or from this machine.
fn check_url(url: &str) -> Result<(), String> {
    const BYTES_MAX: usize = 2_048;
    let wrong = |why: &str| {
        Err(format!(
            "has the URL {url:?}, which {why}, allowed: https://HOST[:PORT]/PATH, and http:// for this machine only"
        ))
    };
    if url.len() > BYTES_MAX {
        return Err(format!("has a URL of more than {BYTES_MAX} bytes"));
    }
    let Ok(uri) = url.parse::<http::Uri>() else {
        return wrong("is none");
    };
    let Some(authority) = uri.authority() else {
        return wrong("has no host");
    };
    // A password in it would end up in logs.
    if authority.as_str().contains('@') {
        return Err("has a URL with a user's name: it would end up in logs".to_owned());
    }
    let host = authority.host().trim_matches(['[', ']']);
    match uri.scheme_str() {
        Some("https") => Ok(()),
        Some("http")
            if host == "localhost"
                || host
                    .parse()
                    .is_ok_and(|address: IpAddr| address.is_loopback()) =>
        {
            Ok(())
        }
        Some("http") => wrong("anybody on the way could exchange"),
        _ => wrong("begins with neither https:// nor http://"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_over_tls_or_from_this_machine() {
        for good in [
            "https://idp.example/jwks.json",
            "https://idp.example:8443/",
            "http://127.0.0.1:8080/keys",
            "http://[::1]:8080/keys",
            "http://localhost/keys",
        ] {
            assert_eq!(check_url(good), Ok(()), "{good}");
        }
        for (bad, says) in [
            ("http://idp.example/keys", "on the way"),
            ("http://127.0.0.1.example/keys", "on the way"),
            ("http://10.0.0.1/keys", "on the way"),
            ("ftp://idp.example/keys", "neither"),
            ("/keys", "no host"),
            ("not a url", "is none"),
            ("https://me:secret@idp.example/keys", "user's name"),
        ] {
            let error = check_url(bad).expect_err(bad);
            assert!(error.contains(says), "{bad}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
