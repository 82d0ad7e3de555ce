//! Measures `hnsw-toolbox extract`, compared with arrow-rs and with a plain copy.
//!
//! Every contender is a separate process and writes a new file. The contenders take turns, so that
//! other load on the machine affects all of them. Before each turn, earlier outputs are removed and
//! pending writes are flushed. Ratios are computed within a round; the median of the rounds is shown.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{bail, ensure, Context, Result};
use arrow::array::{AsArray, Float32Array};
use arrow::ipc::reader::FileReader;
use arrow::record_batch::RecordBatch;
use hnsw_toolbox_peers::measure::{self, Usage};
use hnsw_toolbox_peers::synthetic_index::Shape;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

const USAGE: &str = "\
usage: bench_extract [--toolbox PATH] [--dir DIR] [--rows N] [--dimension N] [--rounds N]
                     [--memory N,N,...]

  --toolbox PATH    the command line to measure (target/release/hnsw-toolbox)
  --dir DIR         where indexes and outputs go (target/bench); indexes stay there
  --rows N          elements of the index (200000)
  --dimension N     components of each vector (384)
  --rounds N        runs of each contender (5); 0 leaves the comparison out
  --memory N,N,...  also show the peak memory for indexes of these sizes";

const MIB: f64 = (1 << 20) as f64;

struct Options {
    toolbox: PathBuf,
    dir: PathBuf,
    rows: u64,
    dimension: u64,
    rounds: usize,
    memory: Vec<u64>,
}

impl Options {
    fn parse() -> Result<Self> {
        use lexopt::prelude::*;

        let mut options = Self {
            toolbox: "target/release/hnsw-toolbox".into(),
            dir: "target/bench".into(),
            rows: 200_000,
            dimension: 384,
            rounds: 5,
            memory: Vec::new(),
        };
        let mut parser = lexopt::Parser::from_env();
        while let Some(argument) = parser.next()? {
            match argument {
                Long("toolbox") => options.toolbox = parser.value()?.into(),
                Long("dir") => options.dir = parser.value()?.into(),
                Long("rows") => options.rows = parser.value()?.parse()?,
                Long("dimension") => options.dimension = parser.value()?.parse()?,
                Long("rounds") => options.rounds = parser.value()?.parse()?,
                Long("memory") => {
                    let sizes = parser.value()?.string()?;
                    let sizes: Result<_, _> = sizes.split(',').map(str::parse).collect();
                    options.memory = sizes.context("--memory")?;
                }
                Long("help") | Short('h') => {
                    println!("{USAGE}");
                    std::process::exit(0);
                }
                other => bail!("{}\n{USAGE}", other.unexpected()),
            }
        }
        Ok(options)
    }

    /// A synthetic index of `rows` records, created if it does not exist yet.
    fn index(&self, rows: u64) -> Result<PathBuf> {
        let shape = Shape {
            count: rows,
            dimension: self.dimension,
        };
        let dir = self.dir.join(format!("index-{rows}x{}", self.dimension));
        if !shape.is_at(&dir) {
            eprintln!("writing {}", dir.display());
            shape.write(&dir).context("synthetic index")?;
        }
        Ok(dir)
    }
}

fn extract(toolbox: &Path, index: &Path, out: &Path) -> Command {
    let mut command = Command::new(toolbox);
    command.arg("extract").arg(index).arg("--quiet");
    command.arg("--output").arg(out);
    command
}

fn main() -> Result<()> {
    let options = Options::parse()?;
    ensure!(
        options.toolbox.is_file(),
        "{}: not there; `cargo build --release` makes it",
        options.toolbox.display()
    );
    if options.rounds > 0 {
        compare(&options)?;
    }
    if !options.memory.is_empty() {
        show_memory(&options)?;
    }
    // Last, because its memory would be attributed to every process started afterwards.
    if options.rounds > 0 {
        check_same_rows(&options)?;
    }
    Ok(())
}

/// The commands that together write the file at a path.
type CommandsFor = dyn Fn(&Path) -> Vec<Command>;

struct Contender {
    name: &'static str,
    /// Name of the output file.
    out: &'static str,
    commands: Box<CommandsFor>,
}

// Positions in the result of `contenders`.
const PARQUET: usize = 0;
const IPC: usize = 1;
const USUAL_PARQUET: usize = 2;
const PLAIN_PARQUET: usize = 3;
const USUAL_IPC: usize = 4;
const COPY: usize = 5;
const COPY_AND_SYNC: usize = 6;

fn contenders(options: &Options, index: &Path) -> Result<[Contender; 7]> {
    let arrow_rs = std::env::current_exe()?.with_file_name("extract_arrow_rs");
    let ours = |name, out| {
        let (toolbox, index) = (options.toolbox.clone(), index.to_path_buf());
        let commands = move |path: &Path| vec![extract(&toolbox, &index, path)];
        Contender {
            name,
            out,
            commands: Box::new(commands),
        }
    };
    let theirs = |name, writer: &'static str, out| {
        let (arrow_rs, index) = (arrow_rs.clone(), index.to_path_buf());
        let commands = move |path: &Path| {
            let mut command = Command::new(&arrow_rs);
            command.arg(writer).arg(&index).arg(path);
            vec![command]
        };
        Contender {
            name,
            out,
            commands: Box::new(commands),
        }
    };
    let copy = |name, out, synced: bool| {
        let data = index.join("data_level0.bin");
        let commands = move |path: &Path| {
            let mut copy = Command::new("cp");
            copy.arg(&data).arg(path);
            let mut sync = Command::new("sync");
            sync.arg(path);
            if synced {
                vec![copy, sync]
            } else {
                vec![copy]
            }
        };
        Contender {
            name,
            out,
            commands: Box::new(commands),
        }
    };
    Ok([
        ours("hnsw-toolbox, Parquet", "toolbox.parquet"),
        ours("hnsw-toolbox, Arrow IPC", "toolbox.arrow"),
        theirs("arrow-rs Parquet, defaults", "parquet", "arrow_rs.parquet"),
        theirs(
            "arrow-rs Parquet, plain",
            "parquet-plain",
            "arrow_rs_plain.parquet",
        ),
        theirs("arrow-rs Arrow IPC", "ipc", "arrow_rs.arrow"),
        copy("cp data_level0.bin", "copy.bin", false),
        copy("cp, then sync FILE", "synced_copy.bin", true),
    ])
}

fn compare(options: &Options) -> Result<()> {
    let index = options.index(options.rows)?;
    // Fills the page cache, so that the first contender is not the only one to read from disk.
    io::copy(
        &mut fs::File::open(index.join("data_level0.bin"))?,
        &mut io::sink(),
    )?;
    let contenders = contenders(options, &index)?;
    let outputs = options.dir.join("outputs");
    let mut usages = vec![Vec::new(); contenders.len()];
    let mut sizes = vec![0; contenders.len()];
    for round in 0..options.rounds {
        eprintln!("round {} of {}", round + 1, options.rounds);
        for turn in 0..contenders.len() {
            // Each round starts with another contender.
            let number = (turn + round) % contenders.len();
            let contender = &contenders[number];
            settle(&outputs)?;
            let out = outputs.join(contender.out);
            usages[number].push(measure::run(&mut (contender.commands)(&out))?);
            sizes[number] = fs::metadata(&out)?.len();
        }
    }

    println!(
        "\n{} x {}, medians of {} rounds",
        options.rows, options.dimension, options.rounds
    );
    println!(
        "{:<28}{:>10}{:>10}{:>14}{:>14}",
        "", "wall s", "CPU s", "peak RSS MiB", "output MiB"
    );
    for ((contender, usages), size) in contenders.iter().zip(&usages).zip(sizes) {
        let median = |value: fn(&Usage) -> f64| measure::median(usages.iter().map(value));
        println!(
            "{:<28}{:>10.3}{:>10.3}{:>14.1}{:>14.1}",
            contender.name,
            median(wall),
            median(cpu),
            median(|usage| usage.peak_rss as f64) / MIB,
            size as f64 / MIB
        );
    }

    println!("\nratios, medians of the rounds' own");
    let ratio = |what, value: fn(&Usage) -> f64, ours: usize, others: usize, most: Option<f64>| {
        let pairs = usages[ours].iter().zip(&usages[others]);
        let ratio = measure::median(pairs.map(|(ours, others)| value(ours) / value(others)));
        let label = format!(
            "{what}: {} / {}",
            contenders[ours].name, contenders[others].name
        );
        match most {
            Some(most) => {
                let verdict = if ratio <= most { "met" } else { "missed" };
                println!("{label:<68}{ratio:>7.3}   target {most:.3}: {verdict}");
            }
            None => println!("{label:<68}{ratio:>7.3}"),
        }
    };
    ratio("CPU", cpu, PARQUET, USUAL_PARQUET, Some(1.0 / 8.0));
    ratio("CPU", cpu, PARQUET, PLAIN_PARQUET, Some(1.0 / 3.0));
    ratio("CPU", cpu, IPC, USUAL_IPC, Some(1.0));
    ratio("wall", wall, PARQUET, COPY, Some(1.25));
    ratio("wall", wall, IPC, COPY, Some(1.25));
    ratio("wall", wall, PARQUET, COPY_AND_SYNC, None);
    ratio("wall", wall, IPC, COPY_AND_SYNC, None);
    Ok(())
}

fn wall(usage: &Usage) -> f64 {
    usage.wall.as_secs_f64()
}

fn cpu(usage: &Usage) -> f64 {
    usage.cpu.as_secs_f64()
}

/// Removes earlier outputs and flushes pending writes.
fn settle(outputs: &Path) -> Result<()> {
    if outputs.exists() {
        fs::remove_dir_all(outputs)?;
    }
    fs::create_dir_all(outputs)?;
    measure::run(&mut [Command::new("sync")])?;
    Ok(())
}

/// Checks the results: each of our files must hold the same rows as arrow-rs' own.
fn check_same_rows(options: &Options) -> Result<()> {
    let contenders = contenders(options, &options.index(options.rows)?)?;
    let outputs = options.dir.join("outputs");
    settle(&outputs)?;
    let write = |number: usize| -> Result<PathBuf> {
        let out = outputs.join(contenders[number].out);
        measure::run(&mut (contenders[number].commands)(&out))?;
        Ok(out)
    };
    let truth = || -> Result<_> {
        let file = fs::File::open(outputs.join(contenders[USUAL_IPC].out))?;
        Ok(FileReader::try_new_buffered(file, None)?.map(|batch| Ok(batch?)))
    };
    write(USUAL_IPC)?;
    let parquet = ParquetRecordBatchReaderBuilder::try_new(fs::File::open(write(PARQUET)?)?)?
        .with_batch_size(1024)
        .build()?
        .map(|batch| Ok(batch?));
    let rows = same_rows(parquet, truth()?).context("Parquet")?;
    ensure!(rows == options.rows, "Parquet: {rows} rows");
    let ipc = FileReader::try_new_buffered(fs::File::open(write(IPC)?)?, None)?;
    let rows = same_rows(ipc.map(|batch| Ok(batch?)), truth()?).context("Arrow IPC")?;
    ensure!(rows == options.rows, "Arrow IPC: {rows} rows");
    fs::remove_dir_all(outputs)?;
    println!("\nboth outputs of hnsw-toolbox hold the {rows} rows that arrow-rs wrote");
    Ok(())
}

/// Returns the number of rows; fails unless both give the same rows in batches of the same lengths.
fn same_rows(
    mut ours: impl Iterator<Item = Result<RecordBatch>>,
    truth: impl Iterator<Item = Result<RecordBatch>>,
) -> Result<u64> {
    let mut rows = 0;
    for truth in truth {
        let truth = truth?;
        let ours = ours.next().context("rows are missing")??;
        ensure!(
            ours.columns()[..5] == truth.columns()[..5] && vectors(&ours)? == vectors(&truth)?,
            "a row from {rows} on differs"
        );
        rows += ours.num_rows() as u64;
    }
    ensure!(ours.next().is_none(), "more than {rows} rows");
    Ok(rows)
}

/// The components of the last column, regardless of the name of its list element.
fn vectors(batch: &RecordBatch) -> Result<&Float32Array> {
    let vectors = batch.columns().last().context("no columns")?;
    let vectors = vectors
        .as_fixed_size_list_opt()
        .context("no fixed-size lists")?;
    vectors.values().as_primitive_opt().context("no float32")
}

fn show_memory(options: &Options) -> Result<()> {
    println!("\n{:<28}{:<12}{:>14}", "index", "format", "peak RSS MiB");
    let outputs = options.dir.join("outputs");
    for &rows in &options.memory {
        let index = options.index(rows)?;
        for (format, out) in [("Parquet", "memory.parquet"), ("Arrow IPC", "memory.arrow")] {
            settle(&outputs)?;
            let command = extract(&options.toolbox, &index, &outputs.join(out));
            let peak = measure::run(&mut [command])?.peak_rss as f64 / MIB;
            let verdict = if peak <= 32.0 { "met" } else { "missed" };
            println!(
                "{:<28}{format:<12}{peak:>14.1}   target 32: {verdict}",
                format!("{rows} x {}", options.dimension)
            );
        }
    }
    fs::remove_dir_all(outputs)?;
    Ok(())
}
