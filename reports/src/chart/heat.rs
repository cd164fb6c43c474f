//! Heat maps of a sweep: one metric over two axes, with its value in every cell.

use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

use super::ink::Ink;
use super::{Area, Chart, Error, RIGHT, WIDTH, canvas, font, px, text_px, write};
use crate::format;
use crate::record::{Sample, Sweep, SweepAxis, SweepCell, Unit};
use crate::sweep::{field, mean, quantity, worst};
use crate::table::{Column, Entry, Table};

/// More columns or rows than this are left to the table.
const COLUMNS_MAX: usize = 16;
const ROWS_MAX: usize = 30;
/// More combinations of further axes than this are left to the table.
const SLICES_MAX: usize = 6;
/// The height of a row, and of what stands above and below the rows, in user units.
const ROW: i32 = 46;
const HEAD: i32 = 44;
const FOOT: i32 = 40;
/// The most room for the names of rows.
const NAMES_MAX: i32 = 260;
/// The widest that a column is, where it is the only one.
const ALONE_MAX: i32 = 240;
/// From this ratio of the greatest to the least on, steps are logarithmic.
const WIDE: f64 = 20.0;

/// What a heat map shows.
struct Shown {
    name: &'static str,
    title: &'static str,
    unit: Unit,
    of: fn(&SweepCell) -> Option<Sample>,
    /// Whether its large number is the worst replication, and not the mean.
    worst: bool,
    /// Whether less is worse.
    less: bool,
}

const SHOWN: [Shown; 5] = [
    Shown {
        name: "denied",
        title: "Denied share of the worst episode, on average",
        unit: Unit::Share,
        of: |cell| cell.metrics.denied_share,
        worst: false,
        less: false,
    },
    Shown {
        name: "recovery",
        title: "Time to recover, at worst",
        unit: Unit::Seconds,
        of: |cell| cell.metrics.time_to_recover_s,
        worst: true,
        less: false,
    },
    Shown {
        name: "jwks",
        title: "JWKS requests per replica and hour, on average",
        unit: Unit::Ratio,
        of: |cell| cell.metrics.jwks_requests_per_replica_hour,
        worst: false,
        less: false,
    },
    Shown {
        name: "exposure",
        title: "How long a revoked key was accepted, at worst",
        unit: Unit::Seconds,
        of: |cell| cell.metrics.revocation_exposure_s,
        worst: true,
        less: false,
    },
    Shown {
        name: "survival",
        title: "How long known keys passed in a JWKS outage, at worst",
        unit: Unit::Seconds,
        of: |cell| cell.metrics.outage_survival_s,
        worst: true,
        less: true,
    },
];

/// Heat maps of the metrics that some cell has data for, one after the other for each combination of further axes.
pub(super) fn draw_all(sweep: &Sweep) -> Result<Vec<Chart>, Error> {
    let mut charts = Vec::new();
    for shown in &SHOWN {
        let scale = Scale::new(shown, sweep);
        let Some(scale) = scale else { continue };
        for (number, slice) in slices(sweep).into_iter().take(SLICES_MAX).enumerate() {
            charts.push(draw(shown, &scale, &Grid::new(sweep, slice), number)?);
        }
    }
    Ok(charts)
}

/// How many combinations of further axes are not drawn.
pub(crate) fn slices_left_out(sweep: &Sweep) -> usize {
    slices(sweep).len().saturating_sub(SLICES_MAX)
}

/// The axes that have something to compare.
fn wide_axes(sweep: &Sweep) -> impl Iterator<Item = &SweepAxis> {
    sweep.axes.iter().filter(|axis| axis.values.len() > 1)
}

/// The values on all axes but the first two, as far as cells have them.
fn slices(sweep: &Sweep) -> Vec<Vec<(&str, &str)>> {
    let further: Vec<&SweepAxis> = wide_axes(sweep).skip(2).collect();
    let mut slices: Vec<Vec<(&str, &str)>> = Vec::new();
    for cell in &sweep.cells {
        let value = |axis: &&'_ SweepAxis| cell.parameters.get(&axis.path).map_or("", String::as_str);
        let slice: Vec<_> = further.iter().map(|axis| (axis.path.as_str(), value(axis))).collect();
        if !slices.contains(&slice) {
            slices.push(slice);
        }
        // Enough to know that some are left out, and how many, within reason.
        if slices.len() >= 1_000 {
            break;
        }
    }
    slices
}

/// The cells of a slice by their column and row.
struct Grid<'s> {
    /// The path of the columns, and that of the rows.
    paths: [Option<&'s str>; 2],
    columns: Vec<&'s str>,
    rows: Vec<&'s str>,
    slice: Vec<(&'s str, &'s str)>,
    cells: Vec<&'s SweepCell>,
}

impl<'s> Grid<'s> {
    fn new(sweep: &'s Sweep, slice: Vec<(&'s str, &'s str)>) -> Self {
        let mut axes = wide_axes(sweep);
        let axes = in_place([axes.next(), axes.next()]);
        let values = |axis: Option<&'s SweepAxis>| {
            axis.map_or_else(|| vec![""], |axis| axis.values.iter().map(String::as_str).collect())
        };
        let is_in = |cell: &&SweepCell| {
            slice.iter().all(|(path, value)| cell.parameters.get(*path).map_or("", String::as_str) == *value)
        };
        Self {
            paths: axes.map(|axis| axis.map(|axis| axis.path.as_str())),
            columns: values(axes[0]),
            rows: values(axes[1]),
            cells: sweep.cells.iter().filter(is_in).collect(),
            slice,
        }
    }

    /// Where the first column begins, and how wide each is.
    fn columns_px(&self) -> (i32, i32) {
        let count = self.columns.len().min(COLUMNS_MAX);
        let rows = self.rows.iter().copied().take(ROWS_MAX).chain([self.paths[1].map_or("", field)]);
        let (left, width) = columns_px(count, rows);
        (left, if count == 1 { width.min(px(ALONE_MAX)) } else { width })
    }

    fn cell(&self, column: &str, row: &str) -> Option<&'s SweepCell> {
        let is_at = |cell: &&&SweepCell| {
            [(self.paths[0], column), (self.paths[1], row)].into_iter().all(|(path, value)| {
                path.is_none_or(|path| cell.parameters.get(path).is_some_and(|found| found == value))
            })
        };
        self.cells.iter().find(is_at).copied()
    }

    /// `limiter = none, workers = 4`.
    fn slice_name(&self) -> String {
        let each = self.slice.iter().map(|(path, value)| format!("{} = {value}", field(path)));
        each.collect::<Vec<_>>().join(", ")
    }
}

/// The axis of the columns, and that of the rows: the first two of a sweep, unless only its rows have room for the names.
fn in_place([first, second]: [Option<&SweepAxis>; 2]) -> [Option<&SweepAxis>; 2] {
    let fit = |columns: Option<&SweepAxis>, rows: Option<&SweepAxis>| {
        let [columns, rows] = [columns, rows].map(|axis| axis.map_or(&[][..], |axis| &axis.values));
        let (_, width) = columns_px(columns.len(), rows.iter().map(String::as_str));
        columns.iter().all(|name| text_px(name, 13) + px(8) <= width)
    };
    if !fit(first, second) && fit(second, first) { [second, first] } else { [first, second] }
}

/// Where so many columns begin beside the names of rows, and how wide each is.
fn columns_px<'n>(count: usize, rows: impl Iterator<Item = &'n str>) -> (i32, i32) {
    let names = rows.map(|name| text_px(name, 13)).max().unwrap_or(0);
    let left = (names + px(20)).min(px(NAMES_MAX));
    (left, (px(WIDTH - RIGHT) - left) / count.max(1) as i32)
}

/// From values to the steps of the ramp.
struct Scale {
    least: f64,
    greatest: f64,
    is_log: bool,
    /// Whether less is worse.
    less: bool,
}

impl Scale {
    /// `None` when no cell has data.
    fn new(shown: &Shown, sweep: &Sweep) -> Option<Self> {
        let values = sweep.cells.iter().filter_map(shown.of).map(|sample| shown.value(&sample));
        let values: Vec<f64> = values.collect();
        let greatest = values.iter().copied().reduce(f64::max)?;
        let least = values.iter().copied().filter(|value| *value > 0.0).reduce(f64::min).unwrap_or(greatest);
        Some(Self { least, greatest, is_log: greatest / least.max(1e-12) > WIDE, less: shown.less })
    }

    /// A step from 0, the best, to 6.
    fn step(&self, value: f64) -> usize {
        let part = if self.is_log {
            (value / self.least).ln() / (self.greatest / self.least).ln()
        } else {
            (value - self.least) / (self.greatest - self.least)
        };
        // Nothing at all is a step of its own; where all are alike, the middle.
        let step = match part {
            _ if value <= 0.0 => 0.0,
            part if part.is_finite() => 1.0 + part.clamp(0.0, 1.0) * 5.0,
            _ => 3.0,
        };
        let step = step.round() as usize;
        if self.less { 6 - step.min(6) } else { step.min(6) }
    }
}

impl Shown {
    fn value(&self, sample: &Sample) -> f64 {
        if self.worst { sample.worst } else { sample.mean }
    }

    /// The large number, and the small one below it.
    fn texts(&self, sample: &Sample) -> (String, String) {
        if self.worst {
            return (worst(self.unit, sample), format!("mean {}", quantity(self.unit, sample.mean)));
        }
        let half =
            sample.high.zip(sample.low).map(|(high, low)| (high - low) / 2.0).filter(|half| *half > 0.0);
        let half = half.map_or_else(String::new, |half| format!("± {}", quantity(self.unit, half)));
        let open = if sample.open > 0 { ">= " } else { "" };
        (format!("{open}{}", quantity(self.unit, sample.mean)), half)
    }

    fn table(&self, grid: &Grid<'_>) -> Table {
        let mut columns: Vec<Column> =
            grid.paths.iter().flatten().map(|path| Column::Named(field(path).to_owned())).collect();
        columns.extend([Column::Right("mean, with its interval"), Column::Right("worst")]);
        let mut table = Table::new(self.title, columns);
        for column in &grid.columns {
            for row in &grid.rows {
                let Some(cell) = grid.cell(column, row) else { continue };
                let values = [*column, *row].into_iter().zip(grid.paths).filter(|(_, path)| path.is_some());
                let mut entries: Vec<Entry> =
                    values.map(|(value, _)| Entry::plain(value.to_owned())).collect();
                let sample = (self.of)(cell);
                let told = |tell: fn(Unit, &Sample) -> String| {
                    sample.map_or_else(|| "–".into(), |sample| tell(self.unit, &sample))
                };
                entries.extend([Entry::plain(told(mean)), Entry::plain(told(worst))]);
                table.rows.push(entries);
            }
        }
        table
    }
}

fn draw(shown: &Shown, scale: &Scale, grid: &Grid<'_>, number: usize) -> Result<Chart, Error> {
    let slice = grid.slice_name();
    let title = if slice.is_empty() { shown.title.to_owned() } else { format!("{}: {slice}", shown.title) };
    let left_out = (grid.columns.len() > COLUMNS_MAX || grid.rows.len() > ROWS_MAX)
        .then_some(" Only the first columns and rows are drawn.");
    let description = format!(
        "A cell for each combination of {}, with its value. The table that follows holds the same numbers.{}",
        grid.paths.iter().flatten().copied().collect::<Vec<_>>().join(" and "),
        left_out.unwrap_or_default(),
    );
    let rows = grid.rows.len().min(ROWS_MAX) as i32;
    let id = format!("heat-{}-{}", shown.name, number + 1);
    let svg = canvas(HEAD + ROW * rows + FOOT, (&id, &title, &description), |area| {
        draw_on(area, shown, scale, grid)
    })?;
    let name = if number == 0 { format!("heat-{}", shown.name) } else { id };
    Ok(Chart { name: name.into(), title, svg, table: shown.table(grid) })
}

fn draw_on(area: &Area<'_>, shown: &Shown, scale: &Scale, grid: &Grid<'_>) -> Result<(), Error> {
    let columns = &grid.columns[..grid.columns.len().min(COLUMNS_MAX)];
    let rows = &grid.rows[..grid.rows.len().min(ROWS_MAX)];
    let row_title = grid.paths[1].map_or("", field);
    let (left, width) = grid.columns_px();
    let size = if width > px(76) { 14 } else { 11 };
    let muted = || font(Ink::Muted, 12);
    write(area, grid.paths[0].map_or("", field), (left, px(10)), muted(), HPos::Left)?;
    write(area, row_title, (left - px(10), px(HEAD - 14)), muted(), HPos::Right)?;
    let letters = (width / text_px("n", 13)).clamp(4, 18) as usize;
    for (place, column) in (0..).zip(columns) {
        let x = left + width * place + width / 2;
        let name = format::shortened(column, letters);
        write(area, &name, (x, px(HEAD - 14)), font(Ink::Text, 13), HPos::Center)?;
    }
    for (number, row) in (0..).zip(rows) {
        let top = HEAD + ROW * number;
        let middle = px(top + ROW / 2);
        write(area, &format::shortened(row, 36), (left - px(10), middle), font(Ink::Text, 13), HPos::Right)?;
        for (place, column) in (0..).zip(columns) {
            let corners = [
                (left + width * place + px(1), px(top + 1)),
                (left + width * (place + 1) - px(1), px(top + ROW - 1)),
            ];
            draw_cell(area, shown, scale, (grid.cell(column, row), corners, size))?;
        }
    }
    draw_legend(area, shown, scale, (left, px(HEAD + ROW * rows.len() as i32 + 22)))
}

/// A cell, where it lies, and the size of its text.
type Placed<'s> = (Option<&'s SweepCell>, [(i32, i32); 2], i32);

fn draw_cell(
    area: &Area<'_>,
    shown: &Shown,
    scale: &Scale,
    (cell, corners, size): Placed<'_>,
) -> Result<(), Error> {
    let center = ((corners[0].0 + corners[1].0) / 2, (corners[0].1 + corners[1].1) / 2);
    let Some(sample) = cell.and_then(shown.of) else {
        area.draw(&Rectangle::new(corners, Ink::Grid.rgb().stroke_width(px(1) as u32)))?;
        let nothing = if cell.is_some() { "no data" } else { "" };
        return write(area, nothing, center, font(Ink::Muted, 11), HPos::Center);
    };
    let step = scale.step(shown.value(&sample));
    area.draw(&Rectangle::new(corners, Ink::HEAT[step].rgb().filled()))?;
    let ink = if step < 4 { Ink::Text } else { Ink::Paper };
    let (large, small) = shown.texts(&sample);
    let fits = |text: &str, size: i32| text_px(text, size) < corners[1].0 - corners[0].0;
    let raised = if small.is_empty() || !fits(&small, 11) { 0 } else { px(8) };
    write(area, &large, (center.0, center.1 - raised), font(ink, size), HPos::Center)?;
    if raised > 0 {
        write(area, &small, (center.0, center.1 + px(11)), font(ink, 11), HPos::Center)?;
    }
    Ok(())
}

/// The ramp from the best to the worst, in words too.
fn draw_legend(area: &Area<'_>, shown: &Shown, scale: &Scale, (left, y): (i32, i32)) -> Result<(), Error> {
    let swatch = px(22);
    for (place, ink) in (0..).zip(Ink::HEAT) {
        let x = left + swatch * place;
        area.draw(&Rectangle::new([(x, y - px(6)), (x + swatch, y + px(6))], ink.rgb().filled()))?;
    }
    let (least, greatest) = (quantity(shown.unit, scale.least), quantity(shown.unit, scale.greatest));
    let kind = if scale.is_log { "logarithmic" } else { "even" };
    let (best, worst) = if scale.less { (greatest, least) } else { (least, greatest) };
    let text = format!("the stronger, the worse: {best} to {worst}, in {kind} steps");
    write(area, &text, (left + swatch * 7 + px(12), y), font(Ink::Muted, 12), HPos::Left)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    fn charts(sweep: &Sweep) -> Vec<Chart> {
        draw_all(sweep).unwrap()
    }

    #[test]
    fn every_cell_has_its_value_in_the_picture_and_in_the_table() {
        let sweep = sample::sweep().sweep.unwrap();
        let charts = charts(&sweep);
        let names: Vec<&str> = charts.iter().map(|chart| &*chart.name).collect();
        assert_eq!(names, ["heat-denied", "heat-recovery", "heat-jwks", "heat-exposure", "heat-survival"]);
        for chart in &charts {
            assert_eq!(chart.table.rows.len(), 12, "{}", chart.name);
            assert_eq!(chart.svg.matches("class=\"f-heat-").count(), 12 + 7, "{}", chart.name);
        }
        let recovery = &charts[1].svg;
        for text in ["&gt;= 2 h", "15 min", "30 s", "refetch", "6h"] {
            assert!(recovery.contains(text), "{text}");
        }
    }

    #[test]
    fn further_axes_make_further_maps() {
        let mut sweep = sample::sweep().sweep.unwrap();
        let values = ["none", "cooldown"].map(str::to_owned);
        for value in &values[1..] {
            let mut more = sweep.cells.clone();
            for cell in &mut more {
                cell.parameters.insert("fleet.policy.limiter".into(), value.clone());
            }
            sweep.cells.extend(more);
        }
        for cell in &mut sweep.cells[..12] {
            cell.parameters.insert("fleet.policy.limiter".into(), "none".into());
        }
        sweep.axes.push(SweepAxis { path: "fleet.policy.limiter".into(), values: values.into() });
        let charts = charts(&sweep);
        assert_eq!(charts.len(), 10);
        assert!(charts[1].title.ends_with(": limiter = cooldown"), "{}", charts[1].title);
    }

    #[test]
    fn names_that_are_too_long_for_columns_stand_beside_rows() {
        let mut sweep = sample::sweep().sweep.unwrap();
        let grid = |sweep: &Sweep| {
            let grid = Grid::new(sweep, Vec::new());
            (grid.columns.len(), grid.rows.len())
        };
        let before = grid(&sweep);
        assert_eq!(before, (sweep.axes[0].values.len(), sweep.axes[1].values.len()));
        for name in &mut sweep.axes[0].values {
            name.push_str(" of a client with a name that is longer than a column");
        }
        assert_eq!(grid(&sweep), (before.1, before.0));
        sweep.axes.truncate(1);
        assert_eq!(grid(&sweep), (1, before.0));
    }

    #[test]
    fn one_axis_or_none_is_a_single_row() {
        let mut sweep = sample::sweep().sweep.unwrap();
        sweep.cells.truncate(1);
        sweep.axes.clear();
        assert_eq!(charts(&sweep)[0].table.rows.len(), 1);
        sweep.cells.clear();
        assert!(charts(&sweep).is_empty());
    }

    #[test]
    fn steps_go_from_the_best_to_the_worst() {
        let scale = |least, greatest, less| Scale { least, greatest, is_log: greatest / least > WIDE, less };
        let steps = |scale: Scale, values: &[f64]| values.iter().map(|v| scale.step(*v)).collect::<Vec<_>>();
        assert_eq!(steps(scale(1.0, 1e5, false), &[0.0, 1.0, 10.0, 1e3, 1e5]), [0, 1, 2, 4, 6]);
        assert_eq!(steps(scale(10.0, 20.0, false), &[10.0, 15.0, 20.0]), [1, 4, 6]);
        assert_eq!(steps(scale(1.0, 10.0, true), &[1.0, 10.0]), [5, 0]);
        assert_eq!(steps(scale(5.0, 5.0, false), &[5.0]), [3]);
    }
}
