//! The configuration file: what is taken can be budgeted for, and what is not is explained.

use bolero::check;

use crate::config::Config;
use crate::limits::budget::{self, Load};

#[test]
fn config() {
    check!(name = "config").for_each(|bytes: &[u8]| {
        let Ok(text) = std::str::from_utf8(bytes) else {
            return;
        };
        match Config::from_text(text) {
            Ok(config) => {
                let load = Load {
                    connections: budget::CONNECTIONS,
                    dashboards: budget::CONNECTIONS / budget::CONNECTIONS_PER_DASHBOARD,
                    shards: 64,
                };
                assert!(!budget::print(&config, load).is_empty());
            }
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    });
}
