//! The one escaper for text that came from a file or a server and goes to a terminal or a log.

/// Longest text shown, in characters.
const SHOWN_CHARS_MAX: usize = 200;

/// Returns `text` safe to print: control, bidirectional and zero-width characters become `\u{…}`,
/// and what is longer than 200 characters ends in `…`.
pub fn shown(text: &str) -> String {
    let mut out = String::with_capacity(text.len().min(SHOWN_CHARS_MAX));
    for (n, c) in text.chars().enumerate() {
        if n == SHOWN_CHARS_MAX {
            out.push('…');
            break;
        }
        if is_unsafe(c) {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    out
}

/// Returns whether a character could move the cursor, turn the text around or hide.
pub fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}' | '\u{061c}')
}

/// Returns a server's words without what may identify a person: every word holding an `@` is
/// replaced, and so is every occurrence of one of `secrets` (a row's own cells).
pub fn without_people(text: &str, secrets: &[&str]) -> String {
    let mut text = text.to_owned();
    for secret in secrets.iter().filter(|secret| secret.len() >= 3) {
        text = text.replace(secret, "…");
    }
    let words: Vec<&str> = text
        .split_whitespace()
        .map(|word| if word.contains('@') { "…" } else { word })
        .collect();
    shown(&words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_what_could_move_the_cursor() {
        assert_eq!(shown("a\u{1b}[2Jb\u{202e}c"), "a\\u{1b}[2Jb\\u{202e}c");
        assert_eq!(shown(&"x".repeat(500)).chars().count(), 201);
    }

    #[test]
    fn people_are_cut_out_of_messages() {
        assert_eq!(
            without_people("user bob@x.org (Bob Ray) exists", &["Bob Ray"]),
            "user … (…) exists"
        );
    }
}
