//! Keys and sets of keys in files: all of them, or none.

use std::path::Path;

use crate::config::Auth;
use crate::limits::KEY_SET_BYTES_MAX;
use crate::session::keys::set::{self, Origin, Set, SetError};
use crate::session::keys::{Key, KeyError, read};

/// Reads the files of `auth.keys` and `auth.key_sets`.
///
/// # Errors
/// The first one that cannot be used.
pub fn load(auth: &Auth) -> Result<Vec<Key>, KeyError> {
    let mut keys = auth
        .keys
        .iter()
        .map(Key::load)
        .collect::<Result<Vec<_>, _>>()?;
    for file in auth.key_sets.iter().filter_map(|set| set.file.as_deref()) {
        let Set {
            keys: of_set,
            left_out,
        } = load_set(file, auth)?;
        if left_out > 0 {
            tracing::warn!(file = %file.display(), left_out, "keys of a set are left out: they are of no use here");
        }
        keys.extend(of_set);
    }
    Ok(keys)
}

fn load_set(file: &Path, auth: &Auth) -> Result<Set, KeyError> {
    let content = read(file, KEY_SET_BYTES_MAX).map_err(|source| KeyError::Read {
        path: file.to_owned(),
        source,
    })?;
    content
        .ok_or(SetError::TooLarge)
        .and_then(|content| set::parse(&content, Origin::File, &auth.algorithms))
        .map_err(|source| KeyError::Set {
            path: file.to_owned(),
            source,
        })
}
