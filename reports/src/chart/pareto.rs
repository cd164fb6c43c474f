//! What settings cost: the worst time to recover against the JWKS volume, with the front that no setting beats.

use std::collections::BTreeSet;

use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

use super::axis::Axis;
use super::ink::Ink;
use super::{Area, Chart, Error, LEFT, RIGHT, WIDTH, canvas, font, panel, px, strip, text_px, write, x_px};
use crate::format;
use crate::record::{Sweep, SweepCell};
use crate::sweep;

/// Where the plot begins and ends from the top, and the height of the whole, in user units.
const TOP: i32 = 34;
const BOTTOM: i32 = 380;
const HEIGHT: i32 = 428;

/// Room for the labels of the axis below.
const X_LABELS: i32 = 24;

/// More points of the front than this are not named in the picture.
const NAMES_MAX: usize = 10;

/// Points closer than this are one, in pixels of plotters.
const APART: i32 = 12;

/// Where a cell lies.
struct Point {
    volume: f64,
    /// `None` when it did not recover.
    time: Option<f64>,
}

/// Draws the chart; `None` unless there is something to compare.
pub(super) fn draw(sweep: &Sweep) -> Result<Option<Chart>, Error> {
    let points: Vec<Point> = sweep.cells.iter().filter_map(point).collect();
    if points.len() < 2 {
        return Ok(None);
    }
    let greatest = |value: fn(&Point) -> f64| points.iter().map(value).fold(0.0, f64::max);
    let least = points.iter().map(|point| point.volume).fold(f64::INFINITY, f64::min);
    let volumes = Axis::log_number(least, greatest(|point| point.volume));
    let times = Axis::log_time(greatest(|point| point.time.unwrap_or(0.0)));
    let title = "Worst time to recover against JWKS volume, and the front that no setting beats";
    let description = format!(
        "A dot for each of {}; the {} of the front are joined by a line. The table that follows holds the front.",
        format::counted(points.len() as u64, "cell"),
        format::count(sweep.front.len() as u64),
    );
    let svg = canvas(HEIGHT, ("pareto", title, &description), |area| {
        draw_frame(area, &volumes, &times)?;
        draw_points(area, &points, &volumes, &times)?;
        draw_front(area, sweep, &volumes, &times)
    })?;
    Ok(Some(Chart { name: "pareto".into(), title: title.into(), svg, table: sweep::front(sweep) }))
}

fn point(cell: &SweepCell) -> Option<Point> {
    let recovery = cell.metrics.time_to_recover_s?;
    let volume = cell.metrics.jwks_requests_per_replica_hour.or(cell.metrics.jwks_requests)?.mean;
    Some(Point { volume, time: (recovery.open == 0).then_some(recovery.worst) })
}

fn draw_frame(area: &Area<'_>, volumes: &Axis, times: &Axis) -> Result<(), Error> {
    let plot = strip(area, TOP, BOTTOM + X_LABELS);
    panel(&plot, volumes, times, X_LABELS)?;
    let above = "recovered after, at worst (arrows: not at all)";
    write(area, above, (px(LEFT), px(TOP / 2)), font(Ink::Muted, 12), HPos::Left)?;
    let below = "JWKS requests per replica and hour, on average";
    write(area, below, (px(WIDTH - RIGHT), px(BOTTOM + X_LABELS + 12)), font(Ink::Muted, 12), HPos::Right)
}

fn place(point: &Point, volumes: &Axis, times: &Axis) -> (i32, i32) {
    let height = |time: f64| (times.fraction(log(time)) * f64::from(px(BOTTOM - TOP))).round() as i32;
    let y = point.time.map_or(px(TOP), |time| px(BOTTOM) - height(time));
    (x_px(volumes, log(point.volume)), y)
}

/// Where logarithmic axes have a number.
fn log(number: f64) -> f64 {
    number.ln_1p() / std::f64::consts::LN_10
}

/// A dot for what recovered, an arrow at the top for what did not.
fn draw_points(area: &Area<'_>, points: &[Point], volumes: &Axis, times: &Axis) -> Result<(), Error> {
    let apart = |point: &Point| {
        let (x, y) = place(point, volumes, times);
        (x / APART, y / APART, point.time.is_some())
    };
    let places: BTreeSet<(i32, i32, bool)> = points.iter().map(apart).collect();
    for (x, y, recovered) in places {
        draw_mark(area, (x * APART, y * APART), (recovered, Ink::All, 4))?;
    }
    Ok(())
}

fn draw_mark(
    area: &Area<'_>,
    (x, y): (i32, i32),
    (recovered, ink, size): (bool, Ink, i32),
) -> Result<(), Error> {
    if recovered {
        return area.draw(&Circle::new((x, y), px(size), ink.rgb().filled()));
    }
    let arrow = [(x - px(size + 1), y + px(2 * size)), (x, y), (x + px(size + 1), y + px(2 * size))];
    area.draw(&Polygon::new(arrow, ink.rgb().filled()))
}

/// The line from each cell of the front to the next, and their names; a ring around the recommended one.
fn draw_front(area: &Area<'_>, sweep: &Sweep, volumes: &Axis, times: &Axis) -> Result<(), Error> {
    let cells = sweep.front.iter().filter_map(|index| {
        let cell = sweep.cells.get(*index as usize)?;
        let point = point(cell)?;
        let is_recommended = sweep.recommended.as_ref().is_some_and(|it| it.cell == *index);
        Some((cell, place(&point, volumes, times), point.time.is_some(), is_recommended))
    });
    let cells: Vec<_> = cells.collect();
    let line = cells.iter().map(|(_, place, ..)| *place);
    area.draw(&PathElement::new(line.collect::<Vec<_>>(), Ink::Denied.rgb().stroke_width(px(2) as u32)))?;
    let mut taken: Vec<(i32, i32)> = Vec::new();
    for (index, (cell, (x, y), recovered, is_recommended)) in cells.iter().enumerate() {
        draw_mark(area, (*x, *y), (*recovered, Ink::Denied, 6))?;
        if *is_recommended {
            area.draw(&Circle::new((*x, *y), px(11), Ink::Text.rgb().stroke_width(px(2) as u32)))?;
        }
        if index >= NAMES_MAX && !is_recommended {
            continue;
        }
        let name = sweep::values(sweep, cell);
        let name = if *is_recommended { format!("{name}: recommended") } else { name };
        draw_name(area, &format::shortened(&name, 60), (*x, *y), &mut taken)?;
    }
    Ok(())
}

/// A name beside its point, moved away from the others.
fn draw_name(
    area: &Area<'_>,
    name: &str,
    (x, y): (i32, i32),
    taken: &mut Vec<(i32, i32)>,
) -> Result<(), Error> {
    let width = text_px(name, 13);
    let right = x + px(16) + width < px(WIDTH - 4);
    let from = if right { x + px(16) } else { x - px(16) - width };
    // Above its point, where the line does not go.
    let mut middle = (y - px(13)).max(px(TOP + 8));
    let clear = |middle: i32| {
        taken
            .iter()
            .all(|(other_x, other_y)| (other_x - from).abs() > width || (other_y - middle).abs() >= px(16))
    };
    while !clear(middle) && middle > px(TOP + 8) {
        middle -= px(4);
    }
    while !clear(middle) && middle < px(BOTTOM - 8) {
        middle += px(4);
    }
    taken.push((from, middle));
    let corners = [(from, middle - px(8)), (from + width, middle + px(8))];
    area.draw(&Rectangle::new(corners, Ink::Paper.rgb().filled()))?;
    let (anchor, at) = if right { (HPos::Left, x + px(16)) } else { (HPos::Right, x - px(16)) };
    write(area, name, (at, middle), font(Ink::Text, 13), anchor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{judge, sample};

    #[test]
    fn the_front_is_marked_and_named() {
        let mut record = sample::sweep();
        judge(&mut record);
        let sweep = record.sweep.unwrap();
        let chart = draw(&sweep).unwrap().expect("cells to compare");
        assert_eq!(chart.table.rows.len(), sweep.front.len());
        assert!(chart.svg.contains(": recommended") && chart.svg.contains("<polygon"), "{}", chart.svg);
        let first = &sweep.cells[sweep.front[0] as usize];
        assert!(chart.svg.contains(&sweep::values(&sweep, first)));
    }

    #[test]
    fn a_single_cell_is_nothing_to_compare() {
        let mut sweep = sample::sweep().sweep.unwrap();
        sweep.cells.truncate(1);
        assert!(draw(&sweep).unwrap().is_none());
    }
}
