//! The content of memory under test: no two pages are alike, and every byte follows from its seed, its memfd and its
//! offset. The guest writes it, and the host knows it without asking.

/// The length of a page, in bytes.
pub const PAGE: usize = 4096;

/// The number of a memfd for [`fill_page`]: 24 bits of the FNV-1a hash of its name.
pub fn memfd_number(name: &str) -> u64 {
    let hash = name
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    hash & 0xff_ffff
}

/// The seed of a content that was written over another one; generation 0 is the first content.
pub const fn generation_seed(seed: u64, generation: u8) -> u64 {
    seed ^ (generation as u64) << 56
}

/// Fills page `page` of the memfd with the number `memfd`.
pub fn fill_page(seed: u64, memfd: u64, page: u64, bytes: &mut [u8; PAGE]) {
    let base = mix(seed ^ mix(memfd << 40 ^ page));
    let (words, _) = bytes.as_chunks_mut::<8>();
    for (index, word) in words.iter_mut().enumerate() {
        *word = base.wrapping_add((index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)).to_le_bytes();
    }
}

/// The finaliser of splitmix64: every output bit depends on every input bit.
fn mix(value: u64) -> u64 {
    let value = (value ^ value >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ value >> 31
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
