//! Why requests were denied, counted.

use crate::format;
use crate::record::{Cell, Episode};
use crate::table::{Column, Entry, Table};

/// The causes of each episode's denials, the most frequent first; `None` when none is known.
pub(crate) fn table(cell: &Cell) -> Option<Table> {
    let several = cell.episodes.len() > 1;
    let mut columns = vec![
        Column::Left("cause"),
        Column::Right("denied"),
        Column::Right("share"),
        Column::Left("what it means"),
    ];
    if several {
        columns.insert(0, Column::Right("#"));
    }
    let mut table = Table::new("Why requests were denied", columns);
    for (index, episode) in cell.episodes.iter().enumerate() {
        for (cause, number, share) in by_number(episode) {
            let mut row = vec![
                Entry::plain(cause.into()),
                Entry::plain(format::count(number)),
                Entry::share(share),
                Entry::plain(meaning(cause).into()),
            ];
            if several {
                row.insert(0, Entry::plain((index + 1).to_string()));
            }
            table.rows.push(row);
        }
    }
    (!table.rows.is_empty()).then_some(table)
}

/// The causes with their numbers, and their shares of all whose cause is known.
fn by_number(episode: &Episode) -> Vec<(&str, u64, f64)> {
    let causes = &episode.metrics.causes;
    let known: f64 = causes.values().map(|&number| number as f64).sum();
    let mut causes: Vec<(&str, u64, f64)> = causes
        .iter()
        .filter(|&(_, &number)| number > 0)
        .map(|(cause, &number)| (cause.as_str(), number, number as f64 / known))
        .collect();
    causes.sort_by_key(|&(_, number, _)| std::cmp::Reverse(number));
    causes
}

/// What a cause says of the instance that denied, for those who meet its name for the first time.
fn meaning(cause: &str) -> &'static str {
    match cause {
        "premature" => "the token's key was not published yet",
        "fetch in flight" => "the answer did not wait for a fetch under way",
        "JWKS unavailable" => "its last fetch had failed",
        "refused though delivered" => "it had been given the key, and refused its token or did not answer",
        "not refreshed" => "it had not fetched the token's key yet",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    #[test]
    fn the_most_frequent_cause_comes_first_with_its_share() {
        let mut cell = sample::no_overlap().cells.remove(0);
        cell.episodes[0].metrics.causes =
            [("premature".into(), 1), ("not refreshed".into(), 3), ("fetch in flight".into(), 0)].into();
        let text = table(&cell).unwrap().to_text(false);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[1].starts_with("  not refreshed       3   75 %"), "{text}");
        assert!(lines[2].starts_with("  premature           1   25 %"), "{text}");
        assert_eq!(lines.len(), 3);
    }

    #[test]
    fn several_episodes_are_told_apart_and_none_is_no_table() {
        let mut cell = sample::no_overlap().cells.remove(0);
        cell.episodes.push(cell.episodes[0].clone());
        assert!(table(&cell).unwrap().to_text(false).contains("  2  not refreshed "));
        cell.episodes.iter_mut().for_each(|episode| episode.metrics.causes.clear());
        assert!(table(&cell).is_none());
    }
}
