//! The live view: rates, matches, latency, CPU and memory while a replay runs.

use std::collections::VecDeque;
use std::time::Duration;

use ratatui::DefaultTerminal;
use ratatui::Frame;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, BorderType, Gauge, Paragraph, Row, Sparkline, Table};

use crate::audience::Watch;
use crate::job::Progress;
use crate::report::grouped;
use crate::view::{Moment, SPAN_MIN_SECONDS, View};

const INTERVAL: Duration = Duration::from_secs(1);
/// Rates that are kept for the curves: one a second, as wide as any terminal.
const HISTORY_MAX: usize = 400;
const INBOUND: Color = Color::Cyan;
const DELIVERED: Color = Color::Green;

/// A full-screen view. Dropping it restores the terminal.
pub struct Live {
    terminal: DefaultTerminal,
    state: State,
}

#[derive(Default)]
struct State {
    moment: Moment,
    inbound_per_second: VecDeque<u64>,
    delivered_per_second: VecDeque<u64>,
    matches_per_second: u64,
    connecting: Option<(usize, usize)>,
    quitting: bool,
}

impl Live {
    /// Takes the terminal over.
    ///
    /// # Errors
    /// It is none.
    pub fn new() -> anyhow::Result<Self> {
        Ok(Self {
            terminal: ratatui::try_init()?,
            state: State::default(),
        })
    }

    fn draw(&mut self) -> anyhow::Result<()> {
        let state = &self.state;
        self.terminal.draw(|frame| state.draw(frame))?;
        Ok(())
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

impl View for Live {
    fn connecting(&mut self, ready: usize, of: usize) -> anyhow::Result<()> {
        self.state.connecting = Some((ready, of));
        self.draw()
    }

    fn moment(&mut self, moment: &Moment) -> anyhow::Result<()> {
        self.state.take(moment);
        self.draw()
    }

    fn interval(&self) -> Duration {
        INTERVAL
    }

    fn wants_to_quit(&mut self) -> anyhow::Result<bool> {
        while event::poll(Duration::ZERO)? {
            match event::read()? {
                Event::Key(key) if key.kind == KeyEventKind::Press => {
                    let control = key.modifiers.contains(KeyModifiers::CONTROL);
                    let quits = matches!(key.code, KeyCode::Char('q') | KeyCode::Esc)
                        || control && key.code == KeyCode::Char('c');
                    self.state.quitting |= quits;
                }
                Event::Resize(..) => self.draw()?,
                _ => {}
            }
        }
        Ok(self.state.quitting)
    }
}

impl State {
    fn take(&mut self, moment: &Moment) {
        self.connecting = None;
        let (now, before) = (&moment.progress, &self.moment.progress);
        let span = now.elapsed.saturating_sub(before.elapsed).as_secs_f64();
        if span >= SPAN_MIN_SECONDS {
            let rate = |count: fn(&Progress) -> u64| {
                ((count(now) - count(before)) as f64 / span).round() as u64
            };
            self.matches_per_second = rate(|progress| progress.matches);
            push(
                &mut self.inbound_per_second,
                rate(|progress| progress.inbound),
            );
            push(
                &mut self.delivered_per_second,
                rate(|progress| progress.counts.delivered),
            );
            self.moment = moment.clone();
        }
    }

    fn draw(&self, frame: &mut Frame<'_>) {
        let area = frame.area();
        let outer = Block::bordered()
            .border_type(BorderType::Rounded)
            .border_style(Style::new().dark_gray())
            .title(" Longhaul ".bold())
            .title_bottom(Line::from(" q quits ").right_aligned());
        let inner = outer.inner(area);
        frame.render_widget(outer, area);
        if let Some((ready, of)) = self.connecting {
            draw_connecting(frame, inner, ready, of);
            return;
        }
        let rows = self.moment.progress.dashboards.len() as u16 + 3;
        let [heading, tiles, curves, dashboards, checks] = Layout::vertical([
            Constraint::Length(2),
            Constraint::Length(4),
            Constraint::Min(5),
            Constraint::Length(rows),
            Constraint::Length(3),
        ])
        .areas(inner);
        self.draw_heading(frame, heading);
        self.draw_tiles(frame, tiles);
        let [left, right] = Layout::horizontal([Constraint::Fill(1); 2]).areas(curves);
        draw_curve(
            frame,
            left,
            "inbound per second",
            &self.inbound_per_second,
            INBOUND,
        );
        draw_curve(
            frame,
            right,
            "delivered per second",
            &self.delivered_per_second,
            DELIVERED,
        );
        self.draw_dashboards(frame, dashboards);
        self.draw_checks(frame, checks);
    }

    fn draw_heading(&self, frame: &mut Frame<'_>, area: Rect) {
        let seconds = self.moment.progress.elapsed.as_secs();
        let mut line = vec![
            Span::raw(format!(
                " {} vehicles",
                grouped(u64::from(self.moment.vehicles))
            ))
            .bold(),
            Span::raw("  →  gateway  →  ").dark_gray(),
            Span::raw(format!(
                "{} dashboards",
                grouped(self.moment.dashboards as u64)
            ))
            .bold(),
            Span::raw(format!("     {:02}:{:02}", seconds / 60, seconds % 60)),
        ];
        if self.quitting {
            line.push(Span::raw("     ending…").yellow());
        }
        frame.render_widget(Paragraph::new(Line::from(line)), area);
    }

    fn draw_tiles(&self, frame: &mut Frame<'_>, area: Rect) {
        let Moment {
            progress,
            gateway_cores,
            gateway_rss_bytes,
            ..
        } = &self.moment;
        let newest = |rates: &VecDeque<u64>| grouped(rates.back().copied().unwrap_or(0));
        let ms = |us: u64| format!("{:.2}", us as f64 / 1_000.0);
        let unknown = || "unknown".to_owned();
        let tiles = [
            ("inbound /s", newest(&self.inbound_per_second), INBOUND),
            (
                "matches /s",
                grouped(self.matches_per_second),
                Color::Yellow,
            ),
            (
                "delivered /s",
                newest(&self.delivered_per_second),
                DELIVERED,
            ),
            (
                "latency ms p50 p99 p99.9",
                [
                    progress.latency.p50,
                    progress.latency.p99,
                    progress.latency.p999,
                ]
                .map(ms)
                .join(" "),
                Color::White,
            ),
            (
                "CPU",
                gateway_cores.map_or_else(unknown, |cores| format!("{:.1} %", cores * 100.0)),
                Color::Magenta,
            ),
            (
                "memory",
                gateway_rss_bytes.map_or_else(unknown, |bytes| {
                    format!("{:.1} MiB", bytes as f64 / 1_048_576.0)
                }),
                Color::Magenta,
            ),
        ];
        let widths = [2, 2, 2, 4, 2, 2].map(Constraint::Fill);
        let areas: [Rect; 6] = Layout::horizontal(widths).areas(area);
        for ((title, value, color), area) in tiles.into_iter().zip(areas) {
            let block = Block::bordered()
                .border_type(BorderType::Rounded)
                .border_style(Style::new().dark_gray())
                .title(title.dark_gray());
            let text =
                Paragraph::new(Span::styled(value, Style::new().fg(color).bold())).centered();
            frame.render_widget(text.block(block), area);
        }
    }

    fn draw_dashboards(&self, frame: &mut Frame<'_>, area: Rect) {
        let right = |text: String| Line::from(text).right_aligned();
        let header = Row::new([
            Line::from("dashboard"),
            right("watches".to_owned()),
            right("matches".to_owned()),
            right("delivered".to_owned()),
            right("on the way".to_owned()),
        ])
        .style(Style::new().dark_gray());
        let rows = self.moment.progress.dashboards.iter().map(|dashboard| {
            let watches = match dashboard.watch {
                Watch::All => "the whole fleet".to_owned(),
                Watch::Count(count) => format!("{} vehicles", grouped(u64::from(count))),
            };
            let open = dashboard.matches.saturating_sub(dashboard.delivered);
            Row::new([
                Line::from(format!("{}", dashboard.dashboard + 1)),
                right(watches),
                right(grouped(dashboard.matches)),
                right(grouped(dashboard.delivered)).fg(DELIVERED),
                right(grouped(open)),
            ])
        });
        let widths = [10, 18, 16, 16, 14].map(Constraint::Length);
        let table = Table::new(rows, widths)
            .header(header)
            .block(panel("dashboards"));
        frame.render_widget(table, area);
    }

    fn draw_checks(&self, frame: &mut Frame<'_>, area: Rect) {
        let counts = &self.moment.progress.counts;
        let mut line = Vec::new();
        for (name, count) in [
            ("wrong", counts.wrong),
            ("duplicates", counts.duplicates),
            ("out of order", counts.out_of_order),
            ("corrupted", counts.corrupted + counts.unnamed),
        ] {
            let style = if count == 0 {
                Style::new().green()
            } else {
                Style::new().red().bold()
            };
            let mark = if count == 0 { "✓" } else { "✗" };
            line.push(Span::styled(
                format!(" {mark} {name} {}  ", grouped(count)),
                style,
            ));
        }
        line.push(Span::raw(format!(" conflated {}  ", grouped(counts.conflated))).dark_gray());
        line.push(Span::raw(format!(" delivered {}", grouped(counts.delivered))).dark_gray());
        let text = Paragraph::new(Line::from(line)).block(panel("every delivery is checked"));
        frame.render_widget(text, area);
    }
}

fn push(history: &mut VecDeque<u64>, value: u64) {
    if history.len() == HISTORY_MAX {
        history.pop_front();
    }
    history.push_back(value);
}

fn panel(title: &str) -> Block<'_> {
    Block::bordered()
        .border_type(BorderType::Rounded)
        .border_style(Style::new().dark_gray())
        .title(Span::from(title).dark_gray())
}

fn draw_connecting(frame: &mut Frame<'_>, area: Rect, ready: usize, of: usize) {
    let [_, bar, _] = Layout::vertical([
        Constraint::Fill(1),
        Constraint::Length(3),
        Constraint::Fill(1),
    ])
    .areas(area);
    let ratio = if of == 0 {
        1.0
    } else {
        (ready as f64 / of as f64).clamp(0.0, 1.0)
    };
    let gauge = Gauge::default()
        .block(panel("connecting"))
        .gauge_style(INBOUND)
        .ratio(ratio)
        .label(format!(
            "{} of {}",
            grouped(ready as u64),
            grouped(of as u64)
        ));
    frame.render_widget(gauge, bar);
}

fn draw_curve(frame: &mut Frame<'_>, area: Rect, title: &str, rates: &VecDeque<u64>, color: Color) {
    let width = usize::from(area.width.saturating_sub(2));
    let shown: Vec<u64> = rates
        .iter()
        .skip(rates.len().saturating_sub(width))
        .copied()
        .collect();
    let top = shown.iter().max().copied().unwrap_or(0);
    let block =
        panel(title).title_top(Line::from(format!(" max {} ", grouped(top))).right_aligned());
    frame.render_widget(
        Sparkline::default().data(shown).style(color).block(block),
        area,
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::Counts;
    use crate::job::{DashboardProgress, Percentiles};
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    fn screen(state: &State) -> String {
        let mut terminal = Terminal::new(TestBackend::new(110, 30)).unwrap();
        terminal.draw(|frame| state.draw(frame)).unwrap();
        let buffer = terminal.backend().buffer();
        buffer
            .content
            .chunks(110)
            .map(|row| row.iter().map(|cell| cell.symbol()).collect::<String>() + "\n")
            .collect()
    }

    fn moment(seconds: u64, inbound: u64) -> Moment {
        let dashboard = DashboardProgress {
            dashboard: 2,
            watch: Watch::All,
            matches: inbound,
            delivered: inbound - 3,
        };
        let progress = Progress {
            elapsed: Duration::from_secs(seconds),
            inbound,
            matches: inbound * 2,
            counts: Counts {
                delivered: inbound * 2 - 3,
                ..Counts::default()
            },
            latency: Percentiles {
                p50: 410,
                p99: 1_250,
                p999: 2_000,
                max: 3_000,
            },
            dashboards: vec![dashboard],
            ..Progress::default()
        };
        Moment {
            progress,
            vehicles: 1_867,
            dashboards: 3,
            gateway_cores: Some(0.042),
            gateway_rss_bytes: Some(20 << 20),
        }
    }

    #[test]
    fn the_view_shows_what_happens() {
        let mut state = State {
            connecting: Some((5, 10)),
            ..State::default()
        };
        assert!(screen(&state).contains("5 of 10"));
        state.take(&moment(10, 1_000));
        state.take(&moment(12, 1_500));
        let screen = screen(&state);
        for text in [
            "1,867 vehicles",
            "00:12",
            "250",
            "500",
            "0.41 1.25 2.00",
            "4.2 %",
            "20.0 MiB",
            "the whole fleet",
            "1,497",
            "✓ wrong 0",
            "max 250",
        ] {
            assert!(screen.contains(text), "{text} is missing:\n{screen}");
        }
    }

    #[test]
    fn no_terminal_is_too_small() {
        let mut state = State::default();
        state.take(&moment(10, 1_000));
        for (width, height) in [(1, 1), (20, 5), (80, 12)] {
            let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
            terminal.draw(|frame| state.draw(frame)).unwrap();
        }
    }
}
