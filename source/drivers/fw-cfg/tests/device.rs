//! Finding and reading items of a device that is as it should be, and of others.

use fw_cfg::host::Model;
use fw_cfg::{FwCfg, FwCfgError, ITEMS_MAX, REGISTER_BYTES};
use mmio::{Window, host};
use proptest::prelude::*;
use std::cell::{Cell, RefCell};
use std::rc::Rc;

const BASE: u64 = 0x1010_0000;
const DIRECTORY: u16 = 0x19;

struct Board {
    model: RefCell<Model>,
    loads: Cell<usize>,
}

impl host::Bus for Board {
    fn load(&self, address: u64, bytes: u32) -> u64 {
        assert_eq!(bytes, 1, "data are read byte by byte");
        self.loads.set(self.loads.get() + 1);
        self.model.borrow_mut().load(address - BASE).into()
    }

    fn store(&self, address: u64, bytes: u32, value: u64) {
        assert_eq!(bytes, 2, "the selector is of two bytes");
        self.model.borrow_mut().store(address - BASE, value as u16);
    }
}

/// What `act` finds with a device; and how many bytes were read.
fn with<T>(model: Model, act: impl FnOnce(Result<FwCfg, FwCfgError>) -> T) -> (T, usize) {
    let board = Rc::new(Board { model: RefCell::new(model), loads: Cell::new(0) });
    host::install(Some(board.clone()));
    // SAFETY: nothing is accessed: the bus is installed.
    let window = unsafe { Window::new(BASE as *mut u8, REGISTER_BYTES) };
    let found = act(FwCfg::open(window));
    host::install(None);
    (found, board.loads.get())
}

/// The item of this name, of so many bytes.
fn item(model: Model, name: &str, bytes: usize) -> Result<Option<Vec<u8>>, FwCfgError> {
    let read = |device: FwCfg| {
        let Some(item) = device.find(name)? else { return Ok(None) };
        let mut contents = vec![0; bytes];
        device.read(item, &mut contents).map(|()| Some(contents))
    };
    with(model, |device| device.and_then(read)).0
}

#[test]
fn an_item_is_found_by_its_whole_name() {
    let items: [(&str, &[u8]); 3] = [("opt/a", b"first"), ("opt/ab", b"second"), ("etc/boot", b"")];
    let found = |name, bytes| item(Model::new(&items), name, bytes);
    assert_eq!(found("opt/a", 5), Ok(Some(b"first".to_vec())));
    assert_eq!(found("opt/ab", 6), Ok(Some(b"second".to_vec())));
    assert_eq!(found("etc/boot", 0), Ok(Some(Vec::new())));
    assert_eq!(found("opt", 0), Ok(None));
    assert_eq!(found("opt/abc", 0), Ok(None));
    assert_eq!(item(Model::new(&[]), "opt/a", 5), Ok(None));
}

#[test]
fn test_reject_an_item_of_another_length() {
    for bytes in [0, 4, 6] {
        assert_eq!(item(Model::new(&[("opt/a", b"first")]), "opt/a", bytes), Err(FwCfgError::BadLength));
    }
}

#[test]
fn test_reject_a_device_that_is_none_and_a_window_that_is_too_small() {
    assert_eq!(item(Model::new(&[]).with(0, b"QEMO"), "opt/a", 0), Err(FwCfgError::NoDevice));
    assert_eq!(item(Model::default(), "opt/a", 0), Err(FwCfgError::NoDevice));
    // SAFETY: nothing is accessed.
    let small = unsafe { Window::new(BASE as *mut u8, REGISTER_BYTES - 1) };
    assert_eq!(FwCfg::open(small).err(), Some(FwCfgError::SmallWindow));
}

#[test]
fn test_reject_a_directory_with_more_entries_than_any_has_without_reading_them() {
    for entries in [ITEMS_MAX + 1, u32::MAX] {
        let model = Model::new(&[]).with(DIRECTORY, &entries.to_be_bytes());
        let (found, loads) = with(model, |device| device.unwrap().find("opt/a"));
        assert_eq!((found, loads), (Err(FwCfgError::BadDirectory), 8));
    }
}

proptest! {
    #[test]
    fn any_directory_is_read_to_an_end_and_never_panics(
        directory in prop::collection::vec(any::<u8>(), 0..400),
        entries in 0..=32u32,
        name in ".{0,60}",
    ) {
        let contents = [&entries.to_be_bytes()[..], &directory].concat();
        let model = Model::new(&[]).with(DIRECTORY, &contents);
        let (found, loads) = with(model, |device| device.unwrap().find(&name));
        prop_assert!(found.is_ok());
        prop_assert!(loads <= 8 + 64 * entries as usize);
    }
}
