//! What the simulated machine boots: the device tree, and an initial image with the real manifest and, in
//! the place of each program, a file that names it.

use crate::machine::{
    BLOCK_BASE, BLOCK_LINE, ENTROPY_BASE, ENTROPY_LINE, FW_CFG_BASE, RTC_BASE, RTC_LINE, SLOT_BASE,
    SLOT_LINE, SPARE_BASE, SPARE_LINE, UART_BASE, UART_LINE,
};
use anyhow::{Context, Result, anyhow};
use nexus_abi::image::{INIT, MANIFEST};
use nexus_abi::limits::PAGE_SIZE;
use nexus_rt::Environment;
use nx::image::{Entry, write};
use std::collections::BTreeSet;
use std::path::Path;
use system_manifest::Manifest;
use vm_fdt::FdtWriter;

/// A program: its name, and what it does.
pub type Program = (&'static str, fn(&Environment) -> u64);

/// Every program that can be simulated.
pub const PROGRAMS: &[Program] = &[
    ("nexus-init", nexus_init::start::run),
    ("bench-disk", bench_disk::run),
    ("bench-peer", bench_peer::run),
    ("consoled", consoled::run),
    ("crowd", crate::crowd::run),
    ("faulty", faulty::run),
    ("keystored", keystored::run),
    ("lockstep", lockstep::run),
    ("logd", logd::run),
    ("nexus-shell", nexus_shell::run),
    ("ping", ping::run),
    ("policy-probe", crate::probe::run),
    ("policyd", policyd::run),
    ("pong", pong::run),
    ("rngd", rngd::run),
    ("selftest-client", selftest_client::run),
    ("selftest-driver", selftest_driver::run),
    ("selftest-peer", selftest_peer::run),
    ("selftest-soak", selftest_soak::run),
    ("statefsd", statefsd::run),
    ("syscall-fuzzer", syscall_fuzzer::run),
    ("virtioblkd", virtioblkd::run),
];

/// Where every program is loaded.
const LOAD_ADDRESS: u64 = 0x1_0000;
/// What stands at a program's entry, before its name.
const ENTRY_MAGIC: &[u8; 8] = b"NXSIMPRG";
/// Bytes at an entry: the magic and the name, filled up with zeroes.
pub const ENTRY_BYTES: usize = 64;
/// Pages of stack that the host's code needs beyond what the machine's needs: it is compiled without the
/// optimizations that keep frames small, and a panic unwinds.
const EXTRA_STACK_PAGES: u32 = 48;

/// The program whose entry begins with these bytes.
pub fn program_at(entry: &[u8; ENTRY_BYTES]) -> Option<Program> {
    let name = entry.strip_prefix(ENTRY_MAGIC)?;
    let length = name.iter().position(|&byte| byte == 0)?;
    let name = std::str::from_utf8(&name[..length]).ok()?;
    PROGRAMS.iter().copied().find(|(known, _)| *known == name)
}

/// A static RISC-V program of one page, as ELF: what init and the kernel check and load is real.
fn elf(name: &str) -> Vec<u8> {
    const HEADER: usize = 64;
    const PROGRAM_HEADER: usize = 56;
    const EXECUTABLE: u16 = 2;
    const RISC_V: u16 = 243;
    const LOAD: u32 = 1;
    const READ_AND_EXECUTE: u32 = 5;
    let offset = PAGE_SIZE as u64;
    let mut file = vec![0x7f, b'E', b'L', b'F', 2, 1, 1];
    file.resize(16, 0);
    for half in [EXECUTABLE, RISC_V] {
        file.extend(half.to_le_bytes());
    }
    file.extend(1u32.to_le_bytes());
    for word in [LOAD_ADDRESS, HEADER as u64, 0] {
        file.extend(word.to_le_bytes());
    }
    file.extend(0u32.to_le_bytes());
    for half in [HEADER as u16, PROGRAM_HEADER as u16, 1, 0, 0, 0] {
        file.extend(half.to_le_bytes());
    }
    file.extend(LOAD.to_le_bytes());
    file.extend(READ_AND_EXECUTE.to_le_bytes());
    for word in [offset, LOAD_ADDRESS, LOAD_ADDRESS, PAGE_SIZE as u64, PAGE_SIZE as u64, PAGE_SIZE as u64] {
        file.extend(word.to_le_bytes());
    }
    file.resize(PAGE_SIZE, 0);
    file.extend(ENTRY_MAGIC);
    file.extend(name.as_bytes());
    file.resize(2 * PAGE_SIZE, 0);
    file
}

/// The system's manifest, and the initial image made from it.
pub struct Built {
    /// Who exists, who may call whom.
    pub manifest: Manifest,
    /// The image's bytes.
    pub image: Vec<u8>,
}

/// Compiles the recipe of the repository at `root` and builds the image.
pub fn build(root: &Path, file: &str) -> Result<Built> {
    let path = root.join(file);
    let recipe =
        std::fs::read_to_string(&path).with_context(|| format!("{} cannot be read", path.display()))?;
    let bytes = system_manifest::compile(&recipe, file).map_err(|error| anyhow!("{error}"))?;
    let manifest = system_manifest::decode(&bytes).map_err(|error| anyhow!("{file}: {error}"))?;
    let policy = nx::policy::entries(root, &manifest)?;
    assemble(manifest, policy)
}

/// Gives every service the stack that host code needs, and builds the image with these files beside the programs.
pub fn assemble(mut manifest: Manifest, files: Vec<Entry>) -> Result<Built> {
    for service in &mut manifest.services {
        service.limits.stack_pages += EXTRA_STACK_PAGES;
        service.limits.memory_pages += EXTRA_STACK_PAGES;
    }
    let bytes = system_manifest::encode(&manifest).map_err(|error| anyhow!("the manifest: {error}"))?;
    let mut entries = vec![Entry { name: MANIFEST.to_string(), bytes }];
    let names: BTreeSet<&str> = manifest.services.iter().map(|service| service.binary.as_str()).collect();
    // A recipe may name the manifest itself as a program, to see that it is refused.
    for name in std::iter::once(INIT).chain(names).filter(|name| *name != MANIFEST) {
        let known = PROGRAMS.iter().any(|(known, _)| *known == name);
        known.then_some(()).with_context(|| {
            format!("add the program `{name}` to PROGRAMS in tools/nexus-sim/src/image.rs")
        })?;
        entries.push(Entry { name: name.to_string(), bytes: elf(name) });
    }
    entries.extend(files);
    let image = write(&entries, manifest.init.rank)?;
    Ok(Built { manifest, image })
}

/// The simulated machine's device tree; a bare machine has no slots for entropy device and disk, and no fw_cfg.
pub fn device_tree(is_bare: bool) -> Result<Vec<u8>> {
    let mut tree = FdtWriter::new()?;
    let root = tree.begin_node("")?;
    tree.property_u32("#address-cells", 2)?;
    tree.property_u32("#size-cells", 2)?;
    let controller = tree.begin_node("plic@c000000")?;
    tree.property_u32("#interrupt-cells", 1)?;
    tree.property_u32("phandle", 3)?;
    tree.property_array_u64("reg", &[0xc00_0000, 0x60_0000])?;
    tree.end_node(controller)?;
    let devices = [
        ("serial@10000000", "ns16550a", UART_BASE, UART_LINE),
        ("rtc@101000", "google,goldfish-rtc", RTC_BASE, RTC_LINE),
        ("virtio_mmio@10001000", "virtio,mmio", SLOT_BASE, SLOT_LINE),
        ("virtio_mmio@10004000", "virtio,mmio", SPARE_BASE, SPARE_LINE),
    ];
    let others = [
        ("virtio_mmio@10002000", "virtio,mmio", ENTROPY_BASE, ENTROPY_LINE),
        ("virtio_mmio@10003000", "virtio,mmio", BLOCK_BASE, BLOCK_LINE),
    ];
    let devices = devices.into_iter().chain(others.into_iter().filter(|_| !is_bare));
    for (name, compatible, base, line) in devices {
        let node = tree.begin_node(name)?;
        tree.property_string("compatible", compatible)?;
        tree.property_array_u64("reg", &[base, PAGE_SIZE as u64])?;
        tree.property_u32("interrupts", line)?;
        tree.property_u32("interrupt-parent", 3)?;
        tree.end_node(node)?;
    }
    if !is_bare {
        let node = tree.begin_node("fw-cfg@10100000")?;
        tree.property_string("compatible", fw_cfg::COMPATIBLE)?;
        tree.property_array_u64("reg", &[FW_CFG_BASE, 0x18])?;
        tree.end_node(node)?;
    }
    tree.end_node(root)?;
    Ok(tree.finish()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nexus_init::program::Program as Plan;

    #[test]
    fn a_file_that_names_a_program_is_one_that_init_accepts() {
        let file = elf("pong");
        let plan = Plan::read(&file).unwrap();
        let segment = plan.segment_at(plan.entry).unwrap();
        let entry: &[u8; ENTRY_BYTES] = segment.contents[..ENTRY_BYTES].try_into().unwrap();
        assert_eq!(program_at(entry).map(|(name, _)| name), Some("pong"));
    }

    #[test]
    fn test_reject_entries_that_name_no_program() {
        assert!(program_at(&[0; ENTRY_BYTES]).is_none());
        let mut entry = [b'x'; ENTRY_BYTES];
        entry[..8].copy_from_slice(ENTRY_MAGIC);
        assert!(program_at(&entry).is_none());
    }
}
