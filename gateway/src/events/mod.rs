//! What must not be lost on its way.

pub mod commands;
