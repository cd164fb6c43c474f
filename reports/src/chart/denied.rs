//! The headline: who was denied when, and what it cost the IdP, on one time axis.

use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

use super::axis::Axis;
use super::columns::{groups, line, pooled, roof};
use super::ink::Ink;
use super::markers::{self, Placement};
use super::timeline::{Band, BandKind, bands, markers as markers_of, merged};
use super::{Area, Chart, Error, LEFT, RIGHT, WIDTH, canvas, font, panel, px, strip, text_px, write, x_px};
use crate::format;
use crate::record::{Cell, Windows};
use crate::table::{Column, Table};

/// Rows of the table that says the same.
const ROWS_MAX: usize = 60;

/// Entries of the key to numbered markers.
const KEY_MAX: usize = 24;

/// Draws the chart; `None` without windows.
pub(super) fn draw(cell: &Cell, id: &str) -> Result<Option<Chart>, Error> {
    let windows = &cell.windows;
    if windows.len() == 0 {
        return Ok(None);
    }
    let title = "Denied requests over time, and JWKS requests";
    let end = windows.start_s(windows.len());
    let pooled = pooled(windows);
    let description = describe(&pooled, end);
    let scene = Scene::new(cell, &pooled, end);
    let id = format!("{id}-denied");
    let svg = canvas(scene.layout.height, (&id, title, &description), |area| scene.draw(area, &pooled))?;
    Ok(Some(Chart { name: "denied".into(), title: title.into(), svg, table: table(windows) }))
}

/// The share of denials in a window, of the cohort.
fn cohort(windows: &Windows, index: usize) -> Option<f64> {
    let denied = windows.cohort_false_rejects[index].saturating_add(windows.cohort_failures[index]);
    share(denied, windows.cohort_must_pass[index])
}

/// The same of all traffic.
fn all(windows: &Windows, index: usize) -> Option<f64> {
    share(windows.false_rejects[index].saturating_add(windows.failures[index]), windows.must_pass[index])
}

/// Orphaned tokens are in no denominator of denials: their share is of all requests.
fn orphaned(windows: &Windows, index: usize) -> Option<f64> {
    share(windows.orphaned_rejects[index], windows.requests[index])
}

/// Tokens that must be refused are in no denominator of denials either.
fn false_accepts(windows: &Windows, index: usize) -> Option<f64> {
    share(windows.false_accepts[index], windows.requests[index])
}

fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

/// What is to be seen, before any of it is drawn.
struct Scene {
    time: Axis,
    share: Axis,
    jwks: Axis,
    bands: Vec<Band>,
    kinds: Vec<BandKind>,
    markers: Placement,
    legend: Vec<(Sample, &'static str)>,
    layout: Layout,
    /// Whether no share rises above zero.
    calm: bool,
}

/// Where the parts of the chart begin, from the top, in user units.
struct Layout {
    markers: i32,
    lanes: i32,
    share: i32,
    share_end: i32,
    jwks: i32,
    jwks_end: i32,
    key: i32,
    height: i32,
}

/// How a series looks in the legend.
#[derive(Clone, Copy)]
enum Sample {
    Line(Ink),
    Fill(Ink, f64),
}

/// Height of a row of labels or a lane of bands, in user units.
const ROW: i32 = 17;

impl Scene {
    /// The last of the windows may reach beyond the end.
    fn new(cell: &Cell, windows: &Windows, end: f64) -> Self {
        let start = windows.start_s(0);
        let time = Axis::time(start, end);
        let greatest = |value: fn(&Windows, usize) -> Option<f64>| {
            (0..windows.len()).filter_map(|index| value(windows, index)).fold(0.0, f64::max)
        };
        let highest = [cohort, all, orphaned, false_accepts].map(greatest).into_iter().fold(0.0, f64::max);
        let calm = highest == 0.0;
        let mut share = Axis::share(highest);
        if calm {
            // Above the ground the scale is of no use.
            share.ticks = vec![0.0];
        }
        let jwks = Axis::number(greatest(|windows, index| Some(windows.jwks_requests[index] as f64)));
        let bands: Vec<Band> = merged(bands(&cell.events, end))
            .into_iter()
            .filter(|band| band.to > start && band.from < end)
            .collect();
        let kinds: Vec<BandKind> =
            BandKind::ALL.into_iter().filter(|kind| bands.iter().any(|band| band.kind == *kind)).collect();
        let apart = (end - start) / 400.0;
        let on_axis = markers_of(cell, apart).into_iter().filter(|marker| (start..=end).contains(&marker.at));
        let markers =
            markers::place(&on_axis.map(|marker| (x_px(&time, marker.at), marker)).collect::<Vec<_>>());
        let plot = if calm { PLOT_CALM } else { PLOT };
        let layout = Layout::new(markers.rows, kinds.len(), plot, markers.key.len());
        let legend = legend(windows);
        Self { time, share, jwks, bands, kinds, markers, legend, layout, calm }
    }

    fn draw(&self, area: &Area<'_>, windows: &Windows) -> Result<(), Error> {
        self.draw_legend(area)?;
        self.draw_warmup(area)?;
        self.draw_bands(area)?;
        self.draw_shares(area, windows)?;
        self.draw_jwks(area, windows)?;
        self.draw_markers(area)?;
        self.draw_calm(area)?;
        self.draw_captions(area, windows.width_s)?;
        self.draw_key(area)
    }

    fn draw_legend(&self, area: &Area<'_>) -> Result<(), Error> {
        let (mut x, y) = (px(LEFT), px(11));
        for (sample, text) in &self.legend {
            match sample {
                Sample::Line(ink) => {
                    let stroke = ink.rgb().stroke_width(px(2) as u32);
                    area.draw(&PathElement::new([(x, y), (x + px(24), y)], stroke))?;
                }
                Sample::Fill(ink, strength) => {
                    let corners = [(x + px(4), y - px(5)), (x + px(24), y + px(5))];
                    area.draw(&Rectangle::new(corners, ink.rgb().mix(*strength).filled()))?;
                }
            }
            write(area, text, (x + px(30), y), font(Ink::Text, 12), HPos::Left)?;
            x += px(50) + text_px(text, 12);
        }
        Ok(())
    }

    fn draw_warmup(&self, area: &Area<'_>) -> Result<(), Error> {
        let (from, to) = (x_px(&self.time, self.time.from), x_px(&self.time, 0.0));
        if self.time.from >= 0.0 {
            return Ok(());
        }
        let corners = [(from, px(self.layout.share)), (to, px(self.layout.jwks_end))];
        area.draw(&Rectangle::new(corners, Ink::Warmup.rgb().mix(0.16).filled()))?;
        if to - from > text_px("warm-up", 12) + px(8) {
            let middle = (from + px(6), px(self.layout.share_end - 12));
            write(area, "warm-up", middle, font(Ink::Muted, 12), HPos::Left)?;
        }
        Ok(())
    }

    fn draw_bands(&self, area: &Area<'_>) -> Result<(), Error> {
        for (lane, kind) in self.kinds.iter().enumerate() {
            let top = self.layout.lanes + ROW * lane as i32;
            write(area, kind.name(), (px(LEFT - 8), px(top + ROW / 2)), font(Ink::Muted, 12), HPos::Right)?;
            for band in self.bands.iter().filter(|band| band.kind == *kind) {
                let from = x_px(&self.time, band.from);
                let to = x_px(&self.time, band.to).max(from + px(2));
                let (lane, plot) = ([(from, px(top + 3)), (to, px(top + ROW - 3))], px(self.layout.share));
                area.draw(&Rectangle::new(lane, kind.ink().rgb().mix(0.75).filled()))?;
                let shade = [(from, plot), (to, px(self.layout.jwks_end))];
                area.draw(&Rectangle::new(shade, kind.ink().rgb().mix(0.1).filled()))?;
            }
        }
        Ok(())
    }

    fn draw_shares(&self, area: &Area<'_>, windows: &Windows) -> Result<(), Error> {
        let plot = strip(area, self.layout.share, self.layout.share_end);
        let mut plot = panel(&plot, &self.time, &self.share, 0)?;
        let rejects = |index| share(windows.cohort_false_rejects[index], windows.cohort_must_pass[index]);
        let (rejects, denials) = (roof(windows, rejects), roof(windows, |index| cohort(windows, index)));
        // Looked for once: a column can have a million values.
        let has_rejects = any(&windows.cohort_false_rejects);
        let has_failures = any(&windows.cohort_failures);
        let has_orphans = any(&windows.orphaned_rejects);
        let has_false_accepts = any(&windows.false_accepts);
        for (rejects, denials) in rejects.into_iter().zip(denials) {
            let between = denials.into_iter().chain(rejects.iter().rev().copied()).collect::<Vec<_>>();
            if has_failures {
                plot.draw_series([Polygon::new(between, Ink::Failures.rgb().mix(0.5))])?;
            }
            if has_rejects {
                plot.draw_series(AreaSeries::new(rejects, 0.0, Ink::Denied.rgb().mix(0.18)))?;
            }
        }
        let orphaned = |index| orphaned(windows, index).filter(|_| has_orphans);
        let false_accepts = |index| false_accepts(windows, index).filter(|_| has_false_accepts);
        // Often all traffic fares as the cohort does: its thin dashes lie on the cohort's broad line, and both are seen.
        for (pieces, ink, width) in [
            (line(windows, orphaned), Ink::Orphaned, px(2)),
            (line(windows, false_accepts), Ink::FalseAccepts, px(2)),
            (line(windows, |index| cohort(windows, index)), Ink::Denied, px(3)),
            (line(windows, |index| all(windows, index)), Ink::All, px(2)),
        ] {
            for piece in pieces {
                plot.draw_series(LineSeries::new(piece, ink.rgb().stroke_width(width as u32)))?;
            }
        }
        Ok(())
    }

    /// Says that nobody was denied.
    fn draw_calm(&self, area: &Area<'_>) -> Result<(), Error> {
        if !self.calm {
            return Ok(());
        }
        let text = "not one request was denied";
        let middle = px(LEFT + (WIDTH - LEFT - RIGHT) / 2);
        let place = (middle - text_px(text, 14) / 2, px(self.layout.share + PLOT_CALM / 2));
        write_on_plate(area, text, place, 14)
    }

    fn draw_captions(&self, area: &Area<'_>, width_s: f64) -> Result<(), Error> {
        let text = match width_s {
            1.0 => "JWKS requests per second".into(),
            width => format!("JWKS requests per {}", format::seconds(width)),
        };
        let y = px(self.layout.jwks - 14);
        write_on_plate(area, &text, (px(LEFT + 2), y), 12)?;
        if width_s == 1.0 {
            return Ok(());
        }
        let text = format!("shares over {} each", format::seconds(width_s));
        write_on_plate(area, &text, (px(WIDTH - RIGHT) - text_px(&text, 12), y), 12)
    }

    fn draw_jwks(&self, area: &Area<'_>, windows: &Windows) -> Result<(), Error> {
        let plot = strip(area, self.layout.jwks, self.layout.jwks_end + X_LABELS);
        let mut plot = panel(&plot, &self.time, &self.jwks, X_LABELS)?;
        for piece in roof(windows, |index| Some(windows.jwks_requests[index] as f64)) {
            plot.draw_series(AreaSeries::new(piece.clone(), 0.0, Ink::Jwks.rgb().mix(0.3)))?;
            plot.draw_series(LineSeries::new(piece, Ink::Jwks.rgb().stroke_width(px(1) as u32)))?;
        }
        Ok(())
    }

    fn draw_markers(&self, area: &Area<'_>) -> Result<(), Error> {
        for label in &self.markers.labels {
            let top = px(self.layout.markers + ROW * label.row as i32);
            let stroke = Ink::Event.rgb().stroke_width(px(1) as u32);
            area.draw(&PathElement::new([(label.x, top), (label.x, px(self.layout.jwks_end))], stroke))?;
            let aside = if matches!(label.anchor, HPos::Right) { -px(4) } else { px(4) };
            let place = (label.x + aside, top + px(ROW / 2 - 1));
            let anchor = if matches!(label.anchor, HPos::Right) { HPos::Right } else { HPos::Left };
            write(area, &label.text, place, font(Ink::Text, markers::SIZE), anchor)?;
        }
        Ok(())
    }

    /// In two columns below the axis, and one line for those that are left out.
    fn draw_key(&self, area: &Area<'_>) -> Result<(), Error> {
        let shown = self.markers.key.len().min(KEY_MAX);
        let rows = shown.div_ceil(2);
        let place = |column: i32, row: usize| {
            (px(LEFT + (WIDTH - LEFT) / 2 * column), px(self.layout.key + ROW * row as i32 + ROW / 2))
        };
        for (index, text) in self.markers.key.iter().take(shown).enumerate() {
            let place = place((index / rows) as i32, index % rows);
            write(area, &format::shortened(text, 60), place, font(Ink::Text, 12), HPos::Left)?;
        }
        let left_out = self.markers.key.len() - shown;
        if left_out > 0 {
            let text = format!("and {} more in the record", format::count(left_out as u64));
            write(area, &text, place(0, rows), font(Ink::Muted, 12), HPos::Left)?;
        }
        Ok(())
    }
}

/// Writes text that lines and bands would run across: on paper of its own. The place is the middle of its left edge.
fn write_on_plate(area: &Area<'_>, text: &str, (x, y): (i32, i32), size: i32) -> Result<(), Error> {
    let half = px(size) * 3 / 4;
    let plate = [(x - px(3), y - half), (x + text_px(text, size), y + half)];
    area.draw(&Rectangle::new(plate, Ink::Paper.rgb().filled()))?;
    write(area, text, (x, y), font(Ink::Muted, size), HPos::Left)
}

/// Room for the labels of the time axis.
const X_LABELS: i32 = 24;

/// The height of the shares, in user units, and what is enough when not one of them is above zero.
const PLOT: i32 = 220;
const PLOT_CALM: i32 = 88;

impl Layout {
    fn new(marker_rows: usize, lanes: usize, plot: i32, key: usize) -> Self {
        let markers = 24;
        let lanes_start = markers + ROW * marker_rows as i32;
        let share = lanes_start + ROW * lanes as i32 + 8;
        let share_end = share + plot;
        let jwks = share_end + 32;
        let jwks_end = jwks + 76;
        let key_start = jwks_end + X_LABELS + 6;
        let key_rows = key.min(KEY_MAX).div_ceil(2) + usize::from(key > KEY_MAX);
        let key_end = key_start + ROW * key_rows as i32;
        let height = if key == 0 { jwks_end + X_LABELS + 2 } else { key_end + 2 };
        Self { markers, lanes: lanes_start, share, share_end, jwks, jwks_end, key: key_start, height }
    }
}

fn any(column: &[u64]) -> bool {
    column.iter().any(|&count| count > 0)
}

/// What has been drawn, and nothing else.
fn legend(windows: &Windows) -> Vec<(Sample, &'static str)> {
    let mut legend =
        vec![(Sample::Line(Ink::Denied), "denied, cohort"), (Sample::Line(Ink::All), "denied, all traffic")];
    if any(&windows.cohort_false_rejects) {
        legend.push((Sample::Fill(Ink::Denied, 0.18), "by 401 or 403"));
    }
    if any(&windows.cohort_failures) {
        legend.push((Sample::Fill(Ink::Failures, 0.5), "by 5xx, reset, time-out"));
    }
    if any(&windows.orphaned_rejects) {
        legend.push((Sample::Line(Ink::Orphaned), "orphaned, refused"));
    }
    if any(&windows.false_accepts) {
        legend.push((Sample::Line(Ink::FalseAccepts), "accepted, must be refused"));
    }
    legend
}

fn describe(windows: &Windows, end: f64) -> String {
    let span = format::seconds(end - windows.start_s(0));
    let peak = (0..windows.len()).filter_map(|index| cohort(windows, index)).fold(0.0, f64::max);
    format!(
        "Over {span}: the share of denied requests per window of {}, at most {} of the cohort, and below it the requests at \
         the JWKS endpoint, {} in all. The table that follows holds the same numbers.",
        format::seconds(windows.width_s),
        format::share(peak),
        format::count(sum(&windows.jwks_requests)),
    )
}

fn table(windows: &Windows) -> Table {
    let columns = vec![
        Column::Right("from"),
        Column::Right("requests"),
        Column::Right("cohort denied"),
        Column::Right("of cohort"),
        Column::Right("all denied"),
        Column::Right("of all"),
        Column::Right("orphaned refused"),
        Column::Right("falsely accepted"),
        Column::Right("JWKS requests"),
    ];
    let mut table = Table::new("Denied requests and JWKS requests over time", columns);
    for group in groups(windows, ROWS_MAX) {
        let of = |column: &[u64]| sum(&column[group.clone()]);
        let cohort_denied = of(&windows.cohort_false_rejects).saturating_add(of(&windows.cohort_failures));
        let all_denied = of(&windows.false_rejects).saturating_add(of(&windows.failures));
        let share = |part, whole| share(part, whole).map_or_else(|| "–".into(), format::share);
        table.row([
            format::seconds(windows.start_s(group.start)),
            format::count(of(&windows.requests)),
            format::count(cohort_denied),
            share(cohort_denied, of(&windows.cohort_must_pass)),
            format::count(all_denied),
            share(all_denied, of(&windows.must_pass)),
            format::count(of(&windows.orphaned_rejects)),
            format::count(of(&windows.false_accepts)),
            format::count(of(&windows.jwks_requests)),
        ]);
    }
    table
}

fn sum(column: &[u64]) -> u64 {
    column.iter().fold(0, |sum, &count| sum.saturating_add(count))
}
