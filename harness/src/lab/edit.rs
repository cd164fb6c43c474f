//! Settings written into a scenario's text, which otherwise stays as its author left it, comments included.
//!
//! What is simulated and what is saved is this one text, so they cannot differ.

use std::collections::BTreeMap;

use toml_edit::{Array, ArrayOfTables, DocumentMut, InlineTable, Item, Table, TableLike, Value};

use crate::scenario::depth::too_deep;

/// Values by their path, like `fleet.policy.ttl` or `rotation[0].lead`, read as `--set` reads them. `None` takes away what
/// stands there.
pub(super) type Settings = BTreeMap<String, Option<String>>;

/// The most settings at a time.
const MAX_SETTINGS: usize = 100;
/// The most steps of a path.
const MAX_STEPS: usize = 8;

/// The text with these settings in it.
///
/// # Errors
///
/// The text is no TOML, or a path leads nowhere; as a finished text.
pub(super) fn edit(text: &str, settings: &Settings) -> Result<String, String> {
    if settings.is_empty() {
        return Ok(text.to_owned());
    }
    if settings.len() > MAX_SETTINGS {
        return Err(format!("error: more than {MAX_SETTINGS} settings"));
    }
    if too_deep(text).is_some() {
        return Err("error: brackets lie too deep within each other".to_owned());
    }
    let mut document: DocumentMut = text.parse().map_err(|error| format!("error: {error}"))?;
    for (path, value) in settings {
        let value = value.as_deref().map(read);
        let root = Place { table: document.as_table_mut(), inline: false };
        steps(path)
            .and_then(|steps| root.put(&steps, value))
            .ok_or_else(|| format!("error: the path `{path}` leads nowhere in this scenario"))?;
    }
    Ok(document.to_string())
}

/// A value as TOML and, if it is none, as a string.
fn read(text: &str) -> Value {
    let text = text.trim();
    let value = if too_deep(text).is_none() { text.parse().ok() } else { None };
    value.unwrap_or_else(|| Value::from(text))
}

/// One step of a path: `ttl`, or `rotation[0]`.
struct Step<'p> {
    key: &'p str,
    index: Option<usize>,
}

fn steps(path: &str) -> Option<Vec<Step<'_>>> {
    let steps: Option<Vec<_>> = path.split('.').take(MAX_STEPS + 1).map(step).collect();
    steps.filter(|steps| steps.len() <= MAX_STEPS)
}

fn step(written: &str) -> Option<Step<'_>> {
    let (key, index) = match written.split_once('[') {
        Some((key, index)) => (key, Some(index.strip_suffix(']')?.parse().ok()?)),
        None => (written, None),
    };
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    (!key.is_empty() && key.chars().all(bare)).then_some(Step { key, index })
}

/// A table, and whether it is written in one line: then so is all within.
struct Place<'d> {
    table: &'d mut dyn TableLike,
    inline: bool,
}

impl<'d> Place<'d> {
    /// Writes a value at the end of a path, or takes away what stands there; `None` where the path leads nowhere.
    fn put(self, steps: &[Step<'_>], value: Option<Value>) -> Option<()> {
        let (step, rest) = steps.split_first()?;
        if value.is_none() && !self.table.contains_key(step.key) {
            return Some(());
        }
        match (step.index, rest) {
            (None, []) => self.write(step.key, value),
            (Some(index), []) => {
                return if value.is_none() { self.take_away(step.key, index) } else { None };
            }
            (None, rest) => self.table_at(step.key)?.put(rest, value)?,
            (Some(index), rest) => self.element_at(step.key, index)?.put(rest, value)?,
        }
        Some(())
    }

    fn write(self, key: &str, value: Option<Value>) {
        let Some(mut value) = value else {
            self.table.remove(key);
            return;
        };
        match self.table.get_mut(key) {
            Some(Item::Value(old)) => {
                // The comment behind it stays.
                *value.decor_mut() = old.decor().clone();
                *old = value;
            }
            _ => {
                self.table.insert(key, Item::Value(value));
            }
        }
    }

    fn take_away(self, key: &str, index: usize) -> Option<()> {
        match self.table.get_mut(key)? {
            Item::ArrayOfTables(list) if index < list.len() => {
                list.remove(index);
            }
            Item::Value(Value::Array(list)) if index < list.len() => {
                list.remove(index);
            }
            // It is not there already.
            _ => {}
        }
        Some(())
    }

    /// The table of that name, which is made if there is none.
    fn table_at(self, key: &str) -> Option<Self> {
        let inline = self.inline;
        let empty =
            || if inline { Item::Value(InlineTable::new().into()) } else { Item::Table(Table::new()) };
        match self.table.entry(key).or_insert_with(empty) {
            Item::Table(table) => Some(Self { table, inline: false }),
            Item::Value(Value::InlineTable(table)) => Some(Self { table, inline: true }),
            _ => None,
        }
    }

    /// A table of a list, which is made if the list ends right before it.
    fn element_at(self, key: &str, index: usize) -> Option<Self> {
        let inline = self.inline;
        let empty = || {
            if inline { Item::Value(Array::new().into()) } else { Item::ArrayOfTables(ArrayOfTables::new()) }
        };
        match self.table.entry(key).or_insert_with(empty) {
            Item::ArrayOfTables(list) => {
                if index == list.len() {
                    list.push(Table::new());
                }
                Some(Self { table: list.get_mut(index)?, inline: false })
            }
            Item::Value(Value::Array(list)) => {
                if index == list.len() {
                    list.push(InlineTable::new());
                }
                let table = list.get_mut(index)?.as_inline_table_mut()?;
                Some(Self { table, inline: true })
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn edited(text: &str, settings: &[(&str, Option<&str>)]) -> Result<String, String> {
        let owned = |(path, value): &(&str, Option<&str>)| (path.to_string(), value.map(str::to_owned));
        edit(text, &settings.iter().map(owned).collect())
    }

    #[test]
    fn what_is_not_set_stays_as_it_was_written() {
        let text = "# Why?\nname = 'x'   # so\n\n[fleet.policy]\nttl = \"1m\" # short\nlimiter= 'none'\n";
        let settings = [("fleet.policy.ttl", Some("5m")), ("name", Some("\"y\""))];
        let expected = text.replace("\"1m\"", "\"5m\"").replace("'x'", "\"y\"");
        assert_eq!(edited(text, &settings), Ok(expected));
    }

    #[test]
    fn a_value_is_read_as_toml_and_else_as_a_string() {
        let settings = [
            ("a", Some("5")),
            ("b", Some("5m")),
            ("c", Some("{ x = [1] }")),
            ("d", Some("\"inf\"")),
            ("e", Some("a\nb = 1")),
        ];
        let expected = "a = 5\nb = \"5m\"\nc = { x = [1] }\nd = \"inf\"\ne = \"\"\"\na\nb = 1\"\"\"\n";
        assert_eq!(edited("", &settings), Ok(expected.to_owned()));
    }

    #[test]
    fn tables_and_lists_are_made_where_there_are_none() {
        let fault = [("fault[0].for", Some("1m")), ("fault[0].jwks.status", Some("503"))];
        let made = "[[fault]]\nfor = \"1m\"\n\n[fault.jwks]\nstatus = 503\n";
        assert_eq!(edited("", &fault), Ok(made.to_owned()));
        let inline = edited("fault = [{ for = \"2m\" }]\n", &fault).unwrap();
        assert_eq!(inline, "fault = [{ for = \"1m\" , jwks = { status = 503 } }]\n");
        let after = edited("fault = [{ for = \"2m\" }]\n", &[("fault[1].for", Some("3m"))]).unwrap();
        assert_eq!(after, "fault = [{ for = \"2m\" }, { for = \"3m\" }]\n");
    }

    #[test]
    fn nothing_takes_away_what_is_there() {
        let text = "[[rotation]]\nat = \"1m\"\nlead = \"1s\"\n\n[[rotation]]\nat = \"2m\"\n";
        assert_eq!(
            edited(text, &[("rotation[0]", None)]).unwrap().trim_start(),
            "[[rotation]]\nat = \"2m\"\n"
        );
        assert_eq!(edited(text, &[("rotation[0].lead", None)]).unwrap(), text.replace("lead = \"1s\"\n", ""));
        for absent in ["rotation[2]", "fault[0].for", "idp.max_age"] {
            assert_eq!(edited(text, &[(absent, None)]), Ok(text.to_owned()), "{absent}");
        }
    }

    #[test]
    fn paths_that_lead_nowhere_are_refused() {
        let text = "name = \"x\"\nlist = [1]\nfleet = { replicas = 1 }\n";
        let paths = [
            "",
            ".",
            "a.",
            "a b",
            "name.x",
            "name[0].x",
            "list[0].x",
            "list[3].x",
            "list[0]",
            "fleet[0].x",
            "a[",
            "a[0",
            "a[-1].x",
            "a[1].x",
            "[0].x",
            "a.b.c.d.e.f.g.h.i",
            "a[99999999999999999999].x",
        ];
        for path in paths {
            let complaint = edited(text, &[(path, Some("1"))]).unwrap_err();
            assert_eq!(complaint, format!("error: the path `{path}` leads nowhere in this scenario"));
        }
    }

    proptest! {
        /// Whatever is written, wherever: it is refused, or it can be read again and stands there.
        #[test]
        fn what_is_set_can_be_read_again(
            path in "(name|idp|fleet|rotation\\[[01]\\]|traffic|[a-z\\[\\]0.]{1,6})(\\.(at|policy|cache|rate|stream\\[0\\])){0,3}",
            value in prop_oneof!["[ -~\\n]{0,12}", "\\{ [a-z]{1,3} = \"[a-z]{0,3}\" \\}", "\\[\"?[0-9a-z]{0,3}\"?\\]"],
        ) {
            let text = include_str!("../../lab/default.toml");
            if let Ok(written) = edited(text, &[(&path, Some(&value))]) {
                let document: DocumentMut = written.parse().unwrap();
                let mut item = document.as_item();
                for step in steps(&path).unwrap() {
                    item = &item[step.key];
                    if let Some(index) = step.index {
                        item = &item[index];
                    }
                }
                let (found, wanted) = (item.to_string(), read(&value).to_string());
                prop_assert_eq!(found.trim(), wanted.trim());
                prop_assert!(edited(&written, &[(&path, None)]).is_ok());
            }
        }
    }
}
