//! What a person sees while golife watches: how long it goes on, and how much has arrived. Nothing is shown if standard
//! error is no terminal, or belongs to the program of `golife run`.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// What takes long where there are many processes, or large programs.
pub(super) const READING: &str =
    "reading the processes and their programs; with many or large ones that takes a while";

/// Says what golife is busy with, if that takes more than a second. It ends with this value.
pub(super) struct Patience {
    _busy: Sender<()>,
}

impl Patience {
    /// Begins to wait.
    pub(super) fn with(what: &'static str) -> Patience {
        Patience::after(Duration::from_secs(1), move || super::note(&what))
    }

    fn after(time: Duration, say: impl FnOnce() + Send + 'static) -> Patience {
        let (busy, ended) = channel();
        std::thread::spawn(move || {
            if ended.recv_timeout(time) == Err(RecvTimeoutError::Timeout) {
                say();
            }
        });
        Patience { _busy: busy }
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_takes_long_is_said() {
        let (said, hear) = channel();
        let quick = said.clone();
        drop(Patience::after(Duration::from_secs(3_600), move || quick.send("quick").unwrap()));
        let _slow = Patience::after(Duration::from_millis(1), move || said.send("slow").unwrap());
        assert_eq!(hear.iter().collect::<Vec<_>>(), ["slow"]);
    }
}
