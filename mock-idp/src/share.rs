//! A part of a whole, as people write it: `5%`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

const WHOLE: u32 = 1_000_000_000;

/// A part of a whole, from `0%` to `100%`, kept to a billionth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Share(u32);

/// Why a text is not a share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShareError {
    /// A bare number could be a fraction or a percentage.
    #[error("a share needs its unit, like `5%`")]
    MissingUnit,
    /// What stands before the unit is no plain decimal number.
    #[error("expected a number before the `%` of a share")]
    NotANumber,
    /// More than the whole.
    #[error("a share lies between 0% and 100%")]
    TooMuch,
}

impl Share {
    /// Nothing.
    pub const NONE: Self = Self(0);

    /// A share of `percent` hundredths, for constants; more than the whole is the whole.
    pub const fn percent(percent: f64) -> Self {
        // A float to integer cast saturates; the half rounds.
        let billionths = (percent / 100.0 * WHOLE as f64 + 0.5) as u32;
        Self(if billionths < WHOLE { billionths } else { WHOLE })
    }

    /// The share as a fraction, 0 to 1.
    pub fn fraction(self) -> f64 {
        f64::from(self.0) / f64::from(WHOLE)
    }

    /// Whether a number, drawn from all of its type, falls into the share: never for `0%`, always for `100%`.
    pub(crate) fn takes(self, drawn: u64) -> bool {
        (u128::from(drawn) * u128::from(WHOLE)) >> 64 < u128::from(self.0)
    }
}

impl FromStr for Share {
    type Err = ShareError;

    fn from_str(text: &str) -> Result<Self, ShareError> {
        let number = text.trim().strip_suffix('%').ok_or(ShareError::MissingUnit)?.trim();
        let plain = number.starts_with(|c: char| c.is_ascii_digit())
            && number.chars().all(|c| c.is_ascii_digit() || c == '.');
        let percent = number.parse::<f64>().ok().filter(|_| plain).ok_or(ShareError::NotANumber)?;
        if percent > 100.0 { Err(ShareError::TooMuch) } else { Ok(Self::percent(percent)) }
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (percent, rest) = (self.0 / (WHOLE / 100), self.0 % (WHOLE / 100));
        if rest == 0 {
            return write!(f, "{percent}%");
        }
        write!(f, "{percent}.{}%", format!("{rest:07}").trim_end_matches('0'))
    }
}

impl Serialize for Share {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Share {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl de::Visitor<'_> for Text {
            type Value = Share;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a share with its unit, like \"5%\"")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Share, E> {
                text.parse().map_err(E::custom)
            }
        }

        deserializer.deserialize_str(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_read_with_their_unit_and_shown_as_written() {
        for text in ["0%", "5%", "12.5%", "99.9999999%", "0.0000001%", "100%"] {
            assert_eq!(text.parse::<Share>().unwrap().to_string(), text);
        }
        for (text, error) in [
            ("5", ShareError::MissingUnit),
            ("0.5", ShareError::MissingUnit),
            ("%", ShareError::NotANumber),
            ("a%", ShareError::NotANumber),
            ("-1%", ShareError::NotANumber),
            ("1e1%", ShareError::NotANumber),
            (".%", ShareError::NotANumber),
            ("1.2.3%", ShareError::NotANumber),
            ("101%", ShareError::TooMuch),
        ] {
            assert_eq!(text.parse::<Share>(), Err(error), "{text}");
        }
    }

    #[test]
    fn a_share_takes_its_part_of_all_numbers() {
        let share = |text: &str| text.parse::<Share>().unwrap();
        assert!(!share("0%").takes(0) && share("100%").takes(u64::MAX));
        assert!(share("50%").takes(u64::MAX / 2) && !share("50%").takes(u64::MAX / 2 + 2));
        assert!((share("12.5%").fraction() - 0.125).abs() < f64::EPSILON);
    }

    #[test]
    fn constants_are_what_would_be_read() {
        for percent in [0.0, 0.1, 0.5, 12.5, 80.0, 99.9999999, 100.0] {
            assert_eq!(Ok(Share::percent(percent)), format!("{percent}%").parse());
        }
        assert_eq!(Share::percent(101.0), Share::percent(100.0));
    }
}
