//! The two clocks of a validator, as types that cannot be mixed up: [`Time`] ages caches, [`UnixTime`] dates
//! claims. [`Span`] is a length of either, written with its unit.

use alloc::string::String;
use core::fmt;
use core::ops::{Add, Sub};
use core::str::FromStr;
use core::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// A moment on the scenario's clock: nanoseconds since the start of event time.
///
/// It is signed, so that a cache can be older than the run and warm-up can lie before zero. Arithmetic saturates:
/// [`Time::NEVER`] plus or minus anything finite stays out of reach.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(i64);

impl Time {
    /// The start of event time.
    pub const ZERO: Self = Self(0);
    /// A moment that does not come.
    pub const NEVER: Self = Self(i64::MAX);

    /// The moment `nanos` nanoseconds after the start of event time (before it when negative).
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the start of event time.
    pub const fn as_nanos(self) -> i64 {
        self.0
    }

    /// Seconds since the start of event time, for reports.
    #[inline]
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / NANOS_PER_SECOND as f64
    }

    /// How long ago `earlier` was; zero when it is still to come.
    #[inline]
    pub fn since(self, earlier: Self) -> Span {
        // A difference that is not negative fits into 64 bits without a sign.
        Span(if earlier < self { self.0.wrapping_sub(earlier.0).cast_unsigned() } else { 0 })
    }

    /// The moment that lies to `there` as it lies to `here`.
    pub(crate) fn seen_from(self, here: Self, there: Self) -> Self {
        if self == Self::NEVER { self } else { Self(self.0.saturating_sub(here.0).saturating_add(there.0)) }
    }
}

impl Add<Span> for Time {
    type Output = Self;

    #[inline]
    fn add(self, span: Span) -> Self {
        if self == Self::NEVER || span == Span::INFINITE {
            return Self::NEVER;
        }
        Self(self.0.saturating_add_unsigned(span.0))
    }
}

impl Sub<Span> for Time {
    type Output = Self;

    #[inline]
    fn sub(self, span: Span) -> Self {
        if self == Self::NEVER {
            return Self::NEVER;
        }
        Self(self.0.saturating_sub_unsigned(span.0))
    }
}

/// A moment in the time of claims: seconds since 1970 (RFC 7519 section 2, `NumericDate`), whole seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixTime(pub i64);

impl Add<Span> for UnixTime {
    type Output = Self;

    /// Adds the whole seconds of `span`.
    fn add(self, span: Span) -> Self {
        Self(self.0.saturating_add_unsigned(span.as_secs()))
    }
}

impl Sub<Span> for UnixTime {
    type Output = Self;

    /// Subtracts the whole seconds of `span`.
    fn sub(self, span: Span) -> Self {
        Self(self.0.saturating_sub_unsigned(span.as_secs()))
    }
}

/// A length of time, never negative. Written `500ms`, `1m30s`, `1.5h`, `7d` or `inf`; a bare number is refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(u64);

impl Span {
    /// No time at all.
    pub const ZERO: Self = Self(0);
    /// Longer than any run.
    pub const INFINITE: Self = Self(u64::MAX);

    /// A span of `nanos` nanoseconds.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// A span of `millis` milliseconds, saturating.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis.saturating_mul(1_000_000))
    }

    /// A span of `secs` seconds, saturating.
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs.saturating_mul(NANOS_PER_SECOND))
    }

    /// The whole span in nanoseconds.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// The whole seconds of the span.
    pub const fn as_secs(self) -> u64 {
        self.0 / NANOS_PER_SECOND
    }

    /// The whole span in seconds, for reports; infinite for [`Span::INFINITE`].
    #[inline]
    pub fn as_secs_f64(self) -> f64 {
        if self == Self::INFINITE { f64::INFINITY } else { self.0 as f64 / NANOS_PER_SECOND as f64 }
    }

    /// Whether this is [`Span::INFINITE`].
    pub const fn is_infinite(self) -> bool {
        self.0 == u64::MAX
    }

    /// The sum, [`Span::INFINITE`] when it does not fit.
    pub const fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// The difference, zero when `other` is longer. Infinity minus anything finite is infinite.
    pub const fn saturating_sub(self, other: Self) -> Self {
        if self.is_infinite() && !other.is_infinite() {
            return self;
        }
        Self(self.0.saturating_sub(other.0))
    }

    /// This span times a factor that is finite and not negative; infinite stays infinite.
    #[inline]
    pub fn scale(self, factor: f64) -> Self {
        if self.is_infinite() {
            return self;
        }
        // A float to integer cast saturates, and a product that is not a number becomes zero.
        Self((self.0 as f64 * factor) as u64)
    }
}

impl From<Span> for Duration {
    /// A span as the standard library's duration; infinite becomes about 584 years.
    fn from(span: Span) -> Self {
        Self::from_nanos(span.0)
    }
}

const UNITS: [(&str, u64); 7] = [
    ("d", 86_400 * NANOS_PER_SECOND),
    ("h", 3_600 * NANOS_PER_SECOND),
    ("m", 60 * NANOS_PER_SECOND),
    ("s", NANOS_PER_SECOND),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

impl fmt::Display for Span {
    /// The shortest exact spelling: `1m30s`, `250ms`, `0s`, `inf`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => return f.write_str("0s"),
            u64::MAX => return f.write_str("inf"),
            _ => {}
        }
        let mut rest = self.0;
        for (unit, nanos) in UNITS {
            if rest >= nanos {
                write!(f, "{}{unit}", rest / nanos)?;
                rest %= nanos;
            }
        }
        Ok(())
    }
}

/// Why a text is not a [`Span`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpanError {
    /// The text is empty or has no digits where a number should be.
    #[error("expected a duration like `30s`, `1m30s` or `inf`")]
    NotANumber,
    /// A number without a unit; zero has none either.
    #[error("a duration needs a unit: `ns`, `us`, `ms`, `s`, `m`, `h` or `d`")]
    MissingUnit,
    /// A unit that is not one of ours.
    #[error("unknown unit of time; the units are `ns`, `us`, `ms`, `s`, `m`, `h` and `d`")]
    UnknownUnit,
    /// More than about 292 years.
    #[error("the duration is too long; write `inf` for one that never ends")]
    TooLong,
}

impl FromStr for Span {
    type Err = SpanError;

    fn from_str(text: &str) -> Result<Self, SpanError> {
        let mut rest = text.trim();
        if rest == "inf" {
            return Ok(Self::INFINITE);
        }
        if rest.is_empty() {
            return Err(SpanError::NotANumber);
        }
        let mut total = 0_u64;
        while !rest.is_empty() {
            let (nanos, tail) = leading_part(rest)?;
            total = total.checked_add(nanos).ok_or(SpanError::TooLong)?;
            rest = tail.trim_start();
        }
        if total > i64::MAX as u64 {
            return Err(SpanError::TooLong);
        }
        Ok(Self(total))
    }
}

/// Reads one `number unit` part and returns its nanoseconds and what follows it.
fn leading_part(text: &str) -> Result<(u64, &str), SpanError> {
    let number_end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, rest) = text.split_at(number_end);
    let unit_end = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
    let (unit, tail) = rest.split_at(unit_end);

    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || (number.contains('.') && fraction.is_empty()) {
        return Err(SpanError::NotANumber);
    }
    if unit.is_empty() {
        return Err(SpanError::MissingUnit);
    }
    let (_, nanos) = UNITS.into_iter().find(|(name, _)| *name == unit).ok_or(SpanError::UnknownUnit)?;
    let whole: u64 = whole.parse().map_err(|_| SpanError::TooLong)?;
    let mut total = whole.checked_mul(nanos).ok_or(SpanError::TooLong)?;
    let mut scale = nanos;
    for digit in fraction.chars() {
        scale /= 10;
        let digit = u64::from(digit.to_digit(10).ok_or(SpanError::NotANumber)?);
        total = total.checked_add(digit * scale).ok_or(SpanError::TooLong)?;
    }
    Ok((total, tail))
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = Span;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration with its unit, like \"30s\" or \"inf\"")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Span, E> {
                text.parse().map_err(|error: SpanError| {
                    use alloc::string::ToString;
                    let message: String = error.to_string();
                    E::custom(message)
                })
            }
        }

        deserializer.deserialize_str(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::string::ToString;

    #[test]
    fn spans_are_read_with_their_units() {
        let read = |text: &str| text.parse::<Span>().map(Span::as_nanos);
        assert_eq!(read("30s"), Ok(30_000_000_000));
        assert_eq!(read("1m30s"), Ok(90_000_000_000));
        assert_eq!(read("1m 30s"), Ok(90_000_000_000));
        assert_eq!(read("1.5h"), Ok(5_400_000_000_000));
        assert_eq!(read("0s"), Ok(0));
        assert_eq!(read("inf"), Ok(u64::MAX));
    }

    #[test]
    fn a_span_without_a_unit_is_refused() {
        let read = |text: &str| text.parse::<Span>();
        assert_eq!(read("30"), Err(SpanError::MissingUnit));
        assert_eq!(read("0"), Err(SpanError::MissingUnit));
        assert_eq!(read("30 s s"), Err(SpanError::MissingUnit));
        assert_eq!(read("3 fortnights"), Err(SpanError::MissingUnit));
        assert_eq!(read("3w"), Err(SpanError::UnknownUnit));
        assert_eq!(read(""), Err(SpanError::NotANumber));
        assert_eq!(read("-3s"), Err(SpanError::NotANumber));
        assert_eq!(read("1.s"), Err(SpanError::NotANumber));
        assert_eq!(read("1.2.3s"), Err(SpanError::NotANumber));
        assert_eq!(read("999999999999d"), Err(SpanError::TooLong));
    }

    #[test]
    fn never_stays_never() {
        assert_eq!(Time::NEVER - Span::from_secs(1), Time::NEVER);
        assert_eq!(Time::from_nanos(-5) + Span::INFINITE, Time::NEVER);
        assert_eq!(Time::from_nanos(-5).since(Time::ZERO), Span::ZERO);
        assert_eq!(Time::ZERO.since(Time::from_nanos(-5)), Span::from_nanos(5));
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(nanos in 0..i64::MAX as u64) {
            let span = Span::from_nanos(nanos);
            prop_assert_eq!(span.to_string().parse(), Ok(span));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,12}") {
            let _ = text.parse::<Span>();
        }
    }
}
