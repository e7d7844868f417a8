//! A question that is answered with one word, before something that cannot be taken back.

use std::io::{self, BufRead, Write};

/// Longest answer that is read, in bytes.
const ANSWER_BYTES_MAX: u64 = 64;

/// Shows `question` and returns whether the answer is `word`; an answer that cannot be read is none.
///
/// # Errors
/// When the question could not be shown.
pub fn typed(
    word: &str,
    question: &str,
    answer: impl BufRead,
    mut ask: impl Write,
) -> io::Result<bool> {
    ask.write_all(question.as_bytes())?;
    ask.flush()?;
    let mut line = String::new();
    let read = answer.take(ANSWER_BYTES_MAX).read_line(&mut line);
    Ok(read.is_ok() && line.trim() == word)
}
