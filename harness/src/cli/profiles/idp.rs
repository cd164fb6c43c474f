//! Identity providers: their numbers, how well each is known, and what was read.

use super::table;
use crate::profiles::{Evidence, IdpProfile, Known};

const LEGEND: &str = "\
every: from one rotation to the next; ahead: a new key is published before it signs; kept: an old one
stays published (inf: until somebody deletes it); keys: published while nothing happens; tokens: they live.
D documented, S in the source code, O observed by others, ? a guess so that there is a number, - not known\n";

/// All of them, a row each.
pub(super) fn overview() -> String {
    let all: Vec<&IdpProfile> = IdpProfile::all().iter().collect();
    format!("{}\n`keyquake profiles NAME` says what was read, and where.\n", rows(&all))
}

/// A row, and what stands behind it.
pub(super) fn details(profile: &IdpProfile) -> String {
    format!("{}\n{}", rows(&[profile]), behind(profile))
}

fn rows(profiles: &[&IdpProfile]) -> String {
    let headings = ["idp.profile", "every", "ahead", "kept", "keys", "tokens", "Cache-Control of the JWKS"];
    let rows: Vec<_> = std::iter::once(headings.map(str::to_owned))
        .chain(profiles.iter().map(|profile| row(profile)))
        .collect();
    format!("{}\n{LEGEND}", table(&rows))
}

fn row(profile: &IdpProfile) -> [String; 7] {
    [
        profile.name.clone(),
        entry(&profile.every),
        entry(&profile.lead),
        entry(&profile.retention),
        entry(&profile.keys),
        entry(&profile.token_lifetime),
        entry(&profile.cache_control),
    ]
}

fn entry<T: ToString>(known: &Option<Known<T>>) -> String {
    let Some(known) = known else { return "-".to_owned() };
    let value = known.value.to_string();
    let value = if value.is_empty() { "none" } else { &value };
    format!("{value} {}", mark(known.evidence))
}

const fn mark(evidence: Evidence) -> char {
    match evidence {
        Evidence::Documented => 'D',
        Evidence::Source => 'S',
        Evidence::Observed => 'O',
        Evidence::Inferred => '?',
    }
}

/// What was read, why it matters, and what there is to say of single numbers.
fn behind(profile: &IdpProfile) -> String {
    let IdpProfile { name, provider, read, why, sources, .. } = profile;
    let mut text = format!("{name}: {provider} ({read})\n  {why}\n");
    let notes = [
        ("every", note(&profile.every)),
        ("ahead", note(&profile.lead)),
        ("kept", note(&profile.retention)),
        ("keys", note(&profile.keys)),
        ("tokens", note(&profile.token_lifetime)),
        ("Cache-Control", note(&profile.cache_control)),
    ];
    for (column, note) in notes.into_iter().filter_map(|(column, note)| Some((column, note?))) {
        text.push_str(&format!("  {column}: {note}\n"));
    }
    for source in sources {
        text.push_str(&format!("  {source}\n"));
    }
    text
}

fn note<T>(known: &Option<Known<T>>) -> Option<&str> {
    known.as_ref()?.note.as_deref()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_shows_every_provider_with_what_is_known_of_it() {
        let behind: String =
            IdpProfile::all().iter().map(|profile| format!("\n{}", behind(profile))).collect();
        insta::assert_snapshot!(overview() + &behind);
    }
}
