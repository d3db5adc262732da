//! What decides who may be here, as immutable snapshots that are exchanged while the node runs. A shard reads them at an
//! upgrade and when it is told that one has changed, never per message.
#![forbid(unsafe_code)]

use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};

use super::token::Verifier;

/// The snapshots, shared by all shards and the control plane.
#[derive(Debug)]
pub struct Trust {
    verifier: ArcSwap<Verifier>,
}

impl Trust {
    /// To begin with.
    pub fn new(verifier: Verifier) -> Arc<Trust> {
        Arc::new(Trust {
            verifier: ArcSwap::from_pointee(verifier),
        })
    }

    /// What checks tokens now.
    pub fn verifier(&self) -> Guard<Arc<Verifier>> {
        self.verifier.load()
    }
}
