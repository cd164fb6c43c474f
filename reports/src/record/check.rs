//! What a [`Record`] must satisfy beyond its types, so that no chart or table over it can go astray.

use super::{Cell, Episode, Event, Instance, Record, Recovery, Sweep, SweepCell, Windows};

/// Moments and durations beyond this many seconds (about 3,000 years) are a mistake of whoever wrote them.
const SECONDS_MAX: f64 = 1e11;

impl Record {
    /// Looks for parts that contradict each other, and says in words which they are.
    pub(super) fn check(&self) -> Result<(), String> {
        self.cells
            .iter()
            .enumerate()
            .try_for_each(|(index, cell)| check_cell(cell).map_err(|what| format!("cell {index}: {what}")))?;
        self.sweep.as_ref().map_or(Ok(()), check_sweep)
    }
}

fn check_sweep(sweep: &Sweep) -> Result<(), String> {
    let cells = sweep.cells.len();
    let named = sweep.front.iter().copied().chain(sweep.recommended.as_ref().map(|it| it.cell));
    if let Some(cell) = named.into_iter().find(|cell| *cell as usize >= cells) {
        return Err(format!("cell {cell} of {cells} is named"));
    }
    for (index, cell) in sweep.cells.iter().enumerate() {
        check_swept(cell).map_err(|what| format!("cell {index}: {what}"))?;
    }
    Ok(())
}

fn check_swept(cell: &SweepCell) -> Result<(), String> {
    for (name, _, sample) in cell.metrics.all() {
        let Some(sample) = sample else { continue };
        let numbers = [Some(sample.mean), Some(sample.worst), sample.low, sample.high];
        if let Some(number) =
            numbers.into_iter().flatten().find(|number| !(0.0..=SECONDS_MAX).contains(number))
        {
            return Err(format!("{name} is {number}"));
        }
    }
    Ok(())
}

fn check_cell(cell: &Cell) -> Result<(), String> {
    check_windows(&cell.windows)?;
    let episodes = cell.episodes.len();
    for (index, episode) in cell.episodes.iter().enumerate() {
        let Episode { from_s, to_s, .. } = *episode;
        if !(is_plausible(from_s) && is_plausible(to_s) && from_s <= to_s) {
            return Err(format!("episode {index} lasts from {from_s} to {to_s}"));
        }
        check_seconds(&format!("episode {index}"), of_episode(episode))?;
    }
    check_seconds("an event", cell.events.iter().flat_map(of_event))?;
    for (index, instance) in cell.instances.iter().enumerate() {
        let recoveries = instance.time_to_recover.len();
        if recoveries != episodes {
            return Err(format!("instance {index} has {recoveries} recoveries for {episodes} episodes"));
        }
        check_seconds(&format!("instance {index}"), of_instance(instance))?;
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
    let plausible = is_plausible(windows.first_s) && is_plausible(windows.start_s(rows));
    if rows > 0 && !(plausible && windows.width_s >= 1e-6) {
        return Err(format!("windows of {} s from {} s", windows.width_s, windows.first_s));
    }
    Ok(())
}

fn check_seconds(whose: &str, mut seconds: impl Iterator<Item = f64>) -> Result<(), String> {
    match seconds.find(|seconds| !is_plausible(*seconds)) {
        Some(seconds) => Err(format!("{whose} speaks of {seconds} s")),
        None => Ok(()),
    }
}

fn is_plausible(seconds: f64) -> bool {
    seconds.abs() <= SECONDS_MAX
}

fn of_episode(episode: &Episode) -> impl Iterator<Item = f64> {
    let metrics = &episode.metrics;
    let streams = metrics.streams.values().chain([&metrics.cohort, &metrics.all]);
    let recoveries = streams.flat_map(|stream| [&stream.time_to_recover, &stream.recovery_lag]);
    let spread = metrics.by_instance.iter().flat_map(|spread| [spread.p50_s, spread.p95_s, spread.max_s]);
    let flapping = metrics.flapping_s.iter().flat_map(|by_replica| by_replica.values().copied());
    recoveries
        .flat_map(of_recovery)
        .chain(spread.flatten())
        .chain(flapping)
        .chain(episode.events.iter().flat_map(of_event))
}

fn of_instance(instance: &Instance) -> impl Iterator<Item = f64> {
    let requests = instance.jwks_requests.iter();
    let requests = requests
        .flat_map(|request| [Some(request.at_s), request.answered_s, request.asked_s, request.received_s]);
    let requests = requests.flatten();
    let recoveries = instance.time_to_recover.iter().flat_map(of_recovery);
    instance.cache_age_at_start_s.into_iter().chain(requests).chain(recoveries)
}

fn of_event(event: &Event) -> impl Iterator<Item = f64> {
    [Some(event.planned_s), event.actual_s].into_iter().flatten()
}

fn of_recovery(recovery: &Recovery) -> impl Iterator<Item = f64> {
    [recovery.seconds, recovery.last_denial_s, recovery.first_pass_after_s].into_iter().flatten()
}
