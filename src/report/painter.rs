//! Lines that stay at the bottom of a terminal while others scroll by above them.
//!
//! # Owns
//! How large the terminal is: it is asked anew before every drawing, because people resize it. A
//! line never reaches the last column, so it is one row when it is drawn. What a narrower terminal
//! has wrapped since is removed with the rest.
//! # Never
//! Decides what they say; draws where nobody looks.

use super::words;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use rustix::termios::tcgetwinsize;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::sync::{Arc, Mutex, PoisonError};

/// Drawings a second at most.
const DRAWINGS_MAX: u8 = 20;

/// Columns of the bar.
const BAR_COLUMNS: usize = 12;

/// Columns of the bar with what stands around it.
pub const BAR_ROOM: usize = BAR_COLUMNS + 3;

/// Rows and columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Rows.
    pub rows: usize,
    /// Columns.
    pub columns: usize,
}

/// What is drawn: lines, the first of them behind a bar if there is room for one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// So much of so much.
    pub bar: Option<(u64, u64)>,
    /// The lines.
    pub lines: Vec<String>,
}

/// The lines at the bottom of stderr; shared by whoever draws them and whoever prints above them.
#[derive(Clone, Debug)]
pub struct Painter {
    bar: ProgressBar,
    /// How long each line is that stands there, the bar included.
    drawn: Arc<Mutex<Vec<usize>>>,
}

impl Default for Painter {
    fn default() -> Self {
        let target = ProgressDrawTarget::stderr_with_hz(DRAWINGS_MAX);
        Self {
            bar: ProgressBar::with_draw_target(None, target),
            drawn: Arc::default(),
        }
    }
}

impl Painter {
    /// Returns the size of the terminal now; none where there is none.
    pub fn size() -> Option<Size> {
        let size = tcgetwinsize(io::stderr()).ok()?;
        let [rows, columns] = [size.ws_row, size.ws_col].map(usize::from);
        (rows > 0 && columns > 0).then_some(Size { rows, columns })
    }

    /// Draws a picture instead of the last one.
    pub fn draw(&self, size: Size, picture: &Picture) {
        let lines = fitting(size, picture);
        let room = picture.bar.map_or(0, |_| BAR_ROOM);
        let before = {
            let lengths = lines.iter().enumerate().map(|(nth, line)| {
                let bar = if nth == 0 { room } else { 0 };
                line.chars().count() + bar
            });
            let mut drawn = self.drawn.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *drawn, lengths.collect())
        };
        let wrapped = wrapped_rows(&before, size.columns);
        if wrapped > 0 {
            // The rows that the library does not know of stand above those it removes.
            self.bar
                .suspend(|| show(&"\u{1b}[A\u{1b}[2K".repeat(wrapped.min(size.rows))));
        }
        self.bar.set_style(style(picture.bar.is_some()));
        if let Some((done, total)) = picture.bar {
            self.bar.set_length(total);
            self.bar.set_position(done);
        }
        self.bar.set_message(lines.join("\n"));
    }

    /// Takes the lines away for something that is printed where they stand, and draws them again.
    pub fn aside(&self, print: impl FnOnce()) {
        self.bar.suspend(print);
    }

    /// Takes the lines away for good.
    pub fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

fn style(with_bar: bool) -> ProgressStyle {
    let template = if with_bar {
        format!("[{{bar:{BAR_COLUMNS}}}] {{msg}}")
    } else {
        "{msg}".to_owned()
    };
    ProgressStyle::with_template(&template)
        .unwrap_or_else(|_| unreachable!("the template is one of two, and both are sound"))
        .progress_chars("█░")
}

/// Returns as many lines and as much of each as there is room for.
fn fitting(size: Size, picture: &Picture) -> Vec<String> {
    let shown = size.rows.saturating_sub(1).max(1);
    let room = size.columns.saturating_sub(2).max(1);
    let mut bar = picture.bar.map_or(0, |_| BAR_ROOM);
    let lines = picture.lines.iter().take(shown).map(|line| {
        let room = room.saturating_sub(std::mem::take(&mut bar)).max(1);
        words::shortened(line, room).into_owned()
    });
    lines.collect()
}

/// Returns in how many rows more than they were drawn lines of these lengths stand, now that the
/// terminal has that many columns.
fn wrapped_rows(lengths: &[usize], columns: usize) -> usize {
    let rows = |length: &usize| length.div_ceil(columns.max(1)).max(1);
    lengths.iter().map(rows).sum::<usize>() - lengths.len()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_stays_off_the_last_column_and_no_more_are_drawn_than_fit() {
        let size = Size {
            rows: 3,
            columns: 40,
        };
        let lines = [10, 80, 5].map(|length| "x".repeat(length)).to_vec();
        let picture = |bar| Picture {
            bar,
            lines: lines.clone(),
        };
        let shown = fitting(size, &picture(None));
        assert_eq!(shown, ["x".repeat(10), format!("{}…", "x".repeat(38))]);
        let narrow = Size {
            columns: 20,
            ..size
        };
        let shown = fitting(narrow, &picture(Some((1, 2))));
        assert_eq!(shown, ["xxx…".to_owned(), format!("{}…", "x".repeat(18))]);
    }

    #[test]
    fn what_a_narrower_terminal_wrapped_is_known() {
        // 100 and 90 columns are three rows of 40 each, 30 one.
        assert_eq!(wrapped_rows(&[100, 90, 30], 40), 4);
        assert_eq!(wrapped_rows(&[100, 90, 30], 200), 0);
        assert_eq!(wrapped_rows(&[], 40), 0);
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
}
