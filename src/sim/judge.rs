//! The verdict on a finished play: what the ledger says against what the server holds.

use super::plan::{BAD_ISSUER, BAD_LOCALE, BAD_ROLE, REFUSED, REFUSED_ORG};
use super::server::{By, Membership, OLD_MS, Org, User};
use super::world::World;
use crate::ledger::{Fate, OrgState};
use crate::model::{
    Evidence, ExistingPolicy, MembershipState, Mono, OrgKey, Origin, RateLimit, RowNumber,
    RowOutcome, RowState, Step, UserOutcome,
};
use crate::source::SourceRow;
use crate::target::RequestClass;
use secrecy::ExposeSecret as _;
use std::collections::BTreeMap;

type Judged = Result<(), String>;

fn ensure(holds: bool, id: &str, detail: impl FnOnce() -> String) -> Judged {
    if holds {
        Ok(())
    } else {
        Err(format!("{id}: {}", detail()))
    }
}

/// Checks everything that can be seen at the end.
pub fn judge(world: &World) -> Judged {
    let rows = u32::try_from(world.plan.rows.len()).unwrap();
    for row in (1..=rows).map(RowNumber) {
        let outcome = world.ledger.outcomes().get(&row);
        let outcome = outcome.ok_or_else(|| format!("I3: row {row} has no outcome"))?;
        Judge {
            world,
            row,
            outcome,
        }
        .all()?;
    }
    let totals = world.ledger.totals(&world.plan.job);
    ensure(
        totals.rows.balances() && totals.rows.pending == 0,
        "I3",
        || format!("{totals:?}"),
    )?;
    memberships_once(world)?;
    organizations(world)?;
    no_organization_for_nobody(world)?;
    nothing_is_forgotten(world)?;
    uniqueness(world)?;
    rate(world)
}

struct Judge<'a> {
    world: &'a World,
    row: RowNumber,
    outcome: &'a RowOutcome,
}

impl<'a> Judge<'a> {
    fn ensure(&self, holds: bool, id: &str, what: &str) -> Judged {
        ensure(holds, id, || {
            format!("row {}: {what}; {:?}", self.row, self.outcome)
        })
    }

    fn code(&self) -> &str {
        self.outcome
            .error
            .as_ref()
            .map_or("", |error| error.code.as_str())
    }

    fn email(&self) -> &str {
        &self.world.plan.row(self.row).email_norm
    }

    /// Whoever has, or had, the row's email.
    fn holders(&self) -> impl Iterator<Item = &'a User> {
        let email = self.world.plan.row(self.row).email_norm.as_str();
        let users = self.world.server.users_ever();
        users.filter(move |user| user.email == email)
    }

    /// Somebody else has, or had, it.
    fn is_others(&self) -> bool {
        self.holders().any(|user| user.by == By::Other)
    }

    fn user(&self) -> Option<&'a User> {
        let id = &self.outcome.user.as_ref()?.id;
        let mut users = self.world.server.users_ever();
        users.find(|user| user.id == *id)
    }

    /// Its user was there before, and was deleted meanwhile.
    fn user_is_gone(&self) -> bool {
        let id = self.outcome.user.as_ref().map(|user| &user.id);
        let mut gone = self.world.server.gone.0.iter();
        gone.any(|user| Some(&user.id) == id)
    }

    fn is_follower(&self) -> bool {
        self.world
            .plan
            .job
            .followers
            .iter()
            .any(|follower| follower.row == self.row)
    }

    /// Rows of the same email, this one left out.
    fn others(&self) -> impl Iterator<Item = &'a RowOutcome> {
        let world = self.world;
        let email = self.world.plan.row(self.row).email_norm.as_str();
        let row = self.row;
        world
            .ledger
            .outcomes()
            .values()
            .filter(move |other| other.row != row && world.plan.row(other.row).email_norm == email)
    }

    fn all(&self) -> Judged {
        let outcome = self.outcome;
        self.ensure(outcome.row == self.row, "I3", "the outcome of another row")?;
        match (outcome.state, outcome.step) {
            (
                RowState::Created | RowState::Recovered | RowState::Linked | RowState::Merged,
                None,
            ) => self.happy(),
            (RowState::Failed, Some(step)) => self.failed(step),
            (RowState::Skipped, None) => self.skipped(),
            (RowState::Parked, Some(_)) => self.parked(),
            _ => self.ensure(false, "I8", "no row ends like this"),
        }
    }

    fn parsed(&self) -> Result<&'a SourceRow, String> {
        let parsed = self.world.plan.row(self.row).parsed.as_ref();
        parsed.map_err(|_| format!("I6: row {} breaks a rule and was sent", self.row))
    }

    fn happy(&self) -> Judged {
        let planned = self.parsed()?;
        let user = self.user();
        self.ensure(
            user.is_some_and(|user| user.email == self.email()),
            "I6",
            "no such user",
        )?;
        self.origin_is_right()?;
        let origin = self.outcome.user.as_ref().map(|user| user.origin);
        let fits = match self.outcome.state {
            RowState::Created => origin == Some(Origin::Made(Evidence::Answered)),
            RowState::Recovered => {
                matches!(origin, Some(Origin::Made(Evidence::Dated | Evidence::Weak)))
            }
            RowState::Linked => {
                origin == Some(Origin::Before)
                    && self.world.plan.policy.on_existing == ExistingPolicy::Link
            }
            _ => self.is_follower(),
        };
        self.ensure(fits, "I7", "its state is not that of its user")?;
        if matches!(self.outcome.state, RowState::Created | RowState::Recovered) {
            self.has_locale(planned)?;
            self.has_factor(planned)?;
        }
        match (&planned.org, &self.outcome.membership) {
            (None, None) => Ok(()),
            (Some(key), Some(membership)) => {
                self.ensure(
                    membership.state != MembershipState::Failed,
                    "I6",
                    "no membership",
                )?;
                self.is_member(planned, key)
            }
            _ => self.ensure(
                false,
                "I6",
                "its membership is missing, or was not asked for",
            ),
        }
    }

    fn origin_is_right(&self) -> Judged {
        let (Some(known), Some(user)) = (&self.outcome.user, self.user()) else {
            return Ok(());
        };
        let ours = matches!(user.by, By::Job(_));
        let right = match known.origin {
            Origin::Made(Evidence::Answered | Evidence::Dated) => ours,
            Origin::Made(Evidence::Weak) => {
                ours || user.created_ms > super::server::EPOCH_MS - 10_000
            }
            Origin::Before => !ours,
        };
        self.ensure(right, "I7", &format!("its user was made by {:?}", user.by))
    }

    fn is_member(&self, planned: &SourceRow, key: &OrgKey) -> Judged {
        let server = &self.world.server;
        let Some(told) = &self.outcome.membership else {
            return Ok(());
        };
        let mut memberships = server.memberships_ever();
        let found = memberships.find(|found| told.id.as_ref() == Some(&found.id));
        let Some(found) = found else {
            return self.ensure(false, "I6", "no such membership");
        };
        let org = server.orgs.iter().find(|org| org.id == found.org);
        let is_right_org = org.is_some_and(|org| names(key, org));
        let user_id = self.outcome.user.as_ref().map(|user| &user.id);
        let fits = found.status == "active"
            && is_right_org
            && Some(&found.user) == user_id
            && (told.repeat || self.outcome.org_id.as_ref() == Some(&found.org));
        self.ensure(fits, "I6", &format!("its membership is {found:?}"))?;
        let wrote = !told.repeat && told.state != MembershipState::Existing;
        // Without a role it may be one that a row which is parked had made.
        let role = planned
            .role_slugs
            .first()
            .map_or("member", |role| role.as_str());
        let left_open = planned.role_slugs.is_empty() && found.by != By::Job(Some(self.row));
        let fits = !wrote || left_open || found.role == role;
        self.ensure(fits, "I6", "another role")?;
        if told.repeat {
            return Ok(());
        }
        let right = match told.state {
            MembershipState::Created => found.by == By::Job(Some(self.row)),
            // Also what a row that is parked had made: this job made it, and its answer was lost.
            MembershipState::Recovered => match found.by {
                By::Job(Some(row)) => row == self.row || self.is_parked(row),
                By::Job(None) | By::Other => false,
            },
            MembershipState::Reactivated => found.reactivated_by == Some(self.row),
            // Of a user who is gone, what was listed before is what is known.
            MembershipState::Existing => {
                let of_another = found.by != By::Job(Some(self.row));
                self.may_be_existing(found) || (of_another && self.user_is_gone())
            }
            MembershipState::Failed => false,
        };
        self.ensure(
            right,
            "I7",
            &format!("its membership was made by {:?}", found.by),
        )
    }

    /// Returns whether `row` has the same email and is parked.
    fn is_parked(&self, row: RowNumber) -> bool {
        self.others()
            .any(|other| other.row == row && other.state == RowState::Parked)
    }

    /// It was there before, or a row that is parked had made it.
    fn may_be_existing(&self, found: &Membership) -> bool {
        match (found.by, found.reactivated_by) {
            // Activated by a request whose answer was lost: it was there before all the same.
            (By::Other, Some(row)) => row == self.row || self.is_parked(row),
            (By::Job(Some(row)), None) => self.is_parked(row),
            (By::Other, None) => true,
            (By::Job(_), _) => false,
        }
    }

    /// Nothing that a request of this row made is there (I5).
    fn made_no_user(&self) -> Judged {
        let made = self
            .world
            .server
            .users
            .iter()
            .any(|user| user.by == By::Job(Some(self.row)));
        self.ensure(!made, "I5", "it made a user")
    }

    fn made_no_membership(&self) -> Judged {
        let made = self.world.server.memberships.iter().any(|membership| {
            membership.by == By::Job(Some(self.row)) || membership.reactivated_by == Some(self.row)
        });
        self.ensure(!made, "I5", "it made a membership")
    }

    /// The user has the locale that the row which made it asks for.
    fn has_locale(&self, planned: &SourceRow) -> Judged {
        let found = self.user().and_then(|user| user.locale.as_deref());
        self.ensure(found == planned.locale.as_deref(), "I6", "another locale")
    }

    /// Its user has the factor that it brings, once, and no other.
    fn has_factor(&self, planned: &SourceRow) -> Judged {
        let user = self.outcome.user.as_ref().map(|user| user.id.as_str());
        let factors = &self.world.server.factors;
        let found: Vec<&str> = factors
            .iter()
            .filter(|factor| Some(factor.user.as_str()) == user)
            .map(|factor| factor.secret.as_str())
            .collect();
        let asked = planned.totp.iter().map(|totp| totp.secret.expose_secret());
        let asked: Vec<&str> = asked.collect();
        self.ensure(found == asked, "I6", &format!("its factors are {found:?}"))
    }

    fn made_no_factor(&self) -> Judged {
        let factors = &self.world.server.factors;
        let made = factors
            .iter()
            .any(|factor| factor.by == By::Job(Some(self.row)));
        self.ensure(!made, "I5", "it made a factor")
    }

    fn failed_at_factor(&self) -> Judged {
        self.failed_at_last()?;
        let planned = self.parsed()?;
        self.has_locale(planned)?;
        let issuer = planned
            .totp
            .as_ref()
            .and_then(|totp| totp.issuer.as_deref());
        let right = self.code() == "invalid_request_parameters" && issuer == Some(BAD_ISSUER);
        self.ensure(right, "I5", "its factor is fine")
    }

    /// What its earlier steps made is there and stays.
    fn failed_at_last(&self) -> Judged {
        let planned = self.parsed()?;
        self.origin_is_right()?;
        let made = self.outcome.user.as_ref();
        let made = made.is_some_and(|user| user.origin.is_made()) && self.user().is_some();
        self.ensure(made, "I5", "it made no user")?;
        match (&planned.org, &self.outcome.membership) {
            (None, None) => Ok(()),
            (Some(key), Some(_)) => self.is_member(planned, key),
            _ => self.ensure(false, "I6", "its membership is missing"),
        }
    }

    fn failed_at_locale(&self) -> Judged {
        self.failed_at_last()?;
        let planned = self.parsed()?;
        let refused = planned.locale.as_deref() == Some(BAD_LOCALE);
        let unset = self.user().is_some_and(|user| user.locale.is_none());
        let right = self.code() == "invalid_locale" && refused && unset;
        self.ensure(right, "I5", "its locale is fine")
    }

    fn failed(&self, step: Step) -> Judged {
        self.made_no_factor()?;
        match step {
            Step::Locale => return self.failed_at_locale(),
            Step::Factor => return self.failed_at_factor(),
            _ => {}
        }
        self.made_no_membership()?;
        match step {
            Step::Validation => {
                let planned = self.world.plan.row(self.row);
                let lost = self
                    .world
                    .plan
                    .job
                    .conflicts
                    .iter()
                    .any(|it| it.row == self.row);
                self.made_no_user()?;
                self.ensure(planned.parsed.is_err() || lost, "I5", "it breaks no rule")
            }
            Step::Organization => self.failed_at_organization(),
            Step::User => self.failed_at_user(),
            Step::Membership => self.failed_at_membership(),
            Step::Factor | Step::Locale => Ok(()),
        }
    }

    fn failed_at_organization(&self) -> Judged {
        self.made_no_user()?;
        let planned = self.parsed()?;
        let Some(key) = &planned.org else {
            return self.ensure(false, "I5", "it names no organization");
        };
        let exists = self.world.server.orgs.iter().any(|org| names(key, org));
        // When, is looked at when the row is settled.
        let mut orgs = self.world.server.orgs.iter();
        let appeared =
            orgs.any(|org| names(key, org) && org.by == By::Other && org.created_ms > OLD_MS);
        let refused = key.as_str().starts_with(REFUSED_ORG);
        let may_create = self.world.plan.create_orgs && matches!(key, OrgKey::External(_));
        let right = match self.code() {
            "organization_not_found" => (!exists || appeared) && !may_create,
            "invalid_request_parameters" => !exists && refused,
            _ => false,
        };
        self.ensure(right, "I5", "its organization is fine")
    }

    fn failed_at_user(&self) -> Judged {
        self.made_no_user()?;
        if self.code() == "user_exists" {
            let right =
                self.world.plan.policy.on_existing == ExistingPolicy::Fail && self.is_others();
            return self.ensure(right, "I5", "nobody was there before");
        }
        let planned = self.parsed()?;
        let right = match self.code() {
            "external_id_conflict" => {
                let ours = planned.external_id.as_deref();
                let mut by_external = self
                    .world
                    .server
                    .users_ever()
                    .filter(|user| ours.is_some() && user.external_id.as_deref() == ours);
                by_external.any(|user| user.email != self.email())
                    || self.holders().any(|user| {
                        ours.is_some()
                            && user.external_id.is_some()
                            && user.external_id.as_deref() != ours
                    })
            }
            "password_strength_error" => planned.last_name.as_deref() == Some(REFUSED),
            _ => false,
        };
        let holders: Vec<&User> = self.holders().collect();
        self.ensure(right, "I5", &format!("no reason to fail: {holders:?}"))
    }

    fn failed_at_membership(&self) -> Judged {
        let planned = self.parsed()?;
        self.ensure(self.user().is_some(), "I5", "no user")?;
        self.origin_is_right()?;
        let user_id = self.outcome.user.as_ref().map(|user| &user.id);
        let org_id = self.outcome.org_id.as_ref();
        let has = |status: &str| {
            self.world.server.memberships_ever().any(|found| {
                Some(&found.user) == user_id && Some(&found.org) == org_id && found.status == status
            })
        };
        let right = match self.code() {
            "invalid_role" => planned.role_slugs.iter().any(|role| role == BAD_ROLE),
            "membership_inactive" => !self.world.plan.policy.reactivate && has("inactive"),
            "membership_pending" => has("pending"),
            "user_not_found" | "organization_not_found" => self.user_is_gone(),
            _ => false,
        };
        self.ensure(right, "I5", "its membership is fine")
    }

    fn skipped(&self) -> Judged {
        self.made_no_user()?;
        self.made_no_factor()?;
        self.made_no_membership()?;
        let by_policy =
            self.world.plan.policy.on_existing == ExistingPolicy::Skip && self.is_others();
        self.ensure(by_policy, "I5", "nobody was there before")
    }

    /// A person has to look only where there is something to look at.
    fn parked(&self) -> Judged {
        let unclear = |row: RowNumber| self.world.unclear.get(&row).copied().unwrap_or(0);
        let own = unclear(self.row) + unclear(RowNumber(0));
        let reason = match self.code() {
            "poison" => self.world.deaths >= 3,
            "server_error" => own >= 4,
            "exists_but_invisible" => !self.world.weather.lag.is_zero(),
            "maybe_concurrent_signup" => self.is_others(),
            "leader_parked" => self.others().any(|other| other.state == RowState::Parked),
            _ => false,
        };
        self.ensure(reason, "I5", "no reason to be parked")
    }
}

fn names(key: &OrgKey, org: &Org) -> bool {
    match key {
        OrgKey::Id(id) => org.id == *id,
        OrgKey::External(_) | OrgKey::Name(_) => {
            key.external_id().as_deref() == Some(org.external_id.as_str())
        }
    }
}

/// Every membership is counted once.
fn memberships_once(world: &World) -> Judged {
    let mut counted: BTreeMap<&str, RowNumber> = BTreeMap::new();
    for outcome in world.ledger.outcomes().values() {
        let Some(membership) = outcome.membership.as_ref() else {
            continue;
        };
        if membership.repeat || membership.state == MembershipState::Failed {
            continue;
        }
        let Some(id) = membership.id.as_deref() else {
            continue;
        };
        if let Some(other) = counted.insert(id, outcome.row) {
            // A row that is parked between the two made it and stands for nothing.
            let email = |row: RowNumber| &world.plan.row(row).email_norm;
            let parked = world.ledger.outcomes().values().any(|between| {
                between.state == RowState::Parked && email(between.row) == email(outcome.row)
            });
            ensure(parked, "I14", || {
                format!("{id} is counted by rows {other} and {}", outcome.row)
            })?;
        }
    }
    Ok(())
}

/// A row that names it was parked before anybody knew what became of its creation, or left alone
/// because its person signed up meanwhile: then nobody asks for the organization any more.
fn is_left_open(world: &World, key: &OrgKey) -> bool {
    world.ledger.outcomes().values().any(|outcome| {
        let planned = world.plan.row(outcome.row).parsed.as_ref().ok();
        let names_it = planned.and_then(|row| row.org.as_ref()) == Some(key);
        let left_alone = matches!(Fate::of(outcome), Fate::Skipped | Fate::PolicyFailed);
        names_it && (outcome.state == RowState::Parked || left_alone)
    })
}

fn organizations(world: &World) -> Judged {
    for (key, image) in world.ledger.orgs() {
        let found = world.server.orgs.iter().find(|org| names(key, org));
        match &image.state {
            Some(OrgState::Ready { id, origin }) => {
                let found = found.filter(|org| org.id == *id);
                let found = found.ok_or_else(|| format!("I6: {key} is not {id}"))?;
                let ours = matches!(found.by, By::Job(_));
                ensure(origin.is_made() == ours, "I7", || {
                    format!("{key} is {origin:?}, by {:?}", found.by)
                })?;
            }
            Some(OrgState::Failed { parked: true, .. }) => {}
            None if is_left_open(world, key) => {}
            Some(OrgState::Failed { .. }) | None => {
                let ours = found.is_some_and(|org| matches!(org.by, By::Job(_)));
                ensure(!ours, "I5", || {
                    format!("{key} was made and is {:?}", image.state)
                })?;
            }
        }
    }
    for outcome in world.ledger.outcomes().values() {
        let planned = world.plan.row(outcome.row).parsed.as_ref().ok();
        let key = planned.and_then(|row| row.org.as_ref());
        if let (Some(key), Some(id)) = (key, &outcome.org_id) {
            let image = world
                .ledger
                .orgs()
                .get(key)
                .and_then(|org| org.state.as_ref());
            let same = match (image, key) {
                // The lower row of a pair knows it: nobody had to ask.
                (Some(OrgState::Ready { id: known, .. }), _) => known == id,
                (None, OrgKey::Id(known)) => known == id,
                _ => false,
            };
            ensure(same, "I9", || {
                format!("row {} used {id} for {key}", outcome.row)
            })?;
        }
    }
    Ok(())
}

/// No organization is made for rows that are left alone. Where somebody signs up meanwhile, or
/// readers see late who is there, it may be.
fn no_organization_for_nobody(world: &World) -> Judged {
    let newcomer = |user: &User| user.by == By::Other && user.created_ms > OLD_MS;
    let late = !world.weather.lag.is_zero() || world.server.users.iter().any(newcomer);
    if late || world.plan.policy.on_existing == ExistingPolicy::Link {
        return Ok(());
    }
    let is_worked_on = |outcome: &RowOutcome| {
        let code = outcome.error.as_ref().map_or("", |error| &error.code);
        outcome.state != RowState::Skipped
            && !["user_exists", "external_id_conflict"].contains(&code)
    };
    for org in &world.server.orgs {
        let wanted = world.ledger.outcomes().values().any(|outcome| {
            let planned = world.plan.row(outcome.row).parsed.as_ref().ok();
            let key = planned.and_then(|row| row.org.as_ref());
            key.is_some_and(|key| names(key, org)) && is_worked_on(outcome)
        });
        ensure(org.by == By::Other || wanted, "I6", || {
            format!("{org:?} was made for rows that are left alone")
        })?;
    }
    Ok(())
}

/// What the job made is in the ledger, or its row is parked.
fn nothing_is_forgotten(world: &World) -> Judged {
    let outcome = |row: &RowNumber| world.ledger.outcomes().get(row);
    for user in &world.server.users {
        let By::Job(Some(row)) = user.by else {
            continue;
        };
        let known = outcome(&row).is_some_and(|outcome| {
            let told = outcome.user.as_ref();
            let knows = told.is_some_and(|known| known.id == user.id && known.origin.is_made());
            // The creation of a worker that died hung until somebody had deleted the user whom the
            // row was linked to: nobody waits for ever for what may still arrive.
            let was_deleted = |told: &UserOutcome| {
                told.origin == Origin::Before
                    && world.ledger.leases_of(row) > 1
                    && world.server.are_gone(std::slice::from_ref(&told.id))
            };
            knows || outcome.state == RowState::Parked || told.is_some_and(was_deleted)
        });
        ensure(known, "I3", || {
            format!("row {row} made {user:?}, and says {:?}", outcome(&row))
        })?;
    }
    for membership in &world.server.memberships {
        let By::Job(Some(row)) = membership.by else {
            continue;
        };
        let known = outcome(&row).is_some_and(|outcome| {
            let told = outcome
                .membership
                .as_ref()
                .and_then(|told| told.id.as_ref());
            outcome.state == RowState::Parked || told == Some(&membership.id)
        });
        ensure(known, "I3", || {
            format!(
                "row {row} made {membership:?}, and says {:?}",
                outcome(&row)
            )
        })?;
    }
    for org in &world.server.orgs {
        let By::Job(_) = org.by else { continue };
        let key = OrgKey::External(org.external_id.as_str().into());
        let image = world.ledger.orgs().get(&key);
        let known = image.is_some_and(|image| image.state.is_some() || is_left_open(world, &key));
        ensure(known, "I3", || format!("{org:?} was made and forgotten"))?;
        let names = world
            .plan
            .rows
            .iter()
            .filter_map(|row| row.parsed.as_ref().ok());
        let first = names
            .filter(|row| row.org.as_ref() == Some(&key))
            .find_map(|row| row.org_name.clone().map(String::from))
            .unwrap_or_else(|| org.external_id.clone());
        ensure(org.name == first, "I6", || {
            format!("{key} is called {:?}, not {first:?}", org.name)
        })?;
    }
    Ok(())
}

/// I4: at most one of each.
fn uniqueness(world: &World) -> Judged {
    let mut users: Vec<&str> = world
        .server
        .users
        .iter()
        .map(|user| user.email.as_str())
        .collect();
    let mut pairs: Vec<(&str, &str)> = world
        .server
        .memberships
        .iter()
        .map(|found| (found.user.as_str(), found.org.as_str()))
        .collect();
    let mut orgs: Vec<&str> = world
        .server
        .orgs
        .iter()
        .map(|org| org.external_id.as_str())
        .collect();
    // Nobody but the job enrols factors here, and nothing but the importer keeps them apart.
    let mut factors: Vec<&str> = world
        .server
        .factors
        .iter()
        .map(|factor| factor.user.as_str())
        .collect();
    let counts = (users.len(), pairs.len(), orgs.len(), factors.len());
    factors.sort_unstable();
    factors.dedup();
    users.sort_unstable();
    users.dedup();
    pairs.sort_unstable();
    pairs.dedup();
    orgs.sort_unstable();
    orgs.dedup();
    let distinct = (users.len(), pairs.len(), orgs.len(), factors.len());
    ensure(counts == distinct, "I4", || "something exists twice".into())
}

/// I10: no window of a declared limit is over, across restarts. A probe may put one request more
/// into a window than pacing knows of (the pipe may hold it up, and it has no slot to miss); the
/// margin of pacing is there for it.
fn rate(world: &World) -> Judged {
    let limits = &world.plan.limits;
    let is_write = |class| class == RequestClass::Write;
    let all = |wanted: &dyn Fn(RequestClass) -> bool| -> Vec<Mono> {
        let starts = world.starts.iter().filter(|(_, class)| wanted(*class));
        starts.map(|(at, _)| *at).collect()
    };
    let reads = all(&|class| !is_write(class));
    window(world, (limits.writes, 0.0), &all(&is_write), "writes")?;
    window(world, (limits.reads, 0.0), &reads, "reads")?;
    // A slot of the total is used when its class has one too: later, by one interval at most.
    let slack = match (limits.writes, limits.total) {
        (Some(writes), Some(total)) => (total.per_second() / writes.per_second()).ceil(),
        _ => 0.0,
    };
    window(world, (limits.total, slack), &all(&|_| true), "requests")
}

fn window(
    world: &World,
    (limit, slack): (Option<RateLimit>, f64),
    starts: &[Mono],
    what: &str,
) -> Judged {
    let Some(limit) = limit else { return Ok(()) };
    let margin = f64::from(limit.count) * limit.free_share();
    let mut from = 0;
    for (to, end) in starts.iter().enumerate() {
        while starts
            .get(from)
            .is_some_and(|start| start.after(limit.window) <= *end)
        {
            from += 1;
        }
        let begin = starts.get(from).copied().unwrap_or(*end);
        let extras = world
            .extras
            .iter()
            .filter(|at| begin <= **at && **at <= *end)
            .count();
        let extra = (extras as f64 + slack - margin.floor()).max(0.0);
        let most = f64::from(limit.count) + extra;
        let count = (to + 1 - from) as f64;
        ensure(count <= most, "I10", || {
            format!("{count} {what} within {:?}, {most} allowed", limit.window)
        })?;
    }
    Ok(())
}
