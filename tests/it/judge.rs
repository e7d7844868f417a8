//! What a file asks for and what a server holds, in one form: equal or not.
//!
//! Independent on purpose: it reads the CSV and the server's data itself.

use serde_json::Value;
use serde_json::value::RawValue;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

/// A user: email in lower case, first name, last name, verified, external id, metadata.
type User = (
    String,
    String,
    String,
    bool,
    String,
    BTreeMap<String, String>,
);

/// Everything that ought to be somewhere, or is. Sorted lists: what is there twice differs.
#[derive(Debug, PartialEq, Eq)]
pub struct World {
    pub users: Vec<User>,
    /// External id and name.
    pub organizations: Vec<(String, String)>,
    /// Email, external id of the organization, status, roles.
    pub memberships: Vec<(String, String, String, BTreeSet<String>)>,
}

impl World {
    /// What a clean file asks for; `single` is the organization of all its rows, if it is one.
    pub fn of_csv(path: &Path, single: Option<&str>) -> Self {
        let bytes = std::fs::read(path).unwrap();
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
        let mut reader = csv::Reader::from_reader(bytes);
        let mut users: BTreeMap<String, User> = BTreeMap::new();
        let mut organizations = BTreeMap::new();
        let mut memberships = BTreeMap::new();
        for row in reader.deserialize() {
            let row: BTreeMap<String, String> = row.unwrap();
            let cell = |name: &str| row.get(name).cloned().unwrap_or_default();
            let email = cell("email").trim().to_lowercase();
            users
                .entry(email.clone())
                .or_insert_with(|| user_of_row(&email, &cell));
            let organization = single.map_or_else(|| cell("org_external_id"), str::to_owned);
            if organization.is_empty() {
                continue;
            }
            let name = Some(cell("org_name")).filter(|name| !name.is_empty());
            organizations
                .entry(organization.clone())
                .or_insert_with(|| name.unwrap_or_else(|| organization.clone()));
            memberships
                .entry((email, organization))
                .or_insert_with(|| roles_of_cell(&cell("role_slugs")));
        }
        let active = |((email, organization), roles)| (email, organization, "active".into(), roles);
        Self {
            users: users.into_values().collect(),
            organizations: organizations.into_iter().collect(),
            memberships: memberships.into_iter().map(active).collect(),
        }
    }

    /// What `/_sandbox/dump` shows.
    pub fn of_dump(dump: &Value) -> Self {
        let list = |name: &str| dump[name].as_array().unwrap().iter();
        let named = |name: &str, field: &'static str| -> BTreeMap<String, String> {
            list(name)
                .map(|one| (text(&one["id"]), text(&one[field])))
                .collect()
        };
        let emails = named("users", "email");
        let keys = named("organizations", "external_id");
        let mut world = Self {
            users: list("users").map(user_of_api).collect(),
            organizations: list("organizations")
                .map(|one| (text(&one["external_id"]), text(&one["name"])))
                .collect(),
            memberships: list("memberships")
                .map(|one| {
                    (
                        emails[&text(&one["user_id"])].to_lowercase(),
                        keys[&text(&one["organization_id"])].clone(),
                        text(&one["status"]),
                        roles_of_api(one),
                    )
                })
                .collect(),
        };
        world.users.sort();
        world.organizations.sort();
        world.memberships.sort();
        world
    }
}

/// Text, or nothing for null.
pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn user_of_row(email: &str, cell: &dyn Fn(&str) -> String) -> User {
    let verified = matches!(
        cell("email_verified").to_lowercase().as_str(),
        "true" | "1" | "yes" | "y"
    );
    (
        email.to_owned(),
        cell("first_name"),
        cell("last_name"),
        verified,
        cell("external_id"),
        metadata_of_cell(&cell("metadata")),
    )
}

/// Numbers and booleans become the text they are written as; null is nothing.
fn metadata_of_cell(cell: &str) -> BTreeMap<String, String> {
    if cell.is_empty() {
        return BTreeMap::new();
    }
    let raw: BTreeMap<String, Box<RawValue>> = serde_json::from_str(cell).unwrap();
    raw.into_iter()
        .filter(|(_, value)| value.get() != "null")
        .map(|(key, value)| {
            let written = value.get().to_owned();
            (key, serde_json::from_str(&written).unwrap_or(written))
        })
        .collect()
}

fn roles_of_cell(cell: &str) -> BTreeSet<String> {
    if cell.is_empty() {
        return BTreeSet::from(["member".to_owned()]);
    }
    serde_json::from_str(cell)
        .unwrap_or_else(|_| cell.split(',').map(|role| role.trim().to_owned()).collect())
}

fn user_of_api(user: &Value) -> User {
    let metadata = user["metadata"].as_object().unwrap().iter();
    (
        text(&user["email"]).to_lowercase(),
        text(&user["first_name"]),
        text(&user["last_name"]),
        user["email_verified"].as_bool().unwrap(),
        text(&user["external_id"]),
        metadata
            .map(|(key, value)| (key.clone(), text(value)))
            .collect(),
    )
}

fn roles_of_api(membership: &Value) -> BTreeSet<String> {
    match membership["roles"].as_array() {
        Some(roles) => roles.iter().map(|role| text(&role["slug"])).collect(),
        None => BTreeSet::from([text(&membership["role"]["slug"])]),
    }
}

/// A CSV of people who differ in everything, `org(n)` naming the organization of the n-th.
pub fn people(count: usize, org: impl Fn(usize) -> String) -> String {
    let mut text = String::from("email,first_name,external_id,org_external_id\n");
    for n in 1..=count {
        let org = org(n);
        writeln!(text, "p{n}@example.com,P{n},x-{n},{org}").unwrap();
    }
    text
}

/// People without organizations.
pub fn plain(count: usize) -> String {
    people(count, |_| String::new())
}
