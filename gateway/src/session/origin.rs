//! The web pages that browsers may connect from (RFC 6455 §10.2). A browser says in `Origin` where a page came from, and a
//! page cannot change that; whoever is no browser sends what they like, or nothing. So this keeps foreign pages from using
//! what a browser knows of its user; it is no proof of who somebody is, which only the token is.

use http::{HeaderMap, StatusCode, Uri, header::ORIGIN};

use crate::websocket::Refusal;

/// Whether this is an origin as browsers send it (RFC 6454 §6.2): `scheme://host[:port]`.
///
/// # Errors
/// What is wrong with it.
pub fn check(entry: &str) -> Result<(), String> {
    let wrong = |why: &str| {
        Err(format!(
            "{entry:?} {why}, allowed: scheme://host[:port], such as https://ops.example"
        ))
    };
    let Ok(uri) = entry.parse::<Uri>() else {
        return wrong("is no origin");
    };
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return wrong("is no origin");
    };
    if entry != format!("{scheme}://{authority}") {
        return wrong("has more than an origin has");
    }
    if authority.as_str().contains('@') || authority.host().is_empty() {
        return wrong("is no origin");
    }
    if entry != entry.to_ascii_lowercase() {
        return wrong("has upper-case letters, which browsers do not send");
    }
    let default = [("https", 443), ("http", 80)];
    if authority
        .port_u16()
        .is_some_and(|port| default.contains(&(scheme, port)))
    {
        return wrong("names the scheme's own port, which browsers leave out");
    }
    Ok(())
}

/// Whether a request comes from a page that may connect, or from no page. `allowed`: empty for any.
///
/// # Errors
/// The answer: 403.
pub fn admit(headers: &HeaderMap, allowed: &[String]) -> Result<(), Refusal> {
    if allowed.is_empty() {
        return Ok(());
    }
    let is_allowed = |value: &http::HeaderValue| {
        allowed
            .iter()
            .any(|entry| entry.as_bytes().eq_ignore_ascii_case(value.as_bytes()))
    };
    // More than one is nothing that a browser sends: all of them have to be good.
    if headers.get_all(ORIGIN).iter().all(is_allowed) {
        return Ok(());
    }
    Err(Refusal::new(
        StatusCode::FORBIDDEN,
        "Web pages of this origin may not connect here (server.origins).",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_let_in(sent: &[&'static str], allowed: &[&str]) -> bool {
        let mut headers = HeaderMap::new();
        for origin in sent {
            headers.append(ORIGIN, http::HeaderValue::from_static(origin));
        }
        let allowed: Vec<String> = allowed.iter().map(|entry| (*entry).to_owned()).collect();
        admit(&headers, &allowed).is_ok()
    }

    #[test]
    fn only_pages_on_the_list_and_who_is_no_page() {
        const LIST: &[&str] = &["https://ops.example", "http://localhost:8080"];
        for (sent, let_in) in [
            (&["https://ops.example"][..], true),
            (&["HTTPS://Ops.Example"], true),
            (&["http://localhost:8080"], true),
            (&[], true),
            (&["http://ops.example"], false),
            (&["https://ops.example:444"], false),
            (&["https://ops.example.evil.test"], false),
            (&["https://evil.test/https://ops.example"], false),
            (&["https://ops.example/"], false),
            (&["null"], false),
            (&[""], false),
            (&["https://ops.example", "https://evil.test"], false),
        ] {
            assert_eq!(is_let_in(sent, LIST), let_in, "{sent:?}");
            assert!(is_let_in(sent, &[]), "any");
        }
    }

    #[test]
    fn an_entry_is_what_a_browser_sends() {
        for good in ["https://ops.example", "http://[::1]:8080", "app://desk"] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for wrong in [
            "",
            "*",
            "null",
            "ops.example",
            "https://",
            "https://ops.example/",
            "https://ops.example/x",
            "https://Ops.example",
            "https://me@ops.example",
            "https://ops.example:443",
            "http://a:80",
            "https://a?b",
        ] {
            assert!(check(wrong).is_err(), "{wrong:?}");
        }
    }
}
