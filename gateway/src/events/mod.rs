//! Events that are not lost: the log, and what delivers from it.

#[allow(dead_code, unused_imports)]
mod store;
