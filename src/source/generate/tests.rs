use super::*;
use crate::model::OrgMode;
use crate::source::{IndexOptions, RowRules, build, parse_row, read_chunk};
use std::collections::{BTreeMap, BTreeSet};

fn args(rows: u32, orgs: u32, shares: [&str; 3]) -> GenerateArgs {
    let [multi_org, duplicates, bad] = shares.map(|share| share.parse().unwrap());
    GenerateArgs {
        rows,
        orgs,
        multi_org,
        duplicates,
        bad,
        seed: 7,
        force: false,
        out: None,
    }
}

fn text(args: &GenerateArgs) -> String {
    let mut out = Vec::new();
    generate(args, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

fn rows(text: &str) -> Vec<Vec<String>> {
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let rows = reader.records();
    rows.map(|row| row.unwrap().iter().map(str::to_owned).collect())
        .collect()
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let mut one = args(500, 5, ["10%", "5%", "5%"]);
    assert_eq!(text(&one), text(&one));
    let before = text(&one);
    one.seed = 8;
    assert_ne!(text(&one), before);
}

#[test]
fn columns_are_those_of_the_contract() {
    let header = |orgs| {
        text(&args(1, orgs, ["0", "0", "0"]))
            .lines()
            .next()
            .unwrap()
            .to_owned()
    };
    let six = "email,first_name,last_name,email_verified,external_id,metadata";
    assert_eq!(header(0), six);
    assert_eq!(header(1), format!("{six},org_external_id,org_name"));
}

#[test]
fn plain_rows_are_all_different_people() {
    let rows = rows(&text(&args(20_000, 0, ["0", "0", "0"])));
    assert_eq!(rows.len(), 20_000);
    let emails: BTreeSet<_> = rows.iter().map(|row| row[0].as_str()).collect();
    let externals: BTreeSet<_> = rows.iter().map(|row| row[4].as_str()).collect();
    assert_eq!((emails.len(), externals.len()), (20_000, 20_000));
    let reserved = ["example.com", "example.org", "example.net", ".example"];
    assert!(
        emails
            .iter()
            .all(|email| reserved.iter().any(|domain| email.ends_with(domain)))
    );
}

#[test]
fn shares_are_exact_and_pairs_repeat_only_as_duplicates() {
    let text = text(&args(10_000, 7, ["30%", "4%", "0"]));
    let mut users: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut pairs = BTreeSet::new();
    let mut repeated_pairs = 0;
    let mut other_orgs = 0;
    for row in rows(&text) {
        let known = users.contains_key(&row[0]);
        let first = users
            .entry(row[0].clone())
            .or_insert_with(|| row[..6].to_vec());
        assert_eq!(first[..], row[..6], "all columns of a user are equal");
        if !pairs.insert((row[0].clone(), row[6].clone())) {
            repeated_pairs += 1;
        } else if known {
            other_orgs += 1;
        }
    }
    assert_eq!((repeated_pairs, other_orgs, users.len()), (400, 3000, 6600));
}

#[test]
fn every_membership_two_organizations_allow_can_be_asked_for() {
    let text = text(&args(1000, 2, ["50%", "0", "0"]));
    let pairs: BTreeSet<_> = rows(&text)
        .into_iter()
        .map(|row| (row[0].clone(), row[6].clone()))
        .collect();
    assert_eq!(pairs.len(), 1000);
}

#[test]
fn arguments_that_cannot_be_are_refused() {
    for (orgs, shares) in [
        (0, ["10%", "0", "0"]),
        (1, ["10%", "0", "0"]),
        (2, ["51%", "0", "0"]),
        (3, ["50%", "30%", "30%"]),
        (3, ["0", "50%", "50%"]),
    ] {
        let error = generate(&args(100, orgs, shares), &mut Vec::new()).unwrap_err();
        assert!(matches!(error, GenerateError::Arguments(_)), "{shares:?}");
    }
}

#[test]
fn percentages_are_read_exactly() {
    assert_eq!("5%".parse(), Ok(Percent(500)));
    assert_eq!("0.25%".parse(), Ok(Percent(25)));
    assert_eq!("100".parse(), Ok(Percent(10_000)));
    for text in ["", "%", "-1%", "101%", "1.234%", "x", "5%%", "99999999999%"] {
        assert!(text.parse::<Percent>().is_err(), "{text}");
    }
}

#[test]
fn bad_rows_break_rows_and_never_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("users.csv");
    let mut args = args(1300, 4, ["0", "0", "10%"]);
    args.out = Some(path.clone());
    generate(&args, &mut Vec::new()).unwrap();
    let options = IndexOptions {
        chunk_size: 250,
        org_mode: OrgMode::Columns,
        hash_key: 1,
        delimiter: crate::model::Delimiter::Comma,
        renames: Vec::new(),
        profile: crate::source::profile::ProfileChoice::Off,
    };
    let index = build(&path, &options, &mut |_| {}).unwrap();
    assert_eq!((index.rows, index.followers.len()), (1300, 0));
    let rules = RowRules {
        org_mode: OrgMode::Columns,
        require_membership: false,
    };
    let file = std::fs::File::open(&path).unwrap();
    let mut codes: BTreeMap<String, u32> = BTreeMap::new();
    for chunk in &index.chunks {
        for record in read_chunk(&file, chunk, &index.columns).unwrap() {
            if let Err(error) = parse_row(&record, &index.columns, &rules) {
                *codes.entry(error.code).or_default() += 1;
            }
        }
    }
    assert_eq!(codes.values().sum::<u32>(), 130, "{codes:?}");
    assert_eq!(codes.len(), 12, "{codes:?}");
    assert_eq!(codes.get("email_invalid"), Some(&20));
}

#[test]
fn nothing_but_a_header_is_a_file_too() {
    assert_eq!(text(&args(0, 0, ["0", "0", "0"])).lines().count(), 1);
}

#[test]
fn arguments_are_read_from_a_command_line() {
    use clap::{Args as _, FromArgMatches as _};
    let command = GenerateArgs::augment_args(clap::Command::new("generate"));
    let words = [
        "generate",
        "--rows",
        "10",
        "--orgs",
        "3",
        "--multi-org",
        "5%",
        "--out",
        "x.csv",
    ];
    let matches = command.clone().try_get_matches_from(words).unwrap();
    let args = GenerateArgs::from_arg_matches(&matches).unwrap();
    assert_eq!((args.rows, args.orgs, args.seed), (10, 3, 0));
    assert_eq!(
        (args.multi_org, args.duplicates),
        (Percent(500), Percent(0))
    );
    assert_eq!(args.out, Some(PathBuf::from("x.csv")));
    assert!(
        command
            .try_get_matches_from(["generate", "--rows", "10", "--bad", "x"])
            .is_err()
    );
}
