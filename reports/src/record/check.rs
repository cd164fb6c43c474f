//! What a [`Record`] must satisfy beyond its types, so that no chart or table over it can go astray.

use super::{Cell, Record, Windows};

/// Moments and durations beyond this many seconds (about 3,000 years) are a mistake of whoever wrote them.
const SECONDS_MAX: f64 = 1e11;

impl Record {
    /// Looks for parts that contradict each other, and says in words which they are.
    pub(super) fn check(&self) -> Result<(), String> {
        self.cells
            .iter()
            .enumerate()
            .try_for_each(|(index, cell)| check_cell(cell).map_err(|what| format!("cell {index}: {what}")))
    }
}

fn check_cell(cell: &Cell) -> Result<(), String> {
    check_windows(&cell.windows)?;
    let episodes = cell.episodes.len();
    for (index, episode) in cell.episodes.iter().enumerate() {
        let plausible = |seconds: f64| seconds.abs() <= SECONDS_MAX;
        if !(plausible(episode.from_s) && plausible(episode.to_s) && episode.from_s <= episode.to_s) {
            return Err(format!("episode {index} lasts from {} to {}", episode.from_s, episode.to_s));
        }
    }
    for (index, instance) in cell.instances.iter().enumerate() {
        let recoveries = instance.time_to_recover.len();
        if recoveries != episodes {
            return Err(format!("instance {index} has {recoveries} recoveries for {episodes} episodes"));
        }
    }
    match cell.gates.iter().filter_map(|result| result.episode).find(|&index| index as usize >= episodes) {
        Some(index) => Err(format!("a gate names episode {index} of {episodes}")),
        None => Ok(()),
    }
}

fn check_windows(windows: &Windows) -> Result<(), String> {
    let rows = windows.len();
    if let Some((column, length)) = windows.lengths().into_iter().find(|&(_, length)| length != rows) {
        return Err(format!("the column `{column}` has {length} windows, and `requests` has {rows}"));
    }
    let plausible = windows.first_s.abs() <= SECONDS_MAX && windows.start_s(rows).abs() <= SECONDS_MAX;
    if rows > 0 && !(plausible && windows.width_s >= 1e-6) {
        return Err(format!("windows of {} s from {} s", windows.width_s, windows.first_s));
    }
    Ok(())
}
