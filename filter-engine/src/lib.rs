//! longhaul-filter-engine
