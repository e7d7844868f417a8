//! `locale`: a language tag as BCP 47 writes it.

use super::catalog::LOCALE_INVALID;
use super::problem::Broken;
use std::borrow::Cow;

/// Longest tag in characters: what RFC 5646 (4.4.1) wants everybody to have room for.
const CHARS_MAX: usize = 35;

/// Reads a trimmed cell. `en_US`, as Java and POSIX write it, is read as `en-US`.
pub(super) fn read(cell: &str) -> Result<Option<Cow<'_, str>>, Broken> {
    if cell.is_empty() {
        return Ok(None);
    }
    let tag = if cell.contains('_') {
        Cow::Owned(cell.replace('_', "-"))
    } else {
        Cow::Borrowed(cell)
    };
    if tag.len() <= CHARS_MAX && is_tag(&tag) {
        return Ok(Some(tag));
    }
    Err(Broken::new(
        LOCALE_INVALID,
        format!(
            "a locale is a language of 2 or 3 letters, then if needed a script of 4 \
             letters, a region of 2 letters or 3 digits and variants: en, pt-BR, zh-Hant-TW; at \
             most {CHARS_MAX} characters"
        ),
    ))
}

/// Returns whether `tag` is language\[-script]\[-region]\[-variant…].
fn is_tag(tag: &str) -> bool {
    let letters = |part: &str| part.bytes().all(|byte| byte.is_ascii_alphabetic());
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let is_script = |part: &str| part.len() == 4 && letters(part);
    let is_region =
        |part: &str| (part.len() == 2 && letters(part)) || (part.len() == 3 && digits(part));
    let is_variant = |part: &str| {
        let starts_with_digit = part
            .bytes()
            .next()
            .is_some_and(|byte| byte.is_ascii_digit());
        let long_enough = (5..=8).contains(&part.len()) || (part.len() == 4 && starts_with_digit);
        long_enough && part.bytes().all(|byte| byte.is_ascii_alphanumeric())
    };
    let mut parts = tag.split('-').peekable();
    let language = parts.next().unwrap_or_default();
    let known = matches!(language.len(), 2 | 3) && letters(language);
    let _script = parts.next_if(|part| is_script(part));
    let _region = parts.next_if(|part| is_region(part));
    known && parts.all(is_variant)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_told_from_other_text() {
        for good in [
            "en",
            "fil",
            "en-US",
            "es-419",
            "zh-Hant",
            "zh-Hant-TW",
            "de-CH-1996",
            "sl-rozaj-biske",
        ] {
            assert_eq!(read(good).unwrap().unwrap(), good);
        }
        assert_eq!(read("pt_BR").unwrap().unwrap(), "pt-BR");
        assert_eq!(read("").unwrap(), None);
        for bad in [
            "e",
            "english",
            "en-",
            "-en",
            "en--US",
            "en US",
            "en-US-",
            "12",
            "en-U",
            "US-en-GB-x",
            "en-US-posix-toolongvariant",
            "de-CH-1996-1996-1996-1996-1996-1996-1",
            "fr;q=0.9",
            "日本",
        ] {
            let broken = read(bad).unwrap_err();
            assert_eq!(broken.rule.id, "locale_invalid", "{bad}");
            assert!(broken.words.contains("zh-Hant-TW"));
        }
        // In a slipped row anything may stand here.
        assert!(!read("hunter2").unwrap_err().words.contains("hunter2"));
    }
}
