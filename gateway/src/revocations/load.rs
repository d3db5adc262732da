//! What there is of revocations when a process starts.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    KEPT,
    source::{Source, SourceError},
};
use crate::{limits::Limits, session::token::IdBounds, state::Folder};

/// Why there is no list at the start.
#[derive(Debug, thiserror::Error)]
pub enum RevocationsError {
    /// The operator's file.
    #[error(
        "cannot use the list of revoked tokens {path} (auth.revocations), and without it they would be let in: mend it, or \
         empty it if there are none",
        path = path.display()
    )]
    Watched {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: SourceError,
    },
    /// The file in the state folder.
    #[error(
        "cannot use the tokens that were revoked by calls, {path}, and without it they would be let in: mend it, or remove \
         it if that is what you want",
        path = path.display()
    )]
    Kept {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: SourceError,
    },
    /// Together they are too many.
    #[error("there are {0} revocations, more than limits.revocations_max")]
    TooMany(usize),
}

/// Both sources, as they are at the start.
#[derive(Debug)]
pub struct Loaded {
    pub(super) watched: Option<Source>,
    pub(super) kept: Source,
    pub(super) folder: Option<Arc<Folder>>,
    pub(super) max: usize,
}

/// Reads both sources.
///
/// # Errors
/// One of them cannot be used: a list of whom not to let in is not to be lost by accident.
pub fn load(
    watched: Option<&Path>,
    folder: Option<&Arc<Folder>>,
    limits: &Limits,
) -> Result<Loaded, RevocationsError> {
    let (bounds, max) = (IdBounds::new(limits), limits.revocations_max);
    let watched = watched
        .map(|path| {
            Source::read(path, bounds, max).map_err(|source| RevocationsError::Watched {
                path: path.to_owned(),
                source,
            })
        })
        .transpose()?;
    let kept = match folder {
        None => Source::none(bounds, max),
        Some(folder) => {
            let path = folder.path().join(KEPT);
            Source::read_if_any(&path, bounds, max)
                .map_err(|source| RevocationsError::Kept { path, source })?
        }
    };
    let count = watched.as_ref().map_or(0, |source| source.entries.len()) + kept.entries.len();
    if count > max {
        return Err(RevocationsError::TooMany(count));
    }
    Ok(Loaded {
        watched,
        kept,
        folder: folder.cloned(),
        max,
    })
}
