//! Reads objects as most tokens have them, in half the time: flat, without escapes or blanks, and with short whole
//! numbers.
//!
//! It refuses nothing. What it does not know is for [`Shape::read_any`](super::Shape::read_any), which alone says what
//! is wrong; what it knows, it has to read as that would.

use alloc::borrow::Cow;

use arrayvec::ArrayVec;

use super::Value;

/// The longest number, in digits: below 2^53 each whole one is exact.
const MAX_DIGITS: usize = 15;

/// Lists the members of the object in `text`, or returns `None` if it is not plain, whatever it has listed by then.
pub(super) fn read<'a, const N: usize>(
    text: &'a str,
    members: &mut ArrayVec<(&'a str, Value<'a>), N>,
) -> Option<()> {
    let mut rest = text.strip_prefix('{')?;
    // Without the first two, the next quotation mark is the end of a text; the others are better seen early than late.
    // No early end: so the compiler takes sixteen bytes at a time.
    if rest.bytes().fold(false, |found, byte| found | matches!(byte, ..b' ' | b'\\' | b'[' | b'{')) {
        return None;
    }
    let mut marks = 0_u64;
    loop {
        let (name, after) = name(rest)?;
        let (value, after) = value(after.strip_prefix(':')?)?;
        members.try_push((name, value)).ok()?;
        marks |= mark(name);
        if after == "}" {
            break;
        }
        rest = after.strip_prefix(',')?;
    }
    (marks.count_ones() as usize == members.len() || differ(members)).then_some(())
}

fn name(text: &str) -> Option<(&str, &str)> {
    let text = text.strip_prefix('"')?;
    // Three letters, as most names of claims, are found before a search for them has begun.
    let end = text.bytes().position(|byte| byte == b'"')?;
    Some((&text[..end], &text[end + 1..]))
}

fn value(text: &str) -> Option<(Value<'_>, &str)> {
    let Some(text) = text.strip_prefix('"') else { return number(text).or_else(|| word(text)) };
    let end = memchr::memchr(b'"', text.as_bytes())?;
    Some((Value::Text(Cow::Borrowed(&text[..end])), &text[end + 1..]))
}

fn number(text: &str) -> Option<(Value<'_>, &str)> {
    let length = text.bytes().take_while(u8::is_ascii_digit).count();
    let (digits, rest) = text.split_at(length);
    if length > MAX_DIGITS || (length > 1 && digits.starts_with('0')) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    Some((Value::Number(number as f64), rest))
}

fn word(text: &str) -> Option<(Value<'_>, &str)> {
    let rest = ["true", "false", "null"].into_iter().find_map(|word| text.strip_prefix(word))?;
    Some((Value::Other, rest))
}

/// One bit of 64. Names of different bits differ, and those that tokens usually have are of different bits, so few
/// are ever compared.
fn mark(name: &str) -> u64 {
    1 << (name.bytes().fold(0_u8, |sum, byte| sum.wrapping_mul(33).wrapping_add(byte)) % 64)
}

fn differ(members: &[(&str, Value<'_>)]) -> bool {
    (1..members.len()).all(|last| members[..last].iter().all(|(name, _)| *name != members[last].0))
}

#[cfg(test)]
mod tests {
    use std::format;
    use std::string::String;
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;
    use crate::json::{JsonFault, Shape};

    const SHAPE: Shape<8> = Shape { lists: &["a"] };

    fn plain(text: &str) -> Option<Vec<(String, Value<'_>)>> {
        let mut members = ArrayVec::<_, 8>::new();
        read(text, &mut members)?;
        Some(members.into_iter().map(|(name, value)| (name.into(), value)).collect())
    }

    fn by_the_rule(text: &str) -> Result<Vec<(String, Value<'_>)>, JsonFault> {
        let mut members = Vec::new();
        SHAPE.read_any(
            text,
            |fault| fault,
            |name, value| {
                members.push((name.into(), value));
                Ok(())
            },
        )?;
        Ok(members)
    }

    #[test]
    fn what_issuers_write_is_plain() {
        for text in [
            r#"{"alg":"RS256","typ":"at+jwt","kid":"é-1"}"#,
            r#"{"iss":"https://idp.test","exp":1700003600,"nonce":""}"#,
            r#"{"":0,"a":999999999999999,"b":",:}"}"#,
            r#"{"a":true,"b":false,"c":null}"#,
            r#"{"a":1,"b":2,"c":3,"d":4,"e":5,"f":6,"g":7,"h":8}"#,
            // One mark, two names.
            r#"{"ab":1,"bA":2}"#,
        ] {
            assert_eq!(plain(text), by_the_rule(text).ok(), "{text}");
            assert!(plain(text).is_some(), "{text}");
        }
    }

    #[test]
    fn what_is_not_plain_is_left_to_the_rule() {
        for text in [
            "",
            "{",
            "{}",
            r#"{"a":1"#,
            r#"{"a":1,}"#,
            r#"{"a":1}}"#,
            r#"{"a":1} "#,
            r#"{"a":}"#,
            r#"{"a":01}"#,
            r#"{"a":+1}"#,
            r#"{"a":1.0}"#,
            r#"{"a":1e3}"#,
            r#"{"a":1000000000000000}"#,
            r#"{"a":"b\""}"#,
            "{\"a\":\"\t\"}",
            r#"{"a":[]}"#,
            r#"{"a":{}}"#,
            r#"{"a":"["}"#,
            r#"{"a":nul}"#,
            r#"{"a":truetrue}"#,
            r#"{"a":1,"a":2}"#,
            r#"{"ab":1,"bA":2,"ab":3}"#,
            r#"{"a":1,"b":2,"c":3,"d":4,"e":5,"f":6,"g":7,"h":8,"i":9}"#,
        ] {
            assert_eq!(plain(text), None, "{text}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        #[test]
        fn what_is_plain_is_read_as_the_rule_has_it(
            mut members in prop::collection::vec(
                r#"("[ab]{0,2}"|"\PC{0,3}"):("[a-z]{0,4}"|"\PC{0,4}"|0|[1-9][0-9]{0,14}|true|null)"#,
                1..10,
            ),
            odd in prop::option::of(r#""c":([0-9]{1,17}|-1|1\.5|True|\[\]|"\\n")"#),
            place in any::<prop::sample::Index>(),
            change in prop::option::of(r#"[{}":,\\0-9 \n]"#),
        ) {
            members.extend(odd);
            let mut text = format!("{{{}}}", members.join(","));
            if let Some(change) = change {
                let mut place = place.index(text.len());
                while !text.is_char_boundary(place) {
                    place -= 1;
                }
                text.insert_str(place, &change);
            }
            if let Some(members) = plain(&text) {
                prop_assert_eq!(Ok(members), by_the_rule(&text));
            }
        }
    }
}
