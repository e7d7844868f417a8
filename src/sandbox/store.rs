//! The directory's data: users, organizations, memberships, and what must be unique about them.
//!
//! Pure and without rules: [`Store::apply`] takes a change that was decided elsewhere (live) or
//! read from the journal (replay), so both end in the same state.
//!
//! Tables are ordered by id because ids only grow: a look-up by id is a binary search and a
//! listing is a walk. A deleted entity leaves an empty slot behind. Texts are kept encoded, one
//! allocation per entity, which is what lets a million users fit in a quarter of a gibibyte.

use super::ids::{Id, Kind, Ulid};
use super::index::{Index, Slot};
use super::page::Listing;
use super::record::{
    Change, FactorRecord, MembershipRecord, OrganizationRecord, Roles, Status, UserRecord,
};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// Marks the end of a user's chain of memberships.
const NO_SLOT: Slot = Slot::MAX;

/// Why a change does not fit the data: only a damaged or foreign journal can cause it.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The bytes are not a change.
    #[error("the record cannot be decoded")]
    Undecodable(#[from] postcard::Error),
    /// A new entity's id is not greater than all before.
    #[error("{0} comes after a greater id")]
    OutOfOrder(Id),
    /// The change names an entity that is not there.
    #[error("{0} is not there")]
    Missing(Id),
    /// The table is full (4,294,967,294 entities).
    #[error("the directory is full")]
    Full,
}

#[derive(Debug)]
struct UserSlot {
    id: Ulid,
    /// A [`UserRecord`], empty once deleted.
    body: Box<[u8]>,
    /// The newest membership of this user, then [`MembershipSlot::next_of_user`].
    newest_membership: Slot,
}

#[derive(Debug)]
struct OrganizationSlot {
    id: Ulid,
    /// An [`OrganizationRecord`], empty once deleted.
    body: Box<[u8]>,
    /// Every membership it ever had, ascending.
    memberships: Vec<Slot>,
}

#[derive(Debug)]
struct MembershipSlot {
    id: Ulid,
    created_ms: i64,
    updated_ms: i64,
    user: Slot,
    organization: Slot,
    next_of_user: Slot,
    roles: Roles,
    /// `None` once deleted.
    status: Option<Status>,
}

#[derive(Debug)]
struct FactorSlot {
    id: Ulid,
    /// A [`FactorRecord`], empty once its user is deleted.
    body: Box<[u8]>,
}

/// All data of one environment.
#[derive(Debug, Default)]
pub struct Store {
    users: Vec<UserSlot>,
    organizations: Vec<OrganizationSlot>,
    memberships: Vec<MembershipSlot>,
    factors: Vec<FactorSlot>,
    /// Few users have one: by the id of the user, ascending.
    factors_by_user: BTreeMap<Ulid, Vec<Slot>>,
    users_by_email: Index,
    users_by_external_id: Index,
    organizations_by_external_id: Index,
    live: [usize; 4],
}

/// Returns the form in which emails are compared.
pub fn normal_email(email: &str) -> String {
    email.trim().to_lowercase()
}

trait Keyed {
    fn key(&self) -> Ulid;
}

impl Keyed for UserSlot {
    fn key(&self) -> Ulid {
        self.id
    }
}

impl Keyed for OrganizationSlot {
    fn key(&self) -> Ulid {
        self.id
    }
}

impl Keyed for MembershipSlot {
    fn key(&self) -> Ulid {
        self.id
    }
}

impl Keyed for FactorSlot {
    fn key(&self) -> Ulid {
        self.id
    }
}

fn find<T: Keyed>(table: &[T], id: Ulid) -> Option<Slot> {
    let at = table.binary_search_by_key(&id, Keyed::key).ok()?;
    Slot::try_from(at).ok()
}

fn at<T>(table: &[T], slot: Slot) -> Option<&T> {
    table.get(usize::try_from(slot).ok()?)
}

fn at_mut<T>(table: &mut [T], slot: Slot) -> Option<&mut T> {
    table.get_mut(usize::try_from(slot).ok()?)
}

fn next_slot<T: Keyed>(table: &[T], kind: Kind, id: Ulid) -> Result<Slot, ApplyError> {
    if table.last().is_some_and(|last| last.key() >= id) {
        return Err(ApplyError::OutOfOrder(Id(kind, id)));
    }
    match Slot::try_from(table.len()) {
        Ok(slot) if slot != NO_SLOT => Ok(slot),
        _ => Err(ApplyError::Full),
    }
}

/// Reading.
impl Store {
    /// Returns how many live entities of `kind` there are.
    pub const fn count(&self, kind: Kind) -> usize {
        self.live[kind as usize]
    }

    /// Returns the greatest id ever used.
    pub fn last_id(&self) -> Ulid {
        let last = [
            self.users.last().map(Keyed::key),
            self.organizations.last().map(Keyed::key),
            self.memberships.last().map(Keyed::key),
            self.factors.last().map(Keyed::key),
        ];
        last.into_iter().flatten().max().unwrap_or_default()
    }

    /// Returns the live user in a slot.
    pub fn user_at(&self, slot: Slot) -> Option<UserRecord<'_>> {
        let body = &at(&self.users, slot)?.body;
        if body.is_empty() {
            return None;
        }
        postcard::from_bytes(body).ok()
    }

    /// Returns a live user by its id.
    pub fn user(&self, id: Ulid) -> Option<UserRecord<'_>> {
        self.user_at(find(&self.users, id)?)
    }

    /// Finds a user's slot by email, whatever its case.
    pub fn user_slot_by_email(&self, email: &str) -> Option<Slot> {
        let email = normal_email(email);
        self.users_by_email.find(&email, |slot| {
            self.user_at(slot)
                .is_some_and(|user| normal_email(user.email) == email)
        })
    }

    /// Finds a user by email, whatever its case.
    pub fn user_by_email(&self, email: &str) -> Option<UserRecord<'_>> {
        self.user_at(self.user_slot_by_email(email)?)
    }

    /// Finds a user by its id in the source system.
    pub fn user_by_external_id(&self, external_id: &str) -> Option<UserRecord<'_>> {
        let is_it = |slot| {
            self.user_at(slot)
                .is_some_and(|user| user.external_id == Some(external_id))
        };
        self.user_at(self.users_by_external_id.find(external_id, is_it)?)
    }

    /// Returns the live organization in a slot.
    pub fn organization_at(&self, slot: Slot) -> Option<OrganizationRecord<'_>> {
        let body = &at(&self.organizations, slot)?.body;
        if body.is_empty() {
            return None;
        }
        postcard::from_bytes(body).ok()
    }

    /// Returns a live organization by its id.
    pub fn organization(&self, id: Ulid) -> Option<OrganizationRecord<'_>> {
        self.organization_at(find(&self.organizations, id)?)
    }

    /// Finds an organization by its id in the source system.
    pub fn organization_by_external_id(&self, external_id: &str) -> Option<OrganizationRecord<'_>> {
        let is_it = |slot| {
            self.organization_at(slot)
                .is_some_and(|organization| organization.external_id == Some(external_id))
        };
        self.organization_at(self.organizations_by_external_id.find(external_id, is_it)?)
    }

    /// Returns the live membership in a slot.
    pub fn membership_at(&self, slot: Slot) -> Option<MembershipRecord> {
        let row = at(&self.memberships, slot)?;
        Some(MembershipRecord {
            id: row.id,
            created_ms: row.created_ms,
            updated_ms: row.updated_ms,
            user: at(&self.users, row.user)?.id,
            organization: at(&self.organizations, row.organization)?.id,
            status: row.status?,
            roles: row.roles,
        })
    }

    /// Returns a live membership by its id.
    pub fn membership(&self, id: Ulid) -> Option<MembershipRecord> {
        self.membership_at(find(&self.memberships, id)?)
    }

    /// Returns the membership of a user in an organization.
    pub fn membership_of(&self, user: Ulid, organization: Ulid) -> Option<MembershipRecord> {
        self.memberships_of_user(user)
            .into_iter()
            .filter_map(|slot| self.membership_at(slot))
            .find(|membership| membership.organization == organization)
    }

    /// Returns the slots of a user's live memberships, ascending.
    pub fn memberships_of_user(&self, user: Ulid) -> Vec<Slot> {
        let mut slots = Vec::new();
        let user = find(&self.users, user).and_then(|slot| at(&self.users, slot));
        let mut next = user.map_or(NO_SLOT, |user| user.newest_membership);
        while let Some(row) = at(&self.memberships, next) {
            if row.status.is_some() {
                slots.push(next);
            }
            next = row.next_of_user;
        }
        slots.reverse();
        slots
    }

    /// Returns the slots of all memberships an organization ever had, ascending.
    pub fn memberships_of_organization(&self, organization: Ulid) -> &[Slot] {
        find(&self.organizations, organization)
            .and_then(|slot| at(&self.organizations, slot))
            .map_or(&[], |organization| &organization.memberships)
    }

    /// Returns the live factor in a slot.
    pub fn factor_at(&self, slot: Slot) -> Option<FactorRecord<'_>> {
        let body = &at(&self.factors, slot)?.body;
        if body.is_empty() {
            return None;
        }
        postcard::from_bytes(body).ok()
    }

    /// Returns the slots of a user's factors, ascending.
    pub fn factors_of_user(&self, user: Ulid) -> &[Slot] {
        self.factors_by_user.get(&user).map_or(&[], Vec::as_slice)
    }

    /// Returns the slots of the users with a membership in an organization, ascending.
    pub fn users_of_organization(&self, organization: Ulid) -> Vec<Slot> {
        let mut users: Vec<Slot> = self
            .memberships_of_organization(organization)
            .iter()
            .filter_map(|slot| at(&self.memberships, *slot))
            .filter(|row| row.status.is_some())
            .map(|row| row.user)
            .collect();
        users.sort_unstable();
        users
    }

    /// Returns every slot of a table as a listing.
    pub fn all(&self, kind: Kind) -> Selection<'_> {
        let len = match kind {
            Kind::User => self.users.len(),
            Kind::Organization => self.organizations.len(),
            Kind::Membership => self.memberships.len(),
            Kind::Factor => self.factors.len(),
        };
        Selection {
            store: self,
            kind,
            slots: Slots::First(len),
        }
    }

    /// Returns some slots of a table, ascending, as a listing.
    pub fn some<'a>(&'a self, kind: Kind, slots: impl Into<Cow<'a, [Slot]>>) -> Selection<'a> {
        Selection {
            store: self,
            kind,
            slots: Slots::Some(slots.into()),
        }
    }

    fn id_at(&self, kind: Kind, slot: Slot) -> Option<Ulid> {
        match kind {
            Kind::User => at(&self.users, slot).map(Keyed::key),
            Kind::Organization => at(&self.organizations, slot).map(Keyed::key),
            Kind::Membership => at(&self.memberships, slot).map(Keyed::key),
            Kind::Factor => at(&self.factors, slot).map(Keyed::key),
        }
    }

    fn is_live(&self, kind: Kind, slot: Slot) -> bool {
        match kind {
            Kind::User => at(&self.users, slot).is_some_and(|row| !row.body.is_empty()),
            Kind::Organization => {
                at(&self.organizations, slot).is_some_and(|row| !row.body.is_empty())
            }
            Kind::Membership => at(&self.memberships, slot).is_some_and(|row| row.status.is_some()),
            Kind::Factor => at(&self.factors, slot).is_some_and(|row| !row.body.is_empty()),
        }
    }
}

/// Slots of one table in ascending order, without the deleted ones.
#[derive(Debug)]
pub struct Selection<'a> {
    store: &'a Store,
    kind: Kind,
    slots: Slots<'a>,
}

#[derive(Debug)]
enum Slots<'a> {
    First(usize),
    Some(Cow<'a, [Slot]>),
}

impl Selection<'_> {
    /// Returns the slot at a position.
    pub fn slot(&self, position: usize) -> Slot {
        match &self.slots {
            Slots::First(_) => Slot::try_from(position).unwrap_or(NO_SLOT),
            Slots::Some(slots) => slots.get(position).copied().unwrap_or(NO_SLOT),
        }
    }
}

impl Listing for Selection<'_> {
    fn len(&self) -> usize {
        match &self.slots {
            Slots::First(len) => *len,
            Slots::Some(slots) => slots.len(),
        }
    }

    fn id(&self, position: usize) -> Ulid {
        self.store
            .id_at(self.kind, self.slot(position))
            .unwrap_or_default()
    }

    fn has(&self, position: usize) -> bool {
        self.store.is_live(self.kind, self.slot(position))
    }
}

/// Changing.
impl Store {
    /// Applies an encoded [`Change`].
    pub fn apply(&mut self, bytes: &[u8]) -> Result<(), ApplyError> {
        match postcard::from_bytes(bytes)? {
            Change::User(user) => self.put_user(&user),
            Change::UserDeleted(id) => self.delete_user(id),
            Change::Organization(organization) => self.put_organization(&organization),
            Change::OrganizationDeleted(id) => self.delete_organization(id),
            Change::Membership(membership) => self.put_membership(&membership),
            Change::MembershipDeleted(id) => self.delete_membership(id),
            Change::Factor(factor) => self.put_factor(&factor),
        }
    }

    fn put_user(&mut self, user: &UserRecord<'_>) -> Result<(), ApplyError> {
        let body = postcard::to_stdvec(user)?.into_boxed_slice();
        let slot = if let Some(slot) = find(&self.users, user.id) {
            self.unindex_user(slot);
            if let Some(row) = at_mut(&mut self.users, slot) {
                row.body = body;
            }
            slot
        } else {
            let slot = next_slot(&self.users, Kind::User, user.id)?;
            self.users.push(UserSlot {
                id: user.id,
                body,
                newest_membership: NO_SLOT,
            });
            self.live[Kind::User as usize] += 1;
            slot
        };
        self.users_by_email.insert(&normal_email(user.email), slot);
        if let Some(external_id) = user.external_id {
            self.users_by_external_id.insert(external_id, slot);
        }
        Ok(())
    }

    fn unindex_user(&mut self, slot: Slot) {
        let Some(row) = at(&self.users, slot) else {
            return;
        };
        let Ok(old) = postcard::from_bytes::<UserRecord<'_>>(&row.body) else {
            return;
        };
        self.users_by_email.remove(&normal_email(old.email), slot);
        if let Some(external_id) = old.external_id {
            self.users_by_external_id.remove(external_id, slot);
        }
    }

    fn delete_user(&mut self, id: Ulid) -> Result<(), ApplyError> {
        let slot = find(&self.users, id).filter(|slot| self.is_live(Kind::User, *slot));
        let slot = slot.ok_or(ApplyError::Missing(Id(Kind::User, id)))?;
        for membership in self.memberships_of_user(id) {
            self.clear_membership(membership);
        }
        for factor in self.factors_by_user.remove(&id).unwrap_or_default() {
            if let Some(row) = at_mut(&mut self.factors, factor) {
                row.body = Box::default();
                self.live[Kind::Factor as usize] -= 1;
            }
        }
        self.unindex_user(slot);
        if let Some(row) = at_mut(&mut self.users, slot) {
            row.body = Box::default();
            row.newest_membership = NO_SLOT;
        }
        self.live[Kind::User as usize] -= 1;
        Ok(())
    }

    fn put_organization(
        &mut self,
        organization: &OrganizationRecord<'_>,
    ) -> Result<(), ApplyError> {
        let body = postcard::to_stdvec(organization)?.into_boxed_slice();
        let slot = if let Some(slot) = find(&self.organizations, organization.id) {
            self.unindex_organization(slot);
            if let Some(row) = at_mut(&mut self.organizations, slot) {
                row.body = body;
            }
            slot
        } else {
            let slot = next_slot(&self.organizations, Kind::Organization, organization.id)?;
            self.organizations.push(OrganizationSlot {
                id: organization.id,
                body,
                memberships: Vec::new(),
            });
            self.live[Kind::Organization as usize] += 1;
            slot
        };
        if let Some(external_id) = organization.external_id {
            self.organizations_by_external_id.insert(external_id, slot);
        }
        Ok(())
    }

    fn unindex_organization(&mut self, slot: Slot) {
        let Some(row) = at(&self.organizations, slot) else {
            return;
        };
        let old = postcard::from_bytes::<OrganizationRecord<'_>>(&row.body);
        if let Ok(Some(external_id)) = old.map(|old| old.external_id) {
            self.organizations_by_external_id.remove(external_id, slot);
        }
    }

    fn delete_organization(&mut self, id: Ulid) -> Result<(), ApplyError> {
        let slot = find(&self.organizations, id)
            .filter(|slot| self.is_live(Kind::Organization, *slot))
            .ok_or(ApplyError::Missing(Id(Kind::Organization, id)))?;
        self.unindex_organization(slot);
        let mut memberships = Vec::new();
        if let Some(row) = at_mut(&mut self.organizations, slot) {
            row.body = Box::default();
            memberships = std::mem::take(&mut row.memberships);
        }
        for membership in memberships {
            self.clear_membership(membership);
        }
        self.live[Kind::Organization as usize] -= 1;
        Ok(())
    }

    fn put_membership(&mut self, membership: &MembershipRecord) -> Result<(), ApplyError> {
        if let Some(slot) = find(&self.memberships, membership.id) {
            if let Some(row) = at_mut(&mut self.memberships, slot) {
                row.updated_ms = membership.updated_ms;
                row.roles = membership.roles;
                row.status = Some(membership.status);
            }
            return Ok(());
        }
        let missing = |kind, id| ApplyError::Missing(Id(kind, id));
        let slot = next_slot(&self.memberships, Kind::Membership, membership.id)?;
        let user = find(&self.users, membership.user)
            .ok_or_else(|| missing(Kind::User, membership.user))?;
        let organization = find(&self.organizations, membership.organization)
            .ok_or_else(|| missing(Kind::Organization, membership.organization))?;
        let next_of_user = at_mut(&mut self.users, user).map_or(NO_SLOT, |row| {
            std::mem::replace(&mut row.newest_membership, slot)
        });
        if let Some(row) = at_mut(&mut self.organizations, organization) {
            row.memberships.push(slot);
        }
        self.memberships.push(MembershipSlot {
            id: membership.id,
            created_ms: membership.created_ms,
            updated_ms: membership.updated_ms,
            user,
            organization,
            next_of_user,
            roles: membership.roles,
            status: Some(membership.status),
        });
        self.live[Kind::Membership as usize] += 1;
        Ok(())
    }

    fn put_factor(&mut self, factor: &FactorRecord<'_>) -> Result<(), ApplyError> {
        if self.user(factor.user).is_none() {
            return Err(ApplyError::Missing(Id(Kind::User, factor.user)));
        }
        let body = postcard::to_stdvec(factor)?.into_boxed_slice();
        let slot = next_slot(&self.factors, Kind::Factor, factor.id)?;
        self.factors.push(FactorSlot {
            id: factor.id,
            body,
        });
        self.factors_by_user
            .entry(factor.user)
            .or_default()
            .push(slot);
        self.live[Kind::Factor as usize] += 1;
        Ok(())
    }

    fn delete_membership(&mut self, id: Ulid) -> Result<(), ApplyError> {
        let slot = find(&self.memberships, id)
            .filter(|slot| self.is_live(Kind::Membership, *slot))
            .ok_or(ApplyError::Missing(Id(Kind::Membership, id)))?;
        self.clear_membership(slot);
        Ok(())
    }

    fn clear_membership(&mut self, slot: Slot) {
        let row = at_mut(&mut self.memberships, slot);
        if row.is_some_and(|row| row.status.take().is_some()) {
            self.live[Kind::Membership as usize] -= 1;
        }
    }
}
