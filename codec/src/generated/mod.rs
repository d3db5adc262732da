//! What the schema compiler makes of `schema/longhaul.fbs`, byte for byte.
//!
//! Written by `scripts/generate-schema` and never by hand; `tests/schema.rs` compares the two. The lints of this
//! workspace are for what people write, so they are off here and only here. The `unsafe` code is the FlatBuffers
//! accessors', whose one condition, a verified buffer, [`crate::decode`] sees to.
#![allow(missing_docs, unsafe_code, unused_qualifications)]
#![allow(clippy::all, clippy::undocumented_unsafe_blocks)]
#![allow(rustdoc::all)]

#[rustfmt::skip]
mod longhaul_generated;

pub use longhaul_generated::longhaul::v_1;
