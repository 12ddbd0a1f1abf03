//! Memory that grows and shrinks, against a list of bytes, one a page.

use neuron::testing::{Machine, PAGE, SCRATCH};
use nexus_abi::records::ProcessParameters;
use nexus_abi::{Error, SystemCall};
use proptest::prelude::*;

/// Around the borders of the tree of pages, with a quota that not every size fits into.
const SIZES: [u64; 10] = [1, 2, 3, 130, 511, 512, 513, 700, 1_024, 1_300];
const QUOTA_PAGES: u64 = 1_200;

#[derive(Clone, Debug)]
enum Step {
    Resize(u64),
    /// Writes a byte into this page, modulo the size.
    Write(u64, u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        1 => prop::sample::select(&SIZES[..]).prop_map(Step::Resize),
        4 => (any::<u64>(), 1..=u8::MAX).prop_map(|(page, byte)| Step::Write(page, byte)),
    ]
}

/// Pages that memory of this size costs its owner.
fn charge(pages: u64) -> u64 {
    pages
        + if pages == 1 {
            0
        } else if pages <= 512 {
            1
        } else {
            1 + pages.div_ceil(512)
        }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn memory_keeps_what_stays_and_begins_with_zeroes(steps in prop::collection::vec(step(), 1..60)) {
        let mut machine = Machine::new();
        let parameters = ProcessParameters { quota_pages: QUOTA_PAGES, ..machine.parameters() };
        let me = machine.process_with(&parameters);
        let vmo = machine.call(me, SystemCall::VmoCreate, &[0, PAGE]).expect("a quota");
        let reserved = |machine: &mut Machine| machine.status(me.process).expect("alive").reserved_pages;
        let rest = reserved(&mut machine) - 1;
        let mut model = vec![0u8];
        for step in steps {
            match step {
                Step::Resize(pages) => {
                    let fits = rest + charge(pages) <= QUOTA_PAGES;
                    let resized = machine.call(me, SystemCall::VmoResize, &[vmo, pages * PAGE]);
                    prop_assert_eq!(resized, if fits { Ok(0) } else { Err(Error::NoMemory) });
                    if fits {
                        model.resize(pages as usize, 0);
                    }
                }
                Step::Write(page, byte) => {
                    let page = page % model.len() as u64;
                    machine.put(me, SCRATCH, &byte);
                    let write = [vmo, page * PAGE + 7, SCRATCH, 1];
                    prop_assert_eq!(machine.call(me, SystemCall::VmoWrite, &write), Ok(0));
                    model[page as usize] = byte;
                }
            }
            prop_assert_eq!(reserved(&mut machine), rest + charge(model.len() as u64));
        }
        for (page, byte) in model.iter().enumerate() {
            let read = [vmo, page as u64 * PAGE + 7, SCRATCH, 1];
            prop_assert_eq!(machine.call(me, SystemCall::VmoRead, &read), Ok(0));
            prop_assert_eq!(machine.get::<u8>(me, SCRATCH), *byte, "page {}", page);
        }
        let beyond = [vmo, model.len() as u64 * PAGE, SCRATCH, 1];
        prop_assert_eq!(machine.call(me, SystemCall::VmoRead, &beyond), Err(Error::OutOfRange));
        machine.call(me, SystemCall::CapClose, &[vmo]).expect("its own handle");
        machine.settle();
        prop_assert_eq!(reserved(&mut machine), rest);
    }
}
