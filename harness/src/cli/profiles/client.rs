//! Clients: the numbers that tell them apart, and what was read.

use std::thread::available_parallelism;

use keyquake_reports::Worst;

use super::table;
use crate::crew;
use crate::profiles::{ClientProfile, Numbers};

const LEGEND: &str = "\
new: how long valid tokens of a new key are refused; stray: the same after one token with a kid that nobody knows; removed: how
long a token is accepted whose key was taken from the set; outage: how long new tokens of known keys pass when the endpoint fails;
fetches: for each token with an unknown kid, at one a second. All are simulated: one cache, filled right before, and an IdP whose headers
give five minutes. No end: none in five quarters of all times that the policy names.\n";

/// All of them, a row each.
///
/// # Errors
///
/// The system has no randomness for keys.
pub(super) fn overview() -> anyhow::Result<String> {
    let all: Vec<&ClientProfile> = ClientProfile::all().iter().collect();
    Ok(format!(
        "{}\n`keyquake profiles NAME` says what was read, where, and what its policy is.\n",
        rows(&all)?
    ))
}

/// A row, and what stands behind it.
///
/// # Errors
///
/// As for [`overview`].
pub(super) fn details(profile: &ClientProfile) -> anyhow::Result<String> {
    Ok(format!("{}\n{}", rows(&[profile])?, behind(profile)))
}

fn rows(profiles: &[&ClientProfile]) -> anyhow::Result<String> {
    let threads = available_parallelism().map_or(1, usize::from);
    let numbers = crew::all(threads, profiles.len(), |number| Numbers::of(profiles[number]))?;
    let headings = ["fleet.profile", "version", "new", "stray", "removed", "outage", "fetches", "evidence"];
    let rows: Vec<_> = std::iter::once(headings.map(str::to_owned))
        .chain(profiles.iter().zip(&numbers).map(|(profile, numbers)| row(profile, numbers)))
        .collect();
    Ok(format!("{}\n{LEGEND}", table(&rows)))
}

fn row(profile: &ClientProfile, numbers: &Numbers) -> [String; 8] {
    let Numbers { refused, refused_after_stray, exposed, survives, per_stray } = numbers;
    let entry = |worst: &Option<Worst>| match worst {
        None => "-".to_owned(),
        Some(Worst { at_least: true, .. }) => "no end".to_owned(),
        Some(worst) => worst.to_string(),
    };
    [
        profile.name.clone(),
        profile.version.clone(),
        entry(refused),
        entry(refused_after_stray),
        entry(exposed),
        entry(survives),
        entry(per_stray),
        profile.evidence.name().to_owned(),
    ]
}

/// What was read, why it matters, and what its policy is and cannot say.
fn behind(profile: &ClientProfile) -> String {
    let ClientProfile { name, library, version, language, source, why, not_expressed, policy, .. } = profile;
    let mut text = format!("{name}: {library} {version} ({language})\n  {why}\n");
    let fields: Vec<String> = policy.iter().map(|(field, value)| format!("{field} = {value}")).collect();
    text.push_str(&format!("  {}\n", fields.join(", ")));
    for lack in not_expressed {
        text.push_str(&format!("  not expressed: {lack}\n"));
    }
    text.push_str(&format!("  {source}\n"));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers as whoever read and ran these clients derived them, by another way.
    #[test]
    fn the_numbers_are_those_that_were_derived_by_hand() {
        let cells = |name: &str| {
            let profile = ClientProfile::find(name).unwrap();
            let [_, _, new, stray, removed, outage, fetches, _] =
                row(profile, &Numbers::of(profile).unwrap());
            [new, stray, removed, outage, fetches]
        };
        assert_eq!(cells("jwks-rsa"), ["0 s", "0 s", "10 min", "10 min", "1.00"]);
        assert_eq!(cells("fastify-jwt-jwks"), ["0 s", "0 s", "7 d", "7 d", "1.00"]);
        assert_eq!(cells("spring-reactive"), ["0 s", "0 s", "no end", "no end", "1.00"]);
        assert_eq!(cells("static-once"), ["no end", "no end", "no end", "no end", "0.00"]);
        assert_eq!(cells("envoy-sync"), ["10 min", "10 min", "10 min", "10 min", "0.00"]);
        assert_eq!(cells("envoy-jwt-cache"), ["10 min", "10 min", "no end", "10 min", "0.00"]);
        assert_eq!(cells("fastapi-azure-auth"), ["24 h", "24 h", "24 h", "24 h", "0.00"]);
    }

    #[test]
    fn all_that_is_known_of_a_client_is_told() {
        let text = behind(ClientProfile::find("quarkus-oidc").unwrap());
        for part in ["quarkus-oidc: ", "limiter = \"cooldown\"", "not expressed: ", "https://"] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
