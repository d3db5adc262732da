//! The comparison: every figure that both sides have, with ratio and verdict.

use serde::Serialize;

use super::noise::{self, Verdict};
use super::sides::Sides;
use crate::figures::{self, Better};
use crate::results::ResultFile;

/// A figure of both sides.
#[derive(Debug, Serialize)]
pub struct Row {
    /// JSON pointer into the results.
    pub pointer: String,
    /// For people.
    pub name: String,
    /// Of the values.
    pub unit: String,
    /// Of each run of the first side.
    pub a: Vec<f64>,
    /// Of each run of the other.
    pub b: Vec<f64>,
    /// Median of the other to that of the first; none if that is 0.
    pub ratio: Option<f64>,
    /// Whether the other's median is the better one; none if they are equal.
    pub better: Option<bool>,
    /// What the difference is worth.
    pub verdict: Verdict,
    /// How often chance alone makes such a difference, if there are enough runs to say so.
    pub p: Option<f64>,
}

/// The result of `compare`.
#[derive(Debug, Serialize)]
pub struct Comparison {
    command: &'static str,
    a: Vec<String>,
    b: Vec<String>,
    remarks: Vec<String>,
    rows: Vec<Row>,
}

impl Comparison {
    /// Of two sides.
    pub fn new(sides: &Sides) -> Self {
        let names = |side: &[ResultFile]| side.iter().map(|result| result.name.clone()).collect();
        Self {
            command: "compare",
            a: names(&sides.a),
            b: names(&sides.b),
            remarks: sides.remarks.clone(),
            rows: rows(sides),
        }
    }

    /// For people.
    pub fn print(&self) {
        println!("A: {}\nB: {}", self.a.join(", "), self.b.join(", "));
        for remark in &self.remarks {
            println!("  ! {remark}");
        }
        if self.rows.is_empty() {
            println!("\nthey have no figure in common");
            return;
        }
        let widths = |of: fn(&Row) -> usize, least: usize| {
            self.rows.iter().map(of).max().unwrap_or(0).max(least)
        };
        let name = widths(|row| row.name.chars().count(), 6);
        let a = widths(|row| cell(&row.a).chars().count(), 1);
        let b = widths(|row| cell(&row.b).chars().count(), 1);
        println!(
            "\n  {:<name$}  {:>a$}  {:>b$}  {:>6}",
            "figure", "A", "B", "B / A"
        );
        for row in &self.rows {
            let ratio = row
                .ratio
                .map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.3}"));
            println!(
                "  {:<name$}  {:>a$}  {:>b$}  {ratio:>6}  {:<11}  {}",
                row.name,
                cell(&row.a),
                cell(&row.b),
                row.unit,
                row.says()
            );
        }
        println!("\n{}", self.footer());
    }

    fn footer(&self) -> String {
        let (a, b) = (self.a.len(), self.b.len());
        let smallest = noise::smallest_p(a, b);
        if a == 1 && b == 1 {
            "One run each: how much runs differ by themselves is unknown, so no difference here is known to be one. \
             Repeat each at least four times, in turns, and name all results with --a and --b."
                .to_owned()
        } else if smallest > noise::P_MAX {
            format!(
                "Medians, and all from the least to the most. With {a} and {b} runs, even figures that do not overlap at \
                 all come by chance {:.0} times of 100: too few to tell a difference from noise. Repeat each at least \
                 four times, in turns.",
                smallest * 100.0
            )
        } else {
            let tested = self.rows.iter().filter(|row| row.p.is_some()).count();
            format!(
                "Medians, and all from the least to the most. \"better\" and \"worse\": chance alone makes such a \
                 difference in at most {:.0} of 100 comparisons (p, Mann-Whitney U, exact, two-sided). Of {tested} \
                 figures, {:.1} would be called so by chance if nothing differed.",
                noise::P_MAX * 100.0,
                tested as f64 * noise::P_MAX
            )
        }
    }
}

impl Row {
    fn says(&self) -> String {
        let way = match self.better {
            Some(true) => "better",
            Some(false) => "worse",
            None => "same",
        };
        match (self.verdict, self.p) {
            (Verdict::Different, Some(p)) => format!("{way}, p {p:.3}"),
            (Verdict::WithinNoise, Some(p)) => format!("within noise, p {p:.2}"),
            _ => String::new(),
        }
    }
}

/// "median [least, most]", or the one value.
fn cell(runs: &[f64]) -> String {
    let shown = figures::shown;
    if runs.len() == 1 {
        return shown(runs[0]);
    }
    let least = runs.iter().copied().fold(f64::INFINITY, f64::min);
    let most = runs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    format!(
        "{} [{}, {}]",
        shown(median(runs)),
        shown(least),
        shown(most)
    )
}

/// Figures that every run of both sides has.
fn rows(sides: &Sides) -> Vec<Row> {
    let Some(first) = sides.a.first() else {
        return Vec::new();
    };
    let values = |side: &[ResultFile], pointer: &str| -> Option<Vec<f64>> {
        side.iter().map(|result| result.number(pointer)).collect()
    };
    figures::of(first)
        .into_iter()
        .filter_map(|figure| {
            let a = values(&sides.a, &figure.pointer)?;
            let b = values(&sides.b, &figure.pointer)?;
            let (of_a, of_b) = (median(&a), median(&b));
            let (verdict, p) = noise::judge(&a, &b);
            Some(Row {
                ratio: (of_a != 0.0).then(|| of_b / of_a),
                better: (of_a != of_b).then_some((of_b < of_a) == (figure.better == Better::Lower)),
                pointer: figure.pointer,
                name: figure.name,
                unit: figure.unit,
                a,
                b,
                verdict,
                p,
            })
        })
        .collect()
}

/// 0 of none.
fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => 0.0,
        len if len % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn side(runs: &[(f64, f64)]) -> Vec<ResultFile> {
        let result = |&(p50, delivered): &(f64, f64)| {
            let value = json!({"command": "fanout", "inbound": 1, "delivered": delivered, "latency_us": {"p50": p50}});
            ResultFile::new("r".to_owned(), value).unwrap()
        };
        runs.iter().map(result).collect()
    }

    fn compared(a: &[(f64, f64)], b: &[(f64, f64)]) -> Comparison {
        Comparison::new(&Sides::new(side(a), side(b), false).unwrap())
    }

    #[test]
    fn the_direction_of_a_figure_decides_what_is_better() {
        let found = compared(&[(100.0, 10.0)], &[(200.0, 20.0)]);
        let [latency, delivered] = &found.rows[..] else {
            panic!("{found:?}")
        };
        assert_eq!((latency.ratio, latency.better), (Some(2.0), Some(false)));
        assert_eq!((delivered.ratio, delivered.better), (Some(2.0), Some(true)));
        assert_eq!(latency.verdict, Verdict::Unknown);
        assert!(found.footer().contains("unknown"));
    }

    #[test]
    fn repeated_runs_tell_a_difference_from_noise() {
        let a = [(100.0, 5.0), (101.0, 6.0), (102.0, 5.0), (99.0, 6.0)];
        let b = [(90.0, 5.0), (91.0, 6.0), (89.0, 6.0), (92.0, 5.0)];
        let found = compared(&a, &b);
        assert_eq!(found.rows[0].verdict, Verdict::Different);
        assert!(found.rows[0].says().starts_with("better"));
        assert_eq!(found.rows[1].verdict, Verdict::WithinNoise);
        assert!(found.footer().contains("Mann-Whitney"));
        assert!(compared(&a[..2], &b[..3]).footer().contains("too few"));
    }

    #[test]
    fn a_figure_that_one_run_lacks_is_left_out() {
        let (mut a, b) = (side(&[(1.0, 2.0), (3.0, 4.0)]), side(&[(1.0, 0.0)]));
        a[1].value["latency_us"] = json!({});
        let found = Comparison::new(&Sides::new(a, b, false).unwrap());
        assert_eq!(found.rows.len(), 1);
        assert_eq!(found.rows[0].ratio, Some(0.0));
        // Nothing to divide by.
        let zero = compared(&[(0.0, 0.0)], &[(1.0, 0.0)]);
        assert_eq!((zero.rows[0].ratio, zero.rows[1].better), (None, None));
    }
}
