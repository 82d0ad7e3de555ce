//! `hnsw-toolbox completions` and `man`: files that a package installs besides the program.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::CommandFactory;
use clap_complete::Shell;
use hnsw_toolbox::Error;

use super::args::{Arguments, NAME};
use super::Failure;

pub(super) fn completions(shell: Shell) -> Result<ExitCode, Failure> {
    let mut script = Vec::new();
    // Into memory: clap panics if a write fails.
    clap_complete::generate(shell, &mut Arguments::command(), NAME, &mut script);
    let mut script = String::from_utf8(script).map_err(io::Error::other)?;
    if shell == Shell::Bash {
        // In names of subcommands, the script escapes the hyphen of the program name in its `case`
        // arms only, which are then never reached: https://github.com/clap-rs/clap/issues/6421.
        let [arm, name] = ["__subcmd__", "__"].map(|hyphen| NAME.replace('-', hyphen));
        script = script.replace(&arm, &name);
    }
    let mut stdout = io::stdout().lock();
    stdout.write_all(script.as_bytes())?;
    stdout.flush()?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn man(dir: PathBuf) -> Result<ExitCode, Failure> {
    let written = std::fs::create_dir_all(&dir)
        .and_then(|()| clap_mangen::generate_to(Arguments::command(), &dir));
    written.map_err(Error::io(&dir, "write the manual pages"))?;
    Ok(ExitCode::SUCCESS)
}
