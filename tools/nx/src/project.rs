//! The repository as the tool sees it: where things are, who the members are, how cargo is called.

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The target of everything that runs on the machine.
pub const DEVICE_TARGET: &str = "riscv64gc-unknown-none-elf";
/// The package of the kernel.
pub const KERNEL: &str = "neuron";
/// The folders whose packages are programs of the initial image.
const PROGRAM_FOLDERS: [&str; 3] = ["source/init/", "source/services/", "source/apps/"];

/// Which compiler builds for the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Toolchain {
    /// rustup's, with the target that it serves.
    Rustup,
    /// Debian's `rustc-web` and `cargo-web`, with the standard library built from `rust-web-src`.
    Debian,
}

impl Toolchain {
    /// The name, as `NEXUS_TOOLCHAIN` and `build/toolchain.env` write it.
    pub const fn name(self) -> &'static str {
        match self {
            Toolchain::Rustup => "rustup",
            Toolchain::Debian => "debian",
        }
    }

    fn from_name(name: &str) -> Result<Self> {
        match name {
            "rustup" => Ok(Toolchain::Rustup),
            "debian" => Ok(Toolchain::Debian),
            _ => bail!("NEXUS_TOOLCHAIN is `{name}`; it must be `rustup` or `debian`"),
        }
    }
}

/// The repository.
#[derive(Clone, Debug)]
pub struct Project {
    root: PathBuf,
    toolchain: Toolchain,
}

impl Project {
    /// Finds the repository that the current directory is in.
    pub fn find() -> Result<Self> {
        let start = std::env::current_dir().context("the current directory cannot be read")?;
        let root = start
            .ancestors()
            .find(|directory| directory.join("tools/nx/Cargo.toml").is_file())
            .with_context(|| format!("{} is not inside the Open Nexus repository", start.display()))?;
        Ok(Project { root: root.to_path_buf(), toolchain: chosen_toolchain(root)? })
    }

    /// A project at another root, for tests.
    pub fn at(root: &Path) -> Self {
        Project { root: root.to_path_buf(), toolchain: Toolchain::Rustup }
    }

    /// The root of the repository.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A path given relative to the root.
    pub fn path(&self, relative: &str) -> PathBuf {
        self.root.join(relative)
    }

    /// A file's text; the error names the file.
    pub fn read(&self, relative: &str) -> Result<String> {
        read_text(&self.path(relative))
    }

    /// The compiler that was chosen at set-up.
    pub fn toolchain(&self) -> Toolchain {
        self.toolchain
    }

    /// Where cargo leaves what it builds.
    pub fn target_directory(&self) -> PathBuf {
        match std::env::var_os("CARGO_TARGET_DIR") {
            Some(directory) => self.root.join(directory),
            None => self.path("target"),
        }
    }

    /// A program or the kernel, as built for the machine, with symbols.
    pub fn device_binary(&self, name: &str) -> PathBuf {
        self.target_directory().join(DEVICE_TARGET).join("release").join(name)
    }

    /// `cargo` with the chosen compiler, for the host.
    pub fn cargo(&self) -> Command {
        let mut command = match self.toolchain {
            Toolchain::Rustup => Command::new("cargo"),
            Toolchain::Debian => {
                let mut command = Command::new("/usr/bin/cargo");
                command.env("RUSTC", "/usr/bin/rustc").env("RUSTDOC", "/usr/bin/rustdoc");
                command
            }
        };
        // Set by the cargo that started this program; they would pin its choices on this one.
        command.env_remove("CARGO").env_remove("RUSTUP_TOOLCHAIN");
        command.current_dir(&self.root).stdin(Stdio::null());
        command
    }

    /// `cargo VERB` for the machine.
    pub fn device_cargo(&self, verb: &str) -> Command {
        let mut command = self.cargo();
        command.args([verb, "--target", DEVICE_TARGET]);
        if self.toolchain == Toolchain::Debian {
            command.args([
                "-Zbuild-std=core,alloc,compiler_builtins",
                "-Zbuild-std-features=compiler-builtins-mem",
            ]);
            command.env("RUSTC_BOOTSTRAP", "1");
            command.env("CARGO_TARGET_RISCV64GC_UNKNOWN_NONE_ELF_LINKER", "ld.lld");
        }
        command
    }

    /// Every package of the workspace.
    pub fn packages(&self) -> Result<Vec<Package>> {
        let mut command = self.cargo();
        command.args(["metadata", "--format-version=1", "--no-deps"]);
        let metadata: Metadata = serde_json::from_str(&output(&mut command)?)
            .context("`cargo metadata` answered something unexpected")?;
        metadata.packages.into_iter().map(|package| package.relative_to(&self.root)).collect()
    }

    /// The packages whose programs go into the initial image.
    pub fn programs(&self) -> Result<Vec<Package>> {
        let mut programs = self.packages()?;
        programs.retain(|package| {
            !package.binaries.is_empty() && PROGRAM_FOLDERS.iter().any(|at| package.folder.starts_with(at))
        });
        Ok(programs)
    }
}

/// A package of the workspace.
#[derive(Clone, Debug)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its folder, relative to the root.
    pub folder: String,
    /// Its binaries.
    pub binaries: Vec<String>,
    /// Names of the packages that it depends on other than for tests.
    pub dependencies: Vec<String>,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<MetadataPackage>,
}

#[derive(Deserialize)]
struct MetadataPackage {
    name: String,
    manifest_path: PathBuf,
    targets: Vec<MetadataTarget>,
    dependencies: Vec<MetadataDependency>,
}

#[derive(Deserialize)]
struct MetadataTarget {
    name: String,
    kind: Vec<String>,
}

#[derive(Deserialize)]
struct MetadataDependency {
    name: String,
    kind: Option<String>,
}

impl MetadataPackage {
    fn relative_to(self, root: &Path) -> Result<Package> {
        let folder = self.manifest_path.parent().and_then(|folder| folder.strip_prefix(root).ok());
        let folder =
            folder.with_context(|| format!("package {} lies outside of the repository", self.name))?;
        let is_binary = |target: &MetadataTarget| target.kind.iter().any(|kind| kind == "bin");
        Ok(Package {
            name: self.name,
            folder: folder.to_string_lossy().into_owned(),
            binaries: self.targets.into_iter().filter(is_binary).map(|target| target.name).collect(),
            dependencies: self
                .dependencies
                .into_iter()
                .filter(|dependency| dependency.kind.is_none())
                .map(|dependency| dependency.name)
                .collect(),
        })
    }
}

/// A file's text; the error names the file.
pub fn read_text(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))
}

/// Writes a file and the folders above it; the error names the file.
pub fn write_file(path: &Path, bytes: &[u8]) -> Result<()> {
    let parent = path.parent().with_context(|| format!("{} has no folder", path.display()))?;
    fs::create_dir_all(parent).with_context(|| format!("{} cannot be created", parent.display()))?;
    fs::write(path, bytes).with_context(|| format!("{} cannot be written", path.display()))
}

/// Runs a command with its output on this terminal.
pub fn execute(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| cannot_start(command))?;
    if !status.success() {
        bail!("`{}` failed ({status})", shown(command));
    }
    Ok(())
}

/// Runs a command and yields what it printed.
pub fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| cannot_start(command))?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        bail!("`{}` failed ({})\n{}", shown(command), output.status, errors.trim_end());
    }
    String::from_utf8(output.stdout).with_context(|| format!("`{}` printed no UTF-8", shown(command)))
}

fn cannot_start(command: &Command) -> String {
    format!("`{}` cannot be started (`nx doctor` tells what is missing)", shown(command))
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// `NEXUS_TOOLCHAIN` decides, then what set-up wrote down, then rustup.
fn chosen_toolchain(root: &Path) -> Result<Toolchain> {
    if let Ok(name) = std::env::var("NEXUS_TOOLCHAIN") {
        return Toolchain::from_name(&name);
    }
    let remembered = root.join("build/toolchain.env");
    if !remembered.is_file() {
        return Ok(Toolchain::Rustup);
    }
    let text = read_text(&remembered)?;
    let name = text.lines().find_map(|line| line.strip_prefix("NEXUS_TOOLCHAIN="));
    name.map_or(Ok(Toolchain::Rustup), Toolchain::from_name)
}
