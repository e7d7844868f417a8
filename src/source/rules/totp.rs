//! `totp_secret` and `totp_issuer`: what a person's app for one-time passwords has.
//!
//! A secret is never shown, not even a piece of it.

use super::super::Totp;
use super::catalog::{TOTP_ISSUER_WITHOUT_SECRET, TOTP_SECRET_INVALID};
use super::problem::{Broken, Problems};
use secrecy::SecretString;

/// Fewest bytes of a secret. RFC 4226 (R6) wants 16; the apps that most people have made 10 for
/// many years, and refusing those would lock out their owners.
const BYTES_MIN: usize = 10;

/// Most bytes of a secret: twice the block of HMAC-SHA-1, beyond which more says nothing.
const BYTES_MAX: usize = 128;

/// Reads two trimmed cells and tells what is wrong with them.
pub(super) fn judge(secret: &str, issuer: &str, problems: &mut Problems) -> Option<Box<Totp>> {
    if secret.is_empty() {
        if !issuer.is_empty() {
            let words = "an issuer needs its secret; fill totp_secret too, or leave both blank";
            problems.add(
                "totp_issuer",
                Broken::new(TOTP_ISSUER_WITHOUT_SECRET, words),
            );
        }
        return None;
    }
    let secret = problems.value("totp_secret", read(secret))?;
    Some(Box::new(Totp {
        secret,
        issuer: (!issuer.is_empty()).then(|| issuer.to_owned()),
    }))
}

/// Reads RFC 4648 Base32 as people and exports write it: in any case, in groups, padded or not.
fn read(cell: &str) -> Result<SecretString, Broken> {
    let invalid = |words: String| Err(Broken::new(TOTP_SECRET_INVALID, words));
    let body = cell.trim_end_matches('=');
    if cell.len() - body.len() > 6 {
        return invalid("Base32 ends with six = at most".to_owned());
    }
    let symbols: String = body
        .chars()
        .filter(|symbol| !matches!(symbol, ' ' | '-'))
        .map(|symbol| symbol.to_ascii_uppercase())
        .collect();
    let is_symbol = |byte: u8| byte.is_ascii_uppercase() || (b'2'..=b'7').contains(&byte);
    if !symbols.bytes().all(is_symbol) {
        return invalid(
            "a secret is Base32: the letters A to Z and the digits 2 to 7, spaces and = apart; give \
             the secret alone, no otpauth address and no hexadecimal digits"
                .to_owned(),
        );
    }
    if matches!(symbols.len() % 8, 1 | 3 | 6) {
        return invalid(
            "no Base32 has this number of characters; a part of the secret is missing".to_owned(),
        );
    }
    let bytes = symbols.len() * 5 / 8;
    if !(BYTES_MIN..=BYTES_MAX).contains(&bytes) {
        return invalid(format!(
            "a secret of {bytes} bytes; allowed are {BYTES_MIN} to {BYTES_MAX}"
        ));
    }
    Ok(SecretString::from(symbols))
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret as _;

    fn told(secret: &str, issuer: &str) -> Result<Option<(String, Option<String>)>, &'static str> {
        let mut problems = Problems::default();
        let totp = judge(secret, issuer, &mut problems);
        let text = format!("{problems:?} {totp:?}");
        let piece = secret.get(..8).unwrap_or("no secret is so short");
        assert!(
            !text.contains(piece) && !text.contains("JBSWY3DP"),
            "{text}"
        );
        match problems.error() {
            Some(problem) => Err(problem.rule.id),
            None => Ok(totp.map(|totp| (totp.secret.expose_secret().to_owned(), totp.issuer))),
        }
    }

    #[test]
    fn a_secret_is_read_as_people_and_exports_write_it() {
        let secret = Ok(Some(("JBSWY3DPEHPK3PXP".to_owned(), None)));
        for written in [
            "JBSWY3DPEHPK3PXP",
            "jbswy3dpehpk3pxp",
            "jbsw y3dp ehpk 3pxp",
            "JBSW-Y3DP-EHPK-3PXP",
        ] {
            assert_eq!(told(written, ""), secret, "{written}");
        }
        let padded = "GEZDGNBVGY3TQOJQGEZDGNBVGY======";
        let (secret, issuer) = told(padded, "Acme").unwrap().unwrap();
        assert_eq!(
            (secret.as_str(), issuer.as_deref()),
            ("GEZDGNBVGY3TQOJQGEZDGNBVGY", Some("Acme"))
        );
        assert_eq!(told("", ""), Ok(None));
    }

    #[test]
    fn what_is_no_secret_is_told_without_it() {
        for bad in [
            "JBSWY3DPEHPK3PX1",
            "otpauth://totp/a?secret=JBSWY3DPEHPK3PXP",
            "JBSWY3DPEHPK3PXPE",
            "JBSWY3DP",
            "========",
            "JBSWY3DPEHPK3PXP=======",
            "48656c6c6f21deadbeef",
            "secret!!",
        ] {
            assert_eq!(told(bad, ""), Err("totp_secret_invalid"), "{bad}");
        }
        assert_eq!(told(&"A".repeat(208), ""), Err("totp_secret_invalid"));
        assert!(told(&"A".repeat(204), "").is_ok());
        assert_eq!(told("", "Acme"), Err("totp_issuer_without_secret"));
    }
}
