//! `keyquake report`: draws a record again.

use std::path::PathBuf;

use clap::Args;
use keyquake_reports::Record;
use keyquake_reports::record::ReadError;

use super::{End, Unusable};
use crate::terminal::{has_colour, print};

#[derive(Debug, Args)]
pub(super) struct Report {
    /// The record of a run.
    result: PathBuf,
}

impl Report {
    pub(super) fn execute(self) -> anyhow::Result<End> {
        let record = Record::load(&self.result).map_err(|error| {
            Unusable(format!("error: cannot draw `{}`: {}", self.result.display(), cause(error)))
        })?;
        let folder = self.result.parent().map(PathBuf::from).unwrap_or_default();
        let folder = if folder.as_os_str().is_empty() { PathBuf::from(".") } else { folder };
        keyquake_reports::write(&folder, &record).map_err(|error| {
            Unusable(format!("error: cannot write the report to `{}`: {error}", folder.display()))
        })?;
        print(&keyquake_reports::terminal(&record, has_colour()));
        print(&format!("\nreport: {}\n", folder.join("report.html").display()));
        Ok(End::Done)
    }
}

/// Why a record cannot be read, for who knows already which.
pub(super) fn cause(error: ReadError) -> String {
    match error {
        ReadError::Io { source, .. } => source.to_string(),
        error => error.to_string(),
    }
}
