//! The protocol's enumerations as Rust enums: every value known, names as in the schema and in JSON.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::wire;

/// A number that stands for no value of an enumeration in this version of the schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{name} has no value {number}")]
pub struct UnknownValue {
    /// The enumeration.
    pub name: &'static str,
    /// What was found in its place.
    pub number: u16,
}

/// One Rust enum for one enumeration of the schema, and the way to and from its generated counterpart.
/// The first value is the schema's default.
macro_rules! enumeration {
    ($(#[$about:meta])* $name:ident {
        $(#[$first_about:meta])* $first:ident
        $(, $(#[$rest_about:meta])* $rest:ident)* $(,)?
    }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum $name {
            $(#[$first_about])* #[default] $first,
            $($(#[$rest_about])* $rest,)*
        }

        impl From<$name> for wire::$name {
            #[inline]
            fn from(value: $name) -> Self {
                match value {
                    $name::$first => Self::$first,
                    $($name::$rest => Self::$rest,)*
                }
            }
        }

        impl TryFrom<wire::$name> for $name {
            type Error = UnknownValue;

            #[inline]
            fn try_from(value: wire::$name) -> Result<Self, UnknownValue> {
                match value {
                    wire::$name::$first => Ok(Self::$first),
                    $(wire::$name::$rest => Ok(Self::$rest),)*
                    unknown => Err(UnknownValue { name: stringify!($name), number: unknown.0.into() }),
                }
            }
        }

        #[cfg(test)]
        impl $name {
            /// Every value, for tests.
            pub(crate) const ALL: &[Self] = &[Self::$first, $(Self::$rest),*];
        }
    };
}

enumeration! {
    /// What a peer is, as its token says.
    Role {
        /// Publishes its own positions and events.
        Vehicle,
        /// Watches vehicles of its fleet.
        Dashboard,
    }
}

enumeration! {
    /// Whether a vehicle can be heard.
    PresenceState {
        /// Not connected.
        Offline,
        /// Connected.
        Online,
        /// Connected, and silent for longer than it should be.
        Stale,
    }
}

enumeration! {
    /// What a dashboard gets when it reads more slowly than vehicles report.
    Delivery {
        /// The newest position per vehicle.
        Latest,
        /// Each one, in order, up to the queue's bound.
        Every,
    }
}

enumeration! {
    /// How a subscribe request relates to the ones before it.
    SubscribeMode {
        /// It widens what this connection already watches.
        Add,
        /// It takes the place of what this connection watched.
        Replace,
    }
}

enumeration! {
    /// What an acknowledgement answers.
    AckKind {
        /// A qos 1 event, now durable.
        Event,
        /// A subscribe request.
        Subscribe,
        /// An unsubscribe request.
        Unsubscribe,
        /// A command, accepted for delivery.
        Command,
        /// A fresh token, in force.
        Authenticate,
    }
}

enumeration! {
    /// What became of a command.
    CommandStatus {
        /// The vehicle did it.
        Done,
        /// The vehicle would not.
        Refused,
        /// The vehicle tried and could not.
        Failed,
        /// It was not delivered in time.
        Expired,
    }
}

enumeration! {
    /// Why the gateway did not do what a message asked.
    ErrorCode {
        /// The gateway's own fault.
        Internal,
        /// The bytes or the text are no message of this protocol.
        Malformed,
        /// This role, or this token, may not do that.
        NotAllowed,
        /// A vehicle id that is not the token's subject.
        WrongIdentity,
        /// A latitude, longitude or heading out of range.
        InvalidPosition,
        /// A fix from further in the future than clocks may differ.
        ClockAhead,
        /// Larger than this connection's limit.
        TooLarge,
        /// More of something than this connection, fleet or node may have.
        LimitReached,
        /// Part of the protocol, and not of this gateway's configuration.
        NotSupported,
        /// A qos 1 event that could not be made durable.
        NotDurable,
        /// Events between the resume point and now are gone.
        Gap,
        /// No such vehicle in the fleet.
        UnknownVehicle,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fails when the schema gains a value that the enums above do not have.
    macro_rules! check {
        ($($name:ident),*) => {$(
            assert_eq!($name::ALL.len(), wire::$name::ENUM_VALUES.len());
            for (&known, &generated) in $name::ALL.iter().zip(wire::$name::ENUM_VALUES) {
                assert_eq!(wire::$name::from(known), generated);
                assert_eq!($name::try_from(generated), Ok(known));
                let name = generated.variant_name().expect("it comes from the schema");
                assert_eq!(serde_json::to_string(&known).expect("it is a name"), format!("{name:?}"));
            }
            let number = wire::$name::ENUM_MAX + 1;
            assert_eq!(
                $name::try_from(wire::$name(number)),
                Err(UnknownValue { name: stringify!($name), number: number.into() })
            );
            assert_eq!(wire::$name::from($name::default()), wire::$name::default());
        )*};
    }

    #[test]
    fn enums_and_schema_have_the_same_values() {
        check!(
            Role,
            PresenceState,
            Delivery,
            SubscribeMode,
            AckKind,
            CommandStatus,
            ErrorCode
        );
    }
}
