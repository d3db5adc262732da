//! The PROXY protocol header: what may stand in front of everything else.

use bolero::check;

use crate::limits::PROXY_HEADER_BYTES_MAX;
use crate::transport::proxy::{SIGNATURE, read};

#[test]
fn proxy() {
    check!(name = "proxy").for_each(|bytes: &[u8]| {
        check_header(bytes);
        // Few inputs of a fuzzer would begin with the signature by themselves.
        check_header(&[SIGNATURE, bytes].concat());
    });
}

fn check_header(bytes: &[u8]) {
    match read(bytes) {
        Ok(Some(preface)) => {
            assert!(preface.length <= bytes.len() && preface.length <= PROXY_HEADER_BYTES_MAX);
            // What is behind it changes nothing, and without its last byte it is not whole.
            assert_eq!(read(&bytes[..preface.length]), Ok(Some(preface)));
            assert_eq!(read(&bytes[..preface.length - 1]), Ok(None));
            assert!(
                preface
                    .client
                    .is_none_or(|client| client == client.to_canonical())
            );
        }
        Ok(None) => assert!(bytes.len() < PROXY_HEADER_BYTES_MAX),
        Err(error) => assert!(!error.to_string().contains('\n')),
    }
}
