//! A table, and its three faces: text, Markdown and HTML.

use crate::format;

/// More rows than this are counted and left to `result.json`.
const ROWS_MAX: usize = 250;

/// More columns than this are small on paper.
const COLUMNS_ON_PAPER: usize = 9;

/// Rows under named columns.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    /// What the table shows, in a few words.
    pub(crate) caption: String,
    pub(crate) columns: Vec<Column>,
    pub(crate) rows: Vec<Vec<Entry>>,
}

/// A column's heading, and which way its entries lean.
#[derive(Clone, Debug)]
pub(crate) enum Column {
    /// For words.
    Left(&'static str),
    /// For numbers.
    Right(&'static str),
    /// For words, under a name from a record.
    Named(String),
}

/// What one place of a table says.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    text: String,
    tone: Tone,
    /// A share of one, for a bar behind the text.
    bar: Option<f64>,
}

/// How an entry is to be taken, for the faces that have colours; the words alone must say it too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    Plain,
    Good,
    Bad,
    Doubtful,
    /// Of no weight.
    Faint,
}

impl Table {
    pub(crate) fn new(caption: impl Into<String>, columns: Vec<Column>) -> Self {
        Self { caption: caption.into(), columns, rows: Vec::new() }
    }

    /// Adds a row of plain entries.
    pub(crate) fn row<const N: usize>(&mut self, entries: [String; N]) {
        self.rows.push(entries.into_iter().map(Entry::plain).collect());
    }

    /// Aligned with blanks, every line indented by two.
    pub(crate) fn to_text(&self, colour: bool) -> String {
        let widths: Vec<usize> = (0..self.columns.len()).map(|index| self.width(index)).collect();
        let mut text = String::new();
        let headings: Vec<Entry> =
            self.columns.iter().map(|column| Entry::plain(format::plain(column.name()))).collect();
        for row in std::iter::once(&headings).chain(self.shown()) {
            let mut line = String::from(" ");
            for ((entry, column), width) in row.iter().zip(&self.columns).zip(&widths) {
                let shown = format::plain(&entry.text);
                let blanks = " ".repeat(width.saturating_sub(shown.chars().count()));
                let shown = entry.tone.paint(&shown, colour);
                let padded = if column.is_right() { blanks + &shown } else { shown + &blanks };
                line = line + " " + &padded + " ";
            }
            text = text + line.trim_end() + "\n";
        }
        text + &self.left_out().map(|more| format!("  {more}\n")).unwrap_or_default()
    }

    /// As GitHub-flavoured Markdown.
    pub(crate) fn to_markdown(&self) -> String {
        let line = |entries: &mut dyn Iterator<Item = String>| {
            entries.fold(String::from("|"), |line, entry| line + " " + &entry + " |") + "\n"
        };
        let mut text = line(&mut self.columns.iter().map(|column| match column {
            Column::Named(name) => format::markdown(name),
            column => column.name().to_owned(),
        }));
        text += &line(&mut self.columns.iter().map(|c| if c.is_right() { "--:" } else { ":--" }.to_owned()));
        for row in self.shown() {
            text += &line(&mut row.iter().map(|entry| match entry.tone {
                Tone::Bad => format!("**{}**", format::markdown(&entry.text)),
                _ => format::markdown(&entry.text),
            }));
        }
        text + &self.left_out().map(|more| format!("\n{more}\n")).unwrap_or_default()
    }

    /// As a `<table>`, in a box that scrolls sideways where it is too wide, also by keyboard; nothing without rows.
    pub(crate) fn to_html(&self) -> String {
        if self.rows.is_empty() {
            return String::new();
        }
        let caption = format::xml(&self.caption);
        // On paper nothing scrolls.
        let broad = if self.columns.len() > COLUMNS_ON_PAPER { " class=\"broad\"" } else { "" };
        let mut html = format!(
            "<div class=\"wide\" tabindex=\"0\" role=\"region\" aria-label=\"{caption}\"><table{broad}>\
             <caption>{caption}</caption><thead><tr>"
        );
        for column in &self.columns {
            let class = if column.is_right() { " class=\"n\"" } else { "" };
            html += &format!("<th scope=\"col\"{class}>{}</th>", format::xml(column.name()));
        }
        html += "</tr></thead><tbody>\n";
        for row in self.shown() {
            html += "<tr>";
            for (entry, column) in row.iter().zip(&self.columns) {
                html += &entry.to_html(column.is_right());
            }
            html += "</tr>\n";
        }
        html += "</tbody></table></div>\n";
        html + &self.left_out().map(|more| format!("<p class=\"quiet\">{more}</p>\n")).unwrap_or_default()
    }

    fn shown(&self) -> impl Iterator<Item = &Vec<Entry>> {
        self.rows.iter().take(ROWS_MAX)
    }

    fn left_out(&self) -> Option<String> {
        let more = self.rows.len().saturating_sub(ROWS_MAX);
        (more > 0).then(|| format!("and {} more in result.json", format::count(more as u64)))
    }

    fn width(&self, index: usize) -> usize {
        let rows = self.shown().filter_map(|row| row.get(index)).map(|entry| entry.text.chars().count());
        rows.chain(self.columns.get(index).map(|column| column.name().chars().count())).max().unwrap_or(0)
    }
}

impl Column {
    fn name(&self) -> &str {
        match self {
            Self::Left(name) | Self::Right(name) => name,
            Self::Named(name) => name,
        }
    }

    fn is_right(&self) -> bool {
        matches!(self, Self::Right(_))
    }
}

impl Entry {
    pub(crate) fn plain(text: String) -> Self {
        Self { text, tone: Tone::Plain, bar: None }
    }

    pub(crate) fn toned(text: impl Into<String>, tone: Tone) -> Self {
        Self { text: text.into(), tone, bar: None }
    }

    /// A share of one; a face that can draws a bar of that length behind it.
    pub(crate) fn share(share: f64) -> Self {
        Self { bar: Some(share.clamp(0.0, 1.0)), ..Self::plain(format::share(share)) }
    }

    fn to_html(&self, right: bool) -> String {
        let classes =
            [if right { "n" } else { "" }, self.tone.class(), if self.bar.is_some() { "bar" } else { "" }];
        let classes: Vec<&str> = classes.into_iter().filter(|class| !class.is_empty()).collect();
        let class =
            if classes.is_empty() { String::new() } else { format!(" class=\"{}\"", classes.join(" ")) };
        let style = self.bar.map(|share| format!(" style=\"--share:{share:.4}\"")).unwrap_or_default();
        format!("<td{class}{style}>{}</td>", format::xml(&self.text))
    }
}

impl Tone {
    /// Its class on a page.
    pub(crate) fn class(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Good => "good",
            Self::Bad => "bad",
            Self::Doubtful => "doubtful",
            Self::Faint => "faint",
        }
    }

    /// The text in the colour of the tone, by ANSI X3.64 sequences.
    pub(crate) fn paint(self, text: &str, colour: bool) -> String {
        let code = match self {
            Self::Good => "32",
            Self::Bad => "1;31",
            Self::Doubtful => "33",
            Self::Faint => "2",
            Self::Plain => return text.into(),
        };
        if colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_face_says_the_same() {
        let mut table = Table::new("Fruit", vec![Column::Left("kind"), Column::Right("number")]);
        table.row(["apple".into(), "1,204".into()]);
        table.rows.push(vec![Entry::toned("<fig>", Tone::Bad), Entry::plain("3".into())]);
        assert_eq!(table.to_text(false), "  kind   number\n  apple   1,204\n  <fig>       3\n");
        assert!(table.to_text(true).contains("\x1b[1;31m<fig>\x1b[0m       3\n"));
        assert_eq!(
            table.to_markdown(),
            "| kind | number |\n| :-- | --: |\n| apple | 1,204 |\n| **\\<fig>** | 3 |\n"
        );
        table.rows.push(vec![Entry::plain("both".into()), Entry::share(0.125)]);
        let html = table.to_html();
        assert!(html.contains("<td class=\"n bar\" style=\"--share:0.1250\">12.5 %</td>"), "{html}");
        assert!(html.contains("<td class=\"bad\">&lt;fig&gt;</td><td class=\"n\">3</td>"), "{html}");
    }

    #[test]
    fn rows_beyond_the_bound_are_counted() {
        let mut table = Table::new("Numbers", vec![Column::Right("number")]);
        (0..ROWS_MAX + 1_204).for_each(|number| table.row([number.to_string()]));
        for face in [table.to_text(false), table.to_markdown(), table.to_html()] {
            assert!(face.contains("249") && !face.contains("250"), "{face}");
            assert!(face.contains("and 1,204 more in result.json"), "{face}");
        }
    }
}
