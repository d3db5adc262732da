//! A gateway's address.

use std::fmt;

use http::Uri;

use crate::ConfigError;

/// `ws://HOST[:PORT][/PATH]` or `wss://...`; without a path, `/v1`. Without a port, 80 or 443 as in every URL.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint {
    pub(crate) tls: bool,
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) uri: Uri,
}

impl Endpoint {
    /// Takes a URL apart.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn parse(url: &str) -> Result<Self, ConfigError> {
        let wrong = |why| {
            // What stands behind a question mark, or in front of an @, may be a secret.
            let shown = url.split('?').next().unwrap_or_default();
            let shown = shown.rsplit('@').next().unwrap_or_default();
            let url = shown.chars().take(200).collect();
            ConfigError::Url { url, why }
        };
        let uri: Uri = url.parse().map_err(|_| wrong("it is no URL"))?;
        let tls = match uri.scheme_str() {
            Some("ws") => false,
            Some("wss") => true,
            _ => return Err(wrong("it has to begin with ws:// or wss://")),
        };
        let authority = uri.authority().ok_or_else(|| wrong("it has no host"))?;
        if authority.as_str().contains('@') {
            return Err(wrong(
                "it has a user or a password; the token is what lets in",
            ));
        }
        if uri
            .query()
            .is_some_and(|query| query.contains("access_token"))
        {
            return Err(wrong("it has a token, which would end up in logs"));
        }
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        if host.is_empty() {
            return Err(wrong("it has no host"));
        }
        let port = match authority.port() {
            Some(port) => port
                .as_str()
                .parse()
                .map_err(|_| wrong("its port is none"))?,
            // What is no number up to 65,535 counts as none there.
            None if !authority.as_str().ends_with(authority.host()) => {
                return Err(wrong("its port is none"));
            }
            None if tls => 443,
            None => 80,
        };
        let uri = if matches!(uri.path(), "" | "/") {
            let scheme = if tls { "wss" } else { "ws" };
            let full = format!("{scheme}://{authority}/v1");
            full.parse().map_err(|_| wrong("it is no URL"))?
        } else {
            uri
        };
        Ok(Self {
            tls,
            host,
            port,
            uri,
        })
    }

    /// The place that a gateway names in its `Drain`, if a token may be sent there: one that came encrypted does not go
    /// on in the clear.
    pub(crate) fn alternative(&self, url: &str) -> Result<Self, String> {
        let other = Self::parse(url).map_err(|error| error.to_string())?;
        if self.tls && !other.tls {
            return Err(format!("{other} is not encrypted, and {self} is"));
        }
        Ok(other)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { uri, .. } = self;
        let scheme = if self.tls { "wss" } else { "ws" };
        let authority = uri.authority().map_or("", http::uri::Authority::as_str);
        write!(formatter, "{scheme}://{authority}{}", uri.path())
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Endpoint({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        for (url, shown, host, port) in [
            ("ws://a.example", "ws://a.example/v1", "a.example", 80),
            ("wss://a.example/", "wss://a.example/v1", "a.example", 443),
            (
                "ws://127.0.0.1:9400/v1",
                "ws://127.0.0.1:9400/v1",
                "127.0.0.1",
                9400,
            ),
            (
                "ws://[::1]:9400/eu/v1",
                "ws://[::1]:9400/eu/v1",
                "::1",
                9400,
            ),
            ("wss://a/v1?region=x", "wss://a/v1", "a", 443),
        ] {
            let endpoint = Endpoint::parse(url).unwrap();
            assert_eq!(endpoint.to_string(), shown);
            assert_eq!((endpoint.host.as_str(), endpoint.port), (host, port));
        }
    }

    #[test]
    fn what_is_wrong_is_said_without_secrets() {
        for (url, says) in [
            ("http://a", "ws://"),
            ("a.example", "ws://"),
            ("ws://user:secret@a/v1", "user"),
            ("ws://a/v1?access_token=secret", "token"),
            ("ws://a:99999", "port"),
            ("ws://a b", "URL"),
        ] {
            let error = Endpoint::parse(url).unwrap_err().to_string();
            assert!(error.contains(says) && !error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn a_token_does_not_leave_encryption() {
        let secure = Endpoint::parse("wss://a").unwrap();
        assert!(secure.alternative("wss://b").is_ok());
        assert!(secure.alternative("ws://b").is_err());
        let plain = Endpoint::parse("ws://a").unwrap();
        assert!(plain.alternative("wss://b").is_ok() && plain.alternative("ws://b").is_ok());
    }
}
