//! What is shown while a network runs: one line that changes on a terminal, else a line now and
//! then. On standard error, because standard output may be a program's.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::limits;

/// Shows progress.
#[derive(Debug)]
pub struct Progress {
    bar: Option<ProgressBar>,
    last_line: Option<Instant>,
    since: Instant,
}

impl Progress {
    /// On standard error.
    #[must_use]
    pub fn start() -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed} {wide_msg}") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        Self { bar, last_line: None, since: Instant::now() }
    }

    /// Something new begins.
    pub fn step(&mut self, text: &str) {
        self.line(text);
        self.last_line = Some(Instant::now());
    }

    /// How it stands now.
    pub fn tell(&mut self, text: &str) {
        if self.bar.is_none() && self.last_line.is_some_and(|at| at.elapsed() < limits::LINE_PAUSE)
        {
            return;
        }
        self.step(text);
    }

    /// Ends the changing line.
    pub fn end(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.set_message(text.to_owned()),
            None => {
                let seconds = self.since.elapsed().as_secs();
                // Nowhere else to say it if standard error is closed.
                let _ = writeln!(std::io::stderr(), "devnet {seconds:>4} s: {text}");
            }
        }
    }
}
