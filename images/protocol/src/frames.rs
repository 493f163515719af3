//! Numbered Ethernet frames: the host sends them to a network card of the guest, and the guest records which arrived.

/// Length of a frame in bytes, without its frame check sequence.
pub const LENGTH: usize = 60;

/// The Ethernet header: broadcast, from a locally administered address, with IEEE 802's local experimental EtherType
/// 1.
const HEAD: [u8; 14] = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x52, 0x54, 0, b'l', b'u', b'q', 0x88, 0xb5];

/// The frame with the number `number`.
pub fn numbered(number: u32) -> [u8; LENGTH] {
    let mut frame = [0; LENGTH];
    frame[..HEAD.len()].copy_from_slice(&HEAD);
    // The number is there twice, so that half a frame is not valid.
    frame[HEAD.len()..HEAD.len() + 4].copy_from_slice(&number.to_le_bytes());
    frame[LENGTH - 4..].copy_from_slice(&number.to_le_bytes());
    frame
}

/// The number of a frame; `None` if it is not a complete frame of this kind.
pub fn number(frame: &[u8]) -> Option<u32> {
    let number = u32::from_le_bytes(frame.get(HEAD.len()..HEAD.len() + 4)?.try_into().ok()?);
    (frame.get(..LENGTH)? == numbered(number)).then_some(number)
}

/// Joins numbers into runs of consecutive numbers: the first and the last of each.
pub fn runs(mut numbers: Vec<u32>) -> Vec<(u32, u32)> {
    numbers.sort_unstable();
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for number in numbers {
        match runs.last_mut() {
            Some((_, last)) if number <= last.saturating_add(1) => *last = number,
            _ => runs.push((number, number)),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_frame_has_its_number_and_anything_else_has_none() {
        for wanted in [0, 1, 0x0102_0304, u32::MAX] {
            let mut frame = numbered(wanted).to_vec();
            assert_eq!(number(&frame), Some(wanted));
            frame.extend([1, 2, 3, 4]);
            assert_eq!(number(&frame), Some(wanted), "with a check sequence");
            assert_eq!(number(&frame[..LENGTH - 1]), None);
            frame[LENGTH - 1] ^= 1;
            assert_eq!(number(&frame), None);
        }
        assert_eq!(number(&[0; LENGTH]), None);
    }

    #[test]
    fn runs_are_of_what_follows_on_each_other() {
        assert_eq!(runs(vec![3, 1, 2, 2, 9, 7, 8, 20]), [(1, 3), (7, 9), (20, 20)]);
        assert_eq!(runs(Vec::new()), []);
        assert_eq!(runs(vec![u32::MAX, u32::MAX]), [(u32::MAX, u32::MAX)]);
    }
}
