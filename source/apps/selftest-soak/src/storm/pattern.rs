//! What messages hold: words that follow from the number of the message, so that whoever has it can check them.

/// Words of a page.
pub const PAGE_WORDS: usize = nexus_abi::limits::PAGE_SIZE / 8;

/// The word at a place. The first is the number itself.
pub const fn word(number: u64, place: usize) -> u64 {
    let place = place as u64;
    number ^ place.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left((number & 31) as u32)
}

/// Writes the pattern of a number.
pub fn fill(words: &mut [u64], number: u64) {
    for (place, at) in words.iter_mut().enumerate() {
        *at = word(number, place);
    }
}

/// The first place that is not as the pattern says.
pub fn differs(words: &[u64], number: u64) -> Option<usize> {
    words.iter().enumerate().find(|&(place, &at)| at != word(number, place)).map(|(place, _)| place)
}

/// A pattern as it stands in memory.
pub fn bytes(words: &[u64]) -> &[u8] {
    // SAFETY: the same memory; every word is eight bytes, and bytes need no alignment.
    unsafe { core::slice::from_raw_parts(words.as_ptr().cast(), size_of_val(words)) }
}

/// Words as the bytes that something is copied into.
pub fn bytes_mut(words: &mut [u64]) -> &mut [u8] {
    // SAFETY: as above; any bytes are words.
    unsafe { core::slice::from_raw_parts_mut(words.as_mut_ptr().cast(), size_of_val(words)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_changed_word_and_every_other_number_is_noticed() {
        let mut words = [0; 64];
        fill(&mut words, 7);
        assert_eq!((words[0], differs(&words, 7)), (7, None));
        for number in [0, 6, 8, !7, 7 << 32] {
            assert_eq!(differs(&words, number), Some(0), "{number}");
        }
        for place in 0..words.len() {
            words[place] ^= 1 << (place % 64);
            assert_eq!(differs(&words, 7), Some(place));
            words[place] = word(7, place);
        }
    }

    #[test]
    fn no_word_stands_at_two_places() {
        let mut words: Vec<u64> = (0..16 * PAGE_WORDS).map(|place| word(0x1234_5678, place)).collect();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), 16 * PAGE_WORDS);
    }
}
