//! The verdict of a sweep, and the setting that it speaks for.

use std::cmp::Ordering;

use super::shortfall;
use crate::format;
use crate::record::{
    Comparison, Gate, GateResult, GateState, Metric, Recommended, Rule, Sweep, SweepCell, Verdict,
};
use crate::sweep;

/// Fills in the front and the recommended setting.
pub(super) fn judge(sweep: &mut Sweep) {
    sweep.front = front(&sweep.cells);
    sweep.recommended = recommended(sweep);
}

/// That of the worst cell, which is named.
pub(super) fn verdict(sweep: &Sweep) -> (Verdict, Vec<String>) {
    for (state, verdict, what) in [
        (GateState::Failed, Verdict::Fail, "failed"),
        (GateState::Inconclusive, Verdict::Inconclusive, "had too little data"),
    ] {
        let cells = (0..).zip(&sweep.cells);
        let bad: Vec<(usize, &SweepCell)> = cells.filter(|(_, cell)| misses(cell, state) > 0).collect();
        let Some((index, cell)) = bad.iter().copied().rev().max_by(|(_, a), (_, b)| by_badness(a, b, state))
        else {
            continue;
        };
        let share = format!("{} of {}", bad.len(), format::counted(sweep.cells.len() as u64, "cell"));
        let mut reasons = vec![format!("In {share} a gate {what}.")];
        for result in cell.gates.iter().filter(|result| result.state == state) {
            let name = sweep::name(sweep, cell);
            let place = result.episode.map(|episode| format!(", in episode {}", episode + 1));
            let reason = format!("{}{}", shortfall(result), place.unwrap_or_default());
            reasons.push(format::sentence(&format!("the worst is cell {} ({name}): {reason}", index + 1)));
        }
        return (verdict, reasons);
    }
    if sweep.cells.is_empty() {
        return (Verdict::Inconclusive, vec!["There is no cell.".into()]);
    }
    let ungated = sweep.cells.iter().all(|cell| cell.gates.is_empty());
    let remark = ungated.then(|| "No gate was set, so nothing could fail.".into());
    (Verdict::Pass, remark.into_iter().collect())
}

fn misses(cell: &SweepCell, state: GateState) -> usize {
    cell.gates.iter().filter(|result| result.state == state).count()
}

/// By the number of gates that came out like that, then by how far they were missed for their limits.
fn by_badness(a: &SweepCell, b: &SweepCell, state: GateState) -> Ordering {
    let missed = |result: &GateResult| {
        let limit = result.gate.limit.abs();
        result.margin.map_or(0.0, |margin| -margin / if limit > 0.0 { limit } else { 1.0 })
    };
    let furthest = |cell: &SweepCell| cell.gates.iter().map(missed).fold(0.0, f64::max);
    misses(a, state).cmp(&misses(b, state)).then_with(|| furthest(a).total_cmp(&furthest(b)))
}

/// The mean JWKS volume and the worst time to recover; a recovery that was not seen is longer than any.
fn costs(cell: &SweepCell) -> Option<(f64, f64)> {
    let recovery = cell.metrics.time_to_recover_s?;
    let worst = if recovery.open > 0 { f64::INFINITY } else { recovery.worst };
    Some((cell.metrics.jwks_requests?.mean, worst))
}

/// The cells that no other beats in both, by rising volume.
fn front(cells: &[SweepCell]) -> Vec<u32> {
    let mut known: Vec<(u32, (f64, f64))> =
        (0..).zip(cells).filter_map(|(index, cell)| Some((index, costs(cell)?))).collect();
    let order = |a: &(f64, f64), b: &(f64, f64)| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1));
    known.sort_by(|(_, a), (_, b)| order(a, b));
    let mut least: Option<f64> = None;
    known.retain(|(_, (_, time))| {
        let is_better = least.is_none_or(|least| *time < least);
        if is_better {
            least = Some(*time);
        }
        is_better
    });
    known.into_iter().map(|(index, _)| index).collect()
}

fn recommended(sweep: &Sweep) -> Option<Recommended> {
    let good: Vec<u32> = (0..).zip(&sweep.cells).filter(|(_, cell)| holds(cell)).map(|(i, _)| i).collect();
    let cell = |index: u32| sweep.cells.get(index as usize);
    let is_limited = sweep.cells.iter().flat_map(|cell| cell.gates.iter().chain(&cell.wishes));
    if is_limited.into_iter().any(|result| limits_denials(&result.gate)) {
        let with_costs = good.iter().filter_map(|index| Some((*index, costs(cell(*index)?)?)));
        let cheapest = with_costs.min_by(|(_, a), (_, b)| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
        if let Some((cell, _)) = cheapest {
            return Some(Recommended { cell, rule: Rule::LeastVolume });
        }
    }
    let sound: Vec<u32> = sweep.front.iter().copied().filter(|index| good.contains(index)).collect();
    let (among, rule) =
        if sound.is_empty() { (&sweep.front, Rule::KneeForWant) } else { (&sound, Rule::Knee) };
    Some(Recommended { cell: knee(sweep, among)?, rule })
}

/// Whether a cell holds all that is asked.
fn holds(cell: &SweepCell) -> bool {
    cell.gates.iter().chain(&cell.wishes).all(|result| result.state == GateState::Held)
}

/// Whether a gate says how many or how long denials may be.
fn limits_denials(gate: &Gate) -> bool {
    let upper = matches!(gate.comparison, Comparison::AtMost | Comparison::Below | Comparison::Exactly);
    let denials = matches!(
        gate.metric,
        Metric::TimeToRecover
            | Metric::RecoveryLag
            | Metric::BlackoutWorst
            | Metric::Denied
            | Metric::DeniedShare
            | Metric::PeakDeniedShare
            | Metric::FalseRejects
    );
    upper && denials
}

/// The cell that is nearest to neither volume nor time, both on logarithmic scales over the whole front.
fn knee(sweep: &Sweep, among: &[u32]) -> Option<u32> {
    let point = |index: u32| {
        let (volume, time) = costs(sweep.cells.get(index as usize)?)?;
        // What did not recover is as far as can be said.
        Some((volume.ln_1p(), if time.is_finite() { time.ln_1p() } else { f64::MAX.ln_1p() }))
    };
    let all: Vec<(f64, f64)> = sweep.front.iter().filter_map(|index| point(*index)).collect();
    let scale = |value: f64, values: &mut dyn Iterator<Item = f64>| {
        let (least, greatest) =
            values.fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), v| (a.min(v), b.max(v)));
        if greatest > least { (value - least) / (greatest - least) } else { 0.0 }
    };
    let distance = |index: u32| {
        let (volume, time) = point(index)?;
        let volume = scale(volume, &mut all.iter().map(|point| point.0));
        let time = scale(time, &mut all.iter().map(|point| point.1));
        Some(volume.hypot(time))
    };
    let distances = among.iter().filter_map(|index| Some((*index, distance(*index)?)));
    distances.min_by(|(_, a), (_, b)| a.total_cmp(b)).map(|(index, _)| index)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Sample;
    use crate::sample;

    fn sample(value: f64) -> Sample {
        Sample { mean: value, low: None, high: None, worst: value, replications: 1, open: 0 }
    }

    fn cell(volume: f64, time: f64, state: GateState) -> SweepCell {
        let gate = sample::gate(Metric::TimeToRecover, Comparison::AtMost, 60.0);
        let mut cell = sample::sweep().sweep.expect("a sweep").cells.remove(0);
        cell.metrics.jwks_requests = Some(sample(volume));
        cell.metrics.time_to_recover_s = Some(sample(time));
        cell.gates = vec![GateResult { state, value: Some(time), margin: Some(60.0 - time), ..gate.into() }];
        cell.wishes.clear();
        cell
    }

    fn sweep(cells: Vec<SweepCell>) -> Sweep {
        let mut sweep = Sweep { cells, ..sample::sweep().sweep.expect("a sweep") };
        judge(&mut sweep);
        sweep
    }

    #[test]
    fn the_front_holds_what_nothing_beats() {
        let mut open = cell(1.0, 9.0, GateState::Failed);
        open.metrics.time_to_recover_s.as_mut().unwrap().open = 1;
        let held = GateState::Held;
        let cells = vec![
            cell(50.0, 0.0, held),
            cell(10.0, 30.0, held),
            cell(20.0, 30.0, held),
            cell(10.0, 30.0, held),
            open,
            cell(60.0, 0.0, held),
        ];
        assert_eq!(sweep(cells).front, [4, 1, 0], "a recovery that was not seen is the longest");
    }

    #[test]
    fn with_a_limit_the_cheapest_that_holds_is_recommended() {
        let cells =
            [(5.0, 300.0, GateState::Failed), (10.0, 50.0, GateState::Held), (40.0, 0.0, GateState::Held)];
        let cells = cells.map(|(volume, time, state)| cell(volume, time, state)).to_vec();
        assert_eq!(sweep(cells).recommended, Some(Recommended { cell: 1, rule: Rule::LeastVolume }));
    }

    #[test]
    fn without_a_limit_the_knee_is_recommended() {
        let mut cells: Vec<SweepCell> = [(1.0, 1_000.0), (3.0, 5.0), (1_000.0, 0.0)]
            .map(|(volume, time)| cell(volume, time, GateState::Held))
            .to_vec();
        cells.iter_mut().for_each(|cell| cell.gates.clear());
        assert_eq!(sweep(cells).recommended, Some(Recommended { cell: 1, rule: Rule::Knee }));
    }

    #[test]
    fn where_nothing_holds_it_says_so() {
        let cells = vec![cell(5.0, 300.0, GateState::Failed), cell(9.0, 70.0, GateState::Failed)];
        let swept = sweep(cells);
        assert_eq!(swept.recommended.unwrap().rule, Rule::KneeForWant);
    }

    #[test]
    fn the_verdict_is_that_of_the_worst_cell_which_is_named() {
        let cells = vec![
            cell(5.0, 300.0, GateState::Failed),
            cell(9.0, 20.0, GateState::Held),
            cell(9.0, 900.0, GateState::Failed),
        ];
        let (verdict, reasons) = verdict(&sweep(cells));
        assert_eq!(verdict, Verdict::Fail);
        assert_eq!(reasons[0], "In 2 of 3 cells a gate failed.");
        assert!(
            reasons[1].starts_with("The worst is cell 3 (") && reasons[1].contains("15 min"),
            "{reasons:?}"
        );
    }

    #[test]
    fn no_number_makes_judging_panic() {
        for (volume, time) in [(f64::MAX, f64::MAX), (0.0, 0.0), (f64::MIN, f64::MIN_POSITIVE)] {
            let swept = sweep(vec![cell(volume, time, GateState::Held), cell(1.0, 1.0, GateState::Failed)]);
            assert!(swept.recommended.is_some() && !swept.front.is_empty());
        }
    }
}
