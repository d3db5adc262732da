//! Who watches what. A pure function of the seed, so that every process of a run, generator and report alike,
//! knows every filter without being told.

use std::collections::HashSet;
use std::ops::Range;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What one dashboard watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Watch {
    /// The whole fleet.
    All,
    /// This many vehicles, drawn at random. 0: connected, but subscribed to nothing.
    Count(u32),
}

impl FromStr for Watch {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.eq_ignore_ascii_case("all") {
            return Ok(Self::All);
        }
        text.parse()
            .map(Self::Count)
            .map_err(|_| format!("\"{text}\" is neither \"all\" nor a number of vehicles"))
    }
}

impl std::fmt::Display for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Count(count) => write!(f, "{count}"),
        }
    }
}

/// A dashboard's filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Filter {
    /// The whole fleet.
    All,
    /// These vehicles, ascending.
    Some(Vec<u32>),
}

/// Every dashboard of a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Audience {
    /// How many vehicles there are to choose from.
    pub vehicles: u32,
    /// What each dashboard watches, in order.
    pub watches: Vec<Watch>,
    /// Seed of the draw.
    pub seed: u64,
}

impl Audience {
    /// `dashboards` of `watch` each, then `watch_all` that see everything.
    pub fn new(vehicles: u32, dashboards: u32, watch: Watch, watch_all: u32, seed: u64) -> Self {
        let watches = std::iter::repeat_n(watch, dashboards as usize)
            .chain(std::iter::repeat_n(Watch::All, watch_all as usize))
            .collect();
        Self {
            vehicles,
            watches,
            seed,
        }
    }

    /// How many dashboards there are.
    pub fn dashboards(&self) -> usize {
        self.watches.len()
    }

    /// The filter of dashboard number `dashboard`.
    pub fn filter(&self, dashboard: usize) -> Filter {
        match self.watches[dashboard] {
            Watch::All => Filter::All,
            Watch::Count(count) => {
                let mixed = self.seed ^ (dashboard as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                Filter::Some(draw(count.min(self.vehicles), self.vehicles, mixed))
            }
        }
    }

    /// For each vehicle, how many of these dashboards watch it.
    pub fn watchers(&self, dashboards: Range<usize>) -> Vec<u32> {
        let mut watchers = vec![0; self.vehicles as usize];
        let mut everywhere = 0;
        for dashboard in dashboards {
            match self.filter(dashboard) {
                Filter::All => everywhere += 1,
                Filter::Some(vehicles) => {
                    for vehicle in vehicles {
                        watchers[vehicle as usize] += 1;
                    }
                }
            }
        }
        for count in &mut watchers {
            *count += everywhere;
        }
        watchers
    }
}

/// `count` distinct numbers below `below`, ascending (Floyd's sampling).
fn draw(count: u32, below: u32, seed: u64) -> Vec<u32> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut chosen = HashSet::with_capacity(count as usize);
    for last in below - count..below {
        let candidate = rng.u32(0..=last);
        if !chosen.insert(candidate) {
            chosen.insert(last);
        }
    }
    let mut vehicles: Vec<u32> = chosen.into_iter().collect();
    vehicles.sort_unstable();
    vehicles
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_distinct_vehicles_and_the_same_in_every_process() {
        let audience = Audience::new(1_000, 3, Watch::Count(50), 1, 7);
        let Filter::Some(first) = audience.filter(0) else {
            panic!()
        };
        assert_eq!(first.len(), 50);
        assert!(first.is_sorted_by(|a, b| a < b) && first.iter().all(|&v| v < 1_000));
        assert_eq!(audience.clone().filter(0), Filter::Some(first));
        assert_ne!(audience.filter(0), audience.filter(1));
        assert_eq!(audience.filter(3), Filter::All);
    }

    #[test]
    fn watchers_add_up() {
        let audience = Audience::new(100, 10, Watch::Count(200), 2, 7);
        assert_eq!(audience.watchers(0..12), vec![12; 100]);
        assert_eq!(audience.watchers(10..12), vec![2; 100]);
        let audience = Audience::new(100, 4, Watch::Count(25), 1, 7);
        assert_eq!(audience.watchers(0..5).iter().sum::<u32>(), 4 * 25 + 100);
    }

    #[test]
    fn watch_parses() {
        assert_eq!("all".parse(), Ok(Watch::All));
        assert_eq!("50".parse(), Ok(Watch::Count(50)));
        assert!("some".parse::<Watch>().unwrap_err().contains("some"));
    }
}
