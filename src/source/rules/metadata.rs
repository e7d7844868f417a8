//! `metadata`: a flat JSON object, as the string pairs the target takes.
//!
//! Limits are the target's higher published ones: what lies between the two sets, its server
//! decides.

use super::catalog::{
    METADATA_DUPLICATE_KEY, METADATA_INVALID_JSON, METADATA_KEY_NOT_ASCII, METADATA_KEY_TOO_LONG,
    METADATA_NOT_OBJECT, METADATA_TOO_MANY_PAIRS, METADATA_VALUE_NESTED, METADATA_VALUE_NOT_ASCII,
    METADATA_VALUE_TOO_LONG,
};
use super::problem::Broken;
use compact_str::CompactString;
use serde::de::{Deserialize, Deserializer as _, Error, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;
use std::marker::PhantomData;

/// Most pairs: the target's specification.
pub(super) const PAIRS_MAX: usize = 50;
/// Most pairs according to the target's documentation.
pub(super) const PAIRS_DOCUMENTED: usize = 10;
/// Longest key in characters.
const KEY_CHARS_MAX: usize = 40;
/// Longest value in characters.
const VALUE_CHARS_MAX: usize = 600;

/// A key and its value as text.
pub(super) type Pair = (CompactString, CompactString);

/// Reads a trimmed cell. `null` values are left out: on an update they would delete a key.
pub(super) fn read(cell: &str) -> Result<Vec<Pair>, Broken> {
    if cell.is_empty() {
        return Ok(Vec::new());
    }
    // Nearly always every value is a text, and then each is read once.
    let pairs = match object::<CompactString>(cell) {
        Ok(pairs) => texts(pairs)?,
        Err(_) => scalars(&parse(cell)?)?,
    };
    if pairs.len() > PAIRS_MAX {
        let words = format!(
            "{} pairs are too many; at most {PAIRS_MAX} are allowed",
            pairs.len()
        );
        return Err(Broken::new(METADATA_TOO_MANY_PAIRS, words));
    }
    Ok(pairs)
}

/// Judges pairs whose values are all texts.
fn texts(pairs: Vec<Pair>) -> Result<Vec<Pair>, Broken> {
    for (index, (_, value)) in pairs.iter().enumerate() {
        check_key(&pairs, index)?;
        check_value(value, index + 1)?;
    }
    Ok(pairs)
}

/// Judges pairs of any values, and makes texts of them.
fn scalars(pairs: &[(CompactString, &RawValue)]) -> Result<Vec<Pair>, Broken> {
    let mut out = Vec::with_capacity(pairs.len());
    for (index, (key, value)) in pairs.iter().enumerate() {
        check_key(pairs, index)?;
        if let Some(value) = value_text(value, index + 1)? {
            out.push((key.clone(), value));
        }
    }
    Ok(out)
}

/// The pairs of an object as written, doubled keys included.
struct PairsVisitor<V>(PhantomData<V>);

impl<'de, V: Deserialize<'de>> Visitor<'de> for PairsVisitor<V> {
    type Value = Vec<(CompactString, V)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut pairs = Vec::new();
        while let Some(pair) = map.next_entry()? {
            if pairs.len() == READ_PAIRS_MAX {
                return Err(A::Error::custom("too many pairs"));
            }
            pairs.push(pair);
        }
        Ok(pairs)
    }
}

/// Pairs read before giving up: nulls are left out later, so it lies above [`PAIRS_MAX`].
const READ_PAIRS_MAX: usize = 200;

fn parse(cell: &str) -> Result<Vec<(CompactString, &RawValue)>, Broken> {
    if !cell.starts_with('{') {
        return Err(not_an_object(cell));
    }
    match object(cell) {
        Ok(pairs) => Ok(pairs),
        Err(error) if error.is_data() => Err(Broken::new(
            METADATA_TOO_MANY_PAIRS,
            format!("far more than the {PAIRS_MAX} pairs that are allowed"),
        )),
        Err(error) => Err(invalid(&error)),
    }
}

/// Reads an object whose values are of one kind.
fn object<'a, V: Deserialize<'a>>(cell: &'a str) -> serde_json::Result<Vec<(CompactString, V)>> {
    let mut json = serde_json::Deserializer::from_str(cell);
    let pairs = json.deserialize_map(PairsVisitor(PhantomData))?;
    json.end()?;
    Ok(pairs)
}

fn not_an_object(cell: &str) -> Broken {
    if let Err(error) = serde_json::from_str::<&RawValue>(cell) {
        return invalid(&error);
    }
    Broken::new(
        METADATA_NOT_OBJECT,
        "valid JSON, but not an object; write it like {\"department\":\"Sales\"}",
    )
}

/// Syntax errors of the JSON reader are fixed phrases with a place: nothing of the cell.
fn invalid(error: &serde_json::Error) -> Broken {
    let words = if error.is_syntax() || error.is_eof() {
        format!("not valid JSON ({error} of the cell)")
    } else {
        "not valid JSON".to_owned()
    };
    Broken::new(METADATA_INVALID_JSON, words)
}

/// Checks the key of a pair, given those before it.
fn check_key<V>(pairs: &[(CompactString, V)], index: usize) -> Result<(), Broken> {
    let Some((key, _)) = pairs.get(index) else {
        return Ok(());
    };
    let nth = index + 1;
    if !key.is_ascii() {
        return Err(Broken::new(
            METADATA_KEY_NOT_ASCII,
            format!("the key of pair {nth} is not ASCII; the target allows ASCII only"),
        ));
    }
    if key.len() > KEY_CHARS_MAX {
        let words = format!(
            "the key of pair {nth} has {} characters; at most {KEY_CHARS_MAX} are allowed",
            key.len()
        );
        return Err(Broken::new(METADATA_KEY_TOO_LONG, words));
    }
    // At most `READ_PAIRS_MAX` comparisons each, and rarely more than ten.
    let mut before = pairs.iter().take(index);
    if before.any(|(other, _)| other == key) {
        return Err(Broken::new(
            METADATA_DUPLICATE_KEY,
            format!("pair {nth} repeats an earlier key; every key may come once"),
        ));
    }
    Ok(())
}

/// Returns a value as text: numbers exactly as they were written, `null` as nothing.
fn value_text(value: &RawValue, nth: usize) -> Result<Option<CompactString>, Broken> {
    let raw = value.get();
    let text = match raw.as_bytes().first() {
        Some(b'{' | b'[') => {
            return Err(Broken::new(
                METADATA_VALUE_NESTED,
                format!(
                    "the value of pair {nth} is an object or an array; only text, numbers, true, false and null are allowed"
                ),
            ));
        }
        Some(b'n') => return Ok(None),
        Some(b'"') => serde_json::from_str(raw).map_err(|error| invalid(&error))?,
        _ => CompactString::from(raw),
    };
    check_value(&text, nth)?;
    Ok(Some(text))
}

fn check_value(text: &str, nth: usize) -> Result<(), Broken> {
    if !text.is_ascii() {
        return Err(Broken::new(
            METADATA_VALUE_NOT_ASCII,
            format!("the value of pair {nth} is not ASCII; the target allows ASCII only"),
        ));
    }
    if text.len() > VALUE_CHARS_MAX {
        let words = format!(
            "the value of pair {nth} has {} characters; at most {VALUE_CHARS_MAX} are allowed",
            text.len()
        );
        return Err(Broken::new(METADATA_VALUE_TOO_LONG, words));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(cell: &str) -> Vec<(String, String)> {
        let pairs = read(cell).unwrap().into_iter();
        pairs
            .map(|(key, value)| (key.into_string(), value.into_string()))
            .collect()
    }

    fn code(cell: &str) -> &'static str {
        read(cell).unwrap_err().rule.id
    }

    #[test]
    fn scalars_become_text_in_the_order_of_the_file() {
        let cell =
            r#"{"b":"x","a":12345678901234567890123,"c":1.10,"d":true,"e":null,"f":"\u0041\n"}"#;
        let got = pairs(cell);
        let want = [
            ("b", "x"),
            ("a", "12345678901234567890123"),
            ("c", "1.10"),
            ("d", "true"),
            ("f", "A\n"),
        ];
        assert_eq!(got.len(), want.len());
        for ((key, value), want) in got.iter().zip(want) {
            assert_eq!((key.as_str(), value.as_str()), want);
        }
    }

    /// Texts alone are read in another way.
    #[test]
    fn texts_read_alike_alone_and_beside_other_values() {
        for texts in [
            r#""a":"x","b":"","c":"\u0041 \"q\"""#,
            r#""a":"x","a":"x""#,
            r#""a":"é""#,
            r#""":"""#,
            r#""a":"x" "b":"x""#,
            r#""a":"\ud800""#,
        ] {
            let alone = read(&format!("{{{texts}}}")).map_err(|broken| broken.rule.id);
            let beside = format!(r#"{{{texts},"n":null}}"#);
            assert_eq!(
                alone,
                read(&beside).map_err(|broken| broken.rule.id),
                "{texts}"
            );
        }
    }

    #[test]
    fn nothing_is_no_metadata() {
        assert!(pairs("").is_empty());
        assert!(pairs("{}").is_empty());
        assert!(pairs(r#"{"a":null}"#).is_empty());
    }

    #[test]
    fn broken_json_is_told_apart_from_other_json() {
        assert_eq!(code("{\"a\":}"), "metadata_invalid_json");
        assert_eq!(code("{\"a\":1} x"), "metadata_invalid_json");
        assert_eq!(code("{'a':1}"), "metadata_invalid_json");
        assert_eq!(code("bob"), "metadata_invalid_json");
        assert_eq!(code("{\"a\":\"\\ud800\"}"), "metadata_invalid_json");
        assert_eq!(code("[1]"), "metadata_not_object");
        assert_eq!(code("\"x\""), "metadata_not_object");
        assert_eq!(code("null"), "metadata_not_object");
    }

    #[test]
    fn limits_hold_at_their_edges() {
        let key = |n: usize| format!("{{\"{}\":\"v\"}}", "k".repeat(n));
        assert_eq!(pairs(&key(40)).len(), 1);
        assert_eq!(code(&key(41)), "metadata_key_too_long");
        let value = |n: usize| format!("{{\"k\":\"{}\"}}", "v".repeat(n));
        assert_eq!(pairs(&value(600)).len(), 1);
        assert_eq!(code(&value(601)), "metadata_value_too_long");
        let many = |n: usize| {
            let pairs: Vec<String> = (0..n).map(|n| format!("\"k{n}\":1")).collect();
            format!("{{{}}}", pairs.join(","))
        };
        assert_eq!(pairs(&many(50)).len(), 50);
        assert_eq!(code(&many(51)), "metadata_too_many_pairs");
        assert_eq!(code(&many(5000)), "metadata_too_many_pairs");
        assert_eq!(code("{\"é\":1}"), "metadata_key_not_ascii");
        assert_eq!(code("{\"k\":\"é\"}"), "metadata_value_not_ascii");
        assert_eq!(code("{\"k\":[1]}"), "metadata_value_nested");
        assert_eq!(code("{\"k\":{}}"), "metadata_value_nested");
        assert_eq!(code("{\"k\":1,\"k\":2}"), "metadata_duplicate_key");
    }

    #[test]
    fn messages_show_nothing_of_the_cell() {
        for cell in [
            "{\"secret\":}",
            "secret",
            "{\"k\":[\"secret\"]}",
            "\"secret\"",
            "{\"secret\":1,\"secret\":1}",
            "{1:\"secret\"}",
            "{\"k\":\"\\qsecret\"}",
        ] {
            let broken = read(cell).unwrap_err();
            assert!(!broken.words.contains("secret"), "{}", broken.words);
        }
    }
}
