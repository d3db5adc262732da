//! Where a token stands in an upgrade request.
//!
//! - `Authorization: Bearer TOKEN` (RFC 6750 §2.1)
//! - the query parameter `access_token` (RFC 6750 §2.3): for clients that cannot set headers
//! - a `Sec-WebSocket-Protocol` entry `longhaul.token.TOKEN`: for browsers, whose URLs end up in histories and logs
//!
//! The same token may stand in several places. Two different ones are an error: which one counts must not be a guess.
#![forbid(unsafe_code)]

use std::borrow::Cow;
use std::fmt;

use http::Request;
use http::header::AUTHORIZATION;

use crate::websocket::upgrade::offered_subprotocols;

/// What the subprotocol entry that carries a token begins with.
pub const SUBPROTOCOL_PREFIX: &str = "longhaul.token.";
/// The query parameter that carries a token.
pub const QUERY_PARAMETER: &str = "access_token";

/// A place in the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The `Authorization` header.
    Authorization,
    /// The `access_token` query parameter.
    Query,
    /// A `longhaul.token.` entry of `Sec-WebSocket-Protocol`.
    Subprotocol,
}

impl fmt::Display for Place {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Authorization => "the Authorization header",
            Self::Query => "the access_token query parameter",
            Self::Subprotocol => "the longhaul.token. subprotocol entry",
        })
    }
}

/// A token as it was presented, not checked yet.
#[derive(Clone, PartialEq, Eq)]
pub struct Presented<'a> {
    /// The token.
    pub token: Cow<'a, str>,
    /// Where it stood.
    pub place: Place,
}

/// Says where the token stood, and not the token.
impl fmt::Debug for Presented<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Presented")
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}

/// Why a request has no usable token, in words for whoever wrote the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CredentialsError {
    /// No token anywhere.
    #[error(
        "a token is needed: send \"Authorization: Bearer TOKEN\", the query parameter access_token=TOKEN, \
         or the WebSocket subprotocol longhaul.token.TOKEN"
    )]
    Missing,
    /// An `Authorization` header of another scheme, and no token elsewhere.
    #[error(
        "the Authorization header has another scheme than Bearer: send \"Authorization: Bearer TOKEN\""
    )]
    Scheme,
    /// A place that is there but holds no text that could be a token.
    #[error("{0} holds no token: a token is letters, digits, \"-\", \"_\" and \".\"")]
    Unreadable(Place),
    /// Two different tokens.
    #[error("{0} and {1} hold different tokens: send one token")]
    Conflict(Place, Place),
}

/// Finds the token of an upgrade request.
///
/// # Errors
/// There is none, it is unreadable, or there are two that differ.
pub fn present(request: &Request<()>) -> Result<Presented<'_>, CredentialsError> {
    let mut found: Option<Presented<'_>> = None;
    let mut other_scheme = false;
    for value in request.headers().get_all(AUTHORIZATION) {
        let text = value
            .to_str()
            .map_err(|_| CredentialsError::Unreadable(Place::Authorization))?;
        match bearer(text) {
            Some(token) => keep(&mut found, Cow::Borrowed(token), Place::Authorization)?,
            None => other_scheme = true,
        }
    }
    for (name, value) in
        form_urlencoded::parse(request.uri().query().unwrap_or_default().as_bytes())
    {
        if name == QUERY_PARAMETER {
            keep(&mut found, value, Place::Query)?;
        }
    }
    for entry in offered_subprotocols(request) {
        if let Some(token) = entry.strip_prefix(SUBPROTOCOL_PREFIX) {
            keep(&mut found, Cow::Borrowed(token), Place::Subprotocol)?;
        }
    }
    found.ok_or(if other_scheme {
        CredentialsError::Scheme
    } else {
        CredentialsError::Missing
    })
}

/// RFC 9110 §11.1: the scheme's case does not matter, and one or more spaces follow.
fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.trim().split_once(' ').unwrap_or((value.trim(), ""));
    scheme
        .eq_ignore_ascii_case("Bearer")
        .then(|| token.trim_start())
}

fn keep<'a>(
    found: &mut Option<Presented<'a>>,
    token: Cow<'a, str>,
    place: Place,
) -> Result<(), CredentialsError> {
    if !is_token(&token) {
        return Err(CredentialsError::Unreadable(place));
    }
    match found {
        Some(first) if first.token != token => Err(CredentialsError::Conflict(first.place, place)),
        Some(_) => Ok(()),
        None => {
            *found = Some(Presented { token, place });
            Ok(())
        }
    }
}

/// The characters of a JWT in compact form (RFC 7515 §7.1).
fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(uri: &str, headers: &[(&str, &str)]) -> Request<()> {
        headers
            .iter()
            .fold(Request::builder().uri(uri), |builder, (name, value)| {
                builder.header(*name, *value)
            })
            .body(())
            .expect("a request")
    }

    #[test]
    fn a_token_is_found_wherever_it_stands() {
        for (uri, headers, place) in [
            (
                "/",
                vec![("Authorization", "Bearer a.b.c")],
                Place::Authorization,
            ),
            (
                "/",
                vec![("authorization", "bEaReR   a.b.c ")],
                Place::Authorization,
            ),
            ("/?access_token=a.b.c", vec![], Place::Query),
            ("/?x=1&access_token=a%2Eb%2ec&y", vec![], Place::Query),
            (
                "/",
                vec![(
                    "Sec-WebSocket-Protocol",
                    "longhaul.v1, longhaul.token.a.b.c",
                )],
                Place::Subprotocol,
            ),
            (
                "/",
                vec![
                    ("Sec-WebSocket-Protocol", "longhaul.v1"),
                    ("Sec-WebSocket-Protocol", "longhaul.token.a.b.c"),
                ],
                Place::Subprotocol,
            ),
            (
                "/",
                vec![
                    ("Authorization", "Basic eDp5"),
                    ("Sec-WebSocket-Protocol", "longhaul.token.a.b.c"),
                ],
                Place::Subprotocol,
            ),
            (
                "/?access_token=a.b.c",
                vec![("Authorization", "Bearer a.b.c")],
                Place::Authorization,
            ),
        ] {
            let request = request(uri, &headers);
            let presented =
                present(&request).unwrap_or_else(|error| panic!("{uri} {headers:?}: {error}"));
            assert_eq!(
                (presented.token.as_ref(), presented.place),
                ("a.b.c", place),
                "{uri} {headers:?}"
            );
        }
    }

    #[test]
    fn a_request_without_one_clear_token_is_refused_with_a_reason() {
        use CredentialsError::{Conflict, Missing, Scheme, Unreadable};
        use Place::{Authorization, Query, Subprotocol};
        for (uri, headers, error) in [
            ("/", vec![], Missing),
            ("/?token=a.b.c", vec![], Missing),
            (
                "/",
                vec![("Sec-WebSocket-Protocol", "longhaul.v1")],
                Missing,
            ),
            ("/", vec![("Authorization", "Basic eDp5")], Scheme),
            ("/", vec![("Authorization", "a.b.c")], Scheme),
            (
                "/",
                vec![("Authorization", "Bearer")],
                Unreadable(Authorization),
            ),
            (
                "/",
                vec![("Authorization", "Bearer a b")],
                Unreadable(Authorization),
            ),
            (
                "/",
                vec![("Authorization", "Bearer \u{e9}")],
                Unreadable(Authorization),
            ),
            ("/?access_token=", vec![], Unreadable(Query)),
            ("/?access_token=a%00b", vec![], Unreadable(Query)),
            (
                "/",
                vec![("Sec-WebSocket-Protocol", "longhaul.token.")],
                Unreadable(Subprotocol),
            ),
            (
                "/?access_token=a.b.d",
                vec![("Authorization", "Bearer a.b.c")],
                Conflict(Authorization, Query),
            ),
            (
                "/?access_token=a&access_token=b",
                vec![],
                Conflict(Query, Query),
            ),
            (
                "/?access_token=a",
                vec![("Sec-WebSocket-Protocol", "longhaul.token.b")],
                Conflict(Query, Subprotocol),
            ),
            (
                "/",
                vec![("Authorization", "Bearer a"), ("Authorization", "Bearer b")],
                Conflict(Authorization, Authorization),
            ),
        ] {
            assert_eq!(
                present(&request(uri, &headers)),
                Err(error),
                "{uri} {headers:?}"
            );
        }
    }

    #[test]
    fn neither_debug_output_nor_errors_show_a_token() {
        let first = request("/?access_token=secret.token.one", &[]);
        let shown = format!("{:?}", present(&first));
        assert!(!shown.contains("secret"), "{shown}");
        let both = request(
            "/?access_token=secret.token.one",
            &[("Authorization", "Bearer secret.token.two")],
        );
        let shown = format!("{0:?} {0}", present(&both).unwrap_err());
        assert!(!shown.contains("secret"), "{shown}");
    }
}
