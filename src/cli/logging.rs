//! Diagnostics of this process on stderr, without disturbing the bars.

use super::args::LogLevel;
use crate::report::Screen;
use std::io;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// Starts diagnostics. Only our own rooms speak at the chosen level: libraries could print parts
/// of a request.
pub fn start(level: LogLevel, screen: &Screen) {
    let filter = EnvFilter::new(format!("off,userferry={}", level.as_str()));
    let started = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(ScreenWriter(screen.clone()))
        .try_init();
    if started.is_err() {
        screen.say("warning: diagnostics were started twice");
    }
}

/// Hands log lines to the screen.
#[derive(Clone, Debug)]
struct ScreenWriter(Screen);

impl io::Write for ScreenWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.say(String::from_utf8_lossy(bytes).trim_end());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for ScreenWriter {
    type Writer = Self;

    fn make_writer(&'a self) -> Self::Writer {
        self.clone()
    }
}
