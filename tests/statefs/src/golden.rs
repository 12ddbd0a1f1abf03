//! Golden images: small stores kept byte for byte, with what they must answer.
//!
//! An image is kept sparse: `SPARSE01`, its length (u64), then for each sector that is not zero its offset
//! (u64) and 512 bytes. What it answers is text, a line a key: key, version, and value in hex or `corrupt`
//! or `uncertain`; a last line `hole` when absence is not certain.

use crate::medium::{Fate, Medium, UNIT};
use crate::random::Random;
use crate::scenario::{self, Driver};
use statefs::{Error, LIST_KEYS_MAX, Mutant, SECTOR, Store};
use std::fmt::Write as _;
use std::rc::Rc;

/// The names of the golden images.
pub const NAMES: [&str; 6] = ["empty", "ordinary", "torn-tail", "corrupt-value", "hole", "superblock-lost"];

/// Makes the image of this name, the same at every call.
pub fn make(name: &str) -> Medium {
    let seed = 3 + 4 * NAMES.iter().position(|known| *known == name).map_or(0, |at| at as u64);
    if name == "empty" {
        return scenario::formatted(seed);
    }
    let mut medium = worked_on(seed);
    let groups = groups(&medium);
    let unit_of = |back: usize, offset: u32| {
        let (segment, start) = groups[groups.len() - 1 - back];
        2 + segment as usize * 16 + (start + offset) as usize
    };
    let zeros = Medium::new(1).unit(0);
    match name {
        // The head of the newest group is lost: it cannot be told from a torn write.
        "torn-tail" => medium.land(unit_of(0, 0), &zeros, Fate::New),
        // The payload of a group in the middle is damaged, its second commit record is not.
        "corrupt-value" => medium.land(unit_of(2, 0), &zeros, Fate::New),
        // All of a group in the middle is lost.
        "hole" => (0..2).for_each(|unit| medium.land(unit_of(2, unit), &zeros, Fate::New)),
        "superblock-lost" => medium.land(newest_superblock(&medium), &zeros, Fate::New),
        _ => {}
    }
    medium
}

fn newest_superblock(medium: &Medium) -> usize {
    let bytes = medium.to_bytes();
    let generation = |slot: usize| {
        bytes[slot * UNIT + 48..][..8].iter().rev().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte))
    };
    usize::from(generation(1) > generation(0))
}

/// A store that was worked on, and whose last three groups put one small value each.
fn worked_on(seed: u64) -> Medium {
    let mut random = Random::new(seed);
    let options = scenario::options(&mut random, Mutant::None);
    let store = Store::open(scenario::formatted(seed), options).expect("a fresh store opens");
    let mut driver = Driver::new(store, Rc::default(), random.clone(), Mutant::None);
    for _ in 0..12 {
        driver.step().expect("an ordinary step");
    }
    let medium = driver.finish(Medium::new(1), Vec::new()).end;
    let mut store = Store::open(medium, scenario::options(&mut random, Mutant::None)).expect("opens");
    store.checkpoint_now().expect("a checkpoint");
    for at in 0..3 {
        store.put(&scenario::key(at), format!("golden value {at}").as_bytes()).expect("a put");
    }
    store.into_device()
}

fn groups(medium: &Medium) -> Vec<(u32, u32)> {
    let mut places = Vec::new();
    let mut options = scenario::options(&mut Random::new(1), Mutant::None);
    options.read_only = true;
    let mut store = Store::open(medium.clone(), options).expect("opens");
    store.dump_groups(&mut |group| places.push(group.place)).expect("readable");
    places
}

/// The sparse form of an image.
pub fn to_sparse(image: &[u8]) -> Vec<u8> {
    let mut sparse = b"SPARSE01".to_vec();
    sparse.extend((image.len() as u64).to_le_bytes());
    for (at, sector) in
        image.chunks(SECTOR).enumerate().filter(|(_, sector)| sector.iter().any(|byte| *byte != 0))
    {
        sparse.extend(((at * SECTOR) as u64).to_le_bytes());
        sparse.extend(sector);
    }
    sparse
}

/// The image of a sparse form that these proofs wrote.
pub fn from_sparse(sparse: &[u8]) -> Vec<u8> {
    let word =
        |at: usize| sparse[at..at + 8].iter().rev().fold(0usize, |sum, byte| sum << 8 | usize::from(*byte));
    let mut image = vec![0; word(8)];
    for record in (16..sparse.len()).step_by(8 + SECTOR) {
        let offset = word(record);
        image[offset..offset + SECTOR].copy_from_slice(&sparse[record + 8..record + 8 + SECTOR]);
    }
    image
}

/// What an image answers, as text.
pub fn answers(image: Medium) -> String {
    let mut options = scenario::options(&mut Random::new(2), Mutant::None);
    options.read_only = true;
    let mut store = match Store::open(image, options) {
        Ok(store) => store,
        Err(error) => return format!("error {error:?}\n"),
    };
    let mut text = String::new();
    let mut after: Option<Box<[u8]>> = None;
    loop {
        let page = store.list(b"/state/", after.as_deref(), LIST_KEYS_MAX);
        for listed in &page.keys {
            let name = String::from_utf8_lossy(&listed.key);
            let value = store.get(&listed.key);
            let line = match (value, listed.stat) {
                (Ok(value), Ok(stat)) => {
                    let hex = value.iter().fold(String::new(), |mut hex, byte| {
                        let _ = write!(hex, "{byte:02x}");
                        hex
                    });
                    format!("{name} {} {hex}", stat.version)
                }
                (Err(Error::Corrupt), _) => format!("{name} corrupt"),
                (Err(Error::Uncertain), _) => format!("{name} uncertain"),
                (other, _) => format!("{name} {other:?}"),
            };
            text.push_str(line.trim_end());
            text.push('\n');
        }
        if !page.more {
            if page.uncertain {
                text.push_str("hole\n");
            }
            return text;
        }
        after = page.keys.last().map(|listed| listed.key.clone());
    }
}
