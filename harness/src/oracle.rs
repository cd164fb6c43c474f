//! What a perfect validator would say of a token: it knows the IdP's true timeline and never looks at a cache.

use keyquake_core::{Span, Time, UnixTime};
use keyquake_idp::{Forgery, KeyId, Timeline};

/// What is true of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TokenFacts {
    /// The key that signed it, or that it claims signed it.
    pub(crate) key: KeyId,
    pub(crate) expires: UnixTime,
    /// What is wrong with it from the start. That a token has expired is a matter of `expires`.
    pub(crate) forged: Option<Forgery>,
}

/// What a validator should do with a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Ruling {
    MustPass,
    MustRefuse(Ground),
    /// The specifications allow both.
    Either(Leeway),
}

/// Why a token must be refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Ground {
    Expired,
    RevokedKey,
    Forged(Forgery),
}

impl Ground {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Expired | Self::Forged(Forgery::Expired) => "expired",
            Self::RevokedKey => "revoked_key",
            Self::Forged(Forgery::NotYetValid) => "not_yet_valid",
            Self::Forged(Forgery::WrongAudience) => "wrong_aud",
            Self::Forged(Forgery::WrongIssuer) => "wrong_iss",
            Self::Forged(Forgery::BadSignature) => "bad_signature",
            Self::Forged(Forgery::UnknownKid) => "unknown_kid",
            Self::Forged(Forgery::AlgNone) => "alg_none",
        }
    }
}

/// Why a token may pass or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Leeway {
    /// Its key was removed from the JWKS, but not revoked.
    Orphaned,
    /// It expired, but within the tolerated skew.
    Skew,
    /// The ruling changed between sending and answer.
    Changed,
}

/// Rules over tokens.
#[derive(Debug)]
pub(crate) struct Oracle {
    timeline: Timeline,
    leeway: Span,
}

impl Oracle {
    /// `leeway` is how long after their expiry the fleet may accept tokens.
    pub(crate) fn new(timeline: Timeline, leeway: Span) -> Self {
        Self { timeline, leeway }
    }

    /// The ruling on a request that was sent and answered at these moments, each with its date.
    pub(crate) fn rule(
        &self,
        token: &TokenFacts,
        sent: (Time, UnixTime),
        answered: (Time, UnixTime),
    ) -> Ruling {
        let at_first = self.rule_at(token, sent);
        if at_first == self.rule_at(token, answered) { at_first } else { Ruling::Either(Leeway::Changed) }
    }

    fn rule_at(&self, token: &TokenFacts, (now, date): (Time, UnixTime)) -> Ruling {
        let key = self.timeline.key_state(token.key, now);
        if let Some(forgery) = token.forged {
            Ruling::MustRefuse(Ground::Forged(forgery))
        } else if key.revoked {
            Ruling::MustRefuse(Ground::RevokedKey)
        } else if date >= token.expires + self.leeway {
            Ruling::MustRefuse(Ground::Expired)
        } else if date >= token.expires {
            Ruling::Either(Leeway::Skew)
        } else if key.published || key.active {
            Ruling::MustPass
        } else {
            Ruling::Either(Leeway::Orphaned)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use keyquake_idp::{Rotation, Style};

    fn at(secs: i64) -> (Time, UnixTime) {
        (Time::from_nanos(secs * 1_000_000_000), UnixTime(1_000 + secs))
    }

    fn oracle(style: Style) -> Oracle {
        let rotation = Rotation {
            lead: if style == Style::Late { Span::from_secs(3) } else { Span::ZERO },
            ..Rotation::new(at(10).0, style)
        };
        Oracle::new(Timeline::new(vec![rotation], vec![]).unwrap(), Span::from_secs(300))
    }

    fn token(key: &str, expires: i64) -> TokenFacts {
        TokenFacts { key: key.parse().unwrap(), expires: UnixTime(1_000 + expires), forged: None }
    }

    fn rule(style: Style, token: TokenFacts, secs: i64) -> Ruling {
        oracle(style).rule(&token, at(secs), at(secs))
    }

    #[test]
    fn a_token_passes_until_it_expires_and_is_refused_beyond_the_skew() {
        let token = token("key-1", 5);
        assert_eq!(rule(Style::NoOverlap, token, 4), Ruling::MustPass);
        assert_eq!(rule(Style::NoOverlap, token, 5), Ruling::Either(Leeway::Skew));
        assert_eq!(rule(Style::NoOverlap, token, 304), Ruling::Either(Leeway::Skew));
        assert_eq!(rule(Style::NoOverlap, token, 305), Ruling::MustRefuse(Ground::Expired));
    }

    #[test]
    fn a_removed_key_orphans_and_a_revoked_one_must_be_refused() {
        let token = token("key-1", 1_000);
        assert_eq!(rule(Style::NoOverlap, token, 10), Ruling::Either(Leeway::Orphaned));
        assert_eq!(rule(Style::Revoke, token, 9), Ruling::MustPass);
        assert_eq!(rule(Style::Revoke, token, 10), Ruling::MustRefuse(Ground::RevokedKey));
    }

    #[test]
    fn a_token_signed_before_publication_is_valid() {
        assert_eq!(rule(Style::Late, token("key-2", 1_000), 11), Ruling::MustPass);
    }

    #[test]
    fn a_forged_token_is_never_valid() {
        let forged = TokenFacts { forged: Some(Forgery::BadSignature), ..token("key-1", 1_000) };
        assert_eq!(
            rule(Style::NoOverlap, forged, 0),
            Ruling::MustRefuse(Ground::Forged(Forgery::BadSignature))
        );
    }

    #[test]
    fn a_ruling_that_changes_under_way_counts_for_nothing() {
        let ruling = oracle(Style::Revoke).rule(&token("key-1", 1_000), at(9), at(10));
        assert_eq!(ruling, Ruling::Either(Leeway::Changed));
    }
}
