//! statefs beside redb, SQLite (WAL, synchronous=FULL), sled and LMDB: in one run, on one file system, every
//! change durable when it returns, all files warmed. `statefs-bench [--json] [--only PART] [--folder DIR]`; a part is
//! `puts`, `sizes`, `openings`, `constants` or `memory`.
//!
//! Figures are medians over rounds in which the engines take turns, so that a busy computer slows all alike.
//! A figure that is missed is printed like any other. `docs/statefs.md` says how each is made.

mod crash;
mod engines;
mod memory;

use engines::{Engine, FILE, Fault, NAMES, WITHOUT_FLUSH, open};
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Rounds of batches, gets and scans.
const ROUNDS: usize = 5;
/// Turns that each engine gets for durable puts, and puts in a turn.
const TURNS: usize = 60;
const PUTS: usize = 10;
/// Puts before the first that is measured: more than the pages after which SQLite begins its log anew, so that
/// no file grows any more.
const WARMING: usize = 1_200;
/// Below this a flush does not reach a medium.
const REAL_FLUSH: Duration = Duration::from_micros(20);

struct Figure {
    name: String,
    value: u64,
    unit: &'static str,
}

struct Report {
    figures: Vec<Figure>,
    json: bool,
}

impl Report {
    fn add(&mut self, name: String, value: u64, unit: &'static str) {
        if !self.json {
            println!("{name:<44} {value:>12} {unit}");
        }
        self.figures.push(Figure { name, value, unit });
    }
}

fn key(number: usize) -> Vec<u8> {
    format!("/state/{:02}/{number:06}", number % 16).into_bytes()
}

fn value(number: usize, length: usize) -> Vec<u8> {
    let mut bits = number as u64 + 1;
    (0..length)
        .map(|_| {
            bits = bits.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (bits >> 56) as u8
        })
        .collect()
}

fn median(mut values: Vec<u64>) -> u64 {
    values.sort_unstable();
    values[values.len() / 2]
}

fn rate(count: usize, took: Duration) -> u64 {
    (count as f64 / took.as_secs_f64()) as u64
}

/// What a stretch of work cost.
#[derive(Clone, Copy, Default)]
struct Cost {
    /// Bytes that this process gave to the system's write calls. None of the engines writes by mapping, as they
    /// are set up here.
    given: u64,
    /// Bytes that reached the disk under the folder and flushes that it completed, whoever asked for them: the
    /// journal of the file system is among them, and so is everybody else on that disk.
    disk: u64,
    flushes: u64,
}

impl Cost {
    /// The counters as they stand.
    fn now(folder: &Path) -> Cost {
        let device = fs::metadata(folder).map_or(0, |found| found.dev());
        let (major, minor) = (device >> 8 & 0xFFF, device & 0xFF);
        let stat = fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/stat")).unwrap_or_default();
        let stat = |at: usize| stat.split_whitespace().nth(at).and_then(|field| field.parse().ok());
        let own = fs::read_to_string("/proc/self/io").unwrap_or_default();
        let given = own.lines().find_map(|line| line.strip_prefix("wchar: ")?.parse().ok());
        Cost { given: given.unwrap_or(0), disk: stat(6).unwrap_or(0) * 512, flushes: stat(15).unwrap_or(0) }
    }

    fn add_since(&mut self, before: Cost, folder: &Path) {
        let now = Cost::now(folder);
        self.given += now.given - before.given;
        self.disk += now.disk - before.disk;
        self.flushes += now.flushes - before.flushes;
    }
}

fn fill(engine: &dyn Engine, keys: usize, length: usize) -> Result<(), Fault> {
    for first in (0..keys).step_by(100) {
        let changes: Vec<_> = (first..keys.min(first + 100)).map(|at| (key(at), value(at, length))).collect();
        engine.batch(&changes)?;
    }
    Ok(())
}

/// One put of the raw floor: so many bytes to a warmed file, and `fdatasync`.
fn raw_put(file: &fs::File, data: &[u8], at: usize) -> Result<(), Fault> {
    file.write_all_at(data, (at * data.len() % (64 << 20)) as u64)?;
    Ok(file.sync_data()?)
}

fn warmed_file(path: &Path) -> Result<fs::File, Fault> {
    let mut file = fs::File::create_new(path)?;
    let zeros = vec![0; 1 << 20];
    for _ in 0..65 {
        file.write_all(&zeros)?;
    }
    file.sync_all()?;
    Ok(file)
}

fn bare_flush(file: &fs::File) -> Result<Duration, Fault> {
    let mut times = Vec::new();
    for _ in 0..200 {
        let begin = Instant::now();
        file.sync_data()?;
        times.push(begin.elapsed());
    }
    times.sort_unstable();
    Ok(times[100])
}

/// Durable puts by one writer; the raw floor takes its turn like an engine.
fn one_writer(folder: &Path, length: usize, report: &mut Report) -> Result<(), Fault> {
    let raw = warmed_file(&folder.join(format!("raw-{length}")))?;
    let engines = opened(folder, &format!("one-{length}"), 1_000, length)?;
    for engine in &engines {
        // Other values than those that follow: some engines do not write what is there already.
        (0..WARMING).try_for_each(|put| engine.put(&key(put * 7 % 1_000), &value(put + 10_000, length)))?;
    }
    // What statefs writes for one put: a unit with commit record A, or more, and a unit with B.
    let data = vec![0xA5; (88 + 32 + 16 + length + 88 + 48).div_ceil(4096) * 4096 + 4096];
    let mut times: Vec<Vec<u64>> = vec![Vec::new(); engines.len() + 1];
    let mut costs = vec![Cost::default(); engines.len() + 1];
    for turn in 0..TURNS {
        for at in 0..=engines.len() {
            let before = Cost::now(folder);
            for put in turn * PUTS..(turn + 1) * PUTS {
                let (key, value) = (key(put * 7 % 1_000), value(put, length));
                let begin = Instant::now();
                match engines.get(at) {
                    Some(engine) => engine.put(&key, &value)?,
                    None => raw_put(&raw, &data, put)?,
                }
                times[at].push(begin.elapsed().as_nanos() as u64);
            }
            costs[at].add_since(before, folder);
        }
    }
    let puts = (TURNS * PUTS) as u64;
    let typical: Vec<u64> = times.into_iter().map(median).collect();
    for (at, name) in NAMES.into_iter().chain(["raw-floor"]).enumerate() {
        let path = format!("statefs/put/1-writer/{length}/{name}");
        report.add(path.clone(), 1_000_000_000 / typical[at].max(1), "1/s");
        report.add(format!("{path}/written"), costs[at].given / puts, "bytes/put");
        report.add(format!("{path}/disk-written"), costs[at].disk / puts, "bytes/put");
        report.add(format!("{path}/disk-flushes"), costs[at].flushes * 100 / puts, "per 100 puts");
    }
    report.add(
        format!("statefs/put/1-writer/{length}/of-floor"),
        typical[engines.len()] * 100 / typical[0].max(1),
        "%",
    );
    Ok(())
}

fn opened(folder: &Path, name: &str, keys: usize, length: usize) -> Result<Vec<Box<dyn Engine>>, Fault> {
    let mut engines = Vec::new();
    for engine in NAMES {
        let bytes = FILE.min(((keys * (length + 600)) as u64 * 3).max(256 << 20));
        let engine = open(engine, &folder.join(format!("{name}-{engine}")), bytes)?;
        fill(&*engine, keys, length)?;
        engines.push(engine);
    }
    Ok(engines)
}

fn sixteen_writers(folder: &Path, report: &mut Report) -> Result<(), Fault> {
    let engines = opened(folder, "sixteen", 1_000, 100)?;
    let mut rates: Vec<Vec<u64>> = vec![Vec::new(); engines.len()];
    for turn in 0..TURNS / 6 {
        for (at, engine) in engines.iter().enumerate() {
            let begin = Instant::now();
            std::thread::scope(|scope| {
                let writer = |thread: usize| {
                    move || {
                        (0..PUTS).try_for_each(|put| {
                            engine
                                .put(&key(thread * 60 + put), &value((turn * 16 + thread) * PUTS + put, 100))
                        })
                    }
                };
                let threads: Vec<_> = (0..16).map(|thread| scope.spawn(writer(thread))).collect();
                threads
                    .into_iter()
                    .try_for_each(|thread| thread.join().unwrap_or_else(|_| Err("a writer panicked".into())))
            })?;
            rates[at].push(rate(16 * PUTS, begin.elapsed()));
        }
    }
    let typical: Vec<u64> = rates.into_iter().map(median).collect();
    for (name, rate) in NAMES.into_iter().zip(&typical) {
        report.add(format!("statefs/put/16-writers/100/{name}"), *rate, "1/s");
    }
    let others = NAMES.into_iter().zip(&typical).skip(1).filter(|(name, _)| !WITHOUT_FLUSH.contains(name));
    let next = others.map(|(_, rate)| *rate).max().unwrap_or(0);
    report.add("statefs/put/16-writers/100/of-next".into(), typical[0] * 100 / next.max(1), "%");
    Ok(())
}

/// Batches, gets and scans on stores of a size.
fn sizes(folder: &Path, keys: usize, length: usize, report: &mut Report) -> Result<(), Fault> {
    let engines = opened(folder, &format!("size-{keys}-{length}"), keys, length)?;
    let mut results = vec![[const { Vec::<u64>::new() }; 3]; engines.len()];
    for round in 0..ROUNDS {
        for (at, engine) in engines.iter().enumerate() {
            let changes: Vec<Vec<_>> = (0..10)
                .map(|batch| {
                    (0..100)
                        .map(|change| {
                            (
                                key((round * 7919 + batch * 104_729 + change * 13) % keys),
                                value((round * 10 + batch) * 100 + change + keys, length),
                            )
                        })
                        .collect()
                })
                .collect();
            let begin = Instant::now();
            for batch in &changes {
                let mut batch = batch.clone();
                batch.sort();
                batch.dedup_by(|one, other| one.0 == other.0);
                engine.batch(&batch)?;
            }
            results[at][0].push(rate(10, begin.elapsed()));
            let (mut found, gets) = (Vec::new(), 20_000);
            let begin = Instant::now();
            for get in 0..gets {
                if !engine.get(&key(get * 7919 % keys), &mut found)? {
                    return Err(format!("{} lost a key", engine.name()).into());
                }
            }
            results[at][1].push(rate(gets, begin.elapsed()));
            let begin = Instant::now();
            let scanned = engine.scan(b"/state/03/")?;
            results[at][2].push(rate(scanned, begin.elapsed()));
        }
    }
    for (kind, what) in ["batch-100", "get", "scan-keys"].into_iter().enumerate() {
        let typical: Vec<u64> = results.iter().map(|rates| median(rates[kind].clone())).collect();
        for (name, rate) in NAMES.into_iter().zip(&typical) {
            report.add(format!("statefs/{what}/{keys}x{length}/{name}"), *rate, "1/s");
        }
        let lmdb = typical.last().copied().unwrap_or(0);
        report.add(format!("statefs/{what}/{keys}x{length}/of-lmdb"), typical[0] * 100 / lmdb.max(1), "%");
    }
    Ok(())
}

fn puts(folder: &Path, report: &mut Report) -> Result<(), Fault> {
    one_writer(folder, 100, report)?;
    one_writer(folder, 4096, report)?;
    sixteen_writers(folder, report)
}

fn all_sizes(folder: &Path, report: &mut Report) -> Result<(), Fault> {
    for keys in [1_000, 10_000, 100_000] {
        for length in [100, 4096] {
            sizes(&folder.join("sizes"), keys, length, report)?;
            fs::remove_dir_all(folder.join("sizes"))?;
        }
    }
    Ok(())
}

/// Measures one part, or all.
fn measure(folder: &Path, only: Option<&str>, report: &mut Report) -> Result<(), Fault> {
    let flush = bare_flush(&warmed_file(&folder.join("raw"))?)?;
    report.add("statefs/bare-fdatasync".into(), flush.as_nanos() as u64, "ns");
    if flush < REAL_FLUSH {
        println!("no real flush: a bare fdatasync takes {flush:?}; figures of durable writes say little");
    }
    let wanted = |part| only.is_none_or(|only| only == part);
    if wanted("puts") {
        puts(folder, report)?;
    }
    if wanted("sizes") {
        all_sizes(folder, report)?;
    }
    if wanted("openings") {
        crash::compare(&folder.join("crash"), report)?;
    }
    if wanted("constants") {
        crash::constants(&folder.join("constants"), report)?;
    }
    if wanted("memory") {
        memory::per_key(report)?;
    }
    Ok(())
}

fn main() -> Result<(), Fault> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if crash::is_for_a_child(&arguments) {
        return crash::child(&arguments);
    }
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let value_of = |flag: &str| {
        let at = arguments.iter().position(|argument| argument == flag)?;
        arguments.get(at + 1).map(String::as_str)
    };
    let folder = value_of("--folder").map_or_else(|| PathBuf::from("target/bench-data"), PathBuf::from);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder)?;
    let mut report = Report { figures: Vec::new(), json: has("--json") };
    let outcome = measure(&folder, value_of("--only"), &mut report);
    fs::remove_dir_all(&folder)?;
    outcome?;
    if report.json {
        let figures: Vec<_> = report
            .figures
            .iter()
            .map(
                |figure| serde_json::json!({"name": figure.name, "value": figure.value, "unit": figure.unit}),
            )
            .collect();
        println!("{}", serde_json::json!({ "benchmarks": figures }));
    }
    Ok(())
}
