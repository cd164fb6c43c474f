//! How long each cache took to recover, by its age when the episode began.

use std::collections::BTreeSet;

use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

use super::axis::Axis;
use super::ink::Ink;
use super::{Area, Chart, Error, LEFT, RIGHT, WIDTH, canvas, font, panel, px, strip, text_px, write, x_px};
use crate::format;
use crate::phase::{self, Met};
use crate::record::{Cell, RecoveryState};

/// Where the plot begins and ends from the top, and the height of the whole, in user units.
const TOP: i32 = 24;
const BOTTOM: i32 = 244;
const HEIGHT: i32 = 292;

/// Room for the labels of the axis below.
const X_LABELS: i32 = 24;

/// More dots than this tell no more.
const DOTS_MAX: usize = 500;

/// Dots closer than this are one, in pixels of plotters.
const APART: i32 = 12;

/// Draws the chart; `None` unless several episodes can be compared, and took some time.
pub(super) fn draw(cell: &Cell, id: &str) -> Result<Option<Chart>, Error> {
    let met: Vec<Met> = phase::of(cell).into_iter().flatten().collect();
    let recovered = |met: &&Met| met.recovery.state == RecoveryState::Recovered;
    let longest = met.iter().filter(recovered).filter_map(|met| met.recovery.seconds).fold(0.0, f64::max);
    let endless = met.iter().any(|met| met.recovery.state == RecoveryState::NotRecovered);
    let Some(table) = phase::table(cell).filter(|_| longest > 0.0 || endless) else { return Ok(None) };
    let oldest = met.iter().map(|met| met.age).fold(0.0, f64::max);
    let (ages, times) = (Axis::time(0.0, oldest * 1.05), Axis::time(0.0, longest * 1.15));
    let title = "The age of each cache, and how long it took to recover";
    let description = format!(
        "A dot for each cache and episode: its age when the episode began, up to {}, and how long it took to recover, up to \
         {}. The table that follows holds the same, episode by episode.",
        format::seconds(oldest),
        format::seconds(longest),
    );
    let id = format!("{id}-phase");
    let svg = canvas(HEIGHT, (&id, title, &description), |area| {
        draw_frame(area, &ages, &times)?;
        draw_dots(area, &met, &ages, &times)
    })?;
    Ok(Some(Chart { name: "phase".into(), title: title.into(), svg, table }))
}

fn draw_frame(area: &Area<'_>, ages: &Axis, times: &Axis) -> Result<(), Error> {
    let plot = strip(area, TOP, BOTTOM + X_LABELS);
    panel(&plot, ages, times, X_LABELS)?;
    write(area, "recovered after", (px(LEFT), px(TOP / 2)), font(Ink::Muted, 12), HPos::Left)?;
    let below = "age of the cache when the episode began";
    let place = (px(WIDTH - RIGHT) - text_px(below, 12), px(BOTTOM + X_LABELS + 12));
    write(area, below, place, font(Ink::Muted, 12), HPos::Left)
}

/// A dot for what recovered, an arrow at the top for what did not.
fn draw_dots(area: &Area<'_>, met: &[Met], ages: &Axis, times: &Axis) -> Result<(), Error> {
    let y_px =
        |seconds: f64| px(BOTTOM) - (times.fraction(seconds) * f64::from(px(BOTTOM - TOP))).round() as i32;
    let place = |met: &Met| {
        let y = match met.recovery.state {
            RecoveryState::Recovered => Some(y_px(met.recovery.seconds?)),
            RecoveryState::NotRecovered => None,
            RecoveryState::Inconclusive => return None,
        };
        Some((x_px(ages, met.age) / APART, y.map(|y| y / APART)))
    };
    let places: BTreeSet<(i32, Option<i32>)> = met.iter().filter_map(place).collect();
    let ink = Ink::Denied.rgb();
    for (x, y) in places.iter().step_by(places.len().div_ceil(DOTS_MAX).max(1)) {
        let x = x * APART;
        match y {
            Some(y) => area.draw(&Circle::new((x, y * APART), px(4), ink.filled()))?,
            None => {
                let arrow = [(x - px(5), px(TOP + 8)), (x, px(TOP)), (x + px(5), px(TOP + 8))];
                area.draw(&Polygon::new(arrow, ink.filled()))?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    #[test]
    fn each_cache_has_a_dot_for_each_episode_and_what_did_not_recover_an_arrow() {
        let mut cell = sample::spread().cells.remove(0);
        let dots = |cell: &Cell| {
            let svg = draw(cell, "c1").unwrap().expect("episodes to compare").svg;
            (svg.matches("<circle").count(), svg.matches("<polygon").count())
        };
        assert_eq!(dots(&cell), (11, 0), "ten that differ, and ten alike");
        cell.instances[3].time_to_recover[0] = sample::not_recovered(60.0);
        assert_eq!(dots(&cell), (10, 1));
    }

    #[test]
    fn one_episode_or_none_that_took_time_is_nothing_to_compare() {
        assert!(draw(&sample::no_overlap().cells[0], "c1").unwrap().is_none());
        let mut cell = sample::spread().cells.remove(0);
        cell.instances.iter_mut().for_each(|it| it.time_to_recover.fill(sample::recovered(0.0)));
        assert!(draw(&cell, "c1").unwrap().is_none());
    }
}
