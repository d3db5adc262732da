//! A position fix as a plain value, and its 24 bytes on the wire.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::wire;

/// Where a vehicle was, and when. 24 bytes, here and on the wire.
///
/// In JSON `lat_e7` and `lon_e7` are required; the rest defaults as in [`Fix::default`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fix {
    /// When the fix was taken: milliseconds since the Unix epoch. 0 from a vehicle: "now".
    #[serde(default)]
    pub time_ms: u64,
    /// The vehicle's index on this gateway. 0 from a vehicle: "myself".
    #[serde(default)]
    pub vehicle: u32,
    /// WGS 84 latitude in 1e-7 degree.
    pub lat_e7: i32,
    /// WGS 84 longitude in 1e-7 degree.
    pub lon_e7: i32,
    /// Ground speed in centimetres per second, or [`Fix::SPEED_UNKNOWN`].
    #[serde(default = "unknown")]
    pub speed_cm_s: u16,
    /// Course over ground in 1/100 degree clockwise from true north, or [`Fix::HEADING_UNKNOWN`].
    #[serde(default = "unknown")]
    pub heading_cdeg: u16,
}

fn unknown() -> u16 {
    u16::MAX
}

impl Default for Fix {
    /// Latitude and longitude 0, "now", "myself", speed and heading unknown.
    fn default() -> Self {
        Self {
            time_ms: 0,
            vehicle: 0,
            lat_e7: 0,
            lon_e7: 0,
            speed_cm_s: Self::SPEED_UNKNOWN,
            heading_cdeg: Self::HEADING_UNKNOWN,
        }
    }
}

/// A fix that no place on earth has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FixError {
    /// Beyond a pole.
    #[error("lat_e7 {0} is outside -900000000 to 900000000 (1e-7 degree)")]
    Latitude(i32),
    /// Beyond the antimeridian.
    #[error("lon_e7 {0} is outside -1800000000 to 1800000000 (1e-7 degree)")]
    Longitude(i32),
    /// A full circle or more.
    #[error("heading_cdeg {0} is neither 0 to 35999 (1/100 degree) nor 65535, unknown")]
    Heading(u16),
}

impl Fix {
    /// `speed_cm_s` of a vehicle that does not know its speed.
    pub const SPEED_UNKNOWN: u16 = u16::MAX;
    /// `heading_cdeg` of a vehicle that does not know its course, or stands still.
    pub const HEADING_UNKNOWN: u16 = u16::MAX;
    /// The North Pole, in 1e-7 degree.
    pub const LAT_E7_MAX: i32 = 900_000_000;
    /// The antimeridian, in 1e-7 degree.
    pub const LON_E7_MAX: i32 = 1_800_000_000;
    /// The largest known heading, in 1/100 degree.
    pub const HEADING_CDEG_MAX: u16 = 35_999;
    /// Bytes of one fix on the wire.
    pub const WIRE_BYTES: usize = 24;

    /// Whether this can be a place and a course. Decoding does not ask: a fix out of range is well-formed.
    ///
    /// # Errors
    /// The first field out of its range, with its value.
    #[inline]
    pub fn check(&self) -> Result<(), FixError> {
        if !(-Self::LAT_E7_MAX..=Self::LAT_E7_MAX).contains(&self.lat_e7) {
            return Err(FixError::Latitude(self.lat_e7));
        }
        if !(-Self::LON_E7_MAX..=Self::LON_E7_MAX).contains(&self.lon_e7) {
            return Err(FixError::Longitude(self.lon_e7));
        }
        if self.heading_cdeg > Self::HEADING_CDEG_MAX && self.heading_cdeg != Self::HEADING_UNKNOWN
        {
            return Err(FixError::Heading(self.heading_cdeg));
        }
        Ok(())
    }
}

impl From<&wire::Fix> for Fix {
    #[inline]
    fn from(fix: &wire::Fix) -> Self {
        Self {
            time_ms: fix.time_ms(),
            vehicle: fix.vehicle(),
            lat_e7: fix.lat_e7(),
            lon_e7: fix.lon_e7(),
            speed_cm_s: fix.speed_cm_s(),
            heading_cdeg: fix.heading_cdeg(),
        }
    }
}

impl From<&Fix> for wire::Fix {
    #[inline]
    fn from(fix: &Fix) -> Self {
        Self::new(
            fix.time_ms,
            fix.vehicle,
            fix.lat_e7,
            fix.lon_e7,
            fix.speed_cm_s,
            fix.heading_cdeg,
        )
    }
}

impl From<Fix> for wire::Fix {
    #[inline]
    fn from(fix: Fix) -> Self {
        Self::from(&fix)
    }
}

const _: () = assert!(size_of::<Fix>() == Fix::WIRE_BYTES && size_of::<wire::Fix>() == 24);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ranges() {
        let at = |lat_e7, lon_e7, heading_cdeg| Fix {
            lat_e7,
            lon_e7,
            heading_cdeg,
            ..Fix::default()
        };
        let cases = [
            (at(0, 0, 0), Ok(())),
            (at(900_000_000, 1_800_000_000, 35_999), Ok(())),
            (at(-900_000_000, -1_800_000_000, 65_535), Ok(())),
            (at(900_000_001, 0, 0), Err(FixError::Latitude(900_000_001))),
            (at(i32::MIN, 0, 0), Err(FixError::Latitude(i32::MIN))),
            (
                at(0, 1_800_000_001, 0),
                Err(FixError::Longitude(1_800_000_001)),
            ),
            (at(0, i32::MIN, 0), Err(FixError::Longitude(i32::MIN))),
            (at(0, 0, 36_000), Err(FixError::Heading(36_000))),
            (at(0, 0, 65_534), Err(FixError::Heading(65_534))),
        ];
        for (fix, expected) in cases {
            assert_eq!(fix.check(), expected, "{fix:?}");
        }
    }

    /// The layout that docs/protocol.md gives to people who parse a fix by hand.
    #[test]
    fn wire_layout_is_little_endian_without_padding() {
        let fix = Fix {
            time_ms: 0x0807_0605_0403_0201,
            vehicle: 0x0c0b_0a09,
            lat_e7: 0x100f_0e0d,
            lon_e7: 0x1413_1211,
            speed_cm_s: 0x1615,
            heading_cdeg: 0x1817,
        };
        let expected: Vec<u8> = (1..=24).collect();
        assert_eq!(wire::Fix::from(fix).0.as_slice(), expected);
    }

    proptest! {
        #[test]
        fn survives_the_wire(time_ms: u64, vehicle: u32, lat_e7: i32, lon_e7: i32, speed_cm_s: u16, heading_cdeg: u16) {
            let fix = Fix { time_ms, vehicle, lat_e7, lon_e7, speed_cm_s, heading_cdeg };
            prop_assert_eq!(Fix::from(&wire::Fix::from(fix)), fix);
        }
    }
}
