//! The command line: parses arguments, calls the library, and prints results.
//!
//! | exit status | |
//! |---|---|
//! | 0 | done, and complete |
//! | 1 | failed: nothing was written; `verify`: damage was found |
//! | 2 | wrong usage; `verify`: could not check |
//! | 3 | done, but records, vectors or texts are missing or damaged |
//! | 128 + n | ended by signal n, as in shells: 130 after SIGINT, 143 after SIGTERM |

// As in the library.
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        clippy::cast_precision_loss,
        clippy::cast_sign_loss,
        clippy::print_stdout,
        clippy::print_stderr
    ),
    warn(missing_docs, unreachable_pub)
)]

mod args;
mod build;
#[cfg(feature = "database")]
mod collections;
mod color;
#[cfg(feature = "database")]
mod export;
mod extract;
mod generate;
mod hint;
mod hnsw;
#[cfg(feature = "database")]
mod import;
mod inspect;
mod named;
mod progress;
mod recall;
mod repair;
mod search;
mod signals;
#[cfg(feature = "database")]
mod spool;
mod stdout;
mod table;
mod verify;

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory, Parser};
use hnsw_toolbox::wire::{self, Answer};
use hnsw_toolbox::{display_path, CancelToken, Error, ErrorKind, Monitor};

use args::{AnswerArguments, Arguments, Command, WorkArguments, NAME};
use color::{BAD, GOOD, WARNING};
use hint::Input;
use progress::Bar;
use signals::LastSignal;

const FAILED: u8 = 1;
const WRONG_USAGE: u8 = 2;
const NOT_VERIFIED: u8 = 2;
const INCOMPLETE: u8 = 3;

const CLOSED: &str =
    "standard output: found a closed descriptor, expected a file, a pipe or a terminal";

/// Time that an interrupted command may wait for the reader of its standard output.
const LAST_WRITE: Duration = Duration::from_secs(1);

/// Runs the command of the arguments.
fn main() -> ExitCode {
    color::choose(std::env::args_os().skip(1));
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return usage(&error),
    };
    let failed = match arguments.command {
        Command::Verify(_) => NOT_VERIFIED,
        _ => FAILED,
    };
    // Before the threads that watch for signals, which need memory to start.
    if let Err(error) = wire::check_headroom("start") {
        report(&error.to_string());
        return ExitCode::from(failed);
    }
    let prints = !matches!(arguments.command, Command::Man { .. });
    if prints && !stdout::is_open() {
        report(CLOSED);
        return ExitCode::from(failed);
    }
    let cancel = CancelToken::new();
    let signal = LastSignal::new();
    let streams = arguments.command.streams();
    let input = Input::of(&arguments.command);
    let (on_signal, last) = (cancel.clone(), signal.clone());
    let handler = move || {
        on_signal.cancel();
        if streams {
            // A blocked write to a full pipe is not interrupted by cancellation.
            std::thread::sleep(LAST_WRITE);
            report(&Error::cancelled().to_string());
            std::process::exit(i32::from(after_signal(&last)));
        }
    };
    if let Err(error) = ctrlc::set_handler(handler) {
        report(&format!("cannot install the interrupt handler: {error}"));
    }
    signal.watch();
    if let Err(error) = signals::survive_file_size_limit() {
        report(&format!(
            "cannot install the handler for the file size limit: {error}"
        ));
    }
    let result = match arguments.command {
        Command::Extract(arguments) => extract::run(arguments, &cancel),
        Command::Build(arguments) => build::run(arguments, &cancel),
        Command::Inspect(arguments) => inspect::run(&arguments, &cancel),
        Command::Verify(arguments) => verify::run(&arguments, &cancel),
        #[cfg(feature = "database")]
        Command::Collections(arguments) => collections::run(&arguments, &cancel),
        #[cfg(feature = "database")]
        Command::Export(arguments) => export::run(arguments, &cancel),
        #[cfg(feature = "database")]
        Command::Import(arguments) => import::run(arguments, &cancel),
        Command::Search(arguments) => search::run(arguments, &cancel),
        Command::Recall(arguments) => recall::run(arguments, &cancel),
        Command::Repair(arguments) => repair::run(arguments, &cancel),
        Command::Completions { shell } => generate::completions(shell),
        Command::Man { dir } => generate::man(dir),
    };
    match result {
        Ok(status) => status,
        Err(Failure::Usage(words)) => {
            report(&words);
            ExitCode::from(WRONG_USAGE)
        }
        #[cfg(feature = "database")]
        Err(Failure::Pipe(words)) => {
            report(&words);
            ExitCode::from(failed)
        }
        Err(Failure::Work(error)) => {
            if let Some(words) = argument(&error) {
                report(&words);
                return ExitCode::from(WRONG_USAGE);
            }
            report(&error.to_string());
            if let Some(hint) = input.and_then(|input| input.hint(&error)) {
                let _ = writeln!(anstream::stderr(), "{GOOD}hint:{GOOD:#} {hint}");
            }
            ExitCode::from(match error.kind() {
                ErrorKind::Cancelled => after_signal(&signal),
                _ => failed,
            })
        }
        // Ctrl-C reaches all commands of a pipeline. If the reader ends first, the broken pipe is a
        // consequence of the signal.
        Err(Failure::Output(_)) if signal.came() || cancel.is_cancelled() => {
            report(&Error::cancelled().to_string());
            ExitCode::from(after_signal(&signal))
        }
        // The reader has stopped on purpose, like `head`: no message.
        Err(Failure::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            ExitCode::from(failed)
        }
        Err(Failure::Output(error)) => {
            report(&format!("standard output: {error}"));
            ExitCode::from(failed)
        }
    }
}

/// Prints help, the version, or an error in the arguments.
fn usage(error: &clap::Error) -> ExitCode {
    if error.use_stderr() {
        let _ = error.print();
        return ExitCode::from(WRONG_USAGE);
    }
    if !stdout::is_open() {
        report(CLOSED);
        return ExitCode::from(FAILED);
    }
    match error.print().and_then(|()| io::stdout().flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            report(&format!("standard output: {error}"));
            ExitCode::from(FAILED)
        }
        _ => ExitCode::SUCCESS,
    }
}

/// Returns the exit status after a signal.
fn after_signal(signal: &LastSignal) -> u8 {
    128 + signal.number()
}

/// Returns the text of an error in an argument, with the flags of the command line.
fn argument(error: &Error) -> Option<String> {
    let is_argument = error.kind() == ErrorKind::InvalidArgument;
    let (field, found, expected) = (error.field()?, error.found()?, error.expected()?);
    is_argument.then(|| format!("{}: found {found}, expected {expected}", flags(field)))
}

/// Replaces the names of options in a field by flags: `batch_size` by `--batch-size`.
fn flags(field: &str) -> String {
    let command = Arguments::command();
    let known = |flag: &str| {
        let mut arguments = command
            .get_subcommands()
            .flat_map(clap::Command::get_arguments);
        arguments.any(|argument| argument.get_long() == Some(flag))
    };
    let words = field.split(' ').map(|word| {
        let flag = word.replace('_', "-");
        if known(&flag) {
            format!("--{flag}")
        } else {
            word.to_string()
        }
    });
    words.collect::<Vec<_>>().join(" ")
}

/// The reason for the failure of a command.
enum Failure {
    Usage(String),
    /// A pipe that cannot be read, or not be copied.
    #[cfg(feature = "database")]
    Pipe(String),
    Work(Error),
    Output(io::Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        // The callbacks of the command line only write to standard output.
        match error.into_callback().map(|cause| cause.downcast()) {
            Ok(Ok(error)) => Self::Output(*error),
            Ok(Err(cause)) => Self::Work(Error::callback(cause)),
            Err(error) => Self::Work(error),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

fn report(words: &str) {
    let words = one_line(words);
    // If standard error is closed, only the exit status remains.
    let _ = writeln!(anstream::stderr(), "{BAD}{NAME}:{BAD:#} {words}");
}

/// Escapes control characters in text that may come from a file, so that none reach the terminal.
fn one_line(text: &str) -> impl std::fmt::Display + '_ {
    display_path(Path::new(text))
}

/// Prints a warning about completed work.
fn warn(words: impl std::fmt::Display) {
    // If standard error is closed, the result still has the information.
    let _ = writeln!(anstream::stderr(), "{WARNING}warning:{WARNING:#} {words}");
}

/// Does the work of a command under a progress bar.
fn work<T>(
    verb: &'static str,
    arguments: &WorkArguments,
    cancel: &CancelToken,
    work: impl FnOnce(&Monitor<'_>) -> Result<T, Error>,
) -> Result<T, Failure> {
    let bar = Bar::new(verb, arguments.quiet);
    let show = |progress| bar.show(progress);
    let begin = |collection: &str| bar.begin(collection);
    let monitor = Monitor::default()
        .with_cancel(cancel)
        .on_progress(&show)
        .on_part(&begin);
    Ok(work(&monitor)?)
}

/// Refuses, before the work, paths that the JSON result cannot represent.
fn check_answerable(arguments: &AnswerArguments, paths: &[(&str, &Path)]) -> Result<(), Failure> {
    let other = paths.iter().find(|(_, path)| path.to_str().is_none());
    match other {
        Some((argument, path)) if arguments.json => Err(Failure::Usage(format!(
            "{argument}: found {}, expected a path in UTF-8, because the result is JSON",
            display_path(path)
        ))),
        _ => Ok(()),
    }
}

/// Prints the result of a command, as one line of JSON or with `print`. Returns the exit status.
fn answer<A: Answer>(
    arguments: &AnswerArguments,
    answer: &A,
    print: impl FnOnce(&A) -> io::Result<()>,
) -> Result<ExitCode, Failure> {
    if arguments.json {
        let mut stdout = io::stdout().lock();
        wire::write_json(&mut stdout, answer)?;
        writeln!(stdout)?;
    } else {
        print(answer)?;
    }
    Ok(done(answer.is_complete()))
}

/// Returns the exit status of completed work.
fn done(is_complete: bool) -> ExitCode {
    match is_complete {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(INCOMPLETE),
    }
}
