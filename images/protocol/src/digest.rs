/// The 64-bit FNV-1a digest of `bytes`, as 16 hex digits. It finds pages that differ by accident; it is not
/// cryptographic.
pub fn digest(bytes: &[u8]) -> String {
    let fold = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    format!("{:016x}", bytes.iter().fold(0xcbf2_9ce4_8422_2325, fold))
}

#[cfg(test)]
mod tests {
    use super::digest;

    /// The test vectors of draft-eastlake-fnv, appendix C.
    #[test]
    fn it_is_the_published_one() {
        assert_eq!(digest(b""), "cbf29ce484222325");
        assert_eq!(digest(b"a"), "af63dc4c8601ec8c");
        assert_eq!(digest(b"foobar"), "85944171f73967e8");
    }
}
