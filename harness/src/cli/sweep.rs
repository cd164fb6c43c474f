//! `keyquake sweep`: from a scenario file with a matrix to a recommended setting.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use super::rehearsal::{Rehearsal, conclude, quoted};
use super::{End, Unusable};
use crate::interrupt::Interrupt;
use crate::scenario::Matrix;
use crate::sweep::{self, Step};
use crate::terminal::say;

/// The most axes that flags give.
const MAX_FLAGS: usize = 20;

#[derive(Debug, Args)]
pub(super) struct Sweep {
    #[command(flatten)]
    rehearsal: Rehearsal,
    /// Give a field these values, like `fleet.policy.ttl=1m,5m,1h`; may be given several times. It replaces the line of
    /// `[matrix]` for this field.
    #[arg(short = 'L', long, value_name = "PATH=A,B,C")]
    list: Vec<String>,
    /// Give a field N values from one to another, like `fleet.policy.ttl=1m..6h:log5`, or `:lin5` for even steps.
    #[arg(short = 'P', long, value_name = "PATH=LO..HI:logN")]
    range: Vec<String>,
    /// How often each cell is simulated, each time with a seed of its own.
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000))]
    replications: u32,
    /// How many cells are simulated at a time: as many as there are cores unless said. It changes nothing in the results.
    #[arg(long, value_name = "N")]
    jobs: Option<NonZeroUsize>,
}

impl Sweep {
    pub(super) fn execute(self) -> anyhow::Result<End> {
        let mut source = self.rehearsal.typed().map_err(Unusable)?;
        if self.list.len() + self.range.len() > MAX_FLAGS {
            let many = format!("error: more than {MAX_FLAGS} axes as flags: write them into `[matrix]`");
            return Err(Unusable(many).into());
        }
        let flags = [("-L", &self.list), ("-P", &self.range)];
        for (flag, typed) in
            flags.into_iter().flat_map(|(flag, typed)| typed.iter().map(move |it| (flag, it)))
        {
            source.vary(flag, typed).map_err(Unusable)?;
        }
        let matrix = Matrix::of(&source).map_err(Unusable)?;
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let jobs = self.jobs.map_or(cores, NonZeroUsize::get).min(MAX_JOBS);
        let sweep = sweep::Sweep::check(matrix, self.replications, jobs).map_err(Unusable)?;

        let folder = self.rehearsal.folder(sweep.first());
        let leaving = folder.clone();
        Interrupt::listen(move || leaving.abandon())?;
        folder.prepare().map_err(|error| Unusable(format!("{error:#}")))?;
        say(&self.announcement(&sweep));
        let progress = Progress::new(sweep.cells());
        let record = sweep
            .play(&self.command(&sweep), |step| progress.note(step))
            .inspect_err(|_| folder.abandon())?;
        progress.end();
        conclude(&folder, &record)
    }

    /// What is about to happen.
    fn announcement(&self, sweep: &sweep::Sweep<'_>) -> String {
        let plan = sweep.first();
        let span = plan.duration.saturating_add(plan.warmup);
        format!(
            "{}: {} cells, {} times each, about {span} of virtual time, seed {}",
            plan.name,
            sweep.cells(),
            self.replications,
            plan.seed
        )
    }

    /// The command that repeats it, whatever the defaults will be then.
    fn command(&self, sweep: &sweep::Sweep<'_>) -> String {
        let mut command = self.rehearsal.command("sweep", sweep.first());
        for (flag, typed) in [("-L", &self.list), ("-P", &self.range)] {
            for typed in typed {
                command.push_str(&format!(" {flag} {}", quoted(typed)));
            }
        }
        command + &format!(" --replications {}", self.replications)
    }
}

/// More threads than this help nobody.
const MAX_JOBS: usize = 1_024;

/// A bar on a terminal, and a line for every tenth of the cells elsewhere.
struct Progress {
    bar: ProgressBar,
    cells: usize,
    done: AtomicUsize,
    searched: AtomicUsize,
}

impl Progress {
    fn new(cells: usize) -> Self {
        let style = ProgressStyle::with_template("{bar:24} {pos} of {len} cells {msg}")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        // It draws to standard error, and hides when that is no terminal.
        let bar = ProgressBar::new(cells as u64).with_style(style);
        Self { bar, cells, done: AtomicUsize::new(0), searched: AtomicUsize::new(0) }
    }

    fn note(&self, step: Step) {
        match step {
            Step::Cell => {
                let done = self.done.fetch_add(1, Ordering::Relaxed) + 1;
                self.bar.inc(1);
                if self.bar.is_hidden() && done * 10 / self.cells > (done - 1) * 10 / self.cells {
                    say(&format!("{done} of {} cells", self.cells));
                }
            }
            Step::Search => {
                let searched = self.searched.fetch_add(1, Ordering::Relaxed) + 1;
                self.bar.set_message(format!("and {searched} searches"));
            }
        }
    }

    fn end(self) {
        self.bar.finish_and_clear();
    }
}
