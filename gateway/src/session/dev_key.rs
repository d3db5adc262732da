//! The key of development mode: made at random, kept in a file that only this user can read.
#![forbid(unsafe_code)]

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use super::keys::{Key, KeyError};
use crate::config::{KeyAlgorithm, KeySource};

/// Bytes of randomness in a development key.
const RANDOM_BYTES: usize = 32;

/// Why there is no development key.
#[derive(Debug, thiserror::Error)]
pub enum DevKeyError {
    /// The file could not be made.
    #[error("cannot write the development key to {path}", path = path.display())]
    Write {
        /// The file, or the folder it was to be in.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The system has no random bytes.
    #[error("the system gives no random bytes")]
    Random(#[from] getrandom::Error),
    /// The file holds no usable key.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// A development key in its file.
#[derive(Debug)]
pub struct DevKey {
    path: PathBuf,
    key: Key,
    /// A fresh key's file goes away with the process.
    _temporary: Option<NamedTempFile>,
}

impl DevKey {
    /// A fresh key in a temporary file, which is removed when this value is dropped.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn fresh() -> Result<Self, DevKeyError> {
        let folder = std::env::temp_dir();
        let failed = |source| DevKeyError::Write {
            path: folder.clone(),
            source,
        };
        // Made with mode 0600 and O_EXCL.
        let mut file = tempfile::Builder::new()
            .prefix("longhaul-dev-")
            .suffix(".key")
            .tempfile_in(&folder)
            .map_err(failed)?;
        writeln!(file, "{}", random_hex()?).map_err(failed)?;
        let path = file.path().to_owned();
        Ok(Self {
            key: load(&path)?,
            path,
            _temporary: Some(file),
        })
    }

    /// The key in `path`, which is made with mode 0600 if there is none.
    ///
    /// # Errors
    /// The file can neither be read nor written, or holds no key.
    pub fn at(path: &Path) -> Result<Self, DevKeyError> {
        let failed = |source| DevKeyError::Write {
            path: path.to_owned(),
            source,
        };
        match OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
        {
            Ok(mut file) => {
                let written = random_hex().map(|hex| writeln!(file, "{hex}"));
                if !matches!(written, Ok(Ok(()))) {
                    // Half a key would be refused forever after; no key is made anew.
                    fs::remove_file(path).map_err(failed)?;
                }
                written?.map_err(failed)?;
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(failed(error)),
        }
        Ok(Self {
            path: path.to_owned(),
            key: load(path)?,
            _temporary: None,
        })
    }

    /// The file, for `longhaul token --dev-key`.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The key, for the verifier.
    pub fn key(&self) -> &Key {
        &self.key
    }
}

fn load(path: &Path) -> Result<Key, KeyError> {
    Key::load(&KeySource {
        algorithm: KeyAlgorithm::Hs256,
        file: path.to_owned(),
        kid: None,
    })
}

fn random_hex() -> Result<String, getrandom::Error> {
    let mut bytes = [0; RANDOM_BYTES];
    getrandom::fill(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn mode(path: &Path) -> u32 {
        path.metadata().expect("a file").permissions().mode() & 0o777
    }

    /// The whole chain of causes.
    fn refusal(path: &Path) -> String {
        format!("{:#}", anyhow::Error::from(DevKey::at(path).unwrap_err()))
    }

    #[test]
    fn a_fresh_key_differs_each_time_and_is_removed() {
        let (first, second) = (
            DevKey::fresh().expect("a key"),
            DevKey::fresh().expect("a key"),
        );
        let content = |key: &DevKey| fs::read_to_string(key.path()).expect("its file");
        assert_ne!(content(&first), content(&second));
        assert_eq!(content(&first).trim_end().len(), 2 * RANDOM_BYTES);
        assert_eq!(mode(first.path()), 0o600);
        let path = first.path().to_owned();
        drop(first);
        assert!(!path.exists());
    }

    #[test]
    fn a_named_key_is_made_once_and_kept() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("dev.key");
        drop(DevKey::at(&path).expect("a key"));
        let content = fs::read_to_string(&path).expect("its file");
        assert_eq!(mode(&path), 0o600);
        drop(DevKey::at(&path).expect("a key"));
        assert_eq!(fs::read_to_string(&path).expect("its file"), content);
    }

    #[test]
    fn a_file_that_is_no_key_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("dev.key");
        fs::write(&path, "short").expect("a file");
        assert!(refusal(&path).contains("at least 32 bytes"));
        assert_eq!(fs::read_to_string(&path).expect("its file"), "short");
        assert!(
            DevKey::at(&folder.path().join("no/such/dev.key"))
                .unwrap_err()
                .to_string()
                .contains("no/such/dev.key")
        );
    }
}
