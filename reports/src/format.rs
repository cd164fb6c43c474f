//! Numbers as people read them, and text that is safe to show: the one place where either is printed.

use crate::record::Unit;

/// What follows a number after a blank.
const UNITS: [&str; 6] = ["%", "d", "h", "min", "ms", "s"];

/// What precedes a number before a blank.
const COMPARISONS: [&str; 4] = ["<", "<=", ">", ">="];

/// A duration in seconds: `312 ms`, `20.3 s`, `3 min 20 s`, `6 h 5 min`, `2 d 4 h`.
pub(crate) fn seconds(seconds: f64) -> String {
    let rounded_to = |unit: f64| (seconds / unit).round() * unit;
    match seconds {
        s if s < 0.0 => format!("-{}", self::seconds(-s)),
        0.0 => "0 s".into(),
        s if s < 0.9995 => milliseconds(s * 1e3),
        s if s < 119.95 => format!("{} s", decimal(s, 1)),
        s if s < 7_199.5 => two_units(rounded_to(1.0), (60.0, "min"), (1.0, "s")),
        s if s < 172_770.0 => two_units(rounded_to(60.0), (3_600.0, "h"), (60.0, "min")),
        _ => two_units(rounded_to(3_600.0), (86_400.0, "d"), (3_600.0, "h")),
    }
}

/// A duration whose end was seen, or not: `20.3 s`, `>= 20.3 s`.
pub(crate) fn lasting(seconds: f64, at_least: bool) -> String {
    let mark = if at_least { ">= " } else { "" };
    mark.to_owned() + &self::seconds(seconds)
}

/// A duration in milliseconds: `0.41 ms`, `12.3 ms`, `450 ms`, `1.2 s`.
pub(crate) fn milliseconds(ms: f64) -> String {
    match ms {
        ms if ms < 0.0 => format!("-{}", milliseconds(-ms)),
        ms if ms >= 999.5 => seconds(ms / 1e3),
        ms if ms >= 99.95 => format!("{} ms", decimal(ms, 0)),
        ms if ms >= 9.995 => format!("{} ms", decimal(ms, 1)),
        ms => format!("{} ms", decimal(ms, 2)),
    }
}

/// A share of one, in per cent; what is neither none nor all never looks as if it were.
pub(crate) fn share(share: f64) -> String {
    match share * 100.0 {
        percent if percent < 0.0 => format!("-{}", self::share(-share)),
        percent if percent > 0.0 && percent < 0.01 => "< 0.01 %".into(),
        percent if percent > 99.99 && percent < 100.0 => "> 99.99 %".into(),
        percent if !(10.0..=99.9).contains(&percent) => format!("{} %", decimal(percent, 2)),
        percent => format!("{} %", decimal(percent, 1)),
    }
}

/// A whole number with its thousands marked: `1,204`.
pub(crate) fn count(count: u64) -> String {
    let digits = count.to_string();
    let mut marked = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            marked.push(',');
        }
        marked.push(digit);
    }
    marked
}

/// A count and its noun: `1 request`, `1,204 requests`.
pub(crate) fn counted(number: u64, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", count(number))
}

/// A metric's value with its unit.
pub(crate) fn quantity(unit: Unit, value: f64) -> String {
    match unit {
        Unit::Seconds => seconds(value),
        Unit::Milliseconds => milliseconds(value),
        Unit::Share => share(value),
        Unit::Count | Unit::PerSecond if value < 0.0 => format!("-{}", quantity(unit, -value)),
        Unit::Count => count(value.round() as u64),
        Unit::PerSecond => format!("{} /s", count(value.round() as u64)),
        Unit::Ratio => format!("{value:.2}"),
    }
}

/// A metric's value with its unit and always a sign.
pub(crate) fn margin(unit: Unit, value: f64) -> String {
    let sign = if value > 0.0 { "+" } else { "" };
    format!("{sign}{}", quantity(unit, value))
}

/// A sentence: a capital first, a full stop last.
pub(crate) fn sentence(text: &str) -> String {
    let mut characters = text.chars();
    let first: String = characters.next().into_iter().flat_map(char::to_uppercase).collect();
    format!("{first}{}.", characters.as_str())
}

/// Text from a record for a terminal: on one line, and nothing in it commands.
pub(crate) fn plain(text: &str) -> String {
    text.chars().map(visible).collect()
}

/// Text from a record as it may stand in HTML and SVG, also within a double-quoted attribute.
pub(crate) fn xml(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match visible(character) {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

/// Text from a record as it may stand in a line or table cell of GitHub-flavoured Markdown.
pub(crate) fn markdown(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    let mut before = ' ';
    let mut characters = text.chars().map(visible).peekable();
    while let Some(character) = characters.next() {
        // Within a word an underscore is only an underscore (GFM section 6.2), and names are full of them.
        let within_word =
            before.is_alphanumeric() && characters.peek().is_some_and(|next| next.is_alphanumeric());
        if "\\`*<|[]!#&~".contains(character) || (character == '_' && !within_word) {
            escaped.push('\\');
        }
        escaped.push(character);
        before = character;
    }
    escaped
}

/// Prose in which no line breaks between a number and its unit, or around a `×`.
pub(crate) fn unbroken(text: &str) -> String {
    let mut words = text.split(' ').peekable();
    let mut joined = String::with_capacity(text.len());
    while let Some(word) = words.next() {
        joined.push_str(word);
        let Some(next) = words.peek() else { break };
        let unit = next.trim_end_matches(|character: char| !character.is_alphanumeric() && character != '%');
        let is_quantity = word.ends_with(|last: char| last.is_ascii_digit()) && UNITS.contains(&unit);
        let together = is_quantity || COMPARISONS.contains(&word) || word == "×" || *next == "×";
        joined.push(if together { '\u{a0}' } else { ' ' });
    }
    joined
}

/// At most so many characters, the cut shown.
pub(crate) fn shortened(text: &str, characters_max: usize) -> String {
    if text.chars().count() <= characters_max {
        return text.into();
    }
    text.chars().take(characters_max.saturating_sub(1)).chain(['…']).collect()
}

/// A number with at most so many decimals, zeros at the end left out and thousands marked.
fn decimal(number: f64, decimals: usize) -> String {
    let text = format!("{number:.decimals$}");
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let whole = whole.parse().map_or_else(|_| whole.into(), count);
    match fraction.trim_end_matches('0') {
        "" => whole,
        fraction => format!("{whole}.{fraction}"),
    }
}

/// Whole seconds as a large unit and what is left in a small one.
fn two_units(seconds: f64, (large, large_name): (f64, &str), (small, small_name): (f64, &str)) -> String {
    let whole = (seconds / large).floor();
    let rest = ((seconds - whole * large) / small).round();
    let whole = count(whole as u64);
    if rest == 0.0 {
        format!("{whole} {large_name}")
    } else {
        format!("{whole} {large_name} {rest} {small_name}")
    }
}

/// Stands in for what would move a cursor, turn the text around, or is no character of XML 1.0 (section 2.2).
fn visible(character: char) -> char {
    match character {
        '\n' | '\r' | '\t' => ' ',
        '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '\u{fffd}',
        '\u{fffe}' | '\u{ffff}' => '\u{fffd}',
        character if character.is_control() => '\u{fffd}',
        character => character,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_keep_two_figures_that_matter() {
        let table = [
            (0.0, "0 s"),
            (0.000_41, "0.41 ms"),
            (0.0123, "12.3 ms"),
            (0.312, "312 ms"),
            (0.9996, "1 s"),
            (20.34, "20.3 s"),
            (60.0, "60 s"),
            (119.96, "2 min"),
            (200.4, "3 min 20 s"),
            (7_199.7, "2 h"),
            (13_800.0, "3 h 50 min"),
            (86_400.0, "24 h"),
            (187_200.0, "2 d 4 h"),
            (-300.0, "-5 min"),
            (-0.5, "-500 ms"),
        ];
        for (value, text) in table {
            assert_eq!(seconds(value), text, "{value}");
        }
    }

    #[test]
    fn shares_never_hide_the_last_request() {
        let table = [
            (0.0, "0 %"),
            (0.000_01, "< 0.01 %"),
            (0.0004, "0.04 %"),
            (0.008, "0.8 %"),
            (0.1882, "18.8 %"),
            (0.9996, "99.96 %"),
            (0.999_999, "> 99.99 %"),
            (1.0, "100 %"),
            (-0.02, "-2 %"),
        ];
        for (value, text) in table {
            assert_eq!(share(value), text, "{value}");
        }
    }

    #[test]
    fn counts_mark_their_thousands() {
        for (value, text) in [(0, "0"), (999, "999"), (1_204, "1,204"), (1_000_000, "1,000,000")] {
            assert_eq!(count(value), text);
        }
        assert_eq!(milliseconds(999.6), "1 s");
        assert_eq!(margin(Unit::Count, -3.0), "-3");
        assert_eq!(margin(Unit::PerSecond, 12.0), "+12 /s");
        assert_eq!(margin(Unit::Seconds, 0.0), "0 s");
    }

    #[test]
    fn extreme_numbers_are_printed_and_not_panicked_over() {
        for value in [f64::MAX, f64::MIN, f64::MIN_POSITIVE, f64::INFINITY, f64::NAN] {
            for unit in [Unit::Seconds, Unit::Milliseconds, Unit::Share, Unit::Count, Unit::PerSecond] {
                assert!(!margin(unit, value).is_empty());
            }
        }
    }

    #[test]
    fn text_of_a_record_is_only_text() {
        assert_eq!(
            xml("<script>\"a\" & 'b'</script>"),
            "&lt;script&gt;&quot;a&quot; &amp; &#39;b&#39;&lt;/script&gt;"
        );
        assert_eq!(plain("a\x1b[31m\nb\u{202e}"), "a\u{fffd}[31m b\u{fffd}");
        assert_eq!(markdown("time_to_recover <b> | `x` _y_"), "time_to_recover \\<b> \\| \\`x\\` \\_y\\_");
        assert_eq!(shortened("abcdef", 4), "abc…");
        assert_eq!(
            unbroken("15.5 % and 3 min 20 s, in >= 2 s (7 × 503)."),
            "15.5\u{a0}% and 3\u{a0}min 20\u{a0}s, in >=\u{a0}2\u{a0}s (7\u{a0}×\u{a0}503)."
        );
    }
}
