//! The device on a host: for tests, and for the simulator.

use crate::{DATA, DIRECTORY_ITEM, NAME_BYTES, SELECTOR, SIGNATURE, SIGNATURE_ITEM};

/// The selector of the first named item.
const FIRST_NAMED: u16 = 0x20;

/// Items, and how far the selected one was read.
#[derive(Clone, Debug, Default)]
pub struct Model {
    items: Vec<(u16, Vec<u8>)>,
    selected: u16,
    at: usize,
}

impl Model {
    /// A device with these named items.
    pub fn new(named: &[(&str, &[u8])]) -> Self {
        let selectors = FIRST_NAMED..;
        let mut directory = (named.len() as u32).to_be_bytes().to_vec();
        for ((name, contents), selector) in named.iter().zip(selectors.clone()) {
            directory.extend((contents.len() as u32).to_be_bytes());
            directory.extend(selector.to_be_bytes());
            directory.extend([0; 2]);
            let room = directory.len() + NAME_BYTES;
            directory.extend(name.bytes());
            directory.resize(room, 0);
        }
        let items =
            named.iter().zip(selectors).map(|((_, contents), selector)| (selector, contents.to_vec()));
        let mut model = Model::default().with(SIGNATURE_ITEM, &SIGNATURE).with(DIRECTORY_ITEM, &directory);
        model.items.extend(items);
        model
    }

    /// The device with this item instead of the one of this selector.
    #[must_use]
    pub fn with(mut self, selector: u16, contents: &[u8]) -> Self {
        self.items.retain(|(other, _)| *other != selector);
        self.items.push((selector, contents.to_vec()));
        self
    }

    /// Reads a register of one byte. Behind the end of an item, and of one that is not there, all bytes are zero.
    pub fn load(&mut self, offset: u64) -> u8 {
        if offset != DATA as u64 {
            return 0;
        }
        let selected = self.items.iter().find(|(selector, _)| *selector == self.selected);
        let byte = selected.and_then(|(_, contents)| contents.get(self.at)).copied();
        self.at += 1;
        byte.unwrap_or(0)
    }

    /// Writes a register of two bytes.
    pub fn store(&mut self, offset: u64, value: u16) {
        if offset == SELECTOR as u64 {
            (self.selected, self.at) = (u16::from_be(value), 0);
        }
    }
}
