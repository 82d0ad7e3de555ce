//! Colours of what is printed.
//!
//! Words are written with the escapes of their colours. anstream, with which clap prints too, takes
//! these out where there are to be none: outside of a terminal, with `NO_COLOR`, or by `--color`.

use clap::builder::styling::{AnsiColor, Style};
use clap::ColorChoice;

pub(super) const BAD: Style = AnsiColor::Red.on_default().bold();
pub(super) const WARNING: Style = AnsiColor::Yellow.on_default().bold();
pub(super) const GOOD: Style = AnsiColor::Green.on_default().bold();

/// Does what `--color` asks for. Arguments need not be right: what clap has to say of those that are
/// wrong has colours as well.
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
        is_next = argument == "--color";
    }
    match choice {
        ColorChoice::Auto => anstream::ColorChoice::Auto,
        ColorChoice::Always => anstream::ColorChoice::Always,
        ColorChoice::Never => anstream::ColorChoice::Never,
    }
    .write_global();
}
