//! The least that a server can be asked for. Each client says what it is in a first text message: a vehicle
//! `{"vehicle":"v0000001"}`, a dashboard `{"watch":["v0000001","v0000002"]}` or `{"watch":"all"}`; the server answers
//! with the text `ready`. Every binary message of a vehicle then goes to those who watch it, as it is.

use serde_json::json;

use super::{Heard, Speech, Who, Wish};
use crate::frames::{self, Opcode};

const READY: &[u8] = b"ready";

/// See the module.
pub struct Plain;

impl Speech for Plain {
    fn hello(&mut self, _client: usize, who: &Who, out: &mut Vec<u8>) {
        let hello = match who {
            Who::Vehicle(id) => json!({ "vehicle": id }),
            Who::Dashboard(_, Wish::All) => json!({ "watch": "all" }),
            Who::Dashboard(_, Wish::Some(ids)) => json!({ "watch": ids }),
        };
        frames::write(out, Opcode::Text, hello.to_string().as_bytes(), [0; 4]);
    }

    fn report(&mut self, _id: &str, message: &[u8], body: &mut Vec<u8>) {
        body.extend_from_slice(message);
    }

    fn hear(
        &mut self,
        _client: usize,
        received: &[u8],
        _answer: &mut Vec<u8>,
        take: &mut dyn FnMut(Heard<'_>),
    ) {
        take(if received == READY {
            Heard::Ready
        } else {
            Heard::Report(received)
        });
    }
}
