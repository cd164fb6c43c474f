//! Where a scenario comes from: a file and the flags laid over it, read as one virtual text, so that every mistake is
//! shown at the place where it was typed.

use std::fmt;
use std::ops::Range;
use std::path::Path;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::depth::too_deep;
use super::range;
use super::value::Value;
use super::{Scenario, UnknownProfile};
use crate::profiles::ClientProfile;

const TEXT_HINT: &str = "a text stands in quotes, whatever is in it: `name = \"5\"`";
/// How many names are listed beside a hint at one of them.
const LISTED: usize = 12;

/// A file and the flags over it.
#[derive(Debug)]
pub(crate) struct Source {
    parts: Vec<Part>,
}

/// One text, after as many blanks as the parts before it are long: so its spans lie where it lies in the virtual text.
#[derive(Debug)]
struct Part {
    kind: Kind,
    name: String,
    padded: String,
    offset: usize,
}

/// What a part is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    File,
    /// A setting laid over the file.
    Setting,
    /// An axis of a sweep, as a line of `[matrix]` has it.
    Axis,
}

/// The texts of a source as one tree. Making another of it costs a copy of the tree, and no parsing.
#[derive(Debug)]
pub(crate) struct Document<'s> {
    source: &'s Source,
    tree: Spanned<DeTable<'s>>,
    /// The cell of a sweep whose values are laid into it, in words: none for what the file alone describes.
    cell: Option<String>,
}

/// The trees of a source, before one is laid over the other.
pub(super) struct Layers<'s> {
    pub(super) file: Spanned<DeTable<'s>>,
    pub(super) settings: DeTable<'s>,
    /// In the order in which they were typed.
    pub(super) axes: Vec<DeTable<'s>>,
}

impl Part {
    fn text(&self) -> &str {
        &self.padded[self.offset..]
    }
}

/// What is wrong with a scenario, where, and the way out.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(super) struct Complaint {
    pub(super) message: String,
    pub(super) span: Option<Range<usize>>,
    pub(super) hint: Option<String>,
}

impl Complaint {
    /// Whoever complains without a place complains about all of this.
    pub(super) fn within(self, span: Range<usize>) -> Self {
        Self { span: self.span.or(Some(span)), ..self }
    }
}

impl From<toml::de::Error> for Complaint {
    fn from(error: toml::de::Error) -> Self {
        let message = error.message().trim_end().replace('\n', "; ");
        Self { span: error.span(), ..serde::de::Error::custom(message) }
    }
}

impl serde::de::Error for Complaint {
    fn custom<M: fmt::Display>(message: M) -> Self {
        let message = message.to_string();
        let hint = did_you_mean(&message).or_else(|| wants_quotes(&message).then(|| TEXT_HINT.to_owned()));
        Self { message: without_long_list(message, hint.is_some()), hint, span: None }
    }
}

impl Source {
    /// The largest scenario file that is read, in bytes.
    pub(crate) const MAX_BYTES: usize = 1 << 20;

    /// Takes a file's text and lays each `path=value` over it.
    ///
    /// # Errors
    ///
    /// What is wrong, as a finished text.
    pub(crate) fn new(name: &str, text: &str, overrides: &[String]) -> Result<Self, String> {
        if text.len() > Self::MAX_BYTES {
            return Err(format!("error: `{name}` is larger than {} KiB", Self::MAX_BYTES >> 10));
        }
        let mut source = Self { parts: Vec::new() };
        source.push(Kind::File, name, text);
        for setting in overrides {
            let Some((path, value)) = setting.split_once('=') else {
                return Err(format!(
                    "error: `--set {setting}` has no `=`\nhint: write `--set fleet.policy.ttl=5m`"
                ));
            };
            let (path, value) = (path.trim(), value.trim());
            let value = as_toml(value);
            source.push(Kind::Setting, "--set", &format!("{path} = {value}"));
        }
        Ok(source)
    }

    /// Names hosts that requests may go to, as `--allow-target` does.
    pub(crate) fn allow(&mut self, hosts: &[String]) {
        if !hosts.is_empty() {
            self.push(Kind::Setting, "--allow-target", &format!("guard.\"--allow-target\" = {hosts:?}"));
        }
    }

    /// The folder of the file.
    fn folder(&self) -> &Path {
        let file = self.parts.first().map_or("", |part| part.name.as_str());
        Path::new(file).parent().unwrap_or(Path::new(""))
    }

    /// Adds the axis of a flag like `-L fleet.policy.ttl=1m,5m`.
    ///
    /// # Errors
    ///
    /// What is wrong, as a finished text.
    pub(crate) fn vary(&mut self, flag: &str, typed: &str) -> Result<(), String> {
        let wrong = |what: &str| format!("error: `{flag} {typed}`: {what}");
        let (path, values) =
            typed.split_once('=').ok_or_else(|| wrong("expected `field=` and its values"))?;
        let path = path.trim();
        let is_path =
            !path.is_empty() && path.chars().all(|c| c.is_ascii_alphanumeric() || "_-.[]".contains(c));
        if !is_path {
            return Err(wrong("a field is written like `fleet.policy.ttl` or `rotation[0].lead`"));
        }
        let values = match flag {
            "-P" => range::points(values).map_err(|error| wrong(&error))?,
            _ => list(values),
        };
        let values: Vec<String> = values.iter().map(|value| as_toml(value)).collect();
        self.push(Kind::Axis, flag, &format!("{path:?} = [{}]", values.join(", ")));
        Ok(())
    }

    fn push(&mut self, kind: Kind, name: &str, text: &str) {
        let offset = self.parts.last().map_or(0, |part| part.padded.len());
        self.parts.push(Part { kind, name: name.to_owned(), padded: " ".repeat(offset) + text, offset });
    }

    /// The settings laid over the file.
    ///
    /// # Errors
    ///
    /// What is no TOML, as a finished text.
    pub(crate) fn document(&self) -> Result<Document<'_>, String> {
        let Layers { file, settings, .. } = self.layers()?;
        Ok(Document::new(self, file, settings))
    }

    /// The trees of all parts.
    pub(super) fn layers(&self) -> Result<Layers<'_>, String> {
        let file = Spanned::new(0..0, DeTable::new());
        let mut layers = Layers { file, settings: DeTable::new(), axes: Vec::new() };
        for part in &self.parts {
            if let Some(Range { start, end }) = too_deep(part.text()) {
                let complaint = Complaint {
                    message: "brackets lie too deep within each other".to_owned(),
                    span: Some(part.offset + start..part.offset + end),
                    hint: None,
                };
                return Err(self.explain(&complaint, None));
            }
            let tree = DeTable::parse(&part.padded).map_err(|error| self.explain(&error.into(), None))?;
            match part.kind {
                Kind::File => layers.file = tree,
                Kind::Setting => overlay(&mut layers.settings, tree.into_inner()),
                Kind::Axis => layers.axes.push(tree.into_inner()),
            }
        }
        Ok(layers)
    }

    /// The question that the file asks in its first line, if that is a comment.
    pub(crate) fn question(&self) -> Option<String> {
        let question = self.parts.first()?.text().lines().next()?.strip_prefix('#')?.trim();
        (!question.is_empty()).then(|| question.to_owned())
    }

    /// Everything that was typed.
    pub(crate) fn typed(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().map(Part::text)
    }

    /// What stands at this place.
    pub(super) fn text_at(&self, span: &Range<usize>) -> &str {
        let part = self.parts.iter().rev().find(|part| part.offset <= span.start);
        part.and_then(|part| part.padded.get(span.clone())).unwrap_or_default()
    }

    /// The complaint as a person reads it: file, line, caret and hint.
    pub(super) fn explain(&self, complaint: &Complaint, cell: Option<&str>) -> String {
        let mut report = vec![self.shown(complaint)];
        if let Some(cell) = cell.filter(|cell| !cell.is_empty()) {
            report.push(Group::with_title(Level::NOTE.secondary_title(format!("in the cell {cell}"))));
        }
        if let Some(hint) = &complaint.hint {
            report.push(Group::with_title(Level::HELP.with_name("hint").secondary_title(hint.as_str())));
        }
        Renderer::plain().render(&report)
    }

    fn shown<'a>(&'a self, complaint: &'a Complaint) -> Group<'a> {
        let title = Level::ERROR.primary_title(complaint.message.as_str());
        let Some(span) = &complaint.span else { return Group::with_title(title) };
        let Some(part) = self.parts.iter().rev().find(|part| part.offset <= span.start) else {
            return Group::with_title(title);
        };
        // What spans several lines is shown by its first.
        let start = span.start.min(part.padded.len());
        let line_end = part.padded[start..].find('\n').map_or(part.padded.len(), |end| start + end);
        let end = span.end.clamp(start, line_end);
        let snippet = Snippet::source(part.text())
            .path(part.name.as_str())
            .annotation(AnnotationKind::Primary.span(start - part.offset..end - part.offset));
        title.element(snippet)
    }
}

impl<'s> Document<'s> {
    /// The settings laid over the tree of a file.
    pub(super) fn new(source: &'s Source, mut tree: Spanned<DeTable<'s>>, settings: DeTable<'s>) -> Self {
        overlay(tree.get_mut(), settings);
        Self { source, tree, cell: None }
    }

    /// The same as a cell of a sweep, which is named like this.
    pub(super) fn in_cell(self, cell: String) -> Self {
        Self { cell: Some(cell), ..self }
    }

    /// Whether it is a cell of a sweep.
    pub(crate) fn is_cell(&self) -> bool {
        self.cell.is_some()
    }

    pub(super) fn tree_mut(&mut self) -> &mut DeTable<'s> {
        self.tree.get_mut()
    }

    /// The scenario, as far as its shape goes, with what its profiles fill in.
    ///
    /// # Errors
    ///
    /// What is wrong, as a finished text.
    pub(crate) fn scenario(&self) -> Result<Scenario, String> {
        let mut tree = self.tree.clone();
        lay_over_profile(tree.get_mut());
        let mut scenario =
            Scenario::deserialize(Value::from(tree)).map_err(|complaint| self.explain(&complaint))?;
        scenario.follow_profiles().map_err(|UnknownProfile { field, name, nearest }| {
            let hint = nearest.map_or_else(
                || "`keyquake profiles` and `keyquake profiles --idp` list them".to_owned(),
                |nearest| format!("did you mean `{nearest}`?"),
            );
            self.complain(field, format!("unknown profile `{name}`"), Some(hint))
        })?;
        Ok(scenario)
    }

    /// The question that the file asks in its first line, if that is a comment.
    pub(crate) fn question(&self) -> Option<String> {
        self.source.question()
    }

    /// The folder of the file, where paths in it begin.
    pub(crate) fn folder(&self) -> &Path {
        self.source.folder()
    }

    /// Everything that was typed.
    pub(crate) fn typed(&self) -> impl Iterator<Item = &str> {
        self.source.typed()
    }

    /// A complaint about the value at this path, like `rotation[0].at`, or about the nearest table around it when it
    /// was not written.
    pub(crate) fn complain(&self, path: &str, message: impl Into<String>, hint: Option<String>) -> String {
        self.explain(&Complaint { message: message.into(), span: self.span_of(path), hint })
    }

    pub(super) fn explain(&self, complaint: &Complaint) -> String {
        self.source.explain(complaint, self.cell.as_deref())
    }

    fn span_of(&self, path: &str) -> Option<Range<usize>> {
        self.spans(path).last().cloned()
    }

    /// Where the value at this path is written.
    pub(crate) fn written(&self, path: &str) -> Option<Range<usize>> {
        let mut spans = self.spans(path);
        if spans.len() == path.split('.').count() { spans.pop() } else { None }
    }

    /// Where the values on the way to this path stand, as far as it goes.
    fn spans(&self, path: &str) -> Vec<Range<usize>> {
        let mut spans = Vec::new();
        let mut table = self.tree.get_ref();
        for step in path.split('.') {
            let (key, index) = step.split_once('[').unwrap_or((step, ""));
            let Some(mut value) = table.get(key) else { break };
            if let Ok(index) = index.trim_end_matches(']').parse::<usize>() {
                let Some(entry) = value.get_ref().get(index) else { return Vec::new() };
                value = entry;
            }
            spans.push(value.span());
            let DeValue::Table(inner) = value.get_ref() else { break };
            table = inner;
        }
        spans
    }
}

/// Lays the policy of a fleet over that of the client which it names, if there is one of that name.
fn lay_over_profile(tree: &mut DeTable<'_>) {
    let Some(DeValue::Table(fleet)) = tree.get_mut("fleet").map(Spanned::get_mut) else { return };
    let profile = fleet.get("profile").and_then(|name| ClientProfile::find(name.get_ref().as_str()?));
    let base = profile.and_then(|profile| DeTable::parse(profile.text()).ok());
    let Some(mut base) = base.map(Spanned::into_inner) else { return };
    match fleet.get_mut("policy").map(Spanned::get_mut) {
        Some(DeValue::Table(policy)) => {
            let written = std::mem::take(policy);
            overlay(&mut base, written);
            *policy = base;
        }
        // What is no table is complained about.
        Some(_) => {}
        None => {
            fleet.insert(Spanned::new(0..0, "policy".into()), Spanned::new(0..0, DeValue::Table(base)));
        }
    }
}

/// A value as TOML if it is some, and otherwise as a string.
pub(super) fn as_toml(value: &str) -> String {
    let is_toml = too_deep(value).is_none() && DeTable::parse(&format!("x = {value}")).is_ok();
    if is_toml { value.to_owned() } else { format!("{value:?}") }
}

/// What commas part, unless they lie within brackets or quotes.
fn list(text: &str) -> Vec<String> {
    let (mut depth, mut quote) = (0_usize, None);
    let values = text.split(|character: char| {
        match character {
            '"' | '\'' if quote == Some(character) => quote = None,
            '"' | '\'' if quote.is_none() => quote = Some(character),
            '{' | '[' if quote.is_none() => depth += 1,
            '}' | ']' if quote.is_none() => depth = depth.saturating_sub(1),
            _ => {}
        }
        character == ',' && depth == 0 && quote.is_none()
    });
    values.map(|value| value.trim().to_owned()).filter(|value| !value.is_empty()).collect()
}

/// Tables merge; everything else replaces what it covers.
pub(super) fn overlay<'i>(base: &mut DeTable<'i>, over: DeTable<'i>) {
    for (key, value) in over {
        match (base.get_mut(key.get_ref().as_ref()).map(Spanned::get_mut), value) {
            (Some(DeValue::Table(old)), value) if value.get_ref().is_table() => {
                if let DeValue::Table(new) = value.into_inner() {
                    overlay(old, new);
                }
            }
            (_, value) => {
                base.insert(key, value);
            }
        }
    }
}

/// The known name that is nearest to the unknown one which a message like "unknown field `x`, expected one of `y`"
/// complains about.
pub(crate) fn did_you_mean(message: &str) -> Option<String> {
    let mut names = message.split('`').skip(1).step_by(2);
    let unknown = message.starts_with("unknown").then(|| names.next()).flatten()?;
    nearest(unknown, names).map(|known| format!("did you mean `{known}`?"))
}

/// Whether a message says that there is a number or the like where a text belongs.
fn wants_quotes(message: &str) -> bool {
    let found = ["integer", "floating point", "boolean"];
    let is_found = |found| message.starts_with(&format!("invalid type: {found} `"));
    message.ends_with("expected a string") && found.into_iter().any(is_found)
}

/// A message like "unknown field `x`, expected one of `y`" without the names if they are many and one is hinted at.
fn without_long_list(message: String, has_hint: bool) -> String {
    match message.split_once(", expected one of ") {
        Some((short, names)) if has_hint && names.split(", ").count() > LISTED => short.to_owned(),
        _ => message,
    }
}

/// The name most like `unknown`, if one is alike enough.
pub(crate) fn nearest<'n>(unknown: &str, known: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    known
        .into_iter()
        .map(|name| (strsim::jaro_winkler(unknown, name), name))
        .filter(|(likeness, _)| *likeness > 0.75)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, name)| name)
}
