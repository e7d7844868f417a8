//! `bench`: measures, shows, keeps, compares.

use super::args::{BenchArgs, Percent};
use super::error::{CliError, CliResult};
use super::exit::Exit;
use super::resolve;
use crate::bench::{
    BaselineError, BenchError, Budget, Machine, Progress, Report, SUITES, Suite, compare, machine,
    page, text, workers::Sweep,
};
use crate::model::clock::wall_ms;
use crate::report::outfile::same_file;
use crate::report::{OutFile, Screen, screen};
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// The word for all suites.
const ALL: &str = "all";

/// Suites' lines on stderr.
struct Lines<'a>(&'a Screen);

impl Progress for Lines<'_> {
    fn say(&mut self, words: &str) {
        self.0.say(words);
    }
}

/// Silence.
struct Quiet;

impl Progress for Quiet {
    fn say(&mut self, _words: &str) {}
}

/// Runs `bench`.
pub fn run(args: &BenchArgs) -> CliResult<Exit> {
    let screen = Screen::plain();
    let suites = suites(args)?;
    // Before minutes of measuring: what will be needed afterwards.
    let earlier = args.baseline.as_deref().map(baseline).transpose()?;
    let outputs = Outputs::open(args)?;
    let place = folder(args)?;
    let mut report = Report::new(Machine::ask(), wall_ms(), args.full, args.runs);
    report.asked = Some(asked(args));
    report.load.before = machine::load();
    for suite in suites {
        let folder = place.path().join(suite.name);
        std::fs::create_dir(&folder)
            .map_err(BenchError::io("the folder of the measurement"))
            .map_err(CliError::from)?;
        let budget = budget(args, folder.clone())?;
        let progress: &mut dyn Progress = if args.quiet {
            &mut Quiet
        } else {
            &mut Lines(&screen)
        };
        report.suites.push((suite.run)(&budget, progress)?);
        // One suite's files must not fill the cache of the next one.
        let _next_suite_does_not_need_it = std::fs::remove_dir_all(&folder);
    }
    report.load.after = machine::load();
    conclude(args, &report, earlier.as_ref(), outputs)
}

/// Files that are asked for, opened before the measurement so that it is not lost for a typo.
struct Outputs {
    json: Option<OutFile>,
    html: Option<OutFile>,
}

impl Outputs {
    fn open(args: &BenchArgs) -> CliResult<Self> {
        apart(args)?;
        Ok(Self {
            json: args.json.as_deref().map(create).transpose()?,
            html: args.html.as_deref().map(create).transpose()?,
        })
    }
}

/// Refuses files of which one would take the place of another.
fn apart(args: &BenchArgs) -> CliResult<()> {
    let files = [
        ("--baseline", &args.baseline),
        ("--json", &args.json),
        ("--html", &args.html),
    ];
    for (at, (earlier, first)) in files.iter().enumerate() {
        for (later, second) in files.iter().skip(at + 1) {
            if let (Some(first), Some(second)) = (first, second)
                && (same_file(first, second)
                    || resolve::absolute(first)? == resolve::absolute(second)?)
            {
                let message = format!("{earlier} and {later} are one file: {}", second.display());
                return Err(CliError::usage("same_file", message)
                    .hint(format!("give {later} another name")));
            }
        }
    }
    Ok(())
}

fn create(path: &Path) -> CliResult<OutFile> {
    OutFile::create(path, None).map_err(|error| {
        let message = format!("{} cannot be written: {error}", path.display());
        CliError::new(Exit::Disk, "out_file", message)
    })
}

fn write(file: Option<OutFile>, content: &str) -> CliResult<()> {
    let Some(mut file) = file else { return Ok(()) };
    file.write_all(content.as_bytes())
        .and_then(|()| file.finish())
        .map_err(|error| CliError::output(&error))
}

fn conclude(
    args: &BenchArgs,
    report: &Report,
    earlier: Option<&Report>,
    outputs: Outputs,
) -> CliResult<Exit> {
    let threshold = args.threshold.0;
    let comparison = earlier.map(|earlier| compare::compare(earlier, report, threshold));
    let json = serde_json::to_string_pretty(report).map_err(|error| {
        CliError::new(Exit::Internal, "bench_json", format!("no JSON: {error}"))
    })?;
    write(outputs.json, &(json + "\n"))?;
    let compared = comparison.as_ref().map(|compared| (compared, threshold));
    write(outputs.html, &page::render(report, compared))?;
    let mut shown = text::render(report);
    if let Some(comparison) = &comparison {
        shown.push('\n');
        shown.push_str(&text::comparison(comparison, threshold));
    }
    screen::print_data(shown.as_bytes()).map_err(|error| CliError::stdout(&error))?;
    let Some(comparison) = comparison else {
        return Ok(Exit::Success);
    };
    if comparison.changes.is_empty() {
        let message = "the earlier measurement and this one have no figure in common";
        return Err(CliError::usage("baseline_unlike", message)
            .hint("compare the same suite with the same options and sizes"));
    }
    Ok(if comparison.regressions() > 0 {
        Exit::RowsFailed
    } else {
        Exit::Success
    })
}

fn suites(args: &BenchArgs) -> CliResult<Vec<Suite>> {
    if args.suite != ALL && args.suite != "workers" {
        let given = [
            (args.csv.is_some(), "a CSV"),
            (args.workers.is_some(), "--workers"),
            (args.latency.is_some(), "--latency"),
            (args.rate.is_some(), "--rate"),
            (args.concurrency.is_some(), "--concurrency"),
        ];
        if let Some((_, what)) = given.iter().find(|(given, _)| *given) {
            let message = format!("`bench {}` does not take {what}", args.suite);
            return Err(CliError::usage("bench_option", message)
                .hint(format!("{what} belongs to `bench workers`")));
        }
    }
    let wanted = |suite: &&Suite| args.suite == ALL || args.suite == suite.name;
    let suites: Vec<Suite> = SUITES.iter().filter(wanted).copied().collect();
    Ok(suites)
}

/// Returns every word that names suites.
pub fn suite_names() -> impl Iterator<Item = &'static str> {
    SUITES.iter().map(|suite| suite.name).chain([ALL])
}

fn budget(args: &BenchArgs, folder: PathBuf) -> CliResult<Budget> {
    let mut budget = Budget::new(folder, resolve::program()?);
    budget.full = args.full;
    budget.runs = args.runs;
    budget.rows = args.rows;
    let usual = Sweep::default();
    let csv = args.csv.as_deref().map(resolve::source_input).transpose()?;
    let mut workers = args.workers.clone().unwrap_or(usual.workers);
    workers.sort_unstable();
    workers.dedup();
    budget.sweep = Sweep {
        csv: csv.map(|input| input.path().to_owned()),
        workers,
        latency: args.latency.clone().unwrap_or(usual.latency),
        rate: args.rate.unwrap_or(usual.rate),
        concurrency: args.concurrency.unwrap_or(usual.concurrency),
    };
    Ok(budget)
}

/// Returns the options that say what is measured; not the path of a file, which nobody else has to
/// know.
fn asked(args: &BenchArgs) -> String {
    let workers = args.workers.as_ref().map(|counts| {
        let counts: Vec<String> = counts.iter().map(u32::to_string).collect();
        counts.join(",")
    });
    let options = [
        ("--rows", args.rows.map(|rows| rows.to_string())),
        ("--workers", workers),
        (
            "--latency",
            args.latency.as_ref().map(|it| it.words.clone()),
        ),
        ("--rate", args.rate.map(|rate| rate.to_string())),
        ("--concurrency", args.concurrency.map(|it| it.to_string())),
    ];
    let mut words = vec![args.suite.clone()];
    words.extend(args.csv.iter().map(|_| "CSV".to_owned()));
    words.extend(args.full.then(|| "--full".to_owned()));
    let given = |(name, value): (&str, Option<String>)| value.map(|it| format!("{name} {it}"));
    words.extend(options.into_iter().filter_map(given));
    words.join(" ")
}

/// Makes the folder of everything that is written meanwhile, on the disk that is to be measured.
fn folder(args: &BenchArgs) -> CliResult<tempfile::TempDir> {
    let Some(parent) = &args.folder else {
        return resolve::temporary_folder();
    };
    let made = tempfile::Builder::new()
        .prefix("userferry-bench-")
        .tempdir_in(resolve::absolute(parent)?);
    made.map_err(|error| {
        let message = format!("no folder can be made in {}: {error}", parent.display());
        CliError::new(Exit::Disk, "bench_folder", message)
            .hint("name a folder that exists and may be written, with --folder")
    })
}

fn baseline(path: &Path) -> CliResult<Report> {
    Report::read(path).map_err(|error| {
        let exit = match error {
            BaselineError::Io(_) => Exit::Disk,
            BaselineError::Form(_) => Exit::Input,
        };
        let message = format!("--baseline {}: {error}", path.display());
        CliError::new(exit, "baseline", message)
            .hint("give a file that an earlier `bench --json FILE` wrote")
    })
}

impl From<BenchError> for CliError {
    fn from(error: BenchError) -> Self {
        match error {
            BenchError::Ledger(error) => error.into(),
            BenchError::Source(error) => (*error).into(),
            BenchError::Generate(error) => error.into(),
            BenchError::Sandbox(error) => error.into(),
            BenchError::Io { .. } => Self::new(Exit::Disk, "bench_io", error.to_string())
                .hint("make room, or name another place with --folder"),
            BenchError::Wrong(_) => Self::new(Exit::Internal, "bench", error.to_string())
                .hint("nothing was measured; a CSV of your own must be one that `import` takes"),
        }
    }
}

/// Reads `15%` as 0.15.
pub fn parse_threshold(text: &str) -> Result<Percent, String> {
    let number = text.trim().trim_end_matches('%').trim();
    match number.parse::<f64>() {
        Ok(percent) if (0.0..=1000.0).contains(&percent) => Ok(Percent(percent / 100.0)),
        Ok(_) | Err(_) => Err("it is no share from 0% to 1000%, such as 15%".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::{Cli, Command};
    use clap::Parser as _;

    fn args(words: &str) -> BenchArgs {
        let words = ["userferry", "bench"].into_iter().chain(words.split(' '));
        match Cli::try_parse_from(words).unwrap().command {
            Command::Bench(args) => *args,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_suite_can_be_named_and_all_of_them_together() {
        let names = |words: &str| -> Vec<&str> {
            let suites = suites(&args(words)).unwrap();
            suites.iter().map(|suite| suite.name).collect()
        };
        for suite in SUITES {
            assert_eq!(names(suite.name), [suite.name]);
        }
        assert_eq!(names("all").len(), SUITES.len());
        let refused = Cli::try_parse_from(["userferry", "bench", "worker"]).unwrap_err();
        let words = refused.to_string();
        assert!(
            words.contains("'workers'") && words.contains("ledger"),
            "{words}"
        );
    }

    #[test]
    fn options_of_another_suite_are_refused() {
        for words in ["http --workers 1,2", "http users.csv", "http --rate 5/1s"] {
            let error = suites(&args(words)).unwrap_err();
            assert_eq!(error.exit(), Exit::Usage, "{words}");
        }
        assert!(suites(&args("workers --workers 1,2 --latency 5ms")).is_ok());
    }

    #[test]
    fn no_file_takes_the_place_of_another() {
        for (words, refused) in [
            ("pipe --json a --html ./a", Some("--json and --html")),
            ("pipe --baseline a --json a", Some("--baseline and --json")),
            ("pipe --baseline a --json b --html c", None),
            ("pipe", None),
        ] {
            let message = apart(&args(words)).err().map(|error| error.rendered());
            match (message, refused) {
                (None, None) => {}
                (Some(message), Some(part)) => assert!(message.contains(part), "{message}"),
                other => panic!("{words}: {other:?}"),
            }
        }
    }

    #[test]
    fn thresholds_are_shares() {
        let near = |text: &str, share: f64| (parse_threshold(text).unwrap().0 - share).abs() < 1e-9;
        assert!(near("15%", 0.15) && near("7.5", 0.075));
        assert!(parse_threshold("-1").is_err() && parse_threshold("much").is_err());
    }
}
