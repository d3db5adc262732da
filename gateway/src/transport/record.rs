//! TLS 1.3 record protection (RFC 8446 §5) with traffic keys that somebody else has negotiated.
//!
//! The AEAD's key schedule, which takes 500 bytes and more, is set up for each record and thrown away again: half a
//! microsecond beside the five and more that a message costs in TCP, and an idle connection is left with its bare keys.
//! (rustls' own encrypters would not do: aws-lc's contexts for TLS insist on counting from the record that they began
//! with.)

use aws_lc_rs::aead::{
    AES_128_GCM, AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey,
};
use rustls::ConnectionTrafficSecrets;
use zeroize::Zeroize;

use super::Fault;

/// Bytes of a record's header.
pub const HEADER_BYTES: usize = 5;
/// The most that one record says (RFC 8446 §5.1).
pub const PLAIN_BYTES_MAX: usize = 16_384;
/// The most that it has behind its header (§5.2).
pub const SEALED_BYTES_MAX: usize = PLAIN_BYTES_MAX + 256;
/// What sealing adds behind the header: the content's type, and the tag.
const ADDED_BYTES: usize = 1 + TAG_BYTES;
const TAG_BYTES: usize = 16;
const NONCE_BYTES: usize = 12;
/// Records that AES-GCM seals with one key (§5.5: 2^24.5).
const RECORDS_MAX: u64 = 1 << 24;

/// What a record is about (RFC 8446 §5.1).
pub mod content {
    /// An alert.
    pub const ALERT: u8 = 21;
    /// A handshake message.
    pub const HANDSHAKE: u8 = 22;
    /// What the peers say to each other; and, outside, every sealed record.
    pub const APPLICATION: u8 = 23;
}

/// One direction's key, and how many records it has sealed or opened.
pub struct TrafficKey {
    algorithm: &'static Algorithm,
    key: [u8; 32],
    iv: [u8; NONCE_BYTES],
    sequence: u64,
}

/// Nothing of the key.
impl std::fmt::Debug for TrafficKey {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("TrafficKey")
            .field("sequence", &self.sequence)
            .finish_non_exhaustive()
    }
}

impl Drop for TrafficKey {
    fn drop(&mut self) {
        self.key.zeroize();
        self.iv.zeroize();
    }
}

/// How many bytes the record at the beginning of `wire` has, its header among them. `None`: its header is not complete.
///
/// # Errors
/// It is no record of TLS 1.3 traffic, or too long.
pub fn length_of(wire: &[u8]) -> Result<Option<usize>, Fault> {
    let Some(&[kind, _, _, high, low]) = wire.first_chunk::<HEADER_BYTES>() else {
        return Ok(None);
    };
    if kind != content::APPLICATION {
        return Err(Fault(format!(
            "a record of type {kind} where a sealed one belongs"
        )));
    }
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > SEALED_BYTES_MAX {
        return Err(Fault(format!(
            "a record of {length} bytes, allowed: {SEALED_BYTES_MAX}"
        )));
    }
    Ok(Some(HEADER_BYTES + length))
}

impl TrafficKey {
    /// The key that a handshake or a key update has led to. `None`: of a kind that this does not know.
    pub fn new((sequence, secrets): (u64, ConnectionTrafficSecrets)) -> Option<TrafficKey> {
        let (algorithm, secret, iv) = match &secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (&AES_128_GCM, key, iv),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (&AES_256_GCM, key, iv),
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (&CHACHA20_POLY1305, key, iv),
            _ => return None,
        };
        let mut key = [0; 32];
        key.get_mut(..secret.as_ref().len())?
            .copy_from_slice(secret.as_ref());
        Some(TrafficKey {
            algorithm,
            key,
            iv: iv.as_ref().try_into().ok()?,
            sequence,
        })
    }

    #[cfg(test)]
    pub fn copy_for_tests(&self) -> TrafficKey {
        TrafficKey {
            algorithm: self.algorithm,
            key: self.key,
            iv: self.iv,
            sequence: self.sequence,
        }
    }

    #[cfg(test)]
    pub fn sequence_for_tests(&self) -> u64 {
        self.sequence
    }

    /// Whether it has sealed so many records that another must take its place.
    pub fn is_worn(&self) -> bool {
        self.algorithm != &CHACHA20_POLY1305 && self.sequence >= RECORDS_MAX - 1
    }

    /// Opens a whole record, header and all, in place. Returns what it is about and where that lies in it.
    ///
    /// # Errors
    /// It was not sealed with this key at this place, or says nothing.
    pub fn open(&mut self, record: &mut [u8]) -> Result<(u8, std::ops::Range<usize>), Fault> {
        let (key, nonce) = self.next()?;
        let (header, sealed) = record
            .split_first_chunk_mut::<HEADER_BYTES>()
            .ok_or_else(|| Fault("a record without a header".to_owned()))?;
        let plain = key
            .open_in_place(nonce, Aad::from(*header), sealed)
            .map_err(|_| Fault("a record that does not open (bad_record_mac)".to_owned()))?;
        // Behind the content comes its type, then zeros (§5.4).
        let last = plain
            .iter()
            .rposition(|byte| *byte != 0)
            .ok_or_else(|| Fault("a record without a content type".to_owned()))?;
        // Its padding counts (§5.4).
        if plain.len() > PLAIN_BYTES_MAX + 1 {
            return Err(Fault(format!(
                "a record with {} bytes inside, allowed: {}",
                plain.len(),
                PLAIN_BYTES_MAX + 1
            )));
        }
        Ok((plain[last], HEADER_BYTES..HEADER_BYTES + last))
    }

    /// Appends `plain` to `wire`, sealed, in as many records as it takes.
    ///
    /// # Errors
    /// The key cannot go on.
    pub fn seal(&mut self, kind: u8, plain: &[u8], wire: &mut Vec<u8>) -> Result<(), Fault> {
        let records = plain.len().div_ceil(PLAIN_BYTES_MAX).max(1);
        wire.reserve(plain.len() + records * (HEADER_BYTES + ADDED_BYTES));
        let mut chunks = plain.chunks(PLAIN_BYTES_MAX);
        for _ in 0..records {
            self.seal_one(kind, chunks.next().unwrap_or_default(), wire)?;
        }
        Ok(())
    }

    fn seal_one(&mut self, kind: u8, plain: &[u8], wire: &mut Vec<u8>) -> Result<(), Fault> {
        let (key, nonce) = self.next()?;
        let [high, low] = ((plain.len() + ADDED_BYTES) as u16).to_be_bytes();
        // The version of a record is frozen at that of TLS 1.2 (§5.1).
        let header = [content::APPLICATION, 3, 3, high, low];
        wire.extend_from_slice(&header);
        let start = wire.len();
        wire.extend_from_slice(plain);
        wire.push(kind);
        let tag = key
            .seal_in_place_separate_tag(nonce, Aad::from(header), &mut wire[start..])
            .map_err(|_| Fault("a record cannot be sealed".to_owned()))?;
        wire.extend_from_slice(tag.as_ref());
        Ok(())
    }

    /// The key set up, and the nonce of the next record (§5.3).
    fn next(&mut self) -> Result<(LessSafeKey, Nonce), Fault> {
        let sequence = self.sequence;
        self.sequence = sequence
            .checked_add(1)
            .ok_or_else(|| Fault("more records than a key is for".to_owned()))?;
        let mut nonce = self.iv;
        for (byte, counted) in nonce[4..].iter_mut().zip(sequence.to_be_bytes()) {
            *byte ^= counted;
        }
        let key = &self.key[..self.algorithm.key_len()];
        let key = UnboundKey::new(self.algorithm, key)
            .map_err(|_| Fault("a key that the cipher does not take".to_owned()))?;
        Ok((LessSafeKey::new(key), Nonce::assume_unique_for_key(nonce)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(algorithm: &'static Algorithm) -> (TrafficKey, TrafficKey) {
        let key = || TrafficKey {
            algorithm,
            key: [7; 32],
            iv: [9; NONCE_BYTES],
            sequence: 3,
        };
        (key(), key())
    }

    fn opened(key: &mut TrafficKey, wire: &[u8]) -> Result<(u8, Vec<u8>), Fault> {
        let mut record = wire.to_vec();
        let (kind, range) = key.open(&mut record)?;
        Ok((kind, record[range].to_vec()))
    }

    #[test]
    fn what_is_sealed_opens_once_and_in_order() {
        for algorithm in [&AES_128_GCM, &AES_256_GCM, &CHACHA20_POLY1305] {
            let (mut sender, mut receiver) = pair(algorithm);
            let mut wire = Vec::new();
            sender
                .seal(content::APPLICATION, b"one", &mut wire)
                .unwrap();
            let second = wire.len();
            sender.seal(content::ALERT, b"", &mut wire).unwrap();
            assert_eq!(length_of(&wire), Ok(Some(second)));
            let (first, rest) = wire.split_at(second);
            assert_eq!(
                opened(&mut receiver, first),
                Ok((content::APPLICATION, b"one".to_vec()))
            );
            assert!(opened(&mut receiver, first).is_err(), "a repetition");
            let (_, mut receiver) = pair(algorithm);
            assert!(opened(&mut receiver, rest).is_err(), "out of order");
            let (_, mut receiver) = pair(algorithm);
            opened(&mut receiver, first).unwrap();
            assert_eq!(
                opened(&mut receiver, rest),
                Ok((content::ALERT, Vec::new()))
            );
        }
    }

    #[test]
    fn any_changed_bit_is_noticed() {
        let (mut sender, _) = pair(&AES_256_GCM);
        let mut wire = Vec::new();
        sender
            .seal(content::APPLICATION, b"hello", &mut wire)
            .unwrap();
        for bit in 0..wire.len() * 8 {
            let mut changed = wire.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let (_, mut receiver) = pair(&AES_256_GCM);
            assert!(opened(&mut receiver, &changed).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn long_messages_become_several_records() {
        let (mut sender, mut receiver) = pair(&AES_128_GCM);
        let plain: Vec<u8> = (0..2 * PLAIN_BYTES_MAX + 1).map(|n| n as u8).collect();
        let mut wire = Vec::new();
        sender
            .seal(content::APPLICATION, &plain, &mut wire)
            .unwrap();
        let mut said = Vec::new();
        let mut rest = wire.as_slice();
        while let Some(length) = length_of(rest).unwrap() {
            said.extend(opened(&mut receiver, &rest[..length]).unwrap().1);
            rest = &rest[length..];
        }
        assert_eq!((said == plain, receiver.sequence), (true, 6));
    }

    #[test]
    fn padding_is_taken_off_and_a_record_of_zeros_is_none() {
        let (mut sender, mut receiver) = pair(&AES_128_GCM);
        let mut wire = Vec::new();
        // The content's type comes first here, then what looks like padding.
        sender
            .seal(0, &[b'a', content::APPLICATION, 0, 0], &mut wire)
            .unwrap();
        assert_eq!(
            opened(&mut receiver, &wire),
            Ok((content::APPLICATION, b"a".to_vec()))
        );
        wire.clear();
        sender.seal(0, &[0, 0, 0], &mut wire).unwrap();
        assert_eq!(
            opened(&mut receiver, &wire),
            Err(Fault("a record without a content type".to_owned()))
        );
    }

    #[test]
    fn headers_are_checked_before_anything_is_kept() {
        assert_eq!(length_of(&[23, 3, 3, 0]), Ok(None));
        assert_eq!(length_of(&[23, 3, 3, 0, 0]), Ok(Some(5)));
        assert_eq!(
            length_of(&[23, 3, 3, 0x41, 0]),
            Ok(Some(5 + SEALED_BYTES_MAX))
        );
        assert!(length_of(&[23, 3, 3, 0x41, 1]).is_err());
        assert!(length_of(&[22, 3, 3, 0, 1]).is_err());
        assert!(length_of(b"GET / HTTP/1.1").is_err());
    }

    #[test]
    fn a_key_wears_out_where_its_cipher_says_so() {
        let (mut worn, _) = pair(&AES_128_GCM);
        assert!(!worn.is_worn());
        worn.sequence = RECORDS_MAX - 1;
        assert!(worn.is_worn());
        let (mut chacha, _) = pair(&CHACHA20_POLY1305);
        chacha.sequence = RECORDS_MAX;
        assert!(!chacha.is_worn());
        chacha.sequence = u64::MAX;
        assert!(chacha.seal(content::ALERT, b"", &mut Vec::new()).is_err());
    }

    #[test]
    fn nothing_of_a_key_is_shown() {
        let shown = format!("{:?}", pair(&AES_128_GCM).0);
        assert_eq!(shown, "TrafficKey { sequence: 3, .. }");
    }
}
