//! The same scenario under many settings: each cell of a matrix simulated several times, and by bisection what lies
//! between them.

mod interval;
mod search;
mod seen;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context;
use keyquake_reports::judge;
use keyquake_reports::record::{self, Engine, Record, SweepAxis, SweepCell};
use rand::Rng;

use self::seen::Seen;
#[cfg(test)]
pub(crate) use self::seen::worst_401_share;
use crate::crew;
use crate::measure;
use crate::plan::Plan;
use crate::scenario::{Chosen, Matrix};
use crate::seed;
use crate::simulate::{self, Experience};

/// A matrix whose every cell can be played. It can only come from [`Sweep::check`].
pub(crate) struct Sweep<'s> {
    matrix: Matrix<'s>,
    /// Each with its values.
    axes: Vec<(String, Vec<String>)>,
    /// The first cell, for what all share.
    first: Plan,
    /// What is odd, and in how many cells.
    warnings: BTreeMap<String, usize>,
    replications: u32,
    jobs: usize,
}

impl<'s> Sweep<'s> {
    /// Checks every cell, on as many threads as there are jobs.
    ///
    /// # Errors
    ///
    /// What is wrong with the first cell that cannot be played, as a finished text.
    pub(crate) fn check(matrix: Matrix<'s>, replications: u32, jobs: usize) -> Result<Self, String> {
        let of_cell = |cell| plan(&matrix, cell, None).map(|plan| plan.warnings);
        let mut warnings = BTreeMap::new();
        for warning in crew::all(jobs, matrix.len(), of_cell)?.into_iter().flatten() {
            *warnings.entry(warning).or_default() += 1;
        }
        let first = plan(&matrix, 0, None)?;
        let axes = matrix.axes();
        let sweep = Self { matrix, axes, first, warnings, replications, jobs };
        sweep.check_searches()?;
        Ok(sweep)
    }

    /// What all cells share, but for the values on the axes.
    pub(crate) fn first(&self) -> &Plan {
        &self.first
    }

    /// How many cells there are.
    pub(crate) fn cells(&self) -> usize {
        self.matrix.len()
    }

    /// Plays every cell and then every search; `done` is told of each that is through.
    ///
    /// # Errors
    ///
    /// The system has no randomness for keys.
    pub(crate) fn play(&self, command: &str, done: impl Fn(Step) + Sync) -> anyhow::Result<Record> {
        let cells = crew::all(self.jobs, self.cells(), |cell| {
            let played = self.play_cell(cell);
            done(Step::Cell);
            played
        })?;
        let mut record = self.record(command, cells);
        judge(&mut record);
        if let Some(sweep) = &mut record.sweep {
            sweep.findings = self.search(sweep, || done(Step::Search))?;
        }
        Ok(record)
    }

    fn play_cell(&self, cell: usize) -> anyhow::Result<SweepCell> {
        let mut plan = plan(&self.matrix, cell, None).map_err(anyhow::Error::msg)?;
        let mut seen = Seen::new(&plan);
        self.replicate(&mut plan, &self.name(cell, None), |played| seen.add(&played))?;
        Ok(SweepCell { parameters: self.parameters(cell, &plan), ..seen.into_cell() })
    }

    /// Plays a plan with one seed after the other. They follow from the run's seed and the name of the cell, so that
    /// neither other cells nor the number of replications move them.
    fn replicate(
        &self,
        plan: &mut Plan,
        name: &str,
        mut each: impl FnMut(record::Cell),
    ) -> anyhow::Result<()> {
        let mut experience = Experience::default();
        for replication in 0..self.replications {
            let drawn = seed::generator(self.first.seed, name, u64::from(replication)).next_u64();
            // Scenarios have 63 bits for it.
            plan.reseed(drawn >> 1);
            let record = simulate::measure(plan, &mut experience)?.record();
            each(record.cells.into_iter().next().context("a run has a cell")?);
        }
        Ok(())
    }

    /// What a cell chooses, in words.
    fn name(&self, cell: usize, tried: Option<(&str, &str)>) -> String {
        let mut chosen = self.matrix.chosen(cell);
        chosen.extend(tried.map(|(path, value)| (path.to_owned(), value.to_owned())));
        chosen.iter().map(|(path, value)| format!("{path} = {value}\n")).collect()
    }

    /// What a cell chooses, and what it leaves to the file on axes of others.
    fn parameters(&self, cell: usize, plan: &Plan) -> BTreeMap<String, String> {
        let mut chosen = self.matrix.chosen(cell);
        for (path, _) in &self.axes {
            let of_file = || plan.parameters.get(path).cloned();
            let of_file = || of_file().unwrap_or_else(|| "as in the file".to_owned());
            chosen.entry(path.clone()).or_insert_with(of_file);
        }
        chosen
    }

    fn record(&self, command: &str, cells: Vec<SweepCell>) -> Record {
        let plan = &self.first;
        let chosen: BTreeSet<&String> = cells.iter().flat_map(|cell| cell.parameters.keys()).collect();
        let mut shared = plan.parameters.clone();
        shared.retain(|path, _| !chosen.contains(path));
        let all = self.cells();
        let warnings = self.warnings.iter().map(|(warning, cells)| {
            if *cells == all { warning.clone() } else { format!("in {cells} of {all} cells: {warning}") }
        });
        Record {
            warnings: warnings.collect(),
            sweep: Some(record::Sweep {
                axes: self.axes(&cells),
                parameters: shared,
                replications: self.replications,
                cells,
                front: Vec::new(),
                recommended: None,
                findings: Vec::new(),
            }),
            ..measure::blank(plan, Engine::Simulated, command)
        }
    }

    /// The axes, with what cells have that were included without a value on them.
    fn axes(&self, cells: &[SweepCell]) -> Vec<SweepAxis> {
        let axes = self.axes.iter().map(|(path, values)| {
            let of_cells: BTreeSet<&String> =
                cells.iter().filter_map(|cell| cell.parameters.get(path)).collect();
            let further = of_cells.into_iter().filter(|value| !values.contains(value));
            SweepAxis { path: path.clone(), values: values.iter().chain(further).cloned().collect() }
        });
        axes.collect()
    }
}

/// What is through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Cell,
    /// A search with the values of one row.
    Search,
}

/// The plan of a cell, with one more value if a search tries one.
fn plan(matrix: &Matrix<'_>, cell: usize, tried: Option<&Chosen>) -> Result<Plan, String> {
    Plan::of(&matrix.document(cell, tried)?, Engine::Simulated)
}
