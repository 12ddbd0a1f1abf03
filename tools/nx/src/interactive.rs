//! `nx test interactive`: boots as a person would, types at the prompt, checks the answers.

use crate::console::{shown, without_control};
use crate::disk;
use crate::guest::{Event, Guest, after_seconds};
use crate::image::{self, Built};
use crate::project::{Project, output, write_file};
use crate::qemu::Machine;
use crate::script::{Kept, Progress, Script, Step, keep, progress};
use anyhow::{Context, Result, bail, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Where the scripts stand.
const SCRIPTS_FOLDER: &str = "tests/qemu/interactive";
/// Lines of the console that a failure shows at the most.
const EXCERPT_LINES_MAX: usize = 60;
/// Machines that run at the same time.
const MACHINES_MAX: usize = 2;
/// Bytes of a step's output that are kept; what came before them can't be expected any more.
const OUTPUT_BYTES_MAX: usize = 64 * 1024;
/// Output that comes in quick succession is looked at once in this time.
const BATCH: Duration = Duration::from_millis(20);

/// Which scripts.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Arguments {
    /// Names of scripts in tests/qemu/interactive, without `.toml`; all when left out
    pub scripts: Vec<String>,
    /// Boot what build/image holds, without compiling
    #[arg(long)]
    pub no_build: bool,
    /// Print the console while it comes
    #[arg(long, short)]
    pub verbose: bool,
}

/// Runs the scripts, two at a time; an error names those that failed.
pub fn run(project: &Project, arguments: &Arguments) -> Result<()> {
    let names = match arguments.scripts.is_empty() {
        true => script_names(project)?,
        false => arguments.scripts.clone(),
    };
    let built = if arguments.no_build { image::last_built(project)? } else { image::build(project)? };
    let queue = Mutex::new(names.into_iter());
    let failed = Mutex::new(Vec::new());
    let work = || {
        // The queue is unlocked before a script runs.
        while let Some(name) = { locked(&queue).next() } {
            if !told(run_script(project, &built, &name, arguments.verbose), &name) {
                locked(&failed).push(name);
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..if arguments.verbose { 1 } else { MACHINES_MAX } {
            scope.spawn(work);
        }
    });
    let failed = locked(&failed);
    ensure!(failed.is_empty(), "interactive scripts that failed: {}", failed.join(", "));
    Ok(())
}

/// Prints what became of a script; tells whether it passed.
fn told(result: Result<usize>, name: &str) -> bool {
    match result {
        Ok(steps) => println!("{name}: passed ({steps} steps)"),
        Err(ref error) => println!("{name}: FAILED: {error:#}"),
    }
    result.is_ok()
}

/// A lock's contents, also after a thread that held it panicked: they are whole at any time.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn script_names(project: &Project) -> Result<Vec<String>> {
    let folder = project.path(SCRIPTS_FOLDER);
    let entries = fs::read_dir(&folder).with_context(|| format!("{} cannot be read", folder.display()))?;
    let mut names = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            names.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
        }
    }
    ensure!(!names.is_empty(), "{SCRIPTS_FOLDER} holds no script");
    names.sort();
    Ok(names)
}

fn run_script(project: &Project, built: &Built, name: &str, verbose: bool) -> Result<usize> {
    let file = format!("{SCRIPTS_FOLDER}/{name}.toml");
    let script = Script::parse(&project.read(&file)?, &file)?;
    let directory = project.path(&format!("build/qemu/interactive-{name}"));
    let machine = machine(&script, built, &directory)?;
    let mut session = Session::start(&machine, &directory, verbose)?;
    for (index, step) in script.steps.iter().enumerate() {
        let result = session.step(step, script.seconds);
        result.with_context(|| format!("step {}, {}\n{}", index + 1, step.name(), session.excerpt()))?;
    }
    Ok(script.steps.len())
}

fn machine(script: &Script, built: &Built, directory: &Path) -> Result<Machine> {
    let bytes =
        fs::read(&built.image).with_context(|| format!("{} cannot be read", built.image.display()))?;
    let image = match script.image.apply(bytes) {
        Some(bytes) => {
            let path = directory.join("initial.img");
            write_file(&path, &bytes)?;
            Some(path)
        }
        None => None,
    };
    let mut machine = Machine {
        harts: script.smp,
        memory: script.memory.clone(),
        append: script.append.clone(),
        image,
        disk: script.disk.map(|condition| disk::of_test(directory, condition)).transpose()?,
        secret: script.secret.map(|secret| secret.file(directory)).transpose()?,
        legacy_virtio: script.legacy_virtio,
        ..Machine::new(built)
    };
    if let Some(devices) = &script.devices {
        machine.devices.clone_from(devices);
    }
    if let Some(change) = &script.device_tree {
        let tree = change.apply(device_tree(&machine, directory)?)?;
        let path = directory.join("changed.dtb");
        write_file(&path, &tree)?;
        machine.extra.extend(["-dtb".to_string(), path.to_string_lossy().into_owned()]);
    }
    Ok(machine)
}

/// The device tree that QEMU makes for this machine.
fn device_tree(machine: &Machine, directory: &Path) -> Result<Vec<u8>> {
    let path: PathBuf = directory.join("original.dtb");
    let mut command = machine.command()?;
    output(command.arg("-machine").arg(format!("dumpdtb={}", path.display())))?;
    fs::read(&path).with_context(|| format!("{} cannot be read", path.display()))
}

/// A boot under way, at whose console steps are taken.
pub(crate) struct Session {
    guest: Guest,
    directory: PathBuf,
    /// What the console said since the present step began.
    output: Vec<u8>,
    kept: Kept,
    verbose: bool,
}

impl Session {
    /// What a step kept under this name.
    pub fn kept(&self, name: &str) -> Option<String> {
        self.kept.get(name).cloned()
    }

    /// Boots a machine; its console is kept in `directory`.
    pub(crate) fn start(machine: &Machine, directory: &Path, verbose: bool) -> Result<Self> {
        Ok(Session {
            guest: Guest::start(machine, directory)?,
            directory: directory.to_path_buf(),
            output: Vec::new(),
            kept: Kept::new(),
            verbose,
        })
    }

    /// Types what a step types and waits for what it expects, at most so many seconds.
    pub(crate) fn step(&mut self, step: &Step, seconds: u64) -> Result<()> {
        self.output.clear();
        let input = step.input(&self.kept)?;
        if !input.is_empty() {
            self.guest.type_bytes(&input);
        }
        let seconds = step.seconds.unwrap_or(seconds);
        let deadline = after_seconds(seconds);
        loop {
            let text = self.text();
            let lacks = match progress(step, &text, &self.kept)? {
                Progress::Forbidden(text) => bail!("`{text}` came"),
                Progress::Complete if !step.ends => return keep(step, &text, &mut self.kept),
                Progress::Complete => "the end of the machine".to_string(),
                Progress::Lacks(text) => format!("`{text}`"),
            };
            match self.guest.next(deadline) {
                Event::Bytes(bytes) => self.take_batch(&bytes),
                Event::Quiet => bail!("{lacks} did not come within {seconds} s"),
                Event::Ended(_) if step.ends && progress(step, &text, &self.kept)? == Progress::Complete => {
                    return keep(step, &text, &mut self.kept);
                }
                Event::Ended(reason) => bail!("QEMU ended ({reason}) before {lacks} came"),
            }
        }
    }

    fn take_batch(&mut self, bytes: &[u8]) {
        self.take(bytes);
        let end = Instant::now() + BATCH;
        while let Event::Bytes(more) = self.guest.next(end) {
            self.take(&more);
        }
        let surplus = self.output.len().saturating_sub(OUTPUT_BYTES_MAX);
        self.output.drain(..surplus);
    }

    fn take(&mut self, bytes: &[u8]) {
        if self.verbose {
            print!("{}", without_control(&String::from_utf8_lossy(bytes)));
        }
        self.output.extend_from_slice(bytes);
    }

    fn text(&self) -> String {
        without_control(&String::from_utf8_lossy(&self.output))
    }

    /// What the last step's console said.
    pub(crate) fn excerpt(&self) -> String {
        let text = self.text();
        let lines: Vec<&str> = text.lines().collect();
        let skipped = lines.len().saturating_sub(EXCERPT_LINES_MAX);
        let shown: Vec<String> = lines[skipped..].iter().map(|line| shown(line)).collect();
        let shown = shown.join("\n");
        let directory = self.directory.display();
        format!("--- console of this step ({directory}/console.log) ---\n{shown}\n--- end ---")
    }
}
