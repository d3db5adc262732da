//! The frame with which a vehicle publishes an event, encoded once: a send patches eight bytes and needs no encoder.

use anyhow::Context;
use longhaul_codec::{Encoder, Event, Message};

use crate::frames::{self, Opcode};

/// The topic of all events here.
pub const TOPIC: &str = "bench";

/// See the module. The mask is zero, which costs neither side anything.
pub struct EventFrame {
    frame: Vec<u8>,
    id_at: usize,
}

impl EventFrame {
    /// A frame with `payload_bytes` of payload.
    ///
    /// # Errors
    /// The encoder did not write the id where it can be found (a codec bug).
    pub fn new(payload_bytes: usize, time_ms: u64) -> anyhow::Result<Self> {
        let marker: u64 = 0x1122_3344_5566_7788;
        let event = Event {
            topic: TOPIC.to_owned(),
            qos: 1,
            message_id: marker,
            time_ms,
            payload: (0..payload_bytes).map(|at| at as u8).collect(),
            ..Event::default()
        };
        let encoded = Encoder::new()
            .message(&Message::Event(event))
            .payload()
            .to_vec();
        let mut frame = Vec::new();
        frames::write(&mut frame, Opcode::Binary, &encoded, [0; 4]);
        let id_at = frame
            .windows(8)
            .position(|window| window == marker.to_le_bytes())
            .context("the encoded Event does not contain its id")?;
        Ok(Self { frame, id_at })
    }

    /// Appends the event with this id.
    pub fn write(&mut self, message_id: u64, out: &mut Vec<u8>) {
        self.frame[self.id_at..self.id_at + 8].copy_from_slice(&message_id.to_le_bytes());
        out.extend_from_slice(&self.frame);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use longhaul_codec::{MessageRef, decode};

    #[test]
    fn the_patched_frame_decodes_to_the_event() {
        let mut template = EventFrame::new(200, 7).unwrap();
        for id in [1, u64::MAX] {
            let mut frame = Vec::new();
            template.write(id, &mut frame);
            // Two bytes of header, two of length, four of mask.
            match decode(&frame[8..]).unwrap() {
                MessageRef::Event(event) => {
                    let event = Event::from(event);
                    let found = (event.message_id, event.qos, event.time_ms);
                    assert_eq!(found, (id, 1, 7));
                    assert_eq!((event.payload.len(), &*event.topic), (200, TOPIC));
                }
                other => panic!("not an event: {other:?}"),
            }
        }
    }
}
