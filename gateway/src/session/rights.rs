//! What a bearer may do beyond its role: the claim `may` of its token.

use std::fmt;

/// One right, as it stands in a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Right {
    /// Send commands to the vehicles of its fleet.
    Command,
}

impl Right {
    /// The right as it stands in a token.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Command => "command",
        }
    }
}

impl fmt::Display for Right {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

/// The rights that a bearer has. None, unless its token says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rights {
    /// Send commands to the vehicles of its fleet.
    pub command: bool,
}

impl Rights {
    /// The rights of these names. Those that this version does not know are left out, so that a token for a newer
    /// gateway is good here too.
    pub fn named<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let mut rights = Self::default();
        for name in names {
            rights.command |= name == Right::Command.name();
        }
        rights
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_gives_no_right() {
        for (names, command) in [
            (&[][..], false),
            (&["command"], true),
            (&["fly", "command", "command"], true),
            (&["Command", "commands", "", "fly"], false),
        ] {
            assert_eq!(
                Rights::named(names.iter().copied()),
                Rights { command },
                "{names:?}"
            );
        }
    }
}
