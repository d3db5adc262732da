//! Reading files again while the node runs: on SIGHUP, and on `POST /admin/reload`.
//!
//! Each part looks after itself: one whose files cannot be used keeps what it had, says so, and keeps no other part from
//! going on.
#![forbid(unsafe_code)]

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use serde::Serialize;

use crate::audit::{Act, Audit, Kind, unix_ms};

/// What became of one part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reloaded {
    /// Which.
    pub part: &'static str,
    /// Whether it is as the files say now.
    pub ok: bool,
    /// What it is now, or why it is as it was.
    pub says: String,
}

/// What a part does; the text says what it is now, or why it is as it was.
type Reload = Box<dyn Fn() -> Result<String, String> + Send + Sync>;

/// All parts, in the order in which they are done.
pub struct Reloader {
    parts: Vec<(&'static str, Reload)>,
    audit: Arc<Audit>,
    /// Two at once would only get in each other's way.
    turn: Mutex<()>,
}

impl Reloader {
    /// Nothing to reload yet.
    pub fn new(audit: Arc<Audit>) -> Reloader {
        Reloader {
            parts: Vec::new(),
            audit,
            turn: Mutex::new(()),
        }
    }

    /// With one more part.
    #[must_use]
    pub fn part(
        mut self,
        name: &'static str,
        reload: impl Fn() -> Result<String, String> + Send + Sync + 'static,
    ) -> Reloader {
        self.parts.push((name, Box::new(reload)));
        self
    }

    /// Reloads every part, and says in the log what became of it.
    pub fn reload(&self) -> Vec<Reloaded> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let reload = |(part, reload): &(&'static str, Reload)| match reload() {
            Ok(says) => {
                tracing::info!(part, "reloaded: {says}");
                Reloaded {
                    part,
                    ok: true,
                    says,
                }
            }
            Err(says) => {
                tracing::error!(part, "not reloaded, it is as it was: {says}");
                Reloaded {
                    part,
                    ok: false,
                    says,
                }
            }
        };
        self.parts.iter().map(reload).collect()
    }

    /// The same because of SIGHUP, which the audit log is told.
    pub fn on_signal(&self) {
        let parts = self.reload();
        let broken: Vec<_> = parts
            .iter()
            .filter(|part| !part.ok)
            .map(|part| part.part)
            .collect();
        self.audit.record(Act {
            what: Some("SIGHUP".into()),
            why: (!broken.is_empty()).then(|| format!("as before: {}", broken.join(", ")).into()),
            ..Act::new(Kind::Reload, unix_ms())
        });
    }
}

impl fmt::Debug for Reloader {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.parts.iter().map(|(name, _)| name);
        out.debug_list().entries(names).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_part_keeps_no_other_from_going_on() {
        let reloader = Reloader::new(Audit::off())
            .part("one", || Ok("new".to_owned()))
            .part("two", || Err("gone".to_owned()))
            .part("three", || Ok("newer".to_owned()));
        let outcome: Vec<_> = reloader
            .reload()
            .into_iter()
            .map(|part| (part.part, part.ok, part.says))
            .collect();
        let expected = [
            ("one", true, "new"),
            ("two", false, "gone"),
            ("three", true, "newer"),
        ];
        assert_eq!(
            outcome,
            expected.map(|(part, ok, says)| (part, ok, says.to_owned()))
        );
    }
}
