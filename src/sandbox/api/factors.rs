//! `/user_management/users/{id}/auth_factors`.
//!
//! Assumed, because nobody has documented it: a second enrolment makes a second factor. It is the
//! worst case for whoever sends twice. Secrets are checked, echoed once and never kept.

use super::error::{ApiError, ApiResult};
use super::fields::Fields;
use super::view::{EnrolledView, FactorView, ListView};
use super::{Answer, Call, encode};
use crate::sandbox::ids::{Id, Kind, Ulid};
use crate::sandbox::page;
use crate::sandbox::record::{Change, FactorRecord};

/// POST: enrols a factor.
pub fn create(call: &mut Call<'_>, fields: &Fields) -> ApiResult<Answer> {
    let user = owner(call)?;
    if fields.required("type")? != "totp" {
        return Err(ApiError::invalid("type must be totp."));
    }
    let secret = fields.text("totp_secret")?.value();
    if secret.is_some_and(|secret| !is_base32(secret)) {
        return Err(ApiError::invalid("totp_secret must be Base32."));
    }
    let text = |name| Ok::<_, ApiError>(fields.text(name)?.value().filter(|text| !text.is_empty()));
    let factor = FactorRecord {
        id: call.directory.next_id(call.now_ms),
        created_ms: call.now_ms,
        user,
        issuer: text("totp_issuer")?,
        label: text("totp_user")?,
    };
    call.commit(&encode(&Change::Factor(factor.clone()))?)?;
    call.trace.entity = Some(Id(Kind::Factor, factor.id));
    Answer::json(201, &EnrolledView::new(&factor, secret))
}

/// GET: the user's factors.
pub fn list(call: &mut Call<'_>) -> ApiResult<Answer> {
    let user = owner(call)?;
    let request = call.query.page(Kind::Factor)?;
    let store = call.directory.store();
    let selection = store.some(Kind::Factor, store.factors_of_user(user));
    let page = page::cut(request, &selection);
    let slots = page.positions.iter().map(|at| selection.slot(*at));
    let data: Vec<FactorView<'_>> = slots
        .filter_map(|slot| store.factor_at(slot))
        .map(FactorView::from)
        .collect();
    Answer::json(200, &ListView::new(Kind::Factor, &page, data))
}

/// Returns the user in the path.
fn owner(call: &mut Call<'_>) -> ApiResult<Ulid> {
    let user = call.key_id(Kind::User)?;
    let id = Id(Kind::User, user);
    call.trace.user_id = Some(id.to_string());
    match call.directory.store().user(user) {
        Some(_) => Ok(user),
        None => Err(ApiError::missing(id)),
    }
}

/// RFC 4648, upper case, padding optional.
fn is_base32(text: &str) -> bool {
    let body = text.trim_end_matches('=');
    let is_symbol = |byte: u8| byte.is_ascii_uppercase() || (b'2'..=b'7').contains(&byte);
    !body.is_empty() && !matches!(body.len() % 8, 1 | 3 | 6) && body.bytes().all(is_symbol)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base32_is_told_from_other_text() {
        for good in ["JBSWY3DPEHPK3PXP", "MFRGG===", "MFRGGZDF"] {
            assert!(is_base32(good), "{good}");
        }
        for bad in ["", "=", "jbswy3dp", "JBSWY3D1", "JBSWY3DPE", "JBSW Y3DP"] {
            assert!(!is_base32(bad), "{bad}");
        }
    }
}
