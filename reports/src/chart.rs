//! Pictures of a cell as SVG, each with a table that says the same.
//!
//! plotters draws in colours that stand for roles ([`ink::Ink`]). They are then replaced by literal light colours, so that
//! a file can stand alone, and by classes, so that a page can give them its own.

mod axis;
mod columns;
mod denied;
mod exposure;
pub(crate) mod heat;
pub(crate) mod ink;
mod latency;
mod markers;
mod pareto;
mod phase;
mod recovery;
mod timeline;

use std::borrow::Cow;
use std::io;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor;

use crate::format;
use crate::record::{Cell, Sweep};
use crate::table::Table;
use axis::Axis;
use ink::Ink;

/// The width of every chart, in user units.
const WIDTH: i32 = 960;

/// Room for the labels left of a plot.
const LEFT: i32 = 108;

/// Room right of a plot, for half a tick label.
const RIGHT: i32 = 26;

/// plotters places at whole pixels: drawn larger and scaled down, lines are smooth.
const SCALE: i32 = 4;

/// A picture and what belongs to it.
pub(crate) struct Chart {
    /// Its name, also of its file.
    pub(crate) name: Cow<'static, str>,
    pub(crate) title: String,
    pub(crate) svg: String,
    /// The same as numbers.
    pub(crate) table: Table,
}

/// All charts that a cell has data for. `id` makes the names within the SVG unique on a page.
///
/// # Errors
///
/// When plotters cannot draw, which it gives no reason to expect: it draws into memory.
pub(crate) fn draw_all(cell: &Cell, id: &str) -> io::Result<Vec<Chart>> {
    let drawn =
        [denied::draw, phase::draw, recovery::draw, exposure::draw, latency::draw].map(|draw| draw(cell, id));
    let mut charts = Vec::new();
    for chart in drawn {
        charts.extend(chart.map_err(io::Error::other)?);
    }
    Ok(charts)
}

/// All charts of a sweep: what settings cost first.
///
/// # Errors
///
/// As [`draw_all`].
pub(crate) fn draw_sweep(sweep: &Sweep) -> io::Result<Vec<Chart>> {
    let mut charts: Vec<Chart> = pareto::draw(sweep).map_err(io::Error::other)?.into_iter().collect();
    charts.extend(heat::draw_all(sweep).map_err(io::Error::other)?);
    Ok(charts)
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Panel<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<Axis, Axis>>;
type Error = DrawingAreaErrorKind<io::Error>;

/// Draws on an area of [`WIDTH`] by `height` user units and gives the finished SVG.
fn canvas(
    height: i32,
    (id, title, description): (&str, &str, &str),
    draw: impl FnOnce(&Area<'_>) -> Result<(), Error>,
) -> Result<String, Error> {
    let mut svg = String::new();
    {
        let area =
            SVGBackend::with_string(&mut svg, (px(WIDTH) as u32, px(height) as u32)).into_drawing_area();
        area.fill(&Ink::Paper.rgb())?;
        draw(&area)?;
        area.present()?;
    }
    let (_, body) = svg.split_once('\n').unwrap_or_default();
    let (title, description) = (format::xml(title), format::xml(description));
    Ok(format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {}\" role=\"img\" aria-labelledby=\"{id}-t {id}-d\" \
         stroke-linejoin=\"round\" font-family=\"system-ui, sans-serif\">\n<title id=\"{id}-t\">{title}</title>\n\
         <desc id=\"{id}-d\">{description}</desc>\n{}{}",
        px(WIDTH),
        px(height),
        ink::patterns(id),
        ink::colour(body, id),
    ))
}

/// Draws the axes of a plot that is as wide as `area` allows, and gives what series are drawn on.
fn panel<'a, 'b>(area: &'a Area<'b>, x: &Axis, y: &Axis, x_labels: i32) -> Result<Panel<'a, 'b>, Error> {
    let mut panel = ChartBuilder::on(area)
        .margin_right(px(RIGHT))
        .set_label_area_size(LabelAreaPosition::Left, px(LEFT))
        .set_label_area_size(LabelAreaPosition::Bottom, px(x_labels))
        .build_cartesian_2d(x.clone(), y.clone())?;
    panel
        .configure_mesh()
        .bold_line_style(Ink::Grid.rgb().stroke_width(px(1) as u32))
        .axis_style(Ink::Axis.rgb().stroke_width(px(1) as u32))
        .label_style(font(Ink::Muted, 12))
        .set_all_tick_mark_size(px(4))
        .draw()?;
    Ok(panel)
}

/// The part of an area between two heights in user units.
fn strip<'a>(area: &Area<'a>, top: i32, bottom: i32) -> Area<'a> {
    area.clone().shrink((0, px(top)), (px(WIDTH) as u32, px(bottom - top) as u32))
}

/// User units as pixels of plotters.
fn px(units: i32) -> i32 {
    units * SCALE
}

/// Where a value of the x axis lies, in pixels of plotters.
fn x_px(x: &Axis, value: f64) -> i32 {
    px(LEFT) + (x.fraction(value) * f64::from(px(WIDTH - LEFT - RIGHT))).round() as i32
}

fn font(ink: Ink, size: i32) -> TextStyle<'static> {
    // plotters divides the size by 1.24 on its way into the SVG.
    let size = f64::from(px(size)) * 1.24;
    FontDesc::new(FontFamily::SansSerif, size, FontStyle::Normal).color(&ink.rgb())
}

/// Writes text from a record at a point, anchored at its left or right end and vertically in the middle.
fn write(
    area: &Area<'_>,
    text: &str,
    (x, y): (i32, i32),
    style: TextStyle<'static>,
    anchor: text_anchor::HPos,
) -> Result<(), Error> {
    let style = style.pos(text_anchor::Pos::new(anchor, text_anchor::VPos::Center));
    area.draw(&Text::new(format::plain(text), (x, y), style))
}

/// How wide text will be in pixels of plotters, with a little to spare: no font is at hand to ask.
fn text_px(text: &str, size: i32) -> i32 {
    px(size) * text.chars().count() as i32 * 55 / 100
}
