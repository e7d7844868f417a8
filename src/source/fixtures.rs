//! Every file under `fixtures/` is read as its README says.

use super::*;
use crate::model::{OrgKey, OrgMode};
use compact_str::CompactString;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

fn options(org_mode: &OrgMode) -> IndexOptions {
    IndexOptions {
        chunk_size: 250,
        org_mode: org_mode.clone(),
        hash_key: 1,
        delimiter: crate::model::Delimiter::Comma,
        renames: Vec::new(),
        profile: profile::ProfileChoice::Off,
    }
}

/// A row, or its number and the code of the rule it breaks.
type Row = Result<Arc<SourceRow>, (u32, String)>;

fn open_with(name: &str, org_mode: &OrgMode) -> (Index, Vec<Row>) {
    let path = folder().join(name);
    let index = build(&path, &options(org_mode), &mut |_| {}).unwrap();
    let file = std::fs::File::open(&path).unwrap();
    let rules = RowRules {
        org_mode: org_mode.clone(),
        require_membership: false,
    };
    let mut rows = Vec::new();
    for chunk in &index.chunks {
        for record in read_chunk(&file, chunk, &index.columns).unwrap() {
            let row = parse_row(&record, &index.columns, &rules);
            rows.push(row.map_err(|error| (record.number.0, error.code)));
        }
    }
    (index, rows)
}

fn clean(name: &str, org_mode: &OrgMode) -> (Index, Vec<Arc<SourceRow>>) {
    let (index, rows) = open_with(name, org_mode);
    assert!(
        index.conflicts.is_empty() && index.warnings.is_empty(),
        "{name}"
    );
    (index, rows.into_iter().map(Result::unwrap).collect())
}

fn orgs(rows: &[Arc<SourceRow>]) -> BTreeMap<&str, u32> {
    let mut orgs = BTreeMap::new();
    for org in rows.iter().filter_map(|row| row.org.as_ref()) {
        *orgs.entry(org.as_str()).or_default() += 1;
    }
    orgs
}

#[test]
fn users_import_without_a_fault() {
    let (index, rows) = clean("users.csv", &OrgMode::Columns);
    assert_eq!((index.rows, index.followers.len()), (300, 0));
    assert_eq!((orgs(&rows).len(), index.org_names.len()), (6, 6));
    let roles: BTreeSet<_> = rows
        .iter()
        .flat_map(|row| &row.role_slugs)
        .map(CompactString::as_str)
        .collect();
    assert_eq!(roles, BTreeSet::from(["admin", "member"]));
    assert!(
        rows.iter()
            .all(|row| row.org.is_some() && row.metadata.len() == 2)
    );
}

#[test]
fn plain_people_have_no_organization() {
    let (index, rows) = clean("plain.csv", &OrgMode::Columns);
    assert_eq!((index.rows, index.followers.len()), (40, 0));
    assert!(rows.iter().all(|row| row.org.is_none()));
}

#[test]
fn one_organization_takes_everybody() {
    let mode = OrgMode::Single {
        key: OrgKey::External("acme".into()),
        name: None,
    };
    let (_, rows) = clean("single-organization.csv", &mode);
    assert_eq!(orgs(&rows), BTreeMap::from([("acme", 60)]));
    let path = folder().join("users.csv");
    let error = build(&path, &options(&mode), &mut |_| {}).unwrap_err();
    assert_eq!(error.code(), "organization_columns");
}

#[test]
fn people_of_many_organizations_follow_their_first_row() {
    let (index, rows) = clean("many-organizations.csv", &OrgMode::Columns);
    assert_eq!((rows.len(), orgs(&rows).len()), (600, 4));
    assert_eq!(index.followers.len(), 120);
    assert_eq!(index.differing.len(), 0);
    for follower in &index.followers {
        let back = if follower.row.0 <= 580 { 480 } else { 580 };
        assert_eq!(follower.leader.0, follower.row.0 - back);
        assert_eq!(follower.previous_pair, None);
    }
    let pairs: BTreeSet<_> = rows
        .iter()
        .map(|row| (row.email_norm(), &row.org))
        .collect();
    assert_eq!(pairs.len(), 600);
}

#[test]
fn quoted_cells_keep_their_text_and_their_lines() {
    let (index, rows) = clean("quoted.csv", &OrgMode::Columns);
    assert_eq!(index.rows, 6);
    let names: Vec<_> = rows
        .iter()
        .map(|row| row.first_name.as_deref().unwrap())
        .collect();
    assert_eq!(names[..2], ["Ada \"Countess\"", "Ben\nBenjamin"]);
    assert_eq!(rows[1].last_name.as_deref(), Some("Lines\r\nLonger"));
    assert_eq!(rows[2].email, "Cleo.Space@Example.COM");
    assert_eq!(rows[0].metadata[1], ("n".into(), "1.50".into()));
    assert_eq!(rows[3].metadata, [("department".into(), "Sales".into())]);
    let file = std::fs::File::open(folder().join("quoted.csv")).unwrap();
    let records = read_chunk(&file, &index.chunks[0], &index.columns).unwrap();
    let lines: Vec<u64> = records.iter().map(|record| record.line).collect();
    assert_eq!(lines, [2, 3, 6, 9, 15, 16]);
}

#[test]
fn every_hash_format_is_taken() {
    let (_, rows) = clean("password-hashes.csv", &OrgMode::Columns);
    let kinds: BTreeSet<_> = rows
        .iter()
        .filter_map(|row| match &row.credential {
            Some(Credential::Hash { kind, .. }) => Some(*kind),
            Some(Credential::Plain(_)) | None => None,
        })
        .collect();
    assert_eq!(kinds, rules::HASH_TYPES.iter().copied().collect());
}

#[test]
fn bad_rows_fail_with_the_codes_expected() {
    let (index, rows) = open_with("bad-rows.csv", &OrgMode::Columns);
    let mut failed: BTreeMap<u32, String> = rows.into_iter().filter_map(Result::err).collect();
    for conflict in &index.conflicts {
        failed.insert(conflict.row.0, "external_id_conflict_in_file".to_owned());
    }
    let mut reader = csv::Reader::from_path(folder().join("bad-rows.expected.csv")).unwrap();
    let expected: BTreeMap<u32, String> = reader.deserialize().map(Result::unwrap).collect();
    assert_eq!(failed, expected);
    assert_eq!(index.rows, 33);
}

#[test]
fn second_factors_are_read_as_exports_write_them() {
    use secrecy::ExposeSecret as _;
    let (index, rows) = open_with("second-factors.csv", &OrgMode::Columns);
    assert_eq!(index.followers.len(), 1);
    assert_eq!(index.differing, [crate::model::RowNumber(9)]);
    let good: Vec<&Arc<SourceRow>> = rows.iter().filter_map(|row| row.as_ref().ok()).collect();
    let locales: Vec<_> = good.iter().map(|row| row.locale.as_deref()).collect();
    assert_eq!(
        locales,
        ["pt-BR", "de-AT", "zh-Hant-TW", "fr", "es-419"].map(Some)
    );
    let secrets: Vec<&str> = good
        .iter()
        .filter_map(|row| row.totp.as_ref())
        .map(|totp| totp.secret.expose_secret())
        .collect();
    assert_eq!(secrets[..2], ["JBSWY3DPEHPK3PXP"; 2]);
    assert_eq!(secrets[2], "GEZDGNBVGY3TQOJQGEZDGNBVGY");
    let failed: BTreeMap<u32, String> = rows.into_iter().filter_map(Result::err).collect();
    let mut reader = csv::Reader::from_path(folder().join("second-factors.expected.csv")).unwrap();
    let expected: BTreeMap<u32, String> = reader.deserialize().map(Result::unwrap).collect();
    assert_eq!(failed, expected);
}

#[test]
fn refused_files_give_the_code_in_their_name() {
    let mut files = 0;
    for entry in std::fs::read_dir(folder().join("refused")).unwrap() {
        let path = entry.unwrap().path();
        let stem = path.file_stem().unwrap().to_str().unwrap();
        let input = Input::File(path.clone());
        let ask = Ask {
            may_guess: true,
            ..Ask::default()
        };
        let folder = tempfile::tempdir().unwrap();
        let mut place = || Ok::<_, SourceError>(folder.path().to_owned());
        let options = options(&OrgMode::Columns);
        let error = read(&input, &ask, &options, &mut place, &mut |_| {}).unwrap_err();
        assert_eq!(error.code(), stem.split('-').next().unwrap(), "{error}");
        assert!(error.place().is_some() && error.hint().is_some(), "{error}");
        let words = format!("{error} {:?}", error.hint());
        assert!(!words.contains("@example.com"), "{words}");
        files += 1;
    }
    assert_eq!(files, 11);
}

#[test]
fn the_readme_names_every_file() {
    let readme = std::fs::read_to_string(folder().join("README.md")).unwrap();
    for entry in std::fs::read_dir(folder()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(name == "README.md" || readme.contains(&name), "{name}");
    }
}
