//! Request bodies: fields with the shapes the API demands.

use super::error::{ApiError, ApiResult};
use serde_json::{Map, Value};

/// Most pairs of a metadata object, as the specification says (the guide says 10).
const METADATA_PAIRS_MAX: usize = 50;
/// Longest metadata key, in characters.
const METADATA_KEY_CHARS_MAX: usize = 40;
/// Longest metadata value, in characters.
const METADATA_VALUE_CHARS_MAX: usize = 600;
/// Longest external id, as the specification says (the guide says 64).
const EXTERNAL_ID_CHARS_MAX: usize = 128;

/// A field that may be left out or set to null.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field<T> {
    /// Not in the body: leave as it is.
    Absent,
    /// `null`: clear.
    Null,
    /// A value.
    Set(T),
}

impl<T> Field<T> {
    /// Returns the value, if there is one.
    pub fn value(self) -> Option<T> {
        match self {
            Self::Absent | Self::Null => None,
            Self::Set(value) => Some(value),
        }
    }

    /// Returns what a field that was `old` is afterwards.
    pub fn or_keep(self, old: Option<T>) -> Option<T> {
        match self {
            Self::Absent => old,
            Self::Null => None,
            Self::Set(value) => Some(value),
        }
    }
}

/// A change of metadata: pairs to set (or to delete when `None`).
pub type MetadataPatch<'a> = Vec<(&'a str, Option<&'a str>)>;

/// The object of a request body.
#[derive(Debug)]
pub struct Fields(Map<String, Value>);

impl Fields {
    /// Reads a body. Its absence is an empty object.
    pub fn parse(body: &[u8]) -> ApiResult<Self> {
        if body.is_empty() {
            return Ok(Self(Map::new()));
        }
        match serde_json::from_slice(body) {
            Ok(Value::Object(map)) => Ok(Self(map)),
            Ok(_) => Err(ApiError::invalid("The body must be a JSON object.")),
            Err(_) => Err(ApiError::plain(400, "The body is not valid JSON.")),
        }
    }

    fn get(&self, name: &str) -> Field<&Value> {
        match self.0.get(name) {
            None => Field::Absent,
            Some(Value::Null) => Field::Null,
            Some(value) => Field::Set(value),
        }
    }

    /// Returns whether the field has a value.
    pub fn has(&self, name: &str) -> bool {
        matches!(self.get(name), Field::Set(_))
    }

    /// Returns a text without checking it, for the history.
    pub fn peek(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.as_str()
    }

    /// Returns a text.
    pub fn text(&self, name: &'static str) -> ApiResult<Field<&str>> {
        match self.get(name) {
            Field::Absent => Ok(Field::Absent),
            Field::Null => Ok(Field::Null),
            Field::Set(Value::String(text)) => Ok(Field::Set(text)),
            Field::Set(_) => Err(ApiError::invalid(format!("{name} must be a string."))),
        }
    }

    /// Returns a text that must be there and not blank.
    pub fn required(&self, name: &'static str) -> ApiResult<&str> {
        match self.text(name)? {
            Field::Set(text) if !text.trim().is_empty() => Ok(text),
            _ => Err(ApiError::invalid(format!("{name} must not be empty."))),
        }
    }

    /// Returns a boolean.
    pub fn flag(&self, name: &'static str) -> ApiResult<Field<bool>> {
        match self.get(name) {
            Field::Absent => Ok(Field::Absent),
            Field::Null => Ok(Field::Null),
            Field::Set(Value::Bool(flag)) => Ok(Field::Set(*flag)),
            Field::Set(_) => Err(ApiError::invalid(format!("{name} must be a boolean."))),
        }
    }

    /// Returns a list of texts.
    pub fn texts(&self, name: &'static str) -> ApiResult<Field<Vec<&str>>> {
        let wrong = || ApiError::invalid(format!("{name} must be an array of strings."));
        match self.get(name) {
            Field::Absent => Ok(Field::Absent),
            Field::Null => Ok(Field::Null),
            Field::Set(Value::Array(items)) => {
                let texts: Option<Vec<&str>> = items.iter().map(Value::as_str).collect();
                texts.map(Field::Set).ok_or_else(wrong)
            }
            Field::Set(_) => Err(wrong()),
        }
    }

    /// Returns objects of a list, each as fields of its own.
    pub fn objects(&self, name: &'static str) -> ApiResult<Vec<Self>> {
        let wrong = || ApiError::invalid(format!("{name} must be an array of objects."));
        let Field::Set(list) = self.get(name) else {
            return Ok(Vec::new());
        };
        let items = list.as_array().ok_or_else(wrong)?;
        let maps = items.iter().map(|item| item.as_object().cloned().map(Self));
        maps.collect::<Option<_>>().ok_or_else(wrong)
    }

    /// Returns the id in the source system: ASCII, 1 to 128 characters.
    pub fn external_id(&self) -> ApiResult<Field<&str>> {
        let field = self.text("external_id")?;
        if let Field::Set(text) = field
            && (text.is_empty() || text.len() > EXTERNAL_ID_CHARS_MAX || !text.is_ascii())
        {
            return Err(ApiError::invalid(format!(
                "external_id must be 1 to {EXTERNAL_ID_CHARS_MAX} ASCII characters."
            )));
        }
        Ok(field)
    }

    /// Returns the change of metadata.
    pub fn metadata(&self) -> ApiResult<Field<MetadataPatch<'_>>> {
        let map = match self.get("metadata") {
            Field::Absent => return Ok(Field::Absent),
            Field::Null => return Ok(Field::Null),
            Field::Set(Value::Object(map)) => map,
            Field::Set(_) => return Err(bad_metadata("metadata must be an object.")),
        };
        let pairs = map.iter().map(|(key, value)| metadata_pair(key, value));
        pairs.collect::<ApiResult<_>>().map(Field::Set)
    }
}

fn metadata_pair<'a>(key: &'a str, value: &'a Value) -> ApiResult<(&'a str, Option<&'a str>)> {
    if key.is_empty() || key.len() > METADATA_KEY_CHARS_MAX || !key.is_ascii() {
        return Err(bad_metadata(format!(
            "metadata keys must be 1 to {METADATA_KEY_CHARS_MAX} ASCII characters."
        )));
    }
    match value {
        Value::Null => Ok((key, None)),
        Value::String(text) if text.len() <= METADATA_VALUE_CHARS_MAX && text.is_ascii() => {
            Ok((key, Some(text)))
        }
        _ => Err(bad_metadata(format!(
            "metadata values must be strings of at most {METADATA_VALUE_CHARS_MAX} ASCII characters."
        ))),
    }
}

fn bad_metadata(message: impl Into<String>) -> ApiError {
    ApiError::bad("invalid_metadata", message)
}

/// Merges a change into metadata: key by key, null deletes a key, an empty object deletes all.
pub fn merge_metadata<'a>(
    old: Vec<(&'a str, &'a str)>,
    patch: Field<MetadataPatch<'a>>,
) -> ApiResult<Vec<(&'a str, &'a str)>> {
    let patch = match patch {
        Field::Absent => return Ok(old),
        Field::Null => return Ok(Vec::new()),
        Field::Set(patch) if patch.is_empty() => return Ok(Vec::new()),
        Field::Set(patch) => patch,
    };
    let mut merged = old;
    for (key, value) in patch {
        let place = merged.iter().position(|(known, _)| *known == key);
        match (place, value) {
            (Some(place), Some(value)) => {
                if let Some(pair) = merged.get_mut(place) {
                    pair.1 = value;
                }
            }
            (Some(place), None) => {
                merged.remove(place);
            }
            (None, Some(value)) => merged.push((key, value)),
            (None, None) => {}
        }
    }
    if merged.len() > METADATA_PAIRS_MAX {
        return Err(bad_metadata(format!(
            "metadata may hold at most {METADATA_PAIRS_MAX} pairs."
        )));
    }
    Ok(merged)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(json: &str) -> Fields {
        Fields::parse(json.as_bytes()).unwrap()
    }

    fn merged(old: &[(&'static str, &'static str)], patch: &str) -> Result<String, &'static str> {
        let fields = fields(&format!(r#"{{"metadata":{patch}}}"#));
        let metadata = fields.metadata().map_err(|error| error.code.unwrap());
        let pairs = merge_metadata(old.to_vec(), metadata?).map_err(|error| error.code.unwrap())?;
        let words: Vec<String> = pairs.iter().map(|(k, v)| format!("{k}={v}")).collect();
        Ok(words.join(" "))
    }

    #[test]
    fn metadata_merges_key_by_key() {
        let old = [("a", "1"), ("b", "2")];
        assert_eq!(merged(&old, r#"{"b":"3","c":"4"}"#).unwrap(), "a=1 b=3 c=4");
        assert_eq!(merged(&old, r#"{"a":null,"z":null}"#).unwrap(), "b=2");
        assert_eq!(merged(&old, "{}").unwrap(), "");
        assert_eq!(merged(&old, "null").unwrap(), "");
    }

    #[test]
    fn metadata_out_of_shape_is_refused() {
        let long = "k".repeat(41);
        let many: Vec<String> = (0..51).map(|n| format!("\"k{n}\":\"v\"")).collect();
        for bad in [
            "[]".to_owned(),
            "7".to_owned(),
            r#"{"a":1}"#.to_owned(),
            r#"{"":"x"}"#.to_owned(),
            r#"{"é":"x"}"#.to_owned(),
            r#"{"a":"é"}"#.to_owned(),
            format!(r#"{{"{long}":"x"}}"#),
            format!(r#"{{"a":"{}"}}"#, "v".repeat(601)),
            format!("{{{}}}", many.join(",")),
        ] {
            assert_eq!(merged(&[], &bad), Err("invalid_metadata"), "{bad}");
        }
    }

    #[test]
    fn wrong_types_are_named() {
        let fields = fields(r#"{"email":7,"flag":"yes","list":["a",1],"external_id":""}"#);
        assert!(
            fields
                .text("email")
                .unwrap_err()
                .message
                .starts_with("email must be a string")
        );
        assert!(fields.flag("flag").is_err());
        assert!(fields.texts("list").is_err());
        assert_eq!(fields.external_id().unwrap_err().status, 422);
        assert!(fields.required("nothing").is_err());
        assert_eq!(Fields::parse(b"{").unwrap_err().status, 400);
        assert_eq!(Fields::parse(b"[]").unwrap_err().status, 422);
    }
}
