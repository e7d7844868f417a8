use super::super::check::tests::{indexed, rules};
use super::*;
use crate::source::profile::ProfileChoice;
use crate::source::{IndexOptions, build, parse_row, read_chunk};
use proptest::prelude::*;

fn fixed(text: &str) -> (String, Vec<(u32, &'static str)>) {
    let (file, index) = indexed(text);
    let mut out = Vec::new();
    let mut told = Vec::new();
    fix(file.as_file(), &index, &mut out, &mut |finding| {
        let row = finding.row.map_or(0, |row| row.0);
        told.push((row, finding.problem.rule.id));
        Ok(())
    })
    .unwrap();
    (String::from_utf8(out).unwrap(), told)
}

#[test]
fn safe_repairs_are_made_and_told() {
    let (out, told) = fixed(
        "\u{feff}E-Mail,First Name,\"email verified\",password,shoe size\r\n\
         \" a@x.example \", Ann,YES, secret , 42 \r\n\
         \r\n\
         b@x.example,\" \"\"B\"\" \",true,,",
    );
    assert_eq!(
        out,
        "email,first_name,\"email_verified\",password,shoe size\r\n\
         \"a@x.example\",Ann,true, secret , 42 \r\n\
         \r\n\
         b@x.example,\"\"\"B\"\"\",true,,"
    );
    assert_eq!(
        told,
        [
            (0, "byte_order_mark"),
            (0, "header_name"),
            (0, "header_name"),
            (0, "header_name"),
            (1, "cell_trimmed"),
            (1, "cell_trimmed"),
            (1, "flag_spelled_out"),
            (2, "cell_trimmed"),
        ]
    );
}

#[test]
fn a_repair_is_told_with_what_was_and_what_is_unless_it_could_be_a_secret() {
    let changes = |text: &str| -> Vec<(Option<String>, Option<String>)> {
        let (file, index) = indexed(text);
        let mut told = Vec::new();
        fix(file.as_file(), &index, &mut Vec::new(), &mut |finding| {
            told.push((finding.value.clone(), finding.problem.suggestion.clone()));
            Ok(())
        })
        .unwrap();
        told
    };
    let some = |text: &str| Some(text.to_owned());
    let long = "Ann ".repeat(12);
    let short = "Ann ".repeat(10);
    assert_eq!(
        changes(&format!(
            "E-Mail,first_name\na@x.example, Ann\u{7}\nb@x.example,{long}\n"
        )),
        [
            (some("E-Mail"), some("email")),
            (some(" Ann\\u{7}"), some("Ann\\u{7}")),
            (some(&format!("{short}…")), some(&format!("{short}…"))),
        ]
    );
    // Were the row slipped, a name could be the password.
    assert_eq!(
        changes("email,first_name,password\na@x.example, Ann , secret \n"),
        [(None, None)]
    );
}

#[test]
fn what_is_wrong_stays_wrong() {
    let text = "email,email_verified,external_id\nAMY@gmial.com,on,1\n,maybe,1\n";
    assert_eq!(fixed(text), (text.to_owned(), vec![]));
}

#[test]
fn a_blank_row_of_one_column_stays_a_row() {
    let (out, _) = fixed("email\n\"  \"\na@x.example\n");
    assert_eq!(out, "email\n\"\"\na@x.example\n");
}

/// What every row means, or the rule it breaks.
fn meaning(text: &str) -> Option<Vec<String>> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    let options = IndexOptions {
        delimiter: Delimiter::Comma,
        renames: Vec::new(),
        chunk_size: 3,
        org_mode: crate::model::OrgMode::Columns,
        hash_key: 1,
        profile: ProfileChoice::Off,
    };
    let index = build(file.path(), &options, &mut |_| {}).ok()?;
    let mut out = Vec::new();
    for chunk in &index.chunks {
        for record in read_chunk(file.as_file(), chunk, &index.columns).unwrap() {
            let row = parse_row(&record, &index.columns, &rules());
            let password = record.fields.get(index.columns.position("password")?);
            let row = row.map_err(|error| error.code);
            out.push(format!("{password:?} {row:?}"));
        }
    }
    Some(out)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn every_row_means_the_same(
        cells in proptest::collection::vec("[ aY1,\"@.x\n\r\t=é-]{0,8}", 0..20),
        crlf in any::<bool>(),
        mark in any::<bool>(),
    ) {
        let end = if crlf { "\r\n" } else { "\n" };
        let mut text = String::from(if mark { "\u{feff}" } else { "" });
        text.push_str(&[" E mail,Email-Verified,password,x", end].concat());
        for row in cells.chunks_exact(4) {
            let quoted: Vec<String> =
                row.iter().map(|cell| format!("\"{}\"", cell.replace('"', "\"\""))).collect();
            text.push_str(&[&quoted.join(","), end].concat());
        }
        let before = meaning(&text);
        prop_assert!(before.is_some());
        let (out, told) = fixed(&text);
        prop_assert_eq!(meaning(&out), before);
        // A second repair finds nothing.
        prop_assert_eq!(fixed(&out), (out.clone(), vec![]));
        prop_assert!(told.len() >= 2);
    }
}
