//! Standard output. Whoever reads it may have had enough (`| head`): that ends the output, quietly, and is no fault.

use std::fmt::Arguments;
use std::io::{self, ErrorKind, Write};
use std::sync::{Mutex, PoisonError};

use anyhow::Context;

/// Why standard output could not be written, if it was not that nobody reads it.
static FAILED: Mutex<Option<io::Error>> = Mutex::new(None);

/// `println!` for a reader that may go away.
macro_rules! out {
    ($($argument:tt)*) => {
        $crate::out::line(format_args!($($argument)*))
    };
}
pub(crate) use out;

/// Writes a line; what [`out!`] calls.
pub fn line(line: Arguments<'_>) {
    keep(writeln!(io::stdout().lock(), "{line}"));
}

/// Writes a text as it is.
pub fn text(text: &str) {
    keep(io::stdout().lock().write_all(text.as_bytes()));
}

/// Says at the end whether all of it was written, or not wanted.
///
/// # Errors
/// Why it could not be written: a full disk, for example.
pub fn finish() -> anyhow::Result<()> {
    keep(io::stdout().lock().flush());
    let mut failed = FAILED.lock().unwrap_or_else(PoisonError::into_inner);
    failed
        .take()
        .map_or(Ok(()), Err)
        .context("writing to standard output")
}

/// Keeps the first error that somebody has to hear of.
fn keep(written: io::Result<()>) {
    if let Err(error) = written
        && error.kind() != ErrorKind::BrokenPipe
    {
        let mut failed = FAILED.lock().unwrap_or_else(PoisonError::into_inner);
        failed.get_or_insert(error);
    }
}
