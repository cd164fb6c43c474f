//! `keyquake keep`: what keyquake starts for each process of a target; people have no use for it.

use clap::Args;

use super::End;
use crate::target::keep;

#[derive(Debug, Args)]
pub(super) struct Keep {
    /// What to start.
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

impl Keep {
    pub(super) fn execute(self) -> anyhow::Result<End> {
        keep(&self.command)?;
        Ok(End::Done)
    }
}
