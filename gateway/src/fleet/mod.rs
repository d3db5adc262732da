//! What the whole node knows about vehicles, shared by all shards.
//!
//! | file | what |
//! |---|---|
//! | `registry` | fleets and vehicle ids to dense indexes; a short lock, taken at connect and subscribe only |
//! | `positions` | the last position of every vehicle, written and read without locks |
//! | `presence` | who is connected and reports, and which connection is whose |
//! | `groups` | who is in which group, and which shards are to hear of a change |
//! | `interest` | which shards want to hear of which vehicle; one bit per shard, lock-free |

pub mod chunked;
pub mod groups;
pub mod interest;
pub mod positions;
pub mod presence;
pub mod registry;

use std::sync::Arc;

use crate::limits::Limits;

pub use groups::Groups;
pub use interest::{Extra, Interest};
pub use positions::{Known, PositionTable, Version};
pub use presence::{Holder, Presence, PresenceTable};
pub use registry::{Registry, RegistryError};

/// The state that all shards of this node share.
#[derive(Debug)]
pub struct Fleet {
    /// Ids and indexes.
    pub registry: Registry,
    /// Last-value table.
    pub positions: PositionTable,
    /// Who is there.
    pub presence: PresenceTable,
    /// Who exchanges what with whom.
    pub interest: Interest,
    /// Who is in which group.
    pub groups: Groups,
}

impl Fleet {
    /// Empty state with room for what `limits` allow; memory is taken as vehicles come.
    #[must_use]
    pub fn new(limits: &Limits) -> Arc<Fleet> {
        Arc::new(Fleet {
            registry: Registry::new(
                limits.fleets_max,
                limits.vehicles_max,
                limits.unseen_vehicles_max,
            ),
            positions: PositionTable::new(limits.vehicles_max),
            presence: PresenceTable::new(limits.vehicles_max),
            interest: Interest::new(limits.fleets_max, limits.vehicles_max),
            groups: Groups::new(limits),
        })
    }
}
