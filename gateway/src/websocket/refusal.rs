//! The HTTP answer to a request that is not upgraded.

use http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue};
use http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use http::{Response, StatusCode};
use tungstenite::handshake::server::write_response;

/// Why an upgrade is refused, as the client is told it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{status}: {reason}")]
pub struct Refusal {
    /// A client error or server error status.
    pub status: StatusCode,
    /// What was wrong and what to do, in plain words: the body of the answer.
    pub reason: String,
    /// Headers that belong to the status, such as `Allow` to 405.
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

impl Refusal {
    /// A refusal without further headers.
    pub fn new(status: StatusCode, reason: impl Into<String>) -> Self {
        Self {
            status,
            reason: reason.into(),
            headers: Vec::new(),
        }
    }

    /// 401 with the challenge that RFC 9110 §11.6.1 asks for: a bearer token.
    pub fn unauthorized(reason: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, reason)
            .with(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
    }

    /// 503, to be tried again after `retry_after_s` seconds (RFC 9110 §10.2.3).
    pub fn unavailable(reason: impl Into<String>, retry_after_s: u32) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, reason).retry_after(retry_after_s)
    }

    /// To be tried again after this many seconds.
    pub fn retry_after(self, seconds: u32) -> Self {
        self.with(RETRY_AFTER, seconds.into())
    }

    /// Adds a header.
    pub fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// The whole answer. The connection is to be closed behind it.
    pub fn response(&self) -> Vec<u8> {
        let body = format!("{}\n", self.reason);
        let mut response = Response::new(());
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("text/plain; charset=utf-8"),
        );
        headers.insert(CONTENT_LENGTH, body.len().into());
        for (name, value) in &self.headers {
            headers.append(name, value.clone());
        }

        let mut bytes = Vec::with_capacity(256 + body.len());
        if write_response(&mut bytes, &response).is_err() {
            // A header value that is not visible ASCII: give the status without headers.
            bytes.clear();
            bytes.extend_from_slice(format!("HTTP/1.1 {}\r\n\r\n", self.status).as_bytes());
        }
        bytes.extend_from_slice(body.as_bytes());
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(refusal: &Refusal) -> String {
        String::from_utf8(refusal.response()).unwrap()
    }

    #[test]
    fn the_answer_is_complete_http() {
        let refusal = Refusal::new(StatusCode::FORBIDDEN, "müde: this token is revoked");
        let expected = "HTTP/1.1 403 Forbidden\r\n\
            connection: close\r\n\
            content-type: text/plain; charset=utf-8\r\n\
            content-length: 29\r\n\
            \r\n\
            müde: this token is revoked\n";
        assert_eq!(text(&refusal), expected);
        assert_eq!("müde: this token is revoked\n".len(), 29);
    }

    #[test]
    fn statuses_bring_their_headers() {
        let unauthorized = text(&Refusal::unauthorized("a token is needed"));
        assert!(unauthorized.starts_with("HTTP/1.1 401 Unauthorized\r\n"));
        assert!(unauthorized.contains("\r\nwww-authenticate: Bearer\r\n"));
        let unavailable = text(&Refusal::unavailable("the node is draining", 5));
        assert!(unavailable.starts_with("HTTP/1.1 503 Service Unavailable\r\n"));
        assert!(unavailable.contains("\r\nretry-after: 5\r\n"));
    }

    #[test]
    fn an_unprintable_header_still_gives_an_answer() {
        let value = HeaderValue::from_bytes(b"\xff").unwrap();
        let refusal = Refusal::new(StatusCode::BAD_REQUEST, "no").with(RETRY_AFTER, value);
        assert_eq!(text(&refusal), "HTTP/1.1 400 Bad Request\r\n\r\nno\n");
    }
}
