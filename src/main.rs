//! The command line of hnsw-toolbox.

mod cli;

fn main() -> std::process::ExitCode {
    cli::run()
}
