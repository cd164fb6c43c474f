//! What a replica prints: kept in a file up to a size, and without tokens.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The most that is kept of what a replica prints, in bytes.
const MAX_BYTES: usize = 4 << 20;
/// The longest line that is kept.
const MAX_LINE: usize = 8 << 10;
/// How many lines are shown when something is wrong, and how much of each.
const SHOWN: usize = 20;
const SHOWN_LINE: usize = 400;

/// How services say that somebody else has their port: the system's words for it, or its name for it.
const PORT_TAKEN: [&str; 2] = ["already in use", "eaddrinuse"];

/// How a token begins: `{"`, as base64 has it.
const TOKEN: &[u8] = b"eyJ";
/// What is shorter is no token.
const SHORTEST_TOKEN: usize = 20;

/// The last lines that a replica has printed.
#[derive(Clone, Debug, Default)]
pub(super) struct Tail {
    lines: Arc<Mutex<VecDeque<String>>>,
    missed_port: Arc<AtomicBool>,
}

impl Tail {
    /// They, each after a margin; empty if there are none.
    pub(super) fn shown(&self) -> String {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().map(|line| format!("\n   | {line}")).collect()
    }

    /// Whether it has ever said that somebody else has its port.
    pub(super) fn has_missed_port(&self) -> bool {
        self.missed_port.load(Ordering::Relaxed)
    }

    fn push(&self, line: &[u8]) {
        let shown = String::from_utf8_lossy(&line[..line.len().min(SHOWN_LINE)]);
        let said = shown.to_ascii_lowercase();
        if PORT_TAKEN.iter().any(|words| said.contains(words)) {
            self.missed_port.store(true, Ordering::Relaxed);
        }
        let plain = shown.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>();
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == SHOWN {
            lines.pop_front();
        }
        lines.push_back(plain.trim_end().to_owned());
    }
}

/// The file of one replica; restarts append to it.
#[derive(Debug)]
pub(super) struct Log {
    file: Option<File>,
    written: usize,
    left_out: u64,
}

impl Log {
    /// A file that cannot be written is done without.
    pub(super) fn new(file: Option<File>) -> Self {
        Self { file, written: 0, left_out: 0 }
    }

    /// How much did not fit, in bytes.
    pub(super) fn left_out(&self) -> u64 {
        self.left_out
    }

    /// Takes down what is printed until there is no more of it.
    pub(super) fn follow(log: &Mutex<Self>, printed: impl Read, tail: &Tail) {
        let mut printed = BufReader::new(printed);
        while let Ok(Some((line, cut))) = next_line(&mut printed) {
            let line = redacted(&line);
            tail.push(&line);
            log.lock().unwrap_or_else(PoisonError::into_inner).add(&line, cut);
        }
    }

    fn add(&mut self, line: &[u8], cut: u64) {
        let fits = self.written + line.len() < MAX_BYTES;
        self.left_out += cut + if fits { 0 } else { line.len() as u64 };
        if fits && let Some(file) = &mut self.file {
            let whole: [&[u8]; 2] = [line, if cut > 0 { b" [...]\n" } else { b"\n" }];
            self.written += whole[0].len() + whole[1].len();
            // What finds no room on the disk is missing in the file, and nowhere else.
            let _ = file.write_all(&whole.concat());
        }
    }
}

/// The next line without its end, and how much of it was cut off; `None` after the last.
fn next_line(printed: &mut impl BufRead) -> io::Result<Option<(Vec<u8>, u64)>> {
    let (mut line, mut cut, mut any) = (Vec::new(), 0, false);
    loop {
        let there = printed.fill_buf()?;
        if there.is_empty() {
            return Ok(any.then_some((line, cut)));
        }
        any = true;
        let end = there.iter().position(|byte| *byte == b'\n');
        let part = &there[..end.unwrap_or(there.len())];
        let room = part.len().min(MAX_LINE - line.len());
        line.extend_from_slice(&part[..room]);
        cut += (part.len() - room) as u64;
        let used = part.len() + usize::from(end.is_some());
        printed.consume(used);
        if end.is_some() {
            return Ok(Some((line, cut)));
        }
    }
}

/// A line without what has the shape of a token, whole or cut off.
fn redacted(line: &[u8]) -> Vec<u8> {
    let of_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.=".contains(byte);
    let mut clean = Vec::with_capacity(line.len());
    let mut rest = line;
    while let Some(start) = rest.windows(TOKEN.len()).position(|word| word == TOKEN) {
        let length = rest[start..].iter().take_while(|byte| of_token(byte)).count();
        clean.extend_from_slice(&rest[..start]);
        if length < SHORTEST_TOKEN {
            clean.extend_from_slice(&rest[start..start + length]);
        } else {
            clean.extend_from_slice(b"[token]");
        }
        rest = &rest[start + length..];
    }
    clean.extend_from_slice(rest);
    clean
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Seek, SeekFrom};

    fn kept(printed: &[u8]) -> (String, u64, Tail) {
        let mut file = tempfile::tempfile().unwrap();
        let log = Mutex::new(Log::new(Some(file.try_clone().unwrap())));
        let tail = Tail::default();
        Log::follow(&log, printed, &tail);
        let mut text = String::new();
        file.seek(SeekFrom::Start(0)).unwrap();
        file.read_to_string(&mut text).unwrap();
        let left_out = log.lock().unwrap().left_out();
        (text, left_out, tail)
    }

    #[test]
    fn tokens_are_left_out_wherever_they_stand() {
        let token = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJtZSJ9.c2lnbmF0dXJl";
        let printed =
            format!("GET /api Bearer {token}\n{{\"t\":\"{token}\"}}\n{}\nkeyJar eyJoy\n", &token[..30]);
        let (text, _, tail) = kept(printed.as_bytes());
        assert_eq!(text, "GET /api Bearer [token]\n{\"t\":\"[token]\"}\n[token]\nkeyJar eyJoy\n");
        assert_eq!(tail.shown().lines().count(), 1 + 4);
        assert!(!tail.has_missed_port() && kept(b"Error: listen EADDRINUSE: :::80\n").2.has_missed_port());
    }

    #[test]
    fn a_token_that_the_longest_line_cuts_in_two_is_left_out() {
        let printed = format!(
            "{}eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJtZSJ9.c2lnbmF0dXJl\nnext\n",
            "x".repeat(MAX_LINE - 30)
        );
        let (text, left_out, _) = kept(printed.as_bytes());
        assert!(
            !text.contains("eyJ") && text.ends_with("[token] [...]\nnext\n"),
            "{}",
            &text[MAX_LINE - 40..]
        );
        assert_eq!(left_out, 20);
    }

    #[test]
    fn what_is_too_much_is_counted_and_its_end_still_shown() {
        let line = "y".repeat(99) + "\n";
        let printed = line.repeat(MAX_BYTES / 100 + 1_000) + "\x1b[31mthe end\n";
        let (text, left_out, tail) = kept(printed.as_bytes());
        assert!(text.len() <= MAX_BYTES && text.len() > MAX_BYTES - 200);
        assert!((90_000..110_000).contains(&left_out), "{left_out}");
        assert!(tail.shown().ends_with("\n   |  [31mthe end") && !tail.has_missed_port());
    }
}
