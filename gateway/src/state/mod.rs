//! What survives a restart: last positions, and since when each vehicle is gone.
//!
//! A process writes a snapshot now and then, and at its end; the next one begins with it. A process that drains hands
//! over to the one that takes its place on the same machine: everything at once, then what still comes in. A newer
//! position wins over an older one wherever it comes from, so it does not matter what is taken twice or late.
//!
//! | file | what |
//! |---|---|
//! | `file` | the format, written and read a frame at a time |
//! | `folder` | names, locks, whole files or none |
//! | `walk` | from the tables to a file |
//! | `apply` | from a file to the tables |
//! | `load` | takes what others left, by the rules |
//! | `keeper` | the thread that does all of it in time |
//! | `groups` | groups as operators set them, in force and on the disk |
//! | `announce` | tells shards what changed in the tables |
#![forbid(unsafe_code)]

mod announce;
mod apply;
mod file;
mod folder;
mod groups;
mod keeper;
mod load;
mod walk;

pub use announce::announcer;
pub use apply::ANNOUNCED_AT_ONCE;
pub use folder::{Folder, FolderError};
pub use groups::{Change, ChangeError, GroupKeeper};
pub use load::{Keeping, load};

#[cfg(test)]
mod tests;
