use super::*;
use crate::model::OrgMode;
use crate::source::profile::ProfileChoice;
use crate::source::{IndexOptions, build, parse_row, parse_row_telling, read_chunk};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::io::Write as _;

pub(in crate::source) fn indexed(text: &str) -> (tempfile::NamedTempFile, Index) {
    indexed_by(text, OrgMode::Columns)
}

fn indexed_by(text: &str, org_mode: OrgMode) -> (tempfile::NamedTempFile, Index) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    let options = IndexOptions {
        delimiter: crate::model::Delimiter::Comma,
        renames: Vec::new(),
        chunk_size: 3,
        org_mode,
        hash_key: 1,
        profile: ProfileChoice::Off,
    };
    let index = build(file.path(), &options, &mut |_| {}).unwrap();
    (file, index)
}

pub(in crate::source) fn rules() -> RowRules {
    RowRules {
        org_mode: OrgMode::Columns,
        require_membership: false,
    }
}

fn all(text: &str) -> (Vec<Finding>, CheckReport) {
    let (file, index) = indexed(text);
    let mut found = Vec::new();
    let report = check(file.as_file(), &index, &rules(), &mut |finding| {
        found.push(finding.clone());
        Ok(())
    })
    .unwrap();
    (found, report)
}

fn places(found: &[Finding]) -> Vec<(u32, u64, &str, &str)> {
    let place = |finding: &Finding| finding.row.map_or(0, |row| row.0);
    found
        .iter()
        .map(|it| (place(it), it.line, it.problem.rule.id, &*it.problem.column))
        .map(|(row, line, id, column)| {
            (
                row,
                line,
                id,
                if column.is_empty() {
                    ""
                } else {
                    id_column(column)
                },
            )
        })
        .collect()
}

/// Columns of the tests, so that they outlive their findings.
fn id_column(column: &str) -> &'static str {
    super::super::header::KNOWN
        .iter()
        .find(|known| **known == column)
        .copied()
        .unwrap_or("other")
}

#[test]
fn every_problem_of_a_row_is_told_with_its_place() {
    let (found, report) = all("email,email_verified,external_id,metadata\n\
         a@x.example,yes,1,\n\
         \"no\nmail\",maybe,2,[1]\n\
         amy@gmial.com,,3,{}\n");
    assert_eq!(
        places(&found),
        [
            (2, 3, "email_invalid", "email"),
            (2, 3, "email_verified_invalid", "email_verified"),
            (2, 3, "metadata_not_object", "metadata"),
            (3, 5, "email_domain_typo", "email"),
        ]
    );
    assert_eq!((report.rows, report.failing), (3, 1));
    assert_eq!(report.count(Severity::Error), 3);
    assert_eq!(report.count(Severity::Warning), 1);
    assert_eq!(found[1].value.as_deref(), Some("maybe"));
    assert_eq!(
        found[3].problem.suggestion.as_deref(),
        Some("amy@gmail.com")
    );
}

#[test]
fn rows_of_one_person_are_compared() {
    let (found, report) = all("email,first_name,external_id,org_external_id\n\
         a@x.example,Ann,1,acme\n\
         A@X.example,Ann,1,beta\n\
         a@x.example,Anna,1,acme\n\
         b@x.example,Bob,1,acme\n");
    assert_eq!(
        places(&found),
        [
            (3, 4, "user_fields_differ", "email"),
            (3, 4, "membership_repeated", "email"),
            (4, 5, "external_id_conflict_in_file", "external_id"),
        ]
    );
    assert_eq!(report.failing, 1);
}

#[test]
fn a_password_of_blanks_is_told_and_blanks_around_one_belong_to_it() {
    let (found, report) = all("email,password,password_hash_type\n\
         a@x.example,\"   \",\n\
         b@x.example,,\n\
         c@x.example, s ,\n\
         c@x.example,s,\n");
    assert_eq!(
        places(&found),
        [
            (1, 2, "password_blank", "password"),
            (4, 5, "user_fields_differ", "email"),
        ]
    );
    assert_eq!(report.failing, 0);
}

#[test]
fn text_after_a_closing_quote_is_told_and_no_address_is_sent_like_that() {
    let (found, report) = all("email,first_name,shoe\n\
         \"boss@corp.example\"s,\"A\",1\n\
         b@x.example,\"B\"ob,1\n\
         c@x.example,C,\"4\"2\n\
         d@x.example,\"D \"\"d\"\"\" ,1\n");
    assert_eq!(
        places(&found),
        [
            (1, 2, "email_invalid", "email"),
            (2, 3, "quote_stray", "first_name"),
            (3, 4, "quote_stray", "other"),
        ]
    );
    assert_eq!(found[2].problem.column, "number 3");
    assert_eq!(report.failing, 1);
}

#[test]
fn names_of_organizations_that_do_not_fit_are_told_once_each() {
    let text = "email,org_external_id,org_name\n\
         a@x.example,acme,Acme\n\
         b@x.example,acme,Acme Inc\n\
         c@x.example,acme,Acme Inc\n\
         d@x.example,beta,Acme Inc\n\
         e@x.example,acme, Acme \n\
         f@x.example,,Gamma\n\
         g@x.example,,gamma\n\
         h@x.example,,\"Gamma  \"\n\
         i@x.example,,Gamma  Inc\n\
         j@x.example,,gamma inc\n\
         k@x.example,,gamma\n";
    let by = |org_mode: OrgMode| {
        let (file, index) = indexed(text);
        let rules = RowRules {
            org_mode,
            require_membership: false,
        };
        let mut found = Vec::new();
        check(file.as_file(), &index, &rules, &mut |finding| {
            found.push(finding.clone());
            Ok(())
        })
        .unwrap();
        found.retain(|finding| finding.problem.rule.severity == Severity::Warning);
        found
    };
    let conflict = (2, 3, "org_name_conflict", "org_name");
    assert_eq!(places(&by(OrgMode::Columns)), [conflict]);
    let found = by(OrgMode::ColumnsByName);
    assert_eq!(
        places(&found),
        [
            conflict,
            (7, 8, "org_name_similar", "org_name"),
            (10, 11, "org_name_similar", "org_name"),
        ]
    );
    assert!(found[1].problem.words.starts_with("row 6 writes"));
    assert!(found[2].problem.words.starts_with("row 9 writes"));
}

#[test]
fn secrets_are_never_shown_and_cells_are_short_and_harmless() {
    let long = "x".repeat(100);
    let text = format!(
        "email,password,password_hash,password_hash_type,email_verified\n\
         a@x.example,secret,secret,,\n\
         b@x.example,,secret,bcrypt,\n\
         c@x.example,,secret,md5,\n\
         d@x.example,,,,\u{1b}[2J{long}\n"
    );
    let (found, report) = all(&text);
    assert_eq!(found.len(), 4);
    assert_eq!(report.failing, 4);
    assert!(!format!("{found:?}").contains("secret"), "{found:?}");
    assert_eq!(found[3].value, None);
    let (found, _) = all(&format!(
        "email,role_slugs,org_id\na@x.example,\u{1b}[2J{long},o\n"
    ));
    let value = found[0].value.as_deref().unwrap();
    assert!(!value.contains('\u{1b}') && value.len() < 80, "{value}");
}

#[test]
fn examples_are_few_and_counts_are_exact() {
    let rows: Vec<String> = (0..1000).map(|n| format!("bad{n}\n")).collect();
    let (found, report) = all(&format!("email\n{}", rows.concat()));
    assert_eq!(found.len(), 1000);
    let groups = report.groups();
    assert_eq!((groups.len(), groups[0].count), (1, 1000));
    assert_eq!(groups[0].examples.len(), EXAMPLES_MAX);
    assert_eq!(groups[0].examples[0].row, Some(RowNumber(1)));
}

#[test]
fn what_fails_in_a_check_fails_in_an_import_by_the_same_rule() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/bad-rows.csv");
    let (file, index) = indexed(&std::fs::read_to_string(path).unwrap());
    let mut first = BTreeMap::new();
    check(file.as_file(), &index, &rules(), &mut |finding| {
        if finding.problem.rule.severity == Severity::Error {
            let row = finding.row.unwrap();
            first.entry(row).or_insert(finding.problem.rule.id);
        }
        Ok(())
    })
    .unwrap();
    let mut failed = BTreeMap::new();
    for chunk in &index.chunks {
        for record in read_chunk(file.as_file(), chunk, &index.columns).unwrap() {
            if let Err(error) = parse_row(&record, &index.columns, &rules()) {
                failed.insert(record.number, error.code);
            }
        }
    }
    for conflict in &index.conflicts {
        failed.insert(conflict.row, EXTERNAL_ID_CONFLICT.id.to_owned());
    }
    let first: BTreeMap<_, _> = first
        .iter()
        .map(|(row, id)| (*row, (*id).to_owned()))
        .collect();
    assert_eq!(first, failed);
}

/// Returns the rows of which somebody may tell something who holds a file's rows against the rules
/// chunk by chunk, in the order of `turns`: `(chunk, who takes it)`.
fn noticed(
    file: &File,
    index: &Index,
    rules: &RowRules,
    turns: &[(usize, usize)],
) -> BTreeSet<RowNumber> {
    let mut noticed = BTreeSet::new();
    let mut names: [NewNames; 2] = Default::default();
    for (chunk, who) in turns {
        for record in read_chunk(file, &index.chunks[*chunk], &index.columns).unwrap() {
            let mut problems = Problems::default();
            let _row = parse_row_telling(&record, &index.columns, rules, &mut problems);
            let first = names[*who].may_be_first(&record, &index.columns, &rules.org_mode);
            if first || !problems.is_empty() {
                noticed.insert(record.number);
            }
        }
    }
    noticed
}

fn found_by(
    file: &File,
    index: &Index,
    rules: &RowRules,
    may_tell: &dyn Fn(RowNumber) -> bool,
) -> (Vec<Finding>, u64) {
    let mut found = Vec::new();
    let report = check_some(file, index, rules, may_tell, &mut |finding| {
        found.push(finding.clone());
        Ok(())
    });
    (found, report.unwrap().failing)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// What a dry run's workers notice is enough to find everything, whoever takes which chunk and
    /// when, and whatever nobody took.
    #[test]
    fn nothing_is_missed_by_looking_only_at_what_was_noticed(
        rows in prop::collection::vec(
            ("[ab]@x\\.org|A@x\\.org|bad|", "[12]?", "[xy]?|org_1", "Acme|acme|Acme  |Beta|", "yes|no|perhaps"),
            1..24,
        ),
        order in prop::collection::vec((any::<u32>(), 0..2_usize, prop::bool::weighted(0.9)), 8),
        again in prop::collection::vec((0..8_usize, 0..2_usize), 0..4),
        by_name in any::<bool>(),
    ) {
        let rows = rows.iter().map(|(email, id, org, name, verified)| {
            // A name that stands alone here and beside an id there is refused before.
            let (org_id, org) = match (by_name, org.as_str()) {
                (true, _) => ("", ""),
                (_, "org_1") => ("org_1", ""),
                (_, org) => ("", org),
            };
            format!("{email},{id},{org_id},{org},{name},{verified}\n")
        });
        let header = "email,external_id,org_id,org_external_id,org_name,email_verified\n";
        let org_mode = if by_name { OrgMode::ColumnsByName } else { OrgMode::Columns };
        let (file, index) = indexed_by(
            &format!("{header}{}", rows.collect::<String>()),
            org_mode.clone(),
        );
        let rules = RowRules { org_mode, require_membership: false };
        let mut turns: Vec<(u32, usize, usize)> = (0..index.chunks.len())
            .zip(&order)
            .filter(|(_, (_, _, is_taken))| *is_taken)
            .map(|(chunk, (when, who, _))| (*when, chunk, *who))
            .collect();
        turns.sort_unstable();
        let mut turns: Vec<(usize, usize)> = turns.iter().map(|turn| (turn.1, turn.2)).collect();
        // Somebody died with a chunk, and somebody else has it once more.
        turns.extend(again.into_iter().filter(|(chunk, _)| *chunk < index.chunks.len()));
        let noticed = noticed(file.as_file(), &index, &rules, &turns);
        let taken = |row: RowNumber| {
            turns.iter().any(|(chunk, _)| {
                let chunk = &index.chunks[*chunk];
                (chunk.first_row.0..chunk.first_row.0 + chunk.rows).contains(&row.0)
            })
        };
        let some = found_by(file.as_file(), &index, &rules, &|row| {
            !taken(row) || noticed.contains(&row)
        });
        let every = found_by(file.as_file(), &index, &rules, &|_| true);
        prop_assert_eq!(some, every);
    }
}
