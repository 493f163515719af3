//! The content of memory under test: no two pages are alike, and every byte follows from its seed, its memfd and its offset.

use crate::mapping::PAGE;
use luqual_program::mix;

/// Fills page `page` of the memfd with the number `memfd`.
pub(crate) fn fill_page(seed: u64, memfd: u64, page: u64, bytes: &mut [u8; PAGE]) {
    let base = mix(seed ^ mix(memfd << 40 ^ page));
    let (words, _) = bytes.as_chunks_mut::<8>();
    for (index, word) in words.iter_mut().enumerate() {
        *word = base.wrapping_add((index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)).to_le_bytes();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn no_two_pages_are_alike() {
        let mut seen = HashSet::new();
        for seed in [0, 1, u64::MAX] {
            for memfd in 0..5 {
                for page in 0..300 {
                    let mut bytes = [0; PAGE];
                    fill_page(seed, memfd, page, &mut bytes);
                    assert!(seen.insert(bytes), "seed {seed} memfd {memfd} page {page}");
                }
            }
        }
    }

    #[test]
    fn a_page_is_not_zero_and_the_same_twice() {
        let (mut first, mut second) = ([0; PAGE], [0; PAGE]);
        fill_page(7, 1, 2, &mut first);
        fill_page(7, 1, 2, &mut second);
        assert_eq!(first, second);
        assert!(first.chunks(64).all(|line| line.iter().any(|byte| *byte != 0)));
    }
}
