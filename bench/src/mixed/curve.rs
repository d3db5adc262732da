//! How much of a fleet is on the road at which hour. Knows no fleet and no clock.

/// Share of the fleet at each full hour: a quiet night, two commuting peaks, a plateau between them.
const SHARES: [f64; 25] = [
    0.12, 0.09, 0.07, 0.07, 0.10, 0.22, 0.48, 0.85, 1.00, 0.80, 0.65, 0.62, 0.64, 0.63, 0.63, 0.68,
    0.85, 0.98, 0.85, 0.60, 0.42, 0.32, 0.24, 0.17, 0.12,
];
/// Hours of the curve.
pub const HOURS: usize = SHARES.len() - 1;

/// Share of the fleet at an hour from 0 to 24, in a straight line from one full hour to the next.
#[cfg(test)]
pub fn share(hour: f64) -> f64 {
    let before = (hour as usize).min(HOURS - 1);
    let (from, to) = (SHARES[before], SHARES[before + 1]);
    from + (to - from) * (hour - before as f64)
}

/// The stretches of the day, in hours, in which the curve is above `threshold`: when a vehicle is on the road that is out
/// whenever more than this share of the fleet is.
pub fn above(threshold: f64) -> Vec<(f64, f64)> {
    let mut stretches = Vec::new();
    let mut since = (SHARES[0] > threshold).then_some(0.0);
    for (hour, pair) in SHARES.windows(2).enumerate() {
        let (from, to) = (pair[0], pair[1]);
        if (from > threshold) == (to > threshold) {
            continue;
        }
        let at = hour as f64 + (threshold - from) / (to - from);
        match since.take() {
            None => since = Some(at),
            Some(began) => stretches.push((began, at)),
        }
    }
    stretches.extend(since.map(|began| (began, HOURS as f64)));
    stretches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commuter_drives_twice_and_a_night_bus_all_day() {
        assert_eq!(above(0.01), [(0.0, 24.0)]);
        let commuter = above(0.9);
        assert_eq!(commuter.len(), 2);
        assert!(commuter[0].0 > 7.0 && commuter[0].1 < 9.0);
        assert!(commuter[1].0 > 16.0 && commuter[1].1 < 18.0);
        assert!(above(1.0).is_empty());
    }

    #[test]
    fn thresholds_that_are_evenly_spread_add_up_to_the_curve() {
        let vehicles = 2_000;
        let stretches: Vec<_> = (0..vehicles)
            .map(|number| above((f64::from(number) + 0.5) / f64::from(vehicles)))
            .collect();
        for tenth in 0..240 {
            let hour = f64::from(tenth) / 10.0 + 0.05;
            let out = stretches
                .iter()
                .filter(|all| all.iter().any(|&(from, to)| (from..to).contains(&hour)))
                .count();
            let found = out as f64 / f64::from(vehicles);
            assert!((found - share(hour)).abs() < 0.002, "{hour}: {found}");
        }
    }
}
