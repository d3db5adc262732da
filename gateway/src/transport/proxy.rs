//! The PROXY protocol, version 2 (haproxy.org, `proxy-protocol.txt`, §2.2): what a load balancer says of the connection that
//! it passes on, in front of everything else. Pure: bytes in, an address out.
//!
//! The parser is the `ppp` crate: it asks for more where bytes are missing, panics on none, and brings nothing with it.
//! This module adds the bound. Further information (TLVs) is skipped, its checksum (PP2_TYPE_CRC32C) too: between a
//! balancer and its server, TCP's own has to do.

use std::net::IpAddr;

use ppp::v2::{Addresses, Command, Header, PROTOCOL_PREFIX, ParseError, Protocol};

use crate::limits::PROXY_HEADER_BYTES_MAX;

/// What a header of this version begins with. No HTTP request and no TLS handshake does.
pub const SIGNATURE: &[u8] = PROTOCOL_PREFIX;

/// A header's fixed part.
const FIXED_BYTES: usize = 16;

/// What a header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Preface {
    /// Whom the connection is for. `None`: the balancer itself (a health check), or somebody who has no IP address.
    pub client: Option<IpAddr>,
    /// Its length in bytes. What is behind it is the client's.
    pub length: usize,
}

/// Why bytes are no header. The connection is to be closed: what follows cannot be told apart (§2).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProxyError {
    /// The balancer does not speak this.
    #[error(
        "this address is a load balancer's (server.proxy_protocol), and its connection does not begin with a PROXY \
         protocol header of version 2: make it send one"
    )]
    Missing,
    /// It does, and badly.
    #[error("the PROXY protocol header is malformed: {0}")]
    Malformed(String),
    /// It is well-formed, for something else.
    #[error("the PROXY protocol header is not for a TCP connection")]
    NotTcp,
    /// It is too long.
    #[error("the PROXY protocol header has {0} bytes, allowed: up to {PROXY_HEADER_BYTES_MAX}")]
    TooLong(usize),
}

/// Reads the header that `bytes` begin with; `None` when more are needed, then call again with all of them. They are never
/// more than [`PROXY_HEADER_BYTES_MAX`].
///
/// # Errors
/// There is none, or none that can be used.
pub fn read(bytes: &[u8]) -> Result<Option<Preface>, ProxyError> {
    if let Some(length) = bytes.get(FIXED_BYTES - 2..FIXED_BYTES) {
        let length = FIXED_BYTES + usize::from(u16::from_be_bytes([length[0], length[1]]));
        if bytes.starts_with(SIGNATURE) && length > PROXY_HEADER_BYTES_MAX {
            return Err(ProxyError::TooLong(length));
        }
    }
    let header = match Header::try_from(bytes) {
        Ok(header) => header,
        Err(ParseError::Incomplete(_) | ParseError::Partial(..)) => return Ok(None),
        Err(ParseError::Prefix) => return Err(ProxyError::Missing),
        Err(error) => return Err(ProxyError::Malformed(error.to_string())),
    };
    let length = header.len();
    let client = match (header.command, header.protocol, header.addresses) {
        // §2.2: the receiver must use the real connection's addresses.
        (Command::Local, ..) | (_, Protocol::Unspecified, _) | (.., Addresses::Unspecified) => None,
        (_, Protocol::Datagram, _) => return Err(ProxyError::NotTcp),
        (.., Addresses::IPv4(addresses)) => Some(IpAddr::V4(addresses.source_address)),
        (.., Addresses::IPv6(addresses)) => Some(IpAddr::V6(addresses.source_address)),
        (.., Addresses::Unix(_)) => None,
    };
    Ok(Some(Preface {
        client: client.map(|client| client.to_canonical()),
        length,
    }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header(version_command: u8, family: u8, payload: &[u8]) -> Vec<u8> {
        let length = u16::try_from(payload.len()).expect("a header's length");
        [
            SIGNATURE,
            &[version_command, family],
            &length.to_be_bytes(),
            payload,
        ]
        .concat()
    }

    fn tcp4() -> Vec<u8> {
        header(
            0x21,
            0x11,
            &[192, 0, 2, 1, 10, 0, 0, 1, 0x30, 0x39, 0x24, 0xB8],
        )
    }

    fn tcp6(source: &str) -> Vec<u8> {
        let source: std::net::Ipv6Addr = source.parse().expect("an address");
        header(
            0x21,
            0x21,
            &[&source.octets()[..], &[0; 16], &[0x30, 0x39, 0x24, 0xB8]].concat(),
        )
    }

    fn client(bytes: &[u8]) -> Option<IpAddr> {
        let preface = read(bytes).expect("a good header").expect("a whole one");
        assert_eq!(preface.length, bytes.len());
        preface.client
    }

    #[test]
    fn it_says_whom_a_connection_is_for() {
        let is = |text: &str| Some(text.parse::<IpAddr>().expect("an address"));
        assert_eq!(client(&tcp4()), is("192.0.2.1"));
        assert_eq!(client(&tcp6("2001:db8::7")), is("2001:db8::7"));
        assert_eq!(
            client(&tcp6("::ffff:192.0.2.1")),
            is("192.0.2.1"),
            "one address has one name"
        );
        assert_eq!(client(&header(0x20, 0x00, &[])), None, "LOCAL");
        assert_eq!(
            client(&header(0x20, 0x11, &tcp4()[16..])),
            None,
            "LOCAL with addresses"
        );
        assert_eq!(client(&header(0x21, 0x00, &[])), None, "UNSPEC");
        assert_eq!(
            client(&header(0x21, 0x00, &[1, 2, 3])),
            None,
            "UNSPEC with something"
        );
        assert_eq!(
            client(&header(0x21, 0x31, &[0; 216])),
            None,
            "a Unix socket"
        );
        // AWS: 0xEA, an endpoint's id. And a checksum, which is not looked at.
        let tlvs = [
            &tcp4()[16..],
            &[0xEA, 0, 4, 1, 2, 3, 4, 3, 0, 4, 9, 9, 9, 9],
        ]
        .concat();
        assert_eq!(client(&header(0x21, 0x11, &tlvs)), is("192.0.2.1"));
    }

    #[test]
    fn what_follows_is_the_clients() {
        let bytes = [&tcp4()[..], b"GET /v1 HTTP/1.1\r\n"].concat();
        let preface = read(&bytes).expect("a good header").expect("a whole one");
        assert_eq!(&bytes[preface.length..], b"GET /v1 HTTP/1.1\r\n");
    }

    #[test]
    fn a_piece_of_a_header_waits_for_the_rest() {
        for whole in [tcp4(), tcp6("2001:db8::7")] {
            for length in 0..whole.len() {
                assert_eq!(read(&whole[..length]), Ok(None), "{length}");
            }
        }
    }

    #[test]
    fn what_is_none_is_refused() {
        assert_eq!(read(b"GET /v1 HTTP/1.1\r\n"), Err(ProxyError::Missing));
        assert_eq!(read(b"G"), Err(ProxyError::Missing), "at its first byte");
        assert_eq!(
            read(b"PROXY TCP4 192.0.2.1"),
            Err(ProxyError::Missing),
            "version 1"
        );
        assert_eq!(read(b"\r\n\r\n\0\r\nQUIX"), Err(ProxyError::Missing));
        for (command, family) in [(0x11, 0x11), (0x22, 0x11), (0x21, 0x41), (0x21, 0x13)] {
            let bytes = header(command, family, &[0; 216]);
            assert!(
                matches!(read(&bytes), Err(ProxyError::Malformed(_))),
                "{command:x} {family:x}"
            );
        }
        let short = header(0x21, 0x11, &[192, 0, 2, 1]);
        assert!(matches!(read(&short), Err(ProxyError::Malformed(_))));
        assert_eq!(read(&header(0x21, 0x12, &[0; 12])), Err(ProxyError::NotTcp));
    }

    /// The length is refused before any of it is waited for.
    #[test]
    fn its_length_is_bounded() {
        let longest = header(0x21, 0x11, &vec![0; PROXY_HEADER_BYTES_MAX - 16]);
        assert!(read(&longest).is_ok_and(|read| read.is_some()));
        let longer = header(0x21, 0x11, &vec![0; PROXY_HEADER_BYTES_MAX - 15]);
        assert_eq!(
            read(&longer[..16]),
            Err(ProxyError::TooLong(PROXY_HEADER_BYTES_MAX + 1))
        );
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(
            start in 0usize..=16,
            noise in proptest::collection::vec(any::<u8>(), 0..600),
            cut in 0usize..600
        ) {
            let mut bytes = tcp4()[..start].to_vec();
            bytes.extend(noise);
            let whole = read(&bytes);
            // More bytes change nothing that has been decided, and fewer never decide otherwise.
            let part = read(&bytes[..cut.min(bytes.len())]);
            match part {
                Ok(None) => {}
                part => prop_assert_eq!(part, whole),
            }
        }
    }
}
