//! Checks a Chroma vector segment directory, and writes a healthy replacement if it is damaged. A
//! new graph needs the metric of the collection, which the files do not state:
//!
//! ```sh
//! cargo run --release --example verify -- SEGMENT_DIR NEW_DIR l2|cosine|ip
//! ```

use std::error::Error;

use hnsw_toolbox::{repair_index, verify_index, Monitor, RepairOptions, Space, VerifyOptions};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let [segment, new, metric] = arguments.as_slice() else {
        return Err("usage: verify SEGMENT_DIR NEW_DIR l2|cosine|ip".into());
    };
    let metric: Space = metric.to_string_lossy().parse()?;
    let monitor = Monitor::default();

    let report = verify_index(segment, &VerifyOptions::default(), &monitor)?;
    println!("{}: {} live records", report.state, report.live);
    for finding in &report.findings {
        let first = finding.first.as_deref().unwrap_or_default();
        println!("{} {}: {first}", finding.severity, finding.code);
    }
    if !report.damaged {
        return Ok(());
    }

    // The damaged directory is never written to.
    let options = RepairOptions::default().with_metric(metric);
    let repaired = repair_index(segment, new, &options, &monitor)?;
    println!("{} records are in the new directory", repaired.records);
    for step in &repaired.steps {
        println!("{step}");
    }
    Ok(())
}
