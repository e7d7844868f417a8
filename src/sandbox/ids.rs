//! Ids as the live API shapes them: a prefix and a ULID that grows with every new entity.

use super::rng::SplitMix;
use serde::{Deserialize, Serialize, Serializer};
use std::fmt;

/// Crockford's base 32: the alphabet of ULIDs.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// Characters of a ULID.
const ULID_CHARS: usize = 26;

/// 48 bits of milliseconds since the Unix epoch, then 80 random bits. Ordered by creation.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Ulid {
    // Two halves instead of one u128: half the alignment, so slots carry no padding.
    high: u64,
    low: u64,
}

impl Ulid {
    /// The greatest ULID.
    #[cfg(test)]
    pub const MAX: Self = Self {
        high: u64::MAX,
        low: u64::MAX,
    };

    fn to_bits(self) -> u128 {
        (u128::from(self.high) << 64) | u128::from(self.low)
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "the two halves are cut on purpose"
    )]
    fn from_bits(bits: u128) -> Self {
        Self {
            high: (bits >> 64) as u64,
            low: bits as u64,
        }
    }

    /// Reads the 26 characters back. Like the live API it takes upper case only.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() != ULID_CHARS {
            return None;
        }
        let mut bits: u128 = 0;
        for (n, byte) in text.bytes().enumerate() {
            let digit = ALPHABET.iter().position(|symbol| *symbol == byte)?;
            // 26 characters hold 130 bits: the first one may only use three of its five.
            if n == 0 && digit > 7 {
                return None;
            }
            bits = (bits << 5) | u128::try_from(digit).ok()?;
        }
        Some(Self::from_bits(bits))
    }
}

impl fmt::Display for Ulid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bits = self.to_bits();
        let mut text = [b'0'; ULID_CHARS];
        for symbol in text.iter_mut().rev() {
            let digit = usize::try_from(bits & 31).unwrap_or_default();
            *symbol = ALPHABET.get(digit).copied().unwrap_or(b'0');
            bits >>= 5;
        }
        f.write_str(std::str::from_utf8(&text).unwrap_or_default())
    }
}

/// What an id names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// `user_…`
    User,
    /// `org_…`
    Organization,
    /// `om_…`
    Membership,
    /// `auth_factor_…`
    Factor,
}

impl Kind {
    const fn prefix(self) -> &'static str {
        match self {
            Self::User => "user_",
            Self::Organization => "org_",
            Self::Membership => "om_",
            Self::Factor => "auth_factor_",
        }
    }

    /// Returns the word of messages.
    pub const fn noun(self) -> &'static str {
        match self {
            Self::User => "User",
            Self::Organization => "Organization",
            Self::Membership => "Organization membership",
            Self::Factor => "Authentication factor",
        }
    }
}

/// An id with its prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct Id(pub Kind, pub Ulid);

impl Id {
    /// Reads an id that must be of `kind`.
    pub fn parse(kind: Kind, text: &str) -> Option<Self> {
        let ulid = Ulid::parse(text.strip_prefix(kind.prefix())?)?;
        Some(Self(kind, ulid))
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.0.prefix(), self.1)
    }
}

impl Serialize for Id {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Makes ids, each greater than every id before it.
#[derive(Clone, Debug)]
pub struct IdSource {
    last: u128,
    rng: SplitMix,
}

impl IdSource {
    /// Starts a source.
    pub const fn new(seed: u64) -> Self {
        Self {
            last: 0,
            rng: SplitMix::new(seed),
        }
    }

    /// Learns of an id made by an earlier process, so that later ones are greater.
    pub fn observe(&mut self, id: Ulid) {
        self.last = self.last.max(id.to_bits());
    }

    /// Returns a new id for the instant `now_ms`, greater than all before even when that clock
    /// went back.
    pub fn next(&mut self, now_ms: i64) -> Ulid {
        let ms = u128::try_from(now_ms).unwrap_or_default() & ((1 << 48) - 1);
        let random = (u128::from(self.rng.next()) << 16) | u128::from(self.rng.next() & 0xffff);
        let fresh = (ms << 80) | random;
        // Within one millisecond the tail counts up by a random step, as monotonic ULIDs do.
        let step = u128::from(self.rng.next() & 0xffff_ffff) + 1;
        self.last = fresh.max(self.last.saturating_add(step));
        Ulid::from_bits(self.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn ids_read_back(high: u64, low: u64) {
            let ulid = Ulid { high, low };
            prop_assert_eq!(Ulid::parse(&ulid.to_string()), Some(ulid));
            let id = Id(Kind::Membership, ulid);
            prop_assert_eq!(Id::parse(Kind::Membership, &id.to_string()), Some(id));
            prop_assert_eq!(Id::parse(Kind::User, &id.to_string()), None);
        }

        #[test]
        fn ids_grow_whatever_the_clock_does(times in prop::collection::vec(0i64..5_000_000_000_000, 1..200)) {
            let mut source = IdSource::new(7);
            let ids: Vec<String> = times.iter().map(|ms| source.next(*ms).to_string()).collect();
            prop_assert!(ids.windows(2).all(|pair| pair[0] < pair[1]));
        }
    }

    #[test]
    fn ids_of_this_era_start_with_01() {
        let id = Id(Kind::User, IdSource::new(1).next(1_790_000_000_000));
        assert!(id.to_string().starts_with("user_01"), "{id}");
        assert_eq!(id.to_string().len(), 31);
    }

    #[test]
    fn what_is_not_an_id_is_refused() {
        for bad in [
            "",
            "user_",
            "user_01",
            "user_81ARZ3NDEKTSV4RRFFQ69G5FAV",
            "user_01arz3ndektsv4rrffq69g5fav",
        ] {
            assert_eq!(Id::parse(Kind::User, bad), None, "{bad}");
        }
        assert!(Ulid::parse(&Ulid::MAX.to_string()).is_some());
    }
}
