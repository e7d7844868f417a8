//! What a person can do about an error code: one sentence each.

/// Returns what to do about rows that ended with `code`.
pub fn advice(code: &str) -> &'static str {
    let (_, words) = ADVICE
        .iter()
        .find(|(codes, _)| codes.contains(&code))
        .unwrap_or(&(&[], OTHERWISE));
    words
}

const OTHERWISE: &str = "read the message; correct the rows in the file `rejects` writes and import \
                         that, or `retry` once the cause is gone";

const ADVICE: &[(&[&str], &str)] = &[
    (
        &["organization_not_found", "user_or_organization_not_found"],
        "create the organizations at the target and `retry`, or start anew with `import --fresh … \
         --create-orgs`",
    ),
    (
        &["organization_ambiguous"],
        "say which organization is meant: put its id into a column org_id and import the rejects",
    ),
    (
        &["invalid_role", "multiple_roles_not_enabled"],
        "make the role at the target (or allow several roles there) and `retry`, or correct \
         role_slugs in the rejects",
    ),
    (
        &["membership_inactive"],
        "re-activate the membership at the target and `retry`, or import the rejects with \
         --reactivate",
    ),
    (
        &["membership_pending"],
        "the user has to accept the invitation, or an administrator deletes it; then `retry`",
    ),
    (
        &["user_exists", "leader_skipped"],
        "the user was there before: nothing is to do, or import the rejects with --on-existing link",
    ),
    (
        &["external_id_conflict", "external_id_already_used"],
        "a user at the target has this row's email with another external_id, or its external_id \
         with another email: find out who is meant and correct the row or that user",
    ),
    (
        &["external_id_conflict_in_file"],
        "two people in the file have one external_id: correct the rejects and import them",
    ),
    (
        &["email_invalid", "email_missing", "invalid_email"],
        "correct the addresses in the rejects and import them",
    ),
    (
        &[
            "email_verified_invalid",
            "external_id_not_ascii",
            "external_id_too_long",
            "locale_invalid",
            "invalid_metadata",
            "metadata_duplicate_key",
            "metadata_invalid_json",
            "metadata_key_not_ascii",
            "metadata_key_too_long",
            "metadata_not_object",
            "metadata_too_many_pairs",
            "metadata_value_nested",
            "metadata_value_not_ascii",
            "metadata_value_too_long",
            "organization_id_too_long",
        ],
        "correct these cells in the rejects and import them",
    ),
    (
        &["password_strength_error"],
        "the target finds the password too weak: leave it empty in the rejects, the user sets one",
    ),
    (
        &[
            "password_hash_format",
            "password_hash_parameters",
            "password_hash_type_unknown",
            "password_hash_type_missing",
            "password_hash_missing",
            "invalid_password_hash",
            "password_and_hash",
        ],
        "correct the hash columns in the rejects, or leave them empty: the user resets the password",
    ),
    (
        &["totp_secret_invalid", "totp_issuer_without_secret"],
        "correct the totp columns in the rejects, or leave them empty: the user enrols a factor again",
    ),
    (
        &["factor_exists"],
        "the user has a second factor already and keeps it: nothing is to do, or remove it at the \
         target and `retry`",
    ),
    (
        &["invalid_locale"],
        "the target does not know this locale; the user is there without one, and an administrator \
         can set it",
    ),
    (
        &["organization_required"],
        "name an organization in these rows, or import the rejects without --require-membership",
    ),
    (
        &["org_name_alone"],
        "give these organizations an org_external_id, or import the rejects with --orgs-by-name",
    ),
    (
        &[
            "org_id_and_external_id",
            "roles_without_organization",
            "role_slugs_invalid",
        ],
        "correct the organization columns in the rejects and import them",
    ),
    (
        &[
            "maybe_concurrent_signup",
            "exists_but_invisible",
            "server_error",
            "connection_lost",
            "malformed_answer",
            "membership_status_unknown",
        ],
        "it is not known whether this was applied: `retry` looks each row up before it sends again",
    ),
    (
        &["leader_parked"],
        "another row with the same email is parked: settle that one, then `retry`",
    ),
    (
        &["wrong_echo", "poison"],
        "look at these rows one by one at the target before anything is tried again",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_code_has_one_advice_and_an_unknown_one_too() {
        let mut seen = BTreeSet::new();
        for (codes, words) in ADVICE {
            for code in *codes {
                assert!(seen.insert(*code), "{code} twice");
                assert_eq!(advice(code), *words);
            }
        }
        assert_eq!(advice("never_heard_of"), OTHERWISE);
    }
}
