//! What a live run should have measured: the range of the simulator over many seeds.
//!
//! If the simulator is right, a live run is one more draw from the same urn. It lies outside of the range of `n` draws
//! with a probability of 2 in `n + 1`, whatever the distribution.

use std::collections::BTreeMap;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use keyquake_core::Span;
use keyquake_reports::record::{Cell, Episode, Record, RecoveryState};

use super::each;
use crate::plan::Plan;

/// How probable it may be that a live run lies outside of any of its ranges by chance, unless it has so many metrics that
/// the simulations would not end.
const BY_CHANCE: f64 = 0.01;
/// The most simulations.
const MAX_RUNS: u64 = 10_000;

/// A live run beside what the simulator says of it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Prediction {
    /// How many seeds were simulated.
    pub(crate) runs: u64,
    /// By metric, in the order of their names.
    pub(crate) ranges: BTreeMap<String, Range>,
}

/// What a metric was live, and the simulator's range of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Range {
    pub(crate) live: f64,
    pub(crate) lowest: f64,
    pub(crate) highest: f64,
}

impl Range {
    pub(crate) fn holds(self) -> bool {
        self.lowest <= self.live && self.live <= self.highest
    }
}

impl Prediction {
    /// Whether the live run lies within all ranges.
    pub(crate) fn holds(&self) -> bool {
        self.ranges.values().all(|range| range.holds())
    }
}

/// Simulates the plans that `plan` gives for seed after seed, as often as the number of metrics needs.
///
/// # Errors
///
/// A seed has no plan, or the system has no randomness for keys.
pub(crate) fn predict(
    live: &Record,
    plan: impl Fn(u64) -> anyhow::Result<Plan> + Sync,
) -> anyhow::Result<Prediction> {
    let enough = 2.0 * metrics(live).len() as f64 / BY_CHANCE;
    ranges(live, (enough as u64).clamp(1, MAX_RUNS), plan)
}

fn ranges(
    live: &Record,
    runs: u64,
    plan: impl Fn(u64) -> anyhow::Result<Plan> + Sync,
) -> anyhow::Result<Prediction> {
    let fetch_time = fetch_time(live);
    let drawn = draw(runs, |number| {
        // Never the run's own seed, with which it would be no draw of its own. Scenarios have 63 bits for it.
        let plan = plan(live.seed.wrapping_add(number) % (1 << 63))?;
        let fetch_time = fetch_time.unwrap_or(plan.fetch_time);
        Ok(metrics(&each::run(&plan.with_fetch_time(fetch_time), "")?.record()))
    })?;
    let range = |(name, live): (String, f64)| {
        let values: Vec<f64> = drawn.iter().filter_map(|metrics| metrics.get(&name)).copied().collect();
        let lowest = values.iter().copied().fold(f64::INFINITY, f64::min);
        let highest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        (name, Range { live, lowest, highest })
    };
    Ok(Prediction { runs, ranges: metrics(live).into_iter().map(range).collect() })
}

/// What the simulations from 1 on give, on all cores.
fn draw<T: Send>(runs: u64, simulation: impl Fn(u64) -> anyhow::Result<T> + Sync) -> anyhow::Result<Vec<T>> {
    let next = AtomicU64::new(1);
    let work = || {
        let numbers = std::iter::from_fn(|| Some(next.fetch_add(1, Ordering::Relaxed)));
        numbers.take_while(|number| *number <= runs).map(&simulation).collect::<anyhow::Result<Vec<T>>>()
    };
    let cores = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        let drawn =
            workers.into_iter().map(|worker| worker.join().unwrap_or_else(|panic| resume_unwind(panic)));
        Ok(drawn.collect::<anyhow::Result<Vec<_>>>()?.into_iter().flatten().collect())
    })
}

/// How long the caches' fetches took, at the median: faults delay few of them.
fn fetch_time(live: &Record) -> Option<Span> {
    let requests = live.cells.iter().flat_map(|cell| &cell.instances).flat_map(|it| &it.jwks_requests);
    let mut took: Vec<f64> =
        requests.filter_map(|request| Some(request.received_s? - request.asked_s?)).collect();
    took.sort_by(f64::total_cmp);
    took.get(took.len() / 2).map(|seconds| Span::from_nanos((seconds.max(0.0) * 1e9) as u64))
}

/// What is compared: everything that does not tell of the machine.
fn metrics(record: &Record) -> BTreeMap<String, f64> {
    let Some(cell) = record.cells.first() else { return BTreeMap::new() };
    let mut metrics = of_the_run(cell);
    for (episode, number) in cell.episodes.iter().zip(1..) {
        metrics.extend(
            of_an_episode(episode)
                .into_iter()
                .map(|(name, value)| (format!("{name} of episode {number}"), value)),
        );
    }
    metrics
}

fn of_the_run(cell: &Cell) -> BTreeMap<String, f64> {
    let metrics = &cell.metrics;
    let falsely: u64 = metrics.false_accepts.values().sum();
    BTreeMap::from([
        ("requests".to_owned(), metrics.all.requests as f64),
        ("denied".to_owned(), metrics.all.denied as f64),
        ("jwks_requests".to_owned(), metrics.jwks.jwks_requests as f64),
        ("false_accepts".to_owned(), falsely as f64),
        ("login_storm".to_owned(), metrics.login_storm.requests as f64),
        ("orphaned_rejects".to_owned(), metrics.orphaned.orphaned_rejects as f64),
    ])
}

fn of_an_episode(episode: &Episode) -> BTreeMap<&'static str, f64> {
    let cohort = &episode.metrics.cohort;
    let mut metrics = BTreeMap::from([
        ("false_rejects", cohort.traffic.false_rejects as f64),
        ("failures", cohort.traffic.failures as f64),
        ("jwks_requests", episode.metrics.jwks.jwks_requests as f64),
    ]);
    let recovery = cohort.time_to_recover;
    if recovery.state == RecoveryState::Recovered {
        metrics.extend(recovery.seconds.map(|seconds| ("time_to_recover", seconds)));
    }
    metrics.extend(cohort.traffic.denied_share.map(|share| ("denied_share", share)));
    metrics
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::testing::simulated;

    #[test]
    fn a_run_lies_among_others_of_its_kind_and_not_among_those_of_another() {
        let plan = |seed: u64, ttl: &str| {
            simulated(&format!(
                "seed = {seed}\n[[rotation]]\nat = \"20s\"\nstyle = \"no-overlap\"\n[fleet]\nreplicas = 2\n\
                 policy = {{ ttl = \"{ttl}\", on_unknown_kid = \"reject\" }}\n"
            ))
        };
        let run = each::run(&plan(7, "10s"), "").unwrap().record();
        let same = ranges(&run, 60, |seed| Ok(plan(seed, "10s"))).unwrap();
        assert!(same.holds() && same.ranges.len() == 11 && same.runs == 60, "{same:?}");
        let other = ranges(&run, 60, |seed| Ok(plan(seed, "30s"))).unwrap();
        assert!(!other.ranges["jwks_requests"].holds(), "{other:?}");
    }

    #[test]
    fn every_seed_is_drawn_once_and_a_failure_is_told() {
        let mut drawn = draw(1_000, Ok).unwrap();
        drawn.sort_unstable();
        assert!(drawn.into_iter().eq(1..=1_000));
        let failed = draw(10, |number| if number == 7 { Err(anyhow::anyhow!("seven")) } else { Ok(()) });
        assert_eq!(failed.unwrap_err().to_string(), "seven");
    }
}
