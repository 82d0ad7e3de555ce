//! One measurement, named by the arguments and printed as a line of JSON. `graphs.py` calls it.
//!
//! ```text
//! hnsw-toolbox-graphs build ENGINE METRIC THREADS DIMENSION BASE.f32 OUT.hnsw [SEED]
//! hnsw-toolbox-graphs search SEARCHER METRIC THREADS DIMENSION INDEX.hnsw QUERIES.f32 TRUTH.u32 EF...
//! ```
//!
//! ENGINE is native, partition, hnsw_rs or fast_hnsw, followed by @ and ef_construction unless that is 200.
//! METRIC is one of the library's five, and m is always 16. SEARCHER is toolbox (maps the file), loaded
//! (loads it into memory) or fast_hnsw (loads it and uses one thread). TRUTH holds the ten nearest
//! neighbours of each query.

use std::alloc::{GlobalAlloc, Layout, System};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Mutex;
use std::time::Instant;

use fast_hnsw::distance::{Cosine, Distance, DotProduct, Euclidean, Manhattan, SquaredEuclidean};
use fast_hnsw::labeled::LabeledIndex;
use fast_hnsw::Builder;
use hnsw_toolbox::{
    build_index_from_vectors, measure_recall, GraphOptions, HnswIndex, Metric, Monitor,
    OpenOptions, Progress, RecallOptions, RecallQueries,
};

const K: usize = 10;

/// Counts the bytes on the heap.
struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let held = HELD.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(held, Ordering::Relaxed);
        System.alloc(layout)
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        System.dealloc(pointer, layout)
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Calls a function with fast-hnsw's metric of that name as the first argument.
macro_rules! with_metric {
    ($name:expr, $function:ident($($argument:expr),*)) => {
        match $name {
            "euclidean" => $function(Euclidean, $($argument),*),
            "squared_euclidean" => $function(SquaredEuclidean, $($argument),*),
            "cosine" => $function(Cosine, $($argument),*),
            "dot_product" => $function(DotProduct, $($argument),*),
            "manhattan" => $function(Manhattan, $($argument),*),
            other => panic!("unknown metric {other}"),
        }
    };
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["build", engine, metric, threads, dimension, base, out, seed @ ..] => build(
            engine,
            metric,
            threads.parse().unwrap(),
            dimension.parse().unwrap(),
            base,
            Path::new(out),
            seed.first().map(|seed| seed.parse().unwrap()),
        ),
        ["search", searcher @ ("toolbox" | "loaded"), metric, threads, _, index, queries, _, efs @ ..] =>
        {
            let options = OpenOptions::default()
                .with_metric(metric.parse::<Metric>().unwrap())
                .with_load(*searcher == "loaded");
            search_file(
                &options,
                threads.parse().unwrap(),
                index,
                &read(queries),
                efs,
            );
        }
        ["search", "fast_hnsw", metric, "1", dimension, index, queries, truth, efs @ ..] => {
            let dimension = dimension.parse().unwrap();
            let queries = read(queries);
            let truth: Vec<u32> = read(truth).iter().map(|bits| bits.to_bits()).collect();
            with_metric!(*metric, search(dimension, index, &queries, &truth, efs));
        }
        _ => panic!("see the source for the arguments"),
    }
}

fn read(path: &str) -> Vec<f32> {
    std::fs::read(path)
        .unwrap()
        .chunks_exact(4)
        .map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()))
        .collect()
}

fn build(
    engine: &str,
    metric: &str,
    threads: usize,
    dimension: usize,
    base: &str,
    out: &Path,
    seed: Option<u64>,
) {
    let base = read(base);
    let before = HELD.load(Ordering::Relaxed);
    let cpu_before = cpu_seconds();
    PEAK.store(before, Ordering::Relaxed);
    let start = Instant::now();
    let (engine, ef_construction) = engine.split_once('@').unwrap_or((engine, "200"));
    let graph = match engine {
        "fast_hnsw" => with_metric!(metric, build_fast_hnsw(dimension, &base, out)),
        _ => {
            let options = GraphOptions::default()
                .with_engine(engine.parse().unwrap())
                .with_metric(metric.parse().unwrap())
                .with_ef_construction(ef_construction.parse().unwrap())
                .with_threads(threads)
                .with_seed(seed);
            let times = Mutex::new((None, start));
            let report = |_: Progress| {
                let mut times = times.lock().unwrap();
                let now = Instant::now();
                times.0.get_or_insert(now);
                times.1 = now;
            };
            let monitor = Monitor::default().on_progress(&report);
            build_index_from_vectors(&base, dimension, None, out, &options, &monitor).unwrap();
            let (first, last) = *times.lock().unwrap();
            (last - first.unwrap()).as_secs_f64()
        }
    };
    let total = start.elapsed().as_secs_f64();
    let heap = PEAK.load(Ordering::Relaxed) - before;
    let cpu = cpu_seconds() - cpu_before;
    println!(
        "{{\"graph\": {graph:.3}, \"total\": {total:.3}, \"cpu\": {cpu:.2}, \"heap\": {heap}}}"
    );
}

/// Processor time in seconds of all threads of this process. Other busy processes affect it less than
/// wall time. 0 if the system does not report it.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let ticks = |field: usize| -> f64 {
        let after_name = stat.rsplit(')').next().unwrap_or_default();
        let field = after_name.split_whitespace().nth(field - 3);
        field.and_then(|field| field.parse().ok()).unwrap_or(0.0)
    };
    (ticks(14) + ticks(15)) / 100.0
}

fn build_fast_hnsw<D: Distance>(metric: D, dimension: usize, base: &[f32], out: &Path) -> f64 {
    let start = Instant::now();
    let mut index: LabeledIndex<D, u64> = Builder::new()
        .m(16)
        .ef_construction(200)
        .build_labeled(metric);
    for (label, vector) in base.chunks_exact(dimension).enumerate() {
        index.insert(vector.to_vec(), label as u64);
    }
    let graph = start.elapsed().as_secs_f64();
    index.save(out).unwrap();
    graph
}

fn search_file(options: &OpenOptions, threads: usize, index: &str, queries: &[f32], efs: &[&str]) {
    let before = HELD.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    let start = Instant::now();
    let index = HnswIndex::open(index, options).unwrap();
    let open = start.elapsed().as_secs_f64();
    let mut fields = vec![format!("\"open\": {open:.6}")];
    let efs: Vec<usize> = efs.iter().map(|ef| ef.parse().unwrap()).collect();
    let recall_options = RecallOptions::default()
        .with_k(K)
        .with_efs(efs)
        .with_threads(threads);
    let sample = RecallQueries::Vectors(queries);
    let report = measure_recall(&index, &sample, &recall_options, &Monitor::default()).unwrap();
    for row in report.rows {
        let ef = row.ef;
        // Searches only: processor time is counted in hundredths of a second.
        let search = || index.search_batch(queries, K, ef, Some(threads)).unwrap();
        search();
        let (start, before) = (Instant::now(), cpu_seconds());
        let mut turns = 0.0;
        while start.elapsed().as_secs_f64() < 1.0 || cpu_seconds() - before < 1.0 {
            search();
            turns += 1.0;
        }
        let cpu = (cpu_seconds() - before) / turns;
        let wall = start.elapsed().as_secs_f64() / turns;
        fields.push(result(
            ef,
            row.recall,
            report.queries,
            wall / report.queries as f64,
            cpu,
        ));
    }
    fields.push(format!(
        "\"heap\": {}",
        PEAK.load(Ordering::Relaxed) - before
    ));
    println!("{{{}}}", fields.join(", "));
}

/// `wall` is the time per query in seconds, `cpu` the processor time of all queries.
fn result(ef: usize, recall: f64, queries: u64, wall: f64, cpu: f64) -> String {
    format!(
        "\"{ef}\": {{\"recall\": {recall:.4}, \"micros\": {:.2}, \"cpu_micros\": {:.2}}}",
        1e6 * wall,
        1e6 * cpu / queries as f64,
    )
}

fn search<D: Distance>(
    metric: D,
    dimension: usize,
    index: &str,
    queries: &[f32],
    truth: &[u32],
    efs: &[&str],
) {
    let index = LabeledIndex::<D, u64>::load(index, metric).unwrap();
    let mut fields = Vec::new();
    for ef in efs {
        let ef = ef.parse().unwrap();
        let cpu = cpu_seconds();
        let start = Instant::now();
        let mut found = 0;
        for (query, truth) in queries.chunks_exact(dimension).zip(truth.chunks_exact(K)) {
            let hits = index.search(query, K, ef);
            found += hits
                .iter()
                .filter(|hit| truth.contains(&(*hit.payload as u32)))
                .count();
        }
        let seconds = start.elapsed().as_secs_f64();
        let recall = found as f64 / truth.len() as f64;
        let queries = (truth.len() / K) as u64;
        let wall = seconds / queries as f64;
        fields.push(result(ef, recall, queries, wall, cpu_seconds() - cpu));
    }
    println!("{{{}}}", fields.join(", "));
}
