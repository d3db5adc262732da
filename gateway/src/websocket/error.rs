//! Every way in which a client can break the protocol.

use super::CloseCode;

/// A client broke RFC 6455; the connection is to be failed (§7.1.7).
///
/// The text is fit for a close frame's reason: plain, and under 123 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// §5.2: a reserved bit is set and no extension gave it a meaning.
    #[error("reserved bits are set, but no extension was negotiated")]
    ReservedBits,
    /// §5.2: opcodes 3 to 7 and 11 to 15 have no meaning.
    #[error("opcode {0} is reserved")]
    ReservedOpcode(u8),
    /// §5.1: every frame from a client is masked.
    #[error("frames from a client must be masked")]
    Unmasked,
    /// §5.5: a control frame is one frame.
    #[error("a control frame must not be fragmented")]
    FragmentedControl,
    /// §5.5: a control frame carries at most 125 bytes.
    #[error("a control frame carries at most 125 bytes")]
    ControlTooLong,
    /// §5.2: the length takes the shortest of its three forms.
    #[error("the payload length is not in its shortest form")]
    LengthNotShortest,
    /// §5.2: the top bit of a 64-bit length is zero.
    #[error("the top bit of a 64-bit payload length must be 0")]
    LengthTopBit,
    /// §5.4: there is nothing to continue.
    #[error("a continuation frame came without a message to continue")]
    NothingToContinue,
    /// §5.4: messages do not interleave.
    #[error("a new message began before the fragmented one ended")]
    MessageUnfinished,
    /// §5.5.1: a close payload is empty or begins with a two-byte code.
    #[error("a close frame carries nothing, or at least a two-byte code")]
    ClosePayloadLength,
    /// §7.4: the close code may not be sent.
    #[error("close code {0} must not be sent")]
    CloseCodeNotAllowed(u16),
    /// §5.5.1: the reason is text.
    #[error("the reason in a close frame is not valid UTF-8")]
    CloseReasonNotUtf8,
    /// §8.1: a text message is UTF-8.
    #[error("a text message is not valid UTF-8")]
    TextNotUtf8,
    /// §10.4: a message over the configured limit.
    #[error("a message may have at most {bytes_max} bytes")]
    MessageTooLarge {
        /// The limit that was exceeded, in bytes of payload.
        bytes_max: usize,
    },
    /// §10.4: a message in more frames than configured.
    #[error("a message may have at most {frames_max} frames")]
    TooManyFrames {
        /// The limit that was exceeded, in frames.
        frames_max: u32,
    },
}

impl ProtocolError {
    /// The status code for the close frame that tells the client (§7.4.1).
    pub fn close_code(&self) -> CloseCode {
        match self {
            Self::TextNotUtf8 | Self::CloseReasonNotUtf8 => CloseCode::Invalid,
            Self::MessageTooLarge { .. } | Self::TooManyFrames { .. } => CloseCode::Size,
            _ => CloseCode::Protocol,
        }
    }
}
