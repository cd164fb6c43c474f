//! Data goes to standard output, talk to standard error.

use std::io::{ErrorKind, IsTerminal, Write, stderr, stdout};

/// Says a line to the person at the terminal. That nobody may be listening is no error.
pub(crate) fn say(line: &str) {
    let _ = writeln!(stderr(), "{line}");
}

/// Prints data. What cannot be printed is said, unless the reader has seen enough and gone.
pub(crate) fn print(text: &str) {
    let mut out = stdout();
    match write!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            say(&format!("warning: cannot print to standard output: {error}"));
        }
        _ => {}
    }
}

/// `1 replica`, `2 replicas`.
pub(crate) fn counted(number: u32, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// Whether what is said may have colours: on a terminal, unless `NO_COLOR` is set to something.
pub(crate) fn has_colour() -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    stdout().is_terminal() && !refused && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}
