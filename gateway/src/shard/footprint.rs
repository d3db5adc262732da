//! What a shard's nouns weigh, in bytes, for the memory budget (`limits/budget.rs`): sizes, and the bounds that are the
//! code's own and no settings.

use std::{cmp::Reverse, sync::Arc};

use longhaul_codec::Fix;
use longhaul_filter_engine::FleetId;
use roaring::RoaringBitmap;

use super::{
    access::{Access, Entry},
    connection::{Connection, Dashboard, Interval, PartialRequest},
    deadlines::DEADLINE_BYTES,
    every::Every,
    feed::Feed,
    frame::Frame,
    handshake::MAY_FOLLOW_BYTES,
    inbox::{Changed, Letter},
    outbound, passes,
    preface::Clients,
    ring::{self, Completion, Key},
    slab::{self, Slab},
    stalls::STALL_BYTES,
};
use crate::{
    events::Logged,
    session::{census::Counted, grants::Grant},
};

/// A connection's slot in the slab.
pub const CONNECTION: usize = Slab::<Connection>::SLOT_BYTES;
/// A slot's next moment of its token.
pub const DEADLINE: usize = DEADLINE_BYTES;
/// What of a connection's token is kept beside it.
pub const PASS: usize = passes::PASS_BYTES;
/// Slots that the slab makes at a time.
pub const CONNECTIONS_PER_CHUNK: usize = slab::CHUNK;
/// A slot on the list of those to be used again.
pub const FREE_SLOT: usize = size_of::<u32>();
/// A slot's place for the frame that it is being sent.
pub const IN_FLIGHT: usize = size_of::<Option<Frame>>();
/// A slot's place for its address, where addresses are counted.
pub const ADDRESS: usize = size_of::<Counted>();
/// A slot's place for the address that a load balancer gave it.
pub const CLIENT: usize = Clients::SLOT_BYTES;
/// A connection on a list of those with something to do.
pub const LISTED: usize = size_of::<Key>();
/// An entry of those whose send makes no progress.
pub const STALL: usize = STALL_BYTES;
/// A dashboard whose interval has not elapsed.
pub const HELD: usize = size_of::<Reverse<(u64, u32, u32)>>();
/// A dashboard's interval.
pub const INTERVAL: usize = size_of::<Interval>();
/// A dashboard, without what it is owed.
pub const DASHBOARD: usize = size_of::<Dashboard>();
/// The box of a dashboard with grants, or that watches groups.
pub const ACCESS: usize = size_of::<Access>();
/// An entry of its grants.
pub const GRANT_ENTRY: usize = size_of::<Entry>();
/// An entry of what a vehicle may publish.
pub const GRANT: usize = size_of::<Grant>();
/// The box of what a dashboard with the topic of presence is owed.
pub const PRESENCE_SET: usize = size_of::<RoaringBitmap>();
/// The box of a dashboard with delivery every.
pub const EVERY: usize = size_of::<Every>();
/// A position that waits for one.
pub const EVERY_FIX: usize = size_of::<Fix>();
/// What is remembered of each vehicle for one.
pub const EVERY_LAST: usize = size_of::<(u32, u64)>();
/// The box of a dashboard with events.
pub const FEED: usize = size_of::<Feed>();
/// An event on its way to another shard, without its payload.
pub const EVENT_EXCHANGED: usize = size_of::<(FleetId, Arc<Logged>)>() + size_of::<Logged>();
/// Which version of a vehicle a shard has routed.
pub const SEEN: usize = size_of::<u32>();
/// A place in an inbox, with the queue's own number.
pub const LETTER: usize = size_of::<Letter>() + size_of::<usize>();
/// A changed vehicle in a letter.
pub const CHANGED: usize = size_of::<Changed>();
/// A position on its way to `every` dashboards of another shard.
pub const EVERY_EXCHANGED: usize = size_of::<(FleetId, Fix)>();
/// A request whose end has not come.
pub const PARTIAL_REQUEST: usize = size_of::<PartialRequest>();
/// What may come behind a request that waits to be decided on.
pub const BEHIND_REQUEST: usize = MAY_FOLLOW_BYTES;
/// A completion, copied out of the ring.
pub const COMPLETION: usize = size_of::<Completion>();
/// The ring's two queues.
pub const RING: usize = ring::QUEUES_BYTES;
/// Completions that the ring can hand over at once.
pub const COMPLETIONS: usize = ring::COMPLETIONS as usize;
/// What the kernel is told of each receive buffer.
pub const RECEIVE_BUFFER_ENTRY: usize = ring::buffers::ENTRY_BYTES;
/// What an encoder keeps between ticks.
pub const ENCODER: usize = outbound::ENCODER_BYTES_KEPT;
/// Bytes that a frame has beside its payload: its header, and what shares it.
pub const FRAME: usize = crate::websocket::outgoing::HEADER_ROOM + 2 * size_of::<usize>();
/// A frame's place in a queue that has doubled.
pub const QUEUED: usize = 2 * size_of::<Frame>();
