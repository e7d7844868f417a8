//! `/user_management/users`.

use super::error::{ApiError, ApiResult, Detail};
use super::fields::{Field, Fields, merge_metadata};
use super::view::{ListView, UserView};
use super::{Answer, Call, encode, hash};
use crate::sandbox::ids::{Id, Kind, Ulid};
use crate::sandbox::index::Slot;
use crate::sandbox::page;
use crate::sandbox::record::{Change, UserRecord};
use crate::sandbox::store::{Store, normal_email};

/// Longest email address (RFC 5321, without the brackets).
const EMAIL_BYTES_MAX: usize = 254;
/// Longest part before the `@`.
const LOCAL_PART_BYTES_MAX: usize = 64;
/// Shortest password of the sandbox; the live one is a setting of the environment.
const PASSWORD_CHARS_MIN: usize = 8;

/// POST
pub fn create(call: &mut Call<'_>, fields: &Fields) -> ApiResult<Answer> {
    remember(call, fields);
    let email = fields.required("email")?.trim();
    if !is_email(email) {
        return Err(ApiError::invalid("email must be an email address."));
    }
    check_credential(fields)?;
    let user = UserRecord {
        id: call.directory.next_id(call.now_ms),
        created_ms: call.now_ms,
        updated_ms: call.now_ms,
        email,
        email_verified: fields.flag("email_verified")?.value().unwrap_or(false),
        first_name: fields.text("first_name")?.value(),
        last_name: fields.text("last_name")?.value(),
        external_id: fields.external_id()?.value(),
        locale: None,
        metadata: merge_metadata(Vec::new(), fields.metadata()?)?,
    };
    check_free(call.directory.store(), &user)?;
    call.commit(&encode(&Change::User(user.clone()))?)?;
    call.trace.entity = Some(Id(Kind::User, user.id));
    Answer::json(201, &UserView::from(user))
}

/// GET of the collection.
pub fn list(call: &mut Call<'_>) -> ApiResult<Answer> {
    let request = call.query.page(Kind::User)?;
    let mut organization = call.query.id("organization_id", Kind::Organization)?;
    if organization.is_none() {
        organization = call.query.id("organization", Kind::Organization)?;
    }
    let email = call.query.get("email");
    call.trace.email = email.map(str::to_owned);
    call.trace.organization_id = organization.map(|id| id.to_string());
    let store = call.directory.store();
    let selection = match (email, organization) {
        (None, None) => store.all(Kind::User),
        (None, Some(id)) => store.some(Kind::User, store.users_of_organization(id.1)),
        (Some(email), id) => store.some(Kind::User, with_email(store, email, id)),
    };
    let page = page::cut(request, &selection);
    let users = page
        .positions
        .iter()
        .map(|position| selection.slot(*position));
    let data: Vec<UserView<'_>> = users
        .filter_map(|slot| store.user_at(slot))
        .map(UserView::from)
        .collect();
    Answer::json(200, &ListView::new(Kind::User, &page, data))
}

fn with_email(store: &Store, email: &str, organization: Option<Id>) -> Vec<Slot> {
    let slot = store.user_slot_by_email(email).filter(|slot| {
        let user = store.user_at(*slot).map(|user| user.id);
        match (user, organization) {
            (Some(user), Some(id)) => store.membership_of(user, id.1).is_some(),
            (user, None) => user.is_some(),
            (None, Some(_)) => false,
        }
    });
    slot.into_iter().collect()
}

/// GET by id.
pub fn get(call: &mut Call<'_>) -> ApiResult<Answer> {
    let id = call.key_id(Kind::User)?;
    shown(call, id)
}

/// GET by the id in the source system.
pub fn get_by_external_id(call: &mut Call<'_>) -> ApiResult<Answer> {
    let external_id = &call.route.key;
    call.trace.external_id = Some(external_id.clone());
    let user = call.directory.store().user_by_external_id(external_id);
    let user = user.ok_or_else(|| ApiError::missing_text("User", external_id))?;
    call.trace.entity = Some(Id(Kind::User, user.id));
    Answer::json(200, &UserView::from(user))
}

/// PUT
pub fn update(call: &mut Call<'_>, fields: &Fields) -> ApiResult<Answer> {
    remember(call, fields);
    let id = call.key_id(Kind::User)?;
    let store = call.directory.store();
    let old = store.user(id).ok_or_else(|| missing(id))?;
    check_credential(fields)?;
    let mut user = UserRecord {
        updated_ms: call.now_ms.max(old.updated_ms),
        email_verified: match fields.flag("email_verified")? {
            Field::Set(flag) => flag,
            Field::Absent | Field::Null => old.email_verified,
        },
        first_name: fields.text("first_name")?.or_keep(old.first_name),
        last_name: fields.text("last_name")?.or_keep(old.last_name),
        external_id: fields.external_id()?.or_keep(old.external_id),
        locale: locale(fields)?.or_keep(old.locale),
        metadata: merge_metadata(old.metadata.clone(), fields.metadata()?)?,
        ..old
    };
    if let Field::Set(email) = fields.text("email")? {
        user.email = email.trim();
        if !is_email(user.email) {
            return Err(ApiError::bad("invalid_email", "The email is not valid."));
        }
    }
    let (email_taken, external_id_taken) = taken(store, &user);
    if email_taken {
        return Err(ApiError::bad(EMAIL_TAKEN.code, EMAIL_TAKEN.message));
    }
    if external_id_taken {
        return Err(ApiError::bad(
            EXTERNAL_ID_TAKEN.code,
            EXTERNAL_ID_TAKEN.message,
        ));
    }
    let change = encode(&Change::User(user))?;
    call.commit(&change)?;
    shown(call, id)
}

/// DELETE
pub fn delete(call: &mut Call<'_>) -> ApiResult<Answer> {
    let id = call.key_id(Kind::User)?;
    if call.directory.store().user(id).is_none() {
        return Err(missing(id));
    }
    call.commit(&encode(&Change::UserDeleted(id))?)?;
    Ok(Answer::empty(200))
}

fn shown(call: &Call<'_>, id: Ulid) -> ApiResult<Answer> {
    let user = call.directory.store().user(id).ok_or_else(|| missing(id))?;
    Answer::json(200, &UserView::from(user))
}

fn missing(id: Ulid) -> ApiError {
    ApiError::missing(Id(Kind::User, id))
}

fn remember(call: &mut Call<'_>, fields: &Fields) {
    call.trace.email = fields.peek("email").map(str::to_owned);
    call.trace.external_id = fields.peek("external_id").map(str::to_owned);
}

const EMAIL_TAKEN: Detail = Detail {
    code: "email_not_available",
    message: "This email is not available.",
};
const EXTERNAL_ID_TAKEN: Detail = Detail {
    code: "external_id_already_used",
    message: "This external_id has already been assigned.",
};

/// Returns whether another user has the email, and whether another has the external id.
fn taken(store: &Store, user: &UserRecord<'_>) -> (bool, bool) {
    let is_other = |other: UserRecord<'_>| other.id != user.id;
    let by_external_id = user
        .external_id
        .and_then(|id| store.user_by_external_id(id));
    (
        store.user_by_email(user.email).is_some_and(is_other),
        by_external_id.is_some_and(is_other),
    )
}

fn check_free(store: &Store, user: &UserRecord<'_>) -> ApiResult<()> {
    let (email_taken, external_id_taken) = taken(store, user);
    let mut errors = Vec::new();
    if email_taken {
        errors.push(EMAIL_TAKEN);
    }
    if external_id_taken {
        errors.push(EXTERNAL_ID_TAKEN);
    }
    if errors.is_empty() {
        return Ok(());
    }
    Err(ApiError {
        errors,
        ..ApiError::bad("user_creation_error", "Could not create user.")
    })
}

/// Checks a password or a hash and forgets it.
fn check_credential(fields: &Fields) -> ApiResult<()> {
    let password = fields.text("password")?.value();
    let hash = fields.text("password_hash")?.value();
    let kind = fields.text("password_hash_type")?.value();
    let together = "A password and a password hash cannot be given together.";
    if password.is_some() && hash.is_some() {
        return Err(ApiError::bad(
            "password_and_password_hash_provided",
            together,
        ));
    }
    if password.is_some() && kind.is_some() {
        return Err(ApiError::bad(
            "password_and_password_hash_type_provided",
            together,
        ));
    }
    if fields.has("password_salt_position") && hash.is_none() {
        return Err(ApiError::bad(
            "password_salt_position_requires_password_hash",
            "password_salt_position needs a password_hash.",
        ));
    }
    match (hash, kind) {
        (None, None) => password.map_or(Ok(()), check_strength),
        (Some(_), None) | (None, Some(_)) => Err(ApiError::invalid(
            "password_hash and password_hash_type must be given together.",
        )),
        (Some(_), Some(kind)) if !hash::TYPES.contains(&kind) => Err(ApiError::invalid(format!(
            "password_hash_type must be one of {}.",
            hash::TYPES.join(", ")
        ))),
        (Some(hash), Some(kind)) if !hash::is_valid(kind, hash) => Err(ApiError::bad(
            "invalid_password_hash",
            format!("The password hash is not a valid {kind} hash."),
        )),
        (Some(_), Some(_)) => Ok(()),
    }
}

fn check_strength(password: &str) -> ApiResult<()> {
    if password.chars().count() >= PASSWORD_CHARS_MIN {
        return Ok(());
    }
    Err(ApiError {
        errors: vec![Detail {
            code: "password_too_short",
            message: "The password must have at least 8 characters.",
        }],
        ..ApiError::bad(
            "password_strength_error",
            "The password does not meet the strength requirements.",
        )
    })
}

fn locale(fields: &Fields) -> ApiResult<Field<&str>> {
    let field = fields.text("locale")?;
    match field {
        Field::Set(text) if !is_locale(text) => {
            Err(ApiError::bad("invalid_locale", "The locale is not valid."))
        }
        _ => Ok(field),
    }
}

/// `en`, `en-US`, `zh-Hant-TW`: a language and subtags.
fn is_locale(text: &str) -> bool {
    let mut parts = text.split(['-', '_']);
    let is_language = parts.next().is_some_and(|part| {
        (2..=3).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_alphabetic())
    });
    is_language
        && parts.all(|part| {
            (2..=8).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_alphanumeric())
        })
}

fn is_email(text: &str) -> bool {
    let Some((local, domain)) = text.rsplit_once('@') else {
        return false;
    };
    let is_odd = |c: char| c.is_whitespace() || c.is_control() || "@,;<>()[]\\\"".contains(c);
    let is_label = |label: &str| {
        let is_symbol = |c: char| c.is_alphanumeric() || c == '-';
        !label.is_empty()
            && label.chars().all(is_symbol)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    normal_email(text).len() <= EMAIL_BYTES_MAX
        && (1..=LOCAL_PART_BYTES_MAX).contains(&local.len())
        && !local.contains(is_odd)
        && !local.starts_with('.')
        && !local.ends_with('.')
        && !local.contains("..")
        && domain.contains('.')
        && domain.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn emails_are_told_from_other_text() {
        for good in [
            "a@b.co",
            "first.last+tag@sub.example.org",
            "o'neil@x-y.io",
            "jörg@exämple.de",
        ] {
            assert!(is_email(good), "{good}");
        }
        for bad in [
            "",
            "a",
            "@b.co",
            "a@",
            "a@b",
            "a b@c.de",
            "a@b..de",
            "a@-b.de",
            "a@@b.de",
            ".a@b.de",
            "a.@b.de",
            "a..b@c.de",
            "<a@b.de>",
            "a@b.de,c@d.ef",
        ] {
            assert!(!is_email(bad), "{bad}");
        }
    }

    #[test]
    fn locales_are_told_from_other_text() {
        assert!(
            ["en", "en-US", "pt_BR", "zh-Hant-TW"]
                .into_iter()
                .all(is_locale)
        );
        assert!(
            !["", "e", "english", "en-", "en US", "12"]
                .into_iter()
                .any(is_locale)
        );
    }
}
