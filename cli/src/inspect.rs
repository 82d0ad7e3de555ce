//! `hnsw-toolbox inspect`

use std::io::{self, Write};
use std::process::ExitCode;

use hnsw_toolbox::{
    inspect_hnsw, inspect_index, CancelToken, FileSize, IndexReport, InspectOptions,
};
use indicatif::HumanBytes;

use super::args::LookArguments;
use super::hnsw::{self, is_hnsw_file};
use super::table::{self, left, right, Cell};
use super::{answer, work, Failure};

pub(super) fn run(arguments: &LookArguments, cancel: &CancelToken) -> Result<ExitCode, Failure> {
    let options = InspectOptions::default().with_io(arguments.read.io);
    let index = &arguments.index;
    // Decided by the content of the file, not by its extension.
    if is_hnsw_file(index)? {
        let report = work("inspecting", &arguments.read.work, cancel, |monitor| {
            inspect_hnsw(index, &options, monitor)
        })?;
        return answer(&arguments.read.work.answer, &report, hnsw::print);
    }
    let report = work("inspecting", &arguments.read.work, cancel, |monitor| {
        inspect_index(index, &options, monitor)
    })?;
    answer(&arguments.read.work.answer, &report, print)
}

fn print(report: &IndexReport) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let header = &report.header;
    let mut field = |name: &str, value: &dyn std::fmt::Display| writeln!(out, "{name:<24}{value}");
    field("persisted_version", &header.persisted_version)?;
    field("word_size_bytes", &header.word_size_bytes)?;
    field("dimension", &report.dimension)?;
    field("cur_element_count", &header.cur_element_count)?;
    field("max_elements", &header.max_elements)?;
    field("live", &report.live)?;
    field("deleted", &report.deleted)?;
    match report.labels {
        Some(range) => field("labels", &format_args!("{} to {}", range.min, range.max))?,
        None => field("labels", &"none")?,
    }
    field("duplicate_labels", &report.duplicate_labels)?;
    field("m", &header.m)?;
    field("max_m", &header.max_m)?;
    field("max_m0", &header.max_m0)?;
    field("ef_construction", &header.ef_construction)?;
    field("mult", &header.mult)?;
    field("max_level", &header.max_level)?;
    field("enterpoint_node", &header.enterpoint_node)?;
    field("offset_level0", &header.offset_level0)?;
    field("offset_data", &header.offset_data)?;
    field("label_offset", &header.label_offset)?;
    field("size_data_per_element", &header.size_data_per_element)?;
    writeln!(out)?;
    let mut rows = vec![vec![
        left("file"),
        right("size"),
        right("allocated"),
        right("bytes"),
    ]];
    rows.extend(report.files.iter().map(row));
    table::print(&mut out, &rows)
}

fn row(file: &FileSize) -> Vec<Cell> {
    let Some(bytes) = file.apparent_bytes else {
        return vec![left(file.name), right("absent")];
    };
    vec![
        left(file.name),
        right(HumanBytes(bytes)),
        match file.allocated_bytes {
            Some(allocated) => right(HumanBytes(allocated)),
            None => right("?"),
        },
        right(bytes),
    ]
}
