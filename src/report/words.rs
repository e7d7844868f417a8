//! Numbers and times as people read them.

use std::borrow::Cow;
use std::time::Duration;

/// Returns a number with thousands separated: `1,234,567`.
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Returns a number and its noun: `1 row`, `2 rows`.
pub fn counted(n: u64, noun: &str) -> String {
    let plural = agreeing(n, "", "s");
    format!("{} {noun}{plural}", count(n))
}

/// Returns the form of a word that goes with a number: `1 row fails`, `2 rows fail`.
pub const fn agreeing<'a>(n: u64, one: &'a str, several: &'a str) -> &'a str {
    if n == 1 { one } else { several }
}

/// Returns at most `chars_max` characters of `text`, with a sign that there was more.
pub fn shortened(text: &str, chars_max: usize) -> Cow<'_, str> {
    match text.char_indices().nth(chars_max) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default().trim_end()).into(),
        None => text.into(),
    }
}

/// Returns a rate with the digits that matter: `0.42`, `49.5`, `12,345`.
pub fn rate(per_second: f64) -> String {
    if !per_second.is_finite() || per_second < 0.0 {
        "0".to_owned()
    } else if per_second < 10.0 {
        format!("{per_second:.2}")
    } else if per_second < 1000.0 {
        format!("{per_second:.1}")
    } else {
        count(whole(per_second))
    }
}

/// Returns a duration with two units: `3.2s`, `2m31s`, `5h02m`, `3d04h`.
pub fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..60 => format!("{:.1}s", time.as_secs_f64()),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h{:02}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// Returns when the rest is done at this pace, or `-` when nothing tells.
pub fn eta(left: u64, per_second: f64) -> String {
    if left == 0 {
        return "0s".to_owned();
    }
    if !per_second.is_finite() || per_second < 0.001 {
        return "-".to_owned();
    }
    let seconds = left as f64 / per_second;
    match Duration::try_from_secs_f64(seconds.ceil()) {
        Ok(time) if time.as_secs() < 60 => format!("{}s", time.as_secs()),
        Ok(time) => duration(time),
        Err(_) => "-".to_owned(),
    }
}

/// Returns a local wall clock time (milliseconds since the epoch) in UTC, to the second.
pub fn wall_time(ms: i64) -> String {
    match jiff::Timestamp::from_millisecond(ms) {
        Ok(time) => time.strftime("%Y-%m-%d %H:%M:%SZ").to_string(),
        Err(_) => "-".to_owned(),
    }
}

/// Returns a rounded, non-negative number.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "`as` saturates, and the number is for showing"
)]
pub fn whole(number: f64) -> u64 {
    number.round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_times_read_well() {
        assert_eq!(
            [0, 999, 1000, 1_234_567].map(count),
            ["0", "999", "1,000", "1,234,567"]
        );
        assert_eq!(counted(1, "row") + &counted(2, "row"), "1 row2 rows");
        assert_eq!(
            [0, 1, 2].map(|n| agreeing(n, "fails", "fail")),
            ["fail", "fails", "fail"]
        );
        assert_eq!(
            [0.421, 49.51, 12_345.4, f64::NAN].map(rate),
            ["0.42", "49.5", "12,345", "0"]
        );
        assert_eq!(
            [3.21, 151.0, 18_120.0, 273_600.0].map(|s| duration(Duration::from_secs_f64(s))),
            ["3.2s", "2m31s", "5h02m", "3d04h"]
        );
        assert_eq!(
            eta(0, 0.0) + &eta(5, 0.0) + &eta(100, 50.0) + &eta(7550, 50.0),
            "0s-2s2m31s"
        );
        assert_eq!(
            ["äöü", "äöüß"].map(|text| shortened(text, 3)),
            ["äöü", "äöü…"]
        );
        assert_eq!(wall_time(0), "1970-01-01 00:00:00Z");
    }
}
