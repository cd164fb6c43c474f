//! Tokens that two parsers could read in two ways, and tokens that cost more to read than to send.

use keyquake_core::{JsonFault, Malformed, Part, Token};

use crate::forge::{Case, base64, check_all, claims, header, sealed};

fn good() -> Vec<u8> {
    sealed(header(&[]), claims(&[]))
}

/// The good token as text, changed.
fn changed(change: impl FnOnce(String) -> String) -> Vec<u8> {
    change(String::from_utf8_lossy(&good()).into_owned()).into_bytes()
}

#[test]
fn a_token_has_three_segments() {
    let bad = |id, what, token| Case::bad(id, what, token, Malformed::Segments);
    let longest = |size: usize| {
        let room = sealed(header(&[]), claims(&[("pad", r#""""#)])).len();
        // Three bytes of payload make four of token.
        let pad = format!(r#""{}""#, "p".repeat((size - room) / 4 * 3));
        sealed(header(&[]), claims(&[("pad", &pad)]))
    };
    let longest_good = longest(Token::MAX_BYTES);
    assert!(longest_good.len() > Token::MAX_BYTES - 8 && longest_good.len() <= Token::MAX_BYTES);
    check_all(&[
        Case::good("three segments", good()),
        Case::good("as long as allowed", longest_good),
        bad("A39", "nothing", Vec::new()),
        bad("A39", "one segment", b"abc".to_vec()),
        bad("A39", "two segments", changed(|token| token.rsplit_once('.').unwrap().0.to_owned())),
        bad("A39", "a dot at the end", changed(|token| token + ".")),
        bad("A39", "four segments", changed(|token| token + ".AAAA")),
        bad("A48", "five segments, a JWE", changed(|token| token + ".AAAA.AAAA")),
        bad("A39", "an empty header", changed(|token| format!(".{}", token.split_once('.').unwrap().1))),
        bad(
            "A39",
            "an empty payload",
            changed(|token| {
                let (head, signature) = token.rsplit_once('.').unwrap();
                format!("{}..{signature}", head.split_once('.').unwrap().0)
            }),
        ),
        bad("A11", "an empty signature", changed(|token| token.rsplit_once('.').unwrap().0.to_owned() + ".")),
        bad("A41", "JSON serialization", br#"{"protected":"e30","payload":"e30","signature":"AA"}"#.to_vec()),
        bad("A43", "thousands of dots", vec![b'.'; Token::MAX_BYTES]),
        Case::bad("A44", "longer than allowed", longest(Token::MAX_BYTES + 4), Malformed::TooLong),
        Case::bad("A44", "1 MiB", vec![b'A'; 1 << 20], Malformed::TooLong),
        Case::bad("A44", "a million dots", vec![b'.'; 1_000_000], Malformed::TooLong),
    ]);
}

#[test]
fn base64url_is_read_strictly() {
    let last = |character: char| {
        move |mut token: String| {
            token.pop();
            token.push(character);
            token
        }
    };
    let bad = |what, token, part| Case::bad("A40", what, token, Malformed::Base64(part));
    // Eight bytes of signature leave the last of eleven characters two spare bits.
    let end = good().last().copied().map(char::from).unwrap();
    let twin = char::from(end as u8 + 1);
    check_all(&[
        Case::good("no padding", good()),
        bad("padding", changed(|token| token + "="), Part::Signature),
        bad("spare bits", changed(last(twin)), Part::Signature),
        bad("a lone character", changed(|token| token + "AA"), Part::Signature),
        bad("a blank at the end", changed(|token| token + " "), Part::Signature),
        bad("a line break at the end", changed(|token| token + "\n"), Part::Signature),
        bad("a blank in front", changed(|token| format!(" {token}")), Part::Header),
        bad("padding in the header", changed(|token| token.replacen('.', "=.", 1)), Part::Header),
        bad("a blank in the payload", changed(|token| token.replacen('.', ". ", 1)), Part::Payload),
        bad("+", changed(last('+')), Part::Signature),
        bad("/", changed(last('/')), Part::Signature),
        bad("a letter that is none", changed(|token| token + "é"), Part::Signature),
        bad("A41 JSON around the token", changed(|token| format!(r#"{{"a":"{token}"}}"#)), Part::Header),
    ]);
}

#[test]
fn header_and_payload_are_json_objects() {
    use JsonFault::{Encoding, NotAnObject, Syntax};
    let head = |id, what, text: &[u8], fault| {
        Case::bad(id, what, sealed(text, claims(&[])), Malformed::Json(Part::Header, fault))
    };
    let body = |id, what, text: &[u8], fault| {
        Case::bad(id, what, sealed(header(&[]), text), Malformed::Json(Part::Payload, fault))
    };
    let utf16 = |text: String| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>();
    let marked = |text: String| [b"\xef\xbb\xbf", text.as_bytes()].concat();
    let with = |value: &str| claims(&[("x", value)]).into_bytes();
    check_all(&[
        Case::good("blanks between tokens", sealed(header(&[]), format!(" {} \n", claims(&[])))),
        Case::good("a pair of surrogates", sealed(header(&[]), with(r#""\ud83d\ude00""#))),
        Case::good(
            "any value in a claim of others",
            sealed(header(&[]), with(r#"[null,{"a":[1.5e9,true]},"b"]"#)),
        ),
        head("A42", "byte order mark", &marked(header(&[])), Syntax),
        head("A42", "UTF-16", &utf16(header(&[])), Syntax),
        head("A42", "not UTF-8", b"{\"alg\":\"RS256\",\"kid\":\"k1\xff\"}", Encoding),
        head("A42", "overlong UTF-8", b"{\"alg\":\"RS256\",\"kid\":\"\xc1\xab1\"}", Encoding),
        head("A41", "an array", br#"["RS256"]"#, NotAnObject),
        head("A41", "a string", br#""RS256""#, NotAnObject),
        head("A41", "null", b"null", NotAnObject),
        head("A41", "cut short", br#"{"alg":"RS256""#, Syntax),
        head("A41", "two objects", format!("{0}{0}", header(&[])).as_bytes(), Syntax),
        head("A41", "a comma too many", br#"{"alg":"RS256",}"#, Syntax),
        head("A41", "a comment", br#"{"alg":"RS256"/**/}"#, Syntax),
        head("A29", "half of a surrogate in kid", br#"{"alg":"RS256","kid":"\ud83d"}"#, Syntax),
        body("A42", "byte order mark", &marked(claims(&[])), Syntax),
        body("A42", "UTF-16", &utf16(claims(&[])), Syntax),
        body("A42", "not UTF-8", b"{\"iss\":\"\xff\"}", Encoding),
        body("A41", "an array", b"[]", NotAnObject),
        body("A47", "another token", base64("{}").as_bytes(), Syntax),
        body("A41", "something after it", format!("{} x", claims(&[])).as_bytes(), Syntax),
        body("A44", "half of a surrogate that nobody reads", &with(r#""\udc00""#), Syntax),
        body("A44", "a name of half a surrogate", &with(r#"{"\ud800":1}"#), Syntax),
        body("A44", "1e400", &with("1e400"), Syntax),
        body("A44", "-1e400, deep inside", &with(r#"[{"a":-1e400}]"#), Syntax),
        body("A44", "NaN", &with("NaN"), Syntax),
        body("A44", "Infinity", &with("Infinity"), Syntax),
        body("A44", "a number with a zero in front", &with("01"), Syntax),
        body("A44", "a control character", &with("\"\u{1}\""), Syntax),
    ]);
}

#[test]
fn size_and_depth_are_bounded() {
    let members = |count: usize, text: String| {
        let more: String = (0..count).map(|number| format!(r#","m{number}":0"#)).collect();
        text.replacen('}', &format!("{more}}}"), 1)
    };
    let head = |count| sealed(members(count, header(&[])), claims(&[]));
    let body = |count| sealed(header(&[]), members(count, claims(&[])));
    let arrays = |depth: usize| {
        sealed(header(&[]), claims(&[("x", &format!("{}{}", "[".repeat(depth), "]".repeat(depth)))]))
    };
    let objects = |depth: usize| {
        let value = format!("{}0{}", r#"{"a":"#.repeat(depth), "}".repeat(depth));
        sealed(header(&[("x", &value)]), claims(&[]))
    };
    let bad = |what, token, part, fault| Case::bad("A44", what, token, Malformed::Json(part, fault));
    check_all(&[
        Case::good("32 header members", head(32 - 3)),
        bad("33 header members", head(33 - 3), Part::Header, JsonFault::TooManyMembers),
        Case::good("64 claims", body(64 - 6)),
        bad("65 claims", body(65 - 6), Part::Payload, JsonFault::TooManyMembers),
        Case::good("32 levels of arrays", arrays(32)),
        bad("33 levels of arrays", arrays(33), Part::Payload, JsonFault::TooDeep),
        bad("5,000 levels of arrays", arrays(5_000), Part::Payload, JsonFault::TooDeep),
        Case::good("32 levels of objects", objects(32)),
        bad("33 levels of objects", objects(33), Part::Header, JsonFault::TooDeep),
    ]);
}
