//! Tells the demo as it happens: milliseconds since the start, and what.

use std::cell::Cell;

use tokio::time::Instant;

use crate::output;
use crate::progress::Progress;

/// Where the story goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Voice {
    /// To standard output, before the result.
    Stdout,
    /// To standard error, so that the result is alone on standard output.
    Stderr,
    /// Nowhere, for tests.
    Silent,
}

/// The story of one demo.
#[derive(Debug)]
pub struct Timeline {
    start: Cell<Instant>,
    voice: Voice,
    progress: Progress,
}

impl Timeline {
    /// Begins now.
    pub fn new(voice: Voice) -> Self {
        Self { start: Cell::new(Instant::now()), voice, progress: Progress::start("starting") }
    }

    /// Begins again: building is not part of the story's time.
    pub fn restart(&self) {
        self.start.set(Instant::now());
    }

    /// Milliseconds since the start.
    pub fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.start.get().elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Says what has happened.
    pub fn say(&self, what: &str) {
        self.print(&format!("{:>7} ms  {what}", self.elapsed_ms()));
    }

    /// Says more about what has just been said.
    pub fn detail(&self, what: &str) {
        self.print(&format!("{:>10}    {what}", ""));
    }

    fn print(&self, line: &str) {
        self.progress.aside(|| match self.voice {
            Voice::Stdout => output::line(line),
            Voice::Stderr => output::note(line),
            Voice::Silent => {}
        });
    }

    /// Says on the progress line what is being waited for.
    pub fn doing(&self, what: &str) {
        self.progress.say(what);
    }
}
