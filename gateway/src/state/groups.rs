//! Groups as operators set them: put into force on every shard, and kept where state is kept.
//!
//! The file has every group with the ids of its members by an operator's word, and takes the place of the one before as a
//! whole. The processes of one node share it: each change begins with what the file says, and who did not make the change
//! finds it within a second ([`GroupKeeper::sync`]). What vehicles' tokens say is not kept: they say it again.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::MetadataExt,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use longhaul_filter_engine::FleetId;
use roaring::RoaringBitmap;
use serde::{Deserialize, Serialize};

use super::folder::Folder;
use crate::{
    fleet::{
        Fleet, RegistryError,
        groups::{Edit, GroupsError, Wake},
    },
    limits::{GROUPS_FILE_BYTES_MAX, SHARDS_MAX},
    shard::inbox::Inbox,
};

const FILE: &str = "groups.json";
const VERSION: u32 = 1;
/// How long a change waits for the shards to say that it is in force.
const IN_FORCE_WITHIN: Duration = Duration::from_secs(2);
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// Why a group was not changed.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// At a limit of groups.
    #[error(transparent)]
    Groups(#[from] GroupsError),
    /// At a limit of vehicles or fleets.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The folder cannot be used. Nothing has changed.
    #[error(
        "cannot use {FILE} in the state folder (state.directory), and nothing was changed: {0}"
    )]
    Unreadable(io::Error),
    /// It is in force, and it is not kept.
    #[error(
        "the change is in force here, but it could not be written to {FILE} in the state folder (state.directory), so a \
         restart undoes it: {0}. Make room there, and make the call again"
    )]
    NotKept(io::Error),
}

/// What became of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Changed {
    /// Members by an operator's word.
    pub members: u64,
    /// Every shard has it in force. False: one did not say so in time; it follows.
    pub in_force: bool,
    /// It survives a restart.
    pub kept: bool,
}

/// What is asked of a group, by ids.
#[derive(Debug, Clone, Copy)]
pub enum Change<'a> {
    /// Add the first, then take away the second.
    Members(&'a [String], &'a [String]),
    /// These and no others.
    Replace(&'a [String]),
}

/// The file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    version: u32,
    /// Fleet, group, ids.
    fleets: BTreeMap<Box<str>, KeptFleet>,
}

/// Groups, and the ids of their members.
type KeptFleet = BTreeMap<Box<str>, Vec<Box<str>>>;

/// Which file it was: its inode, when it was written, and its length.
type Seen = Option<(u64, i64, i64, u64)>;

/// Changes groups, one at a time.
#[derive(Debug)]
pub struct GroupKeeper {
    fleet: Arc<Fleet>,
    inboxes: Arc<[Arc<Inbox>]>,
    folder: Option<Arc<Folder>>,
    /// The file that was read or written last.
    seen: Mutex<Seen>,
}

impl GroupKeeper {
    /// With what the file says in force. A file that cannot be read is set aside, and said.
    pub fn load(
        fleet: Arc<Fleet>,
        inboxes: Arc<[Arc<Inbox>]>,
        folder: Option<Arc<Folder>>,
    ) -> GroupKeeper {
        let keeper = GroupKeeper {
            fleet,
            inboxes,
            folder,
            seen: Mutex::new(None),
        };
        if let Err(error) = keeper.sync() {
            tracing::error!(%error, "cannot read {FILE} in the state folder: groups are as tokens say");
        }
        keeper
    }

    fn path(&self) -> Option<PathBuf> {
        Some(self.folder.as_ref()?.path().join(FILE))
    }

    /// Takes what another process of this node has changed. Cheap if that is nothing; blocks on the disk if not.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn sync(&self) -> io::Result<()> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let wake = self.take_file(&mut seen)?;
        self.ring(wake);
        Ok(())
    }

    /// The same now and then. What is wrong with the file is said once: it is set aside, or its folder says more.
    pub fn look(&self) {
        if let Err(error) = self.sync() {
            tracing::error!(%error, "cannot read {FILE} in the state folder: groups stay as they are");
        }
    }

    /// Carries out a change, and waits until shards have it in force. Blocks.
    ///
    /// # Errors
    /// See [`ChangeError`].
    pub fn change(
        &self,
        fleet: &str,
        group: &str,
        change: Change<'_>,
    ) -> Result<Changed, ChangeError> {
        let (members, wake) = {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            let _turn = match &self.folder {
                None => None,
                Some(folder) => Some(folder.turn().map_err(ChangeError::Unreadable)?),
            };
            let taken = self.take_file(&mut seen).map_err(ChangeError::Unreadable)?;
            let outcome = self.edit(fleet, group, change);
            let wake = outcome.as_ref().map_or(taken, |(_, wake)| Wake {
                shards: wake.shards | taken.shards,
                ..*wake
            });
            self.ring(wake);
            let (members, _) = outcome?;
            self.keep(&mut seen).map_err(ChangeError::NotKept)?;
            (members, wake)
        };
        let asked = Instant::now();
        while !self.fleet.groups.is_done(wake) && asked.elapsed() < IN_FORCE_WITHIN {
            thread::sleep(LOOK_EVERY);
        }
        Ok(Changed {
            members,
            in_force: self.fleet.groups.is_done(wake),
            kept: self.folder.is_some(),
        })
    }

    fn edit(
        &self,
        fleet: &str,
        group: &str,
        change: Change<'_>,
    ) -> Result<(u64, Wake), ChangeError> {
        let registry = &self.fleet.registry;
        let fleet = registry.fleet(fleet)?;
        let groups = &self.fleet.groups;
        let (add, remove) = match change {
            Change::Replace(ids) => {
                let vehicles = self.interned(fleet, ids)?;
                return Ok(groups.edit(fleet, group, Edit::Replace(&vehicles))?);
            }
            Change::Members(add, remove) => (self.interned(fleet, add)?, remove),
        };
        // Behind those that were added: one that stands in both is taken away.
        let remove = remove.iter().filter_map(|id| registry.find(fleet, id));
        let remove: RoaringBitmap = remove.map(|vehicle| vehicle.0).collect();
        let (_, first) = groups.edit(fleet, group, Edit::Add(&add))?;
        let (members, second) = groups.edit(fleet, group, Edit::Remove(&remove))?;
        let shards = first.shards | second.shards;
        Ok((members, Wake { shards, ..second }))
    }

    /// The numbers of vehicles, known or not: an operator knows what is to come.
    fn interned(&self, fleet: FleetId, ids: &[String]) -> Result<RoaringBitmap, RegistryError> {
        let registry = &self.fleet.registry;
        let vehicles = ids.iter().map(|id| registry.vehicle(fleet, id));
        vehicles.map(|found| Ok(found?.0)).collect()
    }

    fn ring(&self, wake: Wake) {
        for shard in (0..SHARDS_MAX).filter(|shard| wake.shards >> shard & 1 == 1) {
            if let Some(inbox) = self.inboxes.get(shard) {
                inbox.doorbell.ring();
            }
        }
    }

    /// Reads the file if it is another one than the last, and puts it into force.
    fn take_file(&self, seen: &mut Seen) -> io::Result<Wake> {
        let (Some(folder), Some(path)) = (&self.folder, self.path()) else {
            return Ok(Wake::default());
        };
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Wake::default()),
            Err(error) => return Err(error),
        };
        let now = identity(&file)?;
        if *seen == now {
            return Ok(Wake::default());
        }
        let kept = match read(&file) {
            Ok(kept) => kept,
            Err(why) => {
                drop(file);
                let aside = folder.path().join(format!("{FILE}.refused"));
                fs::rename(&path, &aside)?;
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("{why}; it is set aside as {}", aside.display()),
                ));
            }
        };
        let wake = self.apply(&kept);
        *seen = now;
        Ok(wake)
    }

    /// Makes the groups what the file says. What does not fit the limits is left out, and said.
    fn apply(&self, kept: &Kept) -> Wake {
        let Fleet {
            registry, groups, ..
        } = &*self.fleet;
        let mut all = Wake::default();
        let mut put = |fleet, name: &str, vehicles: &RoaringBitmap| match groups.edit(
            fleet,
            name,
            Edit::Replace(vehicles),
        ) {
            Ok((_, wake)) => {
                all.shards |= wake.shards;
                all.generation = wake.generation;
            }
            Err(error) => {
                tracing::error!(group = name, %error, "a group that was kept is left out")
            }
        };
        for (fleet, name, _) in groups.by_operators() {
            let fleet_name = registry.fleet_name(fleet);
            let of_fleet = fleet_name.and_then(|fleet| kept.fleets.get(&fleet));
            if of_fleet.is_none_or(|groups| !groups.contains_key(&name)) {
                put(fleet, &name, &RoaringBitmap::new());
            }
        }
        for (fleet_name, of_fleet) in &kept.fleets {
            let Ok(fleet) = registry.fleet(fleet_name) else {
                tracing::error!(fleet = %fleet_name, "groups that were kept are left out: there are too many fleets");
                continue;
            };
            for (name, ids) in of_fleet {
                let vehicles = ids.iter().filter_map(|id| registry.vehicle(fleet, id).ok());
                let vehicles: RoaringBitmap = vehicles.map(|vehicle| vehicle.0).collect();
                if vehicles.len() < ids.len() as u64 {
                    tracing::error!(group = %name, "vehicles of a group that was kept are left out: there are too many");
                }
                put(fleet, name, &vehicles);
            }
        }
        all
    }

    /// Writes what is in force.
    fn keep(&self, seen: &mut Seen) -> io::Result<()> {
        let (Some(folder), Some(path)) = (&self.folder, self.path()) else {
            return Ok(());
        };
        let registry = &self.fleet.registry;
        let mut fleets: BTreeMap<Box<str>, KeptFleet> = BTreeMap::new();
        for (fleet, group, vehicles) in self.fleet.groups.by_operators() {
            let Some(fleet) = registry.fleet_name(fleet) else {
                continue;
            };
            let vehicles: Vec<u32> = vehicles.iter().collect();
            let mut ids = Vec::with_capacity(vehicles.len());
            registry.ids_of(&vehicles, |_, id| ids.push(id.into()));
            fleets.entry(fleet).or_default().insert(group, ids);
        }
        let text = serde_json::to_vec(&Kept {
            version: VERSION,
            fleets,
        })?;
        if text.len() as u64 > GROUPS_FILE_BYTES_MAX {
            return Err(io::Error::other(format!(
                "it would have {} bytes, allowed: {GROUPS_FILE_BYTES_MAX}",
                text.len()
            )));
        }
        let mut file = tempfile::Builder::new()
            .prefix(&folder.temporary_prefix())
            .tempfile_in(folder.path())?;
        file.write_all(&text)?;
        file.as_file().sync_all()?;
        let file = file.persist(&path).map_err(|error| error.error)?;
        File::open(folder.path())?.sync_all()?;
        *seen = identity(&file)?;
        Ok(())
    }
}

/// What sets a file apart from the one that took its place.
fn identity(file: &File) -> io::Result<Seen> {
    let metadata = file.metadata()?;
    let modified = (metadata.mtime(), metadata.mtime_nsec());
    Ok(Some((
        metadata.ino(),
        modified.0,
        modified.1,
        metadata.len(),
    )))
}

fn read(file: &File) -> Result<Kept, String> {
    let length = file.metadata().map_err(|error| error.to_string())?.len();
    if length > GROUPS_FILE_BYTES_MAX {
        return Err(format!(
            "it has {length} bytes, allowed: {GROUPS_FILE_BYTES_MAX}"
        ));
    }
    let kept: Kept = serde_json::from_reader(io::BufReader::new(file))
        .map_err(|error| format!("it is no such file: {error}"))?;
    if kept.version != VERSION {
        return Err(format!(
            "it is of version {}, and this gateway reads version {VERSION}",
            kept.version
        ));
    }
    Ok(kept)
}
