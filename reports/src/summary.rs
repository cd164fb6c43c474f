//! A record in sentences and tables: the one place that words it, for the terminal, `summary.md` and the page alike.

use crate::record::{Cell, Engine, GateResult, GateState, Metric, Record, Sweep, Verdict};
use crate::story::{self, Story};
use crate::table::{Column, Entry, Table, Tone};
use crate::{causes, exposure, format, sweep};

/// More cells than this are left to `result.json`.
pub(crate) const CELLS_MAX: usize = 50;

/// What there is to say of a record.
pub(crate) struct Summary {
    pub(crate) name: String,
    pub(crate) question: Option<String>,
    pub(crate) verdict: Verdict,
    /// Why, or what it means; never empty.
    pub(crate) reasons: Vec<String>,
    /// How it was run, in a few words.
    pub(crate) setting: String,
    /// What a sweep came to; `None` of a run.
    pub(crate) sweep: Option<SweepSummary>,
    pub(crate) cells: Vec<CellSummary>,
    /// Cells beyond [`CELLS_MAX`].
    pub(crate) cells_left_out: usize,
    pub(crate) warnings: Vec<String>,
    pub(crate) command: String,
}

/// What there is to say of a sweep.
pub(crate) struct SweepSummary {
    /// `Recommended: ttl = 15m, on_unknown_kid = refetch.`
    pub(crate) recommended: Option<String>,
    /// Why, or why nothing is.
    pub(crate) why: Vec<String>,
    pub(crate) findings: Vec<String>,
    /// The cells, or the front where they are many.
    pub(crate) cells: Table,
}

/// What there is to say of a cell.
pub(crate) struct CellSummary {
    /// Its parameters in a line, where it is one of several.
    pub(crate) heading: Option<String>,
    /// `None` when no gate was set.
    pub(crate) gates: Option<Table>,
    /// `None` when nothing was disturbed.
    pub(crate) episodes: Option<Table>,
    pub(crate) stories: Vec<Story>,
    /// Why requests were denied; `None` when none was.
    pub(crate) causes: Option<Table>,
    /// `None` when no key was revoked.
    pub(crate) exposures: Option<Table>,
    /// What is to be said of the whole run.
    pub(crate) run: Vec<String>,
}

/// The summary for a terminal, as wide as its longest line; `colour` adds ANSI sequences.
pub fn terminal(record: &Record, colour: bool) -> String {
    let summary = Summary::new(record);
    let verdict = tone(summary.verdict).paint(&word(summary.verdict).to_uppercase(), colour);
    let mut text =
        format!("{verdict}  {}  ({})\n", format::plain(&summary.name), format::plain(&summary.setting));
    for reason in &summary.reasons {
        text += &format!("  {}\n", format::plain(reason));
    }
    if let Some(sweep) = &summary.sweep {
        text += "\n";
        for sentence in sweep.recommended.iter().chain(&sweep.why).chain(&sweep.findings) {
            text += &format!("  {}\n", format::plain(sentence));
        }
        text += &format!("\n{}\n{}", format::plain(&sweep.cells.caption), sweep.cells.to_text(colour));
    }
    for cell in &summary.cells {
        if let Some(heading) = &cell.heading {
            text += &format!("\n{}\n", format::plain(heading));
        }
        for table in cell.gates.iter().chain(&cell.episodes).chain(&cell.causes).chain(&cell.exposures) {
            text += "\n";
            text += &table.to_text(colour);
        }
    }
    if summary.cells_left_out > 0 {
        text += &format!(
            "\n  and {} in result.json\n",
            format::counted(summary.cells_left_out as u64, "more cell")
        );
    }
    if !summary.warnings.is_empty() {
        text += "\n";
    }
    for warning in &summary.warnings {
        text += &format!("  {}: {}\n", Tone::Doubtful.paint("warning", colour), format::plain(warning));
    }
    text + "\n  repeat: " + &format::plain(&summary.command) + "\n"
}

/// The summary as GitHub-flavoured Markdown, for `summary.md`.
pub(crate) fn markdown(record: &Record) -> String {
    let summary = Summary::new(record);
    let name = format::markdown(&summary.name);
    let mut text = format!("## {name}: **{}**\n\n", word(summary.verdict));
    if let Some(question) = &summary.question {
        text += &format!("> {}\n\n", format::markdown(question));
    }
    for reason in &summary.reasons {
        text += &format!("- {}\n", format::markdown(reason));
    }
    if let Some(sweep) = &summary.sweep {
        text += "\n";
        text += &sweep
            .recommended
            .iter()
            .map(|it| format!("**{}**\n\n", format::markdown(it)))
            .collect::<String>();
        for sentence in sweep.why.iter().chain(&sweep.findings) {
            text += &format!("- {}\n", format::markdown(sentence));
        }
        text += &format!("\n{}:\n\n{}", format::markdown(&sweep.cells.caption), sweep.cells.to_markdown());
    }
    for cell in &summary.cells {
        if let Some(heading) = &cell.heading {
            text += &format!("\n### {}\n", format::markdown(heading));
        }
        for table in cell.gates.iter().chain(&cell.episodes) {
            text += &format!("\n{}", table.to_markdown());
        }
        for story in &cell.stories {
            text += &format!(
                "\n**{}** {}\n",
                format::markdown(&story.title),
                format::markdown(&story.sentences.join(" "))
            );
        }
        for table in cell.causes.iter().chain(&cell.exposures) {
            text += &format!("\n{}", table.to_markdown());
        }
        text += &format!("\n**The whole run.** {}\n", format::markdown(&cell.run.join(" ")));
    }
    if summary.cells_left_out > 0 {
        text += &format!(
            "\nAnd {} in `result.json`.\n",
            format::counted(summary.cells_left_out as u64, "more cell")
        );
    }
    if !summary.warnings.is_empty() {
        text += "\nWarnings:\n\n";
    }
    for warning in &summary.warnings {
        text += &format!("- {}\n", format::markdown(warning));
    }
    text += &format!("\nThis run: {}. To repeat it:\n\n", format::markdown(&summary.setting));
    // Indented, it needs no fence that the command itself could close.
    text + "    " + &format::plain(&summary.command) + "\n"
}

/// The verdict as reports name it.
pub(crate) fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "pass",
        Verdict::Fail => "fail",
        Verdict::Inconclusive => "inconclusive",
        Verdict::Void => "void",
        Verdict::Aborted => "aborted",
        Verdict::Incomplete => "incomplete",
    }
}

/// What the verdict says, to those who meet it for the first time.
fn meaning(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "Every gate held.",
        Verdict::Fail => "A gate did not hold.",
        Verdict::Inconclusive => "There is too little data to say.",
        Verdict::Void => {
            "The generator could not keep its schedule: the numbers say nothing about the target."
        }
        Verdict::Aborted => "The run was stopped before its end.",
        Verdict::Incomplete => "Parts of the run are missing.",
    }
}

pub(crate) fn tone(verdict: Verdict) -> Tone {
    match verdict {
        Verdict::Pass => Tone::Good,
        Verdict::Fail => Tone::Bad,
        Verdict::Inconclusive | Verdict::Void | Verdict::Aborted | Verdict::Incomplete => Tone::Doubtful,
    }
}

impl Summary {
    pub(crate) fn new(record: &Record) -> Self {
        let several = record.cells.len() > 1;
        let cells = record.cells.iter().take(CELLS_MAX).enumerate();
        let reasons = match record.reasons.as_slice() {
            [] => vec![meaning(record.verdict).into()],
            reasons => reasons.to_vec(),
        };
        Self {
            name: record.scenario.name.clone(),
            question: record.scenario.question.clone(),
            verdict: record.verdict,
            reasons,
            setting: setting(record),
            sweep: record.sweep.as_ref().map(SweepSummary::new),
            cells: cells
                .map(|(index, cell)| CellSummary::new(record.verdict, cell, several.then_some(index)))
                .collect(),
            cells_left_out: record.cells.len().saturating_sub(CELLS_MAX),
            warnings: record.warnings.clone(),
            command: record.command.clone(),
        }
    }
}

fn setting(record: &Record) -> String {
    let engine = match record.engine {
        Engine::Live => "live",
        Engine::Simulated => "simulated",
    };
    let speed =
        if record.speed == 1.0 { String::new() } else { format!(" at {} times the speed", record.speed) };
    let target = record.target.as_ref().map_or_else(String::new, |target| format!(" of {}", target.what));
    format!("{engine}{target}{speed}, seed {}, keyquake {}", record.seed, record.keyquake)
}

impl SweepSummary {
    fn new(swept: &Sweep) -> Self {
        let (recommended, why) = sweep::recommendation(swept);
        Self {
            recommended: recommended.map(|name| format!("Recommended: {name}.")),
            why,
            findings: sweep::found(swept),
            cells: sweep::brief(swept),
        }
    }
}

impl CellSummary {
    fn new(verdict: Verdict, cell: &Cell, index: Option<usize>) -> Self {
        let parameters = || cell.parameters.iter().map(|(name, value)| format!("{name} = {value}"));
        let heading =
            index.map(|index| format!("Cell {}: {}", index + 1, parameters().collect::<Vec<_>>().join(", ")));
        Self {
            heading,
            gates: (!cell.gates.is_empty()).then(|| gates(verdict, cell)),
            episodes: (!cell.episodes.is_empty()).then(|| episodes(cell)),
            stories: story::tell(cell),
            causes: causes::table(cell),
            exposures: exposure::table(cell),
            run: story::of_run(cell),
        }
    }
}

fn gates(verdict: Verdict, cell: &Cell) -> Table {
    let weightless = weightless(verdict);
    let columns = vec![
        Column::Left("gate"),
        Column::Left("result"),
        Column::Right("measured"),
        Column::Right("margin"),
        Column::Left("worst in"),
    ];
    let mut table = Table::new("Gates", columns);
    for result in &cell.gates {
        let (state, tone) = match result.state {
            // What is green reads as passed.
            GateState::Held if verdict != Verdict::Pass => ("held", Tone::Plain),
            GateState::Held => ("held", Tone::Good),
            GateState::Failed => ("failed", Tone::Bad),
            GateState::Inconclusive => ("inconclusive", Tone::Doubtful),
        };
        let failed = result.state == GateState::Failed && weightless.is_none();
        let unit = result.gate.metric.unit();
        let margin = result.margin.map_or_else(|| "–".into(), |margin| format::margin(unit, margin));
        let place =
            result.episode.map_or_else(|| "the whole run".into(), |index| format!("episode {}", index + 1));
        table.rows.push(vec![
            Entry::plain(result.gate.to_string()),
            match weightless {
                Some(why) => Entry::toned(format!("{state}, {why}"), Tone::Faint),
                None => Entry::toned(state, tone),
            },
            Entry::plain(measured(result)),
            Entry::toned(margin, if failed { Tone::Bad } else { Tone::Plain }),
            Entry::plain(place),
        ]);
    }
    table
}

/// Why gates say nothing about the target, whether they held or not; `None` where they do.
fn weightless(verdict: Verdict) -> Option<&'static str> {
    match verdict {
        Verdict::Void => Some("but the run is void"),
        Verdict::Aborted => Some("until the run was stopped"),
        Verdict::Incomplete => Some("but parts are missing"),
        Verdict::Pass | Verdict::Fail | Verdict::Inconclusive => None,
    }
}

fn measured(result: &GateResult) -> String {
    match result.value.map(|value| format::quantity(result.gate.metric.unit(), value)) {
        None => "too little data".into(),
        Some(value) if result.at_least => {
            // It was seen to last so long, while a recovery was seen not to have come by then.
            let recovery = matches!(result.gate.metric, Metric::TimeToRecover | Metric::RecoveryLag);
            format!("{} {value}", if recovery { ">" } else { ">=" })
        }
        Some(value) => value,
    }
}

fn episodes(cell: &Cell) -> Table {
    let mut columns = vec![Column::Right("#"), Column::Left("episode"), Column::Right("at")];
    if let Some(episode) = cell.episodes.first() {
        columns.extend(story::figures(&episode.metrics).map(|figure| Column::Right(figure.name)));
    }
    let mut table = Table::new("Episodes: figures of the cohort, unless they say otherwise", columns);
    for (index, episode) in cell.episodes.iter().enumerate() {
        let mut row = vec![
            Entry::plain((index + 1).to_string()),
            Entry::plain(episode.title.clone()),
            Entry::plain(format::seconds(episode.from_s)),
        ];
        row.extend(story::figures(&episode.metrics).map(|figure| Entry::toned(figure.value, figure.tone)));
        table.rows.push(row);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge;
    use crate::sample;

    fn judged(mut record: Record) -> Record {
        judge(&mut record);
        record
    }

    #[test]
    fn the_terminal_shows_what_matters() {
        insta::assert_snapshot!("terminal_no_overlap", terminal(&judged(sample::no_overlap()), false));
        insta::assert_snapshot!("terminal_overlap", terminal(&judged(sample::overlap()), false));
        insta::assert_snapshot!("terminal_revocation", terminal(&judged(sample::revocation()), false));
        insta::assert_snapshot!("terminal_aborted", terminal(&judged(sample::aborted()), false));
        insta::assert_snapshot!("terminal_sweep", terminal(&judged(sample::sweep()), false));
    }

    #[test]
    fn colours_are_all_that_colour_adds() {
        let mut void = judged(sample::overlap());
        void.verdict = Verdict::Void;
        let records = [judged(sample::no_overlap()), judged(sample::overlap()), void];
        let faces = |colour| records.each_ref().map(|record| terminal(record, colour)).concat();
        let mut plain = faces(true);
        for code in ["\x1b[32m", "\x1b[1;31m", "\x1b[33m", "\x1b[2m", "\x1b[0m"] {
            assert!(plain.contains(code), "{code:?}");
            plain = plain.replace(code, "");
        }
        assert_eq!(plain, faces(false));
    }

    #[test]
    fn the_markdown_tells_the_story_too() {
        insta::assert_snapshot!("markdown_no_overlap", markdown(&judged(sample::no_overlap())));
        insta::assert_snapshot!("markdown_overlap", markdown(&judged(sample::overlap())));
        insta::assert_snapshot!("markdown_revocation", markdown(&judged(sample::revocation())));
        insta::assert_snapshot!("markdown_outage", markdown(&judged(sample::outage())));
        insta::assert_snapshot!("markdown_aborted", markdown(&judged(sample::aborted())));
        insta::assert_snapshot!("markdown_sweep", markdown(&judged(sample::sweep())));
    }

    #[test]
    fn gates_of_a_run_that_did_not_pass_do_not_look_passed() {
        let mut record = sample::no_overlap();
        record.cells[0].gates.truncate(3);
        let face = |record: &Record| gates(record.verdict, &record.cells[0]).to_html();
        assert!(face(&judged(record.clone())).contains("<td class=\"good\">held</td>"));
        for (verdict, text) in [
            (Verdict::Fail, "<td>held</td>"),
            (Verdict::Inconclusive, "<td>held</td>"),
            (Verdict::Void, "<td class=\"faint\">held, but the run is void</td>"),
            (Verdict::Aborted, "<td class=\"faint\">held, until the run was stopped</td>"),
            (Verdict::Incomplete, "<td class=\"faint\">held, but parts are missing</td>"),
        ] {
            let mut record = judged(record.clone());
            record.verdict = verdict;
            let html = face(&record);
            assert!(html.contains(text) && !html.contains("good"), "{verdict:?}: {html}");
        }
        let mut record = judged(sample::no_overlap());
        record.verdict = Verdict::Void;
        let text = face(&record);
        assert!(text.contains("failed, but the run is void") && !text.contains("bad"), "{text}");
    }

    #[test]
    fn a_hostile_name_stays_text() {
        let mut record = sample::overlap();
        record.scenario.name = "<script>\x1b[2J|`x`".into();
        record.command = "keyquake\n```".into();
        assert!(!terminal(&record, false).contains('\x1b'));
        let markdown = markdown(&record);
        assert!(markdown.starts_with("## \\<script>\u{fffd}\\[2J\\|\\`x\\`: **pass**\n"), "{markdown}");
        assert!(markdown.ends_with("\n    keyquake ```\n"));
    }

    #[test]
    fn a_sweep_has_a_heading_for_each_cell_and_stays_short() {
        let mut record = sample::no_overlap();
        record.cells = vec![record.cells[0].clone(); CELLS_MAX + 3];
        let text = terminal(&judged(record.clone()), false);
        assert!(text.contains("Cell 2: fleet.policy.on_unknown_kid = refetch, "), "{text}");
        assert!(text.contains("and 3 more cells in result.json"));
        assert!(markdown(&record).len() < 200_000);
    }
}
