//! Reading a key's file, which has a bound like everything else.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::{KeyError, Unusable};
use crate::limits::KEY_FILE_BYTES_MAX;

/// The content of a file. None: it is larger than `bytes_max`.
///
/// # Errors
/// What the operating system says.
pub fn read(path: &Path, bytes_max: u64) -> io::Result<Option<Vec<u8>>> {
    let mut content = Vec::new();
    File::open(path)?
        .take(bytes_max.saturating_add(1))
        .read_to_end(&mut content)?;
    Ok((content.len() as u64 <= bytes_max).then_some(content))
}

/// The content of a key's file.
pub(super) fn read_key(path: &Path) -> Result<Vec<u8>, KeyError> {
    match read(path, KEY_FILE_BYTES_MAX) {
        Ok(Some(content)) => Ok(content),
        Ok(None) => Err(KeyError::File {
            path: path.to_owned(),
            source: Unusable::TooLarge,
        }),
        Err(source) => Err(KeyError::Read {
            path: path.to_owned(),
            source,
        }),
    }
}

/// A secret that every user of the machine can read is worth a word, but some secret stores mount files like that.
pub fn warn_if_readable_by_all(path: &Path) {
    const READABLE_BY_ALL: u32 = 0o004;
    if path
        .metadata()
        .is_ok_and(|file| file.permissions().mode() & READABLE_BY_ALL != 0)
    {
        tracing::warn!(file = %path.display(), "every user of this machine can read this secret; chmod 600 it");
    }
}
