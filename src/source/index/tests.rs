use super::super::{CsvRecord, OpenChunk, email_norm, read_chunk, records};
use super::*;
use csv::StringRecord;
use proptest::prelude::*;
use std::io::Write as _;
use tempfile::NamedTempFile;

const NO_SPILL: usize = 1 << 20;

fn file_of(bytes: &[u8]) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    file
}

fn options(chunk_size: u32) -> IndexOptions {
    IndexOptions {
        chunk_size,
        org_mode: OrgMode::Columns,
        hash_key: 42,
        delimiter: Delimiter::Comma,
        renames: Vec::new(),
        profile: ProfileChoice::Off,
    }
}

fn index(bytes: &[u8]) -> Result<Index, SourceError> {
    build(file_of(bytes).path(), &options(2), &mut |_| {})
}

/// A file and what is known about it because we wrote it.
#[derive(Clone, Debug)]
struct Written {
    bytes: Vec<u8>,
    header_bytes: usize,
    /// `(offset, line, length)` of every row.
    rows: Vec<(usize, u64, usize)>,
}

fn cell() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-c@é ]{0,6}",
        "[a\"]{1,4}".prop_map(|text| format!("x{text}")),
        "[a,\n\"é]{0,6}".prop_map(|text| format!("\"{}\"", text.replace('"', "\"\""))),
        "[a\r\n]{0,4}".prop_map(|text| format!("\"{text}\"")),
    ]
}

fn line_end() -> impl Strategy<Value = &'static str> {
    prop_oneof![Just("\n"), Just("\r\n")]
}

fn blanks() -> impl Strategy<Value = String> {
    prop_oneof![3 => Just(String::new()), 1 => "([ \t]{0,3}(\n|\r\n)){1,3}"]
}

fn written() -> impl Strategy<Value = Written> {
    let row = (prop::collection::vec(cell(), 3), line_end(), blanks());
    let rows = prop::collection::vec(row, 0..20);
    let start = (any::<bool>(), blanks(), line_end(), blanks());
    (start, rows, any::<bool>()).prop_map(|((mark, before, end, after), rows, cut_end)| {
        let mut text = String::from(if mark { "\u{feff}" } else { "" });
        text.push_str(&before);
        text.push_str("email,first_name,last_name");
        text.push_str(end);
        let header_bytes = text.len();
        text.push_str(&after);
        let mut known = Vec::new();
        let last = rows.len();
        for (n, (cells, end, after)) in rows.into_iter().enumerate() {
            let line = 1 + text.matches('\n').count() as u64;
            let offset = text.len();
            text.push_str(&cells.join(","));
            let (end, after) = if cut_end && n + 1 == last {
                ("", "")
            } else {
                (end, after.as_str())
            };
            text.push_str(end);
            known.push((offset, line, text.len() - offset));
            text.push_str(after);
        }
        Written {
            bytes: text.into_bytes(),
            header_bytes,
            rows: known,
        }
    })
}

fn by_csv(bytes: &[u8]) -> Vec<StringRecord> {
    let reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .from_reader(bytes);
    let records = reader.into_records().map(Result::unwrap);
    // A blank line may stand before the header too.
    let records = records.filter(|one| !is_blank_line(bytes, one));
    records.skip(1).collect()
}

/// The csv crate takes a line of spaces and tabs for a record; it is a blank line.
fn is_blank_line(bytes: &[u8], record: &StringRecord) -> bool {
    let at = usize::try_from(record.position().unwrap().byte()).unwrap();
    let bytes = bytes.get(at..).unwrap_or_default();
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let text = bytes
        .iter()
        .skip_while(|byte| matches!(byte, b'\r' | b'\n'));
    let mut line = text
        .take_while(|byte| !matches!(byte, b'\r' | b'\n'))
        .peekable();
    line.peek().is_some() && line.all(|byte| matches!(byte, b' ' | b'\t'))
}

proptest! {
    #![proptest_config(crate::fuzz::cases(400))]

    #[test]
    fn chunks_hold_every_record_once_where_it_was_written(file in written(), chunk_size in 1u32..9) {
        let on_disk = file_of(&file.bytes);
        let index = build(on_disk.path(), &options(chunk_size), &mut |_| {}).unwrap();
        prop_assert_eq!(index.bytes, file.bytes.len() as u64);
        prop_assert_eq!(&index.hash, &blake3::hash(&file.bytes).to_hex().to_string());
        prop_assert_eq!(index.columns.header_bytes, file.header_bytes as u64);
        prop_assert_eq!(index.rows as usize, file.rows.len());

        let mut read = Vec::new();
        let mut ranges = Vec::new();
        let mut next = file.rows.first().map_or(0, |row| row.0 as u64);
        for (n, chunk) in index.chunks.iter().enumerate() {
            prop_assert_eq!(chunk.id.0 as usize, n);
            prop_assert_eq!(chunk.offset, next);
            next = chunk.offset + u64::from(chunk.length);
            prop_assert!(chunk.rows == chunk_size || n + 1 == index.chunks.len());
            let bytes = &file.bytes[usize::try_from(chunk.offset).unwrap()..][..chunk.length as usize];
            for record in records(bytes, chunk, index.columns.delimiter) {
                let offset = record.offset + usize::try_from(chunk.offset).unwrap();
                ranges.push((offset, record.line, record.bytes.len()));
            }
            let records = read_chunk(on_disk.as_file(), chunk, &index.columns).unwrap();
            prop_assert_eq!(records[0].number, chunk.first_row);
            prop_assert_eq!(records[0].line, chunk.first_line);
            let stopping = read_stopping(on_disk.as_file(), chunk, &index.columns);
            prop_assert_eq!(format!("{:?}", stopping), format!("{:?}", records));
            read.extend(records);
        }
        if !index.chunks.is_empty() {
            prop_assert_eq!(next, index.bytes);
        }
        prop_assert_eq!(&ranges, &file.rows);
        let want = by_csv(&file.bytes);
        prop_assert_eq!(read.len(), want.len());
        for (n, (record, want)) in read.iter().zip(&want).enumerate() {
            prop_assert_eq!(record.number.0 as usize, n + 1);
            prop_assert_eq!(record.line, file.rows[n].1);
            prop_assert_eq!(&record.fields.iter().collect::<StringRecord>(), want);
        }
    }

    #[test]
    fn any_bytes_are_refused_with_their_place_or_read_as_the_csv_crate_reads_them(
        rows in prop::collection::vec(
            prop_oneof![
                30 => prop::sample::select(b"ab\",\r\n\n,,".to_vec()),
                1 => any::<u8>(),
            ],
            0..60,
        ),
        chunk_size in 1u32..5,
    ) {
        let bytes = [b"email,a\n", &rows[..]].concat();
        let file = file_of(&bytes);
        let index = match build(file.path(), &options(chunk_size), &mut |_| {}) {
            Ok(index) => index,
            Err(error) => {
                prop_assert!(error.place().is_some(), "{error}");
                prop_assert!(error.place().unwrap().byte <= bytes.len() as u64);
                return Ok(());
            }
        };
        let mut read = Vec::new();
        for chunk in &index.chunks {
            for record in read_chunk(file.as_file(), chunk, &index.columns).unwrap() {
                read.push(record.fields.iter().collect::<StringRecord>());
            }
        }
        prop_assert_eq!(read, by_csv(&bytes));
    }

    #[test]
    fn records_and_line_ends_between_them_are_the_whole_file(file in written()) {
        let mut at = file.header_bytes;
        for (offset, _, length) in &file.rows {
            prop_assert!(file.bytes[at..*offset].iter().all(|byte| b" \t\r\n".contains(byte)));
            at = offset + length;
        }
        let index = index(&file.bytes).unwrap();
        let read: usize = index.chunks.iter().map(|chunk| chunk.length as usize).sum();
        let before_rows = file.rows.first().map_or(file.bytes.len(), |row| row.0);
        prop_assert_eq!(before_rows + read, file.bytes.len());
    }

    #[test]
    fn one_changed_byte_refuses_exactly_its_chunk(file in written(), at in 0usize..400) {
        let index = index(&file.bytes).unwrap();
        prop_assume!(!index.chunks.is_empty());
        let first = usize::try_from(index.chunks[0].offset).unwrap();
        let at = first + at % (file.bytes.len() - first);
        let mut bytes = file.bytes.clone();
        bytes[at] ^= 1;
        let on_disk = file_of(&bytes);
        for chunk in &index.chunks {
            let here = chunk.offset..chunk.offset + u64::from(chunk.length);
            let read = read_chunk(on_disk.as_file(), chunk, &index.columns);
            let changed = matches!(read, Err(SourceError::Changed { chunk: id, .. }) if id == chunk.id);
            prop_assert_eq!(changed, here.contains(&(at as u64)));
        }
    }
}

/// The straightforward reading of the contract, over whole rows in memory.
fn model(rows: &[[String; 4]]) -> (Vec<Follower>, u32, Vec<ExternalIdConflict>) {
    let mut followers = Vec::new();
    let mut differing = 0;
    let mut conflicts = Vec::new();
    let number = |n: usize| RowNumber(u32::try_from(n + 1).unwrap());
    let norm = |row: &[String; 4]| email_norm(&row[0]);
    let winner_of = |n: usize| {
        let row = &rows[n];
        let same_id = |other: &[String; 4]| {
            !norm(other).is_empty() && !row[2].trim().is_empty() && other[2].trim() == row[2].trim()
        };
        let winner = rows[..n].iter().position(same_id);
        winner.filter(|winner| norm(&rows[*winner]) != norm(row))
    };
    for (n, row) in rows.iter().enumerate() {
        let lower = &rows[..n];
        if norm(row).is_empty() {
            continue;
        }
        if let Some(leader) = lower.iter().position(|other| norm(other) == norm(row)) {
            let pair = |other: &usize| {
                norm(&rows[*other]) == norm(row)
                    && !row[3].trim().is_empty()
                    && rows[*other][3].trim() == row[3].trim()
                    && winner_of(*other).is_none()
            };
            followers.push(Follower {
                row: number(n),
                leader: number(leader),
                previous_pair: (0..n).rev().find(pair).map(number),
            });
            let user = |row: &[String; 4]| [row[1].trim().to_owned(), row[2].trim().to_owned()];
            differing += u32::from(user(&rows[leader]) != user(row));
        }
        if let Some(winner) = winner_of(n) {
            conflicts.push(ExternalIdConflict {
                row: number(n),
                winner: number(winner),
            });
        }
    }
    (followers, differing, conflicts)
}

proptest! {
    #![proptest_config(crate::fuzz::cases(400))]

    #[test]
    fn shared_emails_and_ids_are_found_whatever_fits_in_memory(
        rows in prop::collection::vec(
            ["( |)[aAbBéÉ]{0,2}", "[xy]?", "( |)[12]?", "( |)[op]?"], 0..60),
        sorter_bytes in 1usize..600,
        chunk_size in 1u32..20,
    ) {
        let mut text = String::from("email,first_name,external_id,org_external_id\n");
        for row in &rows {
            text.push_str(&row.join(","));
            text.push('\n');
        }
        let file = file_of(text.as_bytes());
        let index = build_within(sorter_bytes, file.path(), &options(chunk_size), &mut |_| {}).unwrap();
        let (followers, differing, conflicts) = model(&rows);
        prop_assert_eq!(&index.followers, &followers);
        prop_assert_eq!(index.differing.len() as u64, u64::from(differing));
        prop_assert_eq!(&index.conflicts, &conflicts);
        let roomy = build_within(NO_SPILL, file.path(), &options(3), &mut |_| {}).unwrap();
        prop_assert_eq!(roomy.followers, followers);
    }
}

#[test]
fn with_one_organization_every_repeat_is_the_same_pair() {
    let file = file_of(b"email\na@b.c\nA@B.C\n a@b.c\n");
    let options = IndexOptions {
        org_mode: OrgMode::Single {
            key: OrgKey::Id("org_1".into()),
            name: None,
        },
        ..options(2)
    };
    let index = build(file.path(), &options, &mut |_| {}).unwrap();
    let pairs: Vec<_> = index
        .followers
        .iter()
        .map(|f| (f.row.0, f.previous_pair.unwrap().0))
        .collect();
    assert_eq!(pairs, vec![(2, 1), (3, 2)]);
    assert_eq!(index.differing.len(), 0);
}

#[test]
fn the_lowest_row_with_a_name_names_an_organization() {
    let text = "email,org_id,org_external_id,org_name\n\
        a@b.c,,acme,\n\
        b@b.c,,acme,Acme\n\
        c@b.c,,acme,Acme Two\n\
        d@b.c,org_1,,Ignored\n\
        e@b.c,,zeta,Zeta\n\
        f@b.c,,,Alone\n";
    let index = index(text.as_bytes()).unwrap();
    let names: BTreeMap<_, _> = index.org_names.iter().copied().collect();
    let row_of = |id: &str| names.get(&org_key_hash(42, &OrgKey::External(id.into())));
    assert_eq!(row_of("acme"), Some(&RowNumber(2)));
    assert_eq!(row_of("zeta"), Some(&RowNumber(5)));
    assert_eq!(names.len(), 2);
    assert!(index.org_names.is_sorted());
}

#[test]
fn a_name_alone_and_with_an_id_is_refused_where_names_are_keys() {
    let head = "email,org_id,org_external_id,org_name\n\
        a@b.c,,,Other\n\
        b@b.c,,acme,Acme\n";
    for (rows, expected) in [
        ("c@b.c,,, Acme \nd@b.c,,,Acme\n", Some((3, 2))),
        ("c@b.c,org_1,,Zeta\nd@b.c,,,Zeta\n", Some((4, 3))),
        ("c@b.c,,,Acme Two\n", None),
        ("c@b.c,org_1,,Acme\n", None),
        ("c@b.c,,acme,\n", None),
    ] {
        let text = format!("{head}{rows}");
        for by_name in [true, false] {
            let mut options = options(2);
            if by_name {
                options.org_mode = OrgMode::ColumnsByName;
            }
            let found = match build(file_of(text.as_bytes()).path(), &options, &mut |_| {}) {
                Err(SourceError::NameInTwoWays { alone, keyed }) => Some((alone.0, keyed.0)),
                done => {
                    done.unwrap();
                    None
                }
            };
            assert_eq!(found, expected.filter(|_| by_name), "{rows}");
        }
    }
}

#[test]
fn names_stay_few_while_rows_are_many() {
    let quick = Keyed(42).quick();
    // Those that are too long to be kept are hashed and sorted again and again.
    for length in [1, RECENT_BYTES_MAX + 1] {
        let mut names = OrgNames::default();
        for row in 1..=100_000 {
            let hash = u64::from(row % 10);
            let text = hash.to_string().repeat(length);
            names.note(RowNumber(row), &text, &quick, || hash);
            assert!(names.entries.len() <= ORG_NAMES_SLACK + 21);
        }
        let lowest = |hash| RowNumber(if hash == 0 { 10 } else { hash });
        let want: Vec<_> = (0..10)
            .map(|hash| (u64::from(hash), lowest(hash)))
            .collect();
        assert_eq!(names.finish(), want);
    }
}

/// What a file is indexed to, or refused with, when every row is looked at by itself.
fn row_by_row(path: &Path, options: &IndexOptions) -> Result<Index, SourceError> {
    let file = window::open(path)?;
    std::thread::scope(|scope| {
        let text = Ahead::start(scope, &file)?;
        let mut pass = Pass::begin(&file, text, options, NO_SPILL, &mut |_| {})?;
        loop {
            match pass.row(&mut |_| {}) {
                Ok(true) => {}
                Ok(false) => return pass.finish(),
                // Rows with too few fields before it are the first reason to refuse the file.
                Err(error) => return Err(pass.ragged().unwrap_or(error)),
            }
        }
    })
}

/// Rows of every kind: usual ones, such that repeat others, such that are refused.
fn mixed_rows() -> impl Strategy<Value = Vec<u8>> {
    let cells = "[abA]{0,2}@x,[ab]{0,40},(o[ab])?,[ab]{0,1}";
    let quoted = "\"[aé]{0,2}@x\",\"([ab,\n ]|\"\"){0,40}\",[ab]{0,1},\"b\"";
    let row = prop_oneof![
        12 => cells.prop_map(String::into_bytes),
        6 => quoted.prop_map(String::into_bytes),
        2 => "[ \t]{0,2}".prop_map(String::into_bytes),
        1 => "[ab]{0,3},\"a\"[ b]{1,2},,".prop_map(String::into_bytes),
        1 => "[ab]\"[ab]\"{0,2},,,[ ,]{0,2}".prop_map(String::into_bytes),
    ];
    let odd = prop::sample::select(b"\0\xff\xc3\",\n".to_vec());
    let end = prop_oneof![6 => Just("\n"), 3 => Just("\r\n"), 1 => Just("\r")];
    let rows = prop::collection::vec((row, end), 0..30);
    (rows, prop::option::weighted(0.3, (0_usize..2000, odd))).prop_map(|(rows, odd)| {
        let mut bytes = b"email,first_name,org_external_id,org_name\n".to_vec();
        let start = bytes.len();
        for (row, end) in rows {
            bytes.extend(row);
            bytes.extend(end.bytes());
        }
        if let Some((at, byte)) = odd
            && bytes.len() > start
        {
            let at = start + at % (bytes.len() - start);
            bytes[at] = byte;
        }
        bytes
    })
}

proptest! {
    #![proptest_config(crate::fuzz::cases(600))]

    #[test]
    fn rows_taken_at_once_are_those_taken_one_by_one(
        bytes in mixed_rows(),
        chunk_size in 1_u32..9,
        by_name in any::<bool>(),
    ) {
        let file = file_of(&bytes);
        let mut options = options(chunk_size);
        if by_name {
            options.org_mode = OrgMode::ColumnsByName;
        }
        let quick = build(file.path(), &options, &mut |_| {});
        let slow = row_by_row(file.path(), &options);
        prop_assert_eq!(format!("{quick:?}"), format!("{slow:?}"));
    }
}

proptest! {
    #[test]
    fn names_kept_to_be_known_again_change_nothing(
        rows in prop::collection::vec(("[a-c]{1,2}", any::<bool>()), 0..60),
    ) {
        let quick = Keyed(42).quick();
        let mut names = OrgNames::default();
        let mut want = BTreeMap::new();
        for (row, (text, is_long)) in (1..).zip(&rows) {
            let text = text.repeat(if *is_long { RECENT_BYTES_MAX } else { 1 });
            let hash = quick.hash(Purpose::Attributes, text.as_bytes());
            names.note(RowNumber(row), &text, &quick, || hash);
            want.entry(hash).or_insert(RowNumber(row));
        }
        prop_assert_eq!(names.finish(), want.into_iter().collect::<Vec<_>>());
    }
}

#[test]
fn a_file_of_many_blocks_splits_as_the_csv_crate_splits_it() {
    let mut text = String::from("email,first_name\r\n");
    for n in 0..30_000 {
        let lines = "line\n".repeat(n % 9);
        text.extend(["user", &n.to_string(), "@example.com,\"", &lines, "\"\r\n"]);
    }
    let file = file_of(text.as_bytes());
    let mut seen = Vec::new();
    let index = build(file.path(), &options(250), &mut |bytes| seen.push(bytes)).unwrap();
    assert!(text.len() > 3 * BLOCK_BYTES);
    assert!(seen.is_sorted() && seen.last() == Some(&(text.len() as u64)));
    assert_eq!(index.chunks.len(), 120);
    let mut want = by_csv(text.as_bytes()).into_iter();
    for chunk in &index.chunks {
        for record in read_chunk(file.as_file(), chunk, &index.columns).unwrap() {
            assert_eq!(Some(record.fields.iter().collect()), want.next());
        }
    }
    let (bytes, hash) = file_hash(&Input::File(file.path().to_owned()), &mut |_| {}).unwrap();
    assert_eq!((bytes, hash), (index.bytes, index.hash));
}

/// Reads a chunk with a stop after every record.
fn read_stopping(file: &File, spec: &ChunkSpec, columns: &Columns) -> Vec<CsvRecord> {
    let mut chunk = OpenChunk::read(file, spec, columns).unwrap();
    let mut records = Vec::new();
    let mut ended = false;
    while !ended {
        // As if others had been read with the same memory in between.
        let mut record = CsvRecord::blank(columns);
        let stop = |record: &CsvRecord| {
            records.push(record.clone());
            false
        };
        ended = chunk.read_on(columns, &mut record, stop).unwrap();
    }
    records
}

#[test]
fn a_chunk_is_closed_before_it_grows_beyond_its_cap() {
    let mut text = String::from("email,first_name\n");
    for n in 0..9 {
        text.extend([&n.to_string(), "@example.com,", &"x".repeat(3 << 20), "\n"]);
    }
    let file = file_of(text.as_bytes());
    let index = build(file.path(), &options(1000), &mut |_| {}).unwrap();
    let rows: Vec<u32> = index.chunks.iter().map(|chunk| chunk.rows).collect();
    assert_eq!(rows, [2, 2, 2, 2, 1]);
    assert!(
        index
            .chunks
            .iter()
            .all(|chunk| chunk.length as usize <= CHUNK_BYTES_MAX)
    );
    assert_eq!(
        read_chunk(file.as_file(), &index.chunks[3], &index.columns)
            .unwrap()
            .len(),
        2
    );
}

fn refused(bytes: &[u8]) -> (&'static str, Option<u32>, u64, u64) {
    let error = index(bytes).unwrap_err();
    let place = error.place().unwrap();
    assert!(error.hint().is_some(), "{error}");
    (
        error.code(),
        place.row.map(|row| row.0),
        place.line,
        place.byte,
    )
}

#[test]
fn refusals_name_row_line_and_byte() {
    assert_eq!(refused(b""), ("header_missing", None, 1, 0));
    assert_eq!(refused(b"\n\n"), ("header_missing", None, 1, 0));
    assert_eq!(
        refused(b"email,a\nx,\"y\nz\"\nx\n"),
        ("field_count", Some(2), 4, 16)
    );
    assert_eq!(refused(b"email,a\nx,y,z\n"), ("field_count", Some(1), 2, 8));
    // The first reason is the one that is told, whatever comes after it.
    assert_eq!(
        refused(b"email,a\nx\n\"b\nc\n"),
        ("field_count", Some(1), 2, 8)
    );
    assert_eq!(
        refused(b"email,a\nx\ny,\xff\n"),
        ("field_count", Some(1), 2, 8)
    );
    assert_eq!(
        refused(b"email\n\na\n\"b\nc\n"),
        ("quote_unclosed", Some(2), 4, 9)
    );
    assert_eq!(
        refused(b"email\na\n\"x\ny\xe9\"\n"),
        ("not_utf8", Some(2), 4, 12)
    );
    assert_eq!(refused(b"em\xe9ail\n"), ("not_utf8", None, 1, 2));
    assert_eq!(refused(b"email\na\0b\n"), ("nul_byte", Some(1), 2, 7));
    assert_eq!(refused(b"name,\n"), ("email_column_missing", None, 1, 0));
}

#[test]
fn endless_records_and_blank_lines_are_refused_early() {
    let filler = "x\n".repeat(3 << 20);
    let open = format!("email,a\na@b.c,\nb@b.c,\"{filler}");
    let error = index(open.as_bytes()).unwrap_err();
    assert_eq!(error.code(), "record_too_long");
    assert_eq!(error.place().unwrap().row, Some(RowNumber(2)));
    assert!(
        error.hint().unwrap().contains("row 2, line 3, byte 21"),
        "{:?}",
        error.hint()
    );
    let blank = format!("email\na@b.c\n{}b@b.c\n", "\n".repeat(5 << 20));
    assert_eq!(
        index(blank.as_bytes()).unwrap_err().code(),
        "blank_lines_too_long"
    );
}

#[test]
fn blank_fields_beyond_the_header_are_forgiven() {
    assert_eq!(index(b"email,a\nx,y,,\" \"\n").unwrap().rows, 1);
    assert_eq!(index(b"email,a,,\nx,y\nx,y,\nx,y,z,w\n").unwrap().rows, 3);
    assert_eq!(index(b"email\nx").unwrap().rows, 1);
    assert_eq!(index(b"email").unwrap().rows, 0);
}

#[test]
fn what_is_no_regular_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let error = build(folder.path(), &options(1), &mut |_| {}).unwrap_err();
    assert_eq!(error.code(), "not_a_regular_file");
    let error = file_hash(&Input::File(folder.path().join("missing")), &mut |_| {}).unwrap_err();
    assert_eq!(error.code(), "file_not_opened");
}

#[test]
fn a_cut_file_is_a_changed_file() {
    let file = file_of(b"email\na@b.c\nb@b.c\n");
    let index = build(file.path(), &options(2), &mut |_| {}).unwrap();
    file.as_file().set_len(15).unwrap();
    let error = read_chunk(file.as_file(), &index.chunks[0], &index.columns).unwrap_err();
    assert_eq!(error.code(), "file_changed");
}

#[test]
fn every_row_with_another_number_of_fields_is_found_and_the_first_twenty_are_kept() {
    let error = index(b"email,a\nx\ny,z\n\n\"p\nq\"\nr,s,t\n").unwrap_err();
    let SourceError::FieldCount { ragged, .. } = error else {
        panic!("{error}")
    };
    let told: Vec<_> = ragged
        .rows
        .iter()
        .map(|row| {
            let place = (row.at.row.map(|row| row.0), row.at.line);
            (place, row.found, row.lines)
        })
        .collect();
    let asked = [
        ((Some(1), 2), 1, 1),
        ((Some(3), 5), 1, 2),
        ((Some(4), 7), 3, 1),
    ];
    assert_eq!(told, asked);
    assert_eq!(ragged.count, 3);
    assert!(ragged.rows[1].hint(2).contains("never closed"));

    let many = format!("email,a\n{}", "x\n".repeat(50));
    let error = index(many.as_bytes()).unwrap_err();
    let SourceError::FieldCount { ragged, .. } = error else {
        panic!("{error}")
    };
    assert_eq!((ragged.rows.len(), ragged.count), (20, 50));
}
