//! longhaul-codec
