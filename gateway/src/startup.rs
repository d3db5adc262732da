//! From settings to what the server starts with: keys are read, development mode is set up, and said aloud.
#![forbid(unsafe_code)]

use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::config::{Auth, Config};
use crate::keyring::{self, KeyKeeper};
use crate::revocations::{self, RevocationsError};
use crate::session::dev_key::{DevKey, DevKeyError};
use crate::session::keys::{Key, KeyError};
use crate::session::trust::Trust;
use crate::state::{Folder, FolderError};
use crate::transport::{Certificates, CertificatesError};

/// Everything that the server starts with.
#[derive(Debug)]
pub struct Startup {
    /// The settings.
    pub config: Config,
    /// The keys of tokens, and where they come from.
    pub keys: Arc<KeyKeeper>,
    /// Who may be here.
    pub trust: Arc<Trust>,
    /// What TLS handshakes go by, if connections are TLS.
    pub certificates: Option<Arc<Certificates>>,
    /// The development key. If there is one, the endpoint `/echo` exists.
    pub dev_key: Option<DevKey>,
    /// Where state is kept across restarts, if it is.
    pub state: Option<Arc<Folder>>,
    /// What tokens are not good any more.
    pub revocations: revocations::Loaded,
}

/// Why the server cannot start with these settings.
#[derive(Debug, thiserror::Error)]
pub enum StartupError {
    /// Neither `--dev` nor a key.
    #[error(
        "no key is configured, so no token could be checked and nobody could connect. Either\n  \
         - name a key in the configuration file (`longhaul config` prints one):\n      \
             [[auth.keys]]\n      \
             algorithm = \"EdDSA\"\n      \
             file = \"fleet.pub.pem\"\n  \
         - or try it out on this machine: longhaul run --dev"
    )]
    NoKey,
    /// A configured key cannot be used.
    #[error("in auth.keys or auth.key_sets")]
    Key(#[from] KeyError),
    /// The development key cannot be made.
    #[error(transparent)]
    DevKey(#[from] DevKeyError),
    /// The list of revoked tokens cannot be used.
    #[error(transparent)]
    Revocations(#[from] RevocationsError),
    /// TLS cannot be set up.
    #[error("in tls")]
    Certificates(#[from] CertificatesError),
    /// The folder for state cannot be used.
    #[error(transparent)]
    State(#[from] FolderError),
}

impl Startup {
    /// Reads the keys, makes the development key if `dev`, and opens the folder for state. `dev_key_file`: where the key
    /// is kept; none: it is fresh.
    ///
    /// # Errors
    /// There is no key, or one cannot be used; or the folder cannot be.
    pub fn prepare(
        config: Config,
        dev: bool,
        dev_key_file: Option<&Path>,
    ) -> Result<Self, StartupError> {
        let dev_key = match (dev, dev_key_file) {
            (false, _) => None,
            (true, None) => Some(DevKey::fresh()?),
            (true, Some(file)) => Some(DevKey::at(file)?),
        };
        let of_dev = dev_key.as_ref().map(|dev| dev.key().clone());
        let now_unix = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        let keys = KeyKeeper::open(&config.auth, &config.limits, of_dev, now_unix)?;
        if !keys.has_keys() {
            return Err(StartupError::NoKey);
        }
        let trust = Arc::clone(keys.trust());
        let certificates = Certificates::load(&config.tls)?;
        let state = match &config.state.directory {
            None => None,
            Some(directory) => Some(Arc::new(Folder::open(directory)?)),
        };
        let revocations = revocations::load(
            config.auth.revocations.as_deref(),
            state.as_ref(),
            &config.limits,
        )?;
        Ok(Self {
            revocations,
            config,
            keys,
            trust,
            certificates,
            dev_key,
            state,
        })
    }

    /// Whether the endpoint `/echo` exists.
    pub fn echo(&self) -> bool {
        self.dev_key.is_some()
    }

    /// Says in the log what development mode means, and how to get a token for it.
    pub fn announce(&self) {
        let Some(dev_key) = &self.dev_key else { return };
        let key = dev_key.path().display();
        tracing::warn!(
            "development mode: whoever can read the key file {key} can make tokens; not for production"
        );
        tracing::info!(
            "development mode: serving this machine only, at {}",
            self.config.server.listen
        );
        tracing::info!(
            "development mode: /echo returns every message to its sender and asks for no token"
        );
        tracing::info!(
            "make a vehicle's token with: longhaul token --dev-key {key} --role vehicle --fleet demo --subject truck-1"
        );
        tracing::info!(
            "make a dashboard's token with: longhaul token --dev-key {key} --role dashboard --fleet demo --subject me"
        );
    }
}

/// Reads the configured keys that are in files.
///
/// # Errors
/// The first one that cannot be used.
pub fn load_keys(auth: &Auth) -> Result<Vec<Key>, StartupError> {
    keyring::load(auth).map_err(StartupError::Key)
}
