//! Every rule with its id: what `check`, a dry run and an import call it. An id is for ever.

/// How bad a broken rule is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The row fails, before any request is sent.
    Error,
    /// The row is sent; the target or a person may not like it.
    Warning,
    /// `check --fix` wrote the cell in another way that means the same.
    Fixed,
}

impl Severity {
    /// Returns the stable word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Fixed => "fixed",
        }
    }
}

/// A rule. Its id is the `error_code` of a row that breaks it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// A stable word in `snake_case`.
    pub id: &'static str,
    /// How bad it is to break it.
    pub severity: Severity,
    /// What a row that breaks it looks like, in a few words.
    pub title: &'static str,
}

macro_rules! rules {
    ($($name:ident = $id:literal $severity:ident $title:literal,)+) => {
        $(pub(in crate::source) const $name: Rule =
            Rule { id: $id, severity: Severity::$severity, title: $title };)+

        /// Every rule, in the order of the documentation.
        pub const ALL: &[Rule] = &[$($name,)+];
    };
}

rules! {
    FIELD_TOO_LONG = "field_too_long" Error "a cell is longer than 1 MiB",
    EMAIL_MISSING = "email_missing" Error "there is no email",
    EMAIL_INVALID = "email_invalid" Error "not an email address",
    EMAIL_VERIFIED_INVALID = "email_verified_invalid" Error "neither yes nor no",
    EXTERNAL_ID_NOT_ASCII = "external_id_not_ascii" Error "an external id is not ASCII",
    EXTERNAL_ID_TOO_LONG = "external_id_too_long" Error "an external id is too long",
    EXTERNAL_ID_INVALID = "external_id_invalid" Error "an external id cannot be asked for",
    EXTERNAL_ID_CONFLICT = "external_id_conflict_in_file" Error
        "an external id belongs to an earlier row with another email",
    LOCALE_INVALID = "locale_invalid" Error "a locale is not a language tag",
    METADATA_INVALID_JSON = "metadata_invalid_json" Error "metadata is not valid JSON",
    METADATA_NOT_OBJECT = "metadata_not_object" Error "metadata is not a JSON object",
    METADATA_DUPLICATE_KEY = "metadata_duplicate_key" Error "metadata holds a key twice",
    METADATA_TOO_MANY_PAIRS = "metadata_too_many_pairs" Error "metadata has too many pairs",
    METADATA_KEY_TOO_LONG = "metadata_key_too_long" Error "a metadata key is too long",
    METADATA_KEY_NOT_ASCII = "metadata_key_not_ascii" Error "a metadata key is not ASCII",
    METADATA_VALUE_TOO_LONG = "metadata_value_too_long" Error "a metadata value is too long",
    METADATA_VALUE_NOT_ASCII = "metadata_value_not_ascii" Error "a metadata value is not ASCII",
    METADATA_VALUE_NESTED = "metadata_value_nested" Error
        "a metadata value is an object or an array",
    PASSWORD_AND_HASH = "password_and_hash" Error "a password next to a hash or its type",
    PASSWORD_HASH_MISSING = "password_hash_missing" Error "a hash type without its hash",
    PASSWORD_HASH_TYPE_MISSING = "password_hash_type_missing" Error "a hash without its type",
    PASSWORD_HASH_TYPE_UNKNOWN = "password_hash_type_unknown" Error
        "a hash type that the target does not know",
    PASSWORD_HASH_FORMAT = "password_hash_format" Error "a hash is not in the format of its type",
    PASSWORD_HASH_PARAMETERS = "password_hash_parameters" Error
        "a hash has parameters that the target refuses",
    TOTP_SECRET_INVALID = "totp_secret_invalid" Error "a TOTP secret is not Base32, or no secret",
    TOTP_ISSUER_WITHOUT_SECRET = "totp_issuer_without_secret" Error
        "a TOTP issuer without its secret",
    ORG_ID_AND_EXTERNAL_ID = "org_id_and_external_id" Error "an organization is named two ways",
    ORGANIZATION_ID_TOO_LONG = "organization_id_too_long" Error "an organization's id is too long",
    ORGANIZATION_ID_INVALID = "organization_id_invalid" Error
        "an organization's id cannot be asked for",
    ORG_NAME_ALONE = "org_name_alone" Error "an organization is known by its name only",
    ORGANIZATION_REQUIRED = "organization_required" Error "no organization is named",
    ROLES_WITHOUT_ORGANIZATION = "roles_without_organization" Error "roles without an organization",
    ROLE_SLUGS_INVALID = "role_slugs_invalid" Error "roles are not written as slugs",
    EMAIL_DOMAIN_TYPO = "email_domain_typo" Warning "a domain looks like a well-known one, mistyped",
    EMAIL_UNUSUAL = "email_unusual" Warning "an address is valid, and many servers refuse its kind",
    EXTERNAL_ID_LONG = "external_id_long" Warning
        "an external id is longer than the target's documentation allows",
    METADATA_MANY_PAIRS = "metadata_many_pairs" Warning
        "metadata has more pairs than the target's documentation allows",
    QUOTE_STRAY = "quote_stray" Warning "text stands after the closing quote of a cell",
    PASSWORD_BLANK = "password_blank" Warning "a password is nothing but blanks",
    PASSWORD_HASH_UNCONFIRMED = "password_hash_unconfirmed" Warning
        "a hash in a form that the target does not document",
    USER_FIELDS_DIFFER = "user_fields_differ" Warning
        "a row repeats an email with other user fields; the first row's count",
    MEMBERSHIP_REPEATED = "membership_repeated" Warning
        "a row repeats an email and organization of an earlier row; its roles are not added",
    ORG_NAME_SIMILAR = "org_name_similar" Warning
        "organizations whose names differ only in letter case or spaces",
    ORG_NAME_CONFLICT = "org_name_conflict" Warning "an organization gets two names",
    CELL_TRIMMED = "cell_trimmed" Fixed "spaces around a cell were removed",
    FLAG_SPELLED_OUT = "flag_spelled_out" Fixed "yes or no was written as true or false",
    HEADER_NAME = "header_name" Fixed "a column got its name as the documentation writes it",
    ENCODING_UTF8 = "encoding_utf8" Fixed "the text was written as UTF-8",
    BYTE_ORDER_MARK = "byte_order_mark" Fixed "the byte order mark was removed",
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_rule_is_in_the_documentation_and_none_is_invented() {
        let told = include_str!("../../../docs/RULES.md");
        let told: BTreeSet<(String, String)> = told
            .lines()
            .filter_map(|line| {
                let mut cells = line.strip_prefix("| `")?.split('|').map(str::trim);
                let id = cells.next()?.trim_end_matches('`');
                Some((id.to_owned(), cells.next()?.to_owned()))
            })
            .collect();
        let built: BTreeSet<(String, String)> = ALL
            .iter()
            .map(|rule| (rule.id.to_owned(), rule.severity.as_str().to_owned()))
            .collect();
        assert_eq!(told, built);
        assert_eq!(built.len(), ALL.len(), "an id stands for two rules");
    }
}
