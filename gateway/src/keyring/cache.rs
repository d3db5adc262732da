//! The last good set of a URL, in a file: a node that starts while the identity provider is away has keys all the same.
//! Whoever can write the file can make tokens, so it belongs into a folder of the gateway's own.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tempfile::NamedTempFile;

use crate::limits::KEY_SET_BYTES_MAX;
use crate::session::keys::read;

/// Room for the set, and for what is kept beside it.
const BYTES_MAX: u64 = 2 * KEY_SET_BYTES_MAX;

/// The file's content.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cached {
    /// Where the set is from: a file of another setting is not used.
    pub url: String,
    /// When it was fetched: seconds since the Unix epoch.
    pub fetched_unix: u64,
    /// The set as it came.
    pub set: Value,
}

/// Reads a cache. None: there is none yet.
///
/// # Errors
/// It cannot be read, or is none.
pub fn load(path: &Path) -> io::Result<Option<Cached>> {
    match read(path, BYTES_MAX) {
        Ok(Some(content)) => Ok(Some(serde_json::from_slice(&content)?)),
        Ok(None) => Err(io::Error::other("it is larger than a set of keys")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Writes a cache, whole or not at all.
///
/// # Errors
/// What the operating system says.
pub fn store(path: &Path, cached: &Cached) -> io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    // Made with mode 0600.
    let mut file = NamedTempFile::new_in(folder)?;
    file.write_all(&serde_json::to_vec(cached)?)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    File::open(folder)?.sync_all()
}
