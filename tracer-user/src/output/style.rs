//! The few styles of text output. [`paint`] closes each style that it opens.

use std::fmt::Display;

use anstyle::{AnsiColor, Style};

use crate::report::Level;

pub(super) const BOLD: Style = Style::new().bold();
pub(super) const DIM: Style = Style::new().dimmed();

pub(super) fn of_level(level: Level) -> Style {
    let color = match level {
        Level::Proven | Level::Suspect => AnsiColor::Red,
        Level::Watch => AnsiColor::Yellow,
        Level::Healthy => AnsiColor::Green,
        Level::Unknown => return DIM,
    };
    Style::new().fg_color(Some(color.into())).bold()
}

/// Puts text in a style, and resets the style after it.
pub(super) fn paint(style: Style, text: impl Display) -> String {
    format!("{style}{text}{style:#}")
}
