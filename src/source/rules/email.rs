//! Which emails are sent: every valid one. The target has the last word.

use super::Broken;

/// Longest address in bytes (RFC 5321, a path of 256 with its brackets).
const EMAIL_BYTES_MAX: usize = 254;

/// Signs that only a quoted local part may hold (RFC 5322 specials without the dot).
const QUOTED_ONLY: &[char] = &['(', ')', '<', '>', '[', ']', ':', ';', '@', '\\', ',', '"'];

/// Checks a trimmed email.
pub(super) fn check(email: &str) -> Result<(), Broken> {
    if email.is_empty() {
        return Err(Broken::new(
            "email_missing",
            "the cell is blank; every row needs an email",
        ));
    }
    match fault(email) {
        Some(fault) => Err(Broken::new(
            "email_invalid",
            format!("not an email address: {fault}; write it like name@example.com"),
        )),
        None => Ok(()),
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
            assert_eq!(broken.code, "email_invalid", "{email}");
            assert!(!broken.words.contains("secret"), "{}", broken.words);
        }
        let long = format!("{}@example.com", "x".repeat(243));
        assert!(check(&long).unwrap_err().words.contains("254"));
        assert_eq!(check("").unwrap_err().code, "email_missing");
    }
}
