//! The opening handshake, the server's part (RFC 6455 §4.2).

use http::header::{ALLOW, CONNECTION, CONTENT_LENGTH, HOST, SEC_WEBSOCKET_KEY};
use http::header::{HeaderName, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, TRANSFER_ENCODING};
use http::header::{HeaderValue, UPGRADE};
use http::{HeaderMap, Method, StatusCode};
use tungstenite::error::{Error, ProtocolError};
use tungstenite::handshake::server::{create_response, write_response};

use super::Refusal;
use crate::transport::proxy;

/// A request to become a WebSocket, checked: its method, path and headers.
pub type Request = http::Request<()>;

/// The most header lines that any configuration can allow.
pub const HEADERS_MAX: usize = 128;

/// Bounds on a request's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UpgradeLimits {
    /// The longest head, from the request line through the empty line, in bytes.
    pub header_bytes_max: usize,
    /// The most header lines; 128 at the highest.
    pub headers_max: usize,
}

/// Reads the request that `bytes` begin with, and tells how many bytes it took; `None` when
/// more are needed, then call again with all of them.
///
/// A request that comes out is a WebSocket upgrade, so that [`accept`] answers it with 101.
///
/// # Errors
///
/// The answer to send before closing: 400, 405, 414, 426, 431 or 505.
pub fn parse_request(
    bytes: &[u8],
    limits: &UpgradeLimits,
) -> Result<Option<(Request, usize)>, Refusal> {
    if bytes.starts_with(proxy::SIGNATURE) {
        return Err(bad_request(
            "These bytes begin with a PROXY protocol header, but this address is not among the load balancers in \
             server.proxy_protocol.",
        ));
    }
    // Reading starts when the head is whole, so bytes that trickle in cost one scan each.
    if !has_empty_line(bytes) {
        return incomplete(bytes, limits);
    }
    let mut lines = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let lines = &mut lines[..limits.headers_max.min(HEADERS_MAX)];
    let mut head = httparse::Request::new(lines);
    let consumed = match head.parse(bytes) {
        Ok(httparse::Status::Complete(len)) if len > limits.header_bytes_max => {
            return Err(head_too_large(limits));
        }
        Ok(httparse::Status::Complete(len)) => len,
        // The empty line stood before the request (RFC 9112 §2.2).
        Ok(httparse::Status::Partial) => return incomplete(bytes, limits),
        Err(error) => return Err(malformed(error, limits)),
    };
    let request = request(&head)?;
    Ok(Some((request, consumed)))
}

/// The answer that makes the connection a WebSocket (§4.2.2): status 101 with the accept key,
/// and the subprotocol that [`negotiate`] chose.
///
/// # Errors
///
/// A request that did not come from [`parse_request`] and is no upgrade, or a subprotocol that is
/// no token.
pub fn accept(request: &Request, subprotocol: Option<&str>) -> Result<Vec<u8>, Refusal> {
    let mut response = create_response(request).map_err(not_an_upgrade)?;
    if let Some(subprotocol) = subprotocol {
        let value = HeaderValue::from_str(subprotocol)
            .map_err(|_| bad_request("The subprotocol's name cannot stand in a header."))?;
        response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, value);
    }
    let mut bytes = Vec::with_capacity(192);
    write_response(&mut bytes, &response).map_err(not_an_upgrade)?;
    Ok(bytes)
}

/// The first of `supported` that the client offers: the server's preference decides (§4.2.2).
pub fn negotiate(request: &Request, supported: &[&'static str]) -> Option<&'static str> {
    supported
        .iter()
        .copied()
        .find(|name| offered_subprotocols(request).any(|offered| offered == *name))
}

/// Every subprotocol entry that the client offers, in its order of preference (§11.3.4).
pub fn offered_subprotocols(request: &Request) -> impl Iterator<Item = &str> {
    list(request.headers(), SEC_WEBSOCKET_PROTOCOL)
}

/// The entries of a comma-separated header, however many lines it came in (RFC 9110 §5.6.1).
fn list(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    headers
        .get_all(name)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
        .map(|entry| entry.trim_matches([' ', '\t']))
        .filter(|entry| !entry.is_empty())
}

/// Whether the line that ends a head is there.
fn has_empty_line(bytes: &[u8]) -> bool {
    memchr::memchr_iter(b'\n', bytes)
        .any(|newline| matches!(&bytes[newline + 1..], [b'\n', ..] | [b'\r', b'\n', ..]))
}

fn incomplete(bytes: &[u8], limits: &UpgradeLimits) -> Result<Option<(Request, usize)>, Refusal> {
    match bytes {
        // What begins a TLS handshake record (RFC 8446 §5.1).
        [0x16, ..] => {
            return Err(bad_request(
                "This port speaks plain HTTP, and these bytes begin a TLS handshake. \
                 Connect with ws:// or to the TLS port.",
            ));
        }
        [first, ..] if !first.is_ascii_alphabetic() && !matches!(first, b'\r' | b'\n') => {
            return Err(bad_request("This is not an HTTP request."));
        }
        _ => {}
    }
    if bytes.len() < limits.header_bytes_max {
        return Ok(None);
    }
    if memchr::memchr(b'\n', bytes).is_none() {
        return Err(Refusal::new(
            StatusCode::URI_TOO_LONG,
            format!(
                "The request line alone is over the limit of {} bytes. \
                 Send a long token in the Authorization header.",
                limits.header_bytes_max
            ),
        ));
    }
    Err(head_too_large(limits))
}

/// Turns a parsed head into a request, checked as RFC 6455 §4.2.1 lists it.
fn request(head: &httparse::Request<'_, '_>) -> Result<Request, Refusal> {
    let method = head.method.unwrap_or_default();
    // §4.2.1 item 1.
    if method != Method::GET {
        return Err(Refusal::new(
            StatusCode::METHOD_NOT_ALLOWED,
            format!("A WebSocket opens with GET, not with {method}."),
        )
        .with(ALLOW, HeaderValue::from_static("GET")));
    }
    if head.version != Some(1) {
        return Err(wrong_http_version());
    }
    let mut request = Request::default();
    *request.uri_mut() = head
        .path
        .unwrap_or_default()
        .parse()
        .map_err(|_| bad_request("The request target is not a valid path."))?;
    for line in head.headers.iter() {
        let (Ok(name), Ok(value)) = (
            HeaderName::from_bytes(line.name.as_bytes()),
            HeaderValue::from_bytes(line.value),
        ) else {
            return Err(bad_request(format!(
                "The header {} is malformed.",
                line.name
            )));
        };
        request.headers_mut().append(name, value);
    }
    check_headers(request.headers_mut())?;
    // Upgrade, Connection, key and version are tungstenite's to check.
    create_response(&request).map_err(not_an_upgrade)?;
    Ok(request)
}

/// The rules that tungstenite leaves out, and what it needs to see the others right.
fn check_headers(headers: &mut HeaderMap) -> Result<(), Refusal> {
    // §4.2.1 item 2; RFC 9112 §3.2 makes it 400.
    match headers.get_all(HOST).iter().count() {
        0 => return Err(bad_request("The Host header is missing.")),
        1 => {}
        _ => return Err(bad_request("There is more than one Host header.")),
    }
    // §11.3.1 and §11.3.5: neither comes twice.
    for name in [SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION] {
        if headers.get_all(&name).iter().count() > 1 {
            return Err(bad_request(format!(
                "There is more than one {name} header."
            )));
        }
    }
    // A body would be taken for frames.
    let length = headers.get(CONTENT_LENGTH);
    if headers.contains_key(TRANSFER_ENCODING) || length.is_some_and(|length| length != "0") {
        return Err(bad_request("A WebSocket upgrade carries no body."));
    }
    // tungstenite looks at the first line only and expects `websocket` alone, while both are
    // lists (§4.2.1 items 3 and 4).
    for (name, token) in [(CONNECTION, "Upgrade"), (UPGRADE, "websocket")] {
        if list(headers, name.clone()).any(|entry| entry.eq_ignore_ascii_case(token)) {
            headers.insert(name, HeaderValue::from_static(token));
        }
    }
    Ok(())
}

/// What tungstenite objects to, in words.
fn not_an_upgrade(error: Error) -> Refusal {
    let Error::Protocol(error) = error else {
        return bad_request("The request's headers cannot be answered.");
    };
    match error {
        ProtocolError::WrongHttpVersion => wrong_http_version(),
        ProtocolError::MissingUpgradeWebSocketHeader => bad_request(
            "This is a WebSocket endpoint: the header \"Upgrade: websocket\" is missing. \
             Connect with a WebSocket client; a proxy in front must pass Upgrade on.",
        ),
        ProtocolError::MissingConnectionUpgradeHeader => bad_request(
            "This is a WebSocket endpoint: the header \"Connection: Upgrade\" is missing. \
             Connect with a WebSocket client; a proxy in front must pass Connection on.",
        ),
        ProtocolError::MissingSecWebSocketKey => {
            bad_request("The header Sec-WebSocket-Key is missing.")
        }
        ProtocolError::InvalidSecWebSocketKey => {
            bad_request("Sec-WebSocket-Key must be 16 bytes in base64.")
        }
        // §4.4: the answer names the version that the server speaks. RFC 9110 §15.5.22 has 426
        // name the protocol too.
        ProtocolError::MissingSecWebSocketVersionHeader => Refusal::new(
            StatusCode::UPGRADE_REQUIRED,
            "Only version 13 of the WebSocket protocol is spoken here: \
             send \"Sec-WebSocket-Version: 13\".",
        )
        .with(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"))
        .with(UPGRADE, HeaderValue::from_static("websocket")),
        other => bad_request(format!("This is no WebSocket upgrade: {other}.")),
    }
}

fn malformed(error: httparse::Error, limits: &UpgradeLimits) -> Refusal {
    match error {
        httparse::Error::TooManyHeaders => Refusal::new(
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            format!("A request may have at most {} headers.", limits.headers_max),
        ),
        httparse::Error::Version => wrong_http_version(),
        error => bad_request(format!("This is not an HTTP request: {error}.")),
    }
}

fn head_too_large(limits: &UpgradeLimits) -> Refusal {
    Refusal::new(
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        format!(
            "The request's head is over the limit of {} bytes. Send fewer or shorter headers.",
            limits.header_bytes_max
        ),
    )
}

/// §4.2.1 item 1 wants HTTP/1.1; what refuses another version is 505 (RFC 9110 §15.6.6).
fn wrong_http_version() -> Refusal {
    Refusal::new(
        StatusCode::HTTP_VERSION_NOT_SUPPORTED,
        "A WebSocket opens with HTTP/1.1. A proxy in front must be told to use it \
         (nginx: proxy_http_version 1.1).",
    )
}

fn bad_request(reason: impl Into<String>) -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, reason)
}
