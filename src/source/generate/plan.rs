//! Which row is what: exact shares, spread by chance.

use super::{GenerateArgs, GenerateError};

/// A small generator of chance with a published recurrence, so that a seed means the same bytes
/// in every build.
#[derive(Clone, Debug)]
pub(super) struct Chance(u64);

impl Chance {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Returns the next 64 bits (splitmix64).
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// Returns a number below `bound`, or 0 when `bound` is 0.
    pub(super) fn below(&mut self, bound: u32) -> u32 {
        let scaled = (u128::from(self.next()) * u128::from(bound)) >> 64;
        u32::try_from(scaled).unwrap_or_default()
    }
}

/// What a row is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The `membership`-th organization of a user, both from 0.
    Member {
        /// Which user.
        user: u32,
        /// Which of its organizations.
        membership: u32,
    },
    /// A row that breaks a rule.
    Bad,
}

/// The rows still to come.
#[derive(Debug)]
pub(super) struct Plan {
    chance: Chance,
    orgs: u32,
    left: u32,
    bad: u32,
    duplicates: u32,
    multi: u32,
    /// Organizations each user is in so far; kept only while users get more than one.
    memberships: Option<Vec<u32>>,
    /// Users that are not in every organization yet.
    roomy: Vec<u32>,
    users: u32,
}

impl Plan {
    pub(super) fn new(args: &GenerateArgs) -> Result<Self, GenerateError> {
        let bad = args.bad.of(args.rows);
        let duplicates = args.duplicates.of(args.rows);
        let multi = args.multi_org.of(args.rows);
        let special = [bad, duplicates, multi].map(u64::from).iter().sum::<u64>();
        let refuse = |words: &str| Err(GenerateError::Arguments(words.to_owned()));
        let fresh = u64::from(args.rows).saturating_sub(special);
        if special > u64::from(args.rows) {
            return refuse("--multi-org, --duplicates and --bad add up to more than 100%");
        }
        if multi > 0 && args.orgs < 2 {
            return refuse("--multi-org needs --orgs 2 or more");
        }
        if fresh == 0 && (multi > 0 || duplicates > 0) {
            return refuse("--multi-org and --duplicates leave no user to repeat");
        }
        if u64::from(multi) > fresh * u64::from(args.orgs.saturating_sub(1)) {
            return refuse("--multi-org asks for more organizations per user than --orgs has");
        }
        Ok(Self {
            chance: Chance::new(args.seed ^ 0x726f_7773),
            orgs: args.orgs,
            left: args.rows,
            bad,
            duplicates,
            multi,
            memberships: (multi > 0).then(Vec::new),
            roomy: Vec::new(),
            users: 0,
        })
    }

    /// Returns what the next row is; every share comes out exact at the end.
    pub(super) fn next_row(&mut self) -> Option<Kind> {
        let draw = self.chance.below(self.left);
        self.left = self.left.checked_sub(1)?;
        if draw < self.bad {
            self.bad -= 1;
            return Some(Kind::Bad);
        }
        let draw = draw - self.bad;
        // What cannot be now stays due: a user comes first, which makes room for it.
        let kind = if draw < self.duplicates {
            self.duplicate().or_else(|| self.another_organization())
        } else if draw - self.duplicates < self.multi {
            self.another_organization().or_else(|| self.duplicate())
        } else {
            self.fresh().or_else(|| self.another_organization())
        };
        kind.or_else(|| self.fresh()).or_else(|| self.duplicate())
    }

    /// Returns how many rows are neither bad nor repeats from here on, this one included.
    fn fresh_left(&self) -> u32 {
        (self.left + 1).saturating_sub(self.bad + self.duplicates + self.multi)
    }

    fn fresh(&mut self) -> Option<Kind> {
        if self.fresh_left() == 0 {
            return None;
        }
        let user = self.users;
        self.users += 1;
        if let Some(memberships) = &mut self.memberships {
            memberships.push(1);
            self.roomy.push(user);
        }
        Some(Kind::Member {
            user,
            membership: 0,
        })
    }

    fn another_organization(&mut self) -> Option<Kind> {
        if self.multi == 0 || self.roomy.is_empty() {
            return None;
        }
        let pick = self
            .chance
            .below(u32::try_from(self.roomy.len()).unwrap_or(u32::MAX)) as usize;
        let user = *self.roomy.get(pick)?;
        let count = self.memberships.as_mut()?.get_mut(user as usize)?;
        let membership = *count;
        *count += 1;
        if *count == self.orgs {
            self.roomy.swap_remove(pick);
        }
        self.multi -= 1;
        Some(Kind::Member { user, membership })
    }

    fn duplicate(&mut self) -> Option<Kind> {
        if self.duplicates == 0 || self.users == 0 {
            return None;
        }
        let user = self.chance.below(self.users);
        let known = self
            .memberships
            .as_ref()
            .and_then(|all| all.get(user as usize).copied());
        let membership = self.chance.below(known.unwrap_or(1));
        self.duplicates -= 1;
        Some(Kind::Member { user, membership })
    }
}
