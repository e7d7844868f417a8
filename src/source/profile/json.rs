//! Records out of JSON: lines of objects, one array of them, or the array that is one member of
//! an object. One record is in memory at a time.

use crate::source::error::SourceError;
use crate::source::records::RECORD_BYTES_MAX;
use serde::de::{
    DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, BufRead, Read};

/// Bytes taken from the text at once.
const BLOCK_BYTES: usize = 64 << 10;

/// A record: the members of an object.
pub(super) type Record = Map<String, Value>;

/// What the beginning of a JSON text tells.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Shape {
    /// Members of the first record, when records stand by themselves or in one array.
    pub(super) names: Vec<String>,
    /// Members of the first record of every array that is a member of one object.
    pub(super) members: BTreeMap<String, Vec<String>>,
}

impl Shape {
    /// Looks at the beginning of a text; `None` when it is no JSON of records.
    pub(super) fn of(head: &str) -> Option<Self> {
        if !head.trim_start().starts_with(['{', '[']) {
            return None;
        }
        let mut shape = Self::default();
        // The text is cut somewhere: what was seen before counts.
        let _cut = Top(&mut shape).deserialize(&mut serde_json::Deserializer::from_str(head));
        (!shape.names.is_empty()).then_some(shape)
    }

    /// Returns the names of a record's members, in the array of that name or by itself.
    pub(super) fn record(&self, member: Option<&str>) -> &[String] {
        let in_array = member.and_then(|member| self.members.get(member));
        in_array.unwrap_or(&self.names)
    }
}

struct Top<'a>(&'a mut Shape);

impl<'de> DeserializeSeed<'de> for Top<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Top<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object or an array of objects")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<String>()? {
            let mut names = Vec::new();
            self.0.names.push(name.clone());
            let read = map.next_value_seed(Names {
                names: &mut names,
                in_array: false,
            });
            if !names.is_empty() {
                self.0.members.insert(name, names);
            }
            read?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        seq.next_element_seed(Names {
            names: &mut self.0.names,
            in_array: true,
        })?;
        Err(A::Error::custom("enough"))
    }
}

/// Notes the names of the first object of an array, or of an object in one.
struct Names<'a> {
    names: &'a mut Vec<String>,
    in_array: bool,
}

impl<'de> DeserializeSeed<'de> for Names<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Names<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<String>()? {
            if self.in_array {
                self.names.push(name);
            }
            map.next_value::<IgnoredAny>()?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        if self.in_array {
            while seq.next_element::<IgnoredAny>()?.is_some() {}
            return Ok(());
        }
        seq.next_element_seed(Names {
            names: self.names,
            in_array: true,
        })?;
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

/// Calls `visit` with every record of the text; `member` holds the records of a text that is one
/// object.
pub(super) fn each(
    text: &mut dyn BufRead,
    member: Option<&str>,
    visit: &mut dyn FnMut(Record) -> Result<(), SourceError>,
) -> Result<(), SourceError> {
    let first = first_sign(text)?;
    let left = Cell::new(RECORD_BYTES_MAX);
    let text = Bounded {
        text,
        block: Vec::new(),
        at: 0,
        left: &left,
    };
    let mut failed = None;
    let mut visit = |record: Record| {
        left.set(RECORD_BYTES_MAX);
        visit(record).map_err(|error| {
            failed = Some(error);
            serde_json::Error::custom("stopped")
        })
    };
    let mut json = serde_json::Deserializer::from_reader(text);
    let read = match (first, member) {
        (Some(b'['), _) => Items(&mut visit)
            .deserialize(&mut json)
            .and_then(|()| json.end()),
        (_, Some(member)) => {
            let array = Member {
                member,
                visit: &mut visit,
            };
            array.deserialize(&mut json).and_then(|()| json.end())
        }
        (_, None) => json
            .into_iter::<Record>()
            .try_for_each(|record| visit(record?)),
    };
    match (failed, read) {
        (Some(error), _) => Err(error),
        (None, Err(error)) => Err(told(error)),
        (None, Ok(())) => Ok(()),
    }
}

fn told(error: serde_json::Error) -> SourceError {
    let line = error.line() as u64;
    match error.io_error_kind() {
        Some(io::ErrorKind::InvalidData) => {
            let what = "the record is longer than 4 MiB";
            return SourceError::Json { line, what };
        }
        Some(_) => return SourceError::Read(error.into()),
        None => {}
    }
    // The parser's own words: they hold no value but of the names we ask for.
    SourceError::Json {
        line,
        what: match error.classify() {
            serde_json::error::Category::Eof => "the text ends inside a record",
            serde_json::error::Category::Data => {
                "a record is not an object, or there is no array of records"
            }
            serde_json::error::Category::Syntax | serde_json::error::Category::Io => {
                "this is not JSON"
            }
        },
    }
}

/// Returns the first byte that is no white space, and steps over what precedes it.
fn first_sign(text: &mut dyn BufRead) -> Result<Option<u8>, SourceError> {
    const MARK: &[u8] = "\u{feff}".as_bytes();
    loop {
        let block = text.fill_buf().map_err(SourceError::Read)?;
        if block.is_empty() {
            return Ok(None);
        }
        if block.starts_with(MARK) {
            text.consume(MARK.len());
            continue;
        }
        let blank = block
            .iter()
            .take_while(|byte| byte.is_ascii_whitespace())
            .count();
        let found = block.get(blank).copied();
        text.consume(blank);
        if found.is_some() {
            return Ok(found);
        }
    }
}

/// A text of which one record may only take so much.
struct Bounded<'a> {
    text: &'a mut dyn BufRead,
    block: Vec<u8>,
    at: usize,
    left: &'a Cell<usize>,
}

impl Read for Bounded<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.block.len() {
            let block = self.text.fill_buf()?;
            let block = block.get(..BLOCK_BYTES).unwrap_or(block);
            self.block.clear();
            self.block.extend_from_slice(block);
            self.at = 0;
            let taken = self.block.len();
            self.text.consume(taken);
        }
        let rest = self.block.get(self.at..).unwrap_or_default();
        let length = rest.len().min(buffer.len());
        let left = self.left.get().checked_sub(length);
        self.left.set(left.ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                "a JSON record is longer than 4 MiB",
            )
        })?);
        let (to, _) = buffer.split_at_mut(length);
        to.copy_from_slice(rest.get(..length).unwrap_or_default());
        self.at += length;
        Ok(length)
    }
}

type Visit<'a> = dyn FnMut(Record) -> Result<(), serde_json::Error> + 'a;

/// The items of an array.
struct Items<'a, 'b>(&'a mut Visit<'b>);

impl<'de> DeserializeSeed<'de> for Items<'_, '_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Items<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of records")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while let Some(record) = seq.next_element::<Record>()? {
            (self.0)(record).map_err(A::Error::custom)?;
        }
        Ok(())
    }
}

/// The array that is a member of one object.
struct Member<'a, 'b> {
    member: &'a str,
    visit: &'a mut Visit<'b>,
}

impl<'de> DeserializeSeed<'de> for Member<'_, '_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Member<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object with the records in {}", self.member)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut found = false;
        while let Some(name) = map.next_key::<String>()? {
            if name == self.member {
                found = true;
                map.next_value_seed(Items(&mut *self.visit))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        if found {
            Ok(())
        } else {
            Err(A::Error::custom("no array of records"))
        }
    }
}

/// Returns the text of a record's member, or of one inside it: `a.b` and `a[0].b`.
pub(super) fn cell<'a>(record: &'a Record, path: &str) -> Cow<'a, str> {
    let value = record.get(path).or_else(|| inside(record, path));
    match value.or_else(|| alike(record, path)) {
        None | Some(Value::Null) => Cow::Borrowed(""),
        Some(Value::String(text)) => Cow::Borrowed(text),
        Some(other) => Cow::Owned(other.to_string()),
    }
}

/// Finds a member as the columns of a header are found.
fn alike<'a>(record: &'a Record, name: &str) -> Option<&'a Value> {
    let mut members = record.iter();
    let found = members.find(|(member, _)| super::same_name(member, name));
    found.map(|(_, value)| value)
}

fn inside<'a>(record: &'a Record, path: &str) -> Option<&'a Value> {
    let mut steps = path
        .split(['.', '['])
        .map(|step| step.trim_end_matches(']'));
    let mut value = record.get(steps.next()?)?;
    for step in steps {
        value = match value {
            Value::Array(items) => items.get(step.parse::<usize>().ok()?)?,
            other => other.get(step)?,
        };
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &str, member: Option<&str>) -> Result<Vec<String>, SourceError> {
        let mut out = Vec::new();
        // A small buffer, as a slow source may give.
        let mut reader = io::BufReader::with_capacity(5, text.as_bytes());
        each(&mut reader, member, &mut |record| {
            out.push(cell(&record, "a").into_owned());
            Ok(())
        })?;
        Ok(out)
    }

    #[test]
    fn a_member_is_found_as_written_and_else_as_a_header_would_be() {
        let record = serde_json::json!({"Given Name": "x", "given_name": "y", "a": {"b": [1]}, "E-Mail": "z"});
        let record = record.as_object().unwrap();
        for (path, expected) in [
            ("given_name", "y"),
            ("Given Name", "x"),
            ("email", "z"),
            ("a.b[0]", "1"),
            ("A.b[0]", ""),
            ("c", ""),
        ] {
            assert_eq!(cell(record, path), expected, "{path}");
        }
    }

    #[test]
    fn records_stand_in_lines_in_an_array_or_in_a_member() {
        let expected = vec!["1".to_owned(), "x".to_owned()];
        for (text, member) in [
            ("{\"a\":1}\n{\"a\":\"x\"}\n", None),
            ("\u{feff} {\"a\":1}\r\n\r\n{\"a\":\"x\"}", None),
            ("[{\"a\":1},{\"a\":\"x\"}]", None),
            ("[{\"a\":1},{\"a\":\"x\"}]\n", Some("users")),
            (
                "{\"kind\":{\"users\":[]},\"users\":[{\"a\":1},\n{\"a\":\"x\"}]}\n",
                Some("users"),
            ),
        ] {
            assert_eq!(all(text, member).unwrap(), expected, "{text}");
        }
        assert_eq!(all("", None).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn what_is_no_record_is_refused_with_its_line() {
        for (text, member, line) in [
            ("{\"a\":1}\n{\"a\":\n", None, 3),
            ("{\"a\":1}\n\"x\"\n", None, 2),
            ("{\"a\":1}\n{a}\n", None, 2),
            ("{\"b\":[]}", Some("users"), 1),
            ("[{\"a\":1}] x", None, 1),
        ] {
            match all(text, member).unwrap_err() {
                SourceError::Json { line: told, .. } => assert_eq!(told, line, "{text}"),
                other => panic!("{text}: {other:?}"),
            }
        }
        let long = format!("{{\"a\":\"{}\"}}", "x".repeat(RECORD_BYTES_MAX));
        let error = all(&long, None).unwrap_err();
        assert!(error.to_string().contains("longer than 4 MiB"), "{error}");
    }

    #[test]
    fn cells_are_found_inside_and_shown_as_text() {
        let record: Record = serde_json::from_str(
            r#"{"a.b":"flat","_id":{"$oid":"5"},"ids":[{"c":true}],"n":null,"o":{"k":1.5}}"#,
        )
        .unwrap();
        for (path, expected) in [
            ("a.b", "flat"),
            ("_id.$oid", "5"),
            ("ids[0].c", "true"),
            ("ids[1].c", ""),
            ("n", ""),
            ("o", "{\"k\":1.5}"),
            ("o.k", "1.5"),
            ("x.y", ""),
        ] {
            assert_eq!(cell(&record, path), expected, "{path}");
        }
    }

    #[test]
    fn the_beginning_of_a_text_tells_its_shape() {
        let names = |list: &[&str]| list.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        let shape = Shape::of("{\"users\":[{\"localId\":\"a\",\"x\":{\"y\":1}},{\"lo").unwrap();
        assert_eq!(shape.record(Some("users")), names(&["localId", "x"]));
        let shape = Shape::of(" {\"user_id\":\"a\",\"email\":[1]}\n{\"us").unwrap();
        assert_eq!(shape.record(None), names(&["user_id", "email"]));
        assert_eq!(shape.record(Some("users")), names(&["user_id", "email"]));
        let shape = Shape::of("[{\"user_id\":\"a\",\"email\":\"b").unwrap();
        assert_eq!(shape.record(None), names(&["user_id", "email"]));
        assert_eq!(Shape::of("email,first_name\n"), None);
        assert_eq!(Shape::of("[1,2]"), None);
    }
}
