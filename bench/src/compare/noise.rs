//! What a difference between two sets of runs is worth: the Mann-Whitney U test, exact.
//!
//! It asks nothing of how runs are spread, which nobody knows of so few. Done by hand because the ecosystem's (statrs 0.19)
//! says p = 1 of five runs that are all below five others.

use serde::Serialize;

/// A difference that chance makes less often than this is taken for one.
pub const P_MAX: f64 = 0.05;

/// What is known of a difference.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Chance alone does not make such a difference often.
    Different,
    /// It may well be chance.
    WithinNoise,
    /// Too few runs for the test to say anything, whatever they are.
    Unknown,
}

/// The verdict, and how often chance alone makes such a difference.
pub fn judge(a: &[f64], b: &[f64]) -> (Verdict, Option<f64>) {
    if smallest_p(a.len(), b.len()) > P_MAX {
        return (Verdict::Unknown, None);
    }
    let p = mann_whitney(a, b);
    let verdict = if p <= P_MAX {
        Verdict::Different
    } else {
        Verdict::WithinNoise
    };
    (verdict, Some(p))
}

/// What the test says of `a` runs that are all below `b` others: with four each 0.029, with three each 0.1.
pub fn smallest_p(a: usize, b: usize) -> f64 {
    if a == 0 || b == 0 {
        return 1.0;
    }
    let ways = (1..=a).map(|n| (b + n) as f64 / n as f64).product::<f64>();
    (2.0 / ways).min(1.0)
}

/// How often the ranks of `a` among all would be as low, or as high, if it were chance which run is whose: the rarer of
/// the two, twice, since nobody said beforehand which it would be. Equal values share their ranks.
fn mann_whitney(a: &[f64], b: &[f64]) -> f64 {
    let ranks = doubled_ranks(a, b);
    let total: usize = ranks.iter().sum();
    // ways[n][sum]: in how many ways n of the ranks so far make that sum. As f64, exact to 2^53 ways.
    let mut ways = vec![vec![0.0; total + 1]; a.len() + 1];
    ways[0][0] = 1.0;
    for &rank in &ranks {
        for n in (1..=a.len()).rev() {
            for sum in (rank..=total).rev() {
                ways[n][sum] += ways[n - 1][sum - rank];
            }
        }
    }
    let seen: usize = ranks[..a.len()].iter().sum();
    let all = &ways[a.len()];
    let low: f64 = all[..=seen].iter().sum();
    let high: f64 = all[seen..].iter().sum();
    (2.0 * low.min(high) / all.iter().sum::<f64>()).min(1.0)
}

/// Twice the rank of each value among all, those of `a` first: equal values have the mean of their ranks, and half a rank
/// becomes a whole number.
fn doubled_ranks(a: &[f64], b: &[f64]) -> Vec<usize> {
    let all = || a.iter().chain(b);
    all()
        .map(|value| {
            let below = all().filter(|other| *other < value).count();
            let equal = all().filter(|other| *other == value).count();
            2 * below + equal + 1
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-9
    }

    #[test]
    fn known_cases() {
        // All below: 2 of C(10, 5) ways.
        let (low, high) = ([1.0, 2.0, 3.0, 4.0, 5.0], [6.0, 7.0, 8.0, 9.0, 10.0]);
        assert!(close(mann_whitney(&low, &high), 2.0 / 252.0));
        // Scipy 1.13, mannwhitneyu(method="exact"): its documentation's example.
        let (male, female) = ([19.0, 22.0, 16.0, 29.0, 24.0], [20.0, 11.0, 17.0, 12.0]);
        assert!(close(mann_whitney(&male, &female), 0.111_111_111_111));
        // Nothing but ties.
        assert!(close(mann_whitney(&[3.0; 4], &[3.0; 4]), 1.0));
    }

    #[test]
    fn few_runs_say_nothing() {
        assert!(close(smallest_p(4, 4), 2.0 / 70.0));
        assert!(close(smallest_p(3, 3), 0.1));
        assert!(close(smallest_p(1, 1), 1.0));
        assert_eq!(judge(&[1.0], &[100.0]), (Verdict::Unknown, None));
        assert_eq!(
            judge(&[1.0, 2.0, 3.0], &[7.0, 8.0, 9.0]),
            (Verdict::Unknown, None)
        );
        assert_eq!(
            judge(&[1.0, 2.0, 3.0, 4.0], &[7.0, 8.0, 9.0, 10.0]).0,
            Verdict::Different
        );
        assert_eq!(
            judge(&[1.0, 3.0, 5.0, 7.0], &[2.0, 4.0, 6.0, 8.0]).0,
            Verdict::WithinNoise
        );
    }

    /// As the definition says: every way to draw as many runs as `a` has from all.
    fn by_counting(a: &[f64], b: &[f64]) -> f64 {
        let ranks = doubled_ranks(a, b);
        let seen: usize = ranks[..a.len()].iter().sum();
        let (mut low, mut high, mut ways) = (0, 0, 0);
        for drawn in 0u32..1 << ranks.len() {
            if drawn.count_ones() as usize == a.len() {
                let sum: usize = (0..ranks.len())
                    .filter(|n| drawn >> n & 1 == 1)
                    .map(|n| ranks[n])
                    .sum();
                ways += 1;
                low += u32::from(sum <= seen);
                high += u32::from(sum >= seen);
            }
        }
        (2.0 * f64::from(low.min(high)) / f64::from(ways)).min(1.0)
    }

    proptest! {
        #[test]
        fn it_is_what_counting_says(
            a in prop::collection::vec(0u8..8, 1..6),
            b in prop::collection::vec(0u8..8, 1..6),
        ) {
            let (a, b): (Vec<f64>, Vec<f64>) =
                (a.into_iter().map(f64::from).collect(), b.into_iter().map(f64::from).collect());
            prop_assert!(close(mann_whitney(&a, &b), by_counting(&a, &b)));
            prop_assert!(close(mann_whitney(&a, &b), mann_whitney(&b, &a)));
            prop_assert!(mann_whitney(&a, &b) >= smallest_p(a.len(), b.len()) - 1e-9);
        }
    }
}
