//! From what runs cost to what one of each thing costs.

/// What a run did a second, and what the gateway took for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub struct Rates {
    /// Updates from vehicles.
    pub inbound: f64,
    /// Frames to dashboards.
    pub frames: f64,
    /// Updates in them.
    pub deliveries: f64,
    /// Bytes of them.
    pub bytes: f64,
    /// The gateway's CPU time, in microseconds.
    pub cpu_us: f64,
}

/// So many of two things, and what they cost together.
pub type Bill = (f64, f64, f64);

/// What each of two things costs by two bills, and never less than nothing: if one would, the other explains it all as
/// well as it can (least squares).
pub fn two_costs(bills: [Bill; 2]) -> (f64, f64) {
    let [(a, b, cost), (c, d, other)] = bills;
    let determinant = a * d - b * c;
    let exact = (
        (cost * d - other * b) / determinant,
        (other * a - cost * c) / determinant,
    );
    let alone = |of: fn(&Bill) -> f64| {
        let squares: f64 = bills.iter().map(|bill| of(bill) * of(bill)).sum();
        let costs: f64 = bills.iter().map(|bill| of(bill) * bill.2).sum();
        if squares > 0.0 {
            (costs / squares).max(0.0)
        } else {
            0.0
        }
    };
    let (first, second) = (alone(|bill| bill.0), alone(|bill| bill.1));
    // The bills say the same thing twice, or nothing.
    if !exact.0.is_finite() || !exact.1.is_finite() {
        return if first > 0.0 {
            (first, 0.0)
        } else {
            (0.0, second)
        };
    }
    match (exact.0 >= 0.0, exact.1 >= 0.0) {
        (true, true) => exact,
        (true, false) => (first, 0.0),
        (false, true) => (0.0, second),
        // Both cannot be negative while costs are not.
        (false, false) => (0.0, 0.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bills_that_cannot_be_still_make_sense() {
        // The second run did twice as much and cost less.
        let (each, other) = two_costs([(10.0, 1.0, 100.0), (20.0, 1.0, 90.0)]);
        assert_eq!(each, 0.0);
        assert!((other - 95.0).abs() < 1e-9);
        assert_eq!(two_costs([(0.0, 0.0, 5.0), (0.0, 0.0, 7.0)]), (0.0, 0.0));
        assert_eq!(two_costs([(1.0, 1.0, 4.0), (2.0, 2.0, 8.0)]), (4.0, 0.0));
    }

    proptest! {
        #[test]
        fn true_costs_are_found(
            a in 1.0..100.0f64, b in 1.0..100.0f64, c in 1.0..100.0f64, d in 1.0..100.0f64,
            x in 0.0..50.0f64, y in 0.0..50.0f64,
        ) {
            prop_assume!((a * d - b * c).abs() > 1.0);
            let (found_x, found_y) = two_costs([(a, b, a * x + b * y), (c, d, c * x + d * y)]);
            prop_assert!((found_x - x).abs() < 1e-6 && (found_y - y).abs() < 1e-6, "{found_x} {found_y}");
        }

        #[test]
        fn no_bill_makes_a_negative_cost(
            a in 0.0..100.0f64, b in 0.0..100.0f64, c in 0.0..100.0f64, d in 0.0..100.0f64,
            x in 0.0..50.0f64, y in 0.0..50.0f64,
        ) {
            let (x, y) = two_costs([(a, b, x), (c, d, y)]);
            prop_assert!(x >= 0.0 && y >= 0.0 && x.is_finite() && y.is_finite());
        }
    }
}
