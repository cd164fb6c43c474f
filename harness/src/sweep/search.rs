//! What lies between the cells: the smallest or the largest value of a field with which a gate holds, by bisection.
//!
//! A value holds when its gate holds in every replication. The answer is a bracket: a value that holds, and one within the
//! tolerance beyond it that does not.

use std::collections::BTreeMap;

use keyquake_reports::evaluate;
use keyquake_reports::record::{self, Extreme, Finding, GateState, Outcome};

use super::{Sweep, plan};
use crate::crew;
use crate::plan::Search;
use crate::scenario::Chosen;

/// More rows than this are not searched, but for the recommended one.
const MAX_ROWS: usize = 32;
/// A search ends after so many halvings, however small its tolerance.
const MAX_HALVINGS: u32 = 60;

/// A search with the values of one row.
struct Row<'s> {
    search: &'s Search,
    /// A cell with those values.
    cell: usize,
    parameters: BTreeMap<String, String>,
    recommended: bool,
}

/// How a value did.
enum Attempt {
    Holds,
    /// In how many replications it does not.
    Fails(u32),
    /// It cannot be played, and why.
    Unplayable(String),
}

impl Sweep<'_> {
    /// Whether the ends of all searches can be played in the first cell, as far as that can be known beforehand.
    pub(super) fn check_searches(&self) -> Result<(), String> {
        for search in &self.first.searches {
            for end in [search.range.low, search.range.high] {
                let tried = Chosen::by_search(search.number, &search.path, &search.range.shown(end));
                plan(&self.matrix, 0, Some(&tried))?;
            }
        }
        Ok(())
    }

    /// Every search with the recommended setting, and with every row if they are few.
    pub(super) fn search(
        &self,
        sweep: &record::Sweep,
        done: impl Fn() + Sync,
    ) -> anyhow::Result<Vec<Finding>> {
        let rows: Vec<Row<'_>> = self.first.searches.iter().flat_map(|search| rows(search, sweep)).collect();
        crew::all(self.jobs, rows.len(), |number| {
            let finding = self.bisect(&rows[number]);
            done();
            finding
        })
    }

    fn bisect(&self, row: &Row<'_>) -> anyhow::Result<Finding> {
        let Search { range, extreme, tolerance, .. } = *row.search;
        let mut tried = 0;
        let outcome = self.outcome(row, &mut tried)?;
        Ok(Finding {
            extreme,
            path: row.search.path.clone(),
            gate: row.search.gate.clone(),
            episode: row.search.episode,
            parameters: row.parameters.clone(),
            recommended: row.recommended,
            low: range.shown(range.low),
            high: range.shown(range.high),
            tolerance: range.shown(tolerance),
            replications: self.replications,
            tried,
            outcome,
        })
    }

    /// Halves what lies between a value that holds and one that does not, until they are near enough.
    fn outcome(&self, row: &Row<'_>, tried: &mut u32) -> anyhow::Result<Outcome> {
        let Search { range, extreme, tolerance, .. } = *row.search;
        let mut attempt = |value: f64| {
            *tried += 1;
            self.attempt(row, &range.shown(value))
        };
        let (mut good, mut bad) = match extreme {
            Extreme::Smallest => (range.high, range.low),
            Extreme::Largest => (range.low, range.high),
        };
        let mut failed = match attempt(bad)? {
            Attempt::Holds => return Ok(Outcome::Throughout { holds: range.shown(bad) }),
            Attempt::Fails(failures) => failures,
            Attempt::Unplayable(why) => return Ok(Outcome::Unplayable { value: range.shown(bad), why }),
        };
        match attempt(good)? {
            Attempt::Holds => {}
            Attempt::Fails(failures) => return Ok(Outcome::Nowhere { fails: range.shown(good), failures }),
            Attempt::Unplayable(why) => return Ok(Outcome::Unplayable { value: range.shown(good), why }),
        }
        for _ in 0..MAX_HALVINGS {
            let middle = range.between(good.min(bad), good.max(bad), tolerance);
            if (good - bad).abs() <= tolerance || middle == good || middle == bad {
                break;
            }
            match attempt(middle)? {
                Attempt::Holds => good = middle,
                Attempt::Fails(failures) => (bad, failed) = (middle, failures),
                Attempt::Unplayable(why) => {
                    return Ok(Outcome::Unplayable { value: range.shown(middle), why });
                }
            }
        }
        Ok(Outcome::Between { holds: range.shown(good), fails: range.shown(bad), failures: failed })
    }

    fn attempt(&self, row: &Row<'_>, value: &str) -> anyhow::Result<Attempt> {
        let Search { number, path, episode, gate, .. } = row.search;
        let chosen = Chosen::by_search(*number, path, value);
        let mut plan = match plan(&self.matrix, row.cell, Some(&chosen)) {
            Ok(plan) => plan,
            Err(why) => return Ok(Attempt::Unplayable(why)),
        };
        let mut failures = 0;
        self.replicate(&mut plan, &self.name(row.cell, Some((path, value))), |mut cell| {
            let mut numbers = 1..;
            cell.episodes
                .retain(|_| numbers.next().is_some_and(|number| episode.is_none_or(|it| it == number)));
            // Without the episode there is nothing that could hold.
            let is_there = episode.is_none() || !cell.episodes.is_empty();
            failures += u32::from(!is_there || evaluate(gate, &cell).state != GateState::Held);
        })?;
        Ok(if failures == 0 { Attempt::Holds } else { Attempt::Fails(failures) })
    }
}

/// The rows of a search: cells that differ in nothing but its own field are one.
fn rows<'s>(search: &'s Search, sweep: &record::Sweep) -> Vec<Row<'s>> {
    let mut rows: BTreeMap<BTreeMap<String, String>, (usize, bool)> = BTreeMap::new();
    for (number, cell) in sweep.cells.iter().enumerate() {
        let mut parameters = cell.parameters.clone();
        parameters.remove(&search.path);
        let is_recommended = sweep.recommended.as_ref().is_some_and(|it| it.cell as usize == number);
        rows.entry(parameters).or_insert((number, false)).1 |= is_recommended;
    }
    let many = rows.len() > MAX_ROWS;
    let mut rows: Vec<Row<'s>> = rows
        .into_iter()
        .filter(|(_, (_, recommended))| *recommended || !many)
        .map(|(parameters, (cell, recommended))| Row { search, cell, parameters, recommended })
        .collect();
    // In the order of the cells.
    rows.sort_by_key(|row| row.cell);
    rows
}
