//! Colours of the output.
//!
//! Text is written with escape sequences for colours. anstream, which clap also uses, strips them
//! outside of a terminal, with `NO_COLOR`, or as `--color` says.

use clap::builder::styling::{AnsiColor, Style};
use clap::ColorChoice;

pub(super) const BAD: Style = AnsiColor::Red.on_default().bold();
pub(super) const WARNING: Style = AnsiColor::Yellow.on_default().bold();
pub(super) const GOOD: Style = AnsiColor::Green.on_default().bold();

/// Applies `--color` before clap parses the arguments, so that its errors respect the choice.
/// Invalid arguments are ignored here.
pub(super) fn choose(arguments: impl Iterator<Item = std::ffi::OsString>) {
    let mut choice = ColorChoice::Auto;
    let mut is_next = false;
    for argument in arguments {
        let argument = argument.to_string_lossy();
        let value = if is_next {
            Some(&*argument)
        } else {
            argument.strip_prefix("--color=")
        };
        if let Some(Ok(asked)) = value.map(str::parse) {
            choice = asked;
        }
        // `--color WHEN` as two arguments.
        is_next = argument == "--color";
    }
    match choice {
        ColorChoice::Auto => anstream::ColorChoice::Auto,
        ColorChoice::Always => anstream::ColorChoice::Always,
        ColorChoice::Never => anstream::ColorChoice::Never,
    }
    .write_global();
}
