//! `longhaul-bench compare`: two results beside each other, or two sets of repeated runs, and which differences are more
//! than the runs' own noise.
//!
//! [`sides`] says what may be compared, [`noise`] what a difference is worth, [`table`] shows it.

mod noise;
mod sides;
mod table;

use std::process::ExitCode;

use crate::cli::CompareArgs;
use crate::out;
use crate::report::write_json;
use crate::results::ResultFile;
use sides::Sides;

/// Runs the subcommand.
///
/// # Errors
/// Files that are no results, or results of different work.
pub fn run(args: &CompareArgs) -> anyhow::Result<ExitCode> {
    let (a, b) = args.sides();
    let read = |paths: &[std::path::PathBuf]| {
        paths
            .iter()
            .map(|path| ResultFile::read(path))
            .collect::<Result<Vec<_>, _>>()
    };
    let sides = Sides::new(read(a)?, read(b)?, args.anyway)?;
    let comparison = table::Comparison::new(&sides);
    out::text(&comparison.text());
    if let Some(path) = &args.json {
        write_json(path, &comparison)?;
    }
    Ok(ExitCode::SUCCESS)
}
