//! `longhaul-bench report`: results as one page that needs nothing but a browser.
//!
//! [`chart`] draws, [`charts`] says what is drawn of results, [`document`] is the page around it.

mod chart;
mod charts;
mod document;

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;

use crate::cli::PageArgs;
use crate::results::ResultFile;

/// Runs the subcommand.
///
/// # Errors
/// A file that is no result, or that cannot be written.
pub fn run(args: &PageArgs) -> anyhow::Result<ExitCode> {
    let results = args
        .results
        .iter()
        .map(|path| ResultFile::read(path))
        .collect::<Result<Vec<_>, _>>()?;
    eprintln!("{} of {} results", args.html.display(), results.len());
    let parts = results.into_iter().flat_map(ResultFile::with_parts);
    write(&args.html, &parts.collect::<Vec<_>>())?;
    Ok(ExitCode::SUCCESS)
}

fn write(path: &Path, results: &[ResultFile]) -> anyhow::Result<()> {
    let page = document::page(results)?;
    std::fs::write(path, page).with_context(|| format!("writing {}", path.display()))
}

#[cfg(test)]
mod tests;
