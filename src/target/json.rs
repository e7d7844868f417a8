//! JSON objects of texts, written straight into a body.
//!
//! Two of them are written for every row. What is unusual in a text is left to `serde_json`; a text
//! without quotes, backslashes and control characters, which is nearly every one, is copied as it is
//! (RFC 8259, section 7, wants nothing else escaped). Names that this program gives are never
//! unusual.

use crate::model::words::{self, EACH, HIGH};

/// The name of a field: see [`name`].
#[derive(Clone, Copy)]
pub(super) struct Name(&'static str);

impl Name {
    /// Takes a name with what stands before and behind it in an object.
    pub(super) const fn of(joined: &'static str) -> Self {
        Self(joined)
    }
}

/// Makes the name of a field. It is copied in one piece, so it must be one that JSON does not escape.
macro_rules! name {
    ($name:literal) => {
        $crate::target::json::Name::of(concat!(",\"", $name, "\":"))
    };
}
pub(super) use name;

/// An object that is being written: names in the order of the calls.
pub(super) struct Object<'a> {
    out: &'a mut Vec<u8>,
    is_empty: bool,
}

impl Object<'_> {
    /// Writes an object at the end of `out`.
    pub(super) fn write(out: &mut Vec<u8>, fields: impl FnOnce(&mut Object<'_>)) {
        out.push(b'{');
        let is_empty = true;
        fields(&mut Object { out, is_empty });
        out.push(b'}');
    }

    /// Adds a text under a name of ours.
    #[inline]
    pub(super) fn text(&mut self, name: Name, value: &str) {
        self.name(name);
        put_text(self.out, value);
    }

    /// Adds a text under a name that somebody else gave.
    #[inline]
    pub(super) fn pair(&mut self, name: &str, value: &str) {
        self.separate();
        put_text(self.out, name);
        self.out.push(b':');
        put_text(self.out, value);
    }

    /// Adds a text if there is one.
    #[inline]
    pub(super) fn some(&mut self, name: Name, value: Option<&str>) {
        if let Some(value) = value {
            self.text(name, value);
        }
    }

    /// Adds a yes or no.
    pub(super) fn flag(&mut self, name: Name, value: bool) {
        self.name(name);
        let word: &[u8] = if value { b"true" } else { b"false" };
        self.out.extend_from_slice(word);
    }

    /// Adds a list of texts.
    pub(super) fn texts(&mut self, name: Name, values: &[String]) {
        self.name(name);
        self.out.push(b'[');
        for (at, value) in values.iter().enumerate() {
            if at > 0 {
                self.out.push(b',');
            }
            put_text(self.out, value);
        }
        self.out.push(b']');
    }

    /// Adds an object.
    pub(super) fn object(&mut self, name: Name, fields: impl FnOnce(&mut Object<'_>)) {
        self.name(name);
        Object::write(self.out, fields);
    }

    #[inline]
    fn name(&mut self, name: Name) {
        let Name(joined) = name;
        let is_first = std::mem::take(&mut self.is_empty);
        let joined = joined.as_bytes().get(usize::from(is_first)..);
        self.out.extend_from_slice(joined.unwrap_or_default());
    }

    #[inline]
    fn separate(&mut self) {
        if !std::mem::take(&mut self.is_empty) {
            self.out.push(b',');
        }
    }
}

#[inline]
fn put_text(out: &mut Vec<u8>, text: &str) {
    if is_odd(text) {
        return put_odd_text(out, text);
    }
    out.push(b'"');
    out.extend_from_slice(text.as_bytes());
    out.push(b'"');
}

/// Returns whether anything in a text has to be escaped. Eight bytes are looked at together.
#[inline]
fn is_odd(text: &str) -> bool {
    words::any(text.as_bytes(), |word| {
        // The highest bit of each byte tells what it is, and what is above ASCII is none of them.
        let low = word & !HIGH;
        let not_control = low + EACH * 0x60;
        let not_quote = (low ^ (EACH * u64::from(b'"'))) + EACH * 0x7f;
        let not_backslash = (low ^ (EACH * u64::from(b'\\'))) + EACH * 0x7f;
        !(not_control & not_quote & not_backslash | word)
    })
}

#[cold]
fn put_odd_text(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text)
        .unwrap_or_else(|_| unreachable!("texts are always JSON, and memory takes them"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn written(fields: impl FnOnce(&mut Object<'_>)) -> String {
        let mut out = b"before".to_vec();
        Object::write(&mut out, fields);
        String::from_utf8(out.split_off(6)).unwrap()
    }

    #[test]
    fn nothing_is_an_empty_object_and_an_empty_list() {
        assert_eq!(written(|_| {}), "{}");
        assert_eq!(
            written(|object| object.texts(name!("a"), &[])),
            r#"{"a":[]}"#
        );
        assert_eq!(
            written(|object| object.object(name!("a"), |_| {})),
            r#"{"a":{}}"#
        );
        assert_eq!(written(|object| object.some(name!("a"), None)), "{}");
    }

    proptest! {
        #[test]
        fn it_is_what_serde_json_writes(
            texts in prop::collection::vec(any::<String>(), 0..4),
            name in "[a-z_]{1,8}",
            text in any::<String>(),
            flag in any::<bool>(),
            control in prop::char::range('\0', '\u{7f}'),
        ) {
            let control = format!("a{control}b");
            let object = written(|object| {
                object.pair(&name, &text);
                object.some(name!("Control"), Some(&control));
                object.flag(name!("Flag"), flag);
                object.texts(name!("Texts"), &texts);
                object.object(name!("Inner"), |inner| {
                    for (at, value) in texts.iter().enumerate() {
                        inner.pair(&format!("{at}{value}"), value);
                    }
                });
            });
            let inner = texts.iter().enumerate();
            let inner = inner.map(|(at, value)| (format!("{at}{value}"), Value::from(value.as_str())));
            let inner = Value::Object(inner.collect());
            let expected = json!({name: text, "Control": control, "Flag": flag, "Texts": texts,
                "Inner": inner});
            prop_assert_eq!(object, expected.to_string());
        }
    }
}
