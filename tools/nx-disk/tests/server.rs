//! What the server promises, over its socket: an honest one is a file, and a cut is only as bad as a disk may be.

use nx_disk::{Client, Cut, Disk, Ended, Flush, Losses, Plan, SECTOR, serve, wire};
use proptest::prelude::*;
use statefs::{BlockDevice, DeviceError};
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Bytes of the images here, and of a unit.
const LENGTH: usize = 128 * 1024;
const UNIT: usize = 4096;

struct Image {
    folder: tempfile::TempDir,
}

impl Image {
    fn new() -> Image {
        let image = Image { folder: tempfile::tempdir().expect("a folder") };
        std::fs::write(image.path(), vec![0x11; LENGTH]).expect("an image");
        image
    }
    fn path(&self) -> PathBuf {
        self.folder.path().join("image")
    }
    fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }
    fn bytes(&self) -> Vec<u8> {
        std::fs::read(self.path()).expect("the image")
    }
}

/// Runs `work` against a server of this image, which is told how it ended.
fn served(image: &Image, flush: Flush, plan: Plan, work: impl FnOnce(&Path)) -> Ended {
    let _ = std::fs::remove_file(image.socket());
    let mut disk = Disk::open(&image.path(), UNIT as u32, flush).expect("the image opens");
    let listener = UnixListener::bind(image.socket()).expect("a socket");
    std::thread::scope(|scope| {
        let server = scope.spawn(|| serve(&listener, &mut disk, &plan).expect("the server"));
        work(&image.socket());
        server.join().expect("the server does not panic")
    })
}

#[derive(Debug, Clone)]
enum Step {
    Write { sector: usize, sectors: usize, fill: u8 },
    Read { sector: usize, sectors: usize },
    Flush,
}

fn step() -> impl Strategy<Value = Step> {
    let range = || (0..LENGTH / SECTOR - 24, 1..24usize);
    prop_oneof![
        4 => (range(), any::<u8>()).prop_map(|((sector, sectors), fill)| Step::Write { sector, sectors, fill }),
        2 => range().prop_map(|(sector, sectors)| Step::Read { sector, sectors }),
        1 => Just(Step::Flush),
    ]
}

/// Does a step on client and model alike; reads are compared.
fn take(client: &mut Client, model: &mut [u8], step: &Step) -> Result<(), DeviceError> {
    match *step {
        Step::Write { sector, sectors, fill } => {
            let range = sector * SECTOR..(sector + sectors) * SECTOR;
            model[range.clone()].fill(fill);
            client.write(range.start as u64, &model[range])
        }
        Step::Read { sector, sectors } => {
            let mut found = vec![0; sectors * SECTOR];
            client.read((sector * SECTOR) as u64, &mut found)?;
            assert_eq!(found, model[sector * SECTOR..][..found.len()]);
            Ok(())
        }
        Step::Flush => client.flush(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_honest_server_without_a_cut_is_a_file(steps in prop::collection::vec(step(), 1..40)) {
        let image = Image::new();
        let mut model = image.bytes();
        let ended = served(&image, Flush::Honest, Plan { clients: Some(1), ..Plan::default() }, |socket| {
            let mut client = Client::connect(socket).expect("the server answers");
            assert_eq!(client.length(), LENGTH as u64);
            for step in &steps {
                take(&mut client, &mut model, step).expect("no step fails");
            }
            client.flush().expect("the flush");
            client.disconnect().expect("goodbye");
        });
        prop_assert_eq!(ended, Ended::ClientsGone);
        prop_assert!(image.bytes() == model);
    }

    /// After a cut each sector holds what was flushed last or something written to it since, and a sector that was
    /// not written since the flush holds exactly what was flushed.
    #[test]
    fn after_a_cut_what_was_flushed_is_there_and_the_rest_is_old_new_or_mixed(
        steps in prop::collection::vec(step(), 1..40), cut in 1..12u64, seed: u64,
    ) {
        let image = Image::new();
        let mut model = image.bytes();
        let mut versions: Vec<Vec<Vec<u8>>> = model.chunks(SECTOR).map(|old| vec![old.to_vec()]).collect();
        let plan = Plan { cut: Some(Cut::AtWrite(cut)), seed, clients: Some(1) };
        served(&image, Flush::Honest, plan, |socket| {
            let mut client = Client::connect(socket).expect("the server answers");
            for step in &steps {
                let taken = take(&mut client, &mut model, step);
                if let Step::Write { sector, sectors, .. } = step {
                    for at in *sector..sector + sectors {
                        versions[at].push(model[at * SECTOR..][..SECTOR].to_vec());
                    }
                }
                match taken {
                    Ok(()) if matches!(step, Step::Flush) => {
                        versions.iter_mut().for_each(|versions| drop(versions.drain(..versions.len() - 1)));
                    }
                    Ok(()) => {}
                    Err(error) => {
                        assert_eq!(error, DeviceError::Gone);
                        break;
                    }
                }
            }
        });
        for (at, (found, allowed)) in image.bytes().chunks(SECTOR).zip(&versions).enumerate() {
            prop_assert!(allowed.iter().any(|version| version == found), "sector {} holds something else", at);
        }
    }
}

#[test]
fn the_same_seed_leaves_the_same_image_and_seeds_differ_in_every_kind_of_loss() {
    let mut images = std::collections::HashSet::new();
    let mut seen = Losses::default();
    for seed in 0..40 {
        let [one, again] = [0, 1].map(|_| {
            let image = Image::new();
            let ended = served(
                &image,
                Flush::Honest,
                Plan { cut: Some(Cut::AtFlush(1)), seed, clients: None },
                |socket| {
                    let mut client = Client::connect(socket).expect("the server answers");
                    for fill in 1..=3u8 {
                        client.write(0, &[fill; 4 * UNIT]).expect("a write is taken");
                    }
                    assert_eq!(client.flush(), Err(DeviceError::Gone));
                },
            );
            (image.bytes(), ended)
        });
        assert_eq!(one, again, "seed {seed}");
        let Ended::Cut(losses) = one.1 else { panic!("no cut: {:?}", one.1) };
        assert_eq!(losses.landed + losses.dropped + losses.torn, 4);
        seen.landed += losses.landed;
        seen.dropped += losses.dropped;
        seen.torn += losses.torn;
        images.insert(one.0);
    }
    assert!(images.len() > 20, "{} images of 40 cuts", images.len());
    assert!(seen.landed > 0 && seen.dropped > 0 && seen.torn > 0, "{seen:?}");
}

#[test]
fn a_flush_that_does_nothing_leaves_everything_to_the_cut() {
    let lost = (0..20).filter(|seed| {
        let image = Image::new();
        let plan = Plan { cut: Some(Cut::AtWrite(2)), seed: *seed, clients: None };
        served(&image, Flush::DoesNothing, plan, |socket| {
            let mut client = Client::connect(socket).expect("the server answers");
            client.write(0, &[1; UNIT]).expect("a write is taken");
            client.flush().expect("it says that it flushed");
            assert_eq!(client.write(8 * UNIT as u64, &[2; UNIT]), Err(DeviceError::Gone));
        });
        image.bytes()[..UNIT] != [1; UNIT]
    });
    assert!(lost.count() >= 5, "an acknowledged flush was hardly ever lost");
}

#[test]
fn a_cache_that_is_full_goes_to_the_file_by_itself() {
    let image = Image::new();
    let mut disk = Disk::open(&image.path(), UNIT as u32, Flush::DoesNothing).expect("the image opens");
    let writes = nx_disk::CACHE_SECTORS_MAX / (LENGTH / SECTOR);
    (0..writes).for_each(|_| disk.write(0, &[7; LENGTH]).expect("a write"));
    assert_eq!(image.bytes(), [0x11; LENGTH]);
    disk.write(0, &[8; LENGTH]).expect("a write");
    assert_eq!(image.bytes(), [8; LENGTH]);
}

#[test]
fn test_reject_ranges_that_are_not_whole_sectors_of_the_image() {
    let image = Image::new();
    served(&image, Flush::Honest, Plan { clients: Some(1), ..Plan::default() }, |socket| {
        let mut client = Client::connect(socket).expect("the server answers");
        for offset in [1, LENGTH as u64, LENGTH as u64 - 511, u64::MAX, u64::MAX - 511] {
            assert_eq!(client.write(offset, &[0; SECTOR]), Err(DeviceError::Range), "{offset}");
            assert_eq!(client.read(offset, &mut [0; SECTOR]), Err(DeviceError::Range), "{offset}");
        }
        assert_eq!(client.write(0, &[0; 100]), Err(DeviceError::Range));
        assert_eq!(
            client.read(0, &mut vec![0; wire::REQUEST_BYTES_MAX as usize + SECTOR]),
            Err(DeviceError::Range)
        );
        assert_eq!(client.read(0, &mut [0; SECTOR]), Ok(()), "the connection goes on");
    });
    assert_eq!(image.bytes(), [0x11; LENGTH]);
}

/// Sends bytes behind the greeting, and reads until the server goes or says nothing for a while.
fn raw(socket: &Path, bytes: &[u8]) -> Vec<u8> {
    let mut stream = UnixStream::connect(socket).expect("the server answers");
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a limit");
    let mut greeting = [0; 18];
    stream.read_exact(&mut greeting).expect("a greeting");
    stream.write_all(bytes).expect("bytes go");
    stream.shutdown(std::net::Shutdown::Write).expect("no more bytes");
    let mut found = Vec::new();
    stream.read_to_end(&mut found).expect("the server goes when the client has");
    found
}

fn option(number: u32, data: &[u8]) -> Vec<u8> {
    [&[0, 0, 0, 3], &b"IHAVEOPT"[..], &number.to_be_bytes(), &(data.len() as u32).to_be_bytes(), data]
        .concat()
}

#[test]
fn test_reject_what_is_not_the_protocol_and_serve_the_next() {
    let image = Image::new();
    let garbage: [&[u8]; 4] = [
        b"",
        b"\0\0\0\x03IHAVEOPS\0\0\0\x07\0\0\0\0",
        b"\0\0\0\x03IHAVEOPT\0\0\0\x07\xff\xff\xff\xff",
        &[0xFF; 300],
    ];
    served(&image, Flush::Honest, Plan { clients: Some(5), ..Plan::default() }, |socket| {
        for bytes in garbage {
            assert_eq!(raw(socket, bytes), b"");
        }
        let mut client = Client::connect(socket).expect("the next client is served");
        assert_eq!(client.read(0, &mut [0; SECTOR]), Ok(()));
    });
}

#[test]
fn test_reject_a_write_longer_than_the_limit_and_unknown_commands() {
    let image = Image::new();
    served(&image, Flush::Honest, Plan { clients: Some(2), ..Plan::default() }, |socket| {
        let request = |command: u16, length: u32| {
            let mut bytes = option(wire::option::EXPORT_NAME, b"");
            wire::Request { command, cookie: 9, offset: 0, length }
                .write(&mut bytes)
                .expect("memory takes it");
            bytes
        };
        let size = (LENGTH as u64).to_be_bytes();
        let begun = [&size[..], &wire::EXPORT_FLAGS.to_be_bytes()].concat();
        assert_eq!(
            raw(socket, &request(wire::command::WRITE, wire::REQUEST_BYTES_MAX + 1)),
            begun,
            "dropped"
        );
        let refusal = [&0x6744_6698u32.to_be_bytes()[..], &22u32.to_be_bytes(), &9u64.to_be_bytes()].concat();
        assert_eq!(raw(socket, &request(77, 0)), [begun, refusal].concat(), "refused");
    });
}

#[test]
fn test_reject_another_export_an_unknown_option_and_options_without_sense() {
    let image = Image::new();
    let kind_of = |answer: &[u8]| u32::from_be_bytes(answer[12..16].try_into().expect("four bytes"));
    served(&image, Flush::Honest, Plan { clients: Some(4), ..Plan::default() }, |socket| {
        let other = option(wire::option::GO, b"\0\0\0\x05other\0\0");
        assert_eq!(kind_of(&raw(socket, &other)), wire::answer::UNKNOWN);
        assert_eq!(kind_of(&raw(socket, &option(wire::option::GO, b"\0\0\0\x09x"))), wire::answer::INVALID);
        assert_eq!(kind_of(&raw(socket, &option(4711, b""))), wire::answer::UNSUPPORTED);
        assert_eq!(raw(socket, &option(wire::option::EXPORT_NAME, b"other")), b"");
    });
}

#[test]
fn test_reject_images_and_units_that_no_disk_has() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("image");
    assert!(Disk::open(&path, 4096, Flush::Honest).is_err(), "there is none");
    std::fs::write(&path, [0; 700]).expect("an image");
    assert!(Disk::open(&path, 4096, Flush::Honest).is_err(), "700 bytes");
    std::fs::write(&path, [0; 1024]).expect("an image");
    assert!(
        Disk::open(&path, 3000, Flush::Honest).is_err() && Disk::open(&path, 256, Flush::Honest).is_err()
    );
    assert!(Disk::open(&path, 512, Flush::Honest).is_ok());
}
