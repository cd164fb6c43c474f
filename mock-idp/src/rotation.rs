//! What one rotation is: its style and the numbers that go with it.

use std::fmt;

use keyquake_core::{Span, Time};
use serde::{Deserialize, Serialize};

/// How a provider replaces its signing key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Style {
    /// The new key is published before it signs, the old one stays for a while.
    Overlap,
    /// The new key is published when it begins to sign, the old one stays for a while.
    JustInTime,
    /// The new key is published and the old one removed in the instant in which the new one begins to sign.
    NoOverlap,
    /// The new key signs before it is published.
    Late,
    /// Emergency: the old key is removed and revoked at once.
    Revoke,
    /// New key material under the old name, exchanged in one instant.
    Rekey,
}

impl Style {
    /// The name in scenarios and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Overlap => "overlap",
            Self::JustInTime => "just-in-time",
            Self::NoOverlap => "no-overlap",
            Self::Late => "late",
            Self::Revoke => "revoke",
            Self::Rekey => "rekey",
        }
    }

    const fn has_lead(self) -> bool {
        matches!(self, Self::Overlap | Self::Late)
    }

    pub(crate) const fn has_retention(self) -> bool {
        matches!(self, Self::Overlap | Self::JustInTime | Self::Late)
    }
}

impl fmt::Display for Style {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The change from one signing key to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// When the new key begins to sign and the old one ceases to.
    pub at: Time,
    /// How the keys are published and withdrawn around that moment.
    pub style: Style,
    /// How far publication and activation of the new key lie apart: publication comes first in
    /// [`Style::Overlap`], activation in [`Style::Late`]. Zero in the other styles.
    pub lead: Span,
    /// How long the old key stays published once it has ceased to sign. Zero in [`Style::NoOverlap`],
    /// [`Style::Revoke`] and [`Style::Rekey`].
    pub retention: Span,
    /// Whether there is a new key at all; only [`Style::Revoke`] can do without, and then nothing signs.
    pub replace: bool,
}

impl Rotation {
    /// A rotation with neither lead nor retention.
    pub const fn new(at: Time, style: Style) -> Self {
        Self { at, style, lead: Span::ZERO, retention: Span::ZERO, replace: true }
    }

    /// When the new key appears in the JWKS.
    pub fn published(&self) -> Time {
        match self.style {
            Style::Late => self.at + self.lead,
            _ => self.at - self.lead,
        }
    }

    /// When the old key disappears from the JWKS.
    pub fn removed(&self) -> Time {
        self.at + self.retention
    }

    /// Checks that the numbers are those of the style.
    ///
    /// # Errors
    ///
    /// [`RotationError`] names the number that contradicts the style.
    pub fn check(&self) -> Result<(), RotationError> {
        let style = self.style;
        match (style.has_lead(), self.lead == Span::ZERO) {
            (true, true) => return Err(RotationError::LeadMissing(style)),
            (false, false) => return Err(RotationError::Lead(style)),
            _ => {}
        }
        if !style.has_retention() && self.retention != Span::ZERO {
            return Err(RotationError::Retention(style));
        }
        if !self.replace && style != Style::Revoke {
            return Err(RotationError::Replace(style));
        }
        Ok(())
    }
}

/// How a rotation contradicts its own style.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RotationError {
    /// The style is defined by its lead.
    #[error("style `{0}` needs a `lead` greater than zero")]
    LeadMissing(Style),
    /// In this style publication and activation coincide.
    #[error("style `{0}` has no `lead`")]
    Lead(Style),
    /// In this style the old key leaves at once.
    #[error("style `{0}` has no `retention`")]
    Retention(Style),
    /// Only a revocation can leave the provider without a key.
    #[error("style `{0}` always brings a new key: `replace = false` belongs to `revoke`")]
    Replace(Style),
}

#[cfg(test)]
mod tests {
    use super::*;

    const STYLES: [Style; 6] =
        [Style::Overlap, Style::JustInTime, Style::NoOverlap, Style::Late, Style::Revoke, Style::Rekey];

    #[test]
    fn names_are_those_of_scenarios() {
        for style in STYLES {
            let written = serde_json::to_string(&style).unwrap();
            assert_eq!(written, format!("\"{style}\""));
            assert_eq!(serde_json::from_str::<Style>(&written).unwrap(), style);
        }
    }

    #[test]
    fn each_style_takes_the_numbers_that_define_it() {
        let span = Span::from_secs(1);
        for style in STYLES {
            let plain = Rotation::new(Time::ZERO, style);
            let verdict = |rotation: Rotation| rotation.check().err();
            let leads = matches!(style, Style::Overlap | Style::Late);
            let fitting = if leads { Rotation { lead: span, ..plain } } else { plain };
            assert_eq!(verdict(fitting), None, "{style}");
            let misfit = if leads {
                (plain, RotationError::LeadMissing(style))
            } else {
                (Rotation { lead: span, ..plain }, RotationError::Lead(style))
            };
            assert_eq!(verdict(misfit.0), Some(misfit.1));
            let retains = matches!(style, Style::Overlap | Style::JustInTime | Style::Late);
            let expected = (!retains).then_some(RotationError::Retention(style));
            assert_eq!(verdict(Rotation { retention: span, ..fitting }), expected);
            let expected = (style != Style::Revoke).then_some(RotationError::Replace(style));
            assert_eq!(verdict(Rotation { replace: false, ..fitting }), expected);
        }
    }
}
