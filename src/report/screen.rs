//! The two standard streams: words on stderr, data on stdout.

use super::painter::Painter;
use crate::model::escape::is_unsafe;
use serde::Serialize;
use std::io::{self, Write as _};

/// stderr, shared by everything that has something to say while bars may be drawn.
#[derive(Clone, Debug, Default)]
pub struct Screen {
    bars: Option<Painter>,
}

impl Screen {
    /// Makes a screen without bars.
    pub fn plain() -> Self {
        Self::default()
    }

    /// Makes a screen whose lines move aside the bars of `bars`.
    pub fn with_bars(bars: Painter) -> Self {
        Self { bars: Some(bars) }
    }

    /// Prints words on stderr, one line end added. A closed stderr is not an error: nobody reads.
    pub fn say(&self, text: &str) {
        let line = printable(text);
        let print = || {
            let mut stderr = io::stderr().lock();
            let _nobody_reads = stderr
                .write_all(line.as_bytes())
                .and_then(|()| stderr.flush());
        };
        match &self.bars {
            Some(bars) => bars.aside(print),
            None => print(),
        }
    }
}

/// Returns `text` with control, bidirectional and invisible characters escaped except line ends, and
/// one line end at the end.
pub fn printable(text: &str) -> String {
    let mut line = String::with_capacity(text.len() + 1);
    for c in text.trim_end_matches('\n').chars() {
        if is_unsafe(c) && c != '\n' {
            line.extend(c.escape_unicode());
        } else {
            line.push(c);
        }
    }
    line.push('\n');
    line
}

/// Prints one JSON object on stdout, pretty enough for people and one line end at the end.
pub fn print_json(value: &impl Serialize) -> io::Result<()> {
    let mut text = serde_json::to_string_pretty(value)?;
    text.push('\n');
    print_data(text.as_bytes())
}

/// Prints data on stdout. A reader that went away (`| head`) is no error.
pub fn print_data(bytes: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    quiet_epipe(stdout.write_all(bytes).and_then(|()| stdout.flush()))
}

/// Turns a broken pipe into success: the reader has what it wanted.
pub fn quiet_epipe(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_cannot_move_the_cursor() {
        assert_eq!(printable("a\u{1b}[2J\nb\n"), "a\\u{1b}[2J\nb\n");
        assert_eq!(printable("exe\u{202e}vsc.a"), "exe\\u{202e}vsc.a\n");
    }

    #[test]
    fn only_a_broken_pipe_is_quiet() {
        let error = |kind| Err(io::Error::from(kind));
        assert!(quiet_epipe(error(io::ErrorKind::BrokenPipe)).is_ok());
        assert!(quiet_epipe(error(io::ErrorKind::StorageFull)).is_err());
    }
}
