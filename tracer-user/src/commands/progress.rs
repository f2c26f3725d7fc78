//! What a person sees while golife watches: how long it goes on, and how much has arrived. Nothing is shown if standard
//! error is no terminal, or belongs to the program of `golife run`.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A line at the bottom of the terminal.
pub struct Progress(Option<ProgressBar>);

impl Progress {
    /// Starts the clock. `visible` is false where the terminal belongs to another program.
    pub fn start(duration: Option<Duration>, visible: bool) -> Progress {
        if !visible {
            return Progress(None);
        }
        let bar = match duration {
            Some(duration) => ProgressBar::new(duration.as_millis() as u64),
            None => ProgressBar::new_spinner(),
        };
        bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(5));
        let template = match duration {
            Some(_) => "{bar:24} {elapsed} · {msg}",
            None => "{spinner} {elapsed} · {msg} · Ctrl-C ends with the report",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_message("waiting for goroutines");
        Progress(Some(bar))
    }

    /// Shows how much has arrived.
    pub fn update(&self, events: u64, lost: u64) {
        let count = crate::human::count;
        let lost = if lost == 0 { String::new() } else { format!(", {} lost", count(lost)) };
        self.say(format!("{} events{lost}", count(events)));
    }

    /// Shows what is going on, and that time passes.
    pub fn say(&self, message: String) {
        if let Some(bar) = &self.0 {
            bar.set_position(bar.elapsed().as_millis() as u64);
            bar.set_message(message);
        }
    }

    /// Clears the line.
    pub fn finish(&self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}
