//! Latency from the planned moment, over time.

use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

use super::axis::Axis;
use super::columns::{groups, line};
use super::ink::Ink;
use super::{Area, Chart, Error, LEFT, canvas, font, panel, px, strip, text_px, write, x_px};
use crate::format;
use crate::record::{Cell, Windows};
use crate::table::{Column, Table};

/// Rows of the table that says the same.
const ROWS_MAX: usize = 40;

/// The height of the chart, in user units.
const HEIGHT: i32 = 240;

/// The top of the plot: above it stands the legend.
const TOP: i32 = 26;

/// Room for the labels of the time axis.
const X_LABELS: i32 = 24;

/// Draws the chart; `None` when nothing was answered.
pub(super) fn draw(cell: &Cell, id: &str) -> Result<Option<Chart>, Error> {
    let windows = &cell.windows;
    let known = windows.latency_p50_ms.iter().chain(&windows.latency_p99_ms).flatten().copied();
    let (min, max) = known
        .filter(|&ms| ms > 0.0)
        .fold((f64::INFINITY, 0.0), |(min, max): (f64, f64), ms| (ms.min(min), ms.max(max)));
    if max == 0.0 {
        return Ok(None);
    }
    let title = "Latency over time";
    let description = format!(
        "The median and the 99th percentile of the latency in each window, on a logarithmic scale: from {} to {}. \
         The table that follows holds the same numbers.",
        format::milliseconds(min),
        format::milliseconds(max),
    );
    let scale = Axis::log_milliseconds(min, max);
    let svg =
        canvas(HEIGHT, (&format!("{id}-latency"), title, &description), |area| draw_on(area, cell, &scale))?;
    Ok(Some(Chart { name: "latency".into(), title: title.into(), svg, table: table(windows) }))
}

fn draw_on(area: &Area<'_>, cell: &Cell, scale: &Axis) -> Result<(), Error> {
    let windows = &cell.windows;
    let time = Axis::time(windows.start_s(0), windows.start_s(windows.len()));
    let mut x = px(LEFT);
    for (ink, name) in [(Ink::Median, "median"), (Ink::Tail, "99th percentile")] {
        let stroke = ink.rgb().stroke_width(px(2) as u32);
        area.draw(&PathElement::new([(x, px(11)), (x + px(24), px(11))], stroke))?;
        write(area, name, (x + px(30), px(11)), font(Ink::Text, 12), HPos::Left)?;
        x += px(50) + text_px(name, 12);
    }
    for episode in cell.episodes.iter().filter(|episode| (time.from..=time.to).contains(&episode.from_s)) {
        let (x, stroke) = (x_px(&time, episode.from_s), Ink::Event.rgb().stroke_width(px(1) as u32));
        area.draw(&PathElement::new([(x, px(TOP)), (x, px(HEIGHT - X_LABELS))], stroke))?;
    }
    let plot = strip(area, TOP, HEIGHT);
    let mut plot = panel(&plot, &time, scale, X_LABELS)?;
    for (ink, column) in [(Ink::Tail, &windows.latency_p99_ms), (Ink::Median, &windows.latency_p50_ms)] {
        let decade = |index: usize| column[index].map(|ms| ms.max(1e-3).log10().max(scale.from));
        for piece in line(windows, decade) {
            plot.draw_series(LineSeries::new(piece, ink.rgb().stroke_width(px(2) as u32)))?;
        }
    }
    Ok(())
}

fn table(windows: &Windows) -> Table {
    let columns = vec![
        Column::Right("from"),
        Column::Right("requests"),
        Column::Right("worst median"),
        Column::Right("worst p99"),
        Column::Right("worst p99 lateness"),
    ];
    let mut table = Table::new("Latency over time", columns);
    for group in groups(windows, ROWS_MAX) {
        let worst = |column: &[Option<f64>]| {
            column[group.clone()]
                .iter()
                .flatten()
                .copied()
                .reduce(f64::max)
                .map_or_else(|| "–".into(), format::milliseconds)
        };
        let requests =
            windows.requests[group.clone()].iter().fold(0, |sum: u64, &count| sum.saturating_add(count));
        let lateness = windows.lateness_p99_ms[group.clone()].iter().copied().fold(0.0, f64::max);
        table.row([
            format::seconds(windows.start_s(group.start)),
            format::count(requests),
            worst(&windows.latency_p50_ms),
            worst(&windows.latency_p99_ms),
            format::milliseconds(lateness),
        ]);
    }
    table
}
