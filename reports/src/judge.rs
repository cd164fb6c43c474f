//! From what was measured to a verdict.

mod sweep;

use std::cmp::Ordering;
use std::fmt;

use crate::record::{
    Cell, Comparison, Episode, EpisodeMetrics, Fidelity, Gate, GateResult, GateState, Lasting, Metric,
    Record, Recovering, Recovery, RecoveryState, RunMetrics, Traffic, Verdict,
};
use crate::{exposure, format, story};

/// A sweep may have thousands of reasons; nobody reads more than a few.
const REASONS_MAX: usize = 12;

/// Holds every gate against its cell, and gives the record its verdict and reasons.
///
/// A record that is `aborted` or `incomplete` stays so, with the reasons of whoever stopped it. Otherwise it is `void` when
/// the generator could not keep its schedule within an episode: its numbers then say nothing about the target, whatever the
/// gates make of them. Then a gate that failed outweighs one without data, and that outweighs all that held.
///
/// The gates of a sweep were held against each replication: its verdict is that of its worst cell, and a setting is
/// recommended.
///
/// Judging twice gives what judging once gave.
pub fn judge(record: &mut Record) {
    if let Some(sweep) = &mut record.sweep {
        sweep::judge(sweep);
    }
    for cell in &mut record.cells {
        let results = cell.gates.iter().map(|result| evaluate(&result.gate, cell)).collect();
        cell.gates = results;
    }
    if matches!(record.verdict, Verdict::Aborted | Verdict::Incomplete) {
        return;
    }
    (record.verdict, record.reasons) = match &record.sweep {
        Some(sweep) => sweep::verdict(sweep),
        None => verdict(&record.cells),
    };
    if record.reasons.len() > REASONS_MAX {
        let more = record.reasons.len() - REASONS_MAX;
        record.reasons.truncate(REASONS_MAX);
        record.reasons.push(format!("And {more} more."));
    }
}

/// A metric of the cohort in the episode where it was worst, or of the run if it is run-wide: what a gate on it is held
/// against. `None` without data.
pub fn worst(cell: &Cell, metric: Metric) -> Option<Worst> {
    let found = places((metric, "cohort"), cell).into_iter().filter_map(|(_, known)| match known {
        Known::Value(value) => Some(Worst { metric, value, at_least: false }),
        Known::AtLeast(value) => Some(Worst { metric, value, at_least: true }),
        Known::Nothing => None,
    });
    // What has no end in sight is longer than what has one.
    let longest = |a: &Worst, b: &Worst| a.at_least.cmp(&b.at_least).then(a.value.total_cmp(&b.value));
    // To survive an outage for longer is better; of everything else less is.
    if metric == Metric::OutageSurvival { found.min_by(longest) } else { found.max_by(longest) }
}

/// What is known of a metric where it was worst; as text with its unit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Worst {
    metric: Metric,
    /// In the metric's unit.
    pub value: f64,
    /// Whether the true value is at least this, because the run ended first.
    pub at_least: bool,
}

impl fmt::Display for Worst {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = if self.at_least { ">= " } else { "" };
        write!(out, "{mark}{}", format::quantity(self.metric.unit(), self.value))
    }
}

fn verdict(cells: &[Cell]) -> (Verdict, Vec<String>) {
    let voids = reasons(cells, void_reasons);
    if !voids.is_empty() {
        return (Verdict::Void, voids);
    }
    let failed = reasons(cells, |cell| gate_reasons(cell, GateState::Failed));
    if !failed.is_empty() {
        return (Verdict::Fail, failed);
    }
    let mut unknown = reasons(cells, |cell| gate_reasons(cell, GateState::Inconclusive));
    if cells.iter().all(|cell| cell.metrics.all.requests == 0) {
        unknown.push("Not one request was planned.".into());
    }
    if !unknown.is_empty() {
        return (Verdict::Inconclusive, unknown);
    }
    let mut remarks = reasons(cells, |cell| calm_denials(cell).into_iter().collect());
    if cells.iter().all(|cell| cell.gates.is_empty()) {
        remarks.push("No gate was set, so nothing could fail.".into());
    }
    (Verdict::Pass, remarks)
}

/// The reasons of all cells as sentences, each with its cell's number where there are several.
fn reasons(cells: &[Cell], of_cell: impl Fn(&Cell) -> Vec<String>) -> Vec<String> {
    let mut sentences = Vec::new();
    for (index, cell) in cells.iter().enumerate() {
        for reason in of_cell(cell) {
            let place = if cells.len() > 1 { format!("cell {}: ", index + 1) } else { String::new() };
            sentences.push(format::sentence(&format!("{place}{reason}")));
        }
    }
    sentences
}

/// Why the numbers of a cell say nothing about the target.
fn void_reasons(cell: &Cell) -> Vec<String> {
    if cell.episodes.is_empty() {
        return unfaithful(&cell.metrics.fidelity).into_iter().collect();
    }
    cell.episodes
        .iter()
        .enumerate()
        .filter_map(|(index, episode)| {
            let what = unfaithful(&episode.metrics.fidelity)?;
            Some(format!("{what}, in {}", place(index, episode)))
        })
        .collect()
}

/// How the generator missed its schedule by more than the limits.
fn unfaithful(fidelity: &Fidelity) -> Option<String> {
    let late =
        fidelity.lateness_ms.map(|lateness| lateness.p99).filter(|&p99| p99 > fidelity.lateness_limit_ms);
    if let Some(p99) = late {
        let (p99, limit) = (format::milliseconds(p99), format::milliseconds(fidelity.lateness_limit_ms));
        return Some(format!(
            "the generator sent {p99} late at the 99th percentile, over the limit of {limit}"
        ));
    }
    if fidelity.shed_share > fidelity.shed_limit {
        let (share, limit) = (format::share(fidelity.shed_share), format::share(fidelity.shed_limit));
        let shed = format::counted(fidelity.shed, "request");
        return Some(format!(
            "the generator could not send {shed}, {share} of the plan and over the limit of {limit}"
        ));
    }
    None
}

fn gate_reasons(cell: &Cell, state: GateState) -> Vec<String> {
    cell.gates.iter().filter(|result| result.state == state).map(|result| gate_reason(result, cell)).collect()
}

/// Why a gate did not hold, in words.
fn gate_reason(result: &GateResult, cell: &Cell) -> String {
    let found = shortfall(result);
    let episode = result.episode.map(|index| index as usize);
    match episode.and_then(|index| Some((index, cell.episodes.get(index)?))) {
        Some((index, episode)) => format!("{found}, in {}", place(index, episode)),
        None => found,
    }
}

/// How a gate did not hold, in words.
fn shortfall(result: &GateResult) -> String {
    let gate = &result.gate;
    let unit = gate.metric.unit();
    let limit = format::quantity(unit, gate.limit);
    let metric = gate.metric.name().replace("jwks", "JWKS").replace('_', " ");
    let subject = if gate.metric.is_run_wide() { metric } else { format!("{metric} ({})", gate.of) };
    match result.value {
        None => format!("too little data to say whether {gate}"),
        Some(value) if result.at_least => {
            let endless = match gate.metric {
                Metric::RevocationExposure => "still accepted after",
                Metric::OutageSurvival => "nothing denied after",
                _ => "not recovered after",
            };
            format!(
                "{subject}: {endless} {}, asked is {} {limit}",
                format::quantity(unit, value),
                gate.comparison.sign()
            )
        }
        Some(value) => {
            let (value, gap) =
                (format::quantity(unit, value), format::quantity(unit, (value - gate.limit).abs()));
            match gate.comparison {
                Comparison::AtMost | Comparison::Below => {
                    format!("{subject} is {value}, {gap} over the limit of {limit}")
                }
                Comparison::AtLeast | Comparison::Above => {
                    format!("{subject} is {value}, {gap} short of the limit of {limit}")
                }
                Comparison::Exactly => format!("{subject} is {value} and not exactly {limit}"),
            }
        }
    }
}

fn place(index: usize, episode: &Episode) -> String {
    format!("episode {} ({})", index + 1, episode.title)
}

/// Denials that no gate over episodes can see.
fn calm_denials(cell: &Cell) -> Option<String> {
    if cell.episodes.is_empty() {
        return None;
    }
    let within: u64 = cell.episodes.iter().fold(0, |sum, e| sum.saturating_add(e.metrics.all.traffic.denied));
    match cell.metrics.all.denied.saturating_sub(within) {
        0 => None,
        outside => {
            Some(format!("denied before the first disturbance: {}", format::counted(outside, "request")))
        }
    }
}

/// What is known of a metric in one place.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Known {
    Value(f64),
    AtLeast(f64),
    Nothing,
}

/// The gate's result at the worst place, where worse is what is nearer to failing it.
pub fn evaluate(gate: &Gate, cell: &Cell) -> GateResult {
    let results = places((gate.metric, &gate.of), cell).into_iter();
    let results = results.map(|(episode, known)| weigh(gate, episode, known));
    // The first of equals, so that a reader meets the episode that the chart shows first.
    results.rev().max_by(worse).unwrap_or_else(|| gate.clone().into())
}

/// Orders results of one gate: what is nearer to failing it is the greater.
pub fn worse(a: &GateResult, b: &GateResult) -> Ordering {
    let margin = |result: &GateResult| result.margin.unwrap_or(f64::NEG_INFINITY);
    a.state.cmp(&b.state).then_with(|| margin(b).total_cmp(&margin(a)))
}

/// Where a metric of these requests was measured, and what is known of it there.
fn places((metric, of): (Metric, &str), cell: &Cell) -> Vec<(Option<u32>, Known)> {
    if metric.is_run_wide() {
        return vec![(None, run_wide(metric, &cell.metrics))];
    }
    if cell.episodes.is_empty() {
        let traffic = match of {
            "cohort" | "all" => Some(&cell.metrics.all),
            stream => cell.metrics.streams.get(stream),
        };
        return vec![(None, traffic.map_or(Known::Nothing, |traffic| of_traffic(metric, traffic)))];
    }
    let episodes = (0..).zip(&cell.episodes).map(|(index, episode)| {
        if let Some(known) = of_the_whole_episode((metric, of), &episode.metrics) {
            return (Some(index), known);
        }
        let seen = match of {
            "cohort" => Some(&episode.metrics.cohort),
            "all" => Some(&episode.metrics.all),
            stream => episode.metrics.streams.get(stream),
        };
        (Some(index), seen.map_or(Known::Nothing, |seen| of_episode(metric, seen)))
    });
    let mut places: Vec<(Option<u32>, Known)> = episodes.collect();
    // An episode without a revocation, or without an outage, says nothing about those that had one.
    let is_special = matches!(metric, Metric::RevocationExposure | Metric::OutageSurvival);
    if is_special && places.iter().any(|(_, known)| *known != Known::Nothing) {
        places.retain(|(_, known)| *known != Known::Nothing);
    }
    places
}

/// What an episode says of metrics that are not about one set of requests; `None` for those that are.
fn of_the_whole_episode((metric, of): (Metric, &str), metrics: &EpisodeMetrics) -> Option<Known> {
    match metric {
        Metric::RevocationExposure => {
            let all = metrics.revocation_exposure.iter();
            // A session that was refused renews and tries no more: only those who go on trying see the end.
            let probed = all.clone().any(|exposure| exposure.stream != "sessions");
            let tried = all.filter(|exposure| {
                let counts = !probed || exposure.stream != "sessions";
                exposure.stream == of || (["cohort", "all"].contains(&of) && counts)
            });
            Some(exposure::longest(tried).map_or(Known::Nothing, of_lasting))
        }
        Metric::OutageSurvival => Some(metrics.outage_survival.map_or(Known::Nothing, of_lasting)),
        Metric::Flapping => Some(story::flapping(metrics).map_or(Known::Nothing, |(_, s)| Known::Value(s))),
        Metric::JwksAmplification => Some(metrics.jwks_amplification.map_or(Known::Nothing, Known::Value)),
        _ => None,
    }
}

fn of_lasting(lasting: Lasting) -> Known {
    if lasting.at_least { Known::AtLeast(lasting.seconds) } else { Known::Value(lasting.seconds) }
}

fn run_wide(metric: Metric, run: &RunMetrics) -> Known {
    let number = match metric {
        // Nothing that must be refused was sent: that none was accepted says nothing.
        Metric::FalseAccepts if run.false_accepts.is_empty() => return Known::Nothing,
        Metric::FalseAccepts => run.false_accepts.values().fold(0, |sum: u64, &n| sum.saturating_add(n)),
        Metric::OrphanedRejects => run.orphaned.orphaned_rejects,
        Metric::OrphanedAccepts => run.orphaned.orphaned_accepts,
        Metric::JwksRequests => run.jwks.jwks_requests,
        Metric::JwksPeakPerSecond => run.jwks.jwks_peak_per_second,
        Metric::LoginStorm => run.login_storm.requests,
        Metric::BlackoutWorst => return run.blackout_worst.map_or(Known::Nothing, of_lasting),
        Metric::FetchesPerUnknownKid => {
            return run.fetches_per_unknown_kid.map_or(Known::Nothing, Known::Value);
        }
        _ => return Known::Nothing,
    };
    Known::Value(number as f64)
}

fn of_episode(metric: Metric, seen: &Recovering) -> Known {
    match metric {
        Metric::TimeToRecover => of_recovery(&seen.time_to_recover),
        Metric::RecoveryLag => of_recovery(&seen.recovery_lag),
        _ => of_traffic(metric, &seen.traffic),
    }
}

fn of_recovery(recovery: &Recovery) -> Known {
    match (recovery.state, recovery.seconds) {
        (RecoveryState::Recovered, Some(seconds)) => Known::Value(seconds),
        (RecoveryState::NotRecovered, Some(seconds)) => Known::AtLeast(seconds),
        // It outlasted the episode, however short that was.
        (RecoveryState::NotRecovered, None) => Known::AtLeast(0.0),
        _ => Known::Nothing,
    }
}

/// Shares and counts of nothing are no data: a gate without samples must not hold.
fn of_traffic(metric: Metric, traffic: &Traffic) -> Known {
    let number = match metric {
        Metric::Latency => traffic.latency_ms.map(|latency| latency.p99),
        _ if traffic.must_pass == 0 => None,
        Metric::DeniedShare => traffic.denied_share,
        Metric::PeakDeniedShare => traffic.peak_denied_share,
        Metric::Denied => Some(traffic.denied as f64),
        Metric::FalseRejects => Some(traffic.false_rejects as f64),
        Metric::Failures => Some(traffic.failures as f64),
        _ => None,
    };
    number.map_or(Known::Nothing, Known::Value)
}

/// Holds one gate against what is known in one place.
fn weigh(gate: &Gate, episode: Option<u32>, known: Known) -> GateResult {
    let (limit, comparison) = (gate.limit, gate.comparison);
    let result = |state, value, margin| GateResult {
        gate: gate.clone(),
        state,
        value,
        at_least: matches!(known, Known::AtLeast(_)),
        episode,
        margin,
    };
    match known {
        Known::Nothing => result(GateState::Inconclusive, None, None),
        Known::Value(value) => {
            let state = if holds(comparison, value, limit) { GateState::Held } else { GateState::Failed };
            result(state, Some(value), Some(distance(comparison, value, limit)))
        }
        Known::AtLeast(value) => match comparison {
            Comparison::AtLeast | Comparison::Above if value >= limit => {
                result(GateState::Held, Some(value), Some(value - limit))
            }
            Comparison::AtLeast | Comparison::Above => result(GateState::Inconclusive, Some(value), None),
            // Whoever asks for an end in time is not served by a run that did not see it.
            Comparison::AtMost | Comparison::Below | Comparison::Exactly => {
                result(GateState::Failed, Some(value), Some(limit - value).filter(|&margin| margin < 0.0))
            }
        },
    }
}

fn holds(comparison: Comparison, value: f64, limit: f64) -> bool {
    match value.partial_cmp(&limit) {
        Some(Ordering::Less) => matches!(comparison, Comparison::AtMost | Comparison::Below),
        Some(Ordering::Equal) => {
            matches!(comparison, Comparison::AtMost | Comparison::AtLeast | Comparison::Exactly)
        }
        Some(Ordering::Greater) => matches!(comparison, Comparison::AtLeast | Comparison::Above),
        None => false,
    }
}

/// How far a value is on the good side of its limit.
fn distance(comparison: Comparison, value: f64, limit: f64) -> f64 {
    match comparison {
        Comparison::AtMost | Comparison::Below => limit - value,
        Comparison::AtLeast | Comparison::Above => value - limit,
        Comparison::Exactly => 0.0 - (value - limit).abs(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Metric::*, Quantiles};
    use crate::sample::{self, gate, inconclusive, not_recovered, recovered};
    use Comparison::{Above, AtLeast, AtMost, Below, Exactly};
    use GateState::{Failed, Held, Inconclusive};

    /// A cell whose episodes recovered like that.
    fn cell(recoveries: &[Recovery]) -> Cell {
        let mut cell = sample::no_overlap().cells.remove(0);
        let episode = cell.episodes.remove(0);
        for recovery in recoveries {
            let mut episode = episode.clone();
            episode.metrics.cohort.time_to_recover = *recovery;
            cell.episodes.push(episode);
        }
        cell
    }

    #[test]
    fn the_worst_of_a_metric_is_the_longest_and_for_outages_the_shortest() {
        let text = |cell: &Cell, metric| worst(cell, metric).map(|worst| worst.to_string());
        let known = cell(&[recovered(20.0), inconclusive(), recovered(25.0)]);
        assert_eq!(text(&known, TimeToRecover).as_deref(), Some("25 s"));
        assert_eq!(
            text(&cell(&[recovered(50.0), not_recovered(40.0)]), TimeToRecover).as_deref(),
            Some(">= 40 s")
        );
        assert_eq!(text(&cell(&[inconclusive()]), TimeToRecover), None);
        let mut outages = cell(&[recovered(1.0), recovered(1.0), recovered(1.0)]);
        let survived = [None, Some((60.0, true)), Some((90.0, false))];
        for (episode, lasting) in outages.episodes.iter_mut().zip(survived) {
            episode.metrics.outage_survival =
                lasting.map(|(seconds, at_least)| Lasting { seconds, at_least });
        }
        assert_eq!(text(&outages, OutageSurvival).as_deref(), Some("90 s"));
        let volume = known.metrics.jwks.jwks_requests as f64;
        assert_eq!(worst(&known, JwksRequests).map(|worst| worst.value), Some(volume));
    }

    #[test]
    fn a_recovery_is_held_against_its_limit_at_the_worst_episode() {
        let table = [
            (AtMost, 30.0, &[recovered(20.0), recovered(25.0)][..], (Held, Some(25.0), Some(1), Some(5.0))),
            (AtMost, 20.0, &[recovered(20.0)], (Held, Some(20.0), Some(0), Some(0.0))),
            (Below, 20.0, &[recovered(20.0)], (Failed, Some(20.0), Some(0), Some(0.0))),
            (AtMost, 10.0, &[recovered(25.0), recovered(20.0)], (Failed, Some(25.0), Some(0), Some(-15.0))),
            (AtLeast, 10.0, &[recovered(25.0), recovered(20.0)], (Held, Some(20.0), Some(1), Some(10.0))),
            (Above, 20.0, &[recovered(25.0), recovered(20.0)], (Failed, Some(20.0), Some(1), Some(0.0))),
            (Exactly, 0.0, &[recovered(0.0)], (Held, Some(0.0), Some(0), Some(0.0))),
            (Exactly, 20.0, &[recovered(19.0), recovered(23.0)], (Failed, Some(23.0), Some(1), Some(-3.0))),
            (AtMost, 60.0, &[recovered(1.0), not_recovered(40.0)], (Failed, Some(40.0), Some(1), None)),
            (AtMost, 30.0, &[not_recovered(40.0)], (Failed, Some(40.0), Some(0), Some(-10.0))),
            (Exactly, 0.0, &[not_recovered(40.0)], (Failed, Some(40.0), Some(0), Some(-40.0))),
            (AtLeast, 30.0, &[not_recovered(40.0)], (Held, Some(40.0), Some(0), Some(10.0))),
            (Above, 40.0, &[not_recovered(40.0)], (Held, Some(40.0), Some(0), Some(0.0))),
            (AtLeast, 60.0, &[not_recovered(40.0)], (Inconclusive, Some(40.0), Some(0), None)),
            (AtMost, 30.0, &[recovered(20.0), inconclusive()], (Inconclusive, None, Some(1), None)),
            (AtMost, 10.0, &[inconclusive(), recovered(20.0)], (Failed, Some(20.0), Some(1), Some(-10.0))),
            (AtMost, 10.0, &[], (Inconclusive, None, None, None)),
        ];
        for (comparison, limit, recoveries, expected) in table {
            let result = evaluate(&gate(TimeToRecover, comparison, limit), &cell(recoveries));
            let found = (result.state, result.value, result.episode, result.margin);
            assert_eq!(found, expected, "{:?} {limit} over {recoveries:?}", comparison.sign());
            let at_least = result
                .episode
                .is_some_and(|episode| recoveries[episode as usize].state == RecoveryState::NotRecovered);
            assert_eq!(result.at_least, at_least);
        }
    }

    #[test]
    fn whose_requests_are_meant_decides_the_value() {
        let mut cell = cell(&[recovered(20.0)]);
        let logins = Traffic { must_pass: 10, denied: 5, ..Traffic::default() };
        let seen = Recovering { traffic: logins, ..cell.episodes[0].metrics.cohort.clone() };
        cell.episodes[0].metrics.streams.insert("logins".into(), seen);
        cell.episodes[0].metrics.all.traffic.denied = 77;
        let value = |metric, of: &str, cell: &Cell| {
            evaluate(&Gate { of: of.into(), ..gate(metric, AtMost, 0.0) }, cell).value
        };
        assert_eq!(value(Denied, "cohort", &cell), Some(124.0));
        assert_eq!(value(Denied, "all", &cell), Some(77.0));
        assert_eq!(value(Denied, "logins", &cell), Some(5.0));
        assert_eq!(value(Denied, "nobody", &cell), None);
        assert_eq!(value(JwksRequests, "cohort", &cell), Some(24.0));
        cell.episodes.clear();
        cell.metrics.all.denied = 3;
        assert_eq!(value(Denied, "cohort", &cell), Some(3.0), "without episodes, all traffic of the run");
        assert_eq!(value(TimeToRecover, "cohort", &cell), None, "nothing was there to recover from");
    }

    #[test]
    fn an_exposure_is_that_of_the_episodes_that_had_one_and_of_those_who_go_on_trying() {
        let mut cell = cell(&[recovered(0.0), recovered(0.0)]);
        cell.episodes[1] = sample::revocation().cells.remove(0).episodes.remove(0);
        cell.episodes[1].metrics.revocation_exposure.retain(|exposure| exposure.stream == "thief");
        let asked = gate(RevocationExposure, AtMost, 4.0);
        let result = evaluate(&asked, &cell);
        assert_eq!((result.state, result.value, result.episode), (Held, Some(0.494), Some(1)));
        let mut session = cell.episodes[1].metrics.revocation_exposure[0].clone();
        (session.stream, session.lasted) = ("sessions".into(), Lasting { seconds: 40.0, at_least: true });
        cell.episodes[1].metrics.revocation_exposure.push(session.clone());
        assert_eq!(evaluate(&asked, &cell).state, Held);
        let exposed = worst(&cell, RevocationExposure).map(|worst| (worst.value, worst.at_least));
        assert_eq!(exposed, Some((0.494, false)));
        cell.episodes[1].metrics.revocation_exposure = vec![session];
        assert_eq!(evaluate(&asked, &cell).state, Failed, "nobody else tried");
        cell.episodes[1].metrics.revocation_exposure.clear();
        assert_eq!(evaluate(&asked, &cell).state, Inconclusive);
        assert_eq!(worst(&cell, RevocationExposure), None);
    }

    #[test]
    fn nothing_measured_is_never_a_pass() {
        let mut cell = cell(&[recovered(0.0)]);
        cell.episodes[0].metrics.cohort.traffic = Traffic::default();
        cell.metrics.false_accepts.clear();
        for metric in [DeniedShare, PeakDeniedShare, Denied, FalseRejects, Failures, Latency, FalseAccepts] {
            assert_eq!(evaluate(&gate(metric, AtMost, 1e9), &cell).state, Inconclusive, "{metric:?}");
        }
    }

    #[test]
    fn every_metric_has_a_value_when_there_is_data() {
        let mut cell = sample::outage().cells.remove(0);
        let mut revocation = sample::revocation().cells.remove(0);
        cell.episodes[0].metrics.revocation_exposure =
            std::mem::take(&mut revocation.episodes[0].metrics.revocation_exposure);
        cell.episodes[0].metrics.flapping_s = Some([(0, 1.5)].into());
        for metric in Metric::ALL {
            assert!(evaluate(&gate(metric, AtMost, 0.0), &cell).value.is_some(), "{metric:?}");
        }
    }

    #[test]
    fn the_gravest_finding_is_the_verdict() {
        let late = Quantiles { p50: 1.0, p90: 2.0, p99: 35.0, p999: 40.0, max: 41.0 };
        let unknown = || gate(DeniedShare, AtMost, 1.0);
        let void =
            |record: &mut Record| record.cells[0].episodes[0].metrics.fidelity.lateness_ms = Some(late);
        let shed = |record: &mut Record| {
            let fidelity = &mut record.cells[0].episodes[0].metrics.fidelity;
            (fidelity.shed, fidelity.shed_share) = (52, 0.004);
        };
        let thin = |record: &mut Record| {
            record.cells[0].gates.push(Gate { of: "nobody".into(), ..unknown() }.into());
        };
        let failing = |record: &mut Record| record.cells[0].gates.push(gate(Denied, AtLeast, 1e6).into());
        let calm = |record: &mut Record| record.cells[0].gates.truncate(3);
        let aborted = |record: &mut Record| {
            (record.verdict, record.reasons) = (Verdict::Aborted, vec!["Stopped by Ctrl-C.".into()]);
        };
        let bare = |record: &mut Record| record.cells[0].gates.clear();
        let early = |record: &mut Record| record.cells[0].metrics.all.denied += 2;
        type Change<'a> = &'a dyn Fn(&mut Record);
        let table: [(&[Change<'_>], Verdict, &str); 9] = [
            (&[&calm], Verdict::Pass, ""),
            (&[&bare], Verdict::Pass, "No gate was set, so nothing could fail."),
            (&[&calm, &early], Verdict::Pass, "Denied before the first disturbance: 2 requests."),
            (
                &[&calm, &thin],
                Verdict::Inconclusive,
                "Too little data to say whether denied_share of nobody <= 100 %, in episode 1 (no-overlap rotation to key-2).",
            ),
            (
                &[&calm, &thin, &failing],
                Verdict::Fail,
                "Denied (cohort) is 124, 999,876 short of the limit of 1,000,000, in episode 1 (no-overlap rotation to key-2).",
            ),
            (
                &[],
                Verdict::Fail,
                "Time to recover (cohort) is 20.3 s, 10.3 s over the limit of 10 s, in episode 1 (no-overlap rotation to key-2).",
            ),
            (
                &[&failing, &void],
                Verdict::Void,
                "The generator sent 35 ms late at the 99th percentile, over the limit of 10 ms, in episode 1 (no-overlap rotation to key-2).",
            ),
            (
                &[&calm, &shed],
                Verdict::Void,
                "The generator could not send 52 requests, 0.4 % of the plan and over the limit of 0.1 %, in episode 1 (no-overlap rotation to key-2).",
            ),
            (&[&void, &failing, &aborted], Verdict::Aborted, "Stopped by Ctrl-C."),
        ];
        for (changes, verdict, reason) in table {
            let mut record = sample::no_overlap();
            changes.iter().for_each(|change| change(&mut record));
            judge(&mut record);
            assert_eq!(
                (record.verdict, record.reasons.first().map_or("", String::as_str)),
                (verdict, reason)
            );
            let once = record.clone();
            judge(&mut record);
            assert_eq!(record, once, "judging twice changes nothing");
        }
    }

    #[test]
    fn a_sweep_names_its_cells_and_not_all_of_its_reasons() {
        let mut record = sample::no_overlap();
        record.cells = vec![record.cells[0].clone(); 40];
        judge(&mut record);
        assert!(record.reasons[1].starts_with("Cell 2: time to recover"), "{}", record.reasons[1]);
        assert_eq!(record.reasons.last().unwrap(), "And 28 more.");
    }

    #[test]
    fn a_run_without_requests_says_nothing() {
        let mut record = sample::aborted();
        record.verdict = Verdict::Pass;
        judge(&mut record);
        assert_eq!(record.verdict, Verdict::Inconclusive);
        assert_eq!(record.reasons, ["Not one request was planned."]);
    }
}
