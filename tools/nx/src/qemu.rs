//! QEMU: the one place that knows its command line.

use crate::image::Built;
use anyhow::{Result, ensure};
use nexus_abi::limits::HARTS_MAX;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A virtual machine.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Harts, from 1 to the kernel's limit.
    pub harts: usize,
    /// RAM, as QEMU writes it (`128M`).
    pub memory: String,
    /// Boot arguments.
    pub append: String,
    /// Whether an instruction takes one unit of virtual time.
    pub count_instructions: bool,
    /// The flat kernel.
    pub kernel: PathBuf,
    /// The initial image; left out, the machine boots without one.
    pub image: Option<PathBuf>,
    /// The file of the disk; left out, the machine has none.
    pub disk: Option<PathBuf>,
    /// Whether what is on the disk is to outlive this computer. Only then does a flush wait for the computer's own disk,
    /// which takes as long as whatever else is written there.
    pub keeps_disk: bool,
    /// The file of the board's secret; left out, the board has none.
    pub secret: Option<PathBuf>,
    /// More virtio devices, as QEMU calls them.
    pub devices: Vec<String>,
    /// Whether the virtio slots have the registers of before virtio 1.0.
    pub legacy_virtio: bool,
    /// More arguments of QEMU.
    pub extra: Vec<String>,
}

impl Machine {
    /// The reference machine: one hart, 128 MiB, an entropy device.
    pub fn new(built: &Built) -> Self {
        Machine {
            harts: 1,
            memory: "128M".to_string(),
            append: String::new(),
            count_instructions: false,
            kernel: built.kernel.clone(),
            image: Some(built.image.clone()),
            disk: None,
            keeps_disk: false,
            secret: None,
            devices: vec!["virtio-rng-device".to_string()],
            legacy_virtio: false,
            extra: Vec::new(),
        }
    }

    /// QEMU for this machine, without a word about its console.
    pub fn command(&self) -> Result<Command> {
        ensure!((1..=HARTS_MAX).contains(&self.harts), "{} harts; from 1 to {HARTS_MAX}", self.harts);
        let mut command = Command::new("qemu-system-riscv64");
        command.args(["-machine", "virt", "-cpu", "rv64", "-m", &self.memory]);
        command.args(["-smp", &self.harts.to_string()]);
        command.args(["-global", &format!("virtio-mmio.force-legacy={}", self.legacy_virtio)]);
        if let Some(disk) = &self.disk {
            let cache = if self.keeps_disk { "writeback" } else { "unsafe" };
            let file = quoted(disk);
            command.args(["-drive", &format!("if=none,id=disk,format=raw,cache={cache},file={file}")]);
            command.args(["-device", "virtio-blk-device,drive=disk"]);
        }
        if let Some(secret) = &self.secret {
            // QEMU 7.2 makes this board's fw_cfg only after it has looked at `-fw_cfg`, and refuses that. What it does hand
            // over is the picture for the boot, and the secret begins like one.
            command.args(["-boot", &format!("splash={}", quoted(secret))]);
        }
        for device in &self.devices {
            command.args(["-device", device]);
        }
        command.arg("-kernel").arg(&self.kernel);
        if let Some(image) = &self.image {
            command.arg("-initrd").arg(image);
        }
        if !self.append.is_empty() {
            command.args(["-append", &self.append]);
        }
        if self.count_instructions {
            command.args(["-icount", "shift=0"]);
        }
        command.args(&self.extra);
        Ok(command)
    }
}

/// A file's name within an option of QEMU, where a comma is doubled.
fn quoted(file: &Path) -> String {
    file.display().to_string().replace(',', ",,")
}
