//! Opening after a crash: a process of its own fills a store, goes on putting and dies; another opens it.

use crate::engines::{FILE, Fault, NAMES, open, statefs_store};
use crate::{Report, fill, key, median, value};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

/// Crashes of each store, each followed by an opening that is measured.
const CRASHES: usize = 5;
/// Durable puts between an opening and the next crash.
const PUTS: usize = 100;
/// Bytes of the statefs stores whose openings give the constants.
const CONSTANTS_FILE: u64 = 256 << 20;

/// Whether this process is one that opens a store or dies.
pub fn is_for_a_child(arguments: &[String]) -> bool {
    arguments.first().is_some_and(|first| ["--crash", "--open", "--log"].contains(&first.as_str()))
}

/// `--crash ENGINE FOLDER KEYS LENGTH`: fills a store if it is new, puts, dies.
/// `--open ENGINE FOLDER KEYS LENGTH`: opens, gets, puts; prints both times in microseconds; dies.
/// `--log statefs FOLDER KEYS MEBIBYTES`: a fresh store with a checkpoint, then so much of puts; prints the
/// segments of its log, each of a mebibyte; dies.
pub fn child(arguments: &[String]) -> Result<(), Fault> {
    let [what, name, folder, keys, number] = arguments else { return Err("five arguments".into()) };
    let (folder, keys, number): (_, usize, usize) = (Path::new(folder), keys.parse()?, number.parse()?);
    match what.as_str() {
        "--crash" => {
            let is_new = !folder.exists();
            let engine = open(name, folder, bytes_for(keys, number))?;
            if is_new {
                fill(&*engine, keys, number)?;
            }
            for put in 0..PUTS {
                engine.put(&key(put * 7919 % keys), &value(put, number))?;
            }
        }
        "--open" => {
            let (mut found, begin) = (Vec::new(), Instant::now());
            let engine = open(name, folder, 0)?;
            if !engine.get(&key(keys - 1), &mut found)? {
                return Err(format!("{name} lost an acknowledged key").into());
            }
            let served = begin.elapsed();
            engine.put(&key(0), b"again")?;
            println!("{} {}", served.as_micros(), begin.elapsed().as_micros());
        }
        _ => log_of(folder, keys, number)?,
    }
    std::process::abort();
}

/// Bytes of the file that statefs gets for so much data.
fn bytes_for(keys: usize, length: usize) -> u64 {
    FILE.min(((keys * (length + 600)) as u64 * 3).max(64 << 20))
}

/// Runs this program as a child that dies by its own hand; what it printed, as numbers.
fn run_child(what: &str, name: &str, folder: &Path, numbers: [usize; 2]) -> Result<Vec<u64>, Fault> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args([what, name]).arg(folder).args(numbers.map(|number| number.to_string()));
    let output = command.stderr(Stdio::null()).output()?;
    let told = String::from_utf8(output.stdout)?;
    Ok(told.split_whitespace().filter_map(|number| number.parse().ok()).collect())
}

/// All engines: until the first get is answered, and until the first durable put is.
pub fn compare(folder: &Path, report: &mut Report) -> Result<(), Fault> {
    for (keys, length) in [1_000, 10_000, 100_000].into_iter().flat_map(|keys| [(keys, 100), (keys, 4096)]) {
        let mut times = NAMES.map(|_| [const { Vec::new() }; 2]);
        for _ in 0..CRASHES {
            for (name, [gets, puts]) in NAMES.into_iter().zip(&mut times) {
                run_child("--crash", name, &folder.join(name), [keys, length])?;
                let told = run_child("--open", name, &folder.join(name), [keys, length])?;
                let [get, put] = told[..] else { return Err(format!("{name} did not open").into()) };
                gets.push(get);
                puts.push(put);
            }
        }
        for (name, times) in NAMES.into_iter().zip(times) {
            let [get, put] = times.map(median);
            let path = format!("statefs/open-after-crash/{keys}x{length}/{name}");
            report.add(format!("{path}/first-get"), get, "us");
            report.add(format!("{path}/first-put"), put, "us");
        }
        fs::remove_dir_all(folder)?;
    }
    Ok(())
}

/// A store of statefs with these keys, a checkpoint, and so many mebibytes of puts after it.
fn log_of(folder: &Path, keys: usize, mebibytes: usize) -> Result<(), Fault> {
    fill(&*open("statefs", folder, CONSTANTS_FILE)?, keys, 100)?;
    let mut store = statefs_store(folder, CONSTANTS_FILE)?;
    store.checkpoint_now()?;
    let end = store.counters().bytes_written + ((mebibytes as u64) << 20);
    let mut put = 0;
    while store.counters().bytes_written < end {
        store.put(&key(put * 7919 % keys), &value(put, 100))?;
        put += 1;
    }
    println!("{}", store.space().segments_in_log);
    Ok(())
}

/// The constants of an opening of statefs: a + b * keys + c * MiB of log, from the beginning of the last
/// checkpoint on.
pub fn constants(folder: &Path, report: &mut Report) -> Result<(), Fault> {
    let mut points = Vec::new();
    for keys in [1_000, 10_000, 100_000] {
        for puts in [0, 2, 8, 32] {
            let told = run_child("--log", "statefs", folder, [keys, puts])?;
            let mebibytes = *told.first().ok_or("no log was told")?;
            let mut times = Vec::new();
            for _ in 0..CRASHES {
                times.extend(run_child("--open", "statefs", folder, [keys, 0])?.first());
            }
            fs::remove_dir_all(folder)?;
            // The least: what others did meanwhile is not the store's.
            let time = times.into_iter().min().ok_or("nothing opened")?;
            report.add(
                format!("statefs/open/{keys}-keys-{puts}-MiB-of-puts/log-{mebibytes}-MiB"),
                time,
                "us",
            );
            points.push(([1.0, keys as f64, mebibytes as f64], time as f64));
        }
    }
    let [a, b, c] = fitted(&points).ok_or("the points lie on a line")?;
    let off = points.iter().map(|(at, time)| ((a * at[0] + b * at[1] + c * at[2]) / time - 1.0).abs());
    report.add("statefs/open/constant-a".into(), a.max(0.0) as u64, "us");
    report.add("statefs/open/constant-b".into(), (b * 1000.0) as u64, "ns/key");
    report.add("statefs/open/constant-c".into(), c as u64, "us/MiB");
    report.add("statefs/open/off-at-most".into(), (off.fold(0.0, f64::max) * 100.0) as u64, "%");
    Ok(())
}

/// The three factors that come nearest to the measured times, each point weighed by its own size.
fn fitted(points: &[([f64; 3], f64)]) -> Option<[f64; 3]> {
    let mut rows = [[0.0; 4]; 3];
    for (at, time) in points {
        for (row, one) in rows.iter_mut().zip(at) {
            for (sum, other) in row.iter_mut().zip(at.iter().chain([time])) {
                *sum += one * other / (time * time);
            }
        }
    }
    for pivot in 0..3 {
        if rows[pivot][pivot].abs() < 1e-12 {
            return None;
        }
        let lead = rows[pivot].map(|cell| cell / rows[pivot][pivot]);
        for (at, row) in rows.iter_mut().enumerate() {
            let factor = row[pivot];
            for (cell, part) in row.iter_mut().zip(lead) {
                *cell = if at == pivot { part } else { *cell - factor * part };
            }
        }
    }
    Some(rows.map(|row| row[3]))
}
