//! What became of a row: its state, the entities behind it and the evidence.

use super::RowNumber;
use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($(#[$vmeta:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$meta])*
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        pub enum $name { $($(#[$vmeta])* $variant,)+ }

        impl $name {
            /// Every value, in the order of reports.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// Returns the stable word used in reports, in the ledger and in JSON.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }

            /// Reads the stable word back.
            pub fn from_word(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|value| value.as_str() == word)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }
    };
}

words!(
    /// The state of a settled row. A row without one is `pending`.
    RowState {
        /// This job made the user, and our own 2xx says so.
        Created = "created",
        /// This job made the user; the answer was lost and looked up.
        Recovered = "recovered",
        /// The user existed before this job.
        Linked = "linked",
        /// The user existed before this job and fields of it were changed.
        Updated = "updated",
        /// A follower: its leader's user got this row's membership.
        Merged = "merged",
        /// Left alone by policy.
        Skipped = "skipped",
        /// Definitive evidence against this row, at a named step.
        Failed = "failed",
        /// Unclear: needs a person.
        Parked = "parked",
    }
);

words!(
    /// The step at which a row failed or was parked.
    Step {
        /// Local rules, before any request.
        Validation = "validation",
        /// Finding or making its organization.
        Organization = "organization",
        /// Finding or making the user.
        User = "user",
        /// Adding the membership.
        Membership = "membership",
        /// Enrolling the second factor.
        Factor = "factor",
        /// Setting the user's locale.
        Locale = "locale",
    }
);

words!(
    /// How we know that this job made an entity.
    Evidence {
        /// Our own 2xx answer.
        Answered = "answered",
        /// Email and external id are ours and it appeared after our lease.
        Dated = "dated",
        /// It appeared after our lease with equal attributes; there is no external id to prove it.
        Weak = "weak",
    }
);

words!(
    /// What became of a row's membership.
    MembershipState {
        /// This job made it.
        Created = "created",
        /// This job made it; the answer was lost and looked up.
        Recovered = "recovered",
        /// It was there, active.
        Existing = "existing",
        /// It was there, inactive, and this job re-activated it.
        Reactivated = "reactivated",
        /// It was refused.
        Failed = "failed",
    }
);

/// Who made an entity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Origin {
    /// This job, by this evidence.
    Made(Evidence),
    /// It was there before this job.
    Before,
}

impl Origin {
    /// Returns the stable word: `answered`, `dated`, `weak` or `before`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Made(evidence) => evidence.as_str(),
            Self::Before => "before",
        }
    }

    /// Reads the stable word back.
    pub fn from_word(word: &str) -> Option<Self> {
        if word == "before" {
            return Some(Self::Before);
        }
        Evidence::from_word(word).map(Self::Made)
    }

    /// Returns whether this job made the entity.
    pub const fn is_made(self) -> bool {
        matches!(self, Self::Made(_))
    }
}

/// The user behind a row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserOutcome {
    /// The target's id.
    pub id: String,
    /// Who made it.
    pub origin: Origin,
}

/// The membership behind a row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MembershipOutcome {
    /// The target's id, unknown when it failed.
    pub id: Option<String>,
    /// What became of it.
    pub state: MembershipState,
    /// A lower row of the same user already stands for this membership: it is not counted again.
    pub repeat: bool,
}

impl Step {
    /// Returns whether it comes when the user and its membership are settled: what was reached
    /// stays reached, whatever becomes of this step.
    pub const fn is_last(self) -> bool {
        matches!(self, Self::Factor | Self::Locale)
    }
}

/// What a row had reached when one of its last steps failed or was parked: a retry goes on there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reached {
    /// The target's id of its organization, if it names one.
    pub org_id: Option<String>,
    /// Its membership, if it asks for one.
    pub membership: Option<MembershipOutcome>,
    /// Its locale is set, if it brings one.
    pub locale_set: bool,
    /// It made the user of its group, and nobody has taken the lead from it.
    pub leads: bool,
}

impl Reached {
    /// Returns what `outcome` had reached, if it ended at one of the last steps.
    pub fn of(outcome: &RowOutcome) -> Option<Self> {
        let step = outcome.step.filter(|step| step.is_last())?;
        outcome.user.as_ref()?;
        Some(Self {
            org_id: outcome.org_id.clone(),
            membership: outcome.membership.clone(),
            locale_set: step == Step::Factor,
            leads: true,
        })
    }
}

/// Why a row failed or was parked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowError {
    /// A stable code in `snake_case`: one of ours, or the target's.
    pub code: String,
    /// One sentence for people. Never holds an email, a name, a password or a raw cell.
    pub message: String,
    /// The status of the answer that decided it.
    pub http_status: Option<u16>,
    /// The target's `X-Request-ID` of that answer.
    pub request_id: Option<String>,
}

impl RowError {
    /// Makes an error that no answer of the target caused.
    pub fn local(code: &str, message: impl Into<String>) -> Self {
        Self {
            code: code.to_owned(),
            message: message.into(),
            http_status: None,
            request_id: None,
        }
    }
}

/// What became of one row. Facts, not intentions: built once, committed once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowOutcome {
    /// Which row.
    pub row: RowNumber,
    /// Its state.
    pub state: RowState,
    /// The step at which it failed or was parked; `None` otherwise.
    pub step: Option<Step>,
    /// The user, when one is known (also for a row that failed later).
    pub user: Option<UserOutcome>,
    /// The target's id of the row's organization, when known.
    pub org_id: Option<String>,
    /// The membership, when the row asks for one and that step was reached.
    pub membership: Option<MembershipOutcome>,
    /// Requests sent for this row.
    pub attempts: u16,
    /// Why, for failed, parked and skipped rows.
    pub error: Option<Box<RowError>>,
    /// The role it failed for, when a dry run that looks at the target knows which. Never stored.
    pub unknown_role: Option<Box<str>>,
}

impl RowOutcome {
    /// Makes a failed row.
    pub fn failed(row: RowNumber, step: Step, error: RowError) -> Self {
        Self::unhappy(row, RowState::Failed, step, error)
    }

    /// Makes a parked row.
    pub fn parked(row: RowNumber, step: Step, error: RowError) -> Self {
        Self::unhappy(row, RowState::Parked, step, error)
    }

    /// Makes a row that its file's profile leaves out, before any step.
    pub fn left_out(row: RowNumber, error: RowError) -> Self {
        Self {
            step: None,
            ..Self::unhappy(row, RowState::Skipped, Step::Validation, error)
        }
    }

    fn unhappy(row: RowNumber, state: RowState, step: Step, error: RowError) -> Self {
        Self {
            row,
            state,
            step: Some(step),
            user: None,
            org_id: None,
            membership: None,
            attempts: 0,
            error: Some(Box::new(error)),
            unknown_role: None,
        }
    }
}
