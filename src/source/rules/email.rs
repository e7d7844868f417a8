//! Which emails are sent: every valid one. The target has the last word.

use super::catalog::{EMAIL_DOMAIN_TYPO, EMAIL_INVALID, EMAIL_MISSING, EMAIL_UNUSUAL};
use super::problem::{Broken, Problems};

/// Longest address in bytes (RFC 5321, a path of 256 with its brackets).
const EMAIL_BYTES_MAX: usize = 254;

/// Longest part before the @ in bytes that RFC 5321 makes every server take.
const LOCAL_BYTES_USUAL: usize = 64;

/// Signs that only a quoted local part may hold (RFC 5322 specials without the dot).
const QUOTED_ONLY: &[char] = &['(', ')', '<', '>', '[', ']', ':', ';', '@', '\\', ',', '"'];

/// Providers with so many users that a domain one slip away is most likely a slip. None is
/// shorter than nine letters: shorter ones have real neighbours.
const PROVIDERS: &[&str] = &[
    "gmail.com",
    "yahoo.com",
    "hotmail.com",
    "outlook.com",
    "icloud.com",
    "googlemail.com",
    "protonmail.com",
];

/// Judges a trimmed email, and returns it.
pub(super) fn judge<'a>(email: &'a str, problems: &mut Problems) -> &'a str {
    if let Some((local, domain)) = ordinary(email) {
        judge_domain(local, domain, problems);
        return email;
    }
    if let Err(broken) = check(email) {
        problems.add("email", broken);
        return email;
    }
    if let Some((local, domain)) = email.rsplit_once('@') {
        if let Some(words) = unusual(email, local, domain) {
            problems.add("email", Broken::new(EMAIL_UNUSUAL, words));
        }
        judge_domain(local, domain, problems);
    }
    email
}

fn judge_domain(local: &str, domain: &str, problems: &mut Problems) {
    if let Some(provider) = provider_meant(domain) {
        let words = format!("the domain is one slip away from {provider}");
        problems.add(
            "email",
            Broken::new(EMAIL_DOMAIN_TYPO, words).suggest(format!("{local}@{provider}")),
        );
    }
}

/// What a byte may be in an address: a word's in both parts, or one of these.
type Sign = u8;
/// A word's, before the @ alone.
const LOCAL: Sign = 1;
const DOT: Sign = 2;
const AT: Sign = 4;
const OTHER: Sign = 8;
/// It stands between words, as dots and the @ do.
const BETWEEN: Sign = 16;

static SIGNS: [Sign; 256] = signs();

const fn signs() -> [Sign; 256] {
    let mut signs = [OTHER; 256];
    let mut byte = 0_u8;
    loop {
        #[expect(clippy::indexing_slicing, reason = "a byte is an index of 256 entries")]
        {
            signs[byte as usize] = match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' => 0,
                b'!'
                | b'#'..=b'\''
                | b'*'
                | b'+'
                | b'/'
                | b'='
                | b'?'
                | b'^'..=b'`'
                | b'{'..=b'~' => LOCAL,
                b'.' => DOT | BETWEEN,
                b'@' => AT | BETWEEN,
                _ => OTHER,
            };
        }
        if byte == u8::MAX {
            return signs;
        }
        byte += 1;
    }
}

/// Returns the two parts of an address of which nothing is to be said: nearly every one, in one look
/// at its bytes. Whatever is not ordinary is judged by the rules below.
fn ordinary(email: &str) -> Option<(&str, &str)> {
    if email.len() > EMAIL_BYTES_MAX {
        return None;
    }
    // Where the dots stand is never the same: a branch for each byte would be guessed wrong.
    let (mut faults, mut dots, mut at) = (0, 0, 0);
    // Of the domain all bits, of what stands before it none.
    let mut in_domain: Sign = 0;
    // Nothing stands yet where a word has to be.
    let mut before = BETWEEN;
    for (index, byte) in email.bytes().enumerate() {
        let sign = SIGNS.get(usize::from(byte)).copied().unwrap_or(OTHER);
        faults |= (sign & OTHER) | (sign & before & BETWEEN) | (sign & in_domain & (LOCAL | AT));
        dots |= sign & in_domain & DOT;
        let is_at = sign & AT != 0;
        at = if is_at { index } else { at };
        in_domain |= u8::from(is_at).wrapping_neg();
        before = sign;
    }
    let is_whole = faults == 0 && dots != 0 && before & BETWEEN == 0;
    if !is_whole || at > LOCAL_BYTES_USUAL {
        return None;
    }
    Some((email.get(..at)?, email.get(at + 1..)?))
}

/// Checks a trimmed email.
fn check(email: &str) -> Result<(), Broken> {
    if email.is_empty() {
        return Err(Broken::new(
            EMAIL_MISSING,
            "the cell is blank; every row needs an email",
        ));
    }
    match fault(email) {
        Some(fault) => Err(Broken::new(
            EMAIL_INVALID,
            format!("not an email address: {fault}; write it like name@example.com"),
        )),
        None => Ok(()),
    }
}

/// Returns why many servers refuse a valid address.
fn unusual(email: &str, local: &str, domain: &str) -> Option<&'static str> {
    if local.starts_with('"') {
        Some("the part before the @ is quoted: valid, and refused by many servers")
    } else if domain.starts_with('[') {
        Some("a number stands in place of a domain: valid, and refused by many servers")
    } else if !email.is_ascii() {
        Some("a sign is not ASCII: valid, and not taken by every server")
    } else if local.len() > LOCAL_BYTES_USUAL {
        Some("more than 64 bytes stand before the @, and servers need not take them")
    } else if local.starts_with('.') || local.ends_with('.') || local.contains("..") {
        Some("dots before the @ stand where the standard has none; a few old addresses are so")
    } else if !domain.contains('.') {
        Some("the domain has no dot: no mail reaches it from outside")
    } else {
        None
    }
}

/// Returns the provider a domain is one slip away from: a sign too many, too few, another, or two
/// swapped. The first sign is taken to be right.
fn provider_meant(domain: &str) -> Option<&'static str> {
    let may_be = |provider: &&&str| {
        provider.len().abs_diff(domain.len()) <= 1
            && provider.as_bytes().first()
                == domain
                    .as_bytes()
                    .first()
                    .map(u8::to_ascii_lowercase)
                    .as_ref()
    };
    let mut candidates = PROVIDERS.iter().filter(may_be).peekable();
    candidates.peek()?;
    let domain = domain.to_ascii_lowercase();
    let mut slips = candidates.filter(|provider| one_slip(provider.as_bytes(), domain.as_bytes()));
    slips.next().copied()
}

/// Returns whether two different texts are one insertion, deletion, change or swap apart.
fn one_slip(a: &[u8], b: &[u8]) -> bool {
    let before = a.iter().zip(b).take_while(|(a, b)| a == b).count();
    let (a, b) = (
        a.get(before..).unwrap_or_default(),
        b.get(before..).unwrap_or_default(),
    );
    let after = a
        .iter()
        .rev()
        .zip(b.iter().rev())
        .take_while(|(a, b)| a == b)
        .count();
    let end = |text: &[u8]| text.len().saturating_sub(after);
    match (a.get(..end(a)), b.get(..end(b))) {
        (Some([a, b]), Some([c, d])) => a == d && b == c,
        (Some(a), Some(b)) => a.len().max(b.len()) == 1,
        _ => false,
    }
}

/// Returns what is wrong with an address, without a piece of it.
fn fault(email: &str) -> Option<&'static str> {
    if email.len() > EMAIL_BYTES_MAX {
        return Some("it is longer than 254 bytes");
    }
    if email.chars().any(char::is_control) {
        return Some("it holds a control character");
    }
    let Some((local, domain)) = email.rsplit_once('@') else {
        return Some("there is no @");
    };
    local_fault(local).or_else(|| domain_fault(domain))
}

fn local_fault(local: &str) -> Option<&'static str> {
    if local.is_empty() {
        return Some("nothing stands before the @");
    }
    if is_quoted(local) {
        return None;
    }
    if local.contains('@') {
        return Some("there is more than one @");
    }
    if local.contains(char::is_whitespace) {
        return Some("there is a space before the @");
    }
    if local.contains(QUOTED_ONLY) {
        return Some("a sign before the @ is only allowed in quotes");
    }
    None
}

/// Returns whether a local part is one quoted string, its inner quotes and backslashes escaped.
fn is_quoted(local: &str) -> bool {
    let Some(inner) = local
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
    else {
        return false;
    };
    let mut escaped = false;
    for sign in inner.chars() {
        match sign {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return false,
            _ => {}
        }
    }
    !escaped
}

fn domain_fault(domain: &str) -> Option<&'static str> {
    if domain.is_empty() {
        return Some("nothing stands after the @");
    }
    if domain.starts_with('[') && domain.ends_with(']') {
        return None;
    }
    if domain.split('.').any(str::is_empty) {
        return Some("a dot after the @ has nothing before or after it");
    }
    let allowed =
        |sign: char| sign.is_alphanumeric() || matches!(sign, '.' | '-' | '_') || is_mark(sign);
    if !domain.chars().all(allowed) {
        return Some("a sign after the @ is not allowed in a domain");
    }
    None
}

/// Returns whether a sign may be a combining mark of an internationalized domain: those are
/// neither letters nor digits, and too many to list.
fn is_mark(sign: char) -> bool {
    !sign.is_ascii() && !sign.is_whitespace()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn valid_addresses_pass() {
        for email in [
            "a@b",
            "first.last+tag@sub.example.com",
            "o'brien@example.com",
            "x!#$%&*/=?^_`{|}~@example.com",
            "\"two words\"@example.com",
            "\"a@b\"@example.com",
            "\"a\\\"b\"@example.com",
            "jürgen@müller.example",
            "用户@例子.example",
            "root@[192.0.2.1]",
            "a_b@my_host.example.com",
            "docomo..user.@example.jp",
        ] {
            assert_eq!(check(email), Ok(()), "{email}");
        }
        assert_eq!(check(&format!("{}@example.com", "x".repeat(242))), Ok(()));
    }

    #[test]
    fn broken_addresses_fail_without_being_shown() {
        for email in [
            "plainaddress",
            "@example.com",
            "secretname@",
            "secretname@@example.com",
            "a@b@example.com",
            "Secret Name <secretname@example.com>",
            "secret name@example.com",
            "secretname@exa mple.com",
            "secretname@example..com",
            "secretname@.example.com",
            "secretname@example.com.",
            "secretname@example.com;",
            "secretname@example.com,other@example.com",
            "secret\u{7}name@example.com",
            "\"secret\"name\"@example.com",
            "\"secretname\\\"@example.com",
        ] {
            let broken = check(email).unwrap_err();
            assert_eq!(broken.rule, EMAIL_INVALID, "{email}");
            assert!(!broken.words.contains("secret"), "{}", broken.words);
        }
        let long = format!("{}@example.com", "x".repeat(243));
        assert!(check(&long).unwrap_err().words.contains("254"));
        assert_eq!(check("").unwrap_err().rule, EMAIL_MISSING);
    }

    fn told(email: &str) -> Vec<(&'static str, Option<String>)> {
        let mut problems = Problems::default();
        assert_eq!(judge(email, &mut problems), email);
        let told = problems.drain();
        told.map(|problem| (problem.rule.id, problem.suggestion))
            .collect()
    }

    #[test]
    fn what_nearly_every_address_is_like_is_ordinary() {
        for (local, domain) in [
            ("a", "b.example"),
            ("A.b+c'd_", "x-y.example.org"),
            ("1", "2.3"),
        ] {
            let email = format!("{local}@{domain}");
            assert_eq!(ordinary(&email), Some((local, domain)));
        }
    }

    proptest! {
        #[test]
        fn of_an_ordinary_address_no_rule_has_anything_to_say(
            email in "[a-cA-C0.@\\-_+'\"\\[ é]{0,12}|[a-c.]{1,70}@[a-c.]{1,5}",
        ) {
            if let Some((local, domain)) = ordinary(&email) {
                prop_assert_eq!(fault(&email), None);
                prop_assert_eq!(email.rsplit_once('@'), Some((local, domain)));
                prop_assert_eq!(unusual(&email, local, domain), None);
            }
        }

        #[test]
        fn an_address_that_is_not_ordinary_breaks_a_rule_or_has_other_signs(
            email in "[a-c.]{0,4}@[a-c.]{0,4}|[a-c.@]{0,8}",
        ) {
            let judged = email.rsplit_once('@').is_some_and(|(local, domain)| {
                fault(&email).is_none() && unusual(&email, local, domain).is_none()
            });
            prop_assert_eq!(ordinary(&email).is_some(), judged);
        }
    }

    #[test]
    fn slips_in_large_domains_are_pointed_at_and_never_corrected() {
        for (email, meant) in [
            ("amy@gmial.com", "amy@gmail.com"),
            ("amy@gmai.com", "amy@gmail.com"),
            ("amy@gmaill.com", "amy@gmail.com"),
            ("amy@Gmail.con", "amy@gmail.com"),
            ("amy@hotnail.com", "amy@hotmail.com"),
            ("amy@yahoo.co", "amy@yahoo.com"),
        ] {
            let want = vec![("email_domain_typo", Some(meant.to_owned()))];
            assert_eq!(told(email), want, "{email}");
        }
        for email in [
            "amy@gmail.com",
            "amy@GMAIL.com",
            "amy@ymail.com",
            "amy@mail.com",
            "amy@yahoo.ca",
            "amy@gmx.net",
            "amy@example.com",
        ] {
            assert_eq!(told(email), vec![], "{email}");
        }
    }

    #[test]
    fn valid_and_unusual_is_a_warning() {
        let long = format!("{}@example.com", "x".repeat(65));
        for email in [
            "\"two words\"@example.com",
            "root@[192.0.2.1]",
            "jürgen@example.com",
            "a..b@example.com",
            "a@localhost",
            &long,
        ] {
            assert_eq!(told(email), vec![("email_unusual", None)], "{email}");
        }
    }
}
