//! Plain HTTP/1.1, written by hand: what a client library would never send is what has to be refused well.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};

use super::PATIENCE;

/// An answer, read until the other side closed.
#[derive(Debug)]
pub struct Answer {
    /// Such as 401; 0: closed without a word.
    pub status: u16,
    /// Lower-case names.
    pub headers: Vec<(String, String)>,
    /// What came after the head.
    pub body: String,
}

impl Answer {
    /// The value of the first header of that name.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        headers.find_map(|(header, value)| (header == name).then_some(value.as_str()))
    }
}

/// A connection that gives up after [`PATIENCE`].
pub fn dial(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&address, PATIENCE).expect("it listens");
    stream
        .set_read_timeout(Some(PATIENCE))
        .and_then(|()| stream.set_write_timeout(Some(PATIENCE)))
        .and_then(|()| stream.set_nodelay(true))
        .expect("a socket takes its options");
    stream
}

/// Sends these bytes and reads until the other side closes.
pub fn exchange(address: SocketAddr, request: &[u8]) -> Answer {
    let mut stream = dial(address);
    stream.write_all(request).expect("it is taken");
    answer(stream)
}

/// Reads an answer until the other side closes.
pub fn answer(mut stream: TcpStream) -> Answer {
    let mut bytes = Vec::new();
    stream
        .read_to_end(&mut bytes)
        .expect("the other side closes");
    let text = String::from_utf8(bytes).expect("the answer is text");
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1));
    Answer {
        status: status.map_or(0, |status| status.parse().expect("a status")),
        headers: lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect(),
        body: body.to_owned(),
    }
}

/// Gets a page of the control plane.
pub fn get(address: SocketAddr, path: &str) -> Answer {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    exchange(address, request.as_bytes())
}

/// Posts to the control plane.
pub fn post(address: SocketAddr, path: &str, body: &str) -> Answer {
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    exchange(address, request.as_bytes())
}

/// An upgrade request that is let in, if the token is good.
pub fn upgrade(token: &str) -> String {
    format!(
        "GET /v1 HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: {}\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: longhaul.v1\r\n\
         Authorization: Bearer {token}\r\n\r\n",
        tungstenite::handshake::client::generate_key()
    )
}

/// Makes an admin call, with a token if there is one. An empty body is none.
pub fn admin(
    address: SocketAddr,
    method: &str,
    path: &str,
    token: Option<&str>,
    body: &str,
) -> Answer {
    let bearer = token.map(|token| format!("Authorization: Bearer {token}\r\n"));
    let kind = if body.is_empty() {
        String::new()
    } else {
        let length = body.len();
        format!("Content-Type: application/json\r\nContent-Length: {length}\r\n")
    };
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{}{kind}\r\n{body}",
        bearer.unwrap_or_default()
    );
    exchange(address, request.as_bytes())
}

/// What `/metrics` says, by series: name and labels as they stand there.
pub struct Metrics(String);

impl Metrics {
    /// Asks for them.
    pub fn of(control: SocketAddr) -> Metrics {
        let answer = get(control, "/metrics");
        assert_eq!(answer.status, 200, "{answer:?}");
        let kind = answer.header("content-type").unwrap_or_default();
        assert!(kind.starts_with("application/openmetrics-text"), "{kind}");
        assert!(answer.body.ends_with("# EOF\n"), "{}", answer.body);
        Metrics(answer.body)
    }

    /// The sum of all series of a family.
    pub fn sum(&self, family: &str) -> u64 {
        let of_family =
            |line: &&str| line.starts_with(family) && line[family.len()..].starts_with('{');
        self.0
            .lines()
            .filter(of_family)
            .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
            .sum()
    }

    /// The value of one series, such as `longhaul_connections_open{role="vehicle"}`.
    #[track_caller]
    pub fn value(&self, series: &str) -> u64 {
        let mut lines = self.0.lines();
        let value = lines.find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        let Some(value) = value else {
            panic!("there is no {series} in\n{}", self.0)
        };
        value.parse().expect("a whole number")
    }
}

/// Everybody on this machine is a load balancer.
pub const BALANCER: &str = "server.proxy_protocol={ from = [\"127.0.0.0/8\"] }";

/// A PROXY protocol header, version 2, for a TCP connection from `client`.
pub fn proxy_header(client: &str) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    match client.parse().expect("an address") {
        IpAddr::V4(client) => {
            header.extend([0x21, 0x11, 0, 12]);
            header.extend(client.octets());
            header.extend([10, 0, 0, 1]);
        }
        IpAddr::V6(client) => {
            header.extend([0x21, 0x21, 0, 36]);
            header.extend(client.octets());
            header.extend([0; 16]);
        }
    }
    header.extend([0x30, 0x39, 0x24, 0xB8]);
    header
}
