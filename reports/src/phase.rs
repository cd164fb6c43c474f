//! The age of the caches when an episode began, which decides how long it lasts.

use crate::format;
use crate::record::{Cell, Episode, Instance, Recovery};
use crate::story;
use crate::table::{Column, Entry, Table};

/// What one cache made of an episode.
pub(crate) struct Met {
    /// How old its key set was when the episode began, in seconds.
    pub(crate) age: f64,
    pub(crate) recovery: Recovery,
}

/// What the caches made of each episode; empty unless there are several episodes to compare.
pub(crate) fn of(cell: &Cell) -> Vec<Vec<Met>> {
    if cell.episodes.len() < 2 {
        return Vec::new();
    }
    let met = |(index, episode): (usize, &Episode)| {
        let caches = cell.instances.iter().filter_map(|instance| {
            let recovery = *instance.time_to_recover.get(index)?;
            Some(Met { age: age(instance, episode.from_s)?, recovery })
        });
        caches.collect()
    };
    cell.episodes.iter().enumerate().map(met).collect()
}

/// Each episode with the ages that it met; `None` unless there are several to compare.
pub(crate) fn table(cell: &Cell) -> Option<Table> {
    let columns = vec![
        Column::Right("episode"),
        Column::Right("at"),
        Column::Right("age of the caches"),
        Column::Right("denied"),
        Column::Right("recovered after"),
    ];
    let mut table = Table::new("What the age of the caches made of each episode", columns);
    for (index, (met, episode)) in of(cell).iter().zip(&cell.episodes).enumerate() {
        let cohort = &episode.metrics.cohort;
        let (recovered, tone) = story::recovery(&cohort.time_to_recover);
        table.rows.push(vec![
            Entry::plain((index + 1).to_string()),
            Entry::plain(format::seconds(episode.from_s)),
            Entry::plain(ages(met).map_or_else(|| "–".into(), |(youngest, oldest)| range(youngest, oldest))),
            Entry::plain(format::count(cohort.traffic.denied)),
            Entry::toned(recovered, tone),
        ]);
    }
    (!table.rows.is_empty()).then_some(table)
}

/// `The 6 episodes met caches 2 s to 52 s old, and took 0 s to 48 s to recover.`
pub(crate) fn sentence(cell: &Cell) -> Option<String> {
    let (youngest, oldest) = ages(of(cell).iter().flatten())?;
    let taken = cell.episodes.iter().map(|episode| episode.metrics.cohort.time_to_recover.seconds);
    let taken = taken.collect::<Option<Vec<_>>>()?;
    let (shortest, longest) = extremes(taken.into_iter())?;
    Some(format!(
        "The {} met caches {} old, and took {} to recover.",
        format::counted(cell.episodes.len() as u64, "episode"),
        range(youngest, oldest),
        range(shortest, longest),
    ))
}

/// How old the key set of a cache was: since the last fetch that brought one, or since before the run.
fn age(instance: &Instance, at: f64) -> Option<f64> {
    let brought = instance.jwks_requests.iter().filter(|request| request.status == Some(200));
    let answered = brought.filter_map(|request| request.answered_s).filter(|answered| *answered <= at);
    let since_fetch = answered.map(|answered| at - answered).min_by(f64::total_cmp);
    since_fetch.or_else(|| Some(instance.cache_age_at_start_s? + at)).filter(|age| *age >= 0.0)
}

fn ages<'m>(met: impl IntoIterator<Item = &'m Met>) -> Option<(f64, f64)> {
    extremes(met.into_iter().map(|met| met.age))
}

fn extremes(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    values.fold(None, |known, value| {
        let (least, greatest) = known.unwrap_or((value, value));
        Some((least.min(value), greatest.max(value)))
    })
}

/// `2 s to 52 s`, or one of them if they read the same.
fn range(from: f64, to: f64) -> String {
    let (from, to) = (format::seconds(from), format::seconds(to));
    if from == to { from } else { format!("{from} to {to}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::JwksRequest;
    use crate::sample;

    #[test]
    fn a_cache_is_as_old_as_the_last_key_set_that_it_got() {
        let mut instance = sample::no_overlap().cells.remove(0).instances.remove(0);
        instance.cache_age_at_start_s = Some(20.0);
        instance.jwks_requests.clear();
        assert_eq!(age(&instance, 15.0), Some(35.0));
        let request = |at_s: f64, status: Option<u16>| JwksRequest {
            at_s,
            answered_s: status.map(|_| at_s + 1.0),
            status,
            keys: [].into(),
            asked_s: None,
            received_s: None,
        };
        instance.jwks_requests = vec![request(5.0, Some(200)), request(8.0, Some(503)), request(9.0, None)];
        assert_eq!(age(&instance, 15.0), Some(9.0), "neither a failure nor silence makes it younger");
        assert_eq!(age(&instance, 5.5), Some(25.5), "an answer counts when it is there");
        (instance.cache_age_at_start_s, instance.jwks_requests) = (None, Vec::new());
        assert_eq!(age(&instance, 15.0), None, "a cold cache has no age");
    }

    #[test]
    fn several_episodes_are_compared_by_the_ages_that_they_met() {
        let cell = sample::spread().cells.remove(0);
        let text = table(&cell).unwrap().to_text(false);
        assert!(text.contains("        2  60 s               50 s "), "{text}");
        assert_eq!(
            sentence(&cell).unwrap(),
            "The 2 episodes met caches 20 s to 50 s old, and took 0 s to 20.3 s to recover."
        );
        assert!(
            table(&sample::no_overlap().cells[0]).is_none()
                && sentence(&sample::no_overlap().cells[0]).is_none()
        );
    }
}
