//! What a result must show: each demand that it does not meet, in words.

use std::process::ExitCode;

use crate::out::out;

/// Collects them.
#[derive(Debug, Default)]
pub struct Checks {
    /// Demands that are not met.
    pub failures: Vec<String>,
}

impl Checks {
    /// Notes `otherwise` unless it `holds`.
    pub fn demand(&mut self, holds: bool, otherwise: impl FnOnce() -> String) {
        if !holds {
            self.failures.push(otherwise());
        }
    }
}

/// Success if there are none, or if they are not to count.
pub fn exit_code(failures: &[String], no_check: bool) -> ExitCode {
    if failures.is_empty() || no_check {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// The line under a result's table: what was wrong, or that nothing was.
pub fn print(failures: &[String]) {
    for failure in failures {
        out!("  ! {failure}");
    }
    out!(
        "  {}",
        if failures.is_empty() {
            "passed"
        } else {
            "FAILED"
        }
    );
}
