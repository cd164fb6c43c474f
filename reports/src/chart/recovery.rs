//! How long each instance took to recover, in the episode in which the slowest took longest.

use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

use super::axis::Axis;
use super::ink::Ink;
use super::{Area, Chart, Error, canvas, font, panel, px, strip, write, x_px};
use crate::format;
use crate::record::{Cell, Instance, Recovery, RecoveryState};
use crate::table::{Column, Table};

/// With more instances than this, they are counted by their time to recover.
const INSTANCES_MAX: usize = 60;

/// How many groups they are counted in.
const GROUPS: f64 = 16.0;

/// The height of a row, in user units.
const ROW: i32 = 18;

/// Room for the labels of the axis below.
const X_LABELS: i32 = 24;

/// Draws the chart; `None` when no instance is known to have taken any time.
pub(super) fn draw(cell: &Cell, id: &str) -> Result<Option<Chart>, Error> {
    let Some(episode) = slowest(cell) else { return Ok(None) };
    let mut seen: Vec<(&Instance, Recovery)> =
        cell.instances.iter().map(|instance| (instance, instance.time_to_recover[episode])).collect();
    seen.sort_by(|(_, a), (_, b)| slowness(b).total_cmp(&slowness(a)));
    let picture = if seen.len() > INSTANCES_MAX { counted(&seen) } else { one_by_one(&seen) };
    let title = match cell.episodes.len() {
        1 => "Recovery per instance".into(),
        _ => format!("Recovery per instance, in episode {} (where the slowest took longest)", episode + 1),
    };
    let description = describe(&seen);
    let height = 8 + ROW * picture.rows.len() as i32 + X_LABELS;
    let id = format!("{id}-recovery");
    let svg = canvas(height, (&id, &title, &description), |area| picture.draw(area, height))?;
    Ok(Some(Chart { name: "recovery".into(), title, svg, table: picture.table }))
}

/// The episode with the slowest instance; one that did not recover is slower than any that did.
fn slowest(cell: &Cell) -> Option<usize> {
    let slowest_in = |episode: &usize| {
        cell.instances
            .iter()
            .map(|instance| slowness(&instance.time_to_recover[*episode]))
            .fold(-1.0, f64::max)
    };
    let episodes = (0..cell.episodes.len()).rev();
    episodes
        .max_by(|a, b| slowest_in(a).total_cmp(&slowest_in(b)))
        .filter(|episode| slowest_in(episode) > 0.0)
}

fn slowness(recovery: &Recovery) -> f64 {
    match recovery.state {
        RecoveryState::Recovered => recovery.seconds.unwrap_or(0.0),
        RecoveryState::NotRecovered => f64::INFINITY,
        RecoveryState::Inconclusive => -1.0,
    }
}

/// Rows of marks, and the same as a table.
struct Picture {
    axis: Axis,
    rows: Vec<(String, Mark)>,
    table: Table,
}

enum Mark {
    /// A line with a dot at its end, and what the dot says.
    Dot(f64, String),
    /// A line to the edge: it did not end.
    Endless,
    /// A bar, and what it says.
    Bar(f64, String),
    /// Nothing to draw, but something to say.
    Remark(&'static str),
}

impl Picture {
    fn draw(&self, area: &Area<'_>, height: i32) -> Result<(), Error> {
        let plot = strip(area, 4, height - 4);
        let rows = Axis { from: 0.0, to: 1.0, ticks: Vec::new(), label: |_| String::new() };
        panel(&plot, &self.axis, &rows, X_LABELS)?;
        for (index, (label, mark)) in self.rows.iter().enumerate() {
            let y = px(4 + ROW * index as i32 + ROW / 2);
            write(
                area,
                label,
                (x_px(&self.axis, self.axis.from) - px(8), y),
                font(Ink::Text, 12),
                HPos::Right,
            )?;
            self.draw_mark(area, mark, y)?;
        }
        Ok(())
    }

    fn draw_mark(&self, area: &Area<'_>, mark: &Mark, y: i32) -> Result<(), Error> {
        let start = x_px(&self.axis, self.axis.from);
        let at = |value: f64| x_px(&self.axis, value);
        match mark {
            Mark::Dot(value, text) => {
                let x = at(*value);
                area.draw(&PathElement::new(
                    [(start, y), (x, y)],
                    Ink::Denied.rgb().mix(0.45).stroke_width(px(2) as u32),
                ))?;
                area.draw(&Circle::new((x, y), px(4), Ink::Denied.rgb().filled()))?;
                write(area, text, (x + px(9), y), font(Ink::Text, 12), HPos::Left)
            }
            Mark::Endless => {
                let end = at(self.axis.to);
                area.draw(&PathElement::new(
                    [(start, y), (end, y)],
                    Ink::Denied.rgb().stroke_width(px(4) as u32),
                ))?;
                let arrow = [(end, y - px(6)), (end + px(10), y), (end, y + px(6))];
                area.draw(&Polygon::new(arrow, Ink::Denied.rgb().filled()))?;
                write(area, "not recovered", (end - px(8), y - px(7)), font(Ink::Text, 11), HPos::Right)
            }
            Mark::Bar(value, text) => {
                let x = at(*value);
                area.draw(&Rectangle::new(
                    [(start, y - px(6)), (x, y + px(6))],
                    Ink::Denied.rgb().mix(0.6).filled(),
                ))?;
                write(area, text, (x + px(9), y), font(Ink::Text, 12), HPos::Left)
            }
            Mark::Remark(text) => write(area, text, (start + px(8), y), font(Ink::Muted, 12), HPos::Left),
        }
    }
}

fn one_by_one(seen: &[(&Instance, Recovery)]) -> Picture {
    let workers = seen.iter().any(|(instance, _)| instance.worker > 0);
    let columns = vec![
        Column::Left("instance"),
        Column::Right("recovered after"),
        Column::Right("last denial"),
        Column::Right("first pass after it"),
    ];
    let mut table = Table::new("Recovery per instance", columns);
    let mut rows = Vec::new();
    for (instance, recovery) in seen {
        let name = match workers {
            true => format!("replica {}/{}", instance.replica, instance.worker),
            false => format!("replica {}", instance.replica),
        };
        let moment = |moment: Option<f64>| moment.map_or_else(|| "–".into(), format::seconds);
        table.row([
            name.clone(),
            in_words(recovery),
            moment(recovery.last_denial_s),
            moment(recovery.first_pass_after_s),
        ]);
        rows.push((
            name,
            match recovery.state {
                RecoveryState::Recovered => Mark::Dot(slowness(recovery), in_words(recovery)),
                RecoveryState::NotRecovered => Mark::Endless,
                RecoveryState::Inconclusive => Mark::Remark("too few requests to say"),
            },
        ));
    }
    // Beyond the slowest there is room for its label.
    Picture { axis: Axis::time(0.0, longest(seen) * 1.12), rows, table }
}

fn counted(seen: &[(&Instance, Recovery)]) -> Picture {
    let number = |state| seen.iter().filter(|(_, recovery)| recovery.state == state).count();
    // The ticks of an axis of time are good places to divide it at.
    let ticks = Axis::time(0.0, longest(seen) * 10.0 / GROUPS).ticks;
    let step = ticks.get(1).copied().unwrap_or(1.0);
    let mut groups: Vec<(String, u64)> = Vec::new();
    let mut from = 0.0;
    while from <= longest(seen) && groups.len() <= 2 * GROUPS as usize {
        let within = |(_, recovery): &&(&Instance, Recovery)| {
            recovery.state == RecoveryState::Recovered && (from..from + step).contains(&slowness(recovery))
        };
        groups.push((format!("from {}", format::seconds(from)), seen.iter().filter(within).count() as u64));
        from += step;
    }
    for (state, name) in
        [(RecoveryState::NotRecovered, "not recovered"), (RecoveryState::Inconclusive, "too little data")]
    {
        if number(state) > 0 {
            groups.push((name.into(), number(state) as u64));
        }
    }
    let mut table = Table::new(
        "Instances by their time to recover",
        vec![Column::Left("recovered"), Column::Right("instances")],
    );
    let most = groups.iter().map(|&(_, count)| count).max().unwrap_or(0);
    let rows = groups
        .into_iter()
        .map(|(name, count)| {
            table.row([name.clone(), format::count(count)]);
            (name, Mark::Bar(count as f64, format::counted(count, "instance")))
        })
        .collect();
    Picture { axis: Axis::number(most as f64 * 1.12), rows, table }
}

/// The longest recovery that ended, in seconds.
fn longest(seen: &[(&Instance, Recovery)]) -> f64 {
    seen.iter()
        .map(|(_, recovery)| slowness(recovery))
        .filter(|seconds| seconds.is_finite())
        .fold(0.0, f64::max)
}

fn in_words(recovery: &Recovery) -> String {
    match (recovery.state, recovery.seconds) {
        (RecoveryState::Recovered, seconds) => format::seconds(seconds.unwrap_or(0.0)),
        (RecoveryState::NotRecovered, Some(seconds)) => format!("not within {}", format::seconds(seconds)),
        (RecoveryState::NotRecovered, None) => "not recovered".into(),
        (RecoveryState::Inconclusive, _) => "too few requests to say".into(),
    }
}

fn describe(seen: &[(&Instance, Recovery)]) -> String {
    let recovered = seen.iter().filter(|(_, recovery)| recovery.state == RecoveryState::Recovered).count();
    format!(
        "The time to recover of {}: {} recovered, the slowest of them after {}. The table that follows holds the same numbers.",
        format::counted(seen.len() as u64, "instance"),
        format::count(recovered as u64),
        format::seconds(longest(seen)),
    )
}
