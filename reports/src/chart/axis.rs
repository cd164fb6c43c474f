//! Axes with ticks where a person would put them.

use std::ops::Range;

use plotters::coord::ranged1d::{KeyPointHint, KeyPointWeight, NoDefaultFormatting, Ranged, ValueFormatter};

use crate::format;

/// The steps of a scale of seconds, up to a month.
const TIME_STEPS: [f64; 27] = [
    0.001,
    0.01,
    0.1,
    0.2,
    0.5,
    1.0,
    2.0,
    5.0,
    10.0,
    15.0,
    30.0,
    60.0,
    120.0,
    300.0,
    600.0,
    900.0,
    1_800.0,
    3_600.0,
    7_200.0,
    10_800.0,
    21_600.0,
    43_200.0,
    86_400.0,
    172_800.0,
    432_000.0,
    864_000.0,
    2_592_000.0,
];

/// The end of logarithmic axes: no record holds more.
const SECONDS_MAX: f64 = 1e11;

/// How many ticks of time fit beside each other.
const TIME_TICKS_MAX: f64 = 10.0;

/// A range of values with the places and names of its ticks.
#[derive(Clone)]
pub(super) struct Axis {
    pub(super) from: f64,
    pub(super) to: f64,
    pub(super) ticks: Vec<f64>,
    pub(super) label: fn(f64) -> String,
}

impl Axis {
    /// Scenario time in seconds.
    pub(super) fn time(from: f64, to: f64) -> Self {
        let to = if to > from { to } else { from + 1.0 };
        let fits = |step: &f64| (to - from) / step <= TIME_TICKS_MAX;
        let step =
            TIME_STEPS.into_iter().find(fits).unwrap_or_else(|| step_125((to - from) / TIME_TICKS_MAX));
        Self { from, to, ticks: multiples(step, from, to), label: clock }
    }

    /// Shares from none to at least `max`.
    pub(super) fn share(max: f64) -> Self {
        let tops = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0];
        let to = tops.into_iter().find(|&top| top >= max).unwrap_or(1.0);
        Self { from: 0.0, to, ticks: multiples(to / 4.0, 0.0, to), label: format::share }
    }

    /// Numbers from none to at least `max`.
    pub(super) fn number(max: f64) -> Self {
        let step = step_125(max.max(1.0) / 3.0).max(if max > 2.0 { 1.0 } else { 0.5 });
        let to = (max.max(1.0) / step).ceil() * step;
        Self { from: 0.0, to, ticks: multiples(step, 0.0, to), label: |number| plain_number(number) }
    }

    /// Milliseconds on a logarithmic scale: values are drawn at their decadic logarithm.
    pub(super) fn log_milliseconds(min: f64, max: f64) -> Self {
        let (min, max) = (min.clamp(1e-3, 1e9), max.clamp(1e-3, 1e9));
        let (from, to) = (min.log10().floor(), max.log10().ceil());
        let to = if to > from { to } else { from + 1.0 };
        let marks: &[f64] = if to - from > 2.0 { &[1.0] } else { &[1.0, 2.0, 5.0] };
        let decades = (from as i32..=to as i32).map(f64::from);
        let ticks = decades.flat_map(|decade| marks.iter().map(move |mark| decade + mark.log10()));
        let ticks = ticks.filter(|&tick| tick <= to + 1e-9).collect();
        Self { from, to, ticks, label: |decade| format::milliseconds(10_f64.powf(decade)) }
    }

    /// Seconds from none on, at the decadic logarithm of one more than they are.
    pub(super) fn log_time(max: f64) -> Self {
        let marks =
            [0.0, 1.0, 10.0, 60.0, 600.0, 3_600.0, 21_600.0, 86_400.0, 864_000.0, 8_640_000.0, SECONDS_MAX];
        Self::log_of_one_more((0.0, max), &marks, |log| clock(from_log(log)))
    }

    /// Numbers, at the decadic logarithm of one more than they are.
    pub(super) fn log_number(min: f64, max: f64) -> Self {
        let decades = (0..=11).map(|decade| 10_f64.powi(decade));
        let marks = decades.flat_map(|decade| [1.0, 2.0, 5.0].map(|mark| mark * decade));
        let is_wide = (1.0 + max) / (1.0 + min) > 500.0;
        let is_shown = |mark: &f64| !is_wide || mark.log10().fract() == 0.0;
        let marks: Vec<f64> = [0.0].into_iter().chain(marks.filter(is_shown)).collect();
        Self::log_of_one_more((min, max), &marks, |log| plain_number(from_log(log)))
    }

    fn log_of_one_more((min, max): (f64, f64), marks: &[f64], label: fn(f64) -> String) -> Self {
        let bounded = |value: f64| if value.is_nan() { 0.0 } else { value.clamp(0.0, SECONDS_MAX) };
        let log = |value: f64| value.ln_1p() / std::f64::consts::LN_10;
        let (from, to) = (log(bounded(min) / 1.5), log(bounded(max).max(1.0) * 1.15));
        let ticks = marks.iter().map(|mark| log(*mark)).filter(|tick| (from..=to).contains(tick));
        Self { from, to, ticks: ticks.collect(), label }
    }

    /// Where a value lies between the ends, from zero to one; beyond them, the end.
    pub(super) fn fraction(&self, value: f64) -> f64 {
        ((value - self.from) / (self.to - self.from)).clamp(0.0, 1.0)
    }
}

impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (start, end): (i32, i32)) -> i32 {
        start + (self.fraction(*value) * f64::from(end - start)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        match hint.weight() {
            KeyPointWeight::Bold => self.ticks.clone(),
            KeyPointWeight::Any => Vec::new(),
        }
    }

    fn range(&self) -> Range<f64> {
        self.from..self.to
    }
}

impl ValueFormatter<f64> for Axis {
    fn format_ext(&self, value: &f64) -> String {
        (self.label)(*value)
    }
}

/// The number whose logarithm, of one more than it is, an axis holds.
fn from_log(log: f64) -> f64 {
    let number = 10_f64.powf(log) - 1.0;
    // Whole where it was, whatever the logarithm lost.
    if (number - number.round()).abs() < number.abs() * 1e-9 + 1e-9 { number.round() } else { number }
}

/// The least of 1, 2 and 5 times a power of ten that is not below `step`.
fn step_125(step: f64) -> f64 {
    let decade = 10_f64.powf(step.log10().floor());
    let mark = [1.0, 2.0, 5.0, 10.0].into_iter().find(|mark| mark * decade >= step * 0.999).unwrap_or(10.0);
    mark * decade
}

fn multiples(step: f64, from: f64, to: f64) -> Vec<f64> {
    let (first, last) = ((from / step - 1e-6).ceil() as i64, (to / step + 1e-6).floor() as i64);
    (first..=last).take(100).map(|multiple| multiple as f64 * step).collect()
}

/// A moment of scenario time as ticks name it: `30 s`, `2 min`, `1 h 30 min`.
fn clock(seconds: f64) -> String {
    match seconds {
        s if s < 0.0 => format!("-{}", clock(-s)),
        s if s < 60.0 => format::seconds(s),
        s if s < 7_200.0 && s % 60.0 == 0.0 && s % 3_600.0 != 0.0 => format!("{} min", s / 60.0),
        s if s < 7_200.0 && s % 3_600.0 == 0.0 => format!("{} h", s / 3_600.0),
        s if s < 120.0 => format!("1 min {} s", s - 60.0),
        s => format::seconds(s),
    }
}

fn plain_number(number: f64) -> String {
    if number.fract() == 0.0 { format::count(number as u64) } else { number.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis) -> Vec<String> {
        axis.ticks.iter().map(|&tick| (axis.label)(tick)).collect()
    }

    #[test]
    fn time_has_ticks_that_people_count_in() {
        let table = [
            ((-10.0, 60.0), "-10 s, 0 s, 10 s, 20 s, 30 s, 40 s, 50 s, 1 min"),
            ((0.0, 240.0), "0 s, 30 s, 1 min, 1 min 30 s, 2 min, 2 min 30 s, 3 min, 3 min 30 s, 4 min"),
            ((0.0, 1_800.0), "0 s, 5 min, 10 min, 15 min, 20 min, 25 min, 30 min"),
            ((-300.0, 21_600.0), "0 s, 1 h, 2 h, 3 h, 4 h, 5 h, 6 h"),
            ((0.0, 86_400.0), "0 s, 3 h, 6 h, 9 h, 12 h, 15 h, 18 h, 21 h, 24 h"),
        ];
        for ((from, to), expected) in table {
            assert_eq!(labels(&Axis::time(from, to)).join(", "), expected);
        }
    }

    #[test]
    fn values_have_few_round_ticks() {
        assert_eq!(labels(&Axis::share(0.83)).join(", "), "0 %, 25 %, 50 %, 75 %, 100 %");
        assert_eq!(labels(&Axis::share(0.0)).join(", "), "0 %, 0.25 %, 0.5 %, 0.75 %, 1 %");
        assert_eq!(labels(&Axis::number(27.0)).join(", "), "0, 10, 20, 30");
        assert_eq!(labels(&Axis::number(0.0)).join(", "), "0, 0.5, 1");
        assert_eq!(labels(&Axis::log_milliseconds(0.4, 30.0)).join(", "), "0.1 ms, 1 ms, 10 ms, 100 ms");
        assert_eq!(
            labels(&Axis::log_milliseconds(1.5, 30.0)).join(", "),
            "1 ms, 2 ms, 5 ms, 10 ms, 20 ms, 50 ms, 100 ms"
        );
    }

    #[test]
    fn logarithms_of_one_more_begin_at_none() {
        assert_eq!(labels(&Axis::log_time(900.0)).join(", "), "0 s, 1 s, 10 s, 1 min, 10 min");
        assert_eq!(labels(&Axis::log_number(0.0, 90.0)).join(", "), "0, 1, 2, 5, 10, 20, 50, 100");
        assert_eq!(labels(&Axis::log_number(60.0, 260.0)).join(", "), "50, 100, 200");
        assert_eq!(labels(&Axis::log_number(0.0, 9e3)).join(", "), "0, 1, 10, 100, 1,000, 10,000");
        for (min, max) in [(f64::NAN, f64::NAN), (9e9, 1.0), (0.0, f64::MAX)] {
            let axis = Axis::log_number(min, max);
            assert!(axis.ticks.len() < 40 && axis.to.is_finite() && axis.from.is_finite());
        }
    }

    #[test]
    fn no_range_yields_more_ticks_than_can_be_drawn() {
        for (from, to) in [(0.0, 0.0), (5.0, 1.0), (-1e11, 1e11), (0.0, 1e-6)] {
            let axis = Axis::time(from, to);
            assert!(axis.to > axis.from && axis.ticks.len() <= 100, "{from}..{to}: {}", axis.ticks.len());
        }
        assert!(Axis::number(u64::MAX as f64).ticks.len() <= 10);
        assert!(Axis::log_milliseconds(0.0, f64::MAX).ticks.len() <= 20);
    }
}
