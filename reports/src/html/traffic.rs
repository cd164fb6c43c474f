//! What was sent, by whom, how fast, and how it ended.

use crate::format;
use crate::record::{Cell, Fidelity, Quantiles, Recovering, Traffic};
use crate::story;
use crate::table::{Column, Entry, Table};

/// More statuses than these in one place are left to `result.json`.
const STATUSES_MAX: usize = 12;

/// What each stream of valid tokens saw of each episode; without rows if there is but one.
pub(super) fn by_episode(cell: &Cell) -> Table {
    let columns = vec![
        Column::Right("episode"),
        Column::Left("whose requests"),
        Column::Right("must pass"),
        Column::Right("denied"),
        Column::Right("of these"),
        Column::Right("worst second"),
        Column::Right("recovered after"),
    ];
    let mut table = Table::new("What each stream saw", columns);
    for (index, episode) in cell.episodes.iter().enumerate().filter(|(_, e)| !e.metrics.streams.is_empty()) {
        let metrics = &episode.metrics;
        let streams = metrics.streams.iter().map(|(name, seen)| (name.as_str(), seen));
        let streams = streams.filter(|(_, seen)| seen.traffic.must_pass > 0);
        for (name, seen) in
            [("the cohort", &metrics.cohort), ("all", &metrics.all)].into_iter().chain(streams)
        {
            table.rows.push(seen_by(index, name, seen));
        }
    }
    table
}

fn seen_by(index: usize, name: &str, seen: &Recovering) -> Vec<Entry> {
    let Recovering { traffic, time_to_recover, .. } = seen;
    let share = |share: Option<f64>| Entry::plain(share.map_or_else(|| "–".into(), format::share));
    let (recovered, tone) = story::recovery(time_to_recover);
    vec![
        Entry::plain((index + 1).to_string()),
        Entry::plain(name.into()),
        Entry::plain(format::count(traffic.must_pass)),
        Entry::plain(format::count(traffic.denied)),
        share(traffic.denied_share),
        share(traffic.peak_denied_share),
        Entry::toned(recovered, tone),
    ]
}

/// How well the generator kept its schedule, in a paragraph.
pub(super) fn schedule(cell: &Cell) -> String {
    let Fidelity { lateness_ms, shed, shed_share, lateness_limit_ms, shed_limit } = &cell.metrics.fidelity;
    let lateness = match lateness_ms {
        Some(lateness) => format!(
            "The generator sent 99 % of the requests within {} of their planned moment (an episode is void over {}).",
            format::milliseconds(lateness.p99),
            format::milliseconds(*lateness_limit_ms),
        ),
        None => "Nothing was late: time was virtual, or nothing was sent.".into(),
    };
    let sent = match shed {
        0 => "It sent every request of the plan".into(),
        _ => format!(
            "It could not send {}, {} of the plan",
            format::counted(*shed, "request"),
            format::share(*shed_share)
        ),
    };
    format!(
        "<p>{lateness} {sent} (void over {} unsent). Latency counts from the planned moment, so a generator that falls behind \
         cannot make a service look fast.</p>\n",
        format::share(*shed_limit),
    )
}

/// Latency, service time and lateness by their quantiles.
pub(super) fn durations(cell: &Cell) -> Table {
    let columns = vec![
        Column::Left("over the whole run"),
        Column::Right("p50"),
        Column::Right("p90"),
        Column::Right("p99"),
        Column::Right("p99.9"),
        Column::Right("max"),
    ];
    let mut table = Table::new("Latency and lateness", columns);
    let metrics = &cell.metrics;
    let mut add = |name: &str, quantiles: Option<Quantiles>| {
        if let Some(Quantiles { p50, p90, p99, p999, max }) = quantiles {
            let [p50, p90, p99, p999, max] = [p50, p90, p99, p999, max].map(format::milliseconds);
            table.row([name.into(), p50, p90, p99, p999, max]);
        }
    };
    add("latency, from the planned moment", metrics.all.latency_ms);
    add("service time, from sending", metrics.all.service_time_ms);
    for (stream, traffic) in &metrics.streams {
        add(&format!("latency of {stream}"), traffic.latency_ms);
    }
    add("lateness of the generator", metrics.fidelity.lateness_ms);
    table
}

/// Every stream with its outcomes.
pub(super) fn whole_run(cell: &Cell) -> Table {
    let columns = vec![
        Column::Left("stream"),
        Column::Right("requests"),
        Column::Right("must pass"),
        Column::Right("denied"),
        Column::Right("of these"),
        Column::Right("raw 401 share"),
        Column::Left("outcomes"),
        Column::Left("statuses"),
    ];
    let mut table = Table::new("Traffic of the whole run", columns);
    let streams = cell.metrics.streams.iter().map(|(name, traffic)| (name.as_str(), traffic));
    for (name, traffic) in [("all", &cell.metrics.all)].into_iter().chain(streams) {
        let share = |share: Option<f64>| share.map_or_else(|| "–".into(), format::share);
        let Traffic { requests, must_pass, denied, denied_share, rejected_share, .. } = traffic;
        // Lines break between the entries of a list only.
        let outcomes = traffic.outcomes.iter().filter(|&(_, &n)| n > 0);
        let outcomes = outcomes.map(|(name, &n)| format!("{}\u{a0}{name}", format::count(n)));
        let statuses = traffic.statuses.iter().filter(|&(_, &n)| n > 0);
        let statuses = statuses.map(|(status, &n)| format!("{}\u{a0}×\u{a0}{status}", format::count(n)));
        table.row([
            name.into(),
            format::count(*requests),
            format::count(*must_pass),
            format::count(*denied),
            share(*denied_share),
            share(*rejected_share),
            outcomes.collect::<Vec<_>>().join(", "),
            statuses.take(STATUSES_MAX).collect::<Vec<_>>().join(", "),
        ]);
    }
    table
}
