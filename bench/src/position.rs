//! A vehicle's report as it travels: the one message that the load consists of.

use longhaul_codec::{Encoder, Fix};

use crate::frames::{self, Opcode};

/// The frame with which a vehicle reports, encoded once: a send patches 24 bytes and needs no encoder.
#[derive(Debug)]
pub struct PositionFrame {
    payload: Vec<u8>,
    fix_at: usize,
    body: Vec<u8>,
    frame: Vec<u8>,
    zero_mask: bool,
}

impl PositionFrame {
    /// `zero_mask`: mask with zeros, which costs neither side anything.
    ///
    /// # Errors
    /// The encoder did not write the fix where it can be found (a codec bug).
    pub fn new(zero_mask: bool) -> anyhow::Result<Self> {
        let marker = Fix {
            time_ms: 0x1122_3344_5566_7788,
            vehicle: 0x99aa_bbcc,
            lat_e7: 0x1dde_eff0,
            lon_e7: 0x0102_0304,
            speed_cm_s: 0x0506,
            heading_cdeg: 0x0708,
        };
        let payload = Encoder::new().position(&marker).payload().to_vec();
        let needle = fix_bytes(&marker);
        let fix_at = payload
            .windows(needle.len())
            .position(|window| window == needle)
            .ok_or_else(|| anyhow::anyhow!("the encoded Position does not contain its fix"))?;
        Ok(Self {
            payload,
            fix_at,
            body: Vec::new(),
            frame: Vec::new(),
            zero_mask,
        })
    }

    /// The frame's length, the same for every fix.
    pub fn bytes(&self) -> usize {
        let mut frame = Vec::new();
        frames::write(&mut frame, Opcode::Binary, &self.payload, [0; 4]);
        frame.len()
    }

    /// The frame that reports `fix`.
    pub fn patch(&mut self, fix: &Fix, rng: &mut fastrand::Rng) -> &[u8] {
        self.set(fix);
        let mask = self.mask(rng);
        self.frame.clear();
        frames::write(&mut self.frame, Opcode::Binary, &self.payload, mask);
        &self.frame
    }

    /// The same, for a server of another protocol: the message is inside of what `wrap` writes.
    pub fn wrapped(
        &mut self,
        fix: &Fix,
        rng: &mut fastrand::Rng,
        wrap: impl FnOnce(&[u8], &mut Vec<u8>),
    ) -> &[u8] {
        self.set(fix);
        let mask = self.mask(rng);
        self.body.clear();
        wrap(&self.payload, &mut self.body);
        self.frame.clear();
        frames::write(&mut self.frame, Opcode::Binary, &self.body, mask);
        &self.frame
    }

    fn set(&mut self, fix: &Fix) {
        self.payload[self.fix_at..self.fix_at + FIX_BYTES].copy_from_slice(&fix_bytes(fix));
    }

    fn mask(&self, rng: &mut fastrand::Rng) -> [u8; 4] {
        if self.zero_mask {
            [0; 4]
        } else {
            rng.u32(..).to_ne_bytes()
        }
    }

    /// The fix in a message that came back as it was sent; `None` if anything but the fix is not as it was.
    pub fn fix_in(&self, message: &[u8]) -> Option<Fix> {
        let at = self.fix_at..self.fix_at + FIX_BYTES;
        let intact = message.len() == self.payload.len()
            && message[..at.start] == self.payload[..at.start]
            && message[at.end..] == self.payload[at.end..];
        intact.then(|| read_fix(&message[at]))
    }

    /// Bytes of the message.
    pub fn message_bytes(&self) -> usize {
        self.payload.len()
    }
}

/// `struct Fix` of the schema.
pub const FIX_BYTES: usize = 24;

/// A fix as it travels: little-endian.
pub fn fix_bytes(fix: &Fix) -> [u8; FIX_BYTES] {
    let mut bytes = [0; FIX_BYTES];
    bytes[0..8].copy_from_slice(&fix.time_ms.to_le_bytes());
    bytes[8..12].copy_from_slice(&fix.vehicle.to_le_bytes());
    bytes[12..16].copy_from_slice(&fix.lat_e7.to_le_bytes());
    bytes[16..20].copy_from_slice(&fix.lon_e7.to_le_bytes());
    bytes[20..22].copy_from_slice(&fix.speed_cm_s.to_le_bytes());
    bytes[22..24].copy_from_slice(&fix.heading_cdeg.to_le_bytes());
    bytes
}

/// A fix out of the 24 bytes in which it travels.
pub fn read_fix(bytes: &[u8]) -> Fix {
    // The slice is a chunk of exactly 24 bytes; the fallback is never taken, and costs nothing.
    let bytes: [u8; FIX_BYTES] = bytes.try_into().unwrap_or([0; FIX_BYTES]);
    let word =
        |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    let half = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
    Fix {
        time_ms: u64::from(word(0)) | u64::from(word(4)) << 32,
        vehicle: word(8),
        lat_e7: word(12) as i32,
        lon_e7: word(16) as i32,
        speed_cm_s: half(20),
        heading_cdeg: half(22),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use longhaul_codec::{MessageRef, decode};

    #[test]
    fn the_patched_frame_decodes_to_the_fix() {
        let fix = Fix {
            time_ms: 1_790_000_000_000,
            vehicle: 0,
            lat_e7: -1,
            lon_e7: 133_000_000,
            speed_cm_s: 65_535,
            heading_cdeg: 9_000,
        };
        let mut rng = fastrand::Rng::with_seed(1);
        for zero_mask in [true, false] {
            let mut template = PositionFrame::new(zero_mask).unwrap();
            let frame = template.patch(&fix, &mut rng).to_vec();
            assert_eq!(usize::from(frame[1] & 0x7f), frame.len() - 6);
            let payload: Vec<u8> = frame[6..]
                .iter()
                .zip(frame[2..6].iter().cycle())
                .map(|(b, k)| b ^ k)
                .collect();
            match decode(&payload).unwrap() {
                MessageRef::Position(position) => assert_eq!(Fix::from(position.fix()), fix),
                other => panic!("not a position: {other:?}"),
            }
        }
    }

    #[test]
    fn a_fix_survives_its_bytes() {
        let fix = Fix {
            time_ms: 0x0102_0304_0506_0708,
            vehicle: 9,
            lat_e7: -5,
            lon_e7: 1_800_000_000,
            speed_cm_s: 65_535,
            heading_cdeg: 35_999,
        };
        assert_eq!(read_fix(&fix_bytes(&fix)), fix);
    }

    #[test]
    fn a_wrapped_message_comes_back_whole_or_not_at_all() {
        let fix = Fix {
            time_ms: 5,
            vehicle: 7,
            lat_e7: -1,
            ..Fix::default()
        };
        let mut template = PositionFrame::new(true).unwrap();
        let mut sent = Vec::new();
        let frame = template.wrapped(&fix, &mut fastrand::Rng::with_seed(1), |message, body| {
            sent.extend_from_slice(message);
            body.extend_from_slice(b"in");
            body.extend_from_slice(message);
        });
        assert_eq!(&frame[6..8], b"in");
        assert_eq!(frame[8..], sent);
        assert_eq!(sent.len(), template.message_bytes());
        assert_eq!(template.fix_in(&sent), Some(fix));
        assert_eq!(template.fix_in(&sent[1..]), None);
        for at in 0..sent.len() {
            let mut other = sent.clone();
            other[at] ^= 1;
            assert_ne!(template.fix_in(&other), Some(fix), "byte {at}");
        }
    }
}
