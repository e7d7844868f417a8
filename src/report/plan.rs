//! The plan: what a dry run says that a real one will take. Pure arithmetic over its counters.

use super::findings::Findings;
use super::problems::{self, ProblemGroup};
use super::words;
use crate::model::{FinishTally, MembershipTally, OrgTally, RateLimit, RateLimits, RowTally};
use serde::Serialize;
use std::fmt::Write as _;
use std::time::Duration;

/// How long an answer may take and still leave the workers ahead of the limit, in seconds: what
/// slow APIs take when they are well.
const SLOW_ANSWER_S: f64 = 1.0;

/// What a plan is made of.
#[derive(Clone, Debug)]
pub struct PlanFacts<'a> {
    /// Rows by what would become of them.
    pub rows: &'a RowTally,
    /// Users that would be made for rows that fail or are parked later, and stay.
    pub users_left: u64,
    /// Memberships by what would become of them.
    pub memberships: &'a MembershipTally,
    /// Organizations by what would become of them.
    pub organizations: &'a OrgTally,
    /// What the target was found to hold, if it was read.
    pub target: Option<Findings>,
    /// What would be set on new users.
    pub finish: FinishTally,
    /// The limits that the real run would keep.
    pub limits: RateLimits,
    /// Rows in flight per worker.
    pub concurrency: u32,
    /// Problems of the file by rule.
    pub problems: Vec<ProblemGroup>,
    /// The first rows that it is about, if not about all of them.
    pub first_rows: Option<u32>,
    /// Nobody asked the target for its organizations: those that are named are taken for there.
    pub organizations_assumed: bool,
    /// The command that does it.
    pub next: String,
}

/// What a real run will take at least. Fields are added, never renamed.
#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    /// Requests by kind, those that will be refused included.
    pub calls: Calls,
    /// What will be there afterwards that was not before.
    pub makes: Makes,
    /// What the target holds already, if it was read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<Findings>,
    /// Organizations that rows name, taken for there without asking the target.
    pub organizations_assumed: u64,
    /// The first rows that it is about; null: every row.
    pub first_rows: Option<u32>,
    /// The limits are the target's published ones: the run itself has none.
    pub limits_assumed: bool,
    /// The limit that decides: `writes`, `reads` or `total`.
    pub limited_by: &'static str,
    /// That limit per second.
    pub limit_per_s: f64,
    /// Seconds that the limits make it take at least.
    pub shortest_s: f64,
    /// Workers that keep the limit busy, however slow the answers (up to a second).
    pub useful_workers: u32,
    /// Problems of the file by rule. Cells are left out: plans are kept and passed on.
    pub problems: Vec<ProblemGroup>,
    /// The command that does it.
    pub next: String,
}

/// Requests by kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Calls {
    /// Creations of users.
    pub create_user: u64,
    /// Creations of memberships.
    pub create_membership: u64,
    /// Creations of organizations.
    pub create_organization: u64,
    /// Locales to set on new users.
    pub set_locale: u64,
    /// Second factors to enrol for new users.
    pub create_factor: u64,
    /// Look-ups.
    pub reads: u64,
}

/// What is really made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Makes {
    /// Users.
    pub users: u64,
    /// Those of them whose rows fail or are parked later: they stay.
    pub users_of_failed_rows: u64,
    /// Memberships, re-activated ones included.
    pub memberships: u64,
    /// Organizations.
    pub organizations: u64,
}

impl Makes {
    const fn of(facts: &PlanFacts<'_>) -> Self {
        Self {
            users: facts.rows.created + facts.rows.recovered + facts.users_left,
            users_of_failed_rows: facts.users_left,
            memberships: facts.memberships.created + facts.memberships.reactivated,
            organizations: facts.organizations.created,
        }
    }
}

impl Calls {
    fn of(facts: &PlanFacts<'_>, makes: Makes) -> Self {
        let orgs = facts.organizations;
        let nothing = Findings::default();
        let there = facts.target.as_ref().unwrap_or(&nothing);
        Self {
            create_user: makes.users + there.refused(),
            create_membership: makes.memberships + there.memberships_refused,
            create_organization: makes.organizations,
            set_locale: facts.finish.locales,
            create_factor: facts.finish.factors,
            // Every organization is looked up once, and the first request is a look as well.
            reads: orgs.created + orgs.found + orgs.failed + 1 + there.reads(),
        }
    }

    fn writes(self) -> u64 {
        self.create_user
            + self.create_membership
            + self.create_organization
            + self.set_locale
            + self.create_factor
    }
}

impl Plan {
    /// Makes the plan.
    pub fn new(facts: PlanFacts<'_>) -> Self {
        let limits_assumed = facts.limits.writes.is_none()
            && facts.limits.reads.is_none()
            && facts.limits.total.is_none();
        let limits = if limits_assumed {
            RateLimits::WORKOS
        } else {
            facts.limits
        };
        let makes = Makes::of(&facts);
        let calls = Calls::of(&facts, makes);
        let (limited_by, limit, shortest_s) = slowest(&limits, calls);
        let mut problems = facts.problems;
        for example in problems.iter_mut().flat_map(|group| &mut group.examples) {
            example.value = None;
            example.suggestion = None;
        }
        Self {
            calls,
            makes,
            organizations_assumed: if facts.organizations_assumed {
                facts.organizations.found
            } else {
                0
            },
            first_rows: facts.first_rows,
            target: facts.target,
            limits_assumed,
            limited_by,
            limit_per_s: limit.per_second(),
            shortest_s: (shortest_s * 1000.0).round() / 1000.0,
            useful_workers: useful_workers(&limits, facts.concurrency),
            problems,
            next: facts.next,
        }
    }

    /// Returns the plan for people.
    pub fn text(&self) -> String {
        let mut out = String::new();
        if let Some(rows) = self.first_rows {
            let rows = words::count(u64::from(rows));
            let about = format!("the first {rows} of the rows; problems are those of every row");
            line(&mut out, "about", &about);
        }
        if self.organizations_assumed > 0 {
            line(&mut out, "assumed", &self.assumed());
        }
        for (what, words) in self.target.iter().flat_map(Findings::lines) {
            line(&mut out, what, &words);
        }
        line(&mut out, "to make", &self.to_make());
        if let Some(words) = self.left_behind() {
            line(&mut out, "", &words);
        }
        let whose = if self.limits_assumed {
            ", which WorkOS allows; this target has no limit"
        } else {
            ""
        };
        let time =
            words::duration(Duration::try_from_secs_f64(self.shortest_s).unwrap_or_default());
        let pace = format!(
            "{} {} a second",
            words::rate(self.limit_per_s),
            self.limited_by_words()
        );
        line(
            &mut out,
            "takes",
            &format!("at least {time} at {pace}{whose}"),
        );
        let workers = words::counted(u64::from(self.useful_workers), "worker");
        line(
            &mut out,
            "workers",
            &format!("{workers} at most are of use, even if every answer takes a second"),
        );
        line(&mut out, "for real", &self.next);
        if !self.problems.is_empty() {
            let _infallible = write!(out, "\n{}", problems::text(&self.problems, false));
        }
        out
    }

    /// What is made, and the requests that it takes beside those that make it.
    fn to_make(&self) -> String {
        let (makes, calls) = (self.makes, self.calls);
        let mut parts = vec![
            words::counted(makes.users, "user"),
            words::counted(makes.memberships, "membership"),
            words::counted(makes.organizations, "organization"),
        ];
        let finish = [
            (calls.set_locale, "locale"),
            (calls.create_factor, "second factor"),
        ];
        let finish = finish.iter().filter(|(count, _)| *count > 0);
        parts.extend(finish.map(|(count, noun)| words::counted(*count, noun)));
        let mut on_the_way = words::counted(calls.reads, "look-up");
        let made = makes.users + makes.memberships + makes.organizations;
        let refused = (calls.create_user + calls.create_membership + calls.create_organization)
            .saturating_sub(made);
        if refused > 0 {
            let refused = words::counted(refused, "refused write");
            on_the_way = format!("{on_the_way} and {refused}");
        }
        format!("{}, with {on_the_way} on the way", parts.join(" · "))
    }

    fn assumed(&self) -> String {
        let named = words::counted(self.organizations_assumed, "organization");
        format!(
            "{named} not looked up, taken for there: --check-target looks, --create-orgs makes \
             missing ones"
        )
    }

    fn left_behind(&self) -> Option<String> {
        let left = self.makes.users_of_failed_rows;
        let what = words::agreeing(
            left,
            "without all that its row asks for: this row fails after it",
            "without all that their rows ask for: these rows fail after them",
        );
        (left > 0).then(|| format!("{} of the users {what}", words::count(left)))
    }

    fn limited_by_words(&self) -> &'static str {
        match self.limited_by {
            "total" => "requests",
            other => other,
        }
    }
}

/// Returns the limit that decides, and the seconds it makes the requests take.
fn slowest(limits: &RateLimits, calls: Calls) -> (&'static str, RateLimit, f64) {
    let all = [
        ("writes", limits.writes, calls.writes()),
        ("reads", limits.reads, calls.reads),
        ("total", limits.total, calls.writes() + calls.reads),
    ];
    let mut slowest = ("writes", limits.writes.unwrap_or(WRITES), 0.0);
    for (name, limit, requests) in all {
        let Some(limit) = limit else { continue };
        // The first one leaves at once.
        let seconds = requests.saturating_sub(1) as f64 / (limit.per_second() * limit.used_share());
        if seconds > slowest.2 {
            slowest = (name, limit, seconds);
        }
    }
    slowest
}

/// The published limit of writes.
const WRITES: RateLimit = RateLimit::per_seconds(500, 10);

/// Returns how many workers keep enough requests in flight for the limits.
fn useful_workers(limits: &RateLimits, concurrency: u32) -> u32 {
    let both = |limit: Option<RateLimit>| limit.map_or(0.0, RateLimit::per_second);
    let allowed = both(limits.writes) + both(limits.reads);
    let allowed = limits
        .total
        .map_or(allowed, |total| total.per_second().min(allowed.max(1.0)));
    let workers = (allowed * SLOW_ANSWER_S / f64::from(concurrency.max(1))).ceil();
    u32::try_from(words::whole(workers))
        .unwrap_or(u32::MAX)
        .clamp(1, 256)
}

fn line(out: &mut String, name: &str, text: &str) {
    let _infallible = writeln!(out, "  {name:<14} {text}");
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn plan_with(problems: Vec<ProblemGroup>) -> Plan {
        Plan {
            problems,
            ..plan(RateLimits::WORKOS, 64)
        }
    }

    fn plan(limits: RateLimits, concurrency: u32) -> Plan {
        let rows = RowTally {
            created: 1_000_000,
            ..RowTally::default()
        };
        let memberships = MembershipTally {
            created: 200_000,
            ..MembershipTally::default()
        };
        Plan::new(PlanFacts {
            rows: &rows,
            users_left: 0,
            memberships: &memberships,
            organizations: &OrgTally::default(),
            target: None,
            finish: FinishTally {
                locales: 0,
                factors: 50_000,
            },
            limits,
            concurrency,
            problems: Vec::new(),
            first_rows: None,
            organizations_assumed: false,
            next: "userferry import users.csv".to_owned(),
        })
    }

    #[test]
    fn the_shortest_time_is_what_the_tightest_limit_allows() {
        let plan = plan(RateLimits::WORKOS, 64);
        assert_eq!(plan.limited_by, "writes");
        assert!(
            (plan.shortest_s - 1_249_999.0 / 49.5).abs() < 0.01,
            "{plan:?}"
        );
        assert!(!plan.limits_assumed);
        let text = plan.text();
        assert!(
            text.contains("at least 7h00m at 50.0 writes a second\n"),
            "{text}"
        );
        assert!(
            text.contains(
                "1,000,000 users · 200,000 memberships · 0 organizations · 50,000 second"
            ),
            "{text}"
        );
        assert!(
            text.contains("for real       userferry import users.csv"),
            "{text}"
        );
    }

    #[test]
    fn without_a_limit_the_published_one_is_assumed_and_said() {
        let plan = plan(RateLimits::default(), 64);
        assert!(plan.limits_assumed);
        assert!(plan.text().contains("which WorkOS allows"));
    }

    #[test]
    fn workers_are_as_many_as_the_limit_needs() {
        // 100 requests a second in all.
        assert_eq!(plan(RateLimits::WORKOS, 64).useful_workers, 2);
        assert_eq!(plan(RateLimits::WORKOS, 200).useful_workers, 1);
        assert_eq!(plan(RateLimits::WORKOS, 1).useful_workers, 100);
    }
}
