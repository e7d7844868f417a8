//! `/organizations`. Names are not unique, external ids are. There are no domains in the sandbox.

use super::error::{ApiError, ApiResult};
use super::fields::{Fields, merge_metadata};
use super::view::{ListView, OrganizationView};
use super::{Answer, Call, encode};
use crate::sandbox::ids::{Id, Kind, Ulid};
use crate::sandbox::page::{self, Listing};
use crate::sandbox::record::{Change, OrganizationRecord};
use crate::sandbox::store::{Selection, Store};

/// POST
pub fn create(call: &mut Call<'_>, fields: &Fields) -> ApiResult<Answer> {
    call.trace.external_id = fields.peek("external_id").map(str::to_owned);
    check_domains(fields)?;
    let organization = OrganizationRecord {
        id: call.directory.next_id(call.now_ms),
        created_ms: call.now_ms,
        updated_ms: call.now_ms,
        name: fields.required("name")?,
        external_id: fields.external_id()?.value(),
        metadata: merge_metadata(Vec::new(), fields.metadata()?)?,
    };
    check_free(call.directory.store(), &organization)?;
    call.commit(&encode(&Change::Organization(organization.clone()))?)?;
    call.trace.entity = Some(Id(Kind::Organization, organization.id));
    Answer::json(201, &OrganizationView::from(organization))
}

/// Organizations whose name contains a text, whatever its case.
struct Matching<'a> {
    all: Selection<'a>,
    store: &'a Store,
    words: Option<String>,
}

impl Listing for Matching<'_> {
    fn len(&self) -> usize {
        self.all.len()
    }

    fn id(&self, position: usize) -> Ulid {
        self.all.id(position)
    }

    fn has(&self, position: usize) -> bool {
        let Some(words) = &self.words else {
            return self.all.has(position);
        };
        let organization = self.store.organization_at(self.all.slot(position));
        organization.is_some_and(|found| found.name.to_lowercase().contains(words))
    }
}

/// GET of the collection.
pub fn list(call: &mut Call<'_>) -> ApiResult<Answer> {
    if call.query.get("domains").is_some() {
        return Err(ApiError::invalid(
            "The sandbox has no organization domains.",
        ));
    }
    let request = call.query.page(Kind::Organization)?;
    let store = call.directory.store();
    let matching = Matching {
        all: store.all(Kind::Organization),
        store,
        words: call.query.get("search").map(str::to_lowercase),
    };
    let page = page::cut(request, &matching);
    let slots = page
        .positions
        .iter()
        .map(|position| matching.all.slot(*position));
    let data: Vec<OrganizationView<'_>> = slots
        .filter_map(|slot| store.organization_at(slot))
        .map(OrganizationView::from)
        .collect();
    Answer::json(200, &ListView::new(Kind::Organization, &page, data))
}

/// GET by id.
pub fn get(call: &mut Call<'_>) -> ApiResult<Answer> {
    let id = call.key_id(Kind::Organization)?;
    shown(call, id)
}

/// GET by the id in the source system.
pub fn get_by_external_id(call: &mut Call<'_>) -> ApiResult<Answer> {
    let external_id = &call.route.key;
    call.trace.external_id = Some(external_id.clone());
    let organization = call
        .directory
        .store()
        .organization_by_external_id(external_id);
    let organization =
        organization.ok_or_else(|| ApiError::missing_text("Organization", external_id))?;
    call.trace.entity = Some(Id(Kind::Organization, organization.id));
    Answer::json(200, &OrganizationView::from(organization))
}

/// PUT
pub fn update(call: &mut Call<'_>, fields: &Fields) -> ApiResult<Answer> {
    call.trace.external_id = fields.peek("external_id").map(str::to_owned);
    let id = call.key_id(Kind::Organization)?;
    check_domains(fields)?;
    let store = call.directory.store();
    let old = store.organization(id).ok_or_else(|| missing(id))?;
    let name = if fields.has("name") {
        fields.required("name")?
    } else {
        old.name
    };
    let organization = OrganizationRecord {
        updated_ms: call.now_ms.max(old.updated_ms),
        name,
        external_id: fields.external_id()?.or_keep(old.external_id),
        metadata: merge_metadata(old.metadata.clone(), fields.metadata()?)?,
        ..old
    };
    check_free(store, &organization)?;
    let change = encode(&Change::Organization(organization))?;
    call.commit(&change)?;
    shown(call, id)
}

/// DELETE
pub fn delete(call: &mut Call<'_>) -> ApiResult<Answer> {
    let id = call.key_id(Kind::Organization)?;
    if call.directory.store().organization(id).is_none() {
        return Err(missing(id));
    }
    call.commit(&encode(&Change::OrganizationDeleted(id))?)?;
    Ok(Answer::empty(200))
}

fn shown(call: &Call<'_>, id: Ulid) -> ApiResult<Answer> {
    let organization = call.directory.store().organization(id);
    let organization = organization.ok_or_else(|| missing(id))?;
    Answer::json(200, &OrganizationView::from(organization))
}

fn missing(id: Ulid) -> ApiError {
    ApiError::missing(Id(Kind::Organization, id))
}

fn check_free(store: &Store, organization: &OrganizationRecord<'_>) -> ApiResult<()> {
    let external_id = organization.external_id;
    let holder = external_id.and_then(|id| store.organization_by_external_id(id));
    if holder.is_some_and(|holder| holder.id != organization.id) {
        return Err(ApiError::bad(
            "external_id_already_used",
            "This external_id has already been assigned.",
        ));
    }
    Ok(())
}

/// Refuses what would otherwise be lost without a word.
fn check_domains(fields: &Fields) -> ApiResult<()> {
    let has_domains = !fields.objects("domain_data")?.is_empty()
        || fields
            .texts("domains")?
            .value()
            .is_some_and(|list| !list.is_empty());
    if has_domains {
        return Err(ApiError::invalid(
            "The sandbox has no organization domains.",
        ));
    }
    Ok(())
}
