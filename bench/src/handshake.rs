//! The client's side of the WebSocket upgrade (RFC 6455 §4.1).

use longhaul_codec::SUBPROTOCOL;
use tungstenite::handshake::client::generate_key;
use tungstenite::handshake::derive_accept_key;

/// Longest answer to an upgrade that is read.
const ANSWER_BYTES_MAX: usize = 16 << 10;

/// Makes requests and checks answers. All connections of a process use one nonce: it protects against caches
/// between client and server, and here there are none.
pub struct Handshake {
    host: String,
    path: String,
    subprotocol: Option<&'static str>,
    nonce: String,
    accept: String,
}

/// Why a connection was not upgraded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The gateway said no, and why.
    #[error("refused with status {status}: {reason}")]
    Status {
        /// HTTP status.
        status: u16,
        /// Beginning of the body.
        reason: String,
        /// `Retry-After`, in seconds.
        retry_after: Option<u32>,
    },
    /// Not an HTTP response, or a wrong one.
    #[error("the answer to the upgrade is not valid: {0}")]
    Invalid(String),
}

impl Handshake {
    /// For upgrades of `path` at `host` (with its port) to a gateway's subprotocol.
    pub fn new(host: &str, path: &str) -> Self {
        Self::to(host, path, Some(SUBPROTOCOL))
    }

    /// The same, to any subprotocol or none.
    pub fn to(host: &str, path: &str, subprotocol: Option<&'static str>) -> Self {
        let nonce = generate_key();
        let accept = derive_accept_key(nonce.as_bytes());
        Self {
            host: host.to_owned(),
            path: path.to_owned(),
            subprotocol,
            nonce,
            accept,
        }
    }

    /// The upgrade request; an empty token is left out.
    pub fn request(&self, token: &str) -> Vec<u8> {
        let Self {
            host, path, nonce, ..
        } = self;
        let mut request = format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {nonce}\r\n"
        );
        if let Some(subprotocol) = self.subprotocol {
            request += &format!("Sec-WebSocket-Protocol: {subprotocol}\r\n");
        }
        if !token.is_empty() {
            request += &format!("Authorization: Bearer {token}\r\n");
        }
        request += "\r\n";
        request.into_bytes()
    }

    /// Checks the answer. `Some(length)` if it is complete and right, `None` if more bytes are needed.
    ///
    /// # Errors
    /// The gateway refused, or its answer is none.
    pub fn answer(&self, bytes: &[u8]) -> Result<Option<usize>, Refusal> {
        let mut headers = [httparse::EMPTY_HEADER; 32];
        let mut response = httparse::Response::new(&mut headers);
        let length = match response.parse(bytes) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) if bytes.len() < ANSWER_BYTES_MAX => return Ok(None),
            Ok(httparse::Status::Partial) => {
                return Err(Refusal::Invalid(format!(
                    "longer than {ANSWER_BYTES_MAX} bytes"
                )));
            }
            Err(error) => return Err(Refusal::Invalid(error.to_string())),
        };
        let status = response.code.unwrap_or(0);
        if status != 101 {
            let body = &bytes[length..bytes.len().min(length + 300)];
            let reason = String::from_utf8_lossy(body).trim().to_owned();
            let retry_after = header(&response, "retry-after").and_then(|value| value.parse().ok());
            return Err(Refusal::Status {
                status,
                reason,
                retry_after,
            });
        }
        for (name, expected) in [
            ("sec-websocket-accept", Some(self.accept.as_str())),
            ("sec-websocket-protocol", self.subprotocol),
        ] {
            let found = header(&response, name);
            if found.as_deref() != expected {
                return Err(Refusal::Invalid(format!(
                    "{name} is {found:?}, not {expected:?}"
                )));
            }
        }
        Ok(Some(length))
    }
}

fn header(response: &httparse::Response<'_, '_>, name: &str) -> Option<String> {
    response
        .headers
        .iter()
        .find(|header| header.name.eq_ignore_ascii_case(name))
        .map(|header| String::from_utf8_lossy(header.value).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_checked() {
        let handshake = Handshake::new("127.0.0.1:1", "/v1");
        let good = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {}\r\nSec-WebSocket-Protocol: {SUBPROTOCOL}\r\n\r\n",
            handshake.accept
        );
        assert_eq!(handshake.answer(good.as_bytes()), Ok(Some(good.len())));
        assert_eq!(
            handshake.answer(&good.as_bytes()[..good.len() - 1]),
            Ok(None)
        );
        let other = good.replace(SUBPROTOCOL, "chat");
        assert!(matches!(
            handshake.answer(other.as_bytes()),
            Err(Refusal::Invalid(_))
        ));
        let other = good.replace(&handshake.accept, "x");
        assert!(matches!(
            handshake.answer(other.as_bytes()),
            Err(Refusal::Invalid(_))
        ));
        let refused = b"HTTP/1.1 401 Unauthorized\r\n\r\ntoken expired\n";
        let expected = Refusal::Status {
            status: 401,
            reason: "token expired".to_owned(),
            retry_after: None,
        };
        assert_eq!(handshake.answer(refused), Err(expected));
        let busy = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 5\r\n\r\n";
        assert!(matches!(
            handshake.answer(busy),
            Err(Refusal::Status {
                status: 503,
                retry_after: Some(5),
                ..
            })
        ));
        assert!(matches!(
            handshake.answer(b"hello\r\n\r\n"),
            Err(Refusal::Invalid(_))
        ));
    }

    #[test]
    fn the_request_carries_the_token() {
        let request = Handshake::new("h:1", "/v1").request("abc");
        let text = String::from_utf8(request).unwrap();
        assert!(text.starts_with("GET /v1 HTTP/1.1\r\nHost: h:1\r\n"));
        assert!(text.contains("\r\nAuthorization: Bearer abc\r\n") && text.ends_with("\r\n\r\n"));
    }
}
