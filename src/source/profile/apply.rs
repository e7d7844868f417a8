//! Computing a record's cells: pure, one cell at a time.

use super::plan::{Filter, Is, Output, Piece, Plan, Rule, Take, Test};
use super::spec::Part;
use std::borrow::Cow;

/// What separates the items of a list in a cell.
const LIST_SIGNS: [char; 3] = [',', ';', '|'];

impl Plan {
    /// Returns how many columns it makes.
    pub fn len(&self) -> usize {
        self.outputs.len()
    }

    /// Returns whether it makes none.
    pub fn is_empty(&self) -> bool {
        self.outputs.is_empty()
    }

    /// Returns the names of the columns it makes, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.outputs.iter().map(|output| output.name.as_str())
    }

    /// Computes the cell of column `index`; `raw` returns a cell of the record, unescaped.
    pub fn value<'a>(&self, index: usize, raw: &dyn Fn(usize) -> Cow<'a, str>) -> Cow<'a, str> {
        let Some(output) = self.outputs.get(index) else {
            return Cow::Borrowed("");
        };
        match &self.cell_prefix {
            None => output.value(raw),
            Some(prefix) => output.value(&|cell| without(raw(cell), prefix)),
        }
    }
}

impl Output {
    fn value<'a>(&self, raw: &dyn Fn(usize) -> Cow<'a, str>) -> Cow<'a, str> {
        let rule = &self.rule;
        if !rule.when.iter().all(|test| test.holds(raw)) {
            return Cow::Borrowed("");
        }
        rule.after(rule.take.value(raw))
    }
}

impl Rule {
    /// What happens to a text on its way.
    fn after<'a>(&self, mut text: Cow<'a, str>) -> Cow<'a, str> {
        if let Some(prefix) = &self.strip {
            text = without(text, prefix);
        }
        if self.lower {
            text = Cow::Owned(text.to_lowercase());
        }
        let same = |(from, _): &&(String, String)| same(from, &text);
        if let Some((_, to)) = self.words.iter().find(same) {
            text = Cow::Owned(to.clone());
        }
        match &self.default {
            Some(default) if text.trim().is_empty() => Cow::Owned(default.clone()),
            Some(_) | None => text,
        }
    }
}

impl Take {
    fn value<'a>(&self, raw: &dyn Fn(usize) -> Cow<'a, str>) -> Cow<'a, str> {
        match self {
            Self::First(cells) => first(cells, raw),
            Self::Constant(text) => Cow::Owned(text.clone()),
            Self::Template(pieces) => Cow::Owned(filled(pieces, raw)),
            Self::Join(cells, with) => Cow::Owned(joined(cells, with, raw)),
            Self::Split(cell, part) => Cow::Owned(half(&raw(*cell), *part).to_owned()),
            Self::FirstOrHalf(cells, whole, part) => {
                let found = first(cells, raw);
                if found.trim().is_empty() {
                    Cow::Owned(half(&raw(*whole), *part).to_owned())
                } else {
                    found
                }
            }
            Self::Listed(item, list) => Cow::Borrowed(listed(&raw(*item), &raw(*list))),
            Self::Object(members) => Cow::Owned(object(members, raw)),
            Self::Reason(rules) => {
                let holds = |(_, tests): &&(String, Vec<Test>)| tests.iter().all(|t| t.holds(raw));
                let reason = rules.iter().find(holds).map(|(reason, _)| reason.clone());
                Cow::Owned(reason.unwrap_or_default())
            }
        }
    }
}

impl Test {
    fn holds<'a>(&self, raw: &dyn Fn(usize) -> Cow<'a, str>) -> bool {
        let cell = self.cell.map(raw).unwrap_or_default();
        let cell = cell.trim();
        let is_in = |texts: &[String]| texts.iter().any(|text| same(text, cell));
        match &self.is {
            Is::OneOf(texts) => is_in(texts),
            Is::NoneOf(texts) => !is_in(texts),
            Is::Blank(blank) => cell.is_empty() == *blank,
            Is::StartsWith(texts) => texts.iter().any(|text| cell.starts_with(text.as_str())),
        }
    }
}

fn without<'a>(text: Cow<'a, str>, prefix: &str) -> Cow<'a, str> {
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.strip_prefix(prefix).unwrap_or(text)),
        Cow::Owned(text) => match text.strip_prefix(prefix) {
            Some(rest) => Cow::Owned(rest.to_owned()),
            None => Cow::Owned(text),
        },
    }
}

fn same(a: &str, b: &str) -> bool {
    a.trim().to_lowercase() == b.trim().to_lowercase()
}

fn first<'a>(cells: &[usize], raw: &dyn Fn(usize) -> Cow<'a, str>) -> Cow<'a, str> {
    let values = cells.iter().map(|cell| raw(*cell));
    let mut filled = values.filter(|value| !value.trim().is_empty());
    filled.next().unwrap_or_default()
}

/// Fills a template; one whose columns are all blank is blank, whatever it says besides.
fn filled<'a>(pieces: &[Piece], raw: &dyn Fn(usize) -> Cow<'a, str>) -> String {
    let mut out = String::new();
    let mut blank = true;
    for piece in pieces {
        match piece {
            Piece::Text(text) => out.push_str(text),
            Piece::Cell(cell, filter) => {
                let cell = raw(*cell);
                let cell = cell.trim();
                blank &= cell.is_empty();
                match filter {
                    None => out.push_str(cell),
                    Some(Filter::Lower) => out.push_str(&cell.to_lowercase()),
                    Some(Filter::Unpadded) => out.push_str(cell.trim_end_matches('=')),
                }
            }
            Piece::Blank => {}
        }
    }
    if blank {
        String::new()
    } else {
        out.trim().to_owned()
    }
}

fn joined<'a>(cells: &[usize], with: &str, raw: &dyn Fn(usize) -> Cow<'a, str>) -> String {
    let values: Vec<Cow<'_, str>> = cells.iter().map(|cell| raw(*cell)).collect();
    let texts = values.iter().map(|value| value.trim());
    let texts: Vec<&str> = texts.filter(|text| !text.is_empty()).collect();
    texts.join(with)
}

/// Returns half of a whole name. An address is no name: products put it where a name is missing.
fn half(name: &str, part: Part) -> &str {
    let name = name.trim();
    if name.contains('@') {
        return "";
    }
    let (first, last) = match name.split_once(',') {
        Some((last, first)) => (first, last),
        None => name.split_once(char::is_whitespace).unwrap_or((name, "")),
    };
    match part {
        Part::First => first.trim(),
        Part::Last => last.trim(),
    }
}

/// Returns whether `item` is in `list`, as the words of a boolean; blank when there is no item.
fn listed(item: &str, list: &str) -> &'static str {
    if item.trim().is_empty() {
        return "";
    }
    let is_sign = |c: char| LIST_SIGNS.contains(&c) || c.is_whitespace();
    let around = |text: &str| text.trim_matches(['[', ']', '"', '\'']).to_owned();
    if list.split(is_sign).any(|one| same(&around(one), item)) {
        "true"
    } else {
        "false"
    }
}

fn object<'a>(members: &[(String, usize)], raw: &dyn Fn(usize) -> Cow<'a, str>) -> String {
    let mut map = serde_json::Map::new();
    for (key, cell) in members {
        let value = raw(*cell);
        if !value.trim().is_empty() {
            map.insert(key.clone(), value.trim().into());
        }
    }
    if map.is_empty() {
        String::new()
    } else {
        serde_json::Value::Object(map).to_string()
    }
}
