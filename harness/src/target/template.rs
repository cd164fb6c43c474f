//! What a command and its environment are told: placeholders, and the variables that are always there.

use std::collections::BTreeMap;

use crate::plan::Launch;

/// What may stand in braces.
pub(crate) const NAMES: [&str; 6] = ["port", "issuer", "jwks_url", "audience", "replica", "ca"];

/// What a replica has to know.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub(crate) issuer: String,
    pub(crate) audience: String,
    /// The file of the CA behind the issuer's certificate; empty when the IdP speaks plain HTTP.
    pub(crate) ca: String,
}

/// One start of a replica.
#[derive(Clone, Copy, Debug)]
pub(super) struct Start<'a> {
    pub(super) facts: &'a Facts,
    pub(super) replica: u32,
    pub(super) port: u16,
}

impl Start<'_> {
    /// The command without its placeholders.
    pub(super) fn argv(&self, launch: &Launch) -> Vec<String> {
        launch.argv.iter().map(|argument| self.fill(argument)).collect()
    }

    /// The variables that are always there, and those of the scenario, which win.
    pub(super) fn env(&self, launch: &Launch) -> BTreeMap<String, String> {
        let Self { facts, replica, port } = self;
        let always = [
            ("PORT", port.to_string()),
            ("ISSUER", facts.issuer.clone()),
            ("JWKS_URL", self.jwks_url()),
            ("AUDIENCE", facts.audience.clone()),
            ("OIDC_DISCOVERY_URL", self.well_known("openid-configuration")),
            ("KEYQUAKE_REPLICA", replica.to_string()),
        ];
        let always = always.into_iter().map(|(name, value)| (name.to_owned(), value));
        always.chain(launch.env.iter().map(|(name, value)| (name.clone(), self.fill(value)))).collect()
    }

    fn fill(&self, text: &str) -> String {
        let Self { facts, replica, port } = self;
        let values = [
            port.to_string(),
            facts.issuer.clone(),
            self.jwks_url(),
            facts.audience.clone(),
            replica.to_string(),
            facts.ca.clone(),
        ];
        let mut filled = String::new();
        let mut rest = text;
        while let Some((before, name, after)) = placeholder(rest) {
            filled.push_str(before);
            match NAMES.iter().position(|known| *known == name) {
                Some(known) => filled.push_str(&values[known]),
                None => filled.extend(["{", name, "}"]),
            }
            rest = after;
        }
        filled + rest
    }

    /// A URL of its own, so that its requests can be told from those of the others.
    fn jwks_url(&self) -> String {
        self.well_known("jwks.json")
    }

    fn well_known(&self, document: &str) -> String {
        format!("{}/instances/{}/.well-known/{document}", self.facts.issuer, self.replica)
    }
}

/// Whether a text has this placeholder.
pub(crate) fn has(text: &str, wanted: &str) -> bool {
    let mut rest = text;
    while let Some((_, name, after)) = placeholder(rest) {
        if name == wanted {
            return true;
        }
        rest = after;
    }
    false
}

/// The first placeholder of a text that is none of [`NAMES`].
pub(crate) fn unknown(text: &str) -> Option<&str> {
    let mut rest = text;
    while let Some((_, name, after)) = placeholder(rest) {
        if !NAMES.contains(&name) {
            return Some(name);
        }
        rest = after;
    }
    None
}

/// The first word in braces, and what comes before and after it. What is no such word, like JSON, is left alone.
fn placeholder(text: &str) -> Option<(&str, &str, &str)> {
    let is_word =
        |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    text.match_indices('{').find_map(|(open, _)| {
        let (name, after) = text[open + 1..].split_once('}')?;
        is_word(name).then_some((&text[..open], name, after))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(facts: &Facts) -> Start<'_> {
        Start { facts, replica: 2, port: 4_000 }
    }

    fn facts() -> Facts {
        Facts { issuer: "http://idp".to_owned(), audience: "me".to_owned(), ca: "/ca.pem".to_owned() }
    }

    #[test]
    fn placeholders_are_filled_and_all_else_is_left_alone() {
        let facts = facts();
        for (text, expected) in [
            ("--port={port}", "--port=4000"),
            ("{issuer} {audience}", "http://idp me"),
            ("{replica}{replica}", "22"),
            ("{ca}", "/ca.pem"),
            ("{jwks_url}", "http://idp/instances/2/.well-known/jwks.json"),
            ("{\"port\": {port}}", "{\"port\": 4000}"),
            ("${PORT} {} { port } {", "${PORT} {} { port } {"),
            ("ü{port}é", "ü4000é"),
        ] {
            assert_eq!(start(&facts).fill(text), expected);
            assert_eq!(unknown(text), None, "{text}");
        }
        assert_eq!(unknown("{port} {prot}"), Some("prot"));
    }

    #[test]
    fn the_scenario_has_the_last_word_about_the_environment() {
        let env =
            [("PORT", "80"), ("URL", "{issuer}/x")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        let launch = Launch { argv: Vec::new(), dir: ".".into(), env: env.into() };
        let facts = facts();
        let env = start(&facts).env(&launch);
        let told: Vec<(&str, &str)> =
            env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(
            told,
            [
                ("AUDIENCE", "me"),
                ("ISSUER", "http://idp"),
                ("JWKS_URL", "http://idp/instances/2/.well-known/jwks.json"),
                ("KEYQUAKE_REPLICA", "2"),
                ("OIDC_DISCOVERY_URL", "http://idp/instances/2/.well-known/openid-configuration"),
                ("PORT", "80"),
                ("URL", "http://idp/x"),
            ]
        );
    }
}
