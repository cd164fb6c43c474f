//! How long tokens of revoked keys were still accepted.

use crate::format;
use crate::record::{Cell, Exposure, Lasting};
use crate::table::{Column, Entry, Table, Tone};

/// What was seen of every revoked key, those amid other traffic first: an attacker alone meets another cache.
pub(crate) fn of(cell: &Cell) -> Vec<&Exposure> {
    let mut exposures: Vec<&Exposure> =
        cell.episodes.iter().flat_map(|episode| &episode.metrics.revocation_exposure).collect();
    exposures.sort_by_key(|exposure| exposure.alone);
    exposures
}

/// The exposures as a table; `None` when no token of a revoked key was tried.
pub(crate) fn table(cell: &Cell) -> Option<Table> {
    let columns = vec![
        Column::Left("stream"),
        Column::Left("revoked key"),
        Column::Left("its tokens"),
        Column::Left("traffic"),
        Column::Right("accepted for"),
    ];
    let mut table = Table::new("Tokens of a revoked key: how long they were still accepted", columns);
    for exposure in of(cell) {
        table.rows.push(vec![
            Entry::plain(exposure.stream.clone()),
            Entry::plain(exposure.key.clone()),
            Entry::plain(tokens(exposure).into()),
            Entry::plain(traffic(exposure).into()),
            Entry::toned(lasted(exposure.lasted), tone(exposure.lasted)),
        ]);
    }
    (!table.rows.is_empty()).then_some(table)
}

/// Whether the service had seen the tokens before.
pub(crate) fn tokens(exposure: &Exposure) -> &'static str {
    if exposure.fresh { "fresh" } else { "repeated" }
}

/// Whether tokens of the new key arrived too.
pub(crate) fn traffic(exposure: &Exposure) -> &'static str {
    if exposure.alone { "alone" } else { "mixed" }
}

/// The length in the width of a table's column.
pub(crate) fn lasted(lasting: Lasting) -> String {
    match lasting {
        Lasting { at_least: false, seconds: 0.0 } => "not once".into(),
        Lasting { at_least: true, seconds } => format!("{}, to the last try", format::lasting(seconds, true)),
        Lasting { at_least: false, seconds } => format::seconds(seconds),
    }
}

/// The longest of some exposures, and of equals the one whose end was not seen.
pub(crate) fn longest<'e>(exposures: impl IntoIterator<Item = &'e Exposure>) -> Option<Lasting> {
    exposures
        .into_iter()
        .map(|exposure| exposure.lasted)
        .max_by(|a, b| a.seconds.total_cmp(&b.seconds).then(a.at_least.cmp(&b.at_least)))
}

fn tone(lasting: Lasting) -> Tone {
    match lasting {
        Lasting { at_least: true, .. } => Tone::Bad,
        Lasting { seconds: 0.0, .. } => Tone::Good,
        Lasting { .. } => Tone::Plain,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    #[test]
    fn an_end_that_was_not_seen_is_marked() {
        let text = table(&sample::revocation().cells[0]).unwrap().to_text(false);
        let expected = [
            "  thief                  key-1        fresh       mixed                      494 ms",
            "  thief-repeating        key-1        repeated    mixed                    not once",
            "  thief-alone            key-1        fresh       alone                      19.6 s",
            "  thief-alone-repeating  key-1        repeated    alone    >= 40 s, to the last try",
        ];
        assert_eq!(text.lines().skip(1).collect::<Vec<_>>(), expected, "{text}");
    }

    #[test]
    fn the_longest_is_the_one_without_an_end() {
        let cell = &sample::revocation().cells[0];
        assert_eq!(longest(of(cell)), Some(Lasting { seconds: 40.0, at_least: true }));
        assert!(table(&sample::overlap().cells[0]).is_none());
    }
}
