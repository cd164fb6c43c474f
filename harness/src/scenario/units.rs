//! Quantities as scenario files write them: a number always has its unit.

use std::fmt;
use std::str::FromStr;

use keyquake_core::Span;
use serde::{Deserialize, Deserializer, de};

/// Events per scenario time: `200/s`, `5/min`, `50/10s`.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub(crate) struct Rate {
    per_second: f64,
}

impl Rate {
    pub(crate) fn per_second(self) -> f64 {
        self.per_second
    }
}

impl FromStr for Rate {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (count, per) = text.split_once('/').ok_or("expected a rate like `200/s` or `5/min`")?;
        let count: f64 = decimal(count).ok_or("expected a number before the `/` of a rate")?;
        let per = match per.trim() {
            "min" => "1m".parse(),
            per if per.starts_with(|c: char| c.is_ascii_digit()) => per.parse(),
            per => format!("1{per}").parse::<Span>(),
        };
        let seconds = per.map_err(|_| "expected a unit of time after the `/` of a rate")?.as_secs_f64();
        let per_second = count / seconds;
        if !per_second.is_finite() || !seconds.is_finite() {
            return Err("the rate is not finite");
        }
        Ok(Self { per_second })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/s", self.per_second)
    }
}

/// A length of time that may be negative: `24h`, `-3s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SignedSpan {
    pub(crate) negative: bool,
    pub(crate) length: Span,
}

impl FromStr for SignedSpan {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let negative = text.starts_with('-');
        let length = text.trim_start_matches('-').parse().map_err(|error| format!("{error}"))?;
        Ok(Self { negative, length })
    }
}

impl fmt::Display for SignedSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.negative { "-" } else { "" };
        write!(f, "{sign}{}", self.length)
    }
}

/// A plain decimal number, neither signed nor in scientific notation.
fn decimal(text: &str) -> Option<f64> {
    let text = text.trim();
    let plain = !text.is_empty() && text.chars().all(|c| c.is_ascii_digit() || c == '.');
    plain.then(|| text.parse().ok()).flatten()
}

/// Reads a quantity from a string, and says what it should look like when something else stands there.
pub(super) fn from_text<'de, D, Q>(deserializer: D, expecting: &'static str) -> Result<Q, D::Error>
where
    D: Deserializer<'de>,
    Q: FromStr,
    Q::Err: fmt::Display,
{
    struct Visitor<Q>(&'static str, std::marker::PhantomData<Q>);

    impl<Q: FromStr> de::Visitor<'_> for Visitor<Q>
    where
        Q::Err: fmt::Display,
    {
        type Value = Q;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<Q, E> {
            text.parse().map_err(E::custom)
        }
    }

    deserializer.deserialize_str(Visitor(expecting, std::marker::PhantomData))
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_text(deserializer, "a rate with its unit, like \"200/s\"")
    }
}

impl<'de> Deserialize<'de> for SignedSpan {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_text(deserializer, "a duration with its unit, like \"30s\" or \"-3s\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_with_their_units() {
        let read = |text: &str| text.parse::<Rate>().map(Rate::per_second);
        assert_eq!(read("200/s"), Ok(200.0));
        assert_eq!(read("30/min"), Ok(0.5));
        assert_eq!(read("30/m"), Ok(0.5));
        assert_eq!(read("50/10s"), Ok(5.0));
        assert_eq!(read("0.5/s"), Ok(0.5));
        for wrong in ["200", "200/", "/s", "-1/s", "1e9/s", "1/0s", "1/inf", "1/fortnight", ""] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_lead_may_be_negative() {
        let read = |text: &str| text.parse::<SignedSpan>();
        assert_eq!(read("-3s"), Ok(SignedSpan { negative: true, length: Span::from_secs(3) }));
        assert_eq!(read("24h"), Ok(SignedSpan { negative: false, length: Span::from_secs(86_400) }));
        assert!(read("-3").is_err());
    }
}
