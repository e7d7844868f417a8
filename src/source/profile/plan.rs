//! A profile bound to a header: names have become positions.

use super::spec::{Condition, Part, Profile, RuleTable};
use super::{SKIP_COLUMN, plain};
use crate::source::header::KNOWN;
use serde::{Deserialize, Serialize};

/// What a record's cells become: the columns of ours, in order, each with its rule.
///
/// It travels to workers and is stored with the job; it holds positions and texts of the profile,
/// never a cell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The profile's id.
    pub profile: String,
    /// What people call the export.
    pub name: String,
    /// What every cell of the export begins with and loses.
    pub(super) cell_prefix: Option<String>,
    /// The columns it makes.
    pub(super) outputs: Vec<Output>,
}

/// One column that is made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Output {
    /// Its name.
    pub(super) name: String,
    /// How it is made.
    pub(super) rule: Rule,
}

/// How a cell is made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Rule {
    pub(super) take: Take,
    pub(super) when: Vec<Test>,
    pub(super) strip: Option<String>,
    pub(super) lower: bool,
    pub(super) words: Vec<(String, String)>,
    pub(super) default: Option<String>,
}

/// Where a cell comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Take {
    /// The first of these cells that is not blank.
    First(Vec<usize>),
    /// A constant.
    Constant(String),
    /// Texts and cells.
    Template(Vec<Piece>),
    /// Cells that are not blank, with a text between them.
    Join(Vec<usize>, String),
    /// Half of a name.
    Split(usize, Part),
    /// The first of these cells that is not blank, or else half of a name.
    FirstOrHalf(Vec<usize>, usize, Part),
    /// Whether a cell is in another cell's list.
    Listed(usize, usize),
    /// A JSON object of cells that are not blank.
    Object(Vec<(String, usize)>),
    /// The reason of the first rule whose tests hold.
    Reason(Vec<(String, Vec<Test>)>),
}

/// A piece of a template.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Piece {
    Text(String),
    Cell(usize, Option<Filter>),
    /// A column that the header lacks.
    Blank,
}

/// What happens to a cell in a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Filter {
    /// Letters become small.
    Lower,
    /// Base 64 loses its padding.
    Unpadded,
}

/// A test of a cell; a cell that the header lacks is blank.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Test {
    pub(super) cell: Option<usize>,
    pub(super) is: Is,
}

/// What a cell must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Is {
    OneOf(Vec<String>),
    NoneOf(Vec<String>),
    Blank(bool),
    StartsWith(Vec<String>),
}

/// A header lacks a column that a profile needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnboundColumn {
    /// The column that is missing.
    pub missing: String,
    /// The column of ours that wants it; `None`: a condition does.
    pub wanted_by: Option<String>,
}

impl Profile {
    /// Binds the profile to a header. Columns of ours that the header has and the profile does
    /// not make are carried as they are.
    pub fn bind(&self, names: &[String]) -> Result<Plan, UnboundColumn> {
        self.bind_mapped(names, names, &[])
    }

    /// The same for a header whose columns `maps` makes columns of ours, in place of what the
    /// profile says of those. `own` are its names before, by which conditions still find them: a
    /// row that is left out is left out whatever a column is called.
    pub fn bind_mapped(
        &self,
        names: &[String],
        own: &[String],
        maps: &[(&str, usize)],
    ) -> Result<Plan, UnboundColumn> {
        let all_plain = |names: &[String]| names.iter().map(|name| plain(name)).collect();
        let binder = Binder {
            names: all_plain(names),
            own: all_plain(own),
            optional: self.optional,
        };
        let mut outputs = Vec::new();
        for known in KNOWN {
            if let Some((_, cell)) = maps.iter().find(|(name, _)| name == known) {
                outputs.push(Output {
                    name: (*known).to_owned(),
                    rule: Rule::plain(Take::First(vec![*cell])),
                });
                continue;
            }
            let rule = self.columns.iter().find(|(name, _)| name == known);
            let bound = match rule {
                Some((_, rule)) => binder.rule(known, rule)?,
                None => None,
            };
            // `email` is never taken from elsewhere than its rule says.
            let own = || binder.find(known).filter(|_| rule.is_none());
            let bound = bound.or_else(|| own().map(|cell| Rule::plain(Take::First(vec![cell]))));
            outputs.extend(bound.map(|rule| Output {
                name: (*known).to_owned(),
                rule,
            }));
        }
        outputs.extend(self.skip(&binder)?);
        Ok(Plan {
            profile: self.id.clone(),
            name: self.name.clone(),
            cell_prefix: self.cell_prefix.clone(),
            outputs,
        })
    }

    /// Returns whether a rule of the profile makes the column `known` of a header with these
    /// names, or looks at its cell `cell`.
    pub fn claims(&self, names: &[String], known: &str, cell: usize) -> bool {
        let Ok(plan) = self.bind(names) else {
            return false;
        };
        let by_rule = |output: &&Output| self.columns.iter().any(|(name, _)| *name == output.name);
        let claims = |output: &Output| output.name == known || output.cells().contains(&cell);
        plan.outputs.iter().filter(by_rule).any(claims)
            || plan
                .outputs
                .iter()
                .any(|output| output.name == SKIP_COLUMN && output.cells().contains(&cell))
    }

    fn skip(&self, binder: &Binder) -> Result<Option<Output>, UnboundColumn> {
        let mut reasons = Vec::with_capacity(self.drop.len());
        for rule in &self.drop {
            reasons.push((rule.reason.clone(), binder.tests(None, &rule.when)?));
        }
        // A file of ours that is mapped once more keeps what it said.
        let rule = match (reasons.is_empty(), binder.find(SKIP_COLUMN)) {
            (true, None) => return Ok(None),
            (true, Some(cell)) => Take::First(vec![cell]),
            (false, _) => Take::Reason(reasons),
        };
        Ok(Some(Output {
            name: SKIP_COLUMN.to_owned(),
            rule: Rule::plain(rule),
        }))
    }

    /// Returns every column that the profile looks at, each once.
    pub fn looks_at(&self) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        let mut add = |name: &String| {
            if !names.contains(name) {
                names.push(name.clone());
            }
        };
        let rules = self.columns.iter().map(|(_, rule)| rule);
        for rule in rules {
            rule.from.iter().chain(&rule.join).for_each(&mut add);
            rule.split.iter().for_each(&mut add);
            if let Some(listed) = &rule.listed {
                add(&listed.column);
                add(&listed.among);
            }
            rule.object
                .iter()
                .flat_map(|o| o.values())
                .for_each(&mut add);
            rule.when.iter().for_each(|test| add(&test.column));
            // The text was checked when it was read.
            for piece in rule.template.iter().flat_map(|text| pieces(text)).flatten() {
                if let Named::Column(name, _) = piece {
                    add(&name);
                }
            }
        }
        let drops = self.drop.iter().flat_map(|rule| &rule.when);
        drops.for_each(|test| add(&test.column));
        names
    }
}

impl Test {
    /// Returns whether it wants something of a column that the header lacks.
    fn never_holds(&self) -> bool {
        self.cell.is_none() && self.is == Is::Blank(false)
    }
}

impl Plan {
    /// Returns whether the column `name` of ours is made of a cell.
    pub fn takes(&self, name: &str, cell: usize) -> bool {
        let mut outputs = self.outputs.iter();
        outputs.any(|output| output.name == name && output.cells().contains(&cell))
    }

    /// The same for records whose cells begin with nothing of the writer's.
    #[must_use]
    pub fn without_prefix(self) -> Self {
        Self {
            cell_prefix: None,
            ..self
        }
    }
}

impl Rule {
    fn plain(take: Take) -> Self {
        Self {
            take,
            when: Vec::new(),
            strip: None,
            lower: false,
            words: Vec::new(),
            default: None,
        }
    }
}

/// Finds columns by name.
struct Binder {
    names: Vec<String>,
    /// The header's names before `--map` changed them.
    own: Vec<String>,
    optional: bool,
}

impl Binder {
    fn find(&self, name: &str) -> Option<usize> {
        let name = plain(name);
        self.names.iter().position(|other| *other == name)
    }

    /// Finds a column; `None` when it may be missing and is.
    fn seek(&self, wanted_by: Option<&str>, name: &str) -> Result<Option<usize>, UnboundColumn> {
        match self.find(name) {
            None if !self.optional => Err(UnboundColumn {
                missing: name.to_owned(),
                wanted_by: wanted_by.map(str::to_owned),
            }),
            found => Ok(found),
        }
    }

    /// Binds the rule of a column; `None` when nothing it looks at is there.
    fn rule(&self, column: &str, rule: &RuleTable) -> Result<Option<Rule>, UnboundColumn> {
        let take = self.take(column, rule)?;
        let missing = || UnboundColumn {
            missing: rule.from.first().cloned().unwrap_or_default(),
            wanted_by: Some(column.to_owned()),
        };
        let Some(take) = take else {
            // Everybody needs an address: whatever may be missing, this may not.
            return if column == "email" {
                Err(missing())
            } else {
                Ok(None)
            };
        };
        let when = self.tests(Some(column), &rule.when)?;
        if when.iter().any(Test::never_holds) {
            return Ok(None);
        }
        let word = |(from, to): (&String, &String)| (from.clone(), to.clone());
        Ok(Some(Rule {
            take,
            when,
            strip: rule.strip.clone(),
            lower: rule.lower,
            words: rule.words.iter().map(word).collect(),
            default: rule.default.clone(),
        }))
    }

    fn take(&self, column: &str, rule: &RuleTable) -> Result<Option<Take>, UnboundColumn> {
        let by = Some(column);
        if let Some(value) = &rule.value {
            return Ok(Some(Take::Constant(value.clone())));
        }
        if let Some(template) = &rule.template {
            return self.template(column, template).map(Some);
        }
        if let Some(name) = &rule.split {
            let part = rule.part.unwrap_or(match column {
                "last_name" => Part::Last,
                _ => Part::First,
            });
            let half = self.seek(by, name)?;
            let cells = self.any_of(by, &rule.from)?;
            return Ok(match (half, cells) {
                (Some(half), Some(cells)) => Some(Take::FirstOrHalf(cells, half, part)),
                (Some(half), None) => Some(Take::Split(half, part)),
                (None, cells) => cells.map(Take::First),
            });
        }
        if let Some(listed) = &rule.listed {
            let (item, list) = (
                self.seek(by, &listed.column)?,
                self.seek(by, &listed.among)?,
            );
            return Ok(item.zip(list).map(|(item, list)| Take::Listed(item, list)));
        }
        if let Some(object) = &rule.object {
            let mut members = Vec::with_capacity(object.len());
            for (key, name) in object {
                members.extend(self.seek(by, name)?.map(|cell| (key.clone(), cell)));
            }
            return Ok(some_of(members).map(Take::Object));
        }
        if !rule.join.is_empty() {
            let with = rule.with.clone().unwrap_or_else(|| " ".to_owned());
            let mut cells = Vec::with_capacity(rule.join.len());
            for name in &rule.join {
                cells.extend(self.seek(by, name)?);
            }
            return Ok(some_of(cells).map(|cells| Take::Join(cells, with)));
        }
        Ok(self.any_of(by, &rule.from)?.map(Take::First))
    }

    /// Finds those of several columns that are there: one is enough.
    fn any_of(
        &self,
        by: Option<&str>,
        names: &[String],
    ) -> Result<Option<Vec<usize>>, UnboundColumn> {
        let cells: Vec<usize> = names.iter().filter_map(|name| self.find(name)).collect();
        match (cells.is_empty(), names.first()) {
            (true, Some(name)) => self.seek(by, name).map(|_| None),
            _ => Ok(some_of(cells)),
        }
    }

    fn template(&self, column: &str, template: &str) -> Result<Take, UnboundColumn> {
        let mut bound = Vec::new();
        // The text was checked when it was read.
        for piece in pieces(template).unwrap_or_default() {
            bound.push(match piece {
                Named::Text(text) => Piece::Text(text),
                Named::Column(name, filter) => match self.seek(Some(column), &name)? {
                    Some(cell) => Piece::Cell(cell, filter),
                    None => Piece::Blank,
                },
            });
        }
        Ok(Take::Template(bound))
    }

    fn tests(&self, by: Option<&str>, when: &[Condition]) -> Result<Vec<Test>, UnboundColumn> {
        let test = |condition: &Condition| {
            let texts = |texts: &Option<Vec<String>>| texts.clone();
            let is = texts(&condition.is)
                .map(Is::OneOf)
                .or_else(|| texts(&condition.not).map(Is::NoneOf))
                .or_else(|| texts(&condition.starts_with).map(Is::StartsWith));
            let name = plain(&condition.column);
            let own = || self.own.iter().position(|other| *other == name);
            let cell = match self.find(&name).or_else(own) {
                None => self.seek(by, &condition.column)?,
                found => found,
            };
            let is = is.unwrap_or(Is::Blank(condition.blank.unwrap_or(true)));
            Ok(Test { cell, is })
        };
        when.iter().map(test).collect()
    }
}

fn some_of<T>(all: Vec<T>) -> Option<Vec<T>> {
    Some(all).filter(|all| !all.is_empty())
}

/// A piece of a template before it is bound.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Named {
    /// A text.
    Text(String),
    /// A column, and what happens to it.
    Column(String, Option<Filter>),
}

/// Takes a template apart: `{column}` or `{column|filter}`; `{{` and `}}` are braces.
pub(super) fn pieces(template: &str) -> Result<Vec<Named>, String> {
    let mut out = Vec::new();
    let mut text = String::new();
    let mut rest = template;
    while let Some(at) = rest.find(['{', '}']) {
        let (before, from) = rest.split_at(at);
        text.push_str(before);
        if let Some(after) = from.strip_prefix("{{") {
            text.push('{');
            rest = after;
        } else if let Some(after) = from.strip_prefix("}}") {
            text.push('}');
            rest = after;
        } else if let Some((inside, after)) = from
            .strip_prefix('{')
            .and_then(|inside| inside.split_once('}'))
        {
            if !text.is_empty() {
                out.push(Named::Text(std::mem::take(&mut text)));
            }
            out.push(named(inside)?);
            rest = after;
        } else {
            return Err(format!(
                "a brace stands alone in the template \"{template}\"; write {{{{ or }}}} for a brace"
            ));
        }
    }
    text.push_str(rest);
    if !text.is_empty() {
        out.push(Named::Text(text));
    }
    Ok(out)
}

fn named(inside: &str) -> Result<Named, String> {
    let (name, filter) = match inside.split_once('|') {
        None => (inside, None),
        Some((name, "lower")) => (name, Some(Filter::Lower)),
        Some((name, "unpadded")) => (name, Some(Filter::Unpadded)),
        Some((_, other)) => {
            return Err(format!(
                "the template knows |lower and |unpadded, not |{other}"
            ));
        }
    };
    if name.trim().is_empty() {
        return Err("a pair of braces in the template names no column".to_owned());
    }
    Ok(Named::Column(name.trim().to_owned(), filter))
}
