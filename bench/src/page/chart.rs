//! One chart as SVG, drawn by plotters. No text of a result goes into it: series are told apart by colour, and named in
//! the page's legend.

use anyhow::anyhow;
use plotters::coord::ranged1d::{AsRangedCoord, Ranged, ValueFormatter};
use plotters::prelude::*;

/// Pixels, of which the page makes what fits.
const SIZE: (u32, u32) = (720, 340);
const LABEL: (&str, u32) = ("sans-serif", 16);
/// Points of a line; of more, the highest of each stretch are drawn.
const POINTS_MAX: usize = 500;
/// Up to here a line's points are marked.
const MARKED_MAX: usize = 60;
/// Okabe and Ito's colours, which colour-blind readers tell apart.
const COLOURS: [(u8, u8, u8); 7] = [
    (0, 114, 178),
    (213, 94, 0),
    (0, 158, 115),
    (204, 121, 167),
    (230, 159, 0),
    (86, 180, 233),
    (60, 60, 60),
];

/// How an axis is divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// From 0.
    Linear,
    /// Powers of ten.
    Log,
    /// 1 / (1 - share), in powers of ten: 0, 90, 99, 99.9 %.
    Percentile,
}

/// An axis.
#[derive(Clone, Copy, Debug)]
pub struct Axis {
    /// What it shows, with the unit.
    pub title: &'static str,
    /// How it is divided.
    pub scale: Scale,
}

/// A line, or points.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// For the legend.
    pub name: String,
    /// In the order of x.
    pub points: Vec<(f64, f64)>,
}

/// A chart.
#[derive(Clone, Debug)]
pub struct Chart {
    /// What it shows.
    pub title: &'static str,
    /// What it says, and what not.
    pub note: &'static str,
    /// To the right.
    pub x: Axis,
    /// Up.
    pub y: Axis,
    /// At least one.
    pub series: Vec<Series>,
}

/// The colour of the series with this number, as CSS.
pub fn colour(number: usize) -> String {
    let (r, g, b) = COLOURS[number % COLOURS.len()];
    format!("#{r:02x}{g:02x}{b:02x}")
}

impl Chart {
    /// Without what cannot be drawn; `None` if nothing is left.
    pub fn drawable(mut self) -> Option<Self> {
        let fits = |scale: Scale, value: f64| {
            value.is_finite() && (scale == Scale::Linear || value > 0.0) && value.abs() < 1e18
        };
        for series in &mut self.series {
            series
                .points
                .retain(|&(x, y)| fits(self.x.scale, x) && fits(self.y.scale, y));
            series.points = thinned(&series.points);
        }
        self.series.retain(|series| !series.points.is_empty());
        (!self.series.is_empty()).then_some(self)
    }

    /// As SVG.
    ///
    /// # Errors
    /// plotters fails (never, writing to memory).
    pub fn svg(&self) -> anyhow::Result<String> {
        let all = || self.series.iter().flat_map(|series| &series.points);
        let x = range(self.x.scale, all().map(|&(x, _)| x));
        let y = range(self.y.scale, all().map(|&(_, y)| y));
        let linear = |range: &std::ops::Range<f64>| range.clone();
        let log = |range: &std::ops::Range<f64>| range.clone().log_scale();
        match (self.x.scale, self.y.scale) {
            (Scale::Linear, Scale::Linear) => self.draw(linear(&x), linear(&y)),
            (Scale::Linear, _) => self.draw(linear(&x), log(&y)),
            (_, Scale::Linear) => self.draw(log(&x), linear(&y)),
            _ => self.draw(log(&x), log(&y)),
        }
    }

    fn draw<X, Y>(&self, x: X, y: Y) -> anyhow::Result<String>
    where
        X: AsRangedCoord<Value = f64>,
        X::CoordDescType: ValueFormatter<f64> + Ranged<ValueType = f64>,
        Y: AsRangedCoord<Value = f64>,
        Y::CoordDescType: ValueFormatter<f64> + Ranged<ValueType = f64>,
    {
        let mut svg = String::new();
        {
            let failed = |error: &dyn std::fmt::Display| anyhow!("drawing a chart: {error}");
            let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
            let mut chart = ChartBuilder::on(&area)
                .margin(12)
                .x_label_area_size(42)
                .y_label_area_size(64)
                .build_cartesian_2d(x, y)
                .map_err(|error| failed(&error))?;
            chart
                .configure_mesh()
                .x_desc(self.x.title)
                .y_desc(self.y.title)
                .x_label_formatter(&|&x| label(self.x.scale, x))
                .y_label_formatter(&|&y| label(self.y.scale, y))
                .label_style(LABEL)
                .axis_desc_style(LABEL)
                .x_labels(8)
                .y_labels(6)
                .light_line_style(TRANSPARENT)
                .bold_line_style(BLACK.mix(0.12))
                .draw()
                .map_err(|error| failed(&error))?;
            for (number, series) in self.series.iter().enumerate() {
                let (r, g, b) = COLOURS[number % COLOURS.len()];
                let colour = RGBColor(r, g, b);
                let line = LineSeries::new(series.points.iter().copied(), colour.stroke_width(2));
                chart.draw_series(line).map_err(|error| failed(&error))?;
                if series.points.len() <= MARKED_MAX {
                    let marks = series
                        .points
                        .iter()
                        .map(|&point| Circle::new(point, 3, colour.filled()));
                    chart.draw_series(marks).map_err(|error| failed(&error))?;
                }
            }
            area.present().map_err(|error| failed(&error))?;
        }
        Ok(svg)
    }
}

/// What an axis spans: never nothing, for a single point has a place too.
fn range(scale: Scale, values: impl Iterator<Item = f64> + Clone) -> std::ops::Range<f64> {
    let low = values.clone().fold(f64::INFINITY, f64::min);
    let high = values.fold(f64::NEG_INFINITY, f64::max);
    match scale {
        Scale::Linear => {
            let low = low.min(0.0);
            let room = if high > low { (high - low) * 0.05 } else { 1.0 };
            low..high.max(0.0) + room
        }
        Scale::Percentile => 1.0..high.max(10.0) * 1.2,
        Scale::Log => low / 1.5..high * 1.5,
    }
}

fn label(scale: Scale, value: f64) -> String {
    if scale == Scale::Percentile {
        let digits = (value.log10().round().max(0.0) as usize).saturating_sub(2);
        return format!("{:.digits$} %", (1.0 - 1.0 / value) * 100.0);
    }
    let (divided, suffix) = match value.abs() {
        size if size >= 1e9 => (value / 1e9, " G"),
        size if size >= 1e6 => (value / 1e6, " M"),
        size if size >= 1e4 => (value / 1e3, " k"),
        _ => (value, ""),
    };
    // Four digits are more than neighbouring labels of an axis need to differ.
    let rounded = (divided * 1e4).round() / 1e4;
    format!("{rounded}{suffix}")
}

/// The highest of each stretch: a spike is what a reader looks for.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    if points.len() <= POINTS_MAX {
        return points.to_vec();
    }
    points
        .chunks(points.len().div_ceil(POINTS_MAX))
        .filter_map(|stretch| stretch.iter().copied().max_by(|a, b| a.1.total_cmp(&b.1)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(x: Scale, y: Scale, points: Vec<(f64, f64)>) -> Chart {
        Chart {
            title: "t",
            note: "",
            x: Axis {
                title: "x",
                scale: x,
            },
            y: Axis {
                title: "y",
                scale: y,
            },
            series: vec![Series {
                name: "s".to_owned(),
                points,
            }],
        }
    }

    #[test]
    fn every_pair_of_scales_draws_one_point_and_many() {
        for x in [Scale::Linear, Scale::Log, Scale::Percentile] {
            for y in [Scale::Linear, Scale::Log] {
                for points in [vec![(1.0, 1.0)], vec![(1.0, 0.5), (1_000.0, 2e9)]] {
                    let svg = chart(x, y, points.clone())
                        .drawable()
                        .unwrap()
                        .svg()
                        .unwrap();
                    assert_eq!(svg.matches("<circle").count(), points.len(), "{x:?} {y:?}");
                    assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
                }
            }
        }
    }

    #[test]
    fn what_has_no_place_is_left_out() {
        let odd = vec![
            (0.0, 1.0),
            (f64::NAN, 1.0),
            (1.0, f64::INFINITY),
            (1.0, -1.0),
            (2.0, 3.0),
        ];
        let kept = chart(Scale::Log, Scale::Log, odd).drawable().unwrap();
        assert_eq!(kept.series[0].points, [(2.0, 3.0)]);
        assert!(
            chart(Scale::Log, Scale::Log, vec![(0.0, 0.0)])
                .drawable()
                .is_none()
        );
        assert!(
            chart(Scale::Linear, Scale::Linear, vec![(0.0, 0.0)])
                .drawable()
                .is_some()
        );
    }

    #[test]
    fn a_spike_survives_thinning() {
        let mut points: Vec<_> = (0..10_000).map(|x| (f64::from(x), 1.0)).collect();
        points[7_777].1 = 50.0;
        let thin = thinned(&points);
        assert!(thin.len() <= POINTS_MAX);
        assert!(thin.contains(&(7_777.0, 50.0)));
        assert!(thin.is_sorted_by(|a, b| a.0 < b.0));
    }

    #[test]
    fn labels_are_short() {
        let percentile = |value| label(Scale::Percentile, value);
        assert_eq!(
            [
                percentile(1.0),
                percentile(10.0),
                percentile(100.0),
                percentile(1e4)
            ],
            ["0 %", "90 %", "99 %", "99.99 %"]
        );
        assert_eq!(label(Scale::Linear, 0.30000000000000004), "0.3");
        assert_eq!(label(Scale::Log, 2e6), "2 M");
    }
}
