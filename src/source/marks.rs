//! Which bytes of 64 are marks, and whole records found by that alone.
//!
//! # Never
//! Decides what is unusual: a quote in a place where RFC 4180 has none, a record that goes on
//! beyond the bytes at hand. Those are left to [`super::records`], which looks field by field.

use wide::u8x16;

/// Bytes that are looked at together.
pub(super) const BLOCK: usize = 64;

/// Marks among 64 bytes: bit n is set when byte n is one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Masks {
    /// Delimiters.
    pub(super) delimiters: u64,
    /// `\n` and `\r`.
    pub(super) line_ends: u64,
    /// Quotes.
    pub(super) quotes: u64,
}

impl Masks {
    /// Looks at a block.
    #[inline]
    pub(super) fn of<const DELIMITER: u8>(block: &[u8; BLOCK]) -> Self {
        Self {
            delimiters: equal(block, &[DELIMITER]),
            line_ends: equal(block, b"\n\r"),
            quotes: equal(block, b"\""),
        }
    }

    /// Looks at block number `block` of `bytes`; `None` when none of it is there. Where less than
    /// the whole is, the rest has no marks.
    #[inline]
    pub(super) fn at<const DELIMITER: u8>(bytes: &[u8], block: usize) -> Option<Self> {
        let rest = bytes.get(block * BLOCK..).filter(|it| !it.is_empty())?;
        Some(match rest.first_chunk::<BLOCK>() {
            Some(whole) => Self::of::<DELIMITER>(whole),
            None => Self::of_part::<DELIMITER>(rest),
        })
    }

    #[cold]
    fn of_part<const DELIMITER: u8>(rest: &[u8]) -> Self {
        // What is added is no mark.
        let mut bytes = [0; BLOCK];
        for (to, from) in bytes.iter_mut().zip(rest) {
            *to = *from;
        }
        Self::of::<DELIMITER>(&bytes)
    }

    /// Returns all of them.
    #[inline]
    pub(super) fn any(self) -> u64 {
        self.delimiters | self.line_ends | self.quotes
    }
}

/// Returns a bit for every byte that is one of `marks`.
#[inline]
fn equal<const N: usize>(block: &[u8; BLOCK], marks: &[u8; N]) -> u64 {
    let (quarters, _) = block.as_chunks::<16>();
    quarters.iter().rev().fold(0, |bits, quarter| {
        let bytes = u8x16::new(*quarter);
        let found = marks.iter().fold(u8x16::splat(0), |found, mark| {
            found | bytes.simd_eq(u8x16::splat(*mark))
        });
        bits << 16 | u64::from(found.to_bitmask())
    })
}

/// Bytes whose records are taken one after another: a block is looked at once for all records that
/// lie in it.
#[derive(Clone, Debug)]
pub(super) struct Blocks<'a> {
    bytes: &'a [u8],
    seen: SeenBlock,
}

/// The block that was looked at last.
#[derive(Clone, Copy, Debug)]
pub(super) struct SeenBlock {
    /// Its number.
    block: usize,
    masks: Masks,
}

impl Default for SeenBlock {
    fn default() -> Self {
        Self {
            block: usize::MAX,
            masks: Masks::default(),
        }
    }
}

impl<'a> Blocks<'a> {
    /// Starts.
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self::resume(bytes, SeenBlock::default())
    }

    /// Goes on in the same bytes.
    pub(super) const fn resume(bytes: &'a [u8], seen: SeenBlock) -> Self {
        Self { bytes, seen }
    }

    /// Returns what [`Blocks::resume`] goes on with.
    pub(super) const fn seen(&self) -> SeenBlock {
        self.seen
    }

    /// Returns the bytes.
    pub(super) fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Returns the marks of a whole block.
    #[inline]
    fn masks<const DELIMITER: u8>(&mut self, block: usize) -> Option<Masks> {
        if block != self.seen.block {
            let whole = self.bytes.get(block * BLOCK..)?.first_chunk::<BLOCK>()?;
            let masks = Masks::of::<DELIMITER>(whole);
            self.seen = SeenBlock { block, masks };
        }
        Some(self.seen.masks)
    }

    /// Returns the length of the record at `start`, its line end included, and calls `visit` with
    /// the offset at which each of its fields ends. `None` when something about it is unusual; what
    /// was visited means nothing then.
    #[inline]
    pub(super) fn record<const DELIMITER: u8>(
        &mut self,
        start: usize,
        mut visit: impl FnMut(usize),
    ) -> Option<usize> {
        let mut block = start / BLOCK;
        let mut live = u64::MAX << (start % BLOCK);
        // A field starts here, so a quote may open it.
        let mut carry = Carry {
            inside: 0,
            may_open: 1 << (start % BLOCK),
            closed: 0,
        };
        loop {
            let masks = self.masks::<DELIMITER>(block)?;
            let (cuts, odd) = carry.over(masks, live);
            let line_end = cuts & masks.line_ends;
            // All bits up to the first line end, or all.
            let here = line_end ^ line_end.wrapping_sub(1);
            if odd & here != 0 {
                return None;
            }
            let base = block * BLOCK;
            let mut fields = cuts & here;
            while fields != 0 {
                visit((base + fields.trailing_zeros() as usize).wrapping_sub(start));
                fields &= fields - 1;
            }
            if line_end != 0 {
                let end = base + line_end.trailing_zeros() as usize;
                return self.after_line_end(end).map(|after| after - start);
            }
            block += 1;
            live = u64::MAX;
        }
    }

    /// Returns the offset after the line end at `end`; `None` if more than these bytes tell.
    #[inline]
    fn after_line_end(&self, end: usize) -> Option<usize> {
        if self.bytes.get(end) == Some(&b'\n') {
            return Some(end + 1);
        }
        let next = *self.bytes.get(end + 1)?;
        Some(end + 1 + usize::from(next == b'\n'))
    }
}

/// What a block has to know of the one before it.
struct Carry {
    /// All bits when a quote is open.
    inside: u64,
    /// The first bit when a quote may open there.
    may_open: u64,
    /// The first bit when a quote was closed right before.
    closed: u64,
}

impl Carry {
    /// Returns the delimiters and line ends outside of quotes, and what is unusual: bytes at which
    /// a quote opens inside a field, or after a closing quote neither field nor record ends. What
    /// stands before the first of the latter is right.
    #[inline]
    fn over(&mut self, masks: Masks, live: u64) -> (u64, u64) {
        let marks = masks.delimiters | masks.line_ends;
        let quotes = masks.quotes & live;
        if quotes | self.inside | self.closed == 0 {
            self.may_open = marks >> 63;
            return (marks & live, 0);
        }
        // Bits of bytes inside of quotes, that of the opening quote included.
        let open = parity(quotes) ^ self.inside;
        let closing = quotes & !open;
        // A quote right behind a closing one is a doubled one.
        let may_open = (marks | quotes) << 1 | self.may_open;
        let closed = closing << 1 | self.closed;
        let odd = (quotes & open & !may_open) | (closed & !(marks | quotes));
        self.inside = 0_u64.wrapping_sub(open >> 63);
        self.may_open = (marks | quotes) >> 63;
        self.closed = closing >> 63;
        (marks & !open & live, odd)
    }
}

/// Returns for every bit whether an odd number of bits is set up to it.
#[inline]
fn parity(bits: u64) -> u64 {
    let mut out = bits;
    for shift in [1, 2, 4, 8, 16, 32] {
        out ^= out << shift;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_mark_has_its_bit(bytes in prop::collection::vec(any::<u8>(), BLOCK)) {
            let mut block = [0; BLOCK];
            block.copy_from_slice(&bytes);
            let masks = Masks::of::<b';'>(&block);
            for (at, byte) in bytes.iter().enumerate() {
                let is_set = |bits: u64| bits >> at & 1 == 1;
                prop_assert_eq!(is_set(masks.delimiters), *byte == b';', "byte {}", at);
                prop_assert_eq!(is_set(masks.line_ends), matches!(byte, b'\n' | b'\r'));
                prop_assert_eq!(is_set(masks.quotes), *byte == b'"');
            }
        }

        #[test]
        fn parity_counts_the_bits_below(bits in any::<u64>(), at in 0..64_u32) {
            let below = (bits << (63 - at)).count_ones();
            prop_assert_eq!(parity(bits) >> at & 1, u64::from(below % 2));
        }
    }
}
