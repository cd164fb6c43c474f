//! Mutations that know what texts are made of: bytes, words, numbers, and spans between brackets or quotes.

use std::ops::Range;

use crate::random::Random;

/// The longest input, in bytes.
const LONGEST: usize = 1 << 20;
/// Bytes that parsers look for.
const TELLING: &[u8] = b"{}[]\",:.=#\\/-+eE_\n\r\t \0\x7f\x80\xc0\xff09aZ'";
/// Numbers at the edges of types.
const NUMBERS: &[&str] = &[
    "0",
    "-0",
    "-1",
    "1",
    "00",
    "1e999",
    "-1e999",
    "1e-999",
    "0.1",
    "255",
    "256",
    "65535",
    "65536",
    "4294967295",
    "4294967296",
    "9007199254740993",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "99999999999999999999999999999999999999999",
    "1.7976931348623157e308",
    "nan",
    "inf",
    "0x7f",
];
/// What stands for nothing, or for much.
const VALUES: &[&str] =
    &["null", "true", "false", "{}", "[]", "\"\"", "\"\\u0000\"", "\"\\ud800\"", "\u{feff}", "\u{202e}"];

/// A seed after one to sixteen mutations, few more often than many.
pub(crate) fn mutated(seeds: &[Vec<u8>], words: &[&str], random: &mut Random) -> Vec<u8> {
    let mut input = seeds[random.below(seeds.len())].clone();
    let most = 1 << random.below(5);
    for _ in 0..=random.below(most) {
        mutate(&mut input, seeds, words, random);
        input.truncate(LONGEST);
    }
    input
}

fn mutate(input: &mut Vec<u8>, seeds: &[Vec<u8>], words: &[&str], random: &mut Random) {
    match random.below(15) {
        0 => flip(input, random),
        1 => {
            let place = span(input, 1, random);
            replace(input, place, &[random.one_of(TELLING)]);
        }
        2 => {
            let place = span(input, 0, random);
            replace(input, place, &[random.one_of(TELLING)]);
        }
        3 => {
            let any = span(input, 64, random);
            replace(input, any, b"");
        }
        4 => input.truncate(random.below(input.len() + 1)),
        5 => {
            let any = span(input, 64, random);
            repeat(input, any, 1 + random.below(3));
        }
        6 => {
            let value = value(input, random);
            let times = random.one_of(&[1, 2, 40, 300]);
            repeat(input, value, times);
        }
        7 => nest(input, random),
        8 => splice(input, seeds, random),
        9 => exchange(input, random),
        10 => {
            let value = value(input, random);
            replace(input, value, b"");
        }
        11 => {
            let number = number(input, random);
            replace(input, number, random.one_of(NUMBERS).as_bytes());
        }
        12 => {
            let value = value(input, random);
            replace(input, value, random.one_of(&[VALUES, NUMBERS].concat()).as_bytes());
        }
        _ if words.is_empty() => flip(input, random),
        13 => {
            let place = joint(input, random);
            replace(input, place, random.one_of(words).as_bytes());
        }
        _ => {
            let value = value(input, random);
            replace(input, value, random.one_of(words).as_bytes());
        }
    }
}

fn flip(input: &mut [u8], random: &mut Random) {
    let place = random.below(input.len());
    if let Some(byte) = input.get_mut(place) {
        *byte ^= 1 << random.below(8);
    }
}

fn replace(input: &mut Vec<u8>, range: Range<usize>, with: &[u8]) {
    input.splice(range, with.iter().copied());
}

/// Says something again, directly behind it, as long as it fits.
fn repeat(input: &mut Vec<u8>, range: Range<usize>, times: usize) {
    let again = input[range.clone()].repeat(times.min(LONGEST / range.len().max(1)));
    replace(input, range.end..range.end, &again);
}

/// Puts something into brackets, a few or very many.
fn nest(input: &mut Vec<u8>, random: &mut Random) {
    let depth = random.one_of(&[1, 2, 31, 32, 33, 127, 128, 129, 5_000]);
    let (open, close) =
        random.one_of(&[("[", "]"), ("{\"a\":", "}"), ("{a=", "}"), ("(", ")"), ("[[", "]]")]);
    let inner = value(input, random);
    // Sometimes nothing is closed.
    let close = if random.below(4) == 0 { "" } else { close };
    let nested =
        [open.repeat(depth).as_bytes(), &input[inner.clone()], close.repeat(depth).as_bytes()].concat();
    replace(input, inner, &nested);
}

/// Puts a part of any seed in the place of a part.
fn splice(input: &mut Vec<u8>, seeds: &[Vec<u8>], random: &mut Random) {
    let other = &seeds[random.below(seeds.len())];
    let (from, to) = if random.below(2) == 0 {
        (value(other, random), value(input, random))
    } else {
        (span(other, 64, random), span(input, 64, random))
    };
    replace(input, to, &other[from]);
}

/// Lets two parts change places.
fn exchange(input: &mut Vec<u8>, random: &mut Random) {
    let (a, b) = (value(input, random), value(input, random));
    let (first, second) = if a.start <= b.start { (a, b) } else { (b, a) };
    if first.end > second.start {
        return;
    }
    let parts = [&input[second.clone()], &input[first.end..second.start], &input[first.clone()]].concat();
    replace(input, first.start..second.end, &parts);
}

/// Any part of at most this length.
fn span(input: &[u8], longest: usize, random: &mut Random) -> Range<usize> {
    let start = random.below(input.len() + 1);
    let length = if longest > 1 { random.below(longest + 1) } else { longest };
    start..input.len().min(start + length)
}

/// A place where something may begin: behind an opening bracket, a comma or the end of a line.
fn joint(input: &[u8], random: &mut Random) -> Range<usize> {
    let from = random.below(input.len());
    let ends = |byte: &u8| matches!(byte, b'{' | b'[' | b',' | b'\n');
    let place = input[from..].iter().position(ends).map_or(0, |skipped| from + skipped + 1);
    place..place
}

/// A part that means something: from a bracket or quote to its partner, or a number.
fn value(input: &[u8], random: &mut Random) -> Range<usize> {
    let from = random.below(input.len());
    let opening = |byte: &u8| matches!(byte, b'{' | b'[' | b'"' | b'0'..=b'9');
    let Some(start) = input[from..].iter().position(opening).map(|skipped| from + skipped) else {
        return span(input, 16, random);
    };
    match input[start] {
        b'"' => start..end_of_text(input, start),
        b'0'..=b'9' => start..end_of_number(input, start),
        open => start..end_of_brackets(input, start, open),
    }
}

/// A number, or nothing at the end where none follows.
fn number(input: &[u8], random: &mut Random) -> Range<usize> {
    let from = random.below(input.len());
    let start =
        input[from..].iter().position(u8::is_ascii_digit).map_or(input.len(), |skipped| from + skipped);
    start..end_of_number(input, start)
}

fn end_of_number(input: &[u8], start: usize) -> usize {
    let is_part = |byte: &u8| byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'+' | b'-');
    start + input[start..].iter().take_while(|byte| is_part(byte)).count()
}

/// Behind the quote that closes the one at `start`.
fn end_of_text(input: &[u8], start: usize) -> usize {
    let mut escaped = false;
    let closes = |byte: &u8| {
        let closes = *byte == b'"' && !escaped;
        escaped = *byte == b'\\' && !escaped;
        closes
    };
    input[start + 1..].iter().position(closes).map_or(input.len(), |length| start + length + 2)
}

/// Behind the bracket that closes the one at `start`; what stands in quotes counts too, which does no harm.
fn end_of_brackets(input: &[u8], start: usize, open: u8) -> usize {
    let close = if open == b'{' { b'}' } else { b']' };
    let mut depth = 0_usize;
    for (place, byte) in input.iter().enumerate().skip(start) {
        depth += usize::from(*byte == open);
        depth -= usize::from(*byte == close);
        if depth == 0 {
            return place + 1;
        }
    }
    input.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_whole() {
        let text = br#"{"a": [1, "b\"]", {"c": -2.5e3}], "d": "e"}"#;
        let mut random = Random::new(1, 1);
        let found: std::collections::BTreeSet<&[u8]> =
            (0..1_000).map(|_| &text[value(text, &mut random)]).collect();
        for whole in [text.as_slice(), br#""b\"]""#, br#"{"c": -2.5e3}"#, b"2.5e3", b"\"e\""] {
            assert!(found.contains(whole), "{}", String::from_utf8_lossy(whole));
        }
    }

    #[test]
    fn nothing_is_too_little_to_be_mutated() {
        for case in 0..10_000 {
            let mut random = Random::new(1, case);
            let seeds = [b"".to_vec(), b"\"".to_vec(), b"[".to_vec()];
            assert!(mutated(&seeds, &["word"], &mut random).len() <= LONGEST);
        }
    }
}
