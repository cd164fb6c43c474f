//! The service under test, where it is not the reference service.

use std::collections::BTreeMap;
use std::fmt;

use keyquake_core::Span;
use serde::de::{self, Deserialize, Deserializer, SeqAccess, Visitor};

/// A service of the user's: one to start, or one that is running.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Target {
    /// What starts one replica: the program and its arguments.
    pub(crate) command: Option<Argv>,
    /// Where the replicas are reached that run already.
    pub(crate) url: Option<Urls>,
    pub(crate) replicas: Option<u32>,
    /// The working folder of the command, seen from the scenario's file.
    pub(crate) dir: Option<String>,
    #[serde(default)]
    pub(crate) env: BTreeMap<String, String>,
    /// Where requests go.
    #[serde(default = "Target::default_path")]
    pub(crate) path: String,
    /// A path that answers below 500 once it is ready, or `tcp`.
    #[serde(default = "Target::default_ready")]
    pub(crate) ready: String,
    #[serde(default = "Target::default_ready_within")]
    pub(crate) ready_within: Span,
    /// The statuses of a token that passed; 2xx unless said.
    pub(crate) accepted: Option<Vec<u16>>,
    /// Those of one that did not; 401 and 403 unless said.
    pub(crate) rejected: Option<Vec<u16>>,
}

impl Target {
    fn default_path() -> String {
        "/api".to_owned()
    }

    fn default_ready() -> String {
        "/healthz".to_owned()
    }

    fn default_ready_within() -> Span {
        Span::from_secs(60)
    }
}

/// A program and its arguments.
#[derive(Debug)]
pub(crate) struct Argv(pub(crate) Vec<String>);

impl<'de> Deserialize<'de> for Argv {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneByOne;

        impl<'de> Visitor<'de> for OneByOne {
            type Value = Argv;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the program and its arguments one by one, like [\"node\", \"server.js\"]")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Argv, A::Error> {
                all(list).map(Argv)
            }
        }

        deserializer.deserialize_any(OneByOne)
    }
}

/// One base URL for each replica; at least one.
#[derive(Debug)]
pub(crate) struct Urls(pub(crate) Vec<String>);

impl<'de> Deserialize<'de> for Urls {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrList;

        impl<'de> Visitor<'de> for OneOrList {
            type Value = Urls;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a URL like \"http://127.0.0.1:3000\" or a list of them, one for each replica")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Urls, E> {
                Ok(Urls(vec![text.to_owned()]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Urls, A::Error> {
                let urls = all(list)?;
                if urls.is_empty() { Err(de::Error::invalid_length(0, &self)) } else { Ok(Urls(urls)) }
            }
        }

        deserializer.deserialize_any(OneOrList)
    }
}

fn all<'de, A: SeqAccess<'de>>(mut list: A) -> Result<Vec<String>, A::Error> {
    let mut texts = Vec::new();
    while let Some(text) = list.next_element()? {
        texts.push(text);
    }
    Ok(texts)
}

/// What a run may do beyond this machine.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Guard {
    /// Hosts that requests may go to, each with the highest rate if it has one: `staging.example = 200/s`.
    pub(crate) allow: Vec<String>,
    /// The same, from the command line.
    #[serde(rename = "--allow-target")]
    pub(crate) allow_target: Vec<String>,
}
