//! Keyed hashes: `SipHash-2-4`, written out because its values are stored and must be the same in
//! every process and in every later build, and a quick one for what is stored nowhere.

use super::row::OrgRef;
use crate::model::OrgKey;
use foldhash::SharedSeed;
use foldhash::quality::FoldHasher;
use std::hash::Hasher as _;

/// What a hash is of: equal texts of different purposes have unrelated hashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub(super) enum Purpose {
    /// An email.
    Email = 1,
    /// An external id.
    ExternalId = 3,
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

    /// Returns the 128 bits by which two emails or ids are called equal.
    pub(super) fn wide(self, purpose: Purpose, data: &[u8]) -> [u64; 2] {
        sip_wide::<2, 4>(self.0, purpose as u64, data)
    }

    /// Returns the quick hash under the same key.
    pub(super) fn quick(self) -> Quick {
        Quick(SharedSeed::from_u64(self.0))
    }
}

/// Hashes for what only has to meet by chance seldom, and is stored nowhere: a fraction of the
/// price, and a foldhash of the next version may be another.
#[derive(Clone, Debug)]
pub(super) struct Quick(SharedSeed);

impl Quick {
    /// Returns the hash of `data`.
    #[inline]
    pub(super) fn hash(&self, purpose: Purpose, data: &[u8]) -> u64 {
        let mut hasher = FoldHasher::with_seed(purpose as u64, &self.0);
        hasher.write(data);
        hasher.finish()
    }

    /// Returns the hash of several texts.
    #[inline]
    pub(super) fn hash_of(&self, purpose: Purpose, texts: &[&str]) -> u64 {
        let mut hasher = FoldHasher::with_seed(purpose as u64, &self.0);
        for text in texts {
            // The length in front keeps `a`, `bc` apart from `ab`, `c`.
            hasher.write_usize(text.len());
            hasher.write(text.as_bytes());
        }
        hasher.finish()
    }
}

/// Returns the bytes that stand for an organization key.
pub(super) fn org_bytes(key: &OrgKey) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 + key.as_str().len());
    put_org(OrgRef::of(key), &mut out);
    out
}

/// Appends the bytes that stand for an organization: its kind, then its text.
pub(super) fn put_org(org: OrgRef<'_>, out: &mut Vec<u8>) {
    let (kind, text) = match org {
        OrgRef::Id(text) => (b'i', text),
        OrgRef::External(text) => (b'e', text),
        OrgRef::Name(text) => (b'n', text),
    };
    out.push(kind);
    out.extend_from_slice(text.as_bytes());
}

struct State([u64; 4]);

impl State {
    fn new(k0: u64, k1: u64) -> Self {
        Self([
            k0 ^ 0x736f_6d65_7073_6575,
            k1 ^ 0x646f_7261_6e64_6f6d,
            k0 ^ 0x6c79_6765_6e65_7261,
            k1 ^ 0x7465_6462_7974_6573,
        ])
    }

    fn take<const ROUNDS: u32>(&mut self, data: &[u8]) {
        let (words, tail) = data.as_chunks::<8>();
        for word in words {
            self.word::<ROUNDS>(u64::from_le_bytes(*word));
        }
        // The last word holds the length modulo 256 in its highest byte.
        let mut last = [0; 8];
        for (to, from) in last.iter_mut().zip(tail) {
            *to = *from;
        }
        self.word::<ROUNDS>(u64::from_le_bytes(last) | ((data.len() as u64) << 56));
    }

    fn end<const ROUNDS: u32>(&mut self, mark: u64) -> u64 {
        self.0[2] ^= mark;
        for _ in 0..ROUNDS {
            self.round();
        }
        self.0.into_iter().fold(0, |all, word| all ^ word)
    }

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
    let mut state = State::new(k0, k1);
    state.take::<WORD>(data);
    state.end::<END>(0xff)
}

/// `SipHash` with its 128 bits, which cost little more than 64.
fn sip_wide<const WORD: u32, const END: u32>(k0: u64, k1: u64, data: &[u8]) -> [u64; 2] {
    let mut state = State::new(k0, k1);
    state.0[1] ^= 0xee;
    state.take::<WORD>(data);
    let low = state.end::<END>(0xee);
    state.0[1] ^= 0xdd;
    [low, state.end::<END>(0)]
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
    fn wide_sip24_gives_the_published_vectors() {
        let (k0, k1) = (0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908);
        let bytes = |data: &[u8]| sip_wide::<2, 4>(k0, k1, data).map(u64::to_be_bytes);
        let swapped = |words: [u64; 2]| words.map(|word| word.swap_bytes().to_be_bytes());
        assert_eq!(
            bytes(&[]),
            swapped([0xa381_7f04_ba25_a8e6, 0x6df6_7214_c755_0293])
        );
        assert_eq!(
            bytes(&[0]),
            swapped([0xda87_c1d8_6b99_af44, 0x3476_5911_9b22_fc45])
        );
    }

    #[test]
    fn quick_hashes_depend_on_key_purpose_and_text() {
        let hash = |key, purpose, data: &[u8]| Keyed(key).quick().hash(purpose, data);
        let one = hash(1, Purpose::Email, b"a@x.org");
        assert_eq!(one, hash(1, Purpose::Email, b"a@x.org"));
        assert_ne!(one, hash(2, Purpose::Email, b"a@x.org"));
        assert_ne!(one, hash(1, Purpose::ExternalId, b"a@x.org"));
        assert_ne!(one, hash(1, Purpose::Email, b"b@x.org"));
        let hash_of = |texts: &[&str]| Keyed(1).quick().hash_of(Purpose::Email, texts);
        assert_eq!(hash_of(&["a", "bc"]), hash_of(&["a", "bc"]));
        assert_ne!(hash_of(&["a", "bc"]), hash_of(&["ab", "c"]));
        assert_ne!(hash_of(&["a", ""]), hash_of(&["", "a"]));
    }

    #[test]
    fn fewer_rounds_give_what_the_standard_library_gives() {
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
            key.hash(Purpose::ExternalId, b"a")
        );
    }
}
