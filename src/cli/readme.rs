//! The README tells exactly what the command line can do: held together by tests.

use super::args::Cli;
use super::exit::Exit;
use clap::CommandFactory as _;
use std::collections::BTreeSet;

const README: &str = include_str!("../../README.md");

/// Options of other programs that the README shows, and those every command has.
const FOREIGN: [&str; 4] = ["--release", "--path", "--help", "--version"];

fn collect(
    command: &clap::Command,
    path: &str,
    options: &mut BTreeSet<String>,
    commands: &mut BTreeSet<String>,
) {
    for arg in command.get_arguments().filter(|arg| !arg.is_hide_set()) {
        if let Some(long) = arg.get_long() {
            options.insert(format!("--{long}"));
        }
    }
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        let path = format!("{path} {}", sub.get_name());
        collect(sub, &path, options, commands);
        commands.insert(path);
    }
}

fn built() -> (BTreeSet<String>, BTreeSet<String>) {
    let (mut options, mut commands) = (BTreeSet::new(), BTreeSet::new());
    collect(&Cli::command(), "userferry", &mut options, &mut commands);
    (options, commands)
}

/// Returns every `--word` of the README.
fn options_told() -> BTreeSet<String> {
    let mut told = BTreeSet::new();
    for (at, _) in README.match_indices("--") {
        let before = README[..at].chars().next_back();
        let rest = &README[at + 2..];
        let end = rest
            .find(|c: char| !c.is_ascii_lowercase() && c != '-')
            .unwrap_or(rest.len());
        let word = &rest[..end];
        let starts = before.is_none_or(|c| !c.is_ascii_alphanumeric() && c != '-' && c != '|');
        if starts && word.starts_with(|c: char| c.is_ascii_lowercase()) {
            told.insert(format!("--{}", word.trim_end_matches('-')));
        }
    }
    told.retain(|option| !FOREIGN.contains(&option.as_str()));
    told
}

#[test]
fn every_option_is_told_and_none_is_invented() {
    let (built, _) = built();
    let told = options_told();
    let missing: Vec<_> = built
        .iter()
        .filter(|option| !FOREIGN.contains(&option.as_str()) && !told.contains(*option))
        .collect();
    let invented: Vec<_> = told.difference(&built).collect();
    assert!(missing.is_empty(), "not in the README: {missing:?}");
    assert!(invented.is_empty(), "in the README only: {invented:?}");
}

#[test]
fn every_command_is_told_and_none_is_invented() {
    let (_, built) = built();
    let told: BTreeSet<String> = README
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .filter(|command| command.starts_with("userferry "))
        .map(|command| {
            let words = command.split(' ').filter(|word| !word.starts_with('['));
            let plain = |word: &&str| word.chars().all(|c| c.is_ascii_lowercase());
            words.filter(plain).collect::<Vec<_>>().join(" ")
        })
        .collect();
    assert_eq!(told, built);
}

#[test]
fn the_table_of_exit_codes_is_the_programs() {
    let told: Vec<(u8, String)> = README
        .lines()
        .filter_map(|line| {
            let mut cells = line.trim_matches('|').split('|').map(str::trim);
            Some((cells.next()?.parse().ok()?, cells.next()?.to_owned()))
        })
        .collect();
    let built: Vec<(u8, String)> = Exit::ALL
        .iter()
        .map(|exit| (exit.as_u8(), exit.meaning().to_owned()))
        .collect();
    assert_eq!(told, built);
}

#[test]
fn the_columns_of_results_are_the_programs() {
    assert!(README.contains(&crate::report::results::COLUMNS.join(",")));
}
