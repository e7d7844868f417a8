//! The progress of a run on stderr: bars on a terminal, a line now and then elsewhere, or JSON.

use super::events::EventLine;
use super::painter::{self, BAR_ROOM, Painter, Picture, Size};
use super::screen::Screen;
use super::words;
use crate::model::clock::wall_ms;
use crate::model::event::{Progress, RunEvent, WorkerGauge};
use crate::model::scan::{ScanNews, ScanTally};
use crate::model::{AutoRate, Mono};
use std::collections::BTreeMap;
use std::time::Duration;

/// Time between plain lines: readable in a log, close enough to watch.
const PLAIN_EVERY: Duration = Duration::from_secs(5);

/// Time between JSON progress lines.
const JSON_EVERY: Duration = Duration::from_secs(1);

/// Time between drawings of the bars: calm, and cheap beside the run.
const DRAW_EVERY: Duration = Duration::from_millis(100);

/// The fewest columns of a terminal that leave room for a bar.
const BAR_FROM: usize = 60;

/// How progress is shown.
#[derive(Debug)]
pub enum Display {
    /// Bars: one for the rows, a line for every worker.
    Bars(Bars),
    /// Lines for people.
    Plain(Lines),
    /// Lines for programs.
    Json(Lines),
    /// Nothing.
    Off,
}

/// The bars.
#[derive(Debug)]
pub struct Bars {
    screen: Screen,
    painter: Painter,
    drawn: Option<Mono>,
    /// What the bar shows: so much of so much, and words.
    done: (u64, u64),
    words: Parts,
    workers: BTreeMap<u32, WorkerLine>,
    /// Why nothing moves, until when.
    note: Option<(Mono, String)>,
    /// The run ends: workers are meant to go.
    draining: bool,
}

/// Parts of a line: those with the highest number go first when there is no room.
type Parts = Vec<(u8, String)>;

#[derive(Debug, Default)]
struct WorkerLine {
    pid: u32,
    words: Parts,
}

/// Lines, spaced in time.
#[derive(Debug)]
pub struct Lines {
    screen: Screen,
    last_progress: Option<Mono>,
    last_throttled: Option<Mono>,
    /// The run ends: workers are meant to go.
    draining: bool,
}

impl Lines {
    fn new(screen: Screen) -> Self {
        Self {
            screen,
            last_progress: None,
            last_throttled: None,
            draining: false,
        }
    }
}

/// Returns whether `every` passed since `last`, and remembers `now` if so.
fn due(last: &mut Option<Mono>, now: Mono, every: Duration) -> bool {
    let due = last.is_none_or(|last| now.since(last) >= every);
    if due {
        *last = Some(now);
    }
    due
}

impl Display {
    /// Makes bars, and the screen whose lines move them aside.
    pub fn bars() -> (Screen, Self) {
        let painter = Painter::default();
        let screen = Screen::with_bars(painter.clone());
        let bars = Bars {
            screen: screen.clone(),
            painter,
            drawn: None,
            done: (0, 0),
            words: Vec::new(),
            workers: BTreeMap::new(),
            note: None,
            draining: false,
        };
        (screen, Self::Bars(bars))
    }

    /// Makes plain lines.
    pub fn plain() -> (Screen, Self) {
        let screen = Screen::plain();
        (screen.clone(), Self::Plain(Lines::new(screen)))
    }

    /// Makes JSON lines.
    pub fn json() -> (Screen, Self) {
        let screen = Screen::plain();
        (screen.clone(), Self::Json(Lines::new(screen)))
    }

    /// Makes a display that shows nothing.
    pub fn off() -> (Screen, Self) {
        (Screen::plain(), Self::Off)
    }

    /// Shows how far reading the file has come.
    pub fn on_bytes(&mut self, now: Mono, done: u64, total: u64) {
        match self {
            Self::Bars(bars) => {
                bars.done = (done, total);
                bars.words = said(format!("reading the file: {}", mib(done, total)));
                if due(&mut bars.drawn, now, DRAW_EVERY) {
                    bars.draw();
                }
            }
            Self::Plain(lines) => {
                // The first line comes after a while: most files are read before it is due.
                let first = *lines.last_progress.get_or_insert(now);
                if first != now && due(&mut lines.last_progress, now, PLAIN_EVERY) {
                    lines
                        .screen
                        .say(&format!("reading the file: {}", mib(done, total)));
                }
            }
            Self::Json(_) | Self::Off => {}
        }
    }

    /// Shows one event.
    pub fn on_event(&mut self, now: Mono, event: &RunEvent) {
        match self {
            Self::Bars(bars) => bars.on_event(now, event),
            Self::Plain(lines) => lines.on_event_plain(now, event),
            Self::Json(lines) => lines.on_event_json(now, event),
            Self::Off => {}
        }
    }

    /// Takes the bars away; what was said stays.
    pub fn finish(&mut self) {
        if let Self::Bars(bars) = self {
            bars.painter.clear();
        }
    }
}

impl Bars {
    fn on_event(&mut self, now: Mono, event: &RunEvent) {
        match event {
            RunEvent::Started {
                rows,
                settled,
                workers,
            } => {
                self.done = (*settled, u64::from(*rows));
                self.words = said("starting workers".to_owned());
                for slot in 0..*workers {
                    self.worker(slot).words = said("starting".to_owned());
                }
                self.draw();
            }
            RunEvent::Progress(progress) => self.show(now, progress),
            RunEvent::WorkerReady { slot, pid, .. } => {
                let line = self.worker(*slot);
                line.pid = *pid;
                line.words = said(format!("pid {pid} · ready"));
            }
            RunEvent::Worker { slot, gauge } => {
                let line = self.worker(*slot);
                line.words = worker_parts(line.pid, gauge);
            }
            RunEvent::WorkerGone {
                slot,
                how,
                suspects,
                expected,
                ..
            } => {
                let end = if *expected { "done" } else { how };
                self.worker(*slot).words = said(end.to_owned());
                if !expected && !self.draining {
                    self.screen.say(&worker_gone(*slot, how, *suspects));
                }
            }
            RunEvent::Throttled { wait_ms } => {
                let until = now.after(Duration::from_millis(*wait_ms));
                self.note = Some((until, throttled(*wait_ms)));
            }
            RunEvent::NotConnected { .. }
            | RunEvent::OutageBegan { .. }
            | RunEvent::OutageEnded
            | RunEvent::Draining { .. } => {
                self.draining |= matches!(event, RunEvent::Draining { .. });
                if let Some(words) = notice(event) {
                    self.screen.say(&words);
                }
            }
            RunEvent::Existing(ScanNews::Listing(tally)) => {
                self.note = Some((now.after(NOTE_FOR), scan_line(tally)));
            }
            RunEvent::Existing(_) => {
                if let Some(words) = notice(event) {
                    self.screen.say(&words);
                }
            }
            RunEvent::Connected
            | RunEvent::Leased { .. }
            | RunEvent::Settled(_)
            | RunEvent::Organization { .. }
            | RunEvent::Roles { .. }
            | RunEvent::Rate { .. }
            | RunEvent::Call { .. } => {}
        }
    }

    fn show(&mut self, now: Mono, progress: &Progress) {
        self.done = (progress.rows.settled(), progress.rows.total);
        self.words = progress_parts(progress);
        if self.note.as_ref().is_some_and(|(until, _)| *until <= now) {
            self.note = None;
        }
        self.words
            .extend(self.note.as_ref().map(|(_, note)| (1, note.clone())));
        self.draw();
    }

    fn draw(&self) {
        if let Some(size) = Painter::size() {
            self.painter.draw(size, &self.picture(size));
        }
    }

    fn picture(&self, size: Size) -> Picture {
        // The painter leaves two columns free.
        let room = size.columns.saturating_sub(2);
        let bar = (size.columns >= BAR_FROM).then_some(self.done);
        let left = room.saturating_sub(bar.map_or(0, |_| BAR_ROOM));
        let mut lines = vec![painter::fitted(&self.words, left)];
        for (slot, worker) in &self.workers {
            let name = format!("  worker {slot}  ");
            let left = room.saturating_sub(name.chars().count());
            lines.push(format!("{name}{}", painter::fitted(&worker.words, left)));
        }
        Picture { bar, lines }
    }

    fn worker(&mut self, slot: u32) -> &mut WorkerLine {
        self.workers.entry(slot).or_default()
    }
}

/// A line of one part.
fn said(words: String) -> Parts {
    vec![(0, words)]
}

impl Lines {
    fn on_event_plain(&mut self, now: Mono, event: &RunEvent) {
        match event {
            RunEvent::Progress(progress) => {
                if due(&mut self.last_progress, now, PLAIN_EVERY) {
                    self.screen.say(&progress_line(progress));
                }
            }
            RunEvent::Started { .. } => {
                // The first counters come one interval from now: at the start they say nothing.
                self.last_progress = Some(now);
            }
            RunEvent::Throttled { wait_ms } => {
                if due(&mut self.last_throttled, now, PLAIN_EVERY) {
                    self.screen.say(&throttled(*wait_ms));
                }
            }
            RunEvent::Existing(ScanNews::Listing(tally)) => {
                if due(&mut self.last_progress, now, PLAIN_EVERY) {
                    self.screen.say(&scan_line(tally));
                }
            }
            RunEvent::WorkerGone {
                slot,
                how,
                suspects,
                expected: false,
                ..
            } => {
                if !self.draining {
                    self.screen.say(&worker_gone(*slot, how, *suspects));
                }
            }
            other => {
                self.draining |= matches!(other, RunEvent::Draining { .. });
                if let Some(words) = notice(other) {
                    self.screen.say(&words);
                }
            }
        }
    }

    fn on_event_json(&mut self, now: Mono, event: &RunEvent) {
        let show = match event {
            RunEvent::Progress(_) | RunEvent::Existing(ScanNews::Listing(_)) => {
                due(&mut self.last_progress, now, JSON_EVERY)
            }
            RunEvent::Throttled { .. } => due(&mut self.last_throttled, now, JSON_EVERY),
            RunEvent::Started { .. }
            | RunEvent::Connected
            | RunEvent::Existing(_)
            | RunEvent::WorkerReady { .. }
            | RunEvent::WorkerGone { .. }
            | RunEvent::Rate { .. }
            | RunEvent::NotConnected { .. }
            | RunEvent::OutageBegan { .. }
            | RunEvent::OutageEnded
            | RunEvent::Draining { .. } => true,
            RunEvent::Worker { .. }
            | RunEvent::Leased { .. }
            | RunEvent::Settled(_)
            | RunEvent::Organization { .. }
            | RunEvent::Roles { .. }
            | RunEvent::Call { .. } => false,
        };
        if show {
            let line = EventLine {
                ts: wall_ms(),
                event,
            };
            // Numbers, ids and words: there is nothing in it that is no JSON.
            self.screen
                .say(&serde_json::to_string(&line).unwrap_or_default());
        }
    }
}

/// How long a note of progress stands.
const NOTE_FOR: Duration = Duration::from_secs(2);

fn scan_line(tally: &ScanTally) -> String {
    format!(
        "listing the target: {} and {} so far",
        words::counted(tally.users, "user"),
        words::counted(tally.memberships, "membership")
    )
}

/// What was decided, and what was found.
fn scan_notice(news: &ScanNews) -> Option<String> {
    match news {
        ScanNews::Sampled {
            asked,
            found,
            pages_max,
        } => {
            let next = match pages_max {
                Some(pages) => format!(
                    "the target's users are listed first (a list longer than {} is left there: \
                     asking row by row costs less)",
                    words::counted(u64::from(*pages), "page")
                ),
                None => "every row asks for itself".to_owned(),
            };
            Some(format!(
                "{found} of {} exist already: {next}",
                words::counted(u64::from(*asked), "sampled row")
            ))
        }
        ScanNews::Listed(tally) => {
            let end = if tally.whole {
                ""
            } else {
                "; there may be more, which rows ask for themselves"
            };
            Some(format!(
                "listed {} and {} in {}{end}",
                words::counted(tally.users, "user"),
                words::counted(tally.memberships, "membership"),
                words::counted(u64::from(tally.pages), "page")
            ))
        }
        ScanNews::Failed(reason) => Some(format!(
            "the target's users could not be listed ({reason}); every row asks for itself"
        )),
        ScanNews::Listing(_) => None,
    }
}

/// Returns the words of an event that people are told whatever the display.
fn notice(event: &RunEvent) -> Option<String> {
    match event {
        RunEvent::NotConnected { reason } => Some(format!(
            "the target does not answer ({reason}); trying again"
        )),
        RunEvent::OutageBegan {
            reason,
            probe_in_ms,
        } => {
            let wait = words::duration(Duration::from_millis(*probe_in_ms));
            Some(format!(
                "the target does not answer ({reason}); next try in {wait}"
            ))
        }
        RunEvent::OutageEnded => Some("the target answers again".to_owned()),
        RunEvent::Existing(news) => scan_notice(news),
        RunEvent::Draining { reason } => Some(format!("{reason}: finishing what is under way")),
        _ => None,
    }
}

fn progress_line(progress: &Progress) -> String {
    let parts = progress_parts(progress);
    painter::joined(parts.iter().map(|(_, part)| part.as_str()))
}

fn progress_parts(progress: &Progress) -> Parts {
    let rows = &progress.rows;
    let settled = rows.settled();
    let percent = if rows.total == 0 {
        100.0
    } else {
        settled as f64 * 100.0 / rows.total as f64
    };
    let writes = words::rate(progress.writes_per_s);
    let writes = match progress.writes_allowed_per_s {
        Some(allowed) => format!(
            "{writes} of {} writes/s{}",
            words::rate(allowed),
            backed_off(progress.auto, allowed)
        ),
        None => format!("{writes} writes/s"),
    };
    let [done, total] = [settled, rows.total].map(words::count);
    let eta = words::eta(rows.pending, progress.rows_per_s);
    let mut parts = vec![
        (0, format!("{done} of {total} rows ({percent:.1} %)")),
        (2, format!("ETA {eta}")),
        (4, format!("{} rows/s", words::rate(progress.rows_per_s))),
        (3, writes),
    ];
    for (n, word) in [(rows.failed, "failed"), (rows.parked, "parked")] {
        if n > 0 {
            parts.push((1, format!("{} {word}", words::count(n))));
        }
    }
    parts
}

/// Says that less than the limit is used since a 429, and how much.
fn backed_off(auto: Option<AutoRate>, allowed: f64) -> String {
    let current = auto.map(|auto| auto.current);
    current
        .filter(|current| *current < allowed)
        .map_or_else(String::new, |current| {
            format!(", backed off to {}", words::rate(current))
        })
}

fn worker_parts(pid: u32, gauge: &WorkerGauge) -> Parts {
    vec![
        (5, format!("pid {pid}")),
        (0, format!("{} rows done", words::count(gauge.done))),
        (2, format!("{} active", gauge.active)),
        (4, format!("{} queued", gauge.queued)),
        (1, format!("{} in flight", gauge.in_flight)),
        (3, format!("{} waiting", gauge.waiting)),
    ]
}

fn worker_gone(slot: u32, how: &str, suspects: u32) -> String {
    let rows = words::counted(u64::from(suspects), "row");
    format!("worker {slot} ended ({how}); {rows} it held will be looked up and finished")
}

fn throttled(wait_ms: u64) -> String {
    let wait = words::duration(Duration::from_millis(wait_ms));
    format!("the target asks everyone to wait {wait}")
}

fn mib(done: u64, total: u64) -> String {
    format!(
        "{} of {} MiB",
        words::count(done >> 20),
        words::count(total >> 20)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::RowTally;

    fn progress() -> Progress {
        Progress {
            rows: RowTally {
                total: 20_000,
                created: 12_000,
                failed: 300,
                parked: 45,
                pending: 7_655,
                ..RowTally::default()
            },
            writes_per_s: 49.51,
            writes_allowed_per_s: Some(50.0),
            rows_per_s: 24.0,
            ..Progress::default()
        }
    }

    #[test]
    fn the_line_shows_rate_against_limit_eta_and_errors() {
        assert_eq!(
            progress_line(&progress()),
            "12,345 of 20,000 rows (61.7 %) · ETA 5m19s · 24.0 rows/s · 49.5 of 50.0 writes/s · \
             300 failed · 45 parked"
        );
    }

    #[test]
    fn the_line_says_when_the_rate_is_backed_off_and_not_when_it_is_not() {
        let mut progress = progress();
        let auto = |current| {
            Some(AutoRate {
                current,
                lowest: 24.5,
            })
        };
        progress.auto = auto(35.0);
        let line = progress_line(&progress);
        let told = "· 49.5 of 50.0 writes/s, backed off to 35.0 · 300 failed";
        assert!(line.contains(told), "{line}");
        progress.auto = auto(50.0);
        assert!(!progress_line(&progress).contains("backed off"));
    }

    #[test]
    fn the_line_without_a_limit_or_rows_is_calm() {
        assert_eq!(
            progress_line(&Progress::default()),
            "0 of 0 rows (100.0 %) · ETA 0s · 0.00 rows/s · 0.00 writes/s"
        );
    }

    #[test]
    fn lines_are_spaced() {
        let mut last = None;
        let at = |seconds: u64| Mono(0).after(Duration::from_secs(seconds));
        let shown: Vec<u64> = (0..12)
            .filter(|s| due(&mut last, at(*s), PLAIN_EVERY))
            .collect();
        assert_eq!(shown, [0, 5, 10]);
    }

    #[test]
    fn bars_fit_a_terminal_of_any_width() {
        let (_, mut display) = Display::bars();
        let gauge = WorkerGauge {
            active: 64,
            queued: 250,
            in_flight: 64,
            waiting: 64,
            done: 123_456,
        };
        let started = RunEvent::Started {
            rows: 20_000,
            settled: 0,
            workers: 1,
        };
        display.on_event(Mono(0), &started);
        display.on_event(Mono(1), &RunEvent::Worker { slot: 0, gauge });
        display.on_event(Mono(2), &RunEvent::Throttled { wait_ms: 3_000 });
        display.on_event(Mono(3), &RunEvent::Progress(Box::new(progress())));
        let Display::Bars(bars) = display else {
            panic!("these are bars");
        };
        for columns in 1..250 {
            let Picture { bar, lines } = bars.picture(Size { rows: 24, columns });
            assert_eq!(lines.len(), 2);
            let most = columns.max(16);
            let first = bar.map_or(0, |_| BAR_ROOM) + lines[0].chars().count();
            let second = lines[1].chars().count();
            assert!(first <= most && second <= most, "{lines:?}");
        }
        let at = |columns| bars.picture(Size { rows: 24, columns }).lines.join("\n");
        let bar_at = |columns| bars.picture(Size { rows: 24, columns }).bar;
        assert_eq!((bar_at(59), bar_at(60)), (None, Some((12_345, 20_000))));
        assert_eq!(
            at(80),
            "12,345 of 20,000 rows (61.7 %) · 300 failed · 45 parked\n  \
             worker 0  123,456 rows done · 64 active · 64 in flight · 64 waiting"
        );
        assert_eq!(
            at(40),
            "12,345 of 20,000 rows (61.7 %)\n  worker 0  123,456 rows done"
        );
        let wide = at(200);
        for words in [
            "ETA 5m19s",
            "of 50.0 writes/s",
            "wait 3.0s",
            "pid 0",
            "250 queued",
        ] {
            assert!(wide.contains(words), "{wide}");
        }
    }

    #[test]
    fn bars_take_every_event_without_a_terminal() {
        let (_, mut display) = Display::bars();
        display.on_bytes(Mono(0), 1, 2);
        display.on_event(
            Mono(1),
            &RunEvent::Started {
                rows: 2,
                settled: 0,
                workers: 1,
            },
        );
        display.on_event(Mono(2), &RunEvent::Throttled { wait_ms: 3_000 });
        display.on_event(Mono(3), &RunEvent::Progress(Box::new(progress())));
        let Display::Bars(bars) = &display else {
            panic!("bars were asked for");
        };
        assert_eq!(bars.done, (12_345, 20_000));
        let (_, last) = bars.words.last().unwrap();
        assert!(last.ends_with("wait 3.0s"), "{last}");
        display.finish();
    }
}
