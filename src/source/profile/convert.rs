//! An export that is no CSV, or that needs another file beside it, becomes a CSV of ours: one
//! record after the other, dropped ones included, so that every record is accounted for.

use super::hashes::Hashes;
use super::json::{self, Shape, cell};
use super::left::Left;
use super::plan::{Plan, UnboundColumn};
use super::{Profile, ProfileChoice, built_in};
use crate::model::{Delimiter, OrgMode, RowNumber};
use crate::source::error::{Place, Ragged, RaggedRow, SourceError};
use crate::source::header;
use crate::source::records::Fields;
use crate::source::window::Window;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What somebody gave beside an export.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Beside {
    /// The file of password hashes.
    pub hashes: Option<PathBuf>,
    /// The parameters of the hashes.
    pub parameters: Parameters,
}

/// The parameters of an export's password hashes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Parameters {
    /// Nobody said.
    #[default]
    NotGiven,
    /// Users come without their passwords.
    WithoutPasswords,
    /// Their names and values.
    Given(BTreeMap<String, String>),
}

/// What came of a conversion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Converted {
    /// The id of the profile.
    pub profile: String,
    /// What people should know about it.
    pub told: Vec<String>,
}

/// A conversion that is about to begin.
#[derive(Debug)]
pub struct Conversion {
    profile: Arc<Profile>,
    is_json: bool,
    /// What stands between two cells of a CSV.
    delimiter: Delimiter,
    hashes: Option<Hashes>,
    parameters: Parameters,
    records: u64,
    /// What is left behind of JSON records.
    left: Left,
    /// The columns of a CSV, those that are made included; known when its header was read.
    columns: Vec<String>,
}

impl Conversion {
    /// Decides from the beginning of a source whether it has to be converted. `None`: it is a CSV
    /// that the index maps. `delimiter` is that of a CSV.
    pub fn of(
        head: &str,
        delimiter: Delimiter,
        choice: &ProfileChoice,
        beside: &Beside,
    ) -> Result<Option<Self>, SourceError> {
        let shape = Shape::of(head);
        let profile = match (choice, &shape) {
            (ProfileChoice::Use(profile), _) => Some(Arc::clone(profile)),
            (ProfileChoice::Detect, Some(shape)) => detected(shape),
            (ProfileChoice::Off, _) | (ProfileChoice::Detect, None) => None,
        };
        match (profile, shape.is_some()) {
            (None, true) => Err(SourceError::JsonUnknown),
            (None, false) => Self::of_csv(head, delimiter, choice, beside),
            (Some(profile), is_json) => Self::with(profile, is_json, beside),
        }
        .map(|conversion| conversion.map(|it| Self { delimiter, ..it }))
    }

    /// A CSV whose header was not looked at yet.
    fn of_csv(
        head: &str,
        delimiter: Delimiter,
        choice: &ProfileChoice,
        beside: &Beside,
    ) -> Result<Option<Self>, SourceError> {
        let detected = match choice {
            ProfileChoice::Detect => header::names_of_head(head, delimiter),
            ProfileChoice::Off | ProfileChoice::Use(_) => Vec::new(),
        };
        match super::detected(&detected) {
            Some(profile) => Self::with(profile, false, beside),
            None if beside.is_nothing() => Ok(None),
            None => Err(SourceError::BesideNothing {
                option: beside.option(),
                profile: None,
            }),
        }
    }

    fn with(
        profile: Arc<Profile>,
        is_json: bool,
        beside: &Beside,
    ) -> Result<Option<Self>, SourceError> {
        let takes_hashes = profile.join.is_some();
        let takes_parameters = !profile.parameters.is_empty();
        let wrong = match beside {
            Beside {
                hashes: Some(_), ..
            } if !takes_hashes => Some("--password-hashes"),
            Beside { parameters, .. }
                if *parameters != Parameters::NotGiven && !takes_parameters =>
            {
                Some("--hash-parameters")
            }
            Beside { .. } => None,
        };
        if let Some(option) = wrong {
            return Err(SourceError::BesideNothing {
                option,
                profile: Some(profile.name.clone()),
            });
        }
        if !is_json && beside.hashes.is_none() && !takes_parameters {
            return Ok(None);
        }
        if let Parameters::Given(given) = &beside.parameters {
            check_parameters(&profile, given)?;
        }
        let hashes = match (&beside.hashes, &profile.join) {
            (Some(path), Some(rule)) => Some(Hashes::open(path, rule)?),
            _ => None,
        };
        Ok(Some(Self {
            profile,
            is_json,
            delimiter: Delimiter::default(),
            hashes,
            parameters: beside.parameters.clone(),
            records: 0,
            left: Left::default(),
            columns: Vec::new(),
        }))
    }

    /// Returns whether it is no CSV.
    pub fn is_json(&self) -> bool {
        self.is_json
    }

    /// Returns the name of the export.
    pub fn name(&self) -> &str {
        &self.profile.name
    }

    /// Returns what came of it.
    pub fn converted(&self) -> Converted {
        Converted {
            profile: self.profile.id.clone(),
            told: self.told(),
        }
    }

    /// Reads the export and writes records of ours.
    pub fn run(&mut self, text: &mut dyn BufRead, out: &mut dyn Write) -> Result<(), SourceError> {
        if self.is_json {
            self.of_json(text, out)
        } else {
            self.of_records(text, out)
        }
    }

    fn told(&self) -> Vec<String> {
        let names = if self.is_json {
            self.names_met()
        } else {
            self.columns.clone()
        };
        let plan = self.plan_of(&names);
        let mut told = Vec::new();
        told.extend(
            plan.as_ref()
                .map(|plan| plan.told(&names, &self.left.names())),
        );
        if self.parameters == Parameters::WithoutPasswords {
            told.push("users come without passwords, as --hash-parameters none says".to_owned());
        }
        match &self.hashes {
            Some(hashes) => {
                let (all, found) = hashes.counts();
                told.push(format!(
                    "{found} of {} records have a password hash in the file of hashes; {} of its \
                     {all} hashes belong to nobody here",
                    self.records,
                    all.saturating_sub(found),
                ));
            }
            None if self.parameters == Parameters::WithoutPasswords => {}
            None => told.extend(plan.and_then(|plan| self.profile.without_passwords(&plan))),
        }
        told
    }

    /// Returns the members that were met in a record or are made, of those the profile looks at.
    fn names_met(&self) -> Vec<String> {
        let profile = &self.profile;
        let is_made = |name: &String| {
            let joined = profile.join.as_ref().filter(|_| self.hashes.is_some());
            let is_joined = joined.is_some_and(|join| join.column == *name);
            let has_parameters = matches!(self.parameters, Parameters::Given(_));
            is_joined || has_parameters && profile.parameters.contains(name)
        };
        let mut names = profile.looks_at();
        names.retain(|name| is_made(name) || self.left.has_met(name));
        names
    }

    /// Binds what was met: what a record lacks may be missing here, whatever the profile says.
    fn plan_of(&self, names: &[String]) -> Option<Plan> {
        let lenient = Profile {
            optional: true,
            ..(*self.profile).clone()
        };
        lenient.bind(&self.without_hashed(names.to_vec())).ok()
    }

    /// Takes the column of hashes away when users come without their passwords.
    fn without_hashed(&self, mut names: Vec<String>) -> Vec<String> {
        let hashed = self.profile.hashed.as_ref();
        if let (Parameters::WithoutPasswords, Some(hashed)) = (&self.parameters, hashed) {
            shadow(&mut names, hashed);
        }
        names
    }

    fn of_json(&mut self, text: &mut dyn BufRead, out: &mut dyn Write) -> Result<(), SourceError> {
        let profile = Arc::clone(&self.profile);
        let names = profile.looks_at();
        let plan = profile
            .bind(&names)
            .map_err(|unbound| refused(&profile, unbound))?;
        let plan = plan.without_prefix();
        let mut rows = Rows::begin(out, &plan)?;
        self.left = Left::begin(&names);
        json::each(text, profile.records.as_deref(), &mut |record| {
            self.left.note(&record);
            let read = |name: &str| cell(&record, name).into_owned();
            let cells = self.cells(&names, &read)?;
            refuse_nul(&cells, self.records)?;
            rows.write(&plan, &|cell| text_of(&cells, cell))
        })?;
        rows.finish()
    }

    /// Returns the cells of a record by name: its own, its parameters, and what is joined to it.
    fn cells(
        &mut self,
        names: &[String],
        read: &dyn Fn(&str) -> String,
    ) -> Result<Vec<String>, SourceError> {
        self.records += 1;
        let profile = Arc::clone(&self.profile);
        let mut cells = Vec::with_capacity(names.len());
        for name in names {
            let joined = profile.join.as_ref().filter(|join| join.column == *name);
            let value = match (joined, &self.parameters) {
                (Some(join), _) => match &mut self.hashes {
                    Some(hashes) => {
                        let ids = join.key.iter().map(|name| read(name));
                        let id = ids.map(|id| id.trim().to_owned()).find(|id| !id.is_empty());
                        let joined = hashes.find(&id.unwrap_or_default())?;
                        // A hash that the export itself has is not lost.
                        joined.unwrap_or_else(|| read(name))
                    }
                    // Somebody may have joined them before.
                    None => read(name),
                },
                (None, Parameters::Given(given)) if given.contains_key(name) => {
                    given.get(name).cloned().unwrap_or_default()
                }
                (None, _) => read(name),
            };
            cells.push(self.without_password(&profile, name, value)?);
        }
        Ok(cells)
    }

    /// A hash without its parameters lets nobody sign in: somebody has to say that this is meant.
    fn without_password(
        &self,
        profile: &Profile,
        name: &str,
        value: String,
    ) -> Result<String, SourceError> {
        if profile.hashed.as_deref() != Some(name) || value.trim().is_empty() {
            return Ok(value);
        }
        match &self.parameters {
            Parameters::Given(_) => Ok(value),
            Parameters::WithoutPasswords => Ok(String::new()),
            Parameters::NotGiven => Err(SourceError::HashParameters {
                profile: profile.name.clone(),
                what: "the export holds password hashes, and their parameters were not given"
                    .to_owned(),
            }),
        }
    }

    /// A CSV with a file beside it.
    fn of_records(
        &mut self,
        text: &mut dyn BufRead,
        out: &mut dyn Write,
    ) -> Result<(), SourceError> {
        let mut window = Window::new(text);
        let mut fields = Fields::new(self.delimiter);
        let quiet: &mut dyn FnMut(u64) = &mut |_| {};
        window.begin(quiet)?;
        let Some(length) = window.next_record(&mut fields, quiet)? else {
            return Err(SourceError::HeaderMissing);
        };
        let head = window.record(length)?;
        let at = window.place_at(0);
        let choice = ProfileChoice::Use(Arc::clone(&self.profile));
        // Says what is wrong with a header in the words of every other one.
        let named = header::parse(head, &fields, &at, &OrgMode::Columns, &[], &choice)?.named;
        let own = header::shown_names(head, &fields);
        let count = own.len();
        let made = self.made_columns(&own);
        let mut names = own.clone();
        for made in &made {
            shadow(&mut names, made);
        }
        names.extend(made.iter().cloned());
        let plan = self
            .profile
            .bind(&names)
            .map_err(|unbound| refused(&self.profile, unbound))?;
        self.columns = names;
        let mut rows = Rows::begin(out, &plan)?;
        window.advance(length);
        window.set_row(RowNumber(1));
        let mut sheet = Sheet {
            own: &own,
            made: &made,
            plan: &plan,
            named,
            ragged: Ragged::default(),
        };
        let read = self.of_sheet(&mut sheet, &mut window, &mut fields, &mut rows);
        if let Some(refusal) = sheet.ragged.refusal(count) {
            return Err(refusal);
        }
        read?;
        rows.finish()
    }

    /// Converts the records below a header. From the first one with another number of cells on,
    /// it only looks for more of them: nothing else is of use.
    fn of_sheet(
        &mut self,
        sheet: &mut Sheet<'_>,
        window: &mut Window<&mut dyn BufRead>,
        fields: &mut Fields,
        rows: &mut Rows<'_>,
    ) -> Result<(), SourceError> {
        let quiet: &mut dyn FnMut(u64) = &mut |_| {};
        while let Some(length) = window.next_record(fields, quiet)? {
            let record = window.record(length)?;
            if !fields.fit(record, sheet.named, sheet.own.len()) {
                let row = RaggedRow::of(record, fields.len(), window.place_at(0));
                sheet.ragged.note(row);
            }
            if sheet.ragged.count == 0 {
                self.of_record(sheet, record, fields, rows)?;
            } else {
                self.records += 1;
            }
            window.advance(length);
            window.set_row(RowNumber(
                u32::try_from(self.records + 1).unwrap_or(u32::MAX),
            ));
        }
        Ok(())
    }

    fn of_record(
        &mut self,
        sheet: &Sheet<'_>,
        record: &str,
        fields: &Fields,
        rows: &mut Rows<'_>,
    ) -> Result<(), SourceError> {
        let profile = Arc::clone(&self.profile);
        let prefix = profile.cell_prefix.as_deref().unwrap_or_default();
        let read = |name: &str| {
            let value = position(sheet.own, name)
                .map(|cell| fields.value(record, cell))
                .unwrap_or_default();
            value.strip_prefix(prefix).unwrap_or(&value).to_owned()
        };
        let made = self.cells(sheet.made, &read)?;
        let count = sheet.own.len();
        rows.write(sheet.plan, &|cell| match cell.checked_sub(count) {
            None => fields.value(record, cell),
            Some(beside) => text_of(&made, beside),
        })
    }

    /// Returns the columns that are made beside those of a CSV, or in their place: hashes that are
    /// joined, or that may have to go, and their parameters.
    fn made_columns(&self, own: &[String]) -> Vec<String> {
        let profile = &self.profile;
        let join = profile.join.iter().filter(|_| self.hashes.is_some());
        let hashed = profile.hashed.iter();
        let hashed = hashed.filter(|hashed| position(own, hashed).is_some());
        let parameters = profile.parameters.iter();
        let parameters = parameters.filter(|_| matches!(self.parameters, Parameters::Given(_)));
        let join = join.map(|join| &join.column);
        join.chain(hashed).chain(parameters).cloned().collect()
    }
}

/// A CSV that is converted.
struct Sheet<'a> {
    /// Its columns.
    own: &'a [String],
    /// Columns that are made beside them, or in their place.
    made: &'a [String],
    plan: &'a Plan,
    /// Cells of the header up to the last one with a name.
    named: usize,
    /// Records that do not fit under it.
    ragged: Ragged,
}

/// Finds a column as headers are compared everywhere.
fn position(names: &[String], name: &str) -> Option<usize> {
    names.iter().position(|other| super::same_name(other, name))
}

/// Takes a column's name away.
fn shadow(names: &mut [String], name: &str) {
    if let Some(name) = position(names, name).and_then(|cell| names.get_mut(cell)) {
        name.clear();
    }
}

impl Beside {
    fn is_nothing(&self) -> bool {
        self.hashes.is_none() && self.parameters == Parameters::NotGiven
    }

    fn option(&self) -> &'static str {
        if self.hashes.is_some() {
            "--password-hashes"
        } else {
            "--hash-parameters"
        }
    }
}

/// Reads the parameters of hashes as the product shows them: a line for each, `name: value`.
pub fn read_parameters(path: &Path) -> Result<BTreeMap<String, String>, SourceError> {
    let text = std::fs::read(path).map_err(|source| SourceError::Open {
        path: path.to_owned(),
        source,
    })?;
    let text = String::from_utf8_lossy(text.get(..4096).unwrap_or(&text)).into_owned();
    let pair = |line: &str| {
        let (name, value) = line
            .trim()
            .trim_end_matches([',', ';'])
            .split_once([':', '='])?;
        let plain = |text: &str| text.trim().trim_matches(['"', '\'']).to_owned();
        Some((plain(name), plain(value)))
    };
    Ok(text.lines().filter_map(pair).collect())
}

fn check_parameters(
    profile: &Profile,
    given: &BTreeMap<String, String>,
) -> Result<(), SourceError> {
    let refused = |what: String| SourceError::HashParameters {
        profile: profile.name.clone(),
        what,
    };
    for name in &profile.parameters {
        if given.get(name).is_none_or(String::is_empty) {
            return Err(refused(format!("the parameter {name} is missing")));
        }
    }
    match given.get("algorithm") {
        Some(algorithm) if !algorithm.eq_ignore_ascii_case("SCRYPT") => Err(refused(format!(
            "the algorithm is {}, and only SCRYPT can be carried",
            crate::model::escape::shown(algorithm)
        ))),
        Some(_) | None => Ok(()),
    }
}

/// Returns the built-in profile of a JSON text.
fn detected(shape: &Shape) -> Option<Arc<Profile>> {
    let recognises =
        |profile: &&Arc<Profile>| profile.recognises(shape.record(profile.records.as_deref()));
    built_in().iter().find(recognises).cloned()
}

fn text_of(cells: &[String], cell: usize) -> Cow<'_, str> {
    Cow::Borrowed(cells.get(cell).map_or("", String::as_str))
}

fn refuse_nul(cells: &[String], record: u64) -> Result<(), SourceError> {
    if cells.iter().any(|cell| cell.contains('\0')) {
        return Err(SourceError::JsonNul { record });
    }
    Ok(())
}

fn refused(profile: &Profile, unbound: UnboundColumn) -> SourceError {
    SourceError::ProfileColumn {
        profile: profile.name.clone(),
        column: unbound.missing,
        wanted_by: unbound.wanted_by,
        at: Place {
            line: 1,
            ..Place::default()
        },
    }
}

/// Records of ours on their way out.
struct Rows<'a> {
    out: csv::Writer<&'a mut dyn Write>,
}

impl<'a> Rows<'a> {
    fn begin(out: &'a mut dyn Write, plan: &Plan) -> Result<Self, SourceError> {
        let mut out = csv::WriterBuilder::new().from_writer(out);
        out.write_record(plan.names()).map_err(write_error)?;
        Ok(Self { out })
    }

    fn write<'c>(
        &mut self,
        plan: &Plan,
        raw: &dyn Fn(usize) -> Cow<'c, str>,
    ) -> Result<(), SourceError> {
        for column in 0..plan.len() {
            let value = plan.value(column, raw);
            self.out
                .write_field(value.as_bytes())
                .map_err(write_error)?;
        }
        self.out.write_record(None::<&[u8]>).map_err(write_error)
    }

    fn finish(mut self) -> Result<(), SourceError> {
        self.out.flush().map_err(SourceError::Spool)
    }
}

fn write_error(error: csv::Error) -> SourceError {
    SourceError::Spool(match error.into_kind() {
        csv::ErrorKind::Io(error) => error,
        other => std::io::Error::other(format!("{other:?}")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn converted(
        text: &str,
        choice: &ProfileChoice,
        beside: &Beside,
    ) -> Result<String, SourceError> {
        done(text, choice, beside).map(|(out, _)| out)
    }

    /// Returns what was written, and what people are told.
    fn done(
        text: &str,
        choice: &ProfileChoice,
        beside: &Beside,
    ) -> Result<(String, Vec<String>), SourceError> {
        let mut conversion =
            Conversion::of(text, Delimiter::Comma, choice, beside)?.expect("a conversion");
        let mut out = Vec::new();
        conversion.run(&mut text.as_bytes(), &mut out)?;
        Ok((String::from_utf8(out).unwrap(), conversion.told()))
    }

    fn detect(text: &str, beside: &Beside) -> Result<String, SourceError> {
        converted(text, &ProfileChoice::Detect, beside)
    }

    #[test]
    fn every_record_becomes_a_row_also_the_ones_left_out() {
        let text = "{\"user_id\":\"auth0|1\",\"email\":\"a@x.org\",\"nickname\":\"a\",\"given_name\":\"A,\\n\\\"B\\\"\"}\n\
                    {\"user_id\":\"auth0|2\",\"email\":\"b@x.org\",\"blocked\":true}\n\
                    {}\n";
        let out = detect(text, &Beside::default()).unwrap();
        assert_eq!(
            out,
            "email,first_name,last_name,email_verified,external_id,password_hash,\
             password_hash_type,userferry_skip\n\
             a@x.org,\"A,\n\"\"B\"\"\",,,auth0|1,,,\n\
             b@x.org,,,,auth0|2,,,blocked at Auth0\n\
             ,,,,,,,\n"
        );
    }

    #[test]
    fn hashes_without_parameters_stop_unless_somebody_says_so() {
        let text = "{\"users\":[{\"localId\":\"1\",\"email\":\"a@x.org\",\"passwordHash\":\"aGFzaA==\",\"salt\":\"c2FsdA==\",\"createdAt\":\"1\"}]}";
        let error = detect(text, &Beside::default()).unwrap_err();
        assert_eq!(error.code(), "hash_parameters");
        let beside = Beside {
            parameters: Parameters::WithoutPasswords,
            ..Beside::default()
        };
        assert!(
            detect(text, &beside)
                .unwrap()
                .ends_with("\na@x.org,,,,1,,,\n")
        );
        let given = [
            ("rounds", "8"),
            ("mem_cost", "14"),
            ("base64_salt_separator", "Bw=="),
            ("base64_signer_key", "a2V5"),
        ];
        let given: BTreeMap<String, String> = given
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let with = |given| Beside {
            parameters: Parameters::Given(given),
            ..Beside::default()
        };
        let out = detect(text, &with(given.clone())).unwrap();
        let hash = "\"$firebase-scrypt$v=1$r=8,m=14,ss=Bw,sk=a2V5$c2FsdA$aGFzaA\",firebase-scrypt,";
        assert!(out.contains(hash), "{out}");
        let mut short = given.clone();
        short.remove("rounds");
        let error = detect(text, &with(short)).unwrap_err();
        assert!(error.to_string().contains("rounds is missing"), "{error}");
        let mut other = given;
        other.insert("algorithm".to_owned(), "BCRYPT".to_owned());
        let error = detect(text, &with(other)).unwrap_err();
        assert!(error.to_string().contains("only SCRYPT"), "{error}");
    }

    #[test]
    fn a_csv_of_firebase_users_is_treated_as_the_json_is() {
        let text = "localId,Email,emailVerified,passwordHash,salt\n1,a@x.org,true,aGFzaA==,c2FsdA==\n2,b@x.org,,,\n";
        let error = detect(text, &Beside::default()).unwrap_err();
        assert_eq!(error.code(), "hash_parameters");
        let with = |parameters| Beside {
            parameters,
            ..Beside::default()
        };
        let out = detect(text, &with(Parameters::WithoutPasswords)).unwrap();
        assert!(out.contains("\na@x.org,true,1,,,\n"), "{out}");
        let given = [
            ("rounds", "8"),
            ("mem_cost", "14"),
            ("base64_salt_separator", "Bw=="),
            ("base64_signer_key", "a2V5"),
        ];
        let given = given.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let out = detect(text, &with(Parameters::Given(given.into()))).unwrap();
        let hash = "\na@x.org,true,1,\"$firebase-scrypt$v=1$r=8,m=14,ss=Bw,sk=a2V5$c2FsdA$aGFzaA\",firebase-scrypt,\nb@x.org,,2,,,\n";
        assert!(out.contains(hash), "{out}");
    }

    #[test]
    fn an_export_of_the_auth0_extension_has_names_of_its_own() {
        let text = "[{\"Id\":\"auth0|1\",\"Given Name\":\"A\",\"Family Name\":\"B\",\"Email\":\"a@x.org\",\"Email Verified\":true,\"Created At\":\"x\"}]";
        let (out, told) = done(text, &ProfileChoice::Detect, &Beside::default()).unwrap();
        assert!(out.ends_with("\na@x.org,A,B,true,auth0|1,,,\n"), "{out}");
        assert!(!told[0].contains("password_hash"), "{told:?}");
        assert!(told[0].ends_with("; not carried: Created At"), "{told:?}");
        assert!(told[1].contains("--password-hashes FILE"), "{told:?}");
    }

    #[test]
    fn hashes_that_somebody_joined_before_are_told_as_such() {
        let text = "{\"user_id\":\"auth0|1\",\"email\":\"a@x.org\",\"nickname\":\"a\",\"passwordHash\":\"$2b$10$x\"}";
        let (_, told) = done(text, &ProfileChoice::Detect, &Beside::default()).unwrap();
        assert!(
            told[0].contains("password_hash from passwordHash"),
            "{told:?}"
        );
        assert_eq!(told.len(), 1, "{told:?}");
    }

    #[test]
    fn parameters_are_read_as_the_console_shows_them() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"hash_config {\r\n  algorithm: SCRYPT,\r\n  base64_signer_key: ab+/==,\r\n  rounds: 8,\r\n}\r\n")
            .unwrap();
        let read = read_parameters(file.path()).unwrap();
        let pairs: Vec<_> = read
            .iter()
            .map(|(name, value)| (&**name, &**value))
            .collect();
        assert_eq!(
            pairs,
            [
                ("algorithm", "SCRYPT"),
                ("base64_signer_key", "ab+/=="),
                ("rounds", "8")
            ]
        );
    }

    #[test]
    fn a_file_beside_a_source_that_has_no_use_for_it_is_refused() {
        let hashes = Beside {
            hashes: Some(PathBuf::from("x")),
            ..Beside::default()
        };
        let clerk = ProfileChoice::Use(super::super::named("clerk").unwrap());
        for (text, choice) in [
            ("email\na@x.org\n", &ProfileChoice::Detect),
            ("email\na@x.org\n", &ProfileChoice::Off),
            ("id\n", &clerk),
        ] {
            let error = Conversion::of(text, Delimiter::Comma, choice, &hashes).unwrap_err();
            assert_eq!(error.code(), "nothing_to_join", "{text}");
        }
        let nothing = Beside::default();
        assert!(
            Conversion::of(
                "email\n",
                Delimiter::Comma,
                &ProfileChoice::Detect,
                &nothing
            )
            .unwrap()
            .is_none()
        );
        assert!(
            Conversion::of("id\n", Delimiter::Comma, &clerk, &nothing)
                .unwrap()
                .is_none()
        );
        let error = Conversion::of(
            "{\"a\":1}",
            Delimiter::Comma,
            &ProfileChoice::Detect,
            &nothing,
        )
        .unwrap_err();
        assert_eq!(error.code(), "json_unknown");
    }

    #[test]
    fn a_csv_gets_its_hashes_with_every_cell_in_place() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"{\"_id\":{\"$oid\":\"1\"},\"passwordHash\":\"$2b$10$x\"}\n")
            .unwrap();
        let beside = Beside {
            hashes: Some(file.path().to_owned()),
            ..Beside::default()
        };
        let text = "\"user_id\",\"email\",\"nickname\",\"given_name\"\r\n\
                    \"'auth0|1\",\"'a@x.org\",,\"''t\"\r\n\r\n\
                    \"'auth0|2\",\"'b@x.org\",,\"'B\"\r\n";
        assert_eq!(
            detect(text, &beside).unwrap(),
            "email,first_name,external_id,password_hash,password_hash_type,userferry_skip\n\
             a@x.org,'t,auth0|1,$2b$10$x,bcrypt,\n\
             b@x.org,B,auth0|2,,,\n"
        );
        // What an ordinary CSV may have, this one may have too: a last empty cell more.
        let more = detect(&format!("{text}'auth0|3,'c@x.org,,,\n"), &beside).unwrap();
        assert!(more.ends_with("\nc@x.org,,auth0|3,,,\n"), "{more}");
        let long = format!("{text}'auth0|3,'c@x.org,,,,x\n");
        assert_eq!(detect(&long, &beside).unwrap_err().code(), "field_count");
        let error = detect(&format!("{text}\"'auth0|3\"\r\n"), &beside).unwrap_err();
        assert_eq!(error.code(), "field_count");
    }
}
