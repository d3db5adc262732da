//! Where the keys that tokens are checked with come from, and how they are exchanged while the node runs.
//!
//! - `keyring/files.rs`: keys and sets of keys in files, all of them or none
//! - `keyring/fetch.rs`: a set of keys from a URL
//! - `keyring/schedule.rs`: when to fetch next
//! - `keyring/cache.rs`: the last good set, on disk
//! - `keyring/thread.rs`: the thread that fetches
//!
//! Whatever changes, a new [`Verifier`] takes the place of the old one in [`Trust`]. A connection whose token is of a key
//! that is gone lives on until its token ends: taking keys away is for rotation, revoking is for the rest.
#![forbid(unsafe_code)]

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::config::Auth;
use crate::limits::Limits;
use crate::metrics::KeyMetrics;
use crate::session::hint::KeyHint;
use crate::session::keys::{Key, KeyError};
use crate::session::token::Verifier;
use crate::session::trust::Trust;

mod cache;
mod fetch;
mod files;
mod remote;
mod schedule;
mod thread;

use self::remote::Remote;

pub use files::load;

/// The keys of this node.
#[derive(Debug)]
pub struct KeyKeeper {
    auth: Auth,
    limits: Limits,
    dev_key: Option<Key>,
    trust: Arc<Trust>,
    hint: Arc<KeyHint>,
    ring: Mutex<Ring>,
}

/// What is in force.
#[derive(Debug)]
struct Ring {
    /// Keys of files.
    files: Vec<Key>,
    /// Sets of URLs.
    remotes: Vec<Remote>,
    metrics: Option<Arc<KeyMetrics>>,
    stopping: bool,
}

impl KeyKeeper {
    /// Reads all files, and what the sets of URLs left in their caches. `now_unix`: seconds since the Unix epoch.
    ///
    /// # Errors
    /// A file that cannot be used. A cache that cannot be is none: it is said in the log.
    pub fn open(
        auth: &Auth,
        limits: &Limits,
        dev_key: Option<Key>,
        now_unix: u64,
    ) -> Result<Arc<Self>, KeyError> {
        let ring = Ring {
            files: load(auth)?,
            remotes: Remote::all_of(auth, now_unix),
            metrics: None,
            stopping: false,
        };
        let hint = Arc::new(KeyHint::default());
        let first = verifier(auth, limits, dev_key.as_ref(), &hint, &ring);
        Ok(Arc::new(Self {
            auth: auth.clone(),
            limits: limits.clone(),
            dev_key,
            trust: Trust::new(first),
            hint,
            ring: Mutex::new(ring),
        }))
    }

    /// What the keys are for.
    pub fn trust(&self) -> &Arc<Trust> {
        &self.trust
    }

    /// Whether there is a key, or will be.
    pub fn has_keys(&self) -> bool {
        let ring = self.ring();
        self.dev_key.is_some() || !ring.files.is_empty() || !ring.remotes.is_empty()
    }

    /// Reads all files again, and has the sets of URLs fetched now. Says what is in force then.
    ///
    /// # Errors
    /// The first file that cannot be used: all keys are as they were.
    pub fn reload(&self) -> Result<String, KeyError> {
        let files = load(&self.auth)?;
        let mut ring = self.ring();
        let said = format!(
            "{} keys of files; {} sets of URLs are fetched again",
            files.len(),
            ring.remotes.len()
        );
        ring.files = files;
        for remote in &mut ring.remotes {
            remote.fetch_now();
        }
        self.publish(&ring);
        drop(ring);
        self.hint.wake();
        Ok(said)
    }

    /// What is in force becomes what tokens are checked with.
    fn publish(&self, ring: &Ring) {
        let next = verifier(
            &self.auth,
            &self.limits,
            self.dev_key.as_ref(),
            &self.hint,
            ring,
        );
        self.trust.set_verifier(next);
        if let Some(metrics) = &ring.metrics {
            let fetched: usize = ring.remotes.iter().map(|remote| remote.keys().len()).sum();
            metrics.keys_file.set(ring.files.len() as u64);
            metrics.keys_url.set(fetched as u64);
            let oldest = ring.remotes.iter().map(Remote::fetched_unix).min();
            metrics.fetched_unix.set(oldest.unwrap_or(0));
        }
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        // Nothing under the lock can panic half way.
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn verifier(
    auth: &Auth,
    limits: &Limits,
    dev_key: Option<&Key>,
    hint: &Arc<KeyHint>,
    ring: &Ring,
) -> Verifier {
    let fetched = ring.remotes.iter().flat_map(Remote::keys);
    let keys = ring.files.iter().chain(dev_key).chain(fetched);
    let verifier = Verifier::new(keys.cloned().collect(), auth, limits);
    if ring.remotes.is_empty() {
        return verifier;
    }
    let pending = ring.remotes.iter().any(|remote| remote.keys().is_empty());
    verifier.with_more_elsewhere(Arc::clone(hint), pending)
}

#[cfg(test)]
mod tests;
