//! What the documents name as a proof is there: a test that was renamed or removed is found here.

use std::collections::BTreeSet;
use std::path::Path;

/// The shortest name of a test in the documents; anything shorter is a word of something else.
const NAME_MIN: usize = 14;

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// The names of all functions and modules below a folder.
fn names(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            names(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            let after = text.split("fn ").skip(1);
            found.extend(after.map(|rest| word(rest).to_owned()));
            let module = path.file_stem().unwrap();
            found.insert(module.to_str().unwrap().to_owned());
        }
    }
}

/// The identifier that `text` starts with.
fn word(text: &str) -> &str {
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    &text[..end.unwrap_or(text.len())]
}

#[test]
fn every_proof_that_a_document_names_is_there() {
    let mut there = BTreeSet::new();
    for folder in ["src", "tests"] {
        names(
            &Path::new(env!("CARGO_MANIFEST_DIR")).join(folder),
            &mut there,
        );
    }
    for document in ["docs/FAULTS.md", "docs/SECURITY.md"] {
        let text = read(document);
        let mut count = 0;
        for quoted in text.split('`').skip(1).step_by(2) {
            if let Some(script) = quoted.strip_prefix("scripts/") {
                if let Some(script) = script.split_whitespace().next() {
                    assert!(!read(&format!("scripts/{script}")).is_empty());
                }
                continue;
            }
            // A long name is shortened to its beginning, or, after its like, to its end.
            let name = quoted.rsplit("::").next().unwrap();
            let bare = name.trim_matches('…');
            let is_test = bare == word(bare) && bare == bare.to_lowercase() && bare.contains('_');
            if bare.len() < NAME_MIN || !is_test {
                continue;
            }
            let is_there = there.iter().any(|one| {
                one == name
                    || (name.ends_with('…') && one.starts_with(bare))
                    || (name.starts_with('…') && one.ends_with(bare))
            });
            assert!(is_there, "{document} names {quoted}, which is no test");
            count += 1;
        }
        assert!(count > 20, "only {count} proofs were found in {document}");
    }
}
