//! The two messages of the hot path, made once by the builder and then only patched.
//!
//! `Position` and `Positions` have the same bytes each time but for their numbers, so the numbers are all that is
//! written: the builder's bookkeeping costs ten times as much as the content. The tests compare the result with the
//! builder's, byte for byte.

use flatbuffers::{Table, VOffsetT};

use super::finish;
use crate::decode::{MessageRef, decode};
use crate::fix::Fix;
use crate::message::Builder;
use crate::wire;

/// A message's bytes, and where in them the part is that changes.
#[derive(Debug)]
pub(super) struct Template {
    pub(super) bytes: Box<[u8]>,
    pub(super) at: usize,
}

impl Template {
    /// `Position` without a vehicle id; `at` is the fix.
    pub(super) fn position(builder: &mut Builder) -> Self {
        builder.reset();
        let args = wire::PositionArgs {
            fix: Some(&Fix::default().into()),
            vehicle_id: None,
        };
        let table = wire::Position::create(builder, &args).as_union_value();
        finish(builder, wire::Message::Position, table);
        let bytes = builder.finished_data();
        let Ok(MessageRef::Position(view)) = decode(bytes) else {
            unreachable!("it was written as Position just now");
        };
        let at = field_at(view._tab, wire::Position::VT_FIX);
        Self {
            bytes: bytes.into(),
            at,
        }
    }

    /// `Positions` without a fix; `at` is the gateway's time. The builder writes children first and from the end of
    /// the buffer, so the vector comes last: its length is the last four bytes, and fixes can be appended.
    pub(super) fn positions(builder: &mut Builder) -> Self {
        builder.reset();
        let args = wire::PositionsArgs {
            fixes: Some(builder.create_vector::<wire::Fix>(&[])),
            gateway_time_ms: 1, // any but the default, which would be left out
            last_known: None,
        };
        let table = wire::Positions::create(builder, &args).as_union_value();
        finish(builder, wire::Message::Positions, table);
        let bytes = builder.finished_data();
        let Ok(MessageRef::Positions(view)) = decode(bytes) else {
            unreachable!("it was written as Positions just now");
        };
        let at = field_at(view._tab, wire::Positions::VT_GATEWAY_TIME_MS);
        Self {
            bytes: bytes.into(),
            at,
        }
    }
}

/// Where in the message a field of `table` is that is present.
fn field_at(table: Table<'_>, field: VOffsetT) -> usize {
    table.loc() + usize::from(table.vtable().get(field))
}
