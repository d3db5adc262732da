//! Subscribe requests as frames. A long list of vehicles is split so that no message is over the gateway's limit.

use longhaul_codec::{Encoder, Message, Subscribe, SubscribeMode};

use crate::frames::{self, Opcode};

/// Encoded size of an id besides its characters: offset, length, end, padding.
const ID_OVERHEAD_BYTES: usize = 16;
/// Room for everything in the message that is not an id.
const MESSAGE_OVERHEAD_BYTES: usize = 256;

/// What a dashboard asks for.
pub enum Wanted {
    /// The whole fleet.
    WholeFleet,
    /// These vehicle ids.
    Vehicles(Vec<String>),
}

/// Appends the frames that ask for `wanted`, at most every `min_interval_ms`, in messages of at most
/// `message_bytes_max` bytes; how many requests (numbered from 1) they are.
pub fn write_frames(
    out: &mut Vec<u8>,
    encoder: &mut Encoder,
    wanted: Wanted,
    min_interval_ms: u32,
    message_bytes_max: usize,
) -> u32 {
    let mut requests = 0;
    let mut request = |whole_fleet, vehicles| {
        requests += 1;
        let mode = if requests == 1 {
            SubscribeMode::Replace
        } else {
            SubscribeMode::Add
        };
        let request = u64::from(requests);
        let message = Subscribe {
            request,
            mode,
            whole_fleet,
            vehicles,
            min_interval_ms,
            ..Subscribe::default()
        };
        let encoded = encoder.message(&Message::Subscribe(message));
        frames::write(out, Opcode::Binary, encoded.payload(), [0; 4]);
    };
    match wanted {
        Wanted::WholeFleet => request(true, Vec::new()),
        Wanted::Vehicles(ids) => {
            let room = message_bytes_max.saturating_sub(MESSAGE_OVERHEAD_BYTES);
            let mut part = Vec::new();
            let mut used = 0;
            for id in ids {
                let bytes = id.len() + ID_OVERHEAD_BYTES;
                if used + bytes > room && !part.is_empty() {
                    request(false, std::mem::take(&mut part));
                    used = 0;
                }
                used += bytes;
                part.push(id);
            }
            if !part.is_empty() {
                request(false, part);
            }
        }
    }
    requests
}

#[cfg(test)]
mod tests {
    use super::*;
    use longhaul_codec::{MessageRef, decode};

    fn requests(wanted: Wanted, message_bytes_max: usize) -> Vec<Subscribe> {
        let mut out = Vec::new();
        let count = write_frames(
            &mut out,
            &mut Encoder::new(),
            wanted,
            250,
            message_bytes_max,
        );
        let mut requests = Vec::new();
        let mut rest = &out[..];
        while !rest.is_empty() {
            // As a server's frame: without the mask bit and the (zero) mask.
            let header = if rest[1] & 0x7f == 126 { 4 } else { 2 };
            let mut frame = rest[..header].to_vec();
            frame[1] &= 0x7f;
            frame.extend_from_slice(&rest[header + 4..]);
            let parsed = frames::parse(&frame).unwrap().unwrap();
            assert!(parsed.payload.len() <= message_bytes_max);
            match decode(parsed.payload).unwrap() {
                MessageRef::Subscribe(view) => requests.push(Subscribe::from(view)),
                other => panic!("{other:?}"),
            }
            rest = &rest[parsed.length + 4..];
        }
        assert_eq!(requests.len(), count as usize);
        requests
    }

    #[test]
    fn a_long_list_is_split_and_complete() {
        let ids: Vec<String> = (0..500).map(crate::schedule::synthetic_id).collect();
        let parts = requests(Wanted::Vehicles(ids.clone()), 4_096);
        assert!(parts.len() > 2);
        assert_eq!(parts[0].mode, SubscribeMode::Replace);
        assert!(parts.iter().all(|part| part.min_interval_ms == 250));
        assert!(
            parts[1..]
                .iter()
                .all(|part| part.mode == SubscribeMode::Add)
        );
        assert!(
            parts
                .iter()
                .zip(1..)
                .all(|(part, number)| part.request == number)
        );
        assert_eq!(
            parts
                .into_iter()
                .flat_map(|part| part.vehicles)
                .collect::<Vec<_>>(),
            ids
        );
    }

    #[test]
    fn the_whole_fleet_is_one_request_and_nothing_is_none() {
        assert!(requests(Wanted::WholeFleet, 4_096)[0].whole_fleet);
        assert!(requests(Wanted::Vehicles(Vec::new()), 4_096).is_empty());
    }
}
