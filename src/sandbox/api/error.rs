//! Refusals in the words of the live API.
//!
//! Bodies are `{message}`, `{message, code}` or `{message, code, errors: [{code, message}]}`.

use super::Answer;
use crate::sandbox::ids::Id;
use serde::Serialize;

/// A detail of a refusal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Detail {
    pub code: &'static str,
    pub message: &'static str,
}

/// A refusal: nothing was applied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ApiError {
    #[serde(skip)]
    pub status: u16,
    pub message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<Detail>,
}

/// What may go wrong with a request.
pub type ApiResult<T> = Result<T, ApiError>;

impl ApiError {
    /// `{message}` alone.
    pub fn plain(status: u16, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
            code: None,
            errors: Vec::new(),
        }
    }

    /// 400 with a code.
    pub fn bad(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            code: Some(code),
            ..Self::plain(400, message)
        }
    }

    /// 422 `invalid_request_parameters`: a field or parameter is missing or of the wrong shape.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self {
            code: Some("invalid_request_parameters"),
            ..Self::plain(422, message)
        }
    }

    /// 422 `invalid_role`.
    pub fn role(slug: &str) -> Self {
        Self {
            code: Some("invalid_role"),
            ..Self::plain(
                422,
                format!("The role '{slug}' does not exist in this environment."),
            )
        }
    }

    /// 404 for an id that names nothing.
    pub fn missing(id: Id) -> Self {
        Self::plain(404, format!("{} not found: '{id}'.", id.0.noun()))
    }

    /// 404 for text that cannot be the id of anything.
    pub fn missing_text(noun: &str, text: &str) -> Self {
        Self::plain(404, format!("{noun} not found: '{text}'."))
    }

    /// 500: the sandbox itself failed, nothing was applied.
    pub fn internal() -> Self {
        Self::plain(500, "Internal Server Error")
    }

    /// Makes the answer.
    pub fn into_answer(self) -> Answer {
        let body = serde_json::to_vec(&self).unwrap_or_default();
        Answer {
            status: self.status,
            body,
        }
    }
}
