//! Windows as lines and areas that a screen can show: a few hundred columns, each with its least and greatest value.

use crate::record::Windows;

/// How many windows are put together where one alone holds too few requests for a share: from 1 s, 10 s or a minute they
/// lead to lengths that people count in.
const POOLS: [usize; 8] = [1, 3, 6, 12, 30, 60, 180, 360];

/// Shares of fewer requests than this jump between none and all.
const REQUESTS_MIN: u64 = 30;

/// More columns than this cannot be told apart at the width of a chart.
const COLUMNS_MAX: usize = 450;

/// A line through the windows that have a value, in pieces where some have none.
///
/// Few windows become steps, each as wide as its window; many become a column's least and greatest value in the order in
/// which they occurred, so that no spike is lost.
pub(super) fn line(windows: &Windows, value: impl Fn(usize) -> Option<f64>) -> Vec<Vec<(f64, f64)>> {
    trace(windows, value, |column, points| {
        if column.low == column.high {
            points.extend([(column.from, column.low), (column.to, column.low)]);
        } else {
            let (first, second) =
                if column.low_first { (column.low, column.high) } else { (column.high, column.low) };
            points.extend([(column.from, first), (column.from.midpoint(column.to), second)]);
        }
    })
}

/// The greatest values as steps, for an area below them.
pub(super) fn roof(windows: &Windows, value: impl Fn(usize) -> Option<f64>) -> Vec<Vec<(f64, f64)>> {
    trace(windows, value, |column, points| {
        points.extend([(column.from, column.high), (column.to, column.high)])
    })
}

/// The counts in windows so long that each holds enough requests for a share, on average; quantiles are left out.
pub(super) fn pooled(windows: &Windows) -> Windows {
    let total = windows.must_pass.iter().fold(0, |sum: u64, &count| sum.saturating_add(count));
    let enough = |pool: &usize| {
        let pools = windows.len().div_ceil(*pool) as u64;
        total >= REQUESTS_MIN.saturating_mul(pools)
    };
    let pool = POOLS.into_iter().find(enough).unwrap_or(1);
    let sums = |column: &[u64]| {
        column
            .chunks(pool)
            .map(|few| few.iter().fold(0, |sum: u64, &count| sum.saturating_add(count)))
            .collect()
    };
    Windows {
        width_s: windows.width_s * pool as f64,
        first_s: windows.first_s,
        requests: sums(&windows.requests),
        must_pass: sums(&windows.must_pass),
        false_rejects: sums(&windows.false_rejects),
        failures: sums(&windows.failures),
        cohort_must_pass: sums(&windows.cohort_must_pass),
        cohort_false_rejects: sums(&windows.cohort_false_rejects),
        cohort_failures: sums(&windows.cohort_failures),
        orphaned_rejects: sums(&windows.orphaned_rejects),
        false_accepts: sums(&windows.false_accepts),
        jwks_requests: sums(&windows.jwks_requests),
        token_requests: sums(&windows.token_requests),
        ..Windows::default()
    }
}

/// The windows in at most `rows` groups of equal length, as ranges of indices.
pub(super) fn groups(windows: &Windows, rows: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
    let len = windows.len();
    let size = len.div_ceil(rows).max(1);
    (0..len).step_by(size).map(move |start| start..len.min(start + size))
}

/// Some windows beside each other.
struct Column {
    from: f64,
    to: f64,
    low: f64,
    high: f64,
    low_first: bool,
}

fn trace(
    windows: &Windows,
    value: impl Fn(usize) -> Option<f64>,
    draw: impl Fn(&Column, &mut Vec<(f64, f64)>),
) -> Vec<Vec<(f64, f64)>> {
    let mut pieces = vec![Vec::new()];
    for group in groups(windows, COLUMNS_MAX) {
        let (from, to) = (windows.start_s(group.start), windows.start_s(group.end));
        let mut column: Option<Column> = None;
        for value in group.filter_map(&value).filter(|value| value.is_finite()) {
            match &mut column {
                None => column = Some(Column { from, to, low: value, high: value, low_first: true }),
                Some(column) if value < column.low => (column.low, column.low_first) = (value, false),
                Some(column) if value > column.high => (column.high, column.low_first) = (value, true),
                Some(_) => {}
            }
        }
        match (column, pieces.last_mut()) {
            (Some(column), Some(piece)) => draw(&column, piece),
            (None, Some(piece)) if !piece.is_empty() => pieces.push(Vec::new()),
            _ => {}
        }
    }
    pieces.iter().filter(|piece| !piece.is_empty()).map(|piece| without_middles(piece)).collect()
}

/// Leaves out points on a level stretch that are neither its start nor its end.
fn without_middles(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let is_middle = |index: usize| {
        index > 0
            && index + 1 < points.len()
            && points[index - 1].1 == points[index].1
            && points[index].1 == points[index + 1].1
    };
    (0..points.len()).filter(|&index| !is_middle(index)).map(|index| points[index]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn windows(len: usize) -> Windows {
        Windows { width_s: 1.0, first_s: 0.0, requests: vec![0; len], ..Windows::default() }
    }

    #[test]
    fn few_windows_become_steps_with_gaps() {
        let values = [Some(1.0), Some(1.0), Some(3.0), None, Some(2.0)];
        let pieces = line(&windows(5), |index| values[index]);
        assert_eq!(
            pieces,
            [vec![(0.0, 1.0), (2.0, 1.0), (2.0, 3.0), (3.0, 3.0)], vec![(4.0, 2.0), (5.0, 2.0)]]
        );
    }

    #[test]
    fn a_spike_of_one_window_in_a_day_is_kept() {
        let spike = |index| Some(if index == 40_000 { 9.0 } else { 0.0 });
        for pieces in [line(&windows(86_400), spike), roof(&windows(86_400), spike)] {
            let points = pieces.concat();
            assert!(points.iter().any(|&(x, y)| y == 9.0 && (x - 40_000.0).abs() < 200.0));
            assert!(points.len() < 10, "{}", points.len());
        }
    }

    #[test]
    fn windows_are_pooled_until_shares_mean_something() {
        let of = |width_s, per_window: u64| {
            let column = vec![per_window; 2_160];
            pooled(&Windows { width_s, must_pass: column.clone(), jwks_requests: column, ..windows(2_160) })
        };
        assert_eq!(of(1.0, 200).width_s, 1.0);
        assert_eq!(of(10.0, 2).width_s, 300.0);
        assert_eq!(of(10.0, 2).jwks_requests, [60; 72]);
        assert_eq!(of(1.0, 0).width_s, 1.0, "nothing is not made clearer by more of it");
        assert_eq!(pooled(&windows(0)).len(), 0);
    }

    #[test]
    fn noise_is_bounded() {
        let noise = |index: usize| Some((index.wrapping_mul(2_654_435_761) % 1_000) as f64);
        assert!(line(&windows(86_400), noise).concat().len() <= 2 * COLUMNS_MAX);
        assert!(line(&windows(0), noise).is_empty());
    }
}
