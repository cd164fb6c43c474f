//! `[matrix]`: the cells of a sweep, each a scenario of its own.
//!
//! Every key is the path of a field and holds the values that it takes; there is a cell for every combination. `exclude`
//! takes cells away; `include` adds fields to those that it matches, or else a cell. The order is: file, then cell, then
//! `--set`.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::source::{Complaint, Document, Layers, Source, as_toml, overlay};

/// The most cells of a sweep: their record is about as large as a record may be.
const MAX_CELLS: usize = 50_000;
/// The most tables of `include` and `exclude`.
const MAX_TABLES: usize = 1_000;
/// What a cell cannot choose: the folder's name, the seed (replications draw their own), and what makes the sweep itself.
const FIXED: [&str; 5] = ["name", "seed", "matrix", "find", "recommend"];

/// The cells of a sweep.
pub(crate) struct Matrix<'s> {
    source: &'s Source,
    file: Spanned<DeTable<'s>>,
    settings: DeTable<'s>,
    axes: Vec<Axis>,
    /// All values of all axes and inclusions.
    choices: Vec<Choice<'s>>,
    /// The choices of each cell.
    cells: Vec<Vec<usize>>,
}

/// A field and the values that it takes, as indices of choices.
struct Axis {
    path: String,
    choices: Vec<usize>,
}

/// A value of a field.
struct Choice<'s> {
    path: String,
    /// Where the path stands.
    key: Range<usize>,
    value: Spanned<DeValue<'s>>,
    /// The value in words.
    shown: String,
}

/// The choices of a table, and where it stands.
type PlacedChoices = (Vec<usize>, Range<usize>);

/// A value that no text has: a search tries it.
pub(crate) struct Chosen {
    path: String,
    toml: String,
    /// The number of the search.
    search: usize,
}

impl Chosen {
    /// What the search of this number tries.
    pub(crate) fn by_search(number: usize, path: &str, value: &str) -> Self {
        Self { path: path.to_owned(), toml: as_toml(value), search: number }
    }
}

impl<'s> Matrix<'s> {
    /// The cells of a source; one if it has no matrix.
    ///
    /// # Errors
    ///
    /// What is wrong with the matrix, with its place, as a finished text.
    pub(crate) fn of(source: &'s Source) -> Result<Self, String> {
        let Layers { mut file, mut settings, axes } = source.layers()?;
        let mut written = file.get_mut().remove("matrix");
        if let Some(over) = settings.remove("matrix") {
            match (written.as_mut().map(Spanned::get_mut), over) {
                (Some(DeValue::Table(table)), over) if over.get_ref().is_table() => {
                    if let DeValue::Table(over) = over.into_inner() {
                        overlay(table, over);
                    }
                }
                (_, over) => written = Some(over),
            }
        }
        let mut matrix =
            Self { source, file, settings, axes: Vec::new(), choices: Vec::new(), cells: Vec::new() };
        matrix.fill(written, axes).map_err(|complaint| source.explain(&complaint, None))?;
        Ok(matrix)
    }

    /// How many cells there are.
    pub(crate) fn len(&self) -> usize {
        self.cells.len()
    }

    /// Each axis with its values, those of inclusions last.
    pub(crate) fn axes(&self) -> Vec<(String, Vec<String>)> {
        let with_included = |axis: &Axis| {
            let included = self.cells.iter().flatten().copied();
            let included = included.filter(|choice| self.choices[*choice].path == axis.path);
            let mut seen = BTreeSet::new();
            let shown =
                axis.choices.iter().copied().chain(included).map(|choice| &self.choices[choice].shown);
            let values = shown.filter(|shown| seen.insert(shown.as_str())).cloned().collect();
            (axis.path.clone(), values)
        };
        self.axes.iter().map(with_included).collect()
    }

    /// What a cell chooses, by path.
    pub(crate) fn chosen(&self, cell: usize) -> BTreeMap<String, String> {
        let choices = self.cells[cell].iter().map(|choice| &self.choices[*choice]);
        choices.map(|choice| (choice.path.clone(), choice.shown.clone())).collect()
    }

    /// The scenario of a cell, with one more value if a search asks for it.
    ///
    /// # Errors
    ///
    /// A path that leads nowhere, as a finished text.
    pub(crate) fn document<'d>(
        &'d self,
        cell: usize,
        tried: Option<&'d Chosen>,
    ) -> Result<Document<'d>, String> {
        let mut chosen = self.chosen(cell);
        chosen.extend(tried.map(|tried| (tried.path.clone(), tried.toml.trim_matches('"').to_owned())));
        let name = in_words(&chosen);
        let mut document = Document::new(self.source, self.file.clone(), DeTable::new()).in_cell(name);
        for choice in self.cells[cell].iter().map(|choice| &self.choices[*choice]) {
            put(document.tree_mut(), &choice.path, &choice.key, choice.value.clone())
                .map_err(|complaint| document.explain(&complaint))?;
        }
        overlay(document.tree_mut(), self.settings.clone());
        if let Some(tried) = tried {
            let place = |field: &str| document.written(&format!("find[{}].{field}", tried.search));
            let key = place("smallest").or_else(|| place("largest")).unwrap_or_default();
            let place = place("within").unwrap_or_default();
            let value = DeValue::parse(&tried.toml).map_err(|error| document.explain(&error.into()))?;
            let value = Spanned::new(place, value.into_inner());
            put(document.tree_mut(), &tried.path, &key, value)
                .map_err(|complaint| document.explain(&complaint))?;
        }
        Ok(document)
    }

    fn fill(
        &mut self,
        written: Option<Spanned<DeValue<'s>>>,
        flags: Vec<DeTable<'s>>,
    ) -> Result<(), Complaint> {
        let (mut include, mut exclude) = (None, None);
        let place = written.as_ref().map(Spanned::span);
        if let Some(written) = written {
            let DeValue::Table(mut written) = written.into_inner() else {
                return Err(wrong("`matrix` is a table of fields and their values", place));
            };
            (include, exclude) = (written.remove("include"), written.remove("exclude"));
            // In the order in which they were written: the map has its own.
            let mut axes: Vec<_> = written.into_iter().collect();
            axes.sort_by_key(|(path, _)| path.span().start);
            for (path, values) in axes {
                let axis = self.axis(path, values)?;
                self.axes.push(axis);
            }
        }
        self.add_flags(flags)?;
        self.check_axes()?;
        self.combine(place.clone())?;
        if let Some(exclude) = exclude {
            self.exclude(exclude)?;
        }
        if let Some(include) = include {
            self.include(include)?;
        }
        match self.cells.len() {
            0 => Err(wrong("the exclusions leave no cell", place)),
            cells => bound(cells, place),
        }
    }

    fn axis(&mut self, path: Spanned<Cow<'s, str>>, values: Spanned<DeValue<'s>>) -> Result<Axis, Complaint> {
        let (key, place) = (path.span(), values.span());
        let path = path.into_inner().into_owned();
        let values = match values.into_inner() {
            DeValue::Array(values) => values,
            DeValue::Table(_) => {
                let hint = "write the path in quotes: `\"fleet.policy.ttl\" = [\"1m\", \"5m\"]`";
                return Err(hinted("an axis is a list of values, and not a table", key, hint));
            }
            _ => {
                let hint =
                    format!("write `\"{path}\" = [...]`, or outside of `[matrix]` what all cells share");
                return Err(hinted("an axis is a list of values", place, &hint));
            }
        };
        if values.is_empty() {
            return Err(wrong("the axis has no values", Some(place)));
        }
        bound(values.len(), Some(place))?;
        let mut choices = Vec::new();
        let mut seen = BTreeSet::new();
        for value in values {
            let place = value.span();
            let choice = self.choice(path.clone(), key.clone(), value)?;
            if !seen.insert(self.choices[choice].shown.clone()) {
                return Err(wrong("the axis has this value twice", Some(place)));
            }
            choices.push(choice);
        }
        Ok(Axis { path, choices })
    }

    fn choice(
        &mut self,
        path: String,
        key: Range<usize>,
        value: Spanned<DeValue<'s>>,
    ) -> Result<usize, Complaint> {
        let first = steps(&path).map(|steps| steps[0].0);
        let Some(first) = first else {
            let hint = "a path is written like `\"fleet.policy.ttl\"` or `\"rotation[0].lead\"`";
            return Err(hinted("this is no path to a field", key, hint));
        };
        if FIXED.contains(&first) {
            let hint = "replications draw seeds of their own: `--replications`";
            let hint = (first == "seed").then(|| hint.to_owned());
            return Err(Complaint {
                hint,
                ..wrong(&format!("a cell cannot choose its `{first}`"), Some(key))
            });
        }
        let text = value.get_ref().as_str().unwrap_or_else(|| self.source.text_at(&value.span()));
        let shown = text.split_whitespace().collect::<Vec<_>>().join(" ");
        self.choices.push(Choice { path, key, value, shown });
        Ok(self.choices.len() - 1)
    }

    /// A flag replaces the axis of its field, or adds one.
    fn add_flags(&mut self, flags: Vec<DeTable<'s>>) -> Result<(), Complaint> {
        let mut by_flag = BTreeSet::new();
        for (path, values) in flags.into_iter().flatten() {
            let key = path.span();
            let axis = self.axis(path, values)?;
            if !by_flag.insert(axis.path.clone()) {
                return Err(wrong("two flags name this axis", Some(key)));
            }
            match self.axes.iter_mut().find(|known| known.path == axis.path) {
                Some(known) => *known = axis,
                None => self.axes.push(axis),
            }
        }
        Ok(())
    }

    /// No axis may hide behind another, or behind a setting.
    fn check_axes(&self) -> Result<(), Complaint> {
        let key = |axis: &Axis| Some(self.choices[axis.choices[0]].key.clone());
        for axis in &self.axes {
            let within = |other: &&Axis| {
                let rest = axis.path.strip_prefix(&other.path);
                rest.is_some_and(|rest| rest.starts_with(['.', '[']))
            };
            if let Some(other) = self.axes.iter().find(within) {
                return Err(wrong(&format!("this lies within another axis, `{}`", other.path), key(axis)));
            }
            if let Some(setting) = covering(&self.settings, &axis.path) {
                let hint = format!("other values are given with `-L {}=...`", axis.path);
                let message = format!("this would give all cells the same `{}`", axis.path);
                return Err(hinted(&message, setting, &hint));
            }
        }
        Ok(())
    }

    /// Every combination, the last axis changing first.
    fn combine(&mut self, place: Option<Range<usize>>) -> Result<(), Complaint> {
        let cells = self.axes.iter().fold(1, |cells: usize, axis| cells.saturating_mul(axis.choices.len()));
        bound(cells, place)?;
        self.cells = vec![Vec::new()];
        for axis in &self.axes {
            let with = |cell: &Vec<usize>, choice: usize| cell.iter().copied().chain([choice]).collect();
            let longer = self.cells.iter().flat_map(|cell| axis.choices.iter().map(move |c| with(cell, *c)));
            self.cells = longer.collect();
        }
        Ok(())
    }

    fn exclude(&mut self, written: Spanned<DeValue<'s>>) -> Result<(), Complaint> {
        for (table, place) in self.tables("exclude", written)? {
            let strange = table.iter().find(|choice| !self.is_axis(**choice));
            if let Some(strange) = strange {
                let key = self.choices[*strange].key.clone();
                return Err(wrong("cells are excluded by their values on the axes", Some(key)));
            }
            let before = self.cells.len();
            let mut cells = std::mem::take(&mut self.cells);
            cells.retain(|cell| !table.iter().all(|choice| self.has(cell, *choice)));
            self.cells = cells;
            if self.cells.len() == before {
                return Err(wrong("this matches no cell", Some(place)));
            }
        }
        Ok(())
    }

    /// As CI systems do it: fields are added to the cells that have the same values on the axes; if there are none, it is
    /// a further cell.
    fn include(&mut self, written: Spanned<DeValue<'s>>) -> Result<(), Complaint> {
        let combinations = self.cells.len();
        for (table, place) in self.tables("include", written)? {
            let (of_axes, further): (Vec<usize>, Vec<usize>) =
                table.iter().partition(|choice| self.is_axis(**choice));
            let mut cells = std::mem::take(&mut self.cells);
            let mut matches = false;
            for cell in &mut cells[..combinations] {
                if of_axes.iter().all(|choice| self.has(cell, *choice)) {
                    cell.retain(|known| further.iter().all(|new| !self.is_same_field(*known, *new)));
                    cell.extend(&further);
                    matches = true;
                }
            }
            if !matches {
                if cells[combinations..].iter().any(|cell| table.iter().all(|choice| self.has(cell, *choice)))
                {
                    return Err(wrong("this cell is included already", Some(place)));
                }
                cells.push(table);
            }
            self.cells = cells;
        }
        Ok(())
    }

    /// The tables of `include` or `exclude` as choices, each with its place.
    fn tables(&mut self, name: &str, written: Spanned<DeValue<'s>>) -> Result<Vec<PlacedChoices>, Complaint> {
        let place = written.span();
        let shape = format!("`{name}` is a list of tables");
        let DeValue::Array(list) = written.into_inner() else { return Err(wrong(&shape, Some(place))) };
        if list.len() > MAX_TABLES {
            return Err(wrong(&format!("`{name}` has more than {MAX_TABLES} tables"), Some(place)));
        }
        let mut tables = Vec::new();
        for table in list {
            let place = table.span();
            let DeValue::Table(table) = table.into_inner() else { return Err(wrong(&shape, Some(place))) };
            if table.is_empty() {
                return Err(wrong("this table is empty", Some(place)));
            }
            let mut fields: Vec<_> = table.into_iter().collect();
            fields.sort_by_key(|(path, _)| path.span().start);
            let choices = fields.into_iter().map(|(path, value)| {
                let key = path.span();
                self.choice(path.into_inner().into_owned(), key, value)
            });
            tables.push((choices.collect::<Result<_, _>>()?, place));
        }
        Ok(tables)
    }

    fn is_axis(&self, choice: usize) -> bool {
        self.axes.iter().any(|axis| axis.path == self.choices[choice].path)
    }

    fn is_same_field(&self, a: usize, b: usize) -> bool {
        self.choices[a].path == self.choices[b].path
    }

    /// Whether a cell has this value.
    fn has(&self, cell: &[usize], choice: usize) -> bool {
        let same = |other: &usize| {
            self.is_same_field(*other, choice) && self.choices[*other].shown == self.choices[choice].shown
        };
        cell.iter().any(same)
    }
}

/// `fleet.policy.ttl = 1m, fleet.policy.on_unknown_kid = reject`.
fn in_words(chosen: &BTreeMap<String, String>) -> String {
    chosen.iter().map(|(path, value)| format!("{path} = {value}")).collect::<Vec<_>>().join(", ")
}

fn bound(cells: usize, place: Option<Range<usize>>) -> Result<(), Complaint> {
    if cells <= MAX_CELLS {
        return Ok(());
    }
    Err(wrong(&format!("the sweep has {cells} cells, and may have {MAX_CELLS}"), place))
}

fn wrong(message: &str, span: Option<Range<usize>>) -> Complaint {
    Complaint { message: message.to_owned(), span, hint: None }
}

fn hinted(message: &str, span: Range<usize>, hint: &str) -> Complaint {
    Complaint { message: message.to_owned(), span: Some(span), hint: Some(hint.to_owned()) }
}

/// The keys of a path, each with its index if it has one; at least one.
fn steps(path: &str) -> Option<Vec<(&str, Option<usize>)>> {
    let step = |step: &'_ str| -> Option<(usize, Option<usize>)> {
        let (key, index) = match step.split_once('[') {
            Some((key, index)) => (key, Some(index.strip_suffix(']')?.parse().ok()?)),
            None => (step, None),
        };
        let is_key = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c));
        is_key.then_some((key.len(), index))
    };
    path.split('.').map(|text| step(text).map(|(length, index)| (&text[..length], index))).collect()
}

/// Where a setting stands that covers the value at this path.
fn covering(settings: &DeTable<'_>, path: &str) -> Option<Range<usize>> {
    let mut table = settings;
    let mut span = None;
    for (key, index) in steps(path)? {
        let value = table.get(key)?;
        span = Some(value.span());
        match value.get_ref() {
            DeValue::Table(inner) if index.is_none() => table = inner,
            _ => return span,
        }
    }
    span
}

/// Lays a value into a tree, the tables on its way included: as a line `path = value` would.
fn put<'s>(
    tree: &mut DeTable<'s>,
    path: &str,
    key: &Range<usize>,
    value: Spanned<DeValue<'s>>,
) -> Result<(), Complaint> {
    let Some(steps) = steps(path) else { return Err(wrong("this is no path to a field", Some(key.clone()))) };
    let Some(((last, last_index), tables)) = steps.split_last() else { return Ok(()) };
    let mut table = tree;
    for (step, index) in tables {
        let slot = slot(table, step, *index, key)?;
        if !slot.get_ref().is_table() {
            *slot = Spanned::new(key.clone(), DeValue::Table(DeTable::new()));
        }
        let DeValue::Table(inner) = slot.get_mut() else { return Ok(()) };
        table = inner;
    }
    let slot = slot(table, last, *last_index, key)?;
    match (slot.get_mut(), value) {
        (DeValue::Table(old), value) if value.get_ref().is_table() => {
            if let DeValue::Table(new) = value.into_inner() {
                overlay(old, new);
            }
        }
        (_, value) => *slot = value,
    }
    Ok(())
}

/// The value of a key, made if it is not there; or of an entry of its list, which must be there.
fn slot<'t, 's>(
    table: &'t mut DeTable<'s>,
    step: &str,
    index: Option<usize>,
    key: &Range<usize>,
) -> Result<&'t mut Spanned<DeValue<'s>>, Complaint> {
    let lost =
        || wrong(&format!("the scenario has no `{step}[{}]`", index.unwrap_or_default()), Some(key.clone()));
    if index.is_none() && table.get(step).is_none() {
        let name = Spanned::new(key.clone(), Cow::Owned(step.to_owned()));
        table.insert(name, Spanned::new(key.clone(), DeValue::Table(DeTable::new())));
    }
    let value = table.get_mut(step).ok_or_else(lost)?;
    match index {
        None => Ok(value),
        Some(index) => match value.get_mut() {
            DeValue::Array(list) => list.get_mut(index).ok_or_else(lost),
            _ => Err(lost()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str = "name = \"s\"\nduration = \"60s\"\n[traffic]\nrate = \"10/s\"\n[[rotation]]\nat = \"9s\"\nlead = \"0s\"\n";
    const TWO: &str = "[matrix]\n\"fleet.replicas\" = [1, 2]\n\"fleet.policy.ttl\" = [\"1m\", \"5m\"]\n";

    /// The cells by their values.
    fn cells(lines: &str, settings: &[&str], flags: &[(&str, &str)]) -> Vec<String> {
        let settings: Vec<String> = settings.iter().map(|setting| (*setting).to_owned()).collect();
        let mut source = Source::new("s.toml", &format!("{BASE}{lines}"), &settings).unwrap();
        for (flag, typed) in flags {
            source.vary(flag, typed).unwrap();
        }
        let matrix = Matrix::of(&source).unwrap();
        let values = |cell| matrix.chosen(cell).into_values().collect::<Vec<_>>().join(" ");
        (0..matrix.len()).map(values).collect()
    }

    #[test]
    fn there_is_a_cell_for_every_combination_in_the_order_of_the_file() {
        // Sorted by path within a cell; the first axis of the file changes last.
        assert_eq!(cells(TWO, &[], &[]), ["1m 1", "5m 1", "1m 2", "5m 2"]);
        assert_eq!(cells("", &[], &[]), [""], "without a matrix the file itself");
        let source = Source::new("s.toml", &format!("{BASE}{TWO}"), &[]).unwrap();
        let axes = Matrix::of(&source).unwrap().axes();
        assert_eq!(axes[0], ("fleet.replicas".to_owned(), vec!["1".to_owned(), "2".to_owned()]));
    }

    #[test]
    fn exclusions_take_cells_away_and_inclusions_add_fields_or_cells() {
        let with = |more: &str| cells(&format!("{TWO}{more}\n"), &[], &[]);
        assert_eq!(with("exclude = [{ \"fleet.replicas\" = 2 }]"), ["1m 1", "5m 1"]);
        assert_eq!(
            with("exclude = [{ \"fleet.replicas\" = 2, \"fleet.policy.ttl\" = \"1m\" }]"),
            ["1m 1", "5m 1", "5m 2"]
        );
        assert_eq!(
            with("include = [{ \"fleet.replicas\" = 2, \"fleet.workers\" = 7 }]"),
            ["1m 1", "5m 1", "1m 2 7", "5m 2 7"]
        );
        assert_eq!(
            with("include = [{ \"fleet.workers\" = 7 }]"),
            ["1m 1 7", "5m 1 7", "1m 2 7", "5m 2 7"],
            "what names no axis is for all"
        );
        assert_eq!(
            with("include = [{ \"fleet.replicas\" = 9, \"fleet.workers\" = 7 }]"),
            ["1m 1", "5m 1", "1m 2", "5m 2", "9 7"]
        );
        assert_eq!(
            with("include = [{ \"fleet.workers\" = 7 }, { \"fleet.replicas\" = 2, \"fleet.workers\" = 8 }]"),
            ["1m 1 7", "5m 1 7", "1m 2 8", "5m 2 8"],
            "a later one may change what an earlier one added"
        );
    }

    #[test]
    fn flags_replace_the_axis_of_their_field_or_add_one() {
        let flags = [("-L", "fleet.replicas=3"), ("-P", "fleet.policy.ttl=10s..1000s:log3")];
        assert_eq!(cells(TWO, &[], &flags), ["10s 3", "1m40s 3", "16m40s 3"]);
        let flags = [("-L", "fleet.cache=cold, {age=\"5s\"},'staggered'")];
        assert_eq!(cells("", &[], &flags), ["cold", "{age=\"5s\"}", "staggered"]);
    }

    #[test]
    fn a_cell_lies_over_the_file_and_a_setting_over_the_cell() {
        let lines = "[fleet]\nreplicas = 9\ncache = \"cold\"\n[matrix]\n\"fleet.replicas\" = [5]\n\
                     \"rotation[0].at\" = [\"30s\"]\n\"fleet.policy.ttl\" = [\"7s\"]\n";
        let settings = ["fleet.workers=3".to_owned(), "fleet.policy.leeway=1s".to_owned()];
        let source = Source::new("s.toml", &format!("{BASE}{lines}"), &settings).unwrap();
        let matrix = Matrix::of(&source).unwrap();
        let tried = Chosen::by_search(0, "fleet.policy.ttl", "8s");
        let scenario = matrix.document(0, Some(&tried)).unwrap().scenario().unwrap();
        let keyquake_core::Policy { ttl, leeway, .. } = scenario.fleet.policy;
        assert_eq!((scenario.fleet.replicas, scenario.fleet.workers), (5, 3));
        assert_eq!((ttl.as_secs(), leeway.as_secs()), (8, 1), "what a search tries is over all");
        assert_eq!(scenario.rotation[0].at.as_secs(), 30);
        assert_eq!(scenario.fleet.cache, crate::scenario::Cache::Cold);
    }

    #[test]
    fn paths_have_keys_and_indices() {
        assert_eq!(steps("a.b[3].c-d"), Some(vec![("a", None), ("b", Some(3)), ("c-d", None)]));
        for wrong in ["", ".", "a.", "a..b", "a[", "a[x]", "a[1", "a b", "a[-1]", "[0]"] {
            assert_eq!(steps(wrong), None, "{wrong}");
        }
    }
}
