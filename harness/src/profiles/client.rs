//! How real clients cache keys: `harness/profiles/clients.toml`.

use std::sync::LazyLock;

use keyquake_core::Policy;
use serde::Deserialize;
use toml::Table;

/// All of them, in the order of the file.
static ALL: LazyLock<Vec<ClientProfile>> = LazyLock::new(|| {
    let file: File =
        toml::from_str(include_str!("../../profiles/clients.toml")).expect("a test reads this text");
    file.client.into_iter().map(|client| client.over(&file.plain)).collect()
});

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    plain: Table,
    client: Vec<ClientProfile>,
}

/// A client of a JWKS as it is out of the box, or in the way that `why` says.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ClientProfile {
    /// Its name in scenarios.
    pub(crate) name: String,
    pub(crate) library: String,
    /// What was read.
    pub(crate) version: String,
    pub(crate) language: String,
    pub(crate) evidence: Reading,
    pub(crate) source: String,
    /// What makes the difference in a rotation.
    pub(crate) why: String,
    /// What it does that a policy cannot say.
    #[serde(default)]
    pub(crate) not_expressed: Vec<String>,
    /// What it does in its own way. [`Self::text`] has the rest too.
    pub(crate) policy: Table,
    /// Its whole policy, as lines of a scenario.
    #[serde(skip)]
    text: String,
}

/// What a profile rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Reading {
    /// The source was read, and the client was run against an endpoint that misbehaves.
    Ran,
    /// The source was read.
    Read,
    /// Parts of the source were read.
    Fragment,
    /// The documentation was read.
    Documented,
}

impl ClientProfile {
    /// All of them, in the order of the file: by language.
    pub(crate) fn all() -> &'static [Self] {
        &ALL
    }

    /// The one of this name.
    pub(crate) fn find(name: &str) -> Option<&'static Self> {
        Self::all().iter().find(|profile| profile.name == name)
    }

    /// Its whole policy, as the lines of a scenario's `[fleet.policy]`.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Its whole policy.
    ///
    /// # Errors
    ///
    /// A field is none of a policy's: a test sees to it that none is.
    pub(crate) fn policy(&self) -> Result<Policy, toml::de::Error> {
        toml::from_str(&self.text)
    }

    fn over(self, plain: &Table) -> Self {
        let mut whole = plain.clone();
        whole.extend(self.policy.clone());
        Self { text: whole.to_string(), ..self }
    }
}

impl Reading {
    /// In a word, for tables.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Ran => "ran",
            Self::Read => "read",
            Self::Fragment => "fragment",
            Self::Documented => "documented",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_name_is_there_once() {
        let names: BTreeSet<&str> =
            ClientProfile::all().iter().map(|profile| profile.name.as_str()).collect();
        assert_eq!(names.len(), ClientProfile::all().len());
        assert!(names.len() > 40);
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_".contains(c);
        assert!(names.iter().all(|name| name.chars().all(plain)), "{names:?}");
    }

    #[test]
    fn every_policy_is_sound_and_says_all_of_itself() {
        let fields = serde_json::to_value(Policy::default()).unwrap().as_object().unwrap().len();
        for profile in ClientProfile::all() {
            assert_eq!(profile.policy().unwrap().check(), Ok(()), "{}", profile.name);
            assert_eq!(profile.text().lines().count(), fields, "{}", profile.name);
        }
    }

    #[test]
    fn what_is_plain_is_not_said_again() {
        let file: File = toml::from_str(include_str!("../../profiles/clients.toml")).unwrap();
        for profile in file.client {
            let again = profile.policy.iter().find(|(field, value)| file.plain.get(*field) == Some(value));
            assert_eq!(again, None, "{}", profile.name);
        }
    }

    #[test]
    fn every_profile_says_what_was_read_where_and_why_it_matters() {
        for profile in ClientProfile::all() {
            let name = &profile.name;
            assert!(profile.why.ends_with('.') && profile.why.len() <= 140, "{name}");
            assert!(profile.source.starts_with("https://"), "{name}");
            assert!(!profile.version.is_empty() && !profile.library.is_empty(), "{name}");
            assert!(profile.not_expressed.iter().all(|lack| lack.ends_with('.')), "{name}");
        }
    }
}
