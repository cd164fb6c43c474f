//! The folder of one result: made before the run, filled after it, never half there.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use keyquake_reports::Record;
use keyquake_reports::record::WriteError;

use super::Stopped;
use super::rehearsal::quoted;
use crate::observe::Trace;
use crate::target::{CA, LOGS};

/// The record within its folder.
const RECORD: &str = "result.json";
/// How many earlier results of a scenario are kept.
const KEPT: u32 = 9;

/// The folder of one result, on disk before anything runs.
#[derive(Clone, Debug)]
pub(super) struct Folder {
    /// Where the results of all scenarios go.
    out: PathBuf,
    /// Whether this run makes that folder.
    is_first: bool,
    /// Where the result is put together.
    draft: PathBuf,
    /// Where it belongs.
    place: PathBuf,
}

impl Folder {
    pub(super) fn new(out: &Path, name: &str) -> Self {
        Self {
            out: out.to_owned(),
            is_first: !out.exists(),
            draft: out.join(format!(".{name}.part")),
            place: out.join(name),
        }
    }

    /// Where the result is put together.
    pub(super) fn draft(&self) -> &Path {
        &self.draft
    }

    /// Makes the draft, so that a folder that cannot be written is found out before anything runs.
    pub(super) fn prepare(&self) -> anyhow::Result<()> {
        self.clear_draft()
            .and_then(|()| Ok(fs::create_dir_all(&self.draft)?))
            .with_context(|| format!("error: cannot write results to `{}`", self.out.display()))
    }

    /// Clears away what a killed run left; a record that it had already written is put into its place.
    fn clear_draft(&self) -> anyhow::Result<()> {
        if self.draft.join(RECORD).is_file() {
            return self.settle();
        }
        if self.draft.exists() { Ok(fs::remove_dir_all(&self.draft)?) } else { Ok(()) }
    }

    /// Leaves nothing behind of a run that ends before it has a record.
    pub(super) fn abandon(&self) {
        // Without its record a list of requests is of no use to anyone.
        let _ = fs::remove_file(self.draft.join(Trace::FILE));
        // What a target printed last was said.
        let _ = fs::remove_dir_all(self.draft.join(LOGS));
        let _ = fs::remove_file(self.draft.join(CA));
        // Only empty folders are removed.
        let _ = fs::remove_dir(&self.draft);
        if self.is_first {
            let _ = fs::remove_dir(&self.out);
        }
    }

    /// Writes the record, then everything that is drawn from it, and puts the folder into its place. Returns the report.
    ///
    /// # Errors
    ///
    /// [`Stopped`] when the disk is full, or gone; it says where the record is kept.
    pub(super) fn fill(&self, record: &Record) -> anyhow::Result<PathBuf> {
        let written = self.draft.join(RECORD);
        match self.write(record, &written) {
            Err(WriteError::Io { path, source }) => {
                let lost = format!("cannot write `{}`: {source}", path.display());
                return Err(Stopped(format!("error: {lost}\n{}", self.spare(record))).into());
            }
            outcome => outcome?,
        }
        // From here on the record is safe.
        let kept = |written: &Path| format!("the record is kept in `{}`", written.display());
        self.settle().map_err(|error| Stopped(format!("error: {error:#}\n{}", kept(&written))))?;
        let written = self.place.join(RECORD);
        keyquake_reports::write(&self.place, record).map_err(|error| {
            let place = self.place.display();
            Stopped(format!(
                "error: cannot write the report to `{place}`: {error}\n{}{}",
                kept(&written),
                again(&written)
            ))
        })?;
        Ok(self.place.join("report.html"))
    }

    fn write(&self, record: &Record, path: &Path) -> Result<(), WriteError> {
        // Another run of this scenario may have put the draft into its place.
        fs::create_dir_all(&self.draft)
            .map_err(|source| WriteError::Io { path: self.draft.clone(), source })?;
        record.save(path)
    }

    /// Puts a record that its own folder has no room for where there may be some, and says what became of it.
    fn spare(&self, record: &Record) -> String {
        let name = self.place.file_name().unwrap_or_default().to_string_lossy();
        let folder = std::env::temp_dir().join(format!("keyquake-{name}-{}", std::process::id()));
        let path = folder.join(RECORD);
        // A folder that is there already belongs to somebody else.
        let saved = fs::create_dir(&folder)
            .map_err(|source| WriteError::Io { path: folder.clone(), source })
            .and_then(|()| record.save(&path));
        match saved {
            Ok(()) => format!("the record is kept in `{}`{}", path.display(), again(&path)),
            Err(error) => {
                let _ = fs::remove_dir(&folder);
                let cause = match error {
                    WriteError::Io { source, .. } => source.to_string(),
                    other => other.to_string(),
                };
                format!(
                    "nor in `{}`: {cause}; what is printed above is all that is left of this run",
                    folder.display()
                )
            }
        }
    }

    /// Puts the draft into its place.
    fn settle(&self) -> anyhow::Result<()> {
        self.make_room()?;
        fs::rename(&self.draft, &self.place)
            .with_context(|| format!("cannot rename `{}`", self.draft.display()))
    }

    /// Moves the result of the last run to `.1`, that to `.2`, and so on.
    fn make_room(&self) -> anyhow::Result<()> {
        let numbered = |number: u32| {
            let mut name = self.place.clone().into_os_string();
            name.push(format!(".{number}"));
            PathBuf::from(name)
        };
        if !self.place.exists() {
            return Ok(());
        }
        let free = (1..KEPT).find(|number| !numbered(*number).exists()).unwrap_or(KEPT);
        if numbered(free).exists() {
            fs::remove_dir_all(numbered(free)).context("cannot remove the oldest result")?;
        }
        for number in (1..free).rev() {
            fs::rename(numbered(number), numbered(number + 1)).context("cannot move an earlier result")?;
        }
        fs::rename(&self.place, numbered(1)).context("cannot move the earlier result")
    }
}

/// How to draw what could not be drawn.
fn again(record: &Path) -> String {
    format!("\nhint: once there is room, draw it with `keyquake report {}`", quoted(&record.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn earlier_results_move_on_and_the_oldest_goes() {
        let out = tempfile::tempdir().unwrap();
        for run in 0..12 {
            let folder = Folder::new(out.path(), "s");
            folder.prepare().unwrap();
            fs::write(folder.draft.join("run"), run.to_string()).unwrap();
            folder.settle().unwrap();
        }
        let run = |name: &str| fs::read_to_string(out.path().join(name).join("run")).unwrap();
        assert_eq!(run("s"), "11");
        assert_eq!(run("s.1"), "10");
        assert_eq!(run("s.9"), "2");
        assert_eq!(fs::read_dir(out.path()).unwrap().count(), 10);
    }
    #[test]
    fn a_record_that_a_killed_run_left_in_its_draft_is_put_into_its_place() {
        let out = tempfile::tempdir().unwrap();
        let folder = Folder::new(out.path(), "s");
        folder.prepare().unwrap();
        fs::write(folder.draft.join(RECORD), "a record").unwrap();
        Folder::new(out.path(), "s").prepare().unwrap();
        assert_eq!(fs::read_to_string(folder.place.join(RECORD)).unwrap(), "a record");
        assert_eq!(fs::read_dir(&folder.draft).unwrap().count(), 0);
    }

    #[test]
    fn half_a_record_is_cleared_away() {
        let out = tempfile::tempdir().unwrap();
        let folder = Folder::new(out.path(), "s");
        folder.prepare().unwrap();
        fs::write(folder.draft.join("result.json.partial"), "half").unwrap();
        Folder::new(out.path(), "s").prepare().unwrap();
        assert!(!folder.place.exists());
        assert_eq!(fs::read_dir(&folder.draft).unwrap().count(), 0);
    }

    #[test]
    fn abandoning_leaves_no_trace_and_takes_nothing_of_others() {
        let home = tempfile::tempdir().unwrap();
        let out = home.path().join("out");
        let folder = Folder::new(&out, "s");
        folder.prepare().unwrap();
        folder.abandon();
        assert!(!out.exists());
        fs::create_dir(&out).unwrap();
        let folder = Folder::new(&out, "s");
        folder.prepare().unwrap();
        folder.abandon();
        assert!(out.exists() && !folder.draft.exists());
    }
}
