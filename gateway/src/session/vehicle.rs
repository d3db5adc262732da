//! What a vehicle may say. Pure: a message in, a request or a rejection out.

use longhaul_codec::{ErrorCode, Fix, FixError, MessageRef, wire};
use longhaul_filter_engine::VehicleIndex;

use super::rejection::{Bound, Rejection};

/// A vehicle's message, understood.
#[derive(Debug, Clone, Copy)]
pub enum VehicleRequest<'a> {
    /// One fix.
    Position(wire::Position<'a>),
    /// Several, oldest first.
    Batch(wire::PositionBatch<'a>),
    /// Something happened.
    Event(wire::Event<'a>),
    /// What became of a command.
    CommandResult(wire::CommandResult<'a>),
    /// A fresh token.
    Authenticate(wire::Authenticate<'a>),
}

/// Says what `message` asks for.
///
/// # Errors
/// A message that vehicles do not send, or that this gateway does not serve.
#[inline]
pub fn understand(message: MessageRef<'_>) -> Result<VehicleRequest<'_>, Rejection> {
    match message {
        MessageRef::Position(position) => Ok(VehicleRequest::Position(position)),
        MessageRef::PositionBatch(batch) => Ok(VehicleRequest::Batch(batch)),
        MessageRef::Event(event) => Ok(VehicleRequest::Event(event)),
        MessageRef::CommandResult(result) => Ok(VehicleRequest::CommandResult(result)),
        MessageRef::Authenticate(fresh) => Ok(VehicleRequest::Authenticate(fresh)),
        _ => Err(Rejection::new(
            ErrorCode::NotAllowed,
            0,
            "vehicles send Position, PositionBatch, Event, CommandResult and Authenticate; this message is not one of them",
        )),
    }
}

/// The bounds that a fix is held against.
#[derive(Debug, Clone, Copy)]
pub struct FixRules {
    /// How far a vehicle's clock may be ahead of the gateway's, in milliseconds. A fix from the future would
    /// otherwise shadow all that follow it.
    pub clock_ahead_ms_max: u64,
}

/// A vehicle's fix, ready for the table: the sender's own, in range, with a time.
///
/// # Errors
/// A foreign index, a coordinate out of range, a clock too far ahead.
#[inline]
pub fn check_fix(
    mut fix: Fix,
    me: VehicleIndex,
    unix_ms: u64,
    rules: FixRules,
) -> Result<Fix, Rejection> {
    if fix.vehicle != 0 && fix.vehicle != me.0 {
        return Err(Rejection::new(
            ErrorCode::WrongIdentity,
            0,
            format!(
                "the fix names vehicle {}, but this connection is vehicle {}: send that or 0",
                fix.vehicle, me.0
            ),
        ));
    }
    fix.check().map_err(|error: FixError| {
        Rejection::new(ErrorCode::InvalidPosition, 0, error.to_string())
    })?;
    if fix.time_ms == 0 {
        fix.time_ms = unix_ms;
    } else if fix.time_ms > unix_ms.saturating_add(rules.clock_ahead_ms_max) {
        return Err(Rejection::new(
            ErrorCode::ClockAhead,
            0,
            format!(
                "the fix is {} ms ahead of the gateway's clock, the limit is {} ms: set the vehicle's clock or send 0",
                fix.time_ms - unix_ms,
                rules.clock_ahead_ms_max
            ),
        )
        .over(Bound::ClockAhead));
    }
    fix.vehicle = me.0;
    Ok(fix)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: FixRules = FixRules {
        clock_ahead_ms_max: 1_000,
    };
    const ME: VehicleIndex = VehicleIndex(7);

    fn fix() -> Fix {
        Fix {
            time_ms: 5_000,
            vehicle: 0,
            lat_e7: 1,
            lon_e7: 2,
            speed_cm_s: 3,
            heading_cdeg: 4,
        }
    }

    #[test]
    fn a_fix_becomes_the_senders() {
        let checked = check_fix(fix(), ME, 5_000, RULES).unwrap();
        assert_eq!(
            checked,
            Fix {
                vehicle: 7,
                ..fix()
            }
        );
        assert_eq!(
            check_fix(
                Fix {
                    vehicle: 7,
                    ..fix()
                },
                ME,
                5_000,
                RULES
            )
            .unwrap(),
            checked
        );
        assert_eq!(
            check_fix(
                Fix {
                    time_ms: 0,
                    ..fix()
                },
                ME,
                9,
                RULES
            )
            .unwrap()
            .time_ms,
            9,
            "no clock: stamped"
        );
        assert!(check_fix(fix(), ME, 4_000, RULES).is_ok(), "at the limit");
    }

    #[test]
    fn what_is_wrong_is_said() {
        let cases = [
            (
                Fix {
                    vehicle: 8,
                    ..fix()
                },
                ErrorCode::WrongIdentity,
                "vehicle 8",
            ),
            (
                Fix {
                    lat_e7: 900_000_001,
                    ..fix()
                },
                ErrorCode::InvalidPosition,
                "900000001",
            ),
            (
                Fix {
                    time_ms: 6_001,
                    ..fix()
                },
                ErrorCode::ClockAhead,
                "1001 ms ahead",
            ),
        ];
        for (fix, code, says) in cases {
            let rejection = check_fix(fix, ME, 5_000, RULES).unwrap_err();
            assert_eq!(rejection.code, code);
            assert!(rejection.message.contains(says), "{}", rejection.message);
        }
    }
}
