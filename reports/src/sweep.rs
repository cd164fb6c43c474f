//! A sweep in words, tables and `cells.csv`.

use std::collections::{BTreeMap, BTreeSet};

use crate::format;
use crate::record::{
    Comparison, Extreme, Finding, Gate, GateResult, GateState, Metric, Outcome, Rule, Sample, Sweep,
    SweepCell, Unit,
};
use crate::story::Figure;
use crate::table::{Column, Entry, Table, Tone};

/// Of a sweep with more cells, a terminal lists only the front.
const BRIEF_MAX: usize = 30;

/// With more findings, only those of the recommended setting are told in sentences.
const SENTENCES_MAX: usize = 8;

/// A setting in words: `ttl = 15m, on_unknown_kid = refetch`.
pub(crate) fn name(sweep: &Sweep, cell: &SweepCell) -> String {
    if cell.parameters.is_empty() {
        return "the only one".into();
    }
    settings(sweep, &cell.parameters)
}

/// Those on axes first, in their order.
fn settings(sweep: &Sweep, parameters: &BTreeMap<String, String>) -> String {
    let place = |path: &str| sweep.axes.iter().position(|axis| axis.path == path).unwrap_or(usize::MAX);
    let mut parameters: Vec<_> = parameters.iter().collect();
    parameters.sort_by_key(|(path, _)| place(path));
    let each = parameters.iter().map(|(path, value)| format!("{} = {value}", field(path)));
    each.collect::<Vec<_>>().join(", ")
}

/// The values of a setting alone, in the order of the axes: `15m, refetch`.
pub(crate) fn values(sweep: &Sweep, cell: &SweepCell) -> String {
    let axes = sweep.axes.iter().filter(|axis| axis.values.len() > 1);
    let values: Vec<&str> =
        axes.filter_map(|axis| cell.parameters.get(&axis.path)).map(String::as_str).collect();
    if values.is_empty() { name(sweep, cell) } else { values.join(", ") }
}

/// The last step of a path: what people call the field.
pub(crate) fn field(path: &str) -> &str {
    path.rsplit('.').next().unwrap_or(path)
}

/// A sample in the width of a table's column: the mean, and how uncertain it is.
pub(crate) fn mean(unit: Unit, sample: &Sample) -> String {
    let mean = open(sample) + &quantity(unit, sample.mean);
    match (sample.low, sample.high) {
        (Some(low), Some(high)) if high > low => {
            format!("{mean} ({} to {})", quantity(unit, low), quantity(unit, high))
        }
        _ => mean,
    }
}

/// The worst replication.
pub(crate) fn worst(unit: Unit, sample: &Sample) -> String {
    open(sample) + &quantity(unit, sample.worst)
}

fn open(sample: &Sample) -> String {
    if sample.open > 0 { ">= ".into() } else { String::new() }
}

/// Means of counts are no counts.
pub(crate) fn quantity(unit: Unit, value: f64) -> String {
    match unit {
        Unit::Count | Unit::Ratio if value.fract() == 0.0 || value >= 1_000.0 => {
            format::quantity(Unit::Count, value)
        }
        Unit::Count | Unit::Ratio if value >= 9.95 => format!("{value:.1}"),
        Unit::Count | Unit::Ratio => format!("{value:.2}"),
        unit => format::quantity(unit, value),
    }
}

/// The recommended setting in a line, and why it is; one sentence where there is none.
pub(crate) fn recommendation(sweep: &Sweep) -> (Option<String>, Vec<String>) {
    let cell = sweep.recommended.as_ref().and_then(|it| Some((it, sweep.cells.get(it.cell as usize)?)));
    let Some((recommended, cell)) = cell else {
        let nothing =
            "Nothing is recommended: no cell had a recovery to measure, so there is nothing to choose by.";
        return (None, vec![nothing.into()]);
    };
    let mut why = vec![rule(sweep, recommended.rule)];
    why.extend(measured(cell));
    why.extend(alternatives(sweep, recommended.cell));
    (Some(name(sweep, cell)), why)
}

fn rule(sweep: &Sweep, rule: Rule) -> String {
    let good = sweep.cells.iter().filter(|cell| holds(cell)).count();
    let cells = format::counted(sweep.cells.len() as u64, "cell");
    let asked = asked(sweep);
    match rule {
        Rule::LeastVolume => format!(
            "The rule: of the cells that hold every limit in every replication ({good} of {cells}{asked}), the one with the \
             least JWKS volume."
        ),
        Rule::Knee => format!(
            "The rule: no limit is set on denials or recovery, so the knee of the front is taken: of the cells that no other \
             beats in both JWKS volume and worst time to recover, and that hold what is asked ({good} of {cells} do{asked}), \
             the one nearest to having neither, on logarithmic scales."
        ),
        Rule::KneeForWant => format!(
            "No cell of the front holds every limit{asked}. This is the best compromise, and no advice: of the cells that \
             no other beats in both JWKS volume and worst time to recover, the one nearest to having neither, on logarithmic \
             scales."
        ),
    }
}

/// The limits that a setting must hold to be recommended.
fn asked(sweep: &Sweep) -> String {
    let Some(cell) = sweep.cells.first() else { return String::new() };
    let asked = if cell.wishes.is_empty() { &cell.gates } else { &cell.wishes };
    let limits: Vec<String> = asked.iter().map(|result| result.gate.to_string()).collect();
    if limits.is_empty() { String::new() } else { format!("; asked is {}", limits.join(", ")) }
}

/// What is known of the recommended setting.
fn measured(cell: &SweepCell) -> Vec<String> {
    let metrics = &cell.metrics;
    let mut sentences = Vec::new();
    if let Some(recovery) = metrics.time_to_recover_s {
        let worst = if recovery.open > 0 {
            format!("at worst it had not recovered after {}", format::seconds(recovery.worst))
        } else if recovery.worst == 0.0 {
            "nobody ever had to wait for a recovery".into()
        } else {
            format!("at worst it took {} to recover", format::seconds(recovery.worst))
        };
        sentences.push(format::sentence(&format!(
            "{worst}, in {}",
            format::counted(u64::from(recovery.replications), "replication")
        )));
    }
    if let Some(volume) = metrics.jwks_requests_per_replica_hour {
        sentences.push(format!(
            "Each replica asks for the JWKS {} times an hour on average.",
            mean(Unit::Ratio, &volume)
        ));
    }
    if let Some(exposure) = metrics.revocation_exposure_s {
        let lasted = worst(Unit::Seconds, &exposure);
        sentences.push(format!("Tokens of a revoked key were accepted for {lasted} at worst."));
    }
    if let Some(survival) = metrics.outage_survival_s {
        let lasted = worst(Unit::Seconds, &survival);
        sentences.push(format!("Known keys passed for {lasted} of a JWKS outage at worst."));
    }
    sentences
}

/// Its neighbours on the front: what a little more of the one would buy of the other.
fn alternatives(sweep: &Sweep, recommended: u32) -> Option<String> {
    let place = sweep.front.iter().position(|index| *index == recommended)?;
    let told = |index: Option<&u32>, what: &str| {
        let cell = sweep.cells.get(*index? as usize)?;
        let volume = cell.metrics.jwks_requests_per_replica_hour.or(cell.metrics.jwks_requests)?;
        let recovery = cell.metrics.time_to_recover_s?;
        Some(format!(
            "{what} is {}: {} JWKS requests per replica and hour, {} to recover",
            name(sweep, cell),
            quantity(Unit::Ratio, volume.mean),
            worst(Unit::Seconds, &recovery)
        ))
    };
    let cheaper = told(place.checked_sub(1).and_then(|i| sweep.front.get(i)), "the next cheaper one");
    let faster = told(sweep.front.get(place + 1), "the next faster one");
    let told: Vec<String> = cheaper.into_iter().chain(faster).collect();
    (!told.is_empty()).then(|| format::sentence(&format!("on the front, {}", told.join("; "))))
}

fn holds(cell: &SweepCell) -> bool {
    cell.gates.iter().chain(&cell.wishes).all(|result| result.state == GateState::Held)
}

/// What was found, in sentences: for the recommended setting, and for the others if they are few.
pub(crate) fn found(sweep: &Sweep) -> Vec<String> {
    let (ours, others): (Vec<_>, Vec<_>) = sweep.findings.iter().partition(|finding| finding.recommended);
    let few = sweep.findings.len() <= SENTENCES_MAX;
    let mut told: Vec<String> = ours.into_iter().map(|it| finding(sweep, it)).collect();
    match others.len() {
        0 => {}
        _ if few => told.extend(others.into_iter().map(|it| finding(sweep, it))),
        many => told.push(format!(
            "What was found for the other settings, {}, is in the tables of the report.",
            format::counted(many as u64, "answer")
        )),
    }
    told
}

/// A finding in a sentence.
fn finding(sweep: &Sweep, finding: &Finding) -> String {
    let extreme = extreme(finding);
    let episode = finding.episode.map(|episode| format!(" in episode {episode}"));
    let (field, result) = (field(&finding.path), result(&finding.gate) + &episode.unwrap_or_default());
    let row = settings(sweep, &finding.parameters);
    let whose = match (finding.recommended, row.is_empty()) {
        (_, true) => String::new(),
        (true, false) => format!(" with the recommended {row}"),
        (false, false) => format!(" with {row}"),
    };
    let all = format::counted(u64::from(finding.replications), "replication");
    let failed = |failures: u32| format!("{failures} of {all}");
    match &finding.outcome {
        Outcome::Between { holds, fails, failures } => format!(
            "The {extreme} {field} {result}{whose} is {holds}: it holds in all of {all} there, and fails in {} at {fails}.",
            failed(*failures)
        ),
        Outcome::Throughout { holds } => {
            let beyond = match finding.extreme {
                Extreme::Smallest => "smaller",
                Extreme::Largest => "larger",
            };
            format!(
                "Even {holds} is a {field} {result}{whose}: it holds in all of {all} there, and nothing {beyond} was tried."
            )
        }
        Outcome::Nowhere { fails, failures } => format!(
            "There is no {field} between {} and {} {result}{whose}: even at {fails} it fails in {}.",
            finding.low,
            finding.high,
            failed(*failures)
        ),
        Outcome::Unplayable { value, why } => {
            let why = why.lines().next().unwrap_or_default().trim_start_matches("error: ");
            format!("The {extreme} {field} {result}{whose} was not found: {value} cannot be played ({why}).")
        }
    }
}

/// `that gives zero denials`, `that still recovers within 60 s`.
fn result(gate: &Gate) -> String {
    let limit = format::quantity(gate.metric.unit(), gate.limit);
    match (gate.metric, gate.comparison) {
        (Metric::FalseRejects, Comparison::AtMost | Comparison::Exactly) if gate.limit == 0.0 => {
            "that gives not one 401".into()
        }
        (Metric::Denied | Metric::DeniedShare, Comparison::AtMost | Comparison::Exactly)
            if gate.limit == 0.0 =>
        {
            "that gives zero denials".into()
        }
        (Metric::TimeToRecover, Comparison::AtMost | Comparison::Below) => {
            format!("that still recovers within {limit}")
        }
        (Metric::RevocationExposure, Comparison::AtMost | Comparison::Below) => {
            format!("that shuts a stolen key out within {limit}")
        }
        (Metric::OutageSurvival, Comparison::AtLeast | Comparison::Above) => {
            format!("that survives an outage of {limit}")
        }
        _ => format!("that gives {gate}"),
    }
}

/// What the bisections tried: a table for each search, with a row for each setting.
pub(crate) fn findings(sweep: &Sweep) -> Vec<Table> {
    let is_same = |a: &&Finding, b: &&Finding| searched(a) == searched(b);
    let findings: Vec<&Finding> = sweep.findings.iter().collect();
    findings.chunk_by(is_same).map(|search| one_search(sweep, search)).collect()
}

/// `The smallest rotation[0].lead that gives denied of cohort == 0, between 0s and 2h, to 10s`.
fn searched(finding: &Finding) -> String {
    let extreme = extreme(finding);
    let episode = finding.episode.map_or_else(String::new, |episode| format!(" in episode {episode}"));
    format!(
        "The {extreme} {} that gives {}{episode}, between {} and {}, to {}",
        finding.path, finding.gate, finding.low, finding.high, finding.tolerance
    )
}

fn extreme(finding: &Finding) -> &'static str {
    match finding.extreme {
        Extreme::Smallest => "smallest",
        Extreme::Largest => "largest",
    }
}

fn one_search(sweep: &Sweep, findings: &[&Finding]) -> Table {
    let caption = findings.first().map_or_else(String::new, |finding| searched(finding));
    let has = |path: &str| findings.iter().any(|finding| finding.parameters.contains_key(path));
    let axes: Vec<&str> = sweep.axes.iter().map(|axis| axis.path.as_str()).filter(|path| has(path)).collect();
    let mut columns: Vec<Column> = axes.iter().map(|path| Column::Named(field(path).to_owned())).collect();
    columns.extend([
        Column::Right("holds at"),
        Column::Right("fails at"),
        Column::Right("fails in"),
        Column::Right("tried"),
        Column::Left(""),
    ]);
    let mut table = Table::new(caption, columns);
    for found in findings {
        let none = || "–".to_owned();
        let all = found.replications;
        let (holds, fails, failures) = match &found.outcome {
            Outcome::Between { holds, fails, failures } => {
                (holds.clone(), fails.clone(), format!("{failures} of {all}"))
            }
            Outcome::Throughout { holds } => (holds.clone(), none(), none()),
            Outcome::Nowhere { fails, failures } => (none(), fails.clone(), format!("{failures} of {all}")),
            Outcome::Unplayable { value, .. } => (none(), format!("{value} cannot be played"), none()),
        };
        let value = |path: &&str| found.parameters.get(*path).cloned().unwrap_or_else(none);
        let mut row: Vec<Entry> = axes.iter().map(value).map(Entry::plain).collect();
        row.extend([holds, fails, failures, format::count(u64::from(found.tried))].map(Entry::plain));
        row.push(Entry::plain(if found.recommended { "recommended" } else { "" }.to_owned()));
        table.rows.push(row);
    }
    table
}

/// The numbers of the recommended setting that matter most.
pub(crate) fn figures(cell: &SweepCell) -> Vec<Figure> {
    let metrics = &cell.metrics;
    let figure = |name, value: Option<String>| value.map(|value| Figure { name, value, tone: Tone::Plain });
    [
        figure("recovered after, at worst", metrics.time_to_recover_s.map(|s| worst(Unit::Seconds, &s))),
        figure("denied, on average", metrics.denied_share.map(|s| quantity(Unit::Share, s.mean))),
        figure(
            "JWKS requests per replica and hour",
            metrics.jwks_requests_per_replica_hour.map(|s| quantity(Unit::Ratio, s.mean)),
        ),
        figure(
            "revoked key accepted, at worst",
            metrics.revocation_exposure_s.map(|s| worst(Unit::Seconds, &s)),
        ),
        figure("outage survived, at worst", metrics.outage_survival_s.map(|s| worst(Unit::Seconds, &s))),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Every cell with its means and intervals.
pub(crate) fn cells(sweep: &Sweep) -> Table {
    let shown = (0..).zip(&sweep.cells).map(|(index, _)| index);
    table_of(sweep, "Every cell: means, with their 95 % confidence intervals", shown)
}

/// The cells of the front, by rising volume.
pub(crate) fn front(sweep: &Sweep) -> Table {
    let caption = "The front: cells that no other beats in both JWKS volume and worst time to recover";
    table_of(sweep, caption, sweep.front.iter().copied())
}

fn table_of(sweep: &Sweep, caption: &str, shown: impl Iterator<Item = u32>) -> Table {
    let axes: Vec<&str> = sweep.axes.iter().map(|axis| axis.path.as_str()).collect();
    let mut columns = vec![Column::Right("cell")];
    columns.extend(axes.iter().map(|path| Column::Named(field(path).to_owned())));
    columns.extend([
        Column::Left("limits"),
        Column::Right("recovered after, at worst"),
        Column::Right("time to recover"),
        Column::Right("denied share"),
        Column::Right("401 share, worst window"),
        Column::Right("JWKS requests"),
        Column::Right("per replica and hour"),
        Column::Right("revocation exposure"),
        Column::Right("outage survival"),
        Column::Right("login storm"),
    ]);
    let mut table = Table::new(caption, columns);
    for (index, cell) in shown.filter_map(|index| Some((index, sweep.cells.get(index as usize)?))) {
        let mut row = vec![Entry::plain((index + 1).to_string())];
        let value = |path: &&str| cell.parameters.get(*path).cloned().unwrap_or_else(|| "–".into());
        row.extend(axes.iter().map(value).map(Entry::plain));
        let m = &cell.metrics;
        let recovery = m.time_to_recover_s.map_or_else(|| "–".into(), |s| worst(Unit::Seconds, &s));
        row.extend([limits(cell), Entry::plain(recovery)]);
        let samples = [
            (Unit::Seconds, m.time_to_recover_s),
            (Unit::Share, m.denied_share),
            (Unit::Share, m.peak_401_share),
            (Unit::Count, m.jwks_requests),
            (Unit::Ratio, m.jwks_requests_per_replica_hour),
            (Unit::Seconds, m.revocation_exposure_s),
            (Unit::Seconds, m.outage_survival_s),
            (Unit::Count, m.login_storm),
        ];
        row.extend(samples.map(|(unit, sample)| {
            Entry::plain(sample.map_or_else(|| "–".into(), |sample| mean(unit, &sample)))
        }));
        table.rows.push(row);
    }
    table
}

/// What fits beside each other on a terminal: of every cell, or of the front where they are many.
pub(crate) fn brief(sweep: &Sweep) -> Table {
    let axes: Vec<&str> = sweep.axes.iter().map(|axis| axis.path.as_str()).collect();
    let mut columns = vec![Column::Right("cell")];
    columns.extend(axes.iter().map(|path| Column::Named(field(path).to_owned())));
    columns.extend([
        Column::Right("recovered"),
        Column::Right("denied"),
        Column::Right("JWKS/replica/h"),
        Column::Right("exposure"),
        Column::Right("survival"),
        Column::Left("limits"),
    ]);
    let few = (0..sweep.cells.len().min(BRIEF_MAX) as u32).collect();
    let (which, shown) = match sweep.cells.len() {
        0..=BRIEF_MAX => ("Every cell", few),
        _ if sweep.front.is_empty() => ("The first cells", few),
        _ => ("The front, which no other cell beats", sweep.front.clone()),
    };
    let caption = format!("{which}: recovery, exposure and survival at worst, the others on average");
    let mut table = Table::new(caption, columns);
    for (index, cell) in shown.iter().filter_map(|i| Some((i + 1, sweep.cells.get(*i as usize)?))) {
        let value = |path: &&str| cell.parameters.get(*path).cloned().unwrap_or_else(|| "–".into());
        let told = |sample: Option<Sample>, tell: &dyn Fn(&Sample) -> String| {
            Entry::plain(sample.map_or_else(|| "–".into(), |sample| tell(&sample)))
        };
        let m = &cell.metrics;
        let worst = |sample: &Sample| worst(Unit::Seconds, sample);
        let mut row = vec![Entry::plain(index.to_string())];
        row.extend(axes.iter().map(value).map(Entry::plain));
        row.extend([
            told(m.time_to_recover_s, &worst),
            told(m.denied_share, &|sample| quantity(Unit::Share, sample.mean)),
            told(m.jwks_requests_per_replica_hour, &|sample| quantity(Unit::Ratio, sample.mean)),
            told(m.revocation_exposure_s, &worst),
            told(m.outage_survival_s, &worst),
            limits(cell),
        ]);
        table.rows.push(row);
    }
    table
}

/// Whether a cell holds what is asked, and what it does not.
fn limits(cell: &SweepCell) -> Entry {
    let missed = |results: &[GateResult], state| -> Vec<String> {
        results.iter().filter(|it| it.state == state).map(|it| it.gate.metric.name().to_owned()).collect()
    };
    let failed = missed(&cell.gates, GateState::Failed);
    if !failed.is_empty() {
        return Entry::toned(format!("failed: {}", failed.join(", ")), Tone::Bad);
    }
    let unknown = missed(&cell.gates, GateState::Inconclusive);
    if !unknown.is_empty() {
        return Entry::toned(format!("too little data: {}", unknown.join(", ")), Tone::Doubtful);
    }
    let unmet =
        [GateState::Failed, GateState::Inconclusive].map(|state| missed(&cell.wishes, state)).concat();
    if !unmet.is_empty() {
        return Entry::toned(format!("missed: {}", unmet.join(", ")), Tone::Doubtful);
    }
    if cell.gates.is_empty() && cell.wishes.is_empty() {
        return Entry::plain("none asked".into());
    }
    Entry::toned("held", Tone::Good)
}

/// `cells.csv`: a line for each cell, with plain numbers.
pub(crate) fn csv(sweep: &Sweep) -> String {
    let mut paths: Vec<&str> = sweep.axes.iter().map(|axis| axis.path.as_str()).collect();
    let further: BTreeSet<&str> =
        sweep.cells.iter().flat_map(|cell| cell.parameters.keys().map(String::as_str)).collect();
    paths.extend(further.into_iter().filter(|path| !sweep.axes.iter().any(|axis| axis.path == *path)));
    let mut header = vec!["cell".to_owned()];
    header.extend(paths.iter().map(|path| (*path).to_owned()));
    for (name, ..) in COLUMNS {
        header.extend(["mean", "low", "high", "worst", "open"].map(|part| format!("{name}_{part}")));
    }
    header.extend(["limits_held", "on_front", "recommended"].map(str::to_owned));
    let mut text = line(&header);
    for (index, cell) in (0..).zip(&sweep.cells) {
        let mut row = vec![(index + 1).to_string()];
        row.extend(paths.iter().map(|path| cell.parameters.get(*path).cloned().unwrap_or_default()));
        for (_, sample) in COLUMNS {
            let number = |number: Option<f64>| number.map(|number| number.to_string()).unwrap_or_default();
            let sample = sample(cell);
            row.push(number(sample.map(|sample| sample.mean)));
            row.push(number(sample.and_then(|sample| sample.low)));
            row.push(number(sample.and_then(|sample| sample.high)));
            row.push(number(sample.map(|sample| sample.worst)));
            row.push(sample.map(|sample| sample.open.to_string()).unwrap_or_default());
        }
        let is_recommended = sweep.recommended.as_ref().is_some_and(|it| it.cell == index);
        let facts = [holds(cell), sweep.front.contains(&index), is_recommended];
        row.extend(facts.map(|fact| fact.to_string()));
        text += &line(&row);
    }
    text
}

/// The metrics of `cells.csv`, by the names of the record.
type OfCell = fn(&SweepCell) -> Option<Sample>;
const COLUMNS: [(&str, OfCell); 9] = [
    ("denied_share", |cell| cell.metrics.denied_share),
    ("peak_denied_share", |cell| cell.metrics.peak_denied_share),
    ("peak_401_share", |cell| cell.metrics.peak_401_share),
    ("time_to_recover_s", |cell| cell.metrics.time_to_recover_s),
    ("jwks_requests", |cell| cell.metrics.jwks_requests),
    ("jwks_requests_per_replica_hour", |cell| cell.metrics.jwks_requests_per_replica_hour),
    ("revocation_exposure_s", |cell| cell.metrics.revocation_exposure_s),
    ("outage_survival_s", |cell| cell.metrics.outage_survival_s),
    ("login_storm", |cell| cell.metrics.login_storm),
];

/// A line by RFC 4180. What a spreadsheet would take for a formula is marked as text.
fn line(fields: &[String]) -> String {
    let quoted = fields.iter().map(|field| {
        let is_number = field.parse::<f64>().is_ok();
        let is_formula = field.starts_with(['=', '+', '-', '@']) && !is_number;
        let field = if is_formula { format!("'{field}") } else { field.clone() };
        let field = format::plain(&field);
        if field.contains([',', '"']) { format!("\"{}\"", field.replace('"', "\"\"")) } else { field }
    });
    quoted.collect::<Vec<_>>().join(",") + "\r\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{judge, sample};

    fn swept() -> Sweep {
        let mut record = sample::sweep();
        judge(&mut record);
        record.sweep.expect("a sweep")
    }

    #[test]
    fn a_finding_is_told_with_its_bracket() {
        let swept = swept();
        let told: Vec<String> = swept.findings.iter().map(|it| finding(&swept, it)).collect();
        insta::assert_snapshot!("findings", told.join("\n"));
    }

    #[test]
    fn the_recommendation_gives_its_reasons() {
        let (name, why) = recommendation(&swept());
        insta::assert_snapshot!("recommendation", format!("{}\n{}", name.unwrap(), why.join("\n")));
    }

    #[test]
    fn every_cell_is_a_line_of_the_csv() {
        let mut swept = swept();
        swept.cells[0].parameters.insert("a,b".into(), "=SUM(\"x\")\n".into());
        let text = csv(&swept);
        assert_eq!(text.lines().count(), swept.cells.len() + 1);
        let fields: Vec<&str> = text.lines().next().unwrap().split(',').collect();
        assert_eq!(&fields[..3], ["cell", "fleet.policy.ttl", "fleet.policy.on_unknown_kid"]);
        assert!(text.contains("\"'=SUM(\"\"x\"\") \""), "{text}");
    }
}
