//! `/user_management/organization_memberships`.

use super::error::{ApiError, ApiResult};
use super::fields::{Field, Fields};
use super::view::{ListView, MembershipView};
use super::{Answer, Call, encode, failed};
use crate::sandbox::directory::Directory;
use crate::sandbox::ids::{Id, Kind, Ulid};
use crate::sandbox::page::{self, Listing};
use crate::sandbox::record::{Change, MembershipRecord, Role, Roles, Status};
use crate::sandbox::store::{Selection, Store};

/// POST: makes a membership, or re-activates an inactive one with the roles given.
pub fn create(call: &mut Call<'_>, fields: &Fields) -> ApiResult<Answer> {
    call.trace.user_id = fields.peek("user_id").map(str::to_owned);
    call.trace.organization_id = fields.peek("organization_id").map(str::to_owned);
    let (user_text, organization_text) = (
        fields.required("user_id")?,
        fields.required("organization_id")?,
    );
    let roles = roles(fields)?.unwrap_or(Roles::DEFAULT);
    let (user, organization) = pair(call.directory.store(), user_text, organization_text)?;
    let membership = match call.directory.store().membership_of(user, organization) {
        None => MembershipRecord {
            id: call.directory.next_id(call.now_ms),
            created_ms: call.now_ms,
            updated_ms: call.now_ms,
            user,
            organization,
            status: Status::Active,
            roles,
        },
        Some(old) => match old.status {
            Status::Inactive => MembershipRecord {
                updated_ms: call.now_ms.max(old.updated_ms),
                status: Status::Active,
                roles,
                ..old
            },
            Status::Active => {
                return Err(ApiError::bad(
                    "organization_membership_already_exists",
                    "The user is already a member of the organization.",
                ));
            }
            Status::Pending => return Err(cannot_reactivate()),
        },
    };
    call.trace.entity = Some(Id(Kind::Membership, membership.id));
    put(call, membership, 201)
}

/// Memberships in one of some statuses.
struct InStatus<'a> {
    selection: Selection<'a>,
    store: &'a Store,
    statuses: Vec<Status>,
    organization: Option<Ulid>,
}

impl Listing for InStatus<'_> {
    fn len(&self) -> usize {
        self.selection.len()
    }

    fn id(&self, position: usize) -> Ulid {
        self.selection.id(position)
    }

    fn has(&self, position: usize) -> bool {
        let membership = self.store.membership_at(self.selection.slot(position));
        membership.is_some_and(|found| {
            self.statuses.contains(&found.status)
                && self.organization.is_none_or(|id| id == found.organization)
        })
    }
}

/// GET of the collection: active ones unless `statuses` says otherwise.
pub fn list(call: &mut Call<'_>) -> ApiResult<Answer> {
    call.trace.user_id = call.query.get("user_id").map(str::to_owned);
    call.trace.organization_id = call.query.get("organization_id").map(str::to_owned);
    let request = call.query.page(Kind::Membership)?;
    let user = call.query.id("user_id", Kind::User)?;
    let organization = call.query.id("organization_id", Kind::Organization)?;
    let store = call.directory.store();
    let selection = match (user, organization) {
        (Some(user), _) => store.some(Kind::Membership, store.memberships_of_user(user.1)),
        (None, Some(id)) => store.some(Kind::Membership, store.memberships_of_organization(id.1)),
        (None, None) => {
            return Err(ApiError::bad(
                "missing_user_id_or_organization_id",
                "Either user_id or organization_id must be given.",
            ));
        }
    };
    let listing = InStatus {
        selection,
        store,
        statuses: statuses(call.query.get("statuses"))?,
        organization: organization.map(|id| id.1),
    };
    let page = page::cut(request, &listing);
    let slots = page
        .positions
        .iter()
        .map(|position| listing.selection.slot(*position));
    let data: Vec<MembershipView<'_>> = slots
        .filter_map(|slot| store.membership_at(slot))
        .map(|membership| MembershipView::new(call.directory, membership))
        .collect();
    Answer::json(200, &ListView::new(Kind::Membership, &page, data))
}

fn statuses(text: Option<&str>) -> ApiResult<Vec<Status>> {
    let Some(text) = text else {
        return Ok(vec![Status::Active]);
    };
    let statuses = text.split(',').map(|word| Status::from_word(word.trim()));
    statuses
        .collect::<Option<_>>()
        .ok_or_else(|| ApiError::invalid("statuses must be active, inactive or pending."))
}

/// GET by id.
pub fn get(call: &mut Call<'_>) -> ApiResult<Answer> {
    let membership = by_key(call)?;
    Answer::json(200, &MembershipView::new(call.directory, membership))
}

/// PUT: sets the roles.
pub fn update(call: &mut Call<'_>, fields: &Fields) -> ApiResult<Answer> {
    let old = by_key(call)?;
    let membership = MembershipRecord {
        updated_ms: call.now_ms.max(old.updated_ms),
        roles: roles(fields)?.unwrap_or(old.roles),
        ..old
    };
    put(call, membership, 200)
}

/// PUT …/deactivate: without effect on an inactive one.
pub fn deactivate(call: &mut Call<'_>) -> ApiResult<Answer> {
    let old = by_key(call)?;
    match old.status {
        Status::Active => set_status(call, old, Status::Inactive),
        Status::Inactive => Answer::json(200, &MembershipView::new(call.directory, old)),
        Status::Pending => Err(ApiError::bad(
            "cannot_deactivate_pending_organization_membership",
            "A pending organization membership cannot be deactivated.",
        )),
    }
}

/// PUT …/reactivate: keeps the roles; without effect on an active one.
pub fn reactivate(call: &mut Call<'_>) -> ApiResult<Answer> {
    let old = by_key(call)?;
    match old.status {
        Status::Inactive => set_status(call, old, Status::Active),
        Status::Active => Answer::json(200, &MembershipView::new(call.directory, old)),
        Status::Pending => Err(cannot_reactivate()),
    }
}

/// DELETE
pub fn delete(call: &mut Call<'_>) -> ApiResult<Answer> {
    let membership = by_key(call)?;
    call.commit(&encode(&Change::MembershipDeleted(membership.id))?)?;
    Ok(Answer::empty(200))
}

fn set_status(call: &mut Call<'_>, old: MembershipRecord, status: Status) -> ApiResult<Answer> {
    let membership = MembershipRecord {
        updated_ms: call.now_ms.max(old.updated_ms),
        status,
        ..old
    };
    put(call, membership, 200)
}

fn put(call: &mut Call<'_>, membership: MembershipRecord, status: u16) -> ApiResult<Answer> {
    call.commit(&encode(&Change::Membership(membership))?)?;
    Answer::json(status, &MembershipView::new(call.directory, membership))
}

fn by_key(call: &mut Call<'_>) -> ApiResult<MembershipRecord> {
    let id = call.key_id(Kind::Membership)?;
    let membership = call.directory.store().membership(id);
    let membership = membership.ok_or_else(|| ApiError::missing(Id(Kind::Membership, id)))?;
    call.trace.user_id = Some(Id(Kind::User, membership.user).to_string());
    call.trace.organization_id = Some(Id(Kind::Organization, membership.organization).to_string());
    Ok(membership)
}

fn pair(store: &Store, user: &str, organization: &str) -> ApiResult<(Ulid, Ulid)> {
    let user_id = Id::parse(Kind::User, user)
        .filter(|id| store.user(id.1).is_some())
        .ok_or_else(|| ApiError::missing_text("User", user))?;
    let organization_id = Id::parse(Kind::Organization, organization)
        .filter(|id| store.organization(id.1).is_some())
        .ok_or_else(|| ApiError::missing_text("Organization", organization))?;
    Ok((user_id.1, organization_id.1))
}

fn roles(fields: &Fields) -> ApiResult<Option<Roles>> {
    let slugs = match (fields.text("role_slug")?, fields.texts("role_slugs")?) {
        (Field::Set(_), Field::Set(_)) => {
            return Err(ApiError::invalid(
                "role_slug and role_slugs exclude each other.",
            ));
        }
        (Field::Set(slug), _) => vec![slug],
        (_, Field::Set(slugs)) => slugs,
        _ => return Ok(None),
    };
    let roles = slugs
        .iter()
        .map(|slug| Role::from_slug(slug).ok_or_else(|| ApiError::role(slug)));
    let roles: Vec<Role> = roles.collect::<ApiResult<_>>()?;
    let empty = || ApiError::invalid("role_slugs must not be empty.");
    Roles::collect(roles).map(Some).ok_or_else(empty)
}

fn cannot_reactivate() -> ApiError {
    ApiError::bad(
        "cannot_reactivate_pending_organization_membership",
        "A pending organization membership cannot be reactivated.",
    )
}

/// Puts memberships into states the API itself cannot produce, such as `pending`: for tests.
/// Returns how many there were. Every entry is checked before the first is applied.
pub fn seed(directory: &mut Directory, body: &[u8], now_ms: i64) -> ApiResult<usize> {
    let fields = Fields::parse(body)?;
    let mut wanted = Vec::new();
    for entry in fields.objects("memberships")? {
        let (user, organization) = pair(
            directory.store(),
            entry.required("user_id")?,
            entry.required("organization_id")?,
        )?;
        let status = Status::from_word(entry.required("status")?)
            .ok_or_else(|| ApiError::invalid("status must be active, inactive or pending."))?;
        wanted.push((user, organization, status, roles(&entry)?));
    }
    for (user, organization, status, roles) in &wanted {
        let old = directory.store().membership_of(*user, *organization);
        let old = old.unwrap_or_else(|| MembershipRecord {
            id: directory.next_id(now_ms),
            created_ms: now_ms,
            updated_ms: now_ms,
            user: *user,
            organization: *organization,
            status: *status,
            roles: Roles::DEFAULT,
        });
        let membership = MembershipRecord {
            updated_ms: now_ms.max(old.updated_ms),
            status: *status,
            roles: roles.unwrap_or(old.roles),
            ..old
        };
        let change = encode(&Change::Membership(membership))?;
        directory.commit(&change).map_err(failed)?;
    }
    Ok(wanted.len())
}
