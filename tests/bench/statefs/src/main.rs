//! statefs beside redb, SQLite (WAL, synchronous=FULL), sled and LMDB: in one run, on one file system, every
//! change durable when it returns, all files warmed. `statefs-bench [--json] [--full] [--folder DIR]`.
//!
//! Figures are medians over rounds in which the engines take turns, so that a busy computer slows all alike.
//! A figure that is missed is printed like any other.

mod engines;

use engines::{Engine, FILE, Fault, NAMES, open};
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// Rounds of batches, gets and scans.
const ROUNDS: usize = 5;
/// Turns that each engine gets for durable puts, and puts in a turn.
const TURNS: usize = 60;
const PUTS: usize = 10;
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

/// Flushes that the disk under a folder completed, and bytes written to it, whoever asked for them.
fn disk_counters(folder: &Path) -> (u64, u64) {
    let device = fs::metadata(folder).map_or(0, |found| found.dev());
    let (major, minor) = (device >> 8 & 0xFFF, device & 0xFF);
    let stat = fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/stat")).unwrap_or_default();
    let field =
        |at: usize| stat.split_whitespace().nth(at).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
    (field(15), field(6) * 512)
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
    // What statefs writes for one put: a unit with commit record A, or more, and a unit with B.
    let data = vec![0xA5; (88 + 32 + 16 + length + 88 + 48).div_ceil(4096) * 4096 + 4096];
    let mut times: Vec<Vec<u64>> = vec![Vec::new(); engines.len() + 1];
    let mut costs = vec![(0, 0); engines.len() + 1];
    for turn in 0..TURNS {
        for at in 0..=engines.len() {
            let before = disk_counters(folder);
            for put in turn * PUTS..(turn + 1) * PUTS {
                let (key, value) = (key(put * 7 % 1_000), value(put, length));
                let begin = Instant::now();
                match engines.get(at) {
                    Some(engine) => engine.put(&key, &value)?,
                    None => raw_put(&raw, &data, put)?,
                }
                times[at].push(begin.elapsed().as_nanos() as u64);
            }
            let after = disk_counters(folder);
            costs[at] = (costs[at].0 + after.0 - before.0, costs[at].1 + after.1 - before.1);
        }
    }
    let puts = (TURNS * PUTS) as u64;
    let typical: Vec<u64> = times.into_iter().map(median).collect();
    for (at, name) in NAMES.into_iter().chain(["raw-floor"]).enumerate() {
        let path = format!("statefs/put/1-writer/{length}/{name}");
        report.add(path.clone(), 1_000_000_000 / typical[at].max(1), "1/s");
        report.add(format!("{path}/disk-flushes"), costs[at].0 * 100 / puts, "per 100 puts");
        report.add(format!("{path}/disk-written"), costs[at].1 / puts, "bytes/put");
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
    for (at, engine) in engines.iter().enumerate() {
        report.add(format!("statefs/put/16-writers/100/{}", engine.name()), median(rates[at].clone()), "1/s");
    }
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
    for (at, engine) in engines.iter().enumerate() {
        for (what, rates) in ["batch-100", "get", "scan-keys"].iter().zip(&results[at]) {
            report.add(
                format!("statefs/{what}/{keys}x{length}/{}", engine.name()),
                median(rates.clone()),
                "1/s",
            );
        }
    }
    Ok(())
}

/// Fills a store, goes on putting, and dies: run as a process of its own.
fn crash(name: &str, folder: &Path, keys: usize, length: usize, puts: usize) -> Result<(), Fault> {
    let engine = open(name, folder, 512 << 20)?;
    fill(&*engine, keys, length)?;
    for put in 0..puts {
        engine.put(&key(put * 7919 % keys), &value(put, length))?;
    }
    std::process::abort();
}

fn after_crash(folder: &Path, keys: usize, puts: usize, report: &mut Report) -> Result<(), Fault> {
    for name in NAMES {
        let place = folder.join(format!("crash-{keys}-{puts}-{name}"));
        let arguments = [
            "--crash".into(),
            name.to_string(),
            place.display().to_string(),
            keys.to_string(),
            "100".into(),
            puts.to_string(),
        ];
        // It dies by its own hand: that it did not end well is the point.
        let _ = Command::new(std::env::current_exe()?)
            .args(arguments)
            .stderr(std::process::Stdio::null())
            .status()?;
        let begin = Instant::now();
        let engine = open(name, &place, 0)?;
        let mut found = Vec::new();
        if !engine.get(&key(keys - 1), &mut found)? {
            return Err(format!("{name} lost an acknowledged key").into());
        }
        report.add(
            format!("statefs/open-after-crash/{keys}-keys-{puts}-puts/{name}"),
            begin.elapsed().as_micros() as u64,
            "us",
        );
    }
    Ok(())
}

fn measure(folder: &Path, full: bool, report: &mut Report) -> Result<(), Fault> {
    let raw = warmed_file(&folder.join("raw"))?;
    let flush = bare_flush(&raw)?;
    report.add("statefs/bare-fdatasync".into(), flush.as_nanos() as u64, "ns");
    if flush < REAL_FLUSH {
        println!("no real flush: a bare fdatasync takes {flush:?}; figures of durable writes say little");
    }
    one_writer(folder, 100, report)?;
    one_writer(folder, 4096, report)?;
    sixteen_writers(folder, report)?;
    let all = [(1_000, 100), (1_000, 4096), (10_000, 100), (10_000, 4096), (100_000, 100), (100_000, 4096)];
    for (keys, length) in all.into_iter().take(if full { 6 } else { 4 }) {
        sizes(folder, keys, length, report)?;
    }
    for (keys, puts) in [(1_000, 100), (10_000, 100), (10_000, 2_000), (50_000, 100)] {
        after_crash(folder, keys, puts, report)?;
    }
    Ok(())
}

fn main() -> Result<(), Fault> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [first, name, folder, keys, length, puts] = &arguments[..]
        && first == "--crash"
    {
        return crash(name, Path::new(folder), keys.parse()?, length.parse()?, puts.parse()?);
    }
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let chosen =
        arguments.iter().position(|argument| argument == "--folder").and_then(|at| arguments.get(at + 1));
    let folder = chosen.map_or_else(|| PathBuf::from("target/bench-data"), PathBuf::from);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder)?;
    let mut report = Report { figures: Vec::new(), json: has("--json") };
    let outcome = measure(&folder, has("--full"), &mut report);
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
