//! The small integers that stand for words in the tables. A code is for ever: new words get new
//! numbers, and no number is used twice.

use super::error::Fault;
use crate::model::{Evidence, MembershipState, Origin, RowState, Step};

/// A word with a number of its own.
pub(super) trait Code: Sized + Copy {
    /// Returns its number.
    fn code(self) -> i64;
    /// Finds the word of a stored number.
    fn of(code: i64) -> Result<Self, Fault>;
}

macro_rules! codes {
    ($type:ident { $($variant:ident = $code:literal,)+ }) => {
        impl Code for $type {
            fn code(self) -> i64 {
                match self { $(Self::$variant => $code,)+ }
            }

            fn of(code: i64) -> Result<Self, Fault> {
                match code {
                    $($code => Ok(Self::$variant),)+
                    _ => Err(unknown(code, stringify!($type))),
                }
            }
        }
    };
}

codes!(RowState {
    Created = 1,
    Recovered = 2,
    Linked = 3,
    Updated = 4,
    Merged = 5,
    Skipped = 6,
    Failed = 7,
    Parked = 8,
});

codes!(Step {
    Validation = 1,
    Organization = 2,
    User = 3,
    Membership = 4,
    Factor = 5,
    Locale = 6,
});

codes!(MembershipState {
    Created = 1,
    Recovered = 2,
    Existing = 3,
    Reactivated = 4,
    Failed = 5,
});

impl Code for Origin {
    fn code(self) -> i64 {
        match self {
            Self::Before => 0,
            Self::Made(Evidence::Answered) => 1,
            Self::Made(Evidence::Dated) => 2,
            Self::Made(Evidence::Weak) => 3,
        }
    }

    fn of(code: i64) -> Result<Self, Fault> {
        match code {
            0 => Ok(Self::Before),
            1 => Ok(Self::Made(Evidence::Answered)),
            2 => Ok(Self::Made(Evidence::Dated)),
            3 => Ok(Self::Made(Evidence::Weak)),
            _ => Err(unknown(code, "Origin")),
        }
    }
}

fn unknown(code: i64, kind: &str) -> Fault {
    Fault::Stored(format!("{code} stands for no {kind}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check<T: Code + PartialEq + std::fmt::Debug>(all: &[T]) {
        for word in all {
            assert_eq!(&T::of(word.code()).unwrap(), word);
        }
        assert!(T::of(99).is_err());
    }

    #[test]
    fn every_word_has_a_number_of_its_own() {
        check(RowState::ALL);
        check(Step::ALL);
        check(MembershipState::ALL);
        let made = Evidence::ALL.iter().map(|evidence| Origin::Made(*evidence));
        check(&made.chain([Origin::Before]).collect::<Vec<_>>());
    }

    /// Ledgers on disks hold these numbers: this test may only grow.
    #[test]
    fn numbers_never_change() {
        let states: Vec<i64> = RowState::ALL.iter().map(|state| state.code()).collect();
        assert_eq!(states, [1, 2, 3, 4, 5, 6, 7, 8]);
        let steps: Vec<i64> = Step::ALL.iter().map(|step| step.code()).collect();
        assert_eq!(steps, [1, 2, 3, 4, 5, 6]);
        let memberships: Vec<i64> = MembershipState::ALL
            .iter()
            .map(|state| state.code())
            .collect();
        assert_eq!(memberships, [1, 2, 3, 4, 5]);
    }
}
