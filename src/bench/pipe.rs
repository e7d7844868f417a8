//! `bench pipe`: what coordinator and worker pay to talk: the product's own frames, through real
//! pipes, to a real child process that sends them back.
//!
//! # Never
//! Believes an echo that says something else than was said to it.

use super::ledger::created;
use super::timing::{of_operations, per_second, seconds, spread_cells, timed};
use super::{BenchError, Budget, Measure, Progress, Section, SuiteReport, Table, Unit};
use crate::model::LeaseId;
use crate::protocol::{Decoder, FrameError, FromWorker, encode};
use crate::supervise::EchoChild;

/// Bytes of text in a message.
const PAYLOADS: [usize; 4] = [100, 1_000, 10_000, 100_000];

/// Outcomes in a frame.
const BATCHES_QUICK: &[u32] = &[1, 8, 64, 512];
const BATCHES_FULL: &[u32] = &[1, 2, 4, 8, 16, 32, 64, 128, 256, 512];

/// Round trips of a run.
const TRIPS: (u32, u32) = (2_000, 20_000);

/// Bytes that are streamed in a run, about.
const STREAM_BYTES: (usize, usize) = (16 << 20, 256 << 20);

/// Rows that are streamed, encoded and decoded in a run.
const ROWS: (u32, u32) = (50_000, 1_000_000);

/// Runs the suite.
///
/// # Errors
/// When the child cannot be started, dies, or says something else than it was told.
pub fn run(budget: &Budget, progress: &mut dyn Progress) -> Result<SuiteReport, BenchError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(BenchError::io("the runtime of the pipes"))?;
    let _inside = runtime.enter();
    let echo = EchoChild::start(&budget.program).map_err(BenchError::io("the echo"))?;
    let mut bench = Bench {
        budget,
        progress,
        runtime: &runtime,
        echo,
    };
    let sections = vec![bench.payloads()?, bench.batches()?];
    let advice = advice_of(&sections);
    Ok(SuiteReport {
        suite: "pipe".to_owned(),
        sections,
        advice,
    })
}

struct Bench<'a> {
    budget: &'a Budget,
    progress: &'a mut dyn Progress,
    runtime: &'a tokio::runtime::Runtime,
    echo: EchoChild,
}

impl Bench<'_> {
    fn payloads(&mut self) -> Result<Section, BenchError> {
        let mut section = Section {
            title: "pipe: round trips".to_owned(),
            about: "One message of that many bytes to a child process and back, one at a time; then \
                    the same without waiting. A leased slot or an organization is such a round trip."
                .to_owned(),
            ..Section::default()
        };
        let mut table = Table::new(&["bytes", "trips", "p50", "p95", "p99", "max", "streamed"]);
        for payload in PAYLOADS {
            self.progress.say(&format!("pipe: {payload} bytes"));
            let message = FromWorker::SourceChanged("x".repeat(payload));
            let name = format!("trip/{payload}");
            let (trips, rates) = self.trips(&message)?;
            let trip = of_operations(&name, &trips);
            let rate = Measure::new(format!("{name}/rate"), Unit::MessagesPerSecond, rates);
            let stream = self.streamed(&message, payload)?;
            let stream = Measure::new(format!("stream/{payload}"), Unit::BytesPerSecond, stream)
                .note("each way, while as much comes back");
            let [p50, p95, p99, max, _] = trip.as_ref().map(spread_cells).unwrap_or_default();
            table.row([
                payload.to_string(),
                rate.unit.shown(rate.median()),
                p50,
                p95,
                p99,
                max,
                stream.unit.shown(stream.median()),
            ]);
            let all = [trip, Some(rate), Some(stream)];
            section.measures.extend(all.into_iter().flatten());
        }
        section.table = Some(table);
        Ok(section)
    }

    /// Returns the times of single trips, and trips per second, run by run.
    fn trips(&mut self, message: &FromWorker) -> Result<(Vec<Vec<f64>>, Vec<f64>), BenchError> {
        let times = self.budget.size(TRIPS.0, TRIPS.1);
        let (runtime, echo) = (self.runtime, &mut self.echo);
        let mut runs = Vec::new();
        let rates = self.budget.repeat(|run| {
            let mut took = Vec::with_capacity(times as usize);
            let ((), total) = seconds(|| {
                runtime.block_on(async {
                    for _ in 0..times {
                        let before = crate::model::Mono::now();
                        let back = echo.trip(message).await.map_err(gone())?;
                        let trip = crate::model::Mono::now().since(before);
                        took.push(trip.as_secs_f64());
                        same(&back, message)?;
                    }
                    Ok::<_, BenchError>(())
                })
            })?;
            if run > 0 {
                runs.push(took);
            }
            Ok(per_second(times.into(), total))
        })?;
        Ok((runs, rates))
    }

    /// Returns bytes per second, run by run.
    fn streamed(&mut self, message: &FromWorker, payload: usize) -> Result<Vec<f64>, BenchError> {
        let (quick, full) = STREAM_BYTES;
        let times = |bytes: usize| u32::try_from(bytes / payload).unwrap_or(u32::MAX);
        let times = self.budget.size(times(quick), times(full));
        let came = self.stream(message, times)?;
        Ok(came.into_iter().map(|rate| rate * payload as f64).collect())
    }

    /// Returns messages per second, run by run.
    fn stream(&mut self, message: &FromWorker, times: u32) -> Result<Vec<f64>, BenchError> {
        let (runtime, echo) = (self.runtime, &mut self.echo);
        self.budget.repeat(|_| {
            let (came, took) =
                seconds(|| runtime.block_on(echo.stream(message, times))).map_err(gone())?;
            if came == times {
                Ok(per_second(times.into(), took))
            } else {
                let words = format!("{times} messages were said and {came} came back");
                Err(BenchError::Wrong(words))
            }
        })
    }

    fn batches(&mut self) -> Result<Section, BenchError> {
        let mut section = Section {
            title: "pipe: outcomes".to_owned(),
            about: "Outcomes of rows in one frame, as workers report them: user, membership and \
                    their ids. encode, decode: what a row costs a core on either side. streamed: \
                    through the pipe to a child, read, written, and back."
                .to_owned(),
            ..Section::default()
        };
        let mut table = Table::new(&["outcomes a frame", "encode", "decode", "bytes", "streamed"]);
        let batches = if self.budget.full {
            BATCHES_FULL
        } else {
            BATCHES_QUICK
        };
        for &batch in batches {
            self.progress
                .say(&format!("pipe: frames of {batch} outcomes"));
            let message = outcomes(batch);
            let frames = self.budget.size(ROWS.0, ROWS.1).div_ceil(batch);
            let rows = f64::from(frames) * f64::from(batch);
            let codec = codec(self.budget, &message, frames)?;
            let rates = self.stream(&message, frames)?;
            let name = |what| format!("batch/{batch}/{what}");
            let per_row = |seconds: Vec<f64>| seconds.into_iter().map(|all| all / rows).collect();
            let measures = [
                Measure::new(name("encode"), Unit::Seconds, per_row(codec.encode))
                    .note("of a core, a row"),
                Measure::new(name("decode"), Unit::Seconds, per_row(codec.decode))
                    .note("of a core, a row"),
                Measure::new(
                    name("bytes"),
                    Unit::Bytes,
                    vec![codec.bytes as f64 / f64::from(batch)],
                )
                .note("a row"),
                Measure::new(
                    name("rows"),
                    Unit::RowsPerSecond,
                    rates.iter().map(|rate| rate * f64::from(batch)).collect(),
                ),
            ];
            let cells = measures.iter().map(|it| it.unit.shown(it.median()));
            table.row(std::iter::once(batch.to_string()).chain(cells));
            section.measures.extend(measures);
        }
        section.table = Some(table);
        Ok(section)
    }
}

/// What frames cost without a pipe.
#[derive(Debug, Default)]
struct Codec {
    /// Seconds of a core for all frames, run by run.
    encode: Vec<f64>,
    decode: Vec<f64>,
    /// Length of one frame.
    bytes: usize,
}

fn codec(budget: &Budget, message: &FromWorker, frames: u32) -> Result<Codec, BenchError> {
    let broken = |error: FrameError| BenchError::Wrong(error.to_string());
    let mut all = Codec::default();
    for run in 0..=budget.runs.max(1) {
        let mut bytes = Vec::new();
        let (done, encoding) = timed(|| {
            for _ in 0..frames {
                bytes.clear();
                encode(0, message, &mut bytes)?;
            }
            Ok(())
        });
        done.map_err(broken)?;
        // The decoder counts frames: each is the one that is due.
        let mut frame = Vec::new();
        let mut decoder = Decoder::default();
        let mut decoding = 0.0;
        for sequence in 0..frames {
            frame.clear();
            encode(sequence, message, &mut frame).map_err(broken)?;
            decoder.push(&frame);
            let (back, took) = timed(|| decoder.message::<FromWorker>());
            decoding += took.cpu;
            if sequence == 0 {
                let back = back.map_err(broken)?;
                same(&back.unwrap_or(FromWorker::Credit), message)?;
            } else {
                drop(back.map_err(broken)?);
            }
        }
        if run > 0 {
            all.encode.push(encoding.cpu);
            all.decode.push(decoding);
        }
        all.bytes = bytes.len();
    }
    Ok(all)
}

fn gone() -> impl FnOnce(std::io::Error) -> BenchError {
    BenchError::io("the echo does not answer")
}

fn same(back: &FromWorker, said: &FromWorker) -> Result<(), BenchError> {
    if back == said {
        Ok(())
    } else {
        let words = "the echo said something else than was said to it";
        Err(BenchError::Wrong(words.to_owned()))
    }
}

/// Returns a frame's worth of outcomes, each with a user and a membership.
fn outcomes(batch: u32) -> FromWorker {
    FromWorker::Outcomes((1..=batch).map(|row| (LeaseId(7), created(row))).collect())
}

fn advice_of(sections: &[Section]) -> Vec<String> {
    let find = |name: &str| {
        let mut all = sections.iter().flat_map(|section| &section.measures);
        all.find(|measure| measure.name == name)
            .map(Measure::median)
    };
    let (Some(trip), Some(encode), Some(decode)) = (
        find("trip/100"),
        find("batch/64/encode"),
        find("batch/64/decode"),
    ) else {
        return Vec::new();
    };
    vec![format!(
        "A worker waits {} for an answer of the coordinator, and a row costs both of them {} of a \
         core to report: pipes are never the reason that an import is slow.",
        Unit::Seconds.shown(trip),
        Unit::Seconds.shown(encode + decode)
    )]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_every_size_survive_and_their_length_is_told() {
        let budget = Budget {
            full: false,
            runs: 2,
            rows: Some(1),
            folder: std::path::PathBuf::new(),
            program: std::path::PathBuf::new(),
            sweep: super::super::workers::Sweep::default(),
        };
        let mut alone = f64::MAX;
        for batch in [1, 8, 64, 512] {
            let all = codec(&budget, &outcomes(batch), 3).unwrap();
            assert_eq!((all.encode.len(), all.decode.len()), (2, 2));
            let row = all.bytes as f64 / f64::from(batch);
            assert!(
                row < alone,
                "a row costs fewer bytes than in a frame of its own"
            );
            alone = alone.min(if batch == 1 { row } else { alone });
        }
    }

    #[test]
    fn another_answer_is_refused() {
        let said = FromWorker::SourceChanged("x".to_owned());
        assert!(same(&said.clone(), &said).is_ok());
        assert!(same(&FromWorker::Credit, &said).is_err());
    }
}
