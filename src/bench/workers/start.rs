//! How long a worker takes from its start to its first words.

use super::super::{BenchError, Budget, Measure, Percentiles, Progress, Section, Unit};
use crate::model::rng::entropy;
use crate::model::{ExistingPolicy, Mono, OrgMode, WorkerId};
use crate::protocol::{BUILD, HelloToWorker, PROTOCOL_VERSION, WorkerConfig};
use crate::source::Columns;
use crate::supervise::{Input, Spawner};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::LocalSet;

/// Workers started, one after the other, by default and with `--full`.
const STARTS: (u32, u32) = (20, 100);

/// A worker that says nothing for so long never will.
const WITHIN: Duration = Duration::from_secs(10);

/// Starts workers and waits for their handshakes.
pub(super) fn start(budget: &Budget, progress: &mut dyn Progress) -> Result<Section, BenchError> {
    progress.say("workers: start to handshake");
    let source = budget.folder.join("start.csv");
    std::fs::write(&source, "email\n").map_err(BenchError::io("rows of the measurement"))?;
    let starts = budget.size_of(STARTS);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(BenchError::io("the runtime of the measurement"))?;
    let mut times = LocalSet::new()
        .block_on(&runtime, handshakes(budget, &source, starts))
        .map_err(BenchError::io("a worker under measurement"))?;
    let values = vec![super::super::stats::median(&times)];
    let measure =
        Measure::new("start/handshake", Unit::Seconds, values).spread(Percentiles::of(&mut times));
    Ok(Section {
        title: "start of a worker".to_owned(),
        about: "From starting the process to its handshake, HTTP client included.".to_owned(),
        measures: vec![measure],
        ..Section::default()
    })
}

async fn handshakes(budget: &Budget, source: &Path, starts: u32) -> io::Result<Vec<f64>> {
    let (mouth, mut inbox) = mpsc::channel(64);
    let spawner = Spawner {
        program: budget.program.clone(),
        lock: None,
        inbox: mouth,
        large_pages: true,
        wide_pipes: false,
        threads: None,
    };
    let mut times = Vec::new();
    // The first one is the warm-up.
    for start in 0..=starts {
        let worker = WorkerId(start);
        let begun = Mono::now();
        let mut handle = spawner.spawn(worker, hello(worker, source))?;
        wait(&mut inbox, |input| matches!(input, Input::Ready { .. })).await?;
        if start > 0 {
            times.push(Mono::now().since(begun).as_secs_f64());
        }
        handle.close_input();
        wait(&mut inbox, |input| matches!(input, Input::Gone { .. })).await?;
    }
    Ok(times)
}

/// Waits for what is `wanted`; an end before it is an error.
async fn wait(
    inbox: &mut mpsc::Receiver<(WorkerId, Input)>,
    wanted: impl Fn(&Input) -> bool,
) -> io::Result<()> {
    loop {
        let heard = tokio::time::timeout(WITHIN, inbox.recv()).await;
        match heard {
            Ok(Some((_, input))) if wanted(&input) => return Ok(()),
            Ok(Some((_, Input::Gone { how }))) => return Err(io::Error::other(how)),
            Ok(Some((_, Input::Broken { reason, .. }))) => return Err(io::Error::other(reason)),
            Ok(Some((_, Input::Ready { .. } | Input::Said(_)))) => {}
            Ok(None) | Err(_) => return Err(io::Error::other("it says nothing")),
        }
    }
}

fn hello(worker: WorkerId, source: &Path) -> HelloToWorker {
    HelloToWorker {
        protocol: PROTOCOL_VERSION,
        build: BUILD.to_owned(),
        nonce: entropy(),
        worker,
        config: WorkerConfig {
            source: source.to_owned(),
            columns: Columns::default(),
            known_in: PathBuf::new(),
            known_key: [0; 4],
            base_url: "http://127.0.0.1:9".to_owned(),
            org_mode: OrgMode::Columns,
            on_existing: ExistingPolicy::Link,
            reactivate: false,
            require_membership: false,
            dry_run: false,
            check_target: false,
            assume_orgs: false,
            record_calls: false,
            concurrency: 64,
            prefetch_rows: 64,
            reads_ahead: false,
            org_cache: 1000,
            paced_writes: false,
            paced_reads: false,
            time_scale: 1.0,
            seed: 0,
        },
        api_key: "sk_none".to_owned(),
    }
}
