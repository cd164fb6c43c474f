//! Ranges of quantities: `1m..6h`, `5/s..50/s`, `0%..10%`, `1..64`; and points within them.

use std::str::FromStr;

use keyquake_core::Span;
use keyquake_idp::Share;

use super::units::{Rate, SignedSpan};

/// The most points of a range.
const MAX_POINTS: u32 = 1_000;
/// The smallest tolerance.
const MIN_STEP: f64 = 0.001;
/// How many figures of a point within a range are kept.
const FIGURES: i32 = 3;

/// What a number counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// In seconds.
    Duration,
    /// Per second.
    Rate,
    /// In hundredths.
    Share,
    Whole,
    Number,
}

/// Two quantities of one kind, the lesser first.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Range {
    kind: Kind,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

/// The values of `1m..6h:log5`, the ends among them.
pub(super) fn points(text: &str) -> Result<Vec<String>, String> {
    let (range, spread) = text.rsplit_once(':').ok_or("expected `lo..hi:logN` or `lo..hi:linN`")?;
    let range: Range = range.parse()?;
    let spread = spread.trim();
    let (is_log, count) = match (spread.strip_prefix("log"), spread.strip_prefix("lin")) {
        (Some(count), _) => (true, count),
        (_, Some(count)) => (false, count),
        _ => {
            return Err(format!(
                "after the `:` comes `log` or `lin` and a number of values, and not `{spread}`"
            ));
        }
    };
    let count = count.parse().ok().filter(|count| (2..=MAX_POINTS).contains(count));
    let count: u32 =
        count.ok_or_else(|| format!("the number of values must lie between 2 and {MAX_POINTS}"))?;
    if is_log && range.low <= 0.0 {
        return Err("a logarithmic range begins above zero; `lin` may begin anywhere".to_owned());
    }
    let mut values: Vec<String> = (0..count).map(|n| range.shown(range.point(n, count, is_log))).collect();
    values.dedup();
    if values.len() < count as usize {
        return Err(format!("there are no {count} values in it that differ in {FIGURES} figures"));
    }
    Ok(values)
}

impl Range {
    fn width(self) -> f64 {
        self.high - self.low
    }

    /// A thousandth of it, or the least step of its kind.
    pub(crate) fn thousandth(self) -> f64 {
        let least = if self.kind == Kind::Whole { 1.0 } else { 0.0 };
        rounded((self.width() / 1_000.0).max(least))
    }

    /// A quantity of the same kind, above zero.
    ///
    /// # Errors
    ///
    /// What is wrong, in words.
    pub(crate) fn step(self, text: &str) -> Result<f64, String> {
        let (kind, step) = quantity(text)?;
        if kind != self.kind && !(kind == Kind::Whole && self.kind == Kind::Number) {
            return Err(format!("`{}` is no quantity like those of the range", text.trim()));
        }
        if step >= MIN_STEP {
            Ok(step)
        } else {
            Err("it must be above zero, by a thousandth at least".to_owned())
        }
    }

    /// A value of its kind, as a scenario writes it.
    pub(crate) fn shown(self, value: f64) -> String {
        match self.kind {
            Kind::Duration => {
                let sign = if value < 0.0 { "-" } else { "" };
                format!("{sign}{}", Span::from_nanos((value.abs() * 1e9).round() as u64))
            }
            Kind::Rate => format!("{value}/s"),
            Kind::Share => Share::percent(value).to_string(),
            Kind::Whole => format!("{value:.0}"),
            // With its point, or TOML takes it for an integer.
            Kind::Number => format!("{value:?}"),
        }
    }

    /// Half way between two values that are further apart than the tolerance, and no finer written than that.
    pub(crate) fn between(self, low: f64, high: f64, tolerance: f64) -> f64 {
        let step = libm::pow(10.0, libm::floor(libm::log10(tolerance)));
        // Steps below one are not exact, and their number is.
        let middle = f64::midpoint(low, high);
        let middle = if step < 1.0 {
            (middle * (1.0 / step).round()).round() / (1.0 / step).round()
        } else {
            (middle / step).round() * step
        };
        if self.kind == Kind::Whole { middle.round() } else { middle }
    }

    fn point(self, number: u32, count: u32, is_log: bool) -> f64 {
        let part = f64::from(number) / f64::from(count - 1);
        let value = match number {
            0 => return self.low,
            _ if number + 1 == count => return self.high,
            _ if is_log => self.low * libm::pow(self.high / self.low, part),
            _ => self.low + self.width() * part,
        };
        if self.kind == Kind::Whole { value.round() } else { rounded(value) }
    }
}

impl FromStr for Range {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (low, high) = text.split_once("..").ok_or("expected a range like `1m..6h`")?;
        let ((low_kind, low), (high_kind, high)) = (quantity(low)?, quantity(high)?);
        let kind = match (low_kind, high_kind) {
            (low, high) if low == high => low,
            (Kind::Whole, Kind::Number) | (Kind::Number, Kind::Whole) => Kind::Number,
            _ => return Err("its ends are not of one kind: give both the same unit".to_owned()),
        };
        if low < high {
            Ok(Self { kind, low, high })
        } else {
            Err("the range must begin below its end".to_owned())
        }
    }
}

/// A quantity, of the kind that its unit says.
fn quantity(text: &str) -> Result<(Kind, f64), String> {
    let text = text.trim();
    if let Ok(whole) = text.parse::<i32>() {
        return Ok((Kind::Whole, f64::from(whole)));
    }
    if let Some(number) = text.parse().ok().filter(|number: &f64| number.is_finite()) {
        return Ok((Kind::Number, number));
    }
    if text.ends_with('%') {
        let share: Share = text.parse().map_err(|error| format!("`{text}`: {error}"))?;
        return Ok((Kind::Share, share.fraction() * 100.0));
    }
    if text.contains('/') {
        let rate: Rate = text.parse().map_err(|error| format!("`{text}`: {error}"))?;
        return Ok((Kind::Rate, rate.per_second()));
    }
    let SignedSpan { negative, length } = text.parse().map_err(|error| format!("`{text}`: {error}"))?;
    if length.is_infinite() {
        return Err("a range must be finite".to_owned());
    }
    let seconds = length.as_secs_f64();
    Ok((Kind::Duration, if negative { -seconds } else { seconds }))
}

/// To [`FIGURES`] figures.
fn rounded(value: f64) -> f64 {
    if value == 0.0 {
        return 0.0;
    }
    let digits = FIGURES - 1 - libm::floor(libm::log10(value.abs())) as i32;
    let scale = libm::pow(10.0, f64::from(digits.abs()));
    if digits < 0 { (value / scale).round() * scale } else { (value * scale).round() / scale }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_have_units_and_include_the_ends() {
        let table = [
            ("1m..6h:log5", "1m, 4m21s, 19m, 1h22m40s, 6h"),
            ("0s..1m:lin4", "0s, 20s, 40s, 1m"),
            ("-3s..3s:lin3", "-3s, 0s, 3s"),
            ("1/s..100/s:log3", "1/s, 10/s, 100/s"),
            ("6/min..1/s:lin2", "0.1/s, 1/s"),
            ("0%..10%:lin3", "0%, 5%, 10%"),
            ("1..64:log7", "1, 2, 4, 8, 16, 32, 64"),
            ("0..0.5:lin3", "0.0, 0.25, 0.5"),
        ];
        for (text, expected) in table {
            assert_eq!(points(text).map(|points| points.join(", ")), Ok(expected.to_owned()), "{text}");
        }
    }

    #[test]
    fn impossible_ranges_are_refused_with_a_reason() {
        let table = [
            ("1m..6h", "expected `lo..hi:logN`"),
            ("1m:log5", "expected a range"),
            ("6h..1m:log5", "begin below its end"),
            ("1m..1m:lin2", "begin below its end"),
            ("1m..6h:log1", "between 2 and 1000"),
            ("1m..6h:log9999", "between 2 and 1000"),
            ("1m..6h:5", "`log` or `lin`"),
            ("0s..6h:log5", "begins above zero"),
            ("1m..6/s:lin5", "not of one kind"),
            ("1m..5%:lin5", "not of one kind"),
            ("1..6h:lin5", "not of one kind"),
            ("1m..inf:log5", "finite"),
            ("1m..5parsecs:log5", "unknown unit of time"),
            ("1..3:lin5", "no 5 values"),
            ("0%..200%:lin3", "between 0% and 100%"),
        ];
        for (text, expected) in table {
            let error = points(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn what_is_half_way_is_written_and_read_back() {
        let range: Range = "0s..1h".parse().unwrap();
        assert_eq!(range.shown(range.between(0.0, 3_600.0, 1.0)), "30m");
        assert_eq!(range.shown(range.between(10.0, 11.7, 0.5)), "10s900ms");
        assert_eq!(range.shown(range.between(130.0, 167.0, 15.0)), "2m30s");
        let whole: Range = "1..64".parse().unwrap();
        assert_eq!(whole.shown(whole.between(1.0, 4.0, 1.0)), "3");
        assert!(range.step("5%").is_err() && range.step("0s").is_err());
        assert_eq!(range.step("5s"), Ok(5.0));
    }
}
