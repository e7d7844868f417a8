//! Every file under `fixtures/spreadsheets/` reads as its entry in `expected.json` says, and its
//! records go back as the bytes they came from.

use super::super::records::{Fields, Scan, blank_len, unescape};
use super::super::{IndexOptions, SourceError, build, read_chunk, records};
use super::{Ask, Input, Opened, Reencoder, read};
use crate::model::OrgMode;
use crate::source::chunk::{read_bytes, read_header};
use crate::source::index::Index;
use flate2::read::GzDecoder;
use serde_json::Value;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/spreadsheets")
}

fn expected() -> serde_json::Map<String, Value> {
    let text = std::fs::read_to_string(folder().join("expected.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn options() -> IndexOptions {
    IndexOptions {
        chunk_size: 2,
        org_mode: OrgMode::Columns,
        hash_key: 1,
        delimiter: crate::model::Delimiter::Comma,
        profile: super::super::profile::ProfileChoice::Detect,
        renames: Vec::new(),
    }
}

fn open(name: &str, copies: &Path) -> Result<(Opened, Index), SourceError> {
    let ask = Ask {
        may_guess: true,
        ..Ask::default()
    };
    let mut place = || Ok::<_, SourceError>(copies.to_owned());
    let input = Input::File(folder().join(name));
    read(&input, &ask, &options(), &mut place, &mut |_| {})
}

/// Returns header and records as texts.
fn cells(opened: &Opened, index: &Index) -> Vec<Vec<String>> {
    let file = File::open(&opened.rows).unwrap();
    let header = read_header(&file, &index.columns).unwrap();
    let header = String::from_utf8(header).unwrap();
    let header = header.trim_start_matches('\u{feff}');
    let header = &header[blank_len(header.as_bytes())..];
    let mut fields = Fields::new(index.columns.delimiter);
    assert!(matches!(
        fields.scan(header.as_bytes(), true),
        Scan::Record(_)
    ));
    let text = |raw| unescape(raw).into_owned();
    let mut rows = vec![fields.raw(header).map(text).collect()];
    // The file's own cells, not what a profile makes of them.
    let mut columns = index.columns.clone();
    columns.plan = None;
    for chunk in &index.chunks {
        for record in read_chunk(&file, chunk, &columns).unwrap() {
            rows.push(record.fields.iter().map(str::to_owned).collect());
        }
    }
    rows
}

/// Returns header and records in the encoding of the source.
fn written_back(opened: &Opened, index: &Index) -> Vec<u8> {
    let file = File::open(&opened.rows).unwrap();
    let mut bytes = Vec::new();
    let mut out = Reencoder::new(&mut bytes, opened.encoding);
    out.write_all(&read_header(&file, &index.columns).unwrap())
        .unwrap();
    for chunk in &index.chunks {
        let read = read_bytes(&file, chunk).unwrap();
        for record in records(&read, chunk, index.columns.delimiter) {
            out.write_all(record.bytes).unwrap();
        }
    }
    bytes
}

#[test]
fn every_spreadsheet_reads_as_expected() {
    let mut files = 0;
    for (name, want) in expected() {
        let copies = tempfile::tempdir().unwrap();
        let opened = open(&name, copies.path());
        if let Some(code) = want["refused"].as_str() {
            let error = opened.expect_err(&name);
            assert_eq!(error.code(), code, "{name}: {error}");
            let at = error.place().unwrap_or_default();
            let same = |key: &str, found: Option<u64>| {
                let wanted = want[key].as_u64();
                assert!(
                    wanted.is_none() || wanted == found,
                    "{name}: {key}: {error}"
                );
            };
            same("row", at.row.map(|row| u64::from(row.0)));
            same("line", Some(at.line));
            same("byte", Some(at.byte));
            let column = want["column"].as_str();
            assert!(
                column.is_none() || column == at.column.as_deref(),
                "{name}: {error}"
            );
            assert!(error.hint().is_some(), "{name}: {error}");
        } else {
            let (opened, index) = opened.unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(
                index.columns.delimiter.as_str(),
                want["delimiter"],
                "{name}"
            );
            assert_eq!(opened.encoding.as_str(), want["encoding"], "{name}");
            let plan = index.columns.plan.as_ref();
            let profile = plan.map(|plan| plan.profile.as_str());
            assert_eq!(profile, want["profile"].as_str(), "{name}");
            let packing = serde_json::to_value(opened.packing).unwrap();
            assert_eq!(packing, want["packing"], "{name}");
            let found = serde_json::to_value(cells(&opened, &index)).unwrap();
            assert_eq!(found, want["records"], "{name}");
        }
        files += 1;
    }
    assert!(files >= 60, "{files}");
}

#[test]
fn records_go_back_as_the_bytes_they_came_from() {
    for (name, want) in expected() {
        // Blank lines belong to no record, so those of a file are not written back.
        let is_packed = want["packing"] == "zstd";
        if want["records"].is_null() || is_packed || name == "blank-lines.csv" {
            continue;
        }
        let copies = tempfile::tempdir().unwrap();
        let (opened, index) = open(&name, copies.path()).unwrap();
        let mut source = std::fs::read(folder().join(&name)).unwrap();
        if want["packing"] == "gzip" {
            let packed = std::mem::take(&mut source);
            GzDecoder::new(&packed[..])
                .read_to_end(&mut source)
                .unwrap();
        }
        assert_eq!(written_back(&opened, &index), source, "{name}");
    }
}

#[test]
fn a_plain_file_is_not_copied_and_a_copy_is_private() {
    use std::os::unix::fs::PermissionsExt as _;
    let copies = tempfile::tempdir().unwrap();
    let (opened, _) = open("ends-lf.csv", copies.path()).unwrap();
    assert!(!opened.spooled && opened.origin.is_none());
    assert_eq!(copies.path().read_dir().unwrap().count(), 0);
    let (opened, index) = open("packed.csv.zst", copies.path()).unwrap();
    let source = std::fs::read(folder().join("packed.csv.zst")).unwrap();
    let hash = blake3::hash(&source).to_hex().to_string();
    assert_eq!(opened.origin, Some((source.len() as u64, hash)));
    assert_eq!(index.bytes, std::fs::metadata(&opened.rows).unwrap().len());
    let mode = std::fs::metadata(&opened.rows)
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_bomb_is_refused_and_leaves_nothing() {
    let copies = tempfile::tempdir().unwrap();
    let bomb = tempfile::NamedTempFile::new().unwrap();
    let mut packer = zstd::stream::write::Encoder::new(bomb.as_file(), 1).unwrap();
    packer.write_all(b"email\n").unwrap();
    let block = vec![b'\n'; 1 << 20];
    for _ in 0..80 {
        packer.write_all(&block).unwrap();
    }
    packer.finish().unwrap();
    let input = Input::File(bomb.path().to_owned());
    let mut place = || Ok::<_, SourceError>(copies.path().to_owned());
    let options = options();
    let error = read(&input, &Ask::default(), &options, &mut place, &mut |_| {}).unwrap_err();
    assert_eq!(error.code(), "unpacked_too_large");
    assert_eq!(copies.path().read_dir().unwrap().count(), 0);
    // The index itself never sees it.
    assert!(build(bomb.path(), &options, &mut |_| {}).is_err());
}
