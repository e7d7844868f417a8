//! Options of a run that stay with the job: what a continued job keeps of its last run.

use super::args::TuningArgs;
use super::error::{CliError, CliResult};
use super::rates::{LimitArg, RateArg};
use crate::ledger::Settings;
use std::fmt::Display;
use std::str::FromStr;

/// Returns the options of the next run: those given, else those that the job keeps; and what a
/// person should be told about it.
pub fn effective(args: &TuningArgs, kept: &Settings) -> CliResult<(TuningArgs, Vec<String>)> {
    let mut args = args.clone();
    let mut notes = Vec::new();
    if args.rate.is_none() && args.read_rate.is_none() && args.total_rate.is_none() {
        args.rate = parsed("rate", kept.rate.as_ref())?;
        args.read_rate = parsed("read-rate", kept.read_rate.as_ref())?;
        args.total_rate = parsed("total-rate", kept.total_rate.as_ref())?;
        let words = told(&args);
        if !words.is_empty() {
            notes.push(format!(
                "keeping the limits of the last run: {words} (give --rate to change them)"
            ));
        }
    }
    if args.max_failures.is_none() && kept.max_failures.is_some() {
        args.max_failures = parsed("max-failures", kept.max_failures.as_ref())?;
        if let Some(most) = &args.max_failures {
            notes.push(format!(
                "keeping --max-failures {most} of the last run, counted anew (give it to change it)"
            ));
        }
    }
    args.limit = args.limit.or(kept.limit).filter(|limit| *limit > 0);
    Ok((args, notes))
}

/// Returns what the job keeps of these options.
pub fn of(args: &TuningArgs) -> Settings {
    Settings {
        limit: args.limit.filter(|limit| *limit > 0),
        rate: args.rate.map(|rate| rate.to_string()),
        read_rate: args.read_rate.map(|rate| rate.to_string()),
        total_rate: args.total_rate.map(|rate| rate.to_string()),
        max_failures: args.max_failures.map(|most| most.to_string()),
    }
}

fn told(args: &TuningArgs) -> String {
    let option = |name: &str, value: Option<&dyn Display>| value.map(|v| format!("--{name} {v}"));
    let options = [
        option("rate", args.rate.as_ref().map(|rate: &RateArg| rate as _)),
        option(
            "read-rate",
            args.read_rate.as_ref().map(|rate: &LimitArg| rate as _),
        ),
        option(
            "total-rate",
            args.total_rate.as_ref().map(|rate: &LimitArg| rate as _),
        ),
    ];
    options.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

fn parsed<T: FromStr<Err = String>>(name: &str, text: Option<&String>) -> CliResult<Option<T>> {
    let read = text.map(|text| text.parse()).transpose();
    read.map_err(|error: String| {
        let message = format!("the job keeps a --{name} that cannot be read: {error}");
        CliError::usage("kept_option", message).hint(format!("give --{name} anew"))
    })
}

#[cfg(test)]
mod tests {
    use super::super::args::{Cli, Command};
    use super::*;
    use clap::Parser as _;

    fn args(line: &str) -> TuningArgs {
        let words = ["userferry", "resume"]
            .into_iter()
            .chain(line.split_whitespace());
        let Command::Resume(args) = Cli::try_parse_from(words).unwrap().command else {
            panic!("it says resume");
        };
        args.tuning
    }

    #[test]
    fn what_was_kept_counts_until_something_else_is_said() {
        let kept = of(&args("--rate 500/10s --read-rate none --limit 10"));
        let (same, notes) = effective(&args(""), &kept).unwrap();
        assert_eq!(of(&same), kept);
        assert!(
            notes[0].contains("--rate 500/10s --read-rate none"),
            "{notes:?}"
        );

        let auto = of(&args("--rate auto:500/10s"));
        let (same, notes) = effective(&args(""), &auto).unwrap();
        assert_eq!(of(&same), auto);
        assert!(notes[0].contains("--rate auto:500/10s"), "{notes:?}");

        let (other, notes) = effective(&args("--rate workos --limit 0"), &kept).unwrap();
        assert_eq!(other.rate, Some(RateArg::Workos));
        assert_eq!((other.read_rate, other.limit), (None, None));
        assert!(notes.is_empty());
        assert_eq!(of(&other).limit, None);
    }

    #[test]
    fn the_brake_stays_with_the_job_until_it_is_released() {
        let kept = of(&args("--max-failures 5%"));
        let (same, notes) = effective(&args(""), &kept).unwrap();
        assert_eq!(of(&same), kept);
        assert!(notes[0].contains("--max-failures 5%"), "{notes:?}");
        let (other, notes) = effective(&args("--max-failures none"), &kept).unwrap();
        assert_eq!(of(&other).max_failures.as_deref(), Some("none"));
        assert!(notes.is_empty());
    }

    #[test]
    fn nothing_kept_is_nothing_said() {
        let (same, notes) = effective(&args("--limit 3"), &Settings::default()).unwrap();
        assert_eq!((same.rate, same.limit), (None, Some(3)));
        assert!(notes.is_empty());
    }
}
