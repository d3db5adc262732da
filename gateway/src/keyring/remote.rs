//! A set of keys from a URL: what is in force of it, and when it is fetched again.

use std::time::Duration;

use super::cache::{self, Cached};
use super::fetch::{FetchError, Fetched};
use super::schedule::Schedule;
use crate::config::{Auth, KeySetSource};
use crate::session::keys::Key;
use crate::session::keys::set::{self, Origin};

/// One set.
#[derive(Debug)]
pub struct Remote {
    pub(super) url: String,
    pub(super) source: KeySetSource,
    pub(super) schedule: Schedule,
    keys: Vec<Key>,
    /// Seconds since the Unix epoch; 0: never.
    fetched_unix: u64,
    /// A failure was said, and not yet that it is over.
    is_failing: bool,
}

impl Remote {
    /// All sets that have a URL, with what their caches hold.
    pub fn all_of(auth: &Auth, now_unix: u64) -> Vec<Remote> {
        let of_url = |source: &KeySetSource| {
            let mut remote = Remote {
                url: source.url.clone()?,
                source: source.clone(),
                schedule: Schedule::new(Duration::from_secs(source.refresh_s())),
                keys: Vec::new(),
                fetched_unix: 0,
                is_failing: false,
            };
            remote.recall(auth, now_unix);
            Some(remote)
        };
        auth.key_sets.iter().filter_map(of_url).collect()
    }

    /// The keys in force.
    pub fn keys(&self) -> &[Key] {
        &self.keys
    }

    /// When they were fetched: seconds since the Unix epoch; 0: never.
    pub fn fetched_unix(&self) -> u64 {
        self.fetched_unix
    }

    /// Has it fetched as soon as there is time.
    pub fn fetch_now(&mut self) {
        self.schedule.now(0);
    }

    /// When the keys are too old, if they are not fetched before: seconds since the Unix epoch.
    pub fn stale_unix(&self) -> Option<u64> {
        (!self.keys.is_empty()).then(|| {
            let good_for = self.source.refresh_s() + self.source.stale_max_s();
            self.fetched_unix.saturating_add(good_for)
        })
    }

    /// Drops keys that are too old. Says whether there were any.
    pub fn drop_stale(&mut self, now_unix: u64) -> bool {
        let is_stale = self.stale_unix().is_some_and(|stale| now_unix >= stale);
        if is_stale {
            tracing::error!(
                url = self.url,
                age_s = now_unix - self.fetched_unix,
                "keys are dropped: they could not be fetched again for too long (stale_max_s)"
            );
            self.keys.clear();
        }
        is_stale
    }

    /// It was fetched.
    pub fn take(&mut self, fetched: Fetched, now_unix: u64) {
        let Fetched { set, text } = fetched;
        let is_new = set
            .keys
            .iter()
            .map(Key::kid)
            .ne(self.keys.iter().map(Key::kid));
        if is_new || self.is_failing {
            tracing::info!(
                url = self.url,
                keys = set.keys.len(),
                left_out = set.left_out,
                "a set of keys was fetched"
            );
        }
        self.keys = set.keys;
        self.fetched_unix = now_unix;
        self.is_failing = false;
        self.store(&text);
    }

    /// It could not be fetched: said once until it can be.
    pub fn note_failure(&mut self, error: &FetchError) {
        let url = self.url.as_str();
        if std::mem::replace(&mut self.is_failing, true) {
            tracing::debug!(url, "a set of keys could not be fetched: {error}");
        } else if self.keys.is_empty() {
            tracing::error!(
                url,
                "a set of keys could not be fetched, and there is none of before: {error}"
            );
        } else {
            tracing::warn!(
                url,
                "a set of keys could not be fetched, the one of before stays in force: {error}"
            );
        }
    }

    fn store(&self, text: &[u8]) {
        let Some(path) = &self.source.cache else {
            return;
        };
        let written = serde_json::from_slice(text)
            .map_err(std::io::Error::from)
            .and_then(|set| {
                let cached = Cached {
                    url: self.url.clone(),
                    fetched_unix: self.fetched_unix,
                    set,
                };
                cache::store(path, &cached)
            });
        if let Err(error) = written {
            tracing::warn!(file = %path.display(), "a set of keys could not be kept: {error}");
        }
    }

    fn recall(&mut self, auth: &Auth, now_unix: u64) {
        let Some(path) = self.source.cache.clone() else {
            return;
        };
        let file = path.display();
        let cached = match cache::load(&path) {
            Ok(None) => return,
            Ok(Some(cached)) if cached.url == self.url => cached,
            Ok(Some(_)) => {
                return tracing::warn!(%file, "a kept set of keys is of another URL, and not used");
            }
            Err(error) => {
                return tracing::warn!(%file, "a kept set of keys cannot be read: {error}");
            }
        };
        let text = cached.set.to_string();
        match set::parse(text.as_bytes(), Origin::Elsewhere, &auth.algorithms) {
            Ok(set) => {
                self.keys = set.keys;
                // A clock that went back must not make them good forever.
                self.fetched_unix = cached.fetched_unix.min(now_unix);
                if !self.drop_stale(now_unix) {
                    tracing::info!(%file, keys = self.keys.len(), age_s = now_unix - self.fetched_unix, "a kept set of keys is in force");
                }
            }
            Err(error) => tracing::warn!(%file, "a kept set of keys is of no use: {error}"),
        }
    }
}
