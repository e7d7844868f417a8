//! What the simulator drives has no door of its own to the world: otherwise one seed would not
//! decide everything, and a play would prove nothing about a run.

use std::fs;
use std::path::{Path, PathBuf};

/// Rooms and files that take events and times and return decisions.
const PURE: &[&str] = &[
    "coordinator/core",
    "pace",
    "protocol",
    "target/classify.rs",
    "target/retry_after.rs",
    "target/usual.rs",
    "worker/attempts.rs",
    "worker/cache.rs",
    "worker/gate.rs",
    "worker/org_steps.rs",
    "worker/outbox.rs",
    "worker/reconcile.rs",
    "worker/steps.rs",
    "worker/steps",
];

/// Clocks, randomness (a map's order too), files, sockets, processes, threads, runtimes.
const DOORS: &[&str] = &[
    "std::fs",
    "std::net",
    "std::io",
    "std::process",
    "std::thread",
    "std::env",
    "Instant",
    "SystemTime",
    "::now()",
    "wall_ms",
    "entropy",
    "HashMap",
    "HashSet",
    "RandomState",
    "rustix",
    "rusqlite",
    "tokio::",
    "async ",
    ".await",
    "static ",
    "thread_local",
];

/// A value handed from one to another, without a runtime.
const HARMLESS: &[&str] = &[
    "use tokio::sync::oneshot;",
    "use tokio::sync::Notify;",
    "&'static ",
];

/// Returns the lines of a source file that are neither comment nor test.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().take_while(|line| *line != "#[cfg(test)]");
    (1..)
        .zip(lines.map(str::trim))
        .filter(|(_, line)| !line.starts_with("//"))
}

fn doors(text: &str) -> Vec<(usize, String)> {
    let is_door = |line: &str| {
        let line = HARMLESS
            .iter()
            .fold(line.to_owned(), |line, harmless| line.replace(harmless, ""));
        DOORS.iter().any(|door| line.contains(door))
    };
    code(text)
        .filter(|(_, line)| is_door(line))
        .map(|(at, line)| (at, line.to_owned()))
        .collect()
}

fn sources(at: &Path, found: &mut Vec<PathBuf>) {
    if at.is_dir() {
        for entry in fs::read_dir(at).unwrap() {
            sources(&entry.unwrap().path(), found);
        }
        return;
    }
    let name = at.file_stem().unwrap().to_string_lossy().into_owned();
    let is_for_tests = name.ends_with("tests") || name == "fixtures";
    if at.extension().is_some_and(|end| end == "rs") && !is_for_tests {
        found.push(at.to_owned());
    }
}

#[test]
fn decisions_have_no_door_to_the_world() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    for room in PURE {
        let before = found.len();
        sources(&root.join(room), &mut found);
        assert!(found.len() > before, "nothing in {room}");
    }
    let open: Vec<String> = found
        .iter()
        .flat_map(|path| {
            let text = fs::read_to_string(path).unwrap();
            doors(&text)
                .into_iter()
                .map(move |(line, text)| format!("{}:{line}: {text}", path.display()))
        })
        .collect();
    assert!(open.is_empty(), "{open:#?}");
}

#[test]
fn a_door_is_seen() {
    for line in [
        "let began = Instant::now();",
        "use std::fs::File;",
        "let map: HashMap<u32, u32> = HashMap::new();",
        "use tokio::time::sleep;",
        "pub async fn decide() {}",
    ] {
        assert_eq!(doors(line).len(), 1, "{line}");
    }
    let harmless = "//! never std::fs\nuse tokio::sync::oneshot;\nfn f() -> &'static str { \"\" }";
    assert!(doors(harmless).is_empty());
    assert!(doors("#[cfg(test)]\nmod tests { use std::fs; }").is_empty());
}
