//! What a close frame may carry (RFC 6455 §5.5.1, §7.4).

use super::{CloseCode, ProtocolError};

/// "Bad gateway": registered with IANA after RFC 6455, unknown to tungstenite 0.30.
const BAD_GATEWAY: u16 = 1014;

/// Reads an unmasked close payload: nothing, or a code and a reason.
pub(super) fn read(payload: &[u8]) -> Result<Option<(CloseCode, &str)>, ProtocolError> {
    match payload {
        [] => Ok(None),
        // §5.5.1: if there is a body, its first two bytes are the code.
        [_] => Err(ProtocolError::ClosePayloadLength),
        [high, low, reason @ ..] => {
            let number = u16::from_be_bytes([*high, *low]);
            let code = CloseCode::from(number);
            // §7.4.1: 1004, 1005, 1006 and 1015 never travel; §7.4.2: below 1000 nothing is
            // used, up to 2999 only what is registered.
            if !code.is_allowed() && number != BAD_GATEWAY {
                return Err(ProtocolError::CloseCodeNotAllowed(number));
            }
            let reason =
                std::str::from_utf8(reason).map_err(|_| ProtocolError::CloseReasonNotUtf8)?;
            Ok(Some((code, reason)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_codes_that_may_travel_are_those_of_section_7_4() {
        for number in 0..=u16::MAX {
            let allowed = matches!(number, 1000..=1003 | 1007..=1014 | 3000..=4999);
            let got = read(&number.to_be_bytes()).map(|close| close.map(|(code, _)| code.into()));
            let expected = if allowed {
                Ok(Some(number))
            } else {
                Err(ProtocolError::CloseCodeNotAllowed(number))
            };
            assert_eq!(got, expected, "code {number}");
        }
    }

    #[test]
    fn a_payload_is_empty_or_a_code_and_text() {
        assert_eq!(read(b""), Ok(None));
        assert_eq!(read(b"\x03"), Err(ProtocolError::ClosePayloadLength));
        assert_eq!(read(b"\x03\xe8"), Ok(Some((CloseCode::Normal, ""))));
        assert_eq!(
            read(&[b"\x03\xe9", "müde".as_bytes()].concat()),
            Ok(Some((CloseCode::Away, "müde")))
        );
        // §8.1: never valid, overlong, a surrogate, cut short.
        for reason in [&b"\xff"[..], b"\xc0\xaf", b"\xed\xa0\x80", b"\xce"] {
            let payload = [b"\x03\xe8", reason].concat();
            assert_eq!(read(&payload), Err(ProtocolError::CloseReasonNotUtf8));
        }
    }
}
