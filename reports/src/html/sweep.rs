//! The part of a page that tells of a sweep.

use super::{facts, figure, folded};
use crate::chart::{Chart, heat};
use crate::format;
use crate::record::Sweep;
use crate::sweep;
use crate::table::{Column, Table};

/// More rows than this are folded away.
const ROWS_OPEN: usize = 30;

pub(super) fn section(swept: &Sweep, charts: &[Chart]) -> String {
    let mut html = recommended(swept);
    html += &found(swept);
    let (pareto, heats): (Vec<&Chart>, Vec<&Chart>) = charts.iter().partition(|chart| chart.name == "pareto");
    if !pareto.is_empty() {
        html += "<h2>What each setting costs</h2>\n";
        html.extend(pareto.into_iter().map(figure));
    }
    if !heats.is_empty() {
        html += "<h2>The settings side by side</h2>\n";
        html.extend(heats.into_iter().map(figure));
    }
    let left_out = heat::slices_left_out(swept);
    if left_out > 0 {
        let more = format::counted(left_out as u64, "more combination");
        html += &format!(
            "<p class=\"quiet\">Of {more} there is no picture; <code>cells.csv</code> holds them.</p>\n"
        );
    }
    html + &all_cells(swept)
        + &how_to_read(swept)
        + &folded("Settings that all cells share", &parameters(swept))
}

fn recommended(swept: &Sweep) -> String {
    let (name, why) = sweep::recommendation(swept);
    let Some(name) = name else { return facts(&why) };
    let cell = swept.recommended.as_ref().and_then(|it| swept.cells.get(it.cell as usize));
    let figures = cell.map(sweep::figures).unwrap_or_default().into_iter().fold(String::new(), |html, it| {
        html + &format!("<div><dt>{}</dt><dd>{}</dd></div>", it.name, format::xml(&it.value))
    });
    format!(
        "<h2>The recommended setting</h2>\n<p class=\"setting\"><strong>{}</strong></p>\n<dl class=\"figures\">{figures}</dl>\n{}",
        format::xml(&name),
        facts(&why)
    )
}

fn found(swept: &Sweep) -> String {
    if swept.findings.is_empty() {
        return String::new();
    }
    let told = sweep::found(swept);
    let tables = sweep::findings(swept);
    let tables: String = if told.len() < swept.findings.len() {
        tables.iter().map(Table::to_html).collect()
    } else {
        tables.iter().map(|table| folded("The same as a table", table)).collect()
    };
    format!(
        "<h2>Found by bisection</h2>\n{}<p class=\"quiet\">Each answer is the last value that was tried and held, and the \
         first beyond it that did not is named too. A few replications cannot show what happens once in a hundred times; and \
         where more does not always do better, a bisection finds one of several ends.</p>\n{}",
        facts(&told),
        tables
    )
}

fn all_cells(swept: &Sweep) -> String {
    let table = sweep::cells(swept);
    let table =
        if table.rows.len() > ROWS_OPEN { folded("Every cell as a table", &table) } else { table.to_html() };
    format!(
        "<h2>Every cell</h2>\n{table}<p class=\"quiet\"><code>cells.csv</code> beside this page holds the same numbers, \
         and all of them.</p>\n"
    )
}

fn how_to_read(swept: &Sweep) -> String {
    let replications = match swept.replications {
        1 => "Each cell was simulated once, so nothing is known of chance: there are no intervals.".into(),
        n => format!(
            "Each cell was simulated {} times, each time with a seed of its own. What stands in brackets, or after ±, is the \
             95 % confidence interval of the mean, by Student's t with {} degrees of freedom: it is wide where chance has \
             much to say, and it says nothing of rare events that never came.",
            format::count(u64::from(n)),
            n - 1
        ),
    };
    facts(&[
        replications,
        "The denied share and the time to recover are those of the cohort (who holds a token of the new key) in the worst \
         episode of a replication. At worst means: in the worst replication."
            .into(),
        "What begins with >= did not end within the run.".into(),
    ])
}

fn parameters(swept: &Sweep) -> Table {
    let mut table = Table::new("Settings", vec![Column::Left("setting"), Column::Left("value")]);
    for (path, value) in &swept.parameters {
        table.row([path.clone(), value.clone()]);
    }
    table
}
