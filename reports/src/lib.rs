//! The versioned [`Record`] of a keyquake run, and every page, chart, table and gate over it.
//!
//! This crate depends on no sibling: it sees only `Record`s, so an old run can be drawn again and two runs can be
//! compared. The way of a record: [`judge()`] it, [`Record::save`] it, and only then [`write()`] what people look at.

mod causes;
mod chart;
mod exposure;
mod files;
mod format;
#[cfg(test)]
mod fuzz;
mod html;
mod judge;
mod phase;
pub mod record;
#[cfg(test)]
mod sample;
mod story;
mod summary;
mod sweep;
mod table;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

pub use judge::{Worst, evaluate, judge, worse, worst};
pub use record::Record;
pub use summary::terminal;

/// Charts of more cells than this would make a page that no browser likes.
const CELLS_WITH_CHARTS: usize = 6;

/// Writes `report.html`, `charts/*.svg`, `summary.md` and, of a sweep, `cells.csv` into a folder, which is made if it is not
/// there; each file whole or not at all. Returns their paths, the report's first.
///
/// # Errors
///
/// When a folder or file cannot be written.
pub fn write(dir: &Path, record: &Record) -> io::Result<Vec<PathBuf>> {
    let mut charts = Vec::new();
    if let Some(sweep) = &record.sweep {
        charts.push(chart::draw_sweep(sweep)?);
    }
    for (index, cell) in record.cells.iter().enumerate().take(CELLS_WITH_CHARTS) {
        charts.push(chart::draw_all(cell, &format!("c{}", index + 1))?);
    }
    let mut files = vec![
        (dir.join("report.html"), html::page(record, &charts)),
        (dir.join("summary.md"), summary::markdown(record)),
    ];
    files.extend(record.sweep.iter().map(|sweep| (dir.join("cells.csv"), sweep::csv(sweep))));
    fs::create_dir_all(dir.join("charts"))?;
    for (index, charts) in charts.into_iter().enumerate() {
        let cell = if record.cells.len() > 1 { format!("{}-", index + 1) } else { String::new() };
        files.extend(
            charts.into_iter().map(|chart| (dir.join(format!("charts/{cell}{}.svg", chart.name)), chart.svg)),
        );
    }
    for (path, text) in &files {
        files::replace(path, text.as_bytes())?;
    }
    Ok(files.into_iter().map(|(path, _)| path).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    #[test]
    fn a_folder_receives_every_file_whole() {
        let dir = std::env::temp_dir().join(format!("keyquake-reports-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let record = sample::no_overlap();
        record.save(&dir.join("result.json")).unwrap();
        let written = write(&dir, &Record::load(&dir.join("result.json")).unwrap()).unwrap();

        let expected = [
            "charts/denied.svg",
            "charts/latency.svg",
            "charts/recovery.svg",
            "report.html",
            "result.json",
            "summary.md",
        ];
        let mut found: Vec<PathBuf> = Vec::new();
        for folder in [dir.clone(), dir.join("charts")] {
            let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
            found.extend(entries.filter(|path| path.is_file()));
        }
        found.sort();
        assert_eq!(found, expected.map(|name| dir.join(name)));
        assert_eq!(written.len(), expected.len() - 1);
        fs::remove_dir_all(&dir).unwrap();
    }

    /// Into the folder that `KEYQUAKE_PAGES` names.
    #[test]
    #[ignore = "draws what reports/browser/run looks at"]
    fn draw_the_sample_pages() {
        let pages = PathBuf::from(std::env::var_os("KEYQUAKE_PAGES").expect("KEYQUAKE_PAGES names a folder"));
        for mut record in [
            sample::no_overlap(),
            sample::overlap(),
            sample::revocation(),
            sample::outage(),
            sample::aborted(),
            sample::long(86_400),
            sample::sweep(),
        ] {
            judge(&mut record);
            write(&pages.join(format!("sample-{}", record.scenario.name)), &record).unwrap();
        }
    }

    #[test]
    fn a_file_in_place_of_the_folder_is_an_error() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
        assert!(write(&file, &sample::overlap()).is_err());
    }
}
