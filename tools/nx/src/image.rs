//! `nx image`: what QEMU is given, made of what cargo built.
//!
//! `build/image/neuron.bin` is the kernel as flat memory. `build/image/initial.img` is the initial image
//! in the layout of [`nexus_abi::image`]: init, the system manifest and every program, stripped.

use crate::project::{KERNEL, Project, write_file};
use crate::{build, elf_file, policy};
use anyhow::{Context, Result, anyhow, ensure};
use nexus_abi::image::{
    FILES_MAX, File, Head, IMAGE_BYTES_MAX, INIT, Image, MAGIC, MANIFEST, NAME_BYTES, VERSION, checksum,
};
use nexus_abi::limits::PAGE_SIZE;
use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use system_manifest::Manifest;
use zerocopy::IntoBytes;

/// Who exists in the system.
pub const RECIPE_FILE: &str = "recipes/system.toml";

/// Where the files of a boot are, and those with planted faults, which nothing else boots.
const FOLDER: &str = "build/image";
const MUTANTS_FOLDER: &str = "build/image-mutants";

/// The files that a boot needs.
#[derive(Clone, Debug)]
pub struct Built {
    /// The flat kernel.
    pub kernel: PathBuf,
    /// The initial image.
    pub image: PathBuf,
}

/// One file of an initial image.
pub struct Entry {
    /// Its name.
    pub name: String,
    /// Its contents.
    pub bytes: Vec<u8>,
}

/// What the last build left.
pub fn last_built(project: &Project) -> Result<Built> {
    left_in(project, FOLDER)
}

/// What the last build with planted faults left.
pub fn last_built_with_mutants(project: &Project) -> Result<Built> {
    left_in(project, MUTANTS_FOLDER)
}

fn left_in(project: &Project, folder: &str) -> Result<Built> {
    let built = locations(project, folder);
    for path in [&built.kernel, &built.image] {
        ensure!(path.is_file(), "{} is missing; run `nx image`", path.display());
    }
    Ok(built)
}

/// What goes into the image.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Arguments {
    /// Build and hold only these programs (`nexus-init,pong`), as when one of the others does not compile
    #[arg(long, value_delimiter = ',')]
    pub only: Vec<String>,
}

/// Compiles what is stale and writes both files, with every program.
pub fn build(project: &Project) -> Result<Built> {
    build_with(project, &Arguments::default())
}

/// Compiles what is stale and writes both files.
pub fn build_with(project: &Project, arguments: &Arguments) -> Result<Built> {
    build::kernel(project)?;
    match arguments.only.is_empty() {
        true => build::userland(project)?,
        false => build::programs(project, &arguments.only)?,
    }
    assemble(project, FOLDER, &arguments.only)
}

/// Compiles what is stale and writes both files into a folder of their own, with programs that have planted faults.
pub fn build_with_mutants(project: &Project) -> Result<Built> {
    build::everything(project)?;
    build::with_mutants(project)?;
    assemble(project, MUTANTS_FOLDER, &[])
}

fn assemble(project: &Project, folder: &str, only: &[String]) -> Result<Built> {
    let built = locations(project, folder);
    let kernel = elf_file::flatten(&device_file(project, KERNEL)?)
        .with_context(|| format!("{KERNEL} cannot be made flat"))?;
    write_file(&built.kernel, &kernel)?;
    let recipe = compile_recipe(project)?;
    let mut entries = entries(project, &recipe, only)?;
    entries.extend(policy::entries(project.root(), &recipe.manifest)?);
    let image = write(&entries, recipe.manifest.init.rank)?;
    write_file(&built.image, &image)?;
    Ok(built)
}

fn locations(project: &Project, folder: &str) -> Built {
    let path = |name: &str| project.path(&format!("{folder}/{name}"));
    Built { kernel: path("neuron.bin"), image: path("initial.img") }
}

/// Prints the bytes of the kernel and of each file in the image.
pub fn print_sizes(built: &Built) -> Result<()> {
    for (name, bytes) in sizes(built)? {
        println!("{bytes:>10}  {name}");
    }
    Ok(())
}

/// Name and bytes of the kernel, the image, and each file in it.
pub fn sizes(built: &Built) -> Result<Vec<(String, usize)>> {
    let bytes = |path: &PathBuf| fs::read(path).with_context(|| format!("{} cannot be read", path.display()));
    let image_bytes = bytes(&built.image)?;
    let mut sizes = vec![
        (KERNEL.to_string(), bytes(&built.kernel)?.len()),
        ("initial.img".to_string(), image_bytes.len()),
    ];
    let image =
        Image::open(&image_bytes).map_err(|error| anyhow::anyhow!("initial.img: {}", error.message()))?;
    sizes.extend(image.files().map(|(name, bytes)| (format!("initial.img/{name}"), bytes.len())));
    Ok(sizes)
}

/// Puts an initial image together.
pub fn write(entries: &[Entry], init_rank: u32) -> Result<Vec<u8>> {
    ensure!(entries.len() <= FILES_MAX, "{} files; an image holds at most {FILES_MAX}", entries.len());
    let mut table = Vec::new();
    let mut contents = Vec::new();
    let start = aligned(size_of::<Head>() + entries.len() * size_of::<File>());
    for entry in entries {
        table.extend_from_slice(file(entry, start + contents.len())?.as_bytes());
        contents.extend_from_slice(&entry.bytes);
        contents.resize(aligned(contents.len()), 0);
    }
    let mut image = vec![0; size_of::<Head>()];
    image.extend(table);
    image.resize(start, 0);
    image.extend(contents);
    ensure!(image.len() <= IMAGE_BYTES_MAX, "{} bytes; an image has at most {IMAGE_BYTES_MAX}", image.len());
    let mut head = Head {
        magic: MAGIC,
        version: VERSION,
        file_count: entries.len() as u32,
        total_bytes: image.len() as u64,
        checksum: 0,
        init_rank,
        reserved: [0; 32],
    };
    head.checksum = checksum(&head, &image[size_of::<Head>()..]);
    image[..size_of::<Head>()].copy_from_slice(head.as_bytes());
    Ok(image)
}

fn file(entry: &Entry, offset: usize) -> Result<File> {
    let length = entry.name.len();
    ensure!(
        (1..=NAME_BYTES).contains(&length),
        "`{}` has a name of {length} bytes; at most {NAME_BYTES}",
        entry.name
    );
    let mut name = [0; NAME_BYTES];
    name[..length].copy_from_slice(entry.name.as_bytes());
    Ok(File { name, offset: offset as u64, bytes: entry.bytes.len() as u64, reserved: 0 })
}

fn aligned(bytes: usize) -> usize {
    bytes.next_multiple_of(PAGE_SIZE)
}

/// The system manifest, as a value and as bytes.
struct Recipe {
    manifest: Manifest,
    bytes: Vec<u8>,
}

fn compile_recipe(project: &Project) -> Result<Recipe> {
    let bytes = system_manifest::compile(&project.read(RECIPE_FILE)?, RECIPE_FILE)?;
    let manifest = system_manifest::decode(&bytes).map_err(|error| anyhow!("{RECIPE_FILE}: {error}"))?;
    Ok(Recipe { manifest, bytes })
}

/// Init first, then the manifest, then each program that the manifest names, by name.
fn entries(project: &Project, recipe: &Recipe, only: &[String]) -> Result<Vec<Entry>> {
    let built: BTreeSet<String> =
        project.programs()?.into_iter().flat_map(|package| package.binaries).collect();
    let mut entries = vec![Entry { name: MANIFEST.to_string(), bytes: recipe.bytes.clone() }];
    let services: BTreeSet<&str> =
        recipe.manifest.services.iter().map(|service| service.binary.as_str()).collect();
    // Naming the manifest as a program is how a recipe tries what init does with a file that is none.
    for name in std::iter::once(INIT).chain(services).filter(|name| *name != MANIFEST) {
        if !only.is_empty() && !only.iter().any(|wanted| wanted == name) {
            continue;
        }
        ensure!(built.contains(name), "{RECIPE_FILE} needs the program `{name}`, which no package builds");
        entries.push(program(project, name)?);
    }
    Ok(entries)
}

fn program(project: &Project, name: &str) -> Result<Entry> {
    let bytes = elf_file::strip(&device_file(project, name)?)
        .with_context(|| format!("program {name} cannot go into the image"))?;
    Ok(Entry { name: name.to_string(), bytes })
}

fn device_file(project: &Project, name: &str) -> Result<Vec<u8>> {
    let path = project.device_binary(name);
    fs::read(&path).with_context(|| format!("{} cannot be read", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use nexus_abi::image::ImageError;

    fn entry(name: &str, bytes: &[u8]) -> Entry {
        Entry { name: name.to_string(), bytes: bytes.to_vec() }
    }

    #[test]
    fn what_is_written_reads_back() {
        let entries = [entry(INIT, &[1; 5000]), entry("system.manifest", b""), entry("pong", b"program")];
        let bytes = write(&entries, 700).unwrap();
        let image = Image::open(&bytes).unwrap();
        assert_eq!(image.init_rank(), 700);
        let files: Vec<_> = image.files().map(|(name, bytes)| (name.to_string(), bytes.to_vec())).collect();
        let expected: Vec<_> =
            entries.iter().map(|entry| (entry.name.clone(), entry.bytes.clone())).collect();
        assert_eq!(files, expected);
    }

    #[test]
    fn each_file_begins_at_a_page() {
        let entries = [entry("a", &[1; 4096]), entry("b", &[2; 1]), entry("c", &[3; 9000])];
        let bytes = write(&entries, 0).unwrap();
        let image = Image::open(&bytes).unwrap();
        for name in ["a", "b", "c"] {
            assert_eq!(image.extent(name).unwrap().0 % PAGE_SIZE, 0, "{name}");
        }
    }

    #[test]
    fn a_full_table_reads_back() {
        let entries: Vec<_> = (0..FILES_MAX).map(|index| entry(&format!("file-{index}"), &[1])).collect();
        assert_eq!(Image::open(&write(&entries, 0).unwrap()).unwrap().files().count(), FILES_MAX);
    }

    #[test]
    fn test_reject_too_many_files_and_bad_names() {
        let many: Vec<_> = (0..=FILES_MAX).map(|index| entry(&format!("file-{index}"), &[])).collect();
        assert!(write(&many, 0).is_err());
        assert!(write(&[entry("", b"x")], 0).is_err());
        assert!(write(&[entry(&"n".repeat(NAME_BYTES + 1), b"x")], 0).is_err());
    }

    #[test]
    fn any_flipped_bit_behind_the_head_is_noticed() {
        let good = write(&[entry(INIT, &[7; 100])], 0).unwrap();
        for at in [64, 100, 4096, good.len() - 1] {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert_eq!(Image::open(&bad).err(), Some(ImageError::BadChecksum), "byte {at}");
        }
    }
}
