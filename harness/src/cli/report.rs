//! `keyquake report`: draws a record again.

use std::fs;
use std::path::PathBuf;

use clap::Args;
use keyquake_reports::Record;

use super::{End, Unusable};
use crate::terminal::{has_colour, print};

#[derive(Debug, Args)]
pub(super) struct Report {
    /// The record of a run.
    result: PathBuf,
}

impl Report {
    pub(super) fn execute(self) -> anyhow::Result<End> {
        let unusable = |error: &dyn std::fmt::Display| {
            Unusable(format!("error: cannot draw `{}`: {error}", self.result.display()))
        };
        let bytes = fs::read(&self.result).map_err(|error| unusable(&error))?;
        let record = Record::from_json(&bytes).map_err(|error| unusable(&error))?;
        let folder = self.result.parent().map(PathBuf::from).unwrap_or_default();
        let folder = if folder.as_os_str().is_empty() { PathBuf::from(".") } else { folder };
        keyquake_reports::write(&folder, &record).map_err(|error| unusable(&error))?;
        print(&keyquake_reports::terminal(&record, has_colour()));
        print(&format!("\nreport: {}\n", folder.join("report.html").display()));
        Ok(End::Done)
    }
}
