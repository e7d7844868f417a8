//! Keyed 64-bit hashes: `SipHash-2-4`, written out because its values are stored and must be the
//! same in every process and in every later build.

use crate::model::OrgKey;

/// What a hash is of: equal texts of different purposes have unrelated hashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub(super) enum Purpose {
    /// An email, to find rows that may share it.
    Email = 1,
    /// The same email again: with the first hash it makes 128 bits, enough to call it equal.
    EmailCheck = 2,
    /// An external id, to find rows that may share it.
    ExternalId = 3,
    /// The same external id again.
    ExternalIdCheck = 4,
    /// An organization key.
    Organization = 5,
    /// The user fields of a row.
    Attributes = 6,
}

/// The key of one job's hashes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Keyed(pub(super) u64);

impl Keyed {
    /// Returns the hash of `data`.
    pub(super) fn hash(self, purpose: Purpose, data: &[u8]) -> u64 {
        sip::<2, 4>(self.0, purpose as u64, data)
    }

    /// Returns another hash of `data`, at half the price: for what only has to meet by chance
    /// seldom, and is stored nowhere.
    pub(super) fn quick(self, purpose: Purpose, data: &[u8]) -> u64 {
        sip::<1, 3>(self.0, purpose as u64, data)
    }

    /// Returns the 128 bits by which two emails or ids are called equal.
    pub(super) fn wide(self, purposes: [Purpose; 2], data: &[u8]) -> [u64; 2] {
        purposes.map(|purpose| self.hash(purpose, data))
    }
}

/// Returns the bytes that stand for an organization key: its kind, then its text.
pub(super) fn org_bytes(key: &OrgKey) -> Vec<u8> {
    let kind = match key {
        OrgKey::Id(_) => b'i',
        OrgKey::External(_) => b'e',
        OrgKey::Name(_) => b'n',
    };
    let mut out = Vec::with_capacity(1 + key.as_str().len());
    out.push(kind);
    out.extend_from_slice(key.as_str().as_bytes());
    out
}

struct State([u64; 4]);

impl State {
    fn round(&mut self) {
        let [mut a, mut b, mut c, mut d] = self.0;
        a = a.wrapping_add(b);
        b = b.rotate_left(13) ^ a;
        a = a.rotate_left(32);
        c = c.wrapping_add(d);
        d = d.rotate_left(16) ^ c;
        a = a.wrapping_add(d);
        d = d.rotate_left(21) ^ a;
        c = c.wrapping_add(b);
        b = b.rotate_left(17) ^ c;
        c = c.rotate_left(32);
        self.0 = [a, b, c, d];
    }

    fn word<const ROUNDS: u32>(&mut self, word: u64) {
        self.0[3] ^= word;
        for _ in 0..ROUNDS {
            self.round();
        }
        self.0[0] ^= word;
    }
}

/// `SipHash` (Aumasson and Bernstein, 2012) under the key `k0`, `k1`, with that many rounds for a
/// word and at the end.
fn sip<const WORD: u32, const END: u32>(k0: u64, k1: u64, data: &[u8]) -> u64 {
    let mut state = State([
        k0 ^ 0x736f_6d65_7073_6575,
        k1 ^ 0x646f_7261_6e64_6f6d,
        k0 ^ 0x6c79_6765_6e65_7261,
        k1 ^ 0x7465_6462_7974_6573,
    ]);
    let (words, tail) = data.as_chunks::<8>();
    for word in words {
        state.word::<WORD>(u64::from_le_bytes(*word));
    }
    // The last word holds the length modulo 256 in its highest byte.
    let mut last = [0; 8];
    for (to, from) in last.iter_mut().zip(tail) {
        *to = *from;
    }
    state.word::<WORD>(u64::from_le_bytes(last) | ((data.len() as u64) << 56));
    state.0[2] ^= 0xff;
    for _ in 0..END {
        state.round();
    }
    state.0.into_iter().fold(0, |all, word| all ^ word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sip24_gives_the_published_vectors() {
        let (k0, k1) = (0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908);
        let data: Vec<u8> = (0..15).collect();
        let sip24 = sip::<2, 4>;
        assert_eq!(sip24(k0, k1, &[]), 0x726f_db47_dd0e_0e31);
        assert_eq!(sip24(k0, k1, &data), 0xa129_ca61_49be_45e5);
        assert_eq!(sip24(k0, k1, &data[..8]), 0x93f5_f579_9a93_2462);
    }

    #[test]
    fn fewer_rounds_give_what_the_standard_library_gives() {
        use std::hash::Hasher as _;
        for length in 0..40_u8 {
            let data: Vec<u8> = (0..length).collect();
            let mut theirs = std::hash::DefaultHasher::new();
            theirs.write(&data);
            assert_eq!(sip::<1, 3>(0, 0, &data), theirs.finish());
        }
    }

    #[test]
    fn kinds_and_purposes_do_not_meet() {
        let key = Keyed(7);
        let id = org_bytes(&OrgKey::Id("a".into()));
        let external = org_bytes(&OrgKey::External("a".into()));
        assert_ne!(
            key.hash(Purpose::Organization, &id),
            key.hash(Purpose::Organization, &external)
        );
        assert_ne!(
            key.hash(Purpose::Email, b"a"),
            key.hash(Purpose::EmailCheck, b"a")
        );
    }
}
