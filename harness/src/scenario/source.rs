//! Where a scenario comes from: a file and the `--set` flags laid over it, read as one virtual text, so that every
//! mistake is shown at the place where it was typed.

use std::fmt;
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Scenario;
use super::value::Value;

/// A file and the flags over it.
#[derive(Debug)]
pub(crate) struct Source {
    parts: Vec<Part>,
}

/// One text, after as many blanks as the parts before it are long: so its spans lie where it lies in the virtual text.
#[derive(Debug)]
struct Part {
    name: String,
    padded: String,
    offset: usize,
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
        Self { hint: did_you_mean(&message), message, span: None }
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
        source.push(name, text);
        for setting in overrides {
            let Some((path, value)) = setting.split_once('=') else {
                return Err(format!(
                    "error: `--set {setting}` has no `=`\nhint: write `--set fleet.policy.ttl=5m`"
                ));
            };
            let (path, value) = (path.trim(), value.trim());
            // Read as TOML and, if that fails, as a string.
            let verbatim = format!("{path} = {value}");
            let is_toml = DeTable::parse(&verbatim).is_ok();
            source.push("--set", &if is_toml { verbatim } else { format!("{path} = {value:?}") });
        }
        Ok(source)
    }

    fn push(&mut self, name: &str, text: &str) {
        let offset = self.parts.last().map_or(0, |part| part.padded.len());
        self.parts.push(Part { name: name.to_owned(), padded: " ".repeat(offset) + text, offset });
    }

    /// All parts as one tree, the later over the earlier.
    fn tree(&self) -> Result<Spanned<DeTable<'_>>, Complaint> {
        let mut trees = self.parts.iter().map(|part| DeTable::parse(&part.padded));
        let mut tree = trees.next().unwrap_or_else(|| DeTable::parse(""))?;
        for over in trees {
            overlay(tree.get_mut(), over?.into_inner());
        }
        Ok(tree)
    }

    /// The scenario, as far as its shape goes.
    ///
    /// # Errors
    ///
    /// What is wrong, as a finished text.
    pub(crate) fn scenario(&self) -> Result<Scenario, String> {
        let tree = self.tree().map_err(|complaint| self.explain(&complaint))?;
        Scenario::deserialize(Value::from(tree)).map_err(|complaint| self.explain(&complaint))
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

    /// A complaint about the value at this path, like `rotation[0].at`, or about the nearest table around it when it
    /// was not written.
    pub(crate) fn complain(&self, path: &str, message: impl Into<String>, hint: Option<String>) -> String {
        self.explain(&Complaint { message: message.into(), span: self.span_of(path), hint })
    }

    fn span_of(&self, path: &str) -> Option<Range<usize>> {
        let tree = self.tree().ok()?;
        let mut span = None;
        let mut table = tree.get_ref();
        for step in path.split('.') {
            let (key, index) = step.split_once('[').unwrap_or((step, ""));
            let Some(mut value) = table.get(key) else { return span };
            if let Ok(index) = index.trim_end_matches(']').parse::<usize>() {
                value = value.get_ref().get(index)?;
            }
            span = Some(value.span());
            let DeValue::Table(inner) = value.get_ref() else { return span };
            table = inner;
        }
        span
    }

    /// The complaint as a person reads it: file, line, caret and hint.
    fn explain(&self, complaint: &Complaint) -> String {
        let mut report = vec![self.shown(complaint)];
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

/// Tables merge; everything else replaces what it covers.
fn overlay<'i>(base: &mut DeTable<'i>, over: DeTable<'i>) {
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

/// The name most like `unknown`, if one is alike enough.
pub(crate) fn nearest<'n>(unknown: &str, known: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    known
        .into_iter()
        .map(|name| (strsim::jaro_winkler(unknown, name), name))
        .filter(|(likeness, _)| *likeness > 0.75)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, name)| name)
}
