//! Opens what is there, or sets it aside, or begins.

use std::{io, path::Path};

use super::{
    StoreOptions,
    error::{StoreError, Trouble},
    folder::Folder,
    handle::{self, Handle},
    load::{Loaded, load},
};

/// Opens the store in a folder, and reads all of it but the records.
pub fn open(
    folder: &Folder,
    options: &StoreOptions,
    generation: u64,
    now_ms: u64,
) -> Result<(Handle, Loaded), StoreError> {
    let failed = |error| StoreError::io(folder.path(), error);
    let mut set_aside = None;
    if folder.store().map_err(failed)?.is_some() {
        match existing(folder, options, generation) {
            Err(StoreError::Corrupt { .. }) => {
                set_aside = Some(folder.set_aside(now_ms).map_err(failed)?);
            }
            Err(error) => return Err(error),
            Ok((handle, mut loaded)) => {
                loaded.recovered.lost = folder.lost().map_err(failed)?;
                return Ok((handle, loaded));
            }
        }
    }
    begin(folder, options, now_ms)?;
    let (handle, mut loaded) = existing(folder, options, generation)?;
    loaded.recovered.set_aside = set_aside;
    loaded.recovered.lost = folder.lost().map_err(failed)?;
    Ok((handle, loaded))
}

fn existing(
    folder: &Folder,
    options: &StoreOptions,
    generation: u64,
) -> Result<(Handle, Loaded), StoreError> {
    let path = folder.path();
    let failed = |error: io::Error| StoreError::io(path, error);
    let file = folder
        .store()
        .and_then(|file| file.ok_or_else(|| io::ErrorKind::NotFound.into()))
        .map_err(failed)?;
    let (_opening, unfinished) = folder.opening().map_err(failed)?;
    let handle = Handle::open(file, options, generation, unfinished).map_err(at(path))?;
    let tried = handle.prove().and_then(|()| load(&handle));
    let loaded = tried.map_err(|trouble| {
        handle.disk.cut_off();
        trouble.at(path)
    })?;
    folder.note_epoch(loaded.meta.epoch).map_err(failed)?;
    Ok((handle, loaded))
}

/// Makes a new, empty store, which takes its name when it is complete.
fn begin(folder: &Folder, options: &StoreOptions, now_ms: u64) -> Result<(), StoreError> {
    let path = folder.path();
    let failed = |error| StoreError::io(path, error);
    let before = folder.epoch().map_err(failed)?;
    let epoch = before.map_or(now_ms, |before| now_ms.max(before.saturating_add(1)));
    let file = folder.begin().map_err(failed)?;
    handle::create(file, options, epoch).map_err(at(path))?;
    folder.publish().map_err(failed)
}

fn at(path: &Path) -> impl Fn(Trouble) -> StoreError {
    |trouble| trouble.at(path)
}
