//! Files and folders that settings name.

use std::fs::{File, Metadata};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access, statvfs};

/// A file that is read at the start.
#[derive(Debug, Clone)]
pub struct FileFact {
    /// The setting that names it.
    pub setting: &'static str,
    /// The file.
    pub path: PathBuf,
    /// Whether it is a secret.
    pub secret: bool,
    /// Its permission bits, or why it cannot be read.
    pub mode: Result<u32, String>,
}

impl FileFact {
    /// Opens it, and reads none of it.
    pub fn read(setting: &'static str, path: &Path, secret: bool) -> Self {
        let mode = File::open(path)
            .and_then(|file| file.metadata())
            .map(|about| permissions(&about))
            .map_err(|error| error.to_string());
        Self {
            setting,
            path: path.to_owned(),
            secret,
            mode,
        }
    }
}

/// A folder that is written to.
#[derive(Debug, Clone)]
pub struct FolderFact {
    /// The setting that names it.
    pub setting: &'static str,
    /// The folder.
    pub path: PathBuf,
    /// Its permission bits; `None` if it has to be made first.
    pub mode: Option<u32>,
    /// Why it, or the folder that it is to be made in, cannot be written to.
    pub writable: Result<(), String>,
    /// Bytes that are free for this user on its disk.
    pub free_bytes: Option<u64>,
}

impl FolderFact {
    /// Looks at it, and writes nothing.
    pub fn read(setting: &'static str, path: &Path) -> Self {
        let about = path.metadata().ok();
        // One that is not there yet is made, with those above it.
        let there = path
            .ancestors()
            .find(|folder| folder.exists())
            .unwrap_or(Path::new("."));
        let writable = match &about {
            Some(about) if !about.is_dir() => Err("it is no folder".to_owned()),
            _ => access(there, Access::WRITE_OK | Access::EXEC_OK)
                .map_err(|error| format!("{}: {error}", there.display())),
        };
        let free_bytes = statvfs(there)
            .ok()
            .map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize));
        Self {
            setting,
            path: path.to_owned(),
            mode: about.as_ref().map(permissions),
            writable,
            free_bytes,
        }
    }
}

fn permissions(about: &Metadata) -> u32 {
    about.permissions().mode() & 0o7777
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_folders_are_looked_at() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("key");
        std::fs::write(&path, "x").expect("a file");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).expect("its owner may");
        assert_eq!(FileFact::read("auth.keys", &path, true).mode, Ok(0o640));
        let absent = folder.path().join("absent");
        assert!(FileFact::read("auth.keys", &absent, true).mode.is_err());

        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o700))
            .expect("its owner may");
        let made = FolderFact::read("state.directory", folder.path());
        assert_eq!((made.mode, made.writable), (Some(0o700), Ok(())));
        assert!(made.free_bytes.is_some());
        let below = FolderFact::read("state.directory", &absent.join("below"));
        assert_eq!((below.mode, below.writable), (None, Ok(())));
        let file = FolderFact::read("state.directory", &path);
        assert!(file.writable.is_err());
    }
}
