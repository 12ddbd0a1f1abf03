//! What comes from outside may hold anything: an initial image and a start page of any bytes are refused
//! or read, by name of the error, and never panic.

use nexus_abi::image::{self, FILES_MAX, File, Head, IMAGE_BYTES_MAX, Image, ImageError};
use nexus_abi::limits::PAGE_SIZE;
use nexus_abi::start_page::{CAPABILITIES_MAX, NAME_BYTES, StartPage, StartPageError};
use nexus_abi::{Handle, Kind, Rights};
use proptest::prelude::*;
use std::mem::size_of;
use zerocopy::{FromBytes, IntoBytes};

const HEAD_BYTES: usize = size_of::<Head>();
const FILES: [(&str, &[u8]); 2] = [("nexus-init", b"first program"), ("system.manifest", b"manifest")];

/// A valid image of [`FILES`]: head, table, and one page for each file.
fn valid_image() -> Vec<u8> {
    let mut bytes = vec![0; HEAD_BYTES];
    for (index, (name, contents)) in FILES.iter().enumerate() {
        let mut file = File {
            name: [0; image::NAME_BYTES],
            offset: ((index + 1) * PAGE_SIZE) as u64,
            bytes: contents.len() as u64,
            reserved: 0,
        };
        file.name[..name.len()].copy_from_slice(name.as_bytes());
        bytes.extend_from_slice(file.as_bytes());
    }
    for (_, contents) in FILES {
        bytes.resize(bytes.len().next_multiple_of(PAGE_SIZE), 0);
        bytes.extend_from_slice(contents);
    }
    seal(&mut bytes, FILES.len() as u32, |_| {});
    bytes
}

/// Writes a head that fits the bytes after it, then lets `change` spoil it.
fn seal(bytes: &mut [u8], file_count: u32, change: impl FnOnce(&mut Head)) {
    let mut head = Head {
        magic: image::MAGIC,
        version: image::VERSION,
        file_count,
        total_bytes: bytes.len() as u64,
        checksum: 0,
        init_rank: 100,
        reserved: [0; 32],
    };
    head.checksum = image::checksum(&head, &bytes[HEAD_BYTES..]);
    change(&mut head);
    bytes[..HEAD_BYTES].copy_from_slice(head.as_bytes());
}

/// The valid image with another head.
fn with_head(change: impl FnOnce(&mut Head)) -> Vec<u8> {
    let mut bytes = valid_image();
    seal(&mut bytes, FILES.len() as u32, change);
    bytes
}

/// The valid image with a table of another length, and the checksum that fits.
fn with_file_count(count: u32) -> Vec<u8> {
    let mut bytes = valid_image();
    seal(&mut bytes, count, |_| {});
    bytes
}

/// The valid image with another second entry in its table, and the checksum that fits.
fn with_file(change: impl FnOnce(&mut File)) -> Vec<u8> {
    let mut bytes = valid_image();
    let place = HEAD_BYTES + size_of::<File>()..HEAD_BYTES + 2 * size_of::<File>();
    let mut file = File::read_from_bytes(&bytes[place.clone()]).expect("the size is right");
    change(&mut file);
    bytes[place].copy_from_slice(file.as_bytes());
    seal(&mut bytes, FILES.len() as u32, |_| {});
    bytes
}

fn refusal(bytes: &[u8]) -> Option<ImageError> {
    Image::open(bytes).err()
}

/// Opens the bytes and, should they be an image, reads all that it offers.
fn read_image(bytes: &[u8]) -> Result<(), ImageError> {
    let image = Image::open(bytes)?;
    assert_eq!(Image::total_bytes(bytes).map(|total| total <= bytes.len()), Ok(true));
    for (name, contents) in image.files() {
        let (offset, length) = image.extent(name)?;
        assert_eq!(image.file(name)?, &bytes[offset..offset + length]);
        assert!(contents.len() <= bytes.len());
    }
    Ok(())
}

#[test]
fn an_image_gives_back_its_files() {
    let mut bytes = valid_image();
    bytes.extend_from_slice(b"what follows in memory");
    let image = Image::open(&bytes).expect("the image is valid");
    assert_eq!(image.files().collect::<Vec<_>>(), FILES);
    assert_eq!(image.file("system.manifest"), Ok(FILES[1].1));
    assert_eq!(image.extent("system.manifest"), Ok((2 * PAGE_SIZE, FILES[1].1.len())));
    assert_eq!(image.init_rank(), 100);
}

#[test]
fn an_image_opens_at_any_address() {
    for shift in 0..8 {
        let mut bytes = vec![0; shift];
        bytes.extend_from_slice(&valid_image());
        assert_eq!(refusal(&bytes[shift..]), None, "{shift} bytes on");
    }
}

#[test]
fn test_reject_truncated_image() {
    let bytes = valid_image();
    for length in 0..bytes.len() {
        assert_eq!(refusal(&bytes[..length]), Some(ImageError::Truncated), "{length} bytes");
    }
    assert_eq!(Image::total_bytes(&bytes[..HEAD_BYTES - 1]), Err(ImageError::Truncated));
}

#[test]
fn test_reject_image_with_bad_magic() {
    assert_eq!(refusal(&with_head(|head| head.magic[7] = 1)), Some(ImageError::BadMagic));
}

#[test]
fn test_reject_image_of_another_version() {
    for version in [0, image::VERSION + 1, u32::MAX] {
        assert_eq!(refusal(&with_head(|head| head.version = version)), Some(ImageError::BadVersion));
    }
}

#[test]
fn test_reject_image_with_bad_checksum() {
    assert_eq!(refusal(&with_head(|head| head.checksum ^= 1)), Some(ImageError::BadChecksum));
}

#[test]
fn test_reject_image_whose_head_exceeds_its_limits() {
    let table_bytes = (HEAD_BYTES + FILES.len() * size_of::<File>()) as u64;
    for (case, bytes) in [
        ("more files than allowed", with_head(|head| head.file_count = FILES_MAX as u32 + 1)),
        ("as many files as can be counted", with_head(|head| head.file_count = u32::MAX)),
        ("larger than allowed", with_head(|head| head.total_bytes = IMAGE_BYTES_MAX as u64 + 1)),
        ("as large as can be counted", with_head(|head| head.total_bytes = u64::MAX)),
        ("smaller than its table", with_head(|head| head.total_bytes = table_bytes - 1)),
        ("smaller than its head", with_head(|head| head.total_bytes = 0)),
    ] {
        assert_eq!(refusal(&bytes), Some(ImageError::BadTable), "{case}");
        assert_eq!(Image::total_bytes(&bytes), Err(ImageError::BadTable), "{case}");
    }
}

#[test]
fn test_reject_image_with_bad_table() {
    let end = valid_image().len() as u64;
    for (case, bytes) in [
        ("an entry without a name", with_file(|file| file.name.fill(0))),
        ("a name that is not UTF-8", with_file(|file| file.name[0] = 0xff)),
        ("an offset inside a page", with_file(|file| file.offset += 8)),
        ("an offset beyond the end", with_file(|file| file.offset = end.next_multiple_of(PAGE_SIZE as u64))),
        ("one byte too many", with_file(|file| file.bytes += 1)),
        ("as many bytes as can be counted", with_file(|file| file.bytes = u64::MAX)),
        ("more entries than were written", with_file_count(FILES.len() as u32 + 1)),
    ] {
        assert_eq!(refusal(&bytes), Some(ImageError::BadTable), "{case}");
    }
}

#[test]
fn test_reject_a_file_that_is_missing() {
    let bytes = valid_image();
    let image = Image::open(&bytes).expect("the image is valid");
    for name in ["", "nexus", "nexus-init\0", "Nexus-init"] {
        assert_eq!(image.file(name), Err(ImageError::Missing), "{name:?}");
        assert_eq!(image.extent(name), Err(ImageError::Missing), "{name:?}");
    }
}

/// The checksum covers all of the image, its own head included.
#[test]
fn test_reject_image_with_any_flipped_bit() {
    let mut bytes = valid_image();
    for index in 0..bytes.len() {
        for bit in 0..8 {
            bytes[index] ^= 1 << bit;
            assert!(refusal(&bytes).is_some(), "bit {bit} of byte {index}");
            bytes[index] ^= 1 << bit;
        }
    }
}

fn file() -> impl Strategy<Value = Vec<u8>> {
    let number = || prop_oneof![Just(0), Just(4096), Just(8192), Just(u64::MAX - 4095), any::<u64>()];
    let name =
        prop_oneof![any::<[u8; 32]>(), Just(*b"nexus-init\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0")];
    (name, number(), prop_oneof![0..64_u64, number()]).prop_map(|(start, offset, bytes)| {
        let mut file = File { name: [0; image::NAME_BYTES], offset, bytes, reserved: 0 };
        file.name[..start.len()].copy_from_slice(&start);
        file.as_bytes().to_vec()
    })
}

proptest! {
    #[test]
    fn any_bytes_are_read_as_an_image_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
        prop_assert!(read_image(&bytes).is_err());
    }

    #[test]
    fn any_head_is_read_without_panic(
        file_count: u32, total_bytes in prop_oneof![0..20_000_u64, any::<u64>()], checksum: u32,
    ) {
        let bytes = with_head(|head| {
            (head.file_count, head.total_bytes, head.checksum) = (file_count, total_bytes, checksum);
        });
        let _ = read_image(&bytes);
    }

    #[test]
    fn any_table_under_a_fitting_checksum_is_read_without_panic(
        files in prop::collection::vec(file(), 1..4), extra in 0..3_u32,
    ) {
        let mut bytes = vec![0; HEAD_BYTES];
        bytes.extend(files.concat());
        bytes.resize(3 * PAGE_SIZE, 0);
        seal(&mut bytes, files.len() as u32 + extra, |_| {});
        let outcome = read_image(&bytes);
        prop_assert!(matches!(outcome, Ok(()) | Err(ImageError::BadTable)), "{:?}", outcome);
    }

    #[test]
    fn any_page_is_read_as_a_start_page_without_panic(
        bytes in prop::collection::vec(any::<u8>(), PAGE_SIZE),
        count in prop_oneof![0..=CAPABILITIES_MAX as u32 + 1, any::<u32>()],
        name in ".{0,12}",
    ) {
        let (mut page, _) = StartPage::read_from_prefix(&bytes).expect("a page is large enough");
        page.capability_count = count;
        prop_assert_eq!(page.entries().count(), CAPABILITIES_MAX.min(count as usize));
        for (entry, capability) in page.entries() {
            prop_assert!(capability.name.starts_with(entry.as_bytes()));
            prop_assert_ne!(page.find(entry, Kind::Endpoint), Err(StartPageError::Missing));
        }
        prop_assert!(page.name.starts_with(page.name().as_bytes()));
        prop_assert!(page.arguments.starts_with(page.arguments().as_bytes()));
        let _ = page.find(&name, Kind::Vmo);
        if page.add(&name, Handle::new(1, 1), Kind::Vmo, Rights::READ).is_ok() {
            prop_assert_eq!(page.find(&name, Kind::Vmo), Ok(Handle::new(1, 1)));
        }
    }

    #[test]
    fn a_start_page_gives_back_what_was_added(
        names in prop::collection::btree_set("[a-zé.-]{1,20}", 0..=CAPABILITIES_MAX),
        kind in prop::sample::select(Kind::ALL),
        rights in (0..=Rights::all().bits()).prop_map(Rights::from_bits_truncate),
    ) {
        let mut page = StartPage::new("service", 7);
        for (index, name) in names.iter().enumerate() {
            prop_assert_eq!(page.add(name, Handle::new(index as u32, 1), kind, rights), Ok(()));
        }
        prop_assert_eq!(page.entries().count(), names.len());
        for (index, (name, (entry, capability))) in names.iter().zip(page.entries()).enumerate() {
            prop_assert_eq!(entry, name);
            prop_assert_eq!(page.find(name, kind), Ok(Handle::new(index as u32, 1)));
            prop_assert_eq!((capability.kind, capability.rights), (kind as u32, rights.bits()));
        }
    }

    #[test]
    fn a_text_that_is_too_long_is_cut_between_characters(text in "[a-zé€]{0,300}") {
        let mut page = StartPage::new(&text, 7);
        page.set_arguments(&text);
        for (kept, room) in [(page.name(), NAME_BYTES), (page.arguments(), page.arguments.len())] {
            prop_assert!(text.starts_with(kept) && kept.len() <= room);
            let next = text[kept.len()..].chars().next().map_or(room, char::len_utf8);
            prop_assert!(kept.len() + next > room || kept == text);
        }
    }
}

#[test]
fn test_reject_a_capability_when_the_start_page_is_full() {
    let mut page = StartPage::new("service", 7);
    for index in 0..CAPABILITIES_MAX {
        assert_eq!(page.add(&index.to_string(), Handle::new(1, 1), Kind::Vmo, Rights::READ), Ok(()));
    }
    let before = page.as_bytes().to_vec();
    let refused = page.add("one too many", Handle::new(1, 1), Kind::Vmo, Rights::READ);
    assert_eq!(refused, Err(StartPageError::Full));
    assert_eq!(page.as_bytes(), before, "a refusal changes nothing");
}

#[test]
fn test_reject_a_bad_name_in_a_start_page() {
    let mut page = StartPage::new("service", 7);
    let (longest, too_long) = ("n".repeat(NAME_BYTES), "n".repeat(NAME_BYTES + 1));
    assert_eq!(page.add(&longest, Handle::new(1, 1), Kind::Vmo, Rights::READ), Ok(()));
    assert_eq!(page.find(&longest, Kind::Vmo), Ok(Handle::new(1, 1)));
    for name in ["", &longest, &too_long, "\0", "log\0", "log\0second"] {
        let refused = page.add(name, Handle::new(2, 1), Kind::Vmo, Rights::READ);
        assert_eq!(refused, Err(StartPageError::BadName), "{name:?}");
    }
    assert_eq!(page.capability_count, 1);
}

#[test]
fn test_reject_a_capability_that_is_missing_or_of_the_wrong_kind() {
    let mut page = StartPage::new("service", 7);
    assert_eq!(page.find("log", Kind::Endpoint), Err(StartPageError::Missing));
    assert_eq!(page.add("log", Handle::new(1, 1), Kind::Endpoint, Rights::CALL), Ok(()));
    for kind in Kind::ALL.iter().filter(|kind| **kind != Kind::Endpoint) {
        assert_eq!(page.find("log", *kind), Err(StartPageError::WrongKind));
    }
    assert_eq!(page.find("lo", Kind::Endpoint), Err(StartPageError::Missing));
}
