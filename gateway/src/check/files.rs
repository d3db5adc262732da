//! Files and folders that settings name.

use std::fs::{File, Metadata};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access, statvfs};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::prelude::{FromDer, X509Certificate};

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

/// A certificate that clients are shown.
#[derive(Debug, Clone)]
pub struct CertificateFact {
    /// The file.
    pub path: PathBuf,
    /// When the first of its chain to end does, in seconds since the Unix epoch; or why it cannot be read.
    pub ends_unix: Result<i64, String>,
}

impl CertificateFact {
    /// Reads the chain.
    pub fn read(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            ends_unix: ends(path),
        }
    }
}

fn ends(path: &Path) -> Result<i64, String> {
    let mut first: Option<i64> = None;
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| error.to_string())? {
        let certificate = certificate.map_err(|error| error.to_string())?;
        let (_, certificate) =
            X509Certificate::from_der(&certificate).map_err(|error| error.to_string())?;
        let ends = certificate.validity().not_after.timestamp();
        first = Some(first.map_or(ends, |first| first.min(ends)));
    }
    first.ok_or_else(|| "it holds no certificate".to_owned())
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
    fn a_chain_ends_with_its_first() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("chain.pem");
        let certificate = |year| {
            let key = rcgen::KeyPair::generate().expect("a key");
            let mut params = rcgen::CertificateParams::default();
            params.not_after = rcgen::date_time_ymd(year, 1, 1);
            params.self_signed(&key).expect("a certificate").pem()
        };
        let chain = certificate(2040) + &certificate(2030);
        std::fs::write(&path, chain).expect("the folder takes it");
        assert_eq!(CertificateFact::read(&path).ends_unix, Ok(1_893_456_000));
        std::fs::write(&path, "nothing").expect("the folder takes it");
        assert!(CertificateFact::read(&path).ends_unix.is_err());
    }

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
