//! `report.html`: one file without script or network, to be read by people who were not there.

mod sweep;
mod traffic;

use crate::chart::{self, Chart};
use crate::format;
use crate::record::{Cell, EventKind, Record};
use crate::story::{self, Figure, Story};
use crate::summary::{self, CellSummary, Summary};
use crate::table::{Column, Entry, Table, Tone};

/// The page. `charts` are those of the first cells, in order, or those of the sweep.
pub(crate) fn page(record: &Record, charts: &[Vec<Chart>]) -> String {
    let summary = Summary::new(record);
    let mut html = head(&summary) + &header(&summary) + "<main id=\"main\" tabindex=\"-1\">\n";
    if let Some(swept) = &record.sweep {
        html += &sweep::section(swept, charts.first().map_or(&[], Vec::as_slice));
    }
    for (index, (cell, told)) in record.cells.iter().zip(&summary.cells).enumerate() {
        html += &section_of_cell(cell, told, charts.get(index).map_or(&[], Vec::as_slice));
    }
    if summary.cells_left_out > 0 {
        let more = format::counted(summary.cells_left_out as u64, "more cell");
        html += &format!("<p class=\"quiet\">And {more} in <code>result.json</code>.</p>\n");
    }
    html += &warnings(&summary.warnings);
    html += &format!("<h2>Repeat it</h2>\n<pre>{}</pre>\n", format::xml(&summary.command));
    html + "</main>\n" + &footer(record) + "</body></html>\n"
}

fn head(summary: &Summary) -> String {
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head>\n<meta charset=\"utf-8\"/>\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; \
         base-uri 'none'; form-action 'none'\"/>\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n\
         <title>{}: {} - keyquake</title>\n<style>\n{}{}</style>\n</head>\n",
        format::xml(&summary.name),
        summary::word(summary.verdict),
        chart::ink::css(),
        include_str!("html/style.css"),
    )
}

fn header(summary: &Summary) -> String {
    let question = summary
        .question
        .as_deref()
        .map(|question| format!("<p class=\"question\">{}</p>\n", format::xml(question)));
    let reasons: String = summary
        .reasons
        .iter()
        .map(|reason| format!("<li>{}</li>", format::xml(&format::unbroken(reason))))
        .collect();
    format!(
        "<body>\n<a class=\"skip\" href=\"#main\">Skip to the results</a>\n<header>\n\
         <p class=\"brand\">keyquake, a rehearsal of signing-key rotation</p>\n<h1>{}</h1>\n{}\
         <div class=\"verdict {}\"><strong>{}</strong><ul>{reasons}</ul></div>\n<p class=\"quiet\">{}</p>\n</header>\n",
        format::xml(&summary.name),
        question.unwrap_or_default(),
        summary::tone(summary.verdict).class(),
        summary::word(summary.verdict),
        format::xml(&summary.setting),
    )
}

fn section_of_cell(cell: &Cell, told: &CellSummary, charts: &[Chart]) -> String {
    let chart = |name| charts.iter().find(|chart| chart.name == name).map(figure).unwrap_or_default();
    let mut html = String::new();
    if let Some(heading) = &told.heading {
        html += &format!("<h2>{}</h2>\n", format::xml(heading));
    }
    if let Some(gates) = &told.gates {
        html += &format!("<section>\n{}</section>\n", gates.to_html());
    }
    html += &chart("denied");
    html += &chart("phase");
    html += &what_happened(cell, told);
    html += &chart("recovery");
    if let Some(exposures) = &told.exposures {
        html += "<h2>Revocation exposure</h2>\n";
        html += &exposure(charts.iter().find(|chart| chart.name == "exposure"), exposures);
    }
    html += "<h2>Orphaned tokens and false accepts</h2>\n";
    html += &tokens(cell);
    html += "<h2>Latency, and how well the generator kept its schedule</h2>\n";
    html += &traffic::schedule(cell);
    html += &chart("latency");
    html += &traffic::durations(cell).to_html();
    html += "<h2>Traffic and parameters</h2>\n";
    html += &traffic::whole_run(cell).to_html();
    html + &folded("Every parameter", &parameters(cell))
}

/// A chart in a box that scrolls sideways where it is too wide, also by keyboard; the table that says the same after it.
fn figure(chart: &Chart) -> String {
    let title = format::xml(&chart.title);
    format!(
        "<figure>\n<figcaption>{title}</figcaption>\n<div class=\"wide\" tabindex=\"0\" role=\"region\" aria-label=\"{title}\">\n\
         {}</div>\n{}</figure>\n",
        chart.svg,
        folded("The same as a table", &chart.table),
    )
}

/// A table that opens on demand, and on paper.
fn folded(summary: &str, table: &Table) -> String {
    format!("<details><summary>{summary}</summary>\n{}</details>\n", table.to_html())
}

fn what_happened(cell: &Cell, told: &CellSummary) -> String {
    let mut html = String::from("<h2>What happened</h2>\n");
    let Some(episodes) = &told.episodes else {
        return html + "<p>Nothing was disturbed: there is no episode to tell of.</p>\n";
    };
    for (story, episode) in told.stories.iter().zip(&cell.episodes) {
        let figures = story::figures(&episode.metrics).into_iter();
        html += &tell(story, figures.chain(story::special_figures(&episode.metrics)));
    }
    if cell.episodes.len() > told.stories.len() {
        html += &format!("<p class=\"quiet\">The table holds all {} episodes.</p>\n", cell.episodes.len());
    }
    if cell.episodes.len() > 1 {
        html += &episodes.to_html();
    }
    html += &told.causes.as_ref().map_or_else(String::new, Table::to_html);
    html += &traffic::by_episode(cell).to_html();
    html += &format!("<h3>The whole run</h3>\n{}", facts(&told.run));
    html + &folded("Every event", &events(cell))
}

fn tell(story: &Story, figures: impl Iterator<Item = Figure>) -> String {
    let title = story.title.trim_end_matches('.');
    let mut html = format!("<h3>{}</h3>\n<dl class=\"figures\">", format::xml(&format::unbroken(title)));
    for figure in figures {
        let class = figure.tone.class();
        html += &format!(
            "<div class=\"{class}\"><dt>{}</dt><dd>{}</dd></div>",
            figure.name,
            format::xml(&figure.value)
        );
    }
    html + "</dl>\n" + &facts(&story.sentences)
}

fn facts(sentences: &[String]) -> String {
    let items: String = sentences
        .iter()
        .map(|sentence| format!("<li>{}</li>\n", format::xml(&format::unbroken(sentence))))
        .collect();
    format!("<ul class=\"facts\">\n{items}</ul>\n")
}

fn events(cell: &Cell) -> Table {
    let columns = vec![
        Column::Right("planned at"),
        Column::Right("happened at"),
        Column::Left("what"),
        Column::Left("key"),
        Column::Left("more"),
    ];
    let mut table = Table::new("Events", columns);
    for event in &cell.events {
        table.row([
            format::seconds(event.planned_s),
            event.actual_s.map_or_else(|| "–".into(), format::seconds),
            kind(event.kind).into(),
            event.key.clone().unwrap_or_default(),
            event.detail.clone().unwrap_or_default(),
        ]);
    }
    table
}

fn kind(kind: EventKind) -> &'static str {
    match kind {
        EventKind::FaultOff => "fault ends",
        EventKind::FaultOn => "fault begins",
        EventKind::Publish => "key published",
        EventKind::Activate => "key active: it signs new tokens",
        EventKind::Retire => "key retired: it signs no more",
        EventKind::Remove => "key removed from the JWKS",
        EventKind::Revoke => "key revoked: its tokens must be refused",
        EventKind::StreamOff => "stream ends",
        EventKind::StreamOn => "stream begins",
        EventKind::Burst => "burst",
        EventKind::Runbook => "runbook",
        EventKind::Death => "replica died",
    }
}

/// The chart, if there is anything to draw, and the table.
fn exposure(chart: Option<&Chart>, table: &Table) -> String {
    let explained = "<p>From the revocation to the last token of the revoked key that was accepted. <em>Mixed</em>: tokens of \
        the new key arrive too and make the service look for it; <em>alone</em>: nothing else goes to the same replicas. \
        <em>Fresh</em>: a new token each time; <em>repeated</em>: one that the service has seen before.</p>\n";
    explained.to_owned() + &chart.map_or_else(|| table.to_html(), figure)
}

fn tokens(cell: &Cell) -> String {
    let orphaned = &cell.metrics.orphaned;
    let mut html = format!(
        "<p>Orphaned tokens, valid still while their key had left the JWKS: {} refused, {} accepted. They are the doing of \
         the IdP's timeline and in no other number here.</p>\n",
        format::count(orphaned.orphaned_rejects),
        format::count(orphaned.orphaned_accepts),
    );
    let by_kind = &cell.metrics.false_accepts;
    if by_kind.is_empty() {
        return html
            + "<p>No token that must be refused was sent, so nothing is known of false accepts.</p>\n";
    }
    let accepted = story::false_accepts(by_kind);
    html += &match accepted.as_str() {
        "" => "<p>Every token that must be refused was refused.</p>\n".into(),
        kinds => format!(
            "<p class=\"bad\"><strong>Tokens that must be refused were accepted: {}.</strong></p>\n",
            format::xml(kinds)
        ),
    };
    let mut table =
        Table::new("Tokens that must be refused", vec![Column::Left("kind"), Column::Right("accepted")]);
    for (kind, &number) in by_kind {
        let tone = if number > 0 { Tone::Bad } else { Tone::Plain };
        table.rows.push(vec![Entry::plain(kind.clone()), Entry::toned(format::count(number), tone)]);
    }
    html + &table.to_html()
}

fn parameters(cell: &Cell) -> Table {
    let mut table = Table::new("Parameters", vec![Column::Left("setting"), Column::Left("value")]);
    for (name, value) in &cell.parameters {
        table.row([name.clone(), value.clone()]);
    }
    table
}

fn warnings(warnings: &[String]) -> String {
    if warnings.is_empty() {
        return String::new();
    }
    let items: String =
        warnings.iter().map(|warning| format!("<li>{}</li>\n", format::xml(warning))).collect();
    format!("<h2>Warnings</h2>\n<ul>\n{items}</ul>\n")
}

fn footer(record: &Record) -> String {
    format!(
        "<footer>Drawn from <code>result.json</code> (schema {}). Scenario hash <code>{}</code>.</footer>\n",
        record.schema,
        format::xml(&record.scenario.hash),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge;
    use crate::record::{Event, Traffic};
    use crate::sample::{self, assert_well_formed};

    fn drawn(record: &mut Record) -> (String, Vec<Vec<Chart>>) {
        judge(record);
        let charts = record.cells.iter().map(|cell| chart::draw_all(cell, "c1").unwrap()).collect::<Vec<_>>();
        (page(record, &charts), charts)
    }

    #[test]
    fn pages_and_charts_are_well_formed() {
        for mut record in [
            sample::no_overlap(),
            sample::overlap(),
            sample::revocation(),
            sample::outage(),
            sample::aborted(),
            sample::spread(),
            sample::long(1_800),
        ] {
            let (page, charts) = drawn(&mut record);
            assert_well_formed(&page);
            charts.iter().flatten().for_each(|chart| assert_well_formed(&chart.svg));
        }
    }

    #[test]
    fn the_page_of_a_sweep_is_well_formed_and_every_picture_has_its_table() {
        let mut record = sample::sweep();
        judge(&mut record);
        let charts = vec![chart::draw_sweep(record.sweep.as_ref().unwrap()).unwrap()];
        let page = page(&record, &charts);
        assert_well_formed(&page);
        let order = [
            "<h2>The recommended setting</h2>",
            "<h2>Found by bisection</h2>",
            "<h2>What each setting costs</h2>",
            "<h2>The settings side by side</h2>",
            "<h2>Every cell</h2>",
            "<h2>Repeat it</h2>",
        ];
        let places: Vec<usize> = order.iter().map(|part| page.find(part).expect(part)).collect();
        assert!(places.is_sorted(), "{places:?}");
        assert_eq!(page.matches("<svg").count(), 6);
        assert_eq!(page.matches("The same as a table").count(), 8, "two searches, too");
        let hostile = || String::from("<script>alert(1)</script>\"'&\u{1}");
        let mut sweep = record.sweep.take().unwrap();
        sweep.axes[0].path = hostile();
        sweep.axes[1].values[0] = hostile();
        sweep.parameters.insert(hostile(), hostile());
        for cell in &mut sweep.cells {
            let value = cell.parameters.remove("fleet.policy.ttl").unwrap();
            cell.parameters.insert(hostile(), value + &hostile());
        }
        sweep.findings[0].parameters.insert(hostile(), hostile());
        let charts = vec![chart::draw_sweep(&sweep).unwrap()];
        record.sweep = Some(sweep);
        let page = super::page(&record, &charts);
        assert!(!page.contains("<script") && !page.contains('\u{1}'));
        assert_well_formed(&page);
    }

    #[test]
    fn every_chart_has_a_name_a_description_and_a_table() {
        let (page, charts) = drawn(&mut sample::no_overlap());
        let names: Vec<&str> = charts[0].iter().map(|chart| &*chart.name).collect();
        assert_eq!(names, ["denied", "recovery", "latency"]);
        for chart in &charts[0] {
            assert!(chart.svg.contains(" role=\"img\" aria-labelledby="), "{}", chart.name);
            assert!(chart.svg.contains("<title id=") && chart.svg.contains("<desc id="), "{}", chart.name);
            assert!(!chart.svg.contains("#FA01"), "a colour of {} has no role", chart.name);
            assert!(chart.table.rows.len() > 1, "{}", chart.name);
            assert!(page.contains(&chart.svg), "{}", chart.name);
        }
        assert_eq!(page.matches("The same as a table").count(), 3);
    }

    #[test]
    fn the_order_is_that_of_the_questions() {
        let (page, _) = drawn(&mut sample::outage());
        let order = [
            "class=\"verdict ",
            "<caption>Gates</caption>",
            "Denied requests over time",
            "<h2>What happened</h2>",
            "<caption>Why requests were denied</caption>",
            "<caption>What each stream saw</caption>",
            "<figcaption>Recovery per instance",
            "<h2>Orphaned tokens and false accepts</h2>",
            "<h2>Latency",
            "<caption>Parameters</caption>",
            "<h2>Warnings</h2>",
            "<h2>Repeat it</h2>",
        ];
        let places: Vec<usize> = order.iter().map(|part| page.find(part).expect(part)).collect();
        assert!(places.is_sorted(), "{places:?}");
    }

    #[test]
    fn text_of_a_record_is_only_text() {
        let hostile = || String::from("<script>alert(1)</script>\"'&\u{1}");
        let mut record = sample::no_overlap();
        (record.scenario.name, record.scenario.question, record.command) =
            (hostile(), Some(hostile()), hostile());
        (record.keyquake, record.scenario.hash, record.warnings) = (hostile(), hostile(), vec![hostile()]);
        let cell = &mut record.cells[0];
        cell.parameters.insert(hostile(), hostile());
        cell.metrics.false_accepts.insert(hostile(), 3);
        cell.metrics.streams.insert(hostile(), Traffic::default());
        cell.metrics.all.outcomes.insert(hostile(), 3);
        cell.gates[0].gate.of = hostile();
        (cell.episodes[0].title, cell.episodes[0].cohort) = (hostile(), hostile());
        for event in &mut cell.events {
            *event = Event {
                key: Some(hostile()),
                detail: Some(hostile()),
                kind: EventKind::Runbook,
                ..event.clone()
            };
        }
        let (page, charts) = drawn(&mut record);
        assert!(!page.contains("<script") && !page.contains('\u{1}'));
        assert_well_formed(&page);
        charts.iter().flatten().for_each(|chart| assert_well_formed(&chart.svg));
    }

    #[test]
    fn the_page_needs_nothing_from_outside() {
        let (page, _) = drawn(&mut sample::no_overlap());
        assert!(page.contains(
            "content=\"default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'\""
        ));
        let namespace = "http://www.w3.org/2000/svg";
        let rest = page.replace(namespace, "");
        for outside in ["http:", "https:", "src=", "@import", "<script", "<link", "url(h"] {
            assert!(!rest.contains(outside), "{outside}");
        }
    }

    #[test]
    fn size_is_bounded_however_long_the_run() {
        let (half_hour, charts) = drawn(&mut sample::long(1_800));
        assert!(half_hour.len() < 200_000, "{}", half_hour.len());
        assert!(charts.iter().flatten().all(|chart| chart.svg.len() < 40_000));
        let (day, _) = drawn(&mut sample::long(86_400));
        assert!(day.len() < 200_000, "{}", day.len());
    }

    #[test]
    fn numbers_at_the_edge_are_drawn_and_not_panicked_over() {
        let mut record = sample::no_overlap();
        let cell = &mut record.cells[0];
        let windows = &mut cell.windows;
        windows.width_s = 1e9;
        for column in [&mut windows.requests, &mut windows.must_pass, &mut windows.cohort_must_pass] {
            column.fill(u64::MAX);
        }
        for column in [&mut windows.failures, &mut windows.cohort_failures, &mut windows.jwks_requests] {
            column.fill(u64::MAX);
        }
        windows.latency_p99_ms.fill(Some(f64::MAX));
        windows.latency_p50_ms.fill(Some(f64::MIN));
        cell.events[0].planned_s = f64::MAX;
        cell.instances[0].time_to_recover[0] = sample::recovered(f64::MAX);
        cell.instances[1].time_to_recover[0] = sample::recovered(f64::MIN);
        cell.episodes[0].metrics.cohort.time_to_recover = sample::recovered(f64::MAX);
        cell.episodes[0].metrics.all.traffic.denied = u64::MAX;
        cell.metrics.false_accepts = [("a".into(), u64::MAX), ("b".into(), u64::MAX)].into();
        let (page, _) = drawn(&mut record);
        assert_well_formed(&page);
        assert!(page.len() < 200_000);
    }

    #[test]
    fn a_fleet_that_is_too_large_to_list_is_counted() {
        let mut record = sample::no_overlap();
        let cell = &mut record.cells[0];
        cell.instances = vec![cell.instances[0].clone(); 1_000];
        cell.instances[7].time_to_recover[0] = sample::not_recovered(50.0);
        cell.instances[8].time_to_recover[0] = sample::inconclusive();
        let (page, charts) = drawn(&mut record);
        let recovery = charts[0].iter().find(|chart| chart.name == "recovery").unwrap();
        assert!(recovery.svg.contains("998 instances") && recovery.svg.contains("not recovered"));
        assert!(page.len() < 200_000);
    }
}
