//! Mutated records, for as long as `KEYQUAKE_FUZZ_SECONDS` says.

use keyquake_fuzz::Target;

use crate::{CELLS_WITH_CHARTS, Record, chart, html, judge, sample, summary};

const WORDS: &[&str] = &[
    "\"void\"",
    "\"aborted\"",
    "\"simulated\"",
    "\"recovered\"",
    "\"not_recovered\"",
    "\"inconclusive\"",
    "\"fault_on\"",
    "\"fault_off\"",
    "\"rekey\"",
    "1e300",
    "-1e11",
    "1e11",
    "1e-300",
    "5e-324",
    "<script>",
    "\\u001b[31m",
    "|`*_",
    "null,",
    "\"front\": [0],",
    "\"recommended\": {\"cell\": 0, \"rule\": \"knee\"},",
    "\"unplayable\"",
    "[],",
];

/// What is read is read back equal after writing, and can be drawn.
#[test]
fn record() {
    let records = [sample::no_overlap(), sample::overlap(), sample::aborted(), sample::sweep()];
    let seeds = records.map(|record| record.to_json().unwrap());
    Target::new("record", seeds).words(WORDS).run(|input| {
        let Ok(mut record) = Record::from_json(input) else { return };
        let json = record.to_json().expect("what was read can be written");
        assert_eq!(Record::from_json(json.as_bytes()).expect("what was written can be read"), record);
        draw(&record);
        judge(&mut record);
        draw(&record);
    });
}

fn draw(record: &Record) {
    let cells = record.cells.iter().take(CELLS_WITH_CHARTS);
    let mut charts: Vec<_> = cells.map(|cell| chart::draw_all(cell, "c").expect("it can be drawn")).collect();
    if let Some(sweep) = &record.sweep {
        charts.insert(0, chart::draw_sweep(sweep).expect("it can be drawn"));
        assert!(crate::sweep::csv(sweep).lines().count() > sweep.cells.len());
    }
    for chart in charts.iter().flatten() {
        sample::assert_well_formed(&chart.svg);
        assert!(!chart.svg.contains("NaN"), "{}: {}", chart.name, chart.svg);
    }
    assert!(html::page(record, &charts).ends_with("</html>\n"));
    let texts = [summary::markdown(record), summary::terminal(record, false)];
    assert!(!texts.concat().contains('\u{1b}'), "no command reaches a terminal");
}
