//! How long tokens of revoked keys were still accepted, stream by stream.

use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

use super::axis::Axis;
use super::ink::Ink;
use super::{Area, Chart, Error, LEFT, canvas, font, panel, px, strip, write, x_px};
use crate::exposure::{self, lasted, tokens, traffic};
use crate::format;
use crate::record::{Cell, Exposure};

/// More streams than these are left to the table.
const STREAMS_MAX: usize = 24;

/// The height of a stream, in user units: its name, and below it its bar.
const ROW: i32 = 38;

/// The middle of the bar within its row, and half its height.
const BAR: (i32, i32) = (26, 6);

/// Room for the labels of the axis below.
const X_LABELS: i32 = 24;

/// Draws the chart; `None` when no key was revoked, or none of its tokens was accepted.
pub(super) fn draw(cell: &Cell, id: &str) -> Result<Option<Chart>, Error> {
    let exposures = exposure::of(cell);
    let longest = exposure::longest(exposures.iter().copied()).map_or(0.0, |longest| longest.seconds);
    let Some(table) = exposure::table(cell).filter(|_| longest > 0.0) else { return Ok(None) };
    let title = "How long tokens of a revoked key were still accepted";
    let description = format!(
        "A bar for each of {}, the longest {}. The table that follows holds the same numbers.",
        format::counted(exposures.len() as u64, "stream"),
        format::seconds(longest),
    );
    let shown = &exposures[..exposures.len().min(STREAMS_MAX)];
    // Beyond the longest there is room for its label.
    let time = Axis::time(0.0, longest * 1.3);
    let height = 8 + ROW * shown.len() as i32 + X_LABELS;
    let id = format!("{id}-exposure");
    let svg = canvas(height, (&id, title, &description), |area| draw_on(area, shown, &time, height))?;
    Ok(Some(Chart { name: "exposure".into(), title: title.into(), svg, table }))
}

fn draw_on(area: &Area<'_>, exposures: &[&Exposure], time: &Axis, height: i32) -> Result<(), Error> {
    let plot = strip(area, 4, height - 4);
    let rows = Axis { from: 0.0, to: 1.0, ticks: Vec::new(), label: |_| String::new() };
    panel(&plot, time, &rows, X_LABELS)?;
    for (index, exposure) in exposures.iter().enumerate() {
        draw_stream(area, exposure, time, 4 + ROW * index as i32)?;
    }
    Ok(())
}

fn draw_stream(area: &Area<'_>, exposure: &Exposure, time: &Axis, top: i32) -> Result<(), Error> {
    let (start, end) = (px(LEFT), x_px(time, exposure.lasted.seconds));
    let (middle, half) = (px(top + BAR.0), px(BAR.1));
    write(area, traffic(exposure), (start - px(8), middle), font(Ink::Muted, 12), HPos::Right)?;
    let name = format!("{}, {}", format::shortened(&exposure.stream, 60), tokens(exposure));
    write(area, &name, (start + px(6), px(top + 11)), font(Ink::Text, 12), HPos::Left)?;
    let corners = [(start, middle - half), (end, middle + half)];
    area.draw(&Rectangle::new(corners, Ink::Denied.rgb().mix(0.6).filled()))?;
    let mut label = end + px(9);
    if exposure.lasted.at_least {
        let arrow = [(end, middle - half), (end + half, middle), (end, middle + half)];
        area.draw(&Polygon::new(arrow, Ink::Denied.rgb().mix(0.6).filled()))?;
        label += half;
    }
    write(area, &lasted(exposure.lasted), (label, middle), font(Ink::Text, 12), HPos::Left)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Lasting;
    use crate::sample;

    #[test]
    fn each_stream_has_a_bar_and_what_did_not_end_is_marked() {
        let chart = draw(&sample::revocation().cells[0], "c1").unwrap().expect("something was accepted");
        for text in ["thief-alone-repeating, repeated", "mixed", "not once", "&gt;= 40 s, to the last try"] {
            assert!(chart.svg.contains(text), "{text}");
        }
        assert_eq!(chart.svg.matches("<polygon").count(), 1);
        assert_eq!(chart.table.rows.len(), 4);
    }

    #[test]
    fn without_exposure_there_is_nothing_to_draw() {
        let mut cell = sample::revocation().cells.remove(0);
        for exposure in &mut cell.episodes[0].metrics.revocation_exposure {
            exposure.lasted = Lasting { seconds: 0.0, at_least: false };
        }
        assert!(draw(&cell, "c1").unwrap().is_none());
        assert!(draw(&sample::overlap().cells[0], "c1").unwrap().is_none());
    }
}
