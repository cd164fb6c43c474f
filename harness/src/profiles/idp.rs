//! How real identity providers rotate: `harness/profiles/idps.toml`.

use std::sync::LazyLock;

use keyquake_core::Span;
use serde::Deserialize;

/// All of them, in the order of their names.
static ALL: LazyLock<Vec<IdpProfile>> = LazyLock::new(|| {
    let file: File =
        toml::from_str(include_str!("../../profiles/idps.toml")).expect("a test reads this text");
    file.idp
});

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    idp: Vec<IdpProfile>,
}

/// What is known of a provider. What is not known is `None`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct IdpProfile {
    /// Its name in scenarios.
    pub(crate) name: String,
    pub(crate) provider: String,
    /// The version or the date of what was read.
    pub(crate) read: String,
    /// What makes the difference for who caches its keys.
    pub(crate) why: String,
    pub(crate) every: Option<Known<Span>>,
    pub(crate) lead: Option<Known<Span>>,
    pub(crate) retention: Option<Known<Span>>,
    /// The header of its JWKS; empty for none.
    pub(crate) cache_control: Option<Known<String>>,
    /// The keys in its JWKS while nothing happens; for the reader alone.
    pub(crate) keys: Option<Known<u32>>,
    pub(crate) token_lifetime: Option<Known<Span>>,
    pub(crate) sources: Vec<String>,
}

/// A value and how well it is known.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Known<T> {
    pub(crate) value: T,
    pub(crate) evidence: Evidence,
    pub(crate) note: Option<String>,
}

/// Where a value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Evidence {
    /// The vendor's documentation.
    Documented,
    /// Its source code.
    Source,
    /// Somebody who saw it.
    Observed,
    /// Nobody: a guess of ours.
    Inferred,
}

impl IdpProfile {
    /// All of them, in the order of their names.
    pub(crate) fn all() -> &'static [Self] {
        &ALL
    }

    /// The one of this name.
    pub(crate) fn find(name: &str) -> Option<&'static Self> {
        Self::all().iter().find(|profile| profile.name == name)
    }

    /// What it lends to a scenario: its values by the names of their fields, and how well each is known.
    pub(crate) fn values(&self) -> impl Iterator<Item = (&'static str, String, Evidence)> {
        let spans = [
            ("every", &self.every),
            ("lead", &self.lead),
            ("retention", &self.retention),
            ("token_lifetime", &self.token_lifetime),
        ];
        let spans = spans.map(|(name, known)| known.as_ref().map(|known| known.shown(name)));
        let header = self.cache_control.as_ref().map(|known| known.shown("cache_control"));
        spans.into_iter().chain([header]).flatten()
    }
}

impl<T: ToString> Known<T> {
    fn shown(&self, name: &'static str) -> (&'static str, String, Evidence) {
        (name, self.value.to_string(), self.evidence)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn names_are_words_in_order_and_each_is_there_once() {
        let names: Vec<&str> = IdpProfile::all().iter().map(|profile| profile.name.as_str()).collect();
        assert!(names.len() > 20);
        let sorted: Vec<&str> = names.iter().copied().collect::<BTreeSet<_>>().into_iter().collect();
        assert_eq!(names, sorted);
        let plain =
            |name: &&str| name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
        assert!(names.iter().all(plain), "{names:?}");
    }

    #[test]
    fn every_profile_says_what_was_read_where_and_why_it_matters() {
        for profile in IdpProfile::all() {
            let name = &profile.name;
            assert!(profile.why.ends_with('.') && profile.why.len() <= 130, "{name}: {}", profile.why.len());
            assert!(
                profile.read.chars().any(|c| c.is_ascii_digit()) || profile.values().count() < 3,
                "{name}"
            );
            assert!(!profile.sources.is_empty(), "{name}");
            assert!(profile.sources.iter().all(|url| url.starts_with("https://")), "{name}");
        }
    }

    #[test]
    fn numbers_are_those_of_a_provider() {
        for profile in IdpProfile::all() {
            let name = &profile.name;
            let value = |known: &Option<Known<Span>>| known.as_ref().map(|known| known.value);
            let (every, lead) = (value(&profile.every), value(&profile.lead));
            assert!(
                every.is_none_or(|every| every >= Span::from_secs(3_600) && !every.is_infinite()),
                "{name}"
            );
            assert!(lead.is_none_or(|lead| !lead.is_infinite()), "{name}");
            // With a longer one there would be two keys that wait to sign.
            assert!(every.zip(lead).is_none_or(|(every, lead)| lead <= every), "{name}");
            let lifetime = value(&profile.token_lifetime);
            let whole = |span: Span| span.as_nanos().is_multiple_of(1_000_000_000) && span > Span::ZERO;
            assert!(lifetime.is_none_or(|lifetime| whole(lifetime) && !lifetime.is_infinite()), "{name}");
            assert!(profile.keys.as_ref().is_none_or(|keys| (1..=10).contains(&keys.value)), "{name}");
            let header = profile.cache_control.as_ref().map(|header| HeaderValue::from_str(&header.value));
            assert!(header.is_none_or(|header| header.is_ok()), "{name}");
        }
    }

    #[test]
    fn a_guess_says_what_it_rests_on_or_stands_among_numbers_that_are_known() {
        for profile in IdpProfile::all() {
            let known = profile.values().any(|(_, _, evidence)| evidence != Evidence::Inferred);
            let noted = profile.lead.as_ref().is_none_or(|lead| lead.note.is_some());
            assert!(known || noted || profile.values().count() == 0, "{}", profile.name);
        }
    }
}
