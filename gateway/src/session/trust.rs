//! What decides who may be here, as immutable snapshots that are exchanged while the node runs. A shard reads them at an
//! upgrade and when it is told that one has changed, never per message.
#![forbid(unsafe_code)]

use std::{
    hash::{BuildHasher, RandomState},
    num::NonZeroU64,
    sync::Arc,
};

use arc_swap::{ArcSwap, Guard};

use super::{revocation::Revocations, token::Verifier};

/// The snapshots, shared by all shards and the control plane.
#[derive(Debug)]
pub struct Trust {
    verifier: ArcSwap<Verifier>,
    revocations: ArcSwap<Revocations>,
    /// Keyed at random, so that nobody outside can make two token ids meet.
    hasher: RandomState,
}

impl Trust {
    /// To begin with.
    pub fn new(verifier: Verifier) -> Arc<Trust> {
        Arc::new(Trust {
            verifier: ArcSwap::from_pointee(verifier),
            revocations: ArcSwap::default(),
            hasher: RandomState::new(),
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

    /// What tokens are not good any more.
    pub fn revocations(&self) -> Guard<Arc<Revocations>> {
        self.revocations.load()
    }

    /// From now on, these are not. Tell the shards then: see `revocations/mod.rs`.
    pub fn revoke(&self, list: Revocations) {
        self.revocations.store(Arc::new(list));
    }

    /// A token's id as connections remember it.
    pub fn token_hash(&self, token_id: &str) -> NonZeroU64 {
        NonZeroU64::new(self.hasher.hash_one(token_id)).unwrap_or(NonZeroU64::MIN)
    }
}
