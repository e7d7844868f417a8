//! What every command gets: the environment, the screen, the time it began.

use super::args::TuningArgs;
use super::logging;
use super::resolve::{Env, ProgressMode, progress_mode};
use crate::model::Mono;
use crate::report::{Display, Screen};

/// What every command gets.
#[derive(Debug)]
pub struct Context {
    /// The environment, read once.
    pub env: Env,
    /// stderr.
    pub screen: Screen,
    /// Progress of a run, on the same screen.
    pub display: Display,
    /// When the process began.
    pub started: Mono,
}

impl Context {
    /// Makes the context of a command without progress.
    pub fn quiet(env: Env, started: Mono) -> Self {
        let (screen, display) = Display::off();
        Self {
            env,
            screen,
            display,
            started,
        }
    }

    /// Makes the context of a command that runs a job, and starts its diagnostics.
    pub fn of_run(env: Env, started: Mono, tuning: &TuningArgs) -> Self {
        let mode = progress_mode(tuning.progress, &env);
        let (screen, display) = match mode {
            ProgressMode::Bars => Display::bars(),
            ProgressMode::Plain => Display::plain(),
            ProgressMode::Json => Display::json(),
            ProgressMode::Off => Display::off(),
        };
        logging::start(tuning.log_level, &screen);
        Self {
            env,
            screen,
            display,
            started,
        }
    }

    /// Says what is worth knowing.
    pub fn say(&self, text: &str) {
        self.screen.say(text);
    }
}
