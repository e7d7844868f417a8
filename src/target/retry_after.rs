//! `Retry-After`: how long a target asks to wait. Pure.

use std::time::Duration;

/// The longest wait that is believed: a longer one is a mistake or an attack, and asking again
/// after 15 minutes costs one request.
pub const WAIT_MAX: Duration = Duration::from_mins(15);

/// Reads a `Retry-After` value: seconds (a fraction is tolerated), or an HTTP-date, which is
/// measured against the `Date` of the same answer because the local clock may be wrong.
///
/// Returns `None` when it says nothing usable; at most [`WAIT_MAX`] otherwise.
pub fn wait(value: &str, date: Option<&str>) -> Option<Duration> {
    let value = value.trim();
    if value.starts_with(|c: char| c.is_ascii_digit()) && !value.contains(' ') {
        return seconds(value);
    }
    let until = httpdate::parse_http_date(value).ok()?;
    let now = httpdate::parse_http_date(date?.trim()).ok()?;
    let wait = until.duration_since(now).unwrap_or_default();
    Some(wait.min(WAIT_MAX))
}

fn seconds(value: &str) -> Option<Duration> {
    if !value
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'.')
    {
        return None;
    }
    let seconds: f64 = value.parse().ok()?;
    Some(Duration::from_secs_f64(seconds.min(WAIT_MAX.as_secs_f64())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::UNIX_EPOCH;

    const DATE: Option<&str> = Some("Wed, 21 Oct 2026 07:28:00 GMT");

    #[test]
    fn every_known_form_is_read() {
        let cases = [
            ("0", None, Some(0)),
            ("7", None, Some(7_000)),
            (" 7 ", None, Some(7_000)),
            ("1.5", None, Some(1_500)),
            ("86400", None, Some(900_000)),
            ("99999999999999999999999999", None, Some(900_000)),
            ("Wed, 21 Oct 2026 07:28:30 GMT", DATE, Some(30_000)),
            ("Wed, 21 Oct 2026 09:28:30 GMT", DATE, Some(900_000)),
            // in the past: now
            ("Wed, 21 Oct 2026 07:27:00 GMT", DATE, Some(0)),
            // no Date to measure it against
            ("Wed, 21 Oct 2026 07:28:30 GMT", None, None),
            ("Wed, 21 Oct 2026 07:28:30 GMT", Some("x"), None),
            ("", None, None),
            ("-1", None, None),
            ("soon", None, None),
            ("1e9", None, None),
            ("1.2.3", None, None),
            ("NaN", None, None),
            ("inf", None, None),
        ];
        for (value, date, expected) in cases {
            let expected = expected.map(Duration::from_millis);
            assert_eq!(wait(value, date), expected, "{value:?} {date:?}");
        }
    }

    proptest! {
        #[test]
        fn nothing_a_server_sends_waits_longer_than_the_cap(value in ".{0,60}", date in ".{0,60}") {
            prop_assert!(wait(&value, Some(&date)).is_none_or(|wait| wait <= WAIT_MAX));
            prop_assert!(wait(&value, None).is_none_or(|wait| wait <= WAIT_MAX));
        }

        #[test]
        fn what_is_nearly_a_number_or_a_date_is_capped_too(
            now in 0_u64..300_000_000_000,
            ahead in 0_u64..300_000_000_000,
            blow in any::<prop::sample::Index>(),
            with in prop::sample::select(vec!["", "0", "9", ".", "-", "e", " ", ",", "\u{e9}", "99999999"]),
        ) {
            let until = now.saturating_add(ahead).min(250_000_000_000);
            let date = |s| httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(s));
            for mut value in [date(until), ahead.to_string(), format!("{ahead}.5")] {
                let at = blow.index(value.len());
                value.replace_range(at..=at, with);
                let date = date(now.min(250_000_000_000));
                prop_assert!(wait(&value, Some(&date)).is_none_or(|wait| wait <= WAIT_MAX), "{value}");
            }
        }

        #[test]
        fn whole_seconds_are_exact_up_to_the_cap(seconds in 0_u64..2_000) {
            let expected = Duration::from_secs(seconds).min(WAIT_MAX);
            prop_assert_eq!(wait(&seconds.to_string(), None), Some(expected));
        }

        #[test]
        fn a_date_is_a_difference_whatever_the_clock(now in 0_u64..4_000_000_000, ahead in 0_u64..2_000) {
            let text = |s| httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(s));
            let expected = Duration::from_secs(ahead).min(WAIT_MAX);
            prop_assert_eq!(wait(&text(now + ahead), Some(&text(now))), Some(expected));
        }
    }
}
