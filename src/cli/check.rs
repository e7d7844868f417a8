//! `check`: every problem of a file, without a job, a key or a request; and `check --fix`.

use super::again::import_command;
use super::args::{CheckArgs, IdentityArgs};
use super::context::Context;
use super::error::{CliError, CliResult};
use super::exit::Exit;
use super::opening::{self, ReadingAsk};
use super::output::{Output, Present};
use super::resolve;
use crate::model::rng::entropy;
use crate::model::{Delimiter, Encoding, JobOptions, Mono, Reading, RowNumber};
use crate::report::outfile::same_file;
use crate::report::problems::{self, CheckSummary, ProblemGroup, ProblemLine, ProblemsWriter};
use crate::report::{OutFile, screen, words};
use crate::source::check::CheckError;
use crate::source::profile;
use crate::source::{
    self, Ask, CheckReport, Finding, Index, IndexOptions, Input, Opened, Ragged, RowRules,
    Severity, SourceError,
};
use std::fs::File;
use std::path::Path;

/// Runs `check`.
pub fn run(ctx: &Context, args: &CheckArgs) -> CliResult<Exit> {
    let identity = identity_of(args);
    let options = resolve::job_options(&identity)?;
    let input = resolve::source_input(&args.file)?;
    let path = input.path().to_owned();
    refuse_unused_force(args)?;
    refuse_one_file_for_both(args)?;
    let repaired = args
        .fix
        .as_deref()
        .map(|out| create(out, &path, Present::of(args.force)))
        .transpose()?;
    let mut list = open_list(args, &path)?;
    let ask = ReadingAsk::of(&identity, true)?;
    let shape = IndexOptions {
        delimiter: ask.ask.delimiter.unwrap_or_default(),
        renames: ask.renames,
        chunk_size: options.chunk_size,
        org_mode: options.org_mode.clone(),
        hash_key: entropy(),
        profile: resolve::profile(&identity)?.unwrap_or_default(),
    };
    let folder = resolve::temporary_folder()?;
    let mut copies = || Ok::<_, SourceError>(folder.path().to_owned());
    let read = source::read(&input, &ask.ask, &shape, &mut copies, &mut |_| {});
    let (opened, index) = match read {
        Ok(read) => read,
        Err(error) => return Err(refuse(args, list, error)?),
    };
    if args.fix.is_some() && (index.columns.plan.is_some() || opened.converted.is_some()) {
        return Err(of_profile());
    }
    let file = open(&opened.rows)?;
    let mut visit = |finding: &Finding| match &mut list {
        Some(list) => list.write(&line_of(finding)),
        None => Ok(()),
    };
    let mut report = source::check(&file, &index, &rules_of(&options), &mut visit)?;
    let mut repairs = Repairs::default();
    if let Some(mut out) = repaired {
        let mut repair = |finding: &Finding| {
            repairs.note(finding);
            report.add(finding.clone());
            visit(finding)
        };
        if let Some(finding) = source::rewritten(opened.encoding) {
            repair(&finding).map_err(CheckError::Write)?;
        }
        source::fix(&file, &index, &mut out, &mut repair)?;
        out.finish().map_err(|error| CliError::output(&error))?;
    }
    if let Some(list) = list {
        let done = list.finish().map_err(|error| CliError::output(&error))?;
        done.finish()?;
    }
    let mut summary = summary(ctx, &path, &index, &report);
    let told = told_of(&opened, index.columns.delimiter, &input, &ask.ask);
    summary.notes.splice(0..0, told);
    if index.rows == 0 {
        summary.notes.push(opening::NO_ROWS.to_owned());
    }
    show(ctx, args, &summary)?;
    if let Some(out) = &args.fix {
        let as_it_is = args.profile.as_deref() == Some(profile::NONE);
        ctx.say(&repairs.told(out, index.rows, &options, as_it_is));
    }
    Ok(if report.failing > 0 {
        Exit::RowsFailed
    } else {
        Exit::Success
    })
}

/// Shows every place that refuses the file, where an import names the first.
fn refuse(
    args: &CheckArgs,
    list: Option<ProblemsWriter<Output>>,
    error: SourceError,
) -> CliResult<CliError> {
    let SourceError::FieldCount {
        expected, ragged, ..
    } = &error
    else {
        return Ok(error.into());
    };
    let group = ragged_group(*expected, ragged);
    if let Some(mut list) = list {
        for line in &group.examples {
            list.write(line).map_err(|error| CliError::output(&error))?;
        }
        let done = list.finish().map_err(|error| CliError::output(&error))?;
        done.finish()?;
    }
    let groups = vec![group];
    if !args.json {
        let text = problems::text(&groups, true);
        screen::print_data(text.as_bytes()).map_err(|error| CliError::stdout(&error))?;
    }
    let several = ragged.count > 1;
    let refusal = CliError::from(error).problems(groups);
    Ok(if several {
        refusal.hint("correct these rows first: nothing else of the file was looked at")
    } else {
        refusal
    })
}

fn ragged_group(expected: usize, ragged: &Ragged) -> ProblemGroup {
    let lines = ragged.rows.iter().map(|row| ProblemLine {
        severity: Severity::Error.as_str(),
        rule: FIELD_COUNT,
        row: row.at.row.map(|row| row.0),
        line: row.at.line,
        column: String::new(),
        value: None,
        message: format!(
            "found {} where the header has {expected}: {}",
            words::counted(row.found as u64, "field"),
            row.hint(expected)
        ),
        suggestion: None,
    });
    ProblemGroup {
        rule: FIELD_COUNT,
        severity: Severity::Error.as_str(),
        title: "another number of fields than the header: the file is refused",
        count: ragged.count,
        examples: lines.collect(),
    }
}

/// The code of the refusal, and so of each of its places.
const FIELD_COUNT: &str = "field_count";

/// Returns how the file was read, where that is not how most are, and what a conversion has to say.
fn told_of(opened: &Opened, delimiter: Delimiter, input: &Input, ask: &Ask) -> Vec<String> {
    let mut told: Vec<String> = opening::how_read(opened, delimiter, input)
        .into_iter()
        .collect();
    if opened.encoding == Encoding::Windows1252 && ask.encoding.is_none() {
        told.push(
            "nothing in a file proves that it is Windows-1252: an import into another target than \
             the sandbox wants --encoding windows-1252 (or --yes)"
                .to_owned(),
        );
    }
    let converted = opened.converted.iter();
    told.extend(converted.flat_map(|converted| converted.told.iter().cloned()));
    told
}

/// What a profile makes of a file has no cells of its own that could be repaired.
fn of_profile() -> CliError {
    let message =
        "--fix repairs files in userferry's own columns, and this one is read by a profile";
    CliError::usage("fix_profile", message)
        .hint("an import reads it without repairs: leave --fix out, or say --profile none if it is no such export")
}

/// The options of an import that rules depend on.
fn identity_of(args: &CheckArgs) -> IdentityArgs {
    IdentityArgs {
        org_id: args.org_id.clone(),
        org_external_id: args.org_external_id.clone(),
        orgs_by_name: args.orgs_by_name,
        require_membership: args.require_membership,
        profile: args.profile.clone(),
        password_hashes: args.password_hashes.clone(),
        hash_parameters: args.hash_parameters.clone(),
        map: args.map.clone(),
        delimiter: args.delimiter,
        encoding: args.encoding,
        ..IdentityArgs::default()
    }
}

/// Returns the rules that a job with these options goes by.
pub fn rules_of(options: &JobOptions) -> RowRules {
    RowRules {
        org_mode: options.org_mode.clone(),
        require_membership: options.require_membership,
    }
}

/// Finds out for a plan what there is to tell of the rows of an indexed file of which `may_tell` says
/// that there may be something.
pub fn problems_of(
    path: &Path,
    index: &Index,
    options: &JobOptions,
    may_tell: &dyn Fn(RowNumber) -> bool,
) -> CliResult<Vec<ProblemGroup>> {
    let file = open(path)?;
    let rules = rules_of(options);
    let report = source::check_some(&file, index, &rules, may_tell, &mut |_| Ok(()))?;
    Ok(groups_of(&report))
}

fn open(path: &Path) -> CliResult<File> {
    File::open(path).map_err(|source| {
        CliError::from(SourceError::Open {
            path: path.to_owned(),
            source,
        })
    })
}

/// Starts the repaired file. What is there is replaced only if that is wanted, the source never.
fn create(out: &Path, source: &Path, present: Present) -> CliResult<OutFile> {
    let is_there = out.symlink_metadata().is_ok();
    if is_there && (present == Present::Keep || same_file(out, source)) {
        let message = format!("--fix {}: it is there already", out.display());
        let hint = if same_file(out, source) {
            "name a new file: the source itself is never replaced"
        } else {
            "give --fix another name, or --force to replace it"
        };
        return Err(CliError::usage("fix_exists", message).hint(hint));
    }
    let made = OutFile::create(out, Some(source)).map_err(|error| {
        let message = format!("--fix {} cannot be written: {error}", out.display());
        CliError::new(Exit::Disk, "out_file", message)
    })?;
    Ok(match present {
        Present::Keep => made.replacing_nothing(),
        Present::Replace => made,
    })
}

/// Whoever forces something that is not written means another command.
fn refuse_unused_force(args: &CheckArgs) -> CliResult<()> {
    if !args.force || args.out.is_some() || args.fix.is_some() {
        return Ok(());
    }
    Err(CliError::usage("force_unused", "--force replaces no file")
        .hint("it goes with --out or --fix, whose files it replaces"))
}

/// What `--fix` changed, for the last line.
#[derive(Default)]
struct Repairs {
    count: u64,
    rows: u64,
    last: Option<RowNumber>,
}

impl Repairs {
    /// Counts a repair; they come in the order of rows.
    fn note(&mut self, finding: &Finding) {
        self.count += 1;
        if finding.row.is_some() && finding.row != self.last {
            self.rows += 1;
            self.last = finding.row;
        }
    }

    /// Says that the copy is there, and what to do with it.
    /// `as_it_is`: no profile may recognise it.
    fn told(&self, out: &Path, rows: u32, options: &JobOptions, as_it_is: bool) -> String {
        let count = words::counted(self.count, "repair");
        let repairs = match (self.count, self.rows) {
            (0, _) => "nothing to repair".to_owned(),
            (_, 0) => format!("{count}, in no row"),
            (_, n) => {
                let rows = words::counted(u64::from(rows), "row");
                format!("{count}, in {} of {rows}", words::count(n))
            }
        };
        // The copy has the documented names and is UTF-8: it needs no words about its reading.
        let mut command = import_command(out, options, &Reading::default());
        if as_it_is {
            command.push_str(" --profile none");
        }
        let out = out.display();
        format!("{out} written: {repairs}. Import it with `{command}`")
    }
}

/// The list of problems would take the place of the repaired copy.
fn refuse_one_file_for_both(args: &CheckArgs) -> CliResult<()> {
    let (Some(fix), Some(out)) = (&args.fix, &args.out) else {
        return Ok(());
    };
    if resolve::absolute(fix)? != resolve::absolute(out)? {
        return Ok(());
    }
    let message = format!("--fix and --out name the same file, {}", out.display());
    Err(CliError::usage("out_file", message)
        .hint("--fix is the repaired copy, --out the list of problems: name two files"))
}

fn open_list(args: &CheckArgs, source: &Path) -> CliResult<Option<ProblemsWriter<Output>>> {
    let Some(path) = &args.out else {
        return Ok(None);
    };
    let out = Output::open_as(Some(path), Some(source), Present::of(args.force))?;
    if args.jsonl {
        return Ok(Some(ProblemsWriter::jsonl(out)));
    }
    let writer = ProblemsWriter::csv(out).map_err(|error| CliError::output(&error))?;
    Ok(Some(writer))
}

fn summary(ctx: &Context, path: &Path, index: &Index, report: &CheckReport) -> CheckSummary {
    let elapsed = Mono::now().since(ctx.started).as_secs_f64();
    CheckSummary {
        file: path.display().to_string(),
        rows: report.rows,
        would_fail: report.failing,
        errors: report.count(Severity::Error),
        warnings: report.count(Severity::Warning),
        fixed: report.count(Severity::Fixed),
        notes: index
            .read_as
            .iter()
            .chain(&index.warnings)
            .chain(&index.left_out)
            .cloned()
            .collect(),
        problems: groups_of(report),
        elapsed_s: (elapsed * 1000.0).round() / 1000.0,
    }
}

/// Returns the problems by rule as they are shown.
fn groups_of(report: &CheckReport) -> Vec<ProblemGroup> {
    let shown = |group: &source::check::RuleGroup| ProblemGroup {
        rule: group.rule.id,
        severity: group.rule.severity.as_str(),
        title: group.rule.title,
        count: group.count,
        examples: group.examples.iter().map(line_of).collect(),
    };
    report.groups().into_iter().map(shown).collect()
}

fn line_of(finding: &Finding) -> ProblemLine {
    let problem = &finding.problem;
    ProblemLine {
        severity: problem.rule.severity.as_str(),
        rule: problem.rule.id,
        row: finding.row.map(|row| row.0),
        line: finding.line,
        column: problem.column.clone().into_owned(),
        value: finding.value.clone(),
        message: problem.words.clone(),
        suggestion: problem.suggestion.clone(),
    }
}

/// Problems are the data of this command: they go to stdout. What is said about them does not.
fn show(ctx: &Context, args: &CheckArgs, summary: &CheckSummary) -> CliResult<()> {
    for note in &summary.notes {
        ctx.say(&format!("note: {note}"));
    }
    let printed = if args.json {
        screen::print_json(summary)
    } else {
        let text = problems::text(&summary.problems, true);
        screen::print_data(text.as_bytes())
    };
    printed.map_err(|error| CliError::stdout(&error))?;
    ctx.say(&summary.closing());
    Ok(())
}

impl From<CheckError> for CliError {
    fn from(error: CheckError) -> Self {
        match error {
            CheckError::Source(error) => error.into(),
            CheckError::Write(error) => Self::output(&error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repaired_file_replaces_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let there = folder.path().join("there.csv");
        std::os::unix::fs::symlink("nowhere", &there).unwrap();
        let source = Path::new("source.csv");
        let error = create(&there, source, Present::Keep).unwrap_err();
        assert_eq!(error.exit(), Exit::Usage);
        // Not even by force, when it is the source under another name.
        let one = folder.path().join("one.csv");
        std::fs::write(&one, "email\n").unwrap();
        let link = folder.path().join("link.csv");
        std::os::unix::fs::symlink(&one, &link).unwrap();
        for out in [&one, &link] {
            let error = create(out, &one, Present::Replace).unwrap_err();
            assert_eq!(error.exit(), Exit::Usage);
        }
        create(&one, source, Present::Replace).unwrap();
        let far = folder.path().join("no/such/folder.csv");
        let error = create(&far, source, Present::Keep).unwrap_err();
        assert_eq!(error.exit(), Exit::Disk);
    }
}
