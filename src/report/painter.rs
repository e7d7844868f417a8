//! Lines that stay at the bottom of a terminal while others scroll by above them.
//!
//! # Owns
//! Where they stand, and how large the terminal is: it is asked anew before every drawing, because
//! people resize it. A line never reaches the last column, so it is one row when it is drawn.
//! # Never
//! Decides what they say; draws where nobody looks.

use super::words;
use rustix::termios::tcgetwinsize;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Rows and columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Rows.
    pub rows: usize,
    /// Columns.
    pub columns: usize,
}

/// The lines at the bottom of stderr; shared by whoever draws them and whoever prints above them.
#[derive(Clone, Debug, Default)]
pub struct Painter {
    drawn: Arc<Mutex<Drawn>>,
}

/// What stands there now: the lines, and how long each is. The cursor is behind the last one.
#[derive(Debug, Default)]
struct Drawn {
    lines: Vec<String>,
}

impl Painter {
    /// Returns the size of the terminal now; none where there is none.
    pub fn size() -> Option<Size> {
        let size = tcgetwinsize(io::stderr()).ok()?;
        let [rows, columns] = [size.ws_row, size.ws_col].map(usize::from);
        (rows > 0 && columns > 0).then_some(Size { rows, columns })
    }

    /// Draws these lines instead of the last ones.
    pub fn draw(&self, size: Size, lines: &[String]) {
        let mut drawn = self.lock();
        let erase = drawn.erase(size);
        let put = drawn.put(size, lines);
        show(&format!("{erase}{put}"));
    }

    /// Takes the lines away for something that is printed where they stand, and draws them again.
    pub fn aside(&self, print: impl FnOnce()) {
        let mut drawn = self.lock();
        let size = Self::size().filter(|_| !drawn.lines.is_empty());
        let Some(size) = size else {
            return print();
        };
        let lines = drawn.lines.clone();
        show(&drawn.erase(size));
        print();
        show(&drawn.put(size, &lines));
    }

    /// Takes the lines away for good.
    pub fn clear(&self) {
        let mut drawn = self.lock();
        if let Some(size) = Self::size() {
            show(&drawn.erase(size));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Drawn> {
        self.drawn.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drawn {
    /// Returns what makes the lines disappear. A terminal that became narrower has wrapped them:
    /// they stand in more rows than were drawn.
    fn erase(&mut self, size: Size) -> String {
        let rows = self
            .lines
            .drain(..)
            .map(|line| line.chars().count().div_ceil(size.columns).max(1));
        let rows: usize = rows.sum();
        // Row by row: what is cleared to its end from the first row on, a terminal may keep as
        // something that scrolled away.
        match rows.min(size.rows) {
            0 => String::new(),
            rows => format!("\r\u{1b}[2K{}", "\u{1b}[A\u{1b}[2K".repeat(rows - 1)),
        }
    }

    /// Returns what draws lines, as many and as much of each as there is room for.
    fn put(&mut self, size: Size, lines: &[String]) -> String {
        let room = size.columns.saturating_sub(2).max(1);
        let shown = lines.iter().take(size.rows.saturating_sub(1).max(1));
        self.lines = shown
            .map(|line| words::shortened(line, room).into_owned())
            .collect();
        self.lines.join("\r\n")
    }
}

/// A closed stderr is not an error: nobody reads.
fn show(text: &str) {
    let mut stderr = io::stderr().lock();
    let _nobody_reads = stderr
        .write_all(text.as_bytes())
        .and_then(|()| stderr.flush());
}

/// Joins as many of the parts as fit into `columns`; those with the highest number go first.
pub fn fitted(parts: &[(u8, String)], columns: usize) -> String {
    let mut left: Vec<&(u8, String)> = parts.iter().collect();
    loop {
        let line = joined(left.iter().map(|(_, part)| part.as_str()));
        if left.len() <= 1 || line.chars().count() <= columns {
            return words::shortened(&line, columns).into_owned();
        }
        let least = left.iter().map(|(rank, _)| *rank).max();
        let at = left.iter().rposition(|(rank, _)| Some(*rank) == least);
        left.remove(at.unwrap_or_default());
    }
}

/// Joins parts of a line.
pub fn joined<'a>(parts: impl Iterator<Item = &'a str>) -> String {
    let mut line = String::new();
    for part in parts {
        let between = if line.is_empty() { "" } else { " · " };
        let _infallible = write!(line, "{between}{part}");
    }
    line
}

/// Returns a bar of `columns` characters.
pub fn bar(done: u64, total: u64, columns: usize) -> String {
    let share = if total == 0 {
        1.0
    } else {
        (done as f64 / total as f64).clamp(0.0, 1.0)
    };
    let full = words::whole(share * columns as f64);
    let full = usize::try_from(full).unwrap_or(columns).min(columns);
    format!("{}{}", "█".repeat(full), "░".repeat(columns - full))
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn size(rows: usize, columns: usize) -> Size {
        Size { rows, columns }
    }

    fn lines(lengths: &[usize]) -> Vec<String> {
        lengths.iter().map(|length| "x".repeat(*length)).collect()
    }

    fn rows_of(erase: &str) -> usize {
        erase.matches("\u{1b}[2K").count()
    }

    #[test]
    fn a_line_stays_off_the_last_column_and_no_more_are_drawn_than_fit() {
        let mut drawn = Drawn::default();
        let text = drawn.put(size(3, 20), &lines(&[10, 80, 5]));
        assert_eq!(text, format!("{}\r\n{}…", "x".repeat(10), "x".repeat(18)));
        assert!(drawn.lines.iter().all(|line| line.chars().count() < 20));
    }

    #[test]
    fn what_a_narrower_terminal_wrapped_is_erased_as_a_whole() {
        let mut drawn = Drawn::default();
        drawn.put(size(24, 120), &lines(&[100, 90, 30]));
        // 100 and 90 columns are three rows of 40 each, 30 one.
        assert_eq!(rows_of(&drawn.erase(size(24, 40))), 7);
        assert_eq!(drawn.erase(size(24, 40)), "", "nothing is left");
        drawn.put(size(24, 40), &lines(&[30, 30]));
        assert_eq!(rows_of(&drawn.erase(size(24, 200))), 2);
        drawn.put(size(24, 40), &lines(&[30]));
        assert_eq!(drawn.erase(size(24, 40)), "\r\u{1b}[2K");
    }

    #[test]
    fn what_matters_least_goes_first() {
        let parts = [
            (0, "5 of 9 rows"),
            (2, "ETA 3s"),
            (1, "4 failed"),
            (3, "8 rows/s"),
        ]
        .map(|(rank, part)| (rank, part.to_owned()));
        assert_eq!(
            fitted(&parts, 80),
            "5 of 9 rows · ETA 3s · 4 failed · 8 rows/s"
        );
        assert_eq!(fitted(&parts, 35), "5 of 9 rows · ETA 3s · 4 failed");
        assert_eq!(fitted(&parts, 25), "5 of 9 rows · 4 failed");
        assert_eq!(fitted(&parts, 6), "5 of 9…");
    }

    #[test]
    fn a_bar_is_as_long_as_it_says() {
        assert_eq!(bar(0, 4, 4), "░░░░");
        assert_eq!(bar(1, 4, 4), "█░░░");
        assert_eq!(bar(9, 4, 4), "████");
        assert_eq!(bar(0, 0, 2), "██");
    }
}
