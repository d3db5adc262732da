//! Whatever strangers send, and whatever stands in files, gives a value or a typed error: no panic, no hang, no error
//! that repeats a secret.
//!
//! `cargo test` runs the committed inputs in `__fuzz__` and a second of random ones per target. To let coverage lead:
//! `scripts/fuzz TARGET`. What the codec decodes is fuzzed in `codec/tests/fuzz.rs`.

mod config;
mod frames;
mod jwks;
mod proxy;
mod tls;
mod token;
mod upgrade;
