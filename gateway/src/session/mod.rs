//! What a peer may do: its token, who it is by that token, and where the token stands in an upgrade request.
//! No I/O except reading key files at start; time is passed in.

pub mod admission;
pub mod census;
pub mod close;
pub mod credentials;
pub mod dashboard;
pub mod dev_key;
pub mod event;
pub mod grants;
pub mod hint;
pub mod keys;
pub mod mint;
pub mod origin;
pub mod penalty;
pub mod rate;
pub mod rejection;
pub mod revocation;
pub mod rights;
pub mod token;
pub mod token_notes;
pub mod topics;
pub mod trust;
pub mod vehicle;
