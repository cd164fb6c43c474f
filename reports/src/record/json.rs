//! A [`Record`] as JSON: written so that it can be compared line by line, read with suspicion.

use std::fs::File;
use std::io::{self, Read as _, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::ser::Formatter;

use super::{Record, SCHEMA};
use crate::files;

/// The largest file that is read: a day of windows of one second and a thousand instances are about a tenth of it.
const BYTES_MAX: u64 = 256 * 1024 * 1024;

/// How many values of a column share a line: with windows of one second, a minute.
const VALUES_PER_LINE: usize = 60;

/// Why a record cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The file cannot be opened or read.
    #[error("cannot read `{path}`")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The input is longer than any record.
    #[error("a record has at most {} MiB", BYTES_MAX >> 20)]
    TooLarge,
    /// Another version of keyquake wrote it.
    #[error("the record has schema `{found}`, and this keyquake reads schema `{SCHEMA}` only")]
    Schema {
        /// The version of its format.
        found: u32,
    },
    /// It is truncated, or not a record at all; the message ends with line and column.
    #[error("not a record of keyquake: {0}")]
    Json(#[from] serde_json::Error),
    /// Its parts contradict each other.
    #[error("the record contradicts itself: {0}")]
    Inconsistent(String),
}

/// Why a record cannot be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// A number in it is not finite, which JSON cannot say.
    #[error("the record holds a number that is not finite")]
    NotFinite,
    /// Its parts contradict each other.
    #[error("the record contradicts itself: {0}")]
    Inconsistent(String),
    /// The file cannot be written.
    #[error("cannot write `{path}`")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

impl Record {
    /// Reads a record from a file.
    ///
    /// # Errors
    ///
    /// As [`Record::from_json`], and when the file cannot be read.
    pub fn load(path: &Path) -> Result<Self, ReadError> {
        let mut json = Vec::new();
        File::open(path)
            .and_then(|file| file.take(BYTES_MAX + 1).read_to_end(&mut json))
            .map_err(|source| ReadError::Io { path: path.into(), source })?;
        Self::from_json(&json)
    }

    /// Reads a record. Its version is looked at first, so that a record of another version is called just that.
    ///
    /// # Errors
    ///
    /// When it is too long, of another version, not a record, or contradicts itself.
    pub fn from_json(json: &[u8]) -> Result<Self, ReadError> {
        #[derive(Deserialize)]
        struct Version {
            schema: u32,
        }

        if json.len() as u64 > BYTES_MAX {
            return Err(ReadError::TooLarge);
        }
        let Version { schema } = serde_json::from_slice(json)?;
        if schema != SCHEMA {
            return Err(ReadError::Schema { found: schema });
        }
        let record: Self = serde_json::from_slice(json)?;
        record.check().map_err(ReadError::Inconsistent)?;
        Ok(record)
    }

    /// Writes it as JSON: one member a line, columns in rows of 60 values, a line feed at the end.
    ///
    /// # Errors
    ///
    /// When [`Record::from_json`] would not give back an equal record: nothing is written that cannot be read.
    pub fn to_json(&self) -> Result<String, WriteError> {
        self.check().map_err(WriteError::Inconsistent)?;
        let mut json = Vec::new();
        let mut serializer = serde_json::Serializer::with_formatter(&mut json, Layout::default());
        self.serialize(&mut serializer).map_err(|_| WriteError::NotFinite)?;
        json.push(b'\n');
        // A number that is not finite becomes `null`, silently: only reading shows it.
        if !Self::from_json(&json).is_ok_and(|read| read == *self) {
            return Err(WriteError::NotFinite);
        }
        String::from_utf8(json).map_err(|_| WriteError::NotFinite)
    }

    /// Writes it to a file: whole and synced beside it first, then renamed, so that no reader ever sees half of it.
    ///
    /// # Errors
    ///
    /// As [`Record::to_json`], and when the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), WriteError> {
        let json = self.to_json()?;
        files::replace(path, json.as_bytes()).map_err(|source| WriteError::Io { path: path.into(), source })
    }
}

/// The JSON Schema of `result.json`.
pub fn record_schema() -> serde_json::Value {
    schemars::schema_for!(Record).to_value()
}

/// Indents like the pretty formatter, but keeps plain values of an array on one line, [`VALUES_PER_LINE`] of them.
#[derive(Default)]
struct Layout {
    /// What is open, the innermost last.
    open: Vec<Open>,
}

/// An array or object that is being written.
struct Open {
    members: usize,
    /// Whether its members stand on lines of their own.
    tall: bool,
}

impl Layout {
    fn open(&mut self, tall: bool) {
        self.open.push(Open { members: 0, tall });
    }

    fn close<W: ?Sized + Write>(&mut self, out: &mut W, bracket: &[u8]) -> io::Result<()> {
        if self.open.pop().is_some_and(|closed| closed.tall && closed.members > 0) {
            self.new_line(out)?;
        }
        out.write_all(bracket)
    }

    /// Writes what stands between the member before and the next one.
    fn next<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        let Some(open) = self.open.last_mut() else { return Ok(()) };
        let (tall, before) = (open.tall, open.members);
        open.members += 1;
        if before > 0 {
            out.write_all(b",")?;
        }
        if tall || (before > 0 && before % VALUES_PER_LINE == 0) {
            self.new_line(out)?;
        }
        Ok(())
    }

    fn new_line<W: ?Sized + Write>(&self, out: &mut W) -> io::Result<()> {
        out.write_all(b"\n")?;
        self.open.iter().try_for_each(|_| out.write_all(b" "))
    }
}

impl Formatter for Layout {
    fn begin_object<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        // Only now is it known that the array around it holds no plain values.
        if let Some(array) = self.open.last_mut()
            && !array.tall
        {
            array.tall = true;
            self.new_line(out)?;
        }
        self.open(true);
        out.write_all(b"{")
    }

    fn end_object<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.close(out, b"}")
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, out: &mut W, _first: bool) -> io::Result<()> {
        self.next(out)
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        out.write_all(b": ")
    }

    fn begin_array<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.open(false);
        out.write_all(b"[")
    }

    fn end_array<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.close(out, b"]")
    }

    fn begin_array_value<W: ?Sized + Write>(&mut self, out: &mut W, _first: bool) -> io::Result<()> {
        self.next(out)
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use proptest::prelude::*;

    use super::*;
    use crate::sample;

    #[test]
    fn what_is_written_is_read_back_equal() {
        for record in [sample::no_overlap(), sample::overlap(), sample::aborted(), sample::long(200)] {
            let json = record.to_json().unwrap();
            let read = Record::from_json(json.as_bytes()).unwrap();
            assert_eq!(read, record);
            assert_eq!(read.to_json().unwrap(), json);
        }
    }

    #[test]
    fn columns_stand_in_rows_and_members_on_lines() {
        let json = sample::long(130).to_json().unwrap();
        let mut lines =
            json.lines().skip_while(|line| !line.trim_start().starts_with("\"cohort_must_pass\""));
        let values: Vec<usize> =
            lines.by_ref().take(3).map(|line| line.matches(char::is_numeric).count()).collect();
        assert!(values.iter().all(|&digits| digits > 0), "{values:?}");
        assert!(json.lines().all(|line| line.len() < 1_500));
        assert!(json.contains("\n \"seed\": 7,\n"));
        assert!(json.ends_with("}\n"));
    }

    #[test]
    fn a_record_of_another_version_is_called_that_first() {
        let error = Record::from_json(br#"{"schema": 2, "what": ["else", {}]}"#).unwrap_err();
        assert_eq!(error.to_string(), "the record has schema `2`, and this keyquake reads schema `1` only");
    }

    #[test]
    fn what_is_no_record_is_refused_with_its_place() {
        let json = sample::overlap().to_json().unwrap();
        let misspelt = json.replacen("\"seed\"", "\"sead\"", 1);
        let table = [
            ("", "EOF while parsing a value at line 1 column 0"),
            ("[]", "invalid length 0"),
            ("{}", "missing field `schema` at line 1 column 2"),
            ("{\"schema\": \"1\"}", "invalid type: string \"1\", expected u32 at line 1 column 14"),
            (&json[..json.len() / 2], "EOF while parsing"),
            (&misspelt, "unknown field `sead`"),
        ];
        for (json, expected) in table {
            let error = Record::from_json(json.as_bytes()).unwrap_err().to_string();
            assert!(error.starts_with("not a record of keyquake: ") && error.contains(expected), "{error}");
            assert!(error.contains("at line"), "{error}");
        }
    }

    #[test]
    fn parts_that_contradict_each_other_are_named() {
        let mut ragged = sample::overlap();
        ragged.cells[0].windows.jwks_requests.pop();
        let mut backwards = sample::overlap();
        backwards.cells[0].episodes[0].to_s = -1.0;
        let mut astray = sample::overlap();
        astray.cells[0].gates[0].episode = Some(9);
        let mut short = sample::overlap();
        short.cells[0].instances[2].time_to_recover.clear();
        let mut instant = sample::overlap();
        instant.cells[0].windows.width_s = 0.0;
        let mut distant = sample::overlap();
        distant.cells[0].instances[2].time_to_recover[0].last_denial_s = Some(1e300);
        let mut ancient = sample::overlap();
        ancient.cells[0].events[0].planned_s = -1e12;
        let table = [
            (distant, &*format!("cell 0: instance 2 speaks of {} s", 1e300)),
            (ancient, "cell 0: an event speaks of -1000000000000 s"),
            (ragged, "cell 0: the column `jwks_requests` has 59 windows, and `requests` has 60"),
            (backwards, "cell 0: episode 0 lasts from 0 to -1"),
            (astray, "cell 0: a gate names episode 9 of 1"),
            (short, "cell 0: instance 2 has 0 recoveries for 1 episodes"),
            (instant, "cell 0: windows of 0 s from -10 s"),
        ];
        for (record, expected) in table {
            let error = record.to_json().unwrap_err().to_string();
            assert_eq!(error, format!("the record contradicts itself: {expected}"));
            let json = serde_json::to_vec(&record).unwrap();
            assert!(
                matches!(Record::from_json(&json), Err(ReadError::Inconsistent(what)) if what == expected)
            );
        }
    }

    #[test]
    fn a_number_that_json_cannot_say_is_not_written() {
        let mut record = sample::overlap();
        record.cells[0].metrics.all.denied_share = Some(f64::NAN);
        assert!(matches!(record.to_json(), Err(WriteError::NotFinite)));
        let mut record = sample::overlap();
        record.speed = f64::INFINITY;
        assert!(matches!(record.to_json(), Err(WriteError::NotFinite)));
    }

    /// To renew the file, run `RENEW_SCHEMA=1 cargo test -p keyquake-reports schema`.
    #[test]
    fn the_committed_schema_is_up_to_date() {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("result.schema.json");
        let schema = serde_json::to_string_pretty(&record_schema()).unwrap() + "\n";
        if std::env::var_os("RENEW_SCHEMA").is_some() {
            std::fs::write(&path, &schema).unwrap();
        }
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            committed == schema,
            "result.schema.json is out of date; renew it: RENEW_SCHEMA=1 cargo test -p keyquake-reports schema"
        );
    }

    proptest! {
        #[test]
        fn no_input_makes_reading_panic(cut in 0_usize..4_000, with in any::<u8>()) {
            let mut json = sample::overlap().to_json().unwrap().into_bytes();
            if let Some(byte) = json.get_mut(cut) {
                *byte = with;
            }
            let _ = Record::from_json(&json);
            json.truncate(cut);
            prop_assert!(Record::from_json(&json).is_err());
        }
    }
}
