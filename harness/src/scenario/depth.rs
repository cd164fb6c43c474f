//! How deep brackets lie within each other, before the TOML parser is asked.
//!
//! The parser calls itself for each bracket and has a limit of its own, but loses count where brackets close that never were
//! open (toml 1.2): a file of some kilobytes could use its stack up.

use std::ops::Range;

use toml_parser::Source;
use toml_parser::lexer::TokenKind;

/// Deeper than anything in a scenario, and as deep as the parser goes by itself.
const DEEPEST: usize = 80;

/// The first bracket that lies too deep.
pub(crate) fn too_deep(text: &str) -> Option<Range<usize>> {
    let mut open = Vec::new();
    for token in Source::new(text).lex() {
        match token.kind() {
            TokenKind::LeftSquareBracket => open.push(TokenKind::RightSquareBracket),
            TokenKind::LeftCurlyBracket => open.push(TokenKind::RightCurlyBracket),
            // One that closes nothing leaves the parser where it is.
            kind if open.last() == Some(&kind) => drop(open.pop()),
            _ => {}
        }
        if open.len() > DEEPEST {
            return Some(token.span().start()..token.span().end());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_count_that_are_open() {
        let nested = |depth: usize| format!("x = {}{}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(too_deep(&nested(80)), None);
        assert_eq!(too_deep(&nested(81)), Some(84..85));
        assert_eq!(too_deep(&"[[rotation]]\nat = [1]\n".repeat(1_000)), None);
        assert_eq!(too_deep(&format!("x = \"{0}\" # {0}\ny = '{0}'", "{[".repeat(100))), None);
    }

    /// Brackets that close another than the last one keep the parser where it is.
    #[test]
    fn brackets_that_do_not_close_each_other_count_as_open() {
        for pattern in ["{", "{]", "[}", "{[}", "x={ y=[ } "] {
            assert!(too_deep(&format!("x = {}", pattern.repeat(200))).is_some(), "{pattern}");
        }
    }
}
