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

    /// Tokens are checked with this from now on. Connections whose token is of a key that is gone live on until their
    /// token ends.
    pub fn set_verifier(&self, verifier: Verifier) {
        self.verifier.store(Arc::new(verifier));
    }

    /// What checks tokens now.
    pub fn verifier(&self) -> Guard<Arc<Verifier>> {
        self.verifier.load()
    }
}
