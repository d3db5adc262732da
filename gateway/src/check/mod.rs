//! `longhaul check`: what this machine lacks for these settings, before somebody finds out the hard way.
//!
//! ```text
//! /proc, files, a trial ring ─► facts::read ─► Facts ─► rules ─► Finding, one per check ─► print
//! ```
//!
//! Reading is thin; judging is pure, so that every rule is tested with machines that nobody has at hand.

mod facts;
mod files;
mod finding;
mod print;
mod rules;

pub use finding::{Finding, Verdict};
pub use print::{json, text};

use crate::config::Config;
use crate::server::shard_count;

/// Looks at this machine with these settings in mind.
pub fn examine(config: &Config) -> Vec<Finding> {
    rules::judge(config, shard_count(config) as u64, &facts::read(config))
}

/// Says in the log what is not as it should be. In development mode only what is missing: such a machine is nobody's
/// production.
pub fn log(findings: &[Finding], dev: bool) {
    for finding in findings {
        let Finding {
            check,
            says,
            remedy,
            ..
        } = finding;
        let remedy = remedy.as_deref().unwrap_or_default();
        match finding.verdict {
            Verdict::Ok => {}
            Verdict::Warn if dev => {}
            Verdict::Warn => tracing::warn!(check, remedy, "start-up check: {says}"),
            Verdict::Missing => tracing::error!(check, remedy, "start-up check: {says}"),
        }
    }
}
