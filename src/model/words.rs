//! Bytes of short texts, eight at a time: as many instructions as a loop needs for one.

/// The highest bit of each of eight bytes.
pub const HIGH: u64 = 0x8080_8080_8080_8080;

/// One in each of eight bytes: times a number below 256, that number in each.
pub const EACH: u64 = 0x0101_0101_0101_0101;

/// Returns whether `test` holds for any byte. It is given eight bytes and sets the highest bit of
/// each for which it does; the other bits mean nothing. A byte may be shown several times.
#[inline]
pub fn any(bytes: &[u8], test: impl Fn(u64) -> u64) -> bool {
    let (words, _) = bytes.as_chunks::<8>();
    let each = words.iter().map(|word| test(u64::from_le_bytes(*word)));
    let found = each.fold(0, |found, word| found | word);
    let last = match bytes.last_chunk::<8>() {
        // With some of those before.
        Some(last) => test(u64::from_le_bytes(*last)),
        None => few(bytes).map_or(0, test),
    };
    (found | last) & HIGH != 0
}

/// Returns fewer than eight bytes as eight; `None` if there are none.
#[inline]
fn few(bytes: &[u8]) -> Option<u64> {
    if let (Some(first), Some(last)) = (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
        let [first, last] = [first, last].map(|half| u64::from(u32::from_le_bytes(*half)));
        return Some(first | last << 32);
    }
    let [first, middle, last] = match *bytes {
        [only] => [only; 3],
        [first, last] => [first, first, last],
        [first, middle, last] => [first, middle, last],
        _ => return None,
    };
    Some(u64::from_le_bytes([
        first, first, first, first, first, first, middle, last,
    ]))
}

#[cfg(test)]
mod tests {
    use super::EACH;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_byte_is_looked_at_and_no_other(
            bytes in prop::collection::vec(0_u8..4, 0..40),
            sought in 0_u8..5,
        ) {
            let is_sought = |word: u64| !((word ^ (EACH * u64::from(sought))) + EACH * 0x7f);
            prop_assert_eq!(super::any(&bytes, is_sought), bytes.contains(&sought));
        }
    }
}
