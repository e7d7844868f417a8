//! The store, its journal and the source of ids: where a decided change becomes a fact.

use super::ids::{Id, IdSource, Kind, Ulid};
use super::journal::{Journal, JournalError};
use super::record::Change;
use super::store::Store;
use std::path::Path;

/// One environment of the API.
#[derive(Debug)]
pub struct Directory {
    store: Store,
    journal: Option<Journal>,
    ids: IdSource,
}

impl Directory {
    /// Starts empty, in memory only.
    pub fn in_memory(seed: u64) -> Self {
        Self {
            store: Store::default(),
            journal: None,
            ids: IdSource::new(seed),
        }
    }

    /// Replays the log at `path` and goes on writing it.
    pub async fn open(path: &Path, seed: u64) -> Result<Self, JournalError> {
        let mut store = Store::default();
        let replay = |body: &[u8]| store.apply(body).map_err(|error| error.to_string());
        let journal = Journal::open(path, replay).await?;
        let mut ids = IdSource::new(seed);
        ids.observe(store.last_id());
        Ok(Self {
            store,
            journal: Some(journal),
            ids,
        })
    }

    /// Returns the data.
    pub const fn store(&self) -> &Store {
        &self.store
    }

    /// Returns a new id.
    pub fn next_id(&mut self, now_ms: i64) -> Ulid {
        self.ids.next(now_ms)
    }

    /// Encodes a change, so that it no longer borrows from the data it is about to change.
    pub fn encode(change: &Change<'_>) -> Result<Encoded, CommitError> {
        Ok(Encoded {
            id: change.id(),
            bytes: change.encode()?,
        })
    }

    /// Writes a change to the log, then applies it: after a kill in between, the next start does.
    pub fn commit(&mut self, change: &Encoded) -> Result<Ulid, CommitError> {
        if let Some(journal) = &mut self.journal {
            journal.append(&change.bytes)?;
        }
        self.store.apply(&change.bytes)?;
        Ok(change.id)
    }

    /// Returns how many entities of each kind there are: users, organizations, memberships.
    pub const fn counts(&self) -> [usize; 3] {
        [
            self.store.count(Kind::User),
            self.store.count(Kind::Organization),
            self.store.count(Kind::Membership),
        ]
    }

    /// Returns the organization's name, for showing its memberships.
    pub fn organization_name(&self, id: Ulid) -> &str {
        self.store
            .organization(id)
            .map_or("", |organization| organization.name)
    }
}

/// A change as bytes.
#[derive(Debug)]
pub struct Encoded {
    id: Ulid,
    bytes: Vec<u8>,
}

/// Why a decided change did not become a fact.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// The log cannot be written.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The change has no encoding.
    #[error("a change cannot be encoded")]
    Encode(#[from] postcard::Error),
    /// The store does not take it.
    #[error("a change does not fit")]
    Apply(#[from] super::store::ApplyError),
}

/// Which entity a request was about, for the history.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    /// A change was applied.
    pub applied: bool,
    pub email: Option<String>,
    pub external_id: Option<String>,
    pub user_id: Option<String>,
    pub organization_id: Option<String>,
    /// The entity that was made, found or changed.
    pub entity: Option<Id>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::api::route::{Query, Route};
    use crate::sandbox::api::view::{MembershipView, OrganizationView, UserView};
    use crate::sandbox::api::{Answer, Call, handle};
    use crate::sandbox::index::Slot;
    use crate::sandbox::page::Listing;
    use hyper::Method;
    use proptest::prelude::*;
    use serde_json::{Value, json};
    use std::collections::{BTreeMap, BTreeSet};

    fn send(directory: &mut Directory, method: &Method, path: &str, body: &Value) -> (u16, Value) {
        let Answer { status, body } = handle(
            Call {
                directory,
                route: &Route::parse(method, path),
                query: &Query::default(),
                now_ms: 1_790_000_000_000,
                trace: &mut Trace::default(),
            },
            body.to_string().as_bytes(),
        );
        (status, serde_json::from_slice(&body).unwrap_or_default())
    }

    /// Everything, as the API would show it.
    fn image(directory: &Directory) -> Vec<Value> {
        let store = directory.store();
        let slots = |kind| 0..Slot::try_from(store.all(kind).len()).unwrap();
        let users = slots(Kind::User).filter_map(|slot| store.user_at(slot));
        let organizations =
            slots(Kind::Organization).filter_map(|slot| store.organization_at(slot));
        let memberships = slots(Kind::Membership).filter_map(|slot| store.membership_at(slot));
        let mut image: Vec<Value> = users
            .map(|user| serde_json::to_value(UserView::from(user)).unwrap())
            .collect();
        image.extend(
            organizations.map(|found| serde_json::to_value(OrganizationView::from(found)).unwrap()),
        );
        image.extend(
            memberships
                .map(|found| serde_json::to_value(MembershipView::new(directory, found)).unwrap()),
        );
        assert_eq!(image.len(), directory.counts().iter().sum::<usize>());
        image
    }

    #[derive(Clone, Debug)]
    enum Step {
        CreateUser(u8, Option<u8>),
        UpdateUser(usize, Option<u8>, Option<u8>),
        DeleteUser(usize),
        CreateOrganization(Option<u8>),
        DeleteOrganization(usize),
        CreateMembership(usize, usize),
        ChangeMembership(usize, &'static str),
        DeleteMembership(usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let maybe = || prop::option::of(0u8..6);
        let words = prop::sample::select(vec!["deactivate", "reactivate"]);
        let step = prop_oneof![
            4 => (0u8..6, maybe()).prop_map(|(email, id)| Step::CreateUser(email, id)),
            2 => (0usize..20, maybe(), maybe()).prop_map(|(at, email, id)| Step::UpdateUser(at, email, id)),
            1 => (0usize..20).prop_map(Step::DeleteUser),
            2 => maybe().prop_map(Step::CreateOrganization),
            1 => (0usize..20).prop_map(Step::DeleteOrganization),
            5 => (0usize..20, 0usize..20).prop_map(|(user, org)| Step::CreateMembership(user, org)),
            2 => (0usize..20, words).prop_map(|(at, word)| Step::ChangeMembership(at, word)),
            1 => (0usize..20).prop_map(Step::DeleteMembership),
        ];
        prop::collection::vec(step, 1..60)
    }

    /// The same letters in another case: still the same email.
    fn email(n: u8, mixed: bool) -> String {
        if mixed {
            format!(" User{n}@Example.ORG ")
        } else {
            format!("user{n}@example.org")
        }
    }

    fn pick(ids: &[String], at: usize) -> String {
        ids.get(at % ids.len().max(1))
            .cloned()
            .unwrap_or_else(|| "none".to_owned())
    }

    fn ids(directory: &Directory, object: &str) -> Vec<String> {
        let all = image(directory)
            .into_iter()
            .filter(|found| found["object"] == object);
        all.map(|found| found["id"].as_str().unwrap().to_owned())
            .collect()
    }

    fn perform(directory: &mut Directory, step: &Step) -> (u16, Value) {
        let (method, path, body) = request(directory, step);
        send(directory, &method, &path, &body)
    }

    fn request(directory: &Directory, step: &Step) -> (Method, String, Value) {
        let user = |at| {
            format!(
                "/user_management/users/{}",
                pick(&ids(directory, "user"), at)
            )
        };
        let organization = |at| {
            format!(
                "/organizations/{}",
                pick(&ids(directory, "organization"), at)
            )
        };
        let membership = |at| {
            let id = pick(&ids(directory, "organization_membership"), at);
            format!("/user_management/organization_memberships/{id}")
        };
        let nothing = json!({});
        match step {
            Step::CreateUser(n, id) => {
                let body = json!({"email": email(*n, n % 2 == 0), "external_id": id.map(|id| format!("x{id}")),
                    "metadata": {"n": n.to_string()}, "first_name": "Ä"});
                (Method::POST, "/user_management/users".to_owned(), body)
            }
            Step::UpdateUser(at, n, id) => {
                let mut body = json!({"metadata": {"updated": "yes"}});
                if let Some(n) = n {
                    body["email"] = email(*n, n % 2 == 1).into();
                }
                if let Some(id) = id {
                    body["external_id"] = format!("x{id}").into();
                }
                (Method::PUT, user(*at), body)
            }
            Step::DeleteUser(at) => (Method::DELETE, user(*at), nothing),
            Step::CreateOrganization(id) => {
                let body = json!({"name": "Org", "external_id": id.map(|id| format!("o{id}"))});
                (Method::POST, "/organizations".to_owned(), body)
            }
            Step::DeleteOrganization(at) => (Method::DELETE, organization(*at), nothing),
            Step::CreateMembership(user, organization) => {
                let body = json!({"user_id": pick(&ids(directory, "user"), *user),
                    "organization_id": pick(&ids(directory, "organization"), *organization)});
                (
                    Method::POST,
                    "/user_management/organization_memberships".to_owned(),
                    body,
                )
            }
            Step::ChangeMembership(at, word) => {
                (Method::PUT, format!("{}/{word}", membership(*at)), nothing)
            }
            Step::DeleteMembership(at) => (Method::DELETE, membership(*at), nothing),
        }
    }

    /// Checks what must be unique against the whole image, and every look-up against it.
    fn check_unique(directory: &Directory) {
        let image = image(directory);
        let mut seen = BTreeSet::new();
        let mut live = BTreeMap::new();
        for entity in &image {
            let text = |name: &str| entity[name].as_str().map(str::to_owned);
            live.insert(text("id").unwrap(), entity);
            let kind = text("object").unwrap();
            if let Some(external_id) = text("external_id") {
                assert!(seen.insert((kind.clone(), external_id.clone())), "{entity}");
                if kind == "user" {
                    let found = directory.store().user_by_external_id(&external_id).unwrap();
                    assert_eq!(text("id").unwrap(), Id(Kind::User, found.id).to_string());
                }
            }
            if let Some(email) = text("email") {
                assert!(
                    seen.insert((kind.clone(), email.to_lowercase())),
                    "{entity}"
                );
                let found = directory
                    .store()
                    .user_by_email(&email.to_uppercase())
                    .unwrap();
                assert_eq!(text("id").unwrap(), Id(Kind::User, found.id).to_string());
            }
            if let (Some(user), Some(organization)) = (text("user_id"), text("organization_id")) {
                assert!(
                    live.contains_key(&user) && live.contains_key(&organization),
                    "{entity}"
                );
                assert!(seen.insert((user, organization)), "{entity}");
            }
        }
    }

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
    }

    proptest! {
        #[test]
        fn a_replayed_log_is_the_directory_at_every_step(steps in steps()) {
            let runtime = runtime();
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("sandbox.log");
            let mut directory = runtime.block_on(Directory::open(&path, 5)).unwrap();
            for (n, step) in steps.iter().enumerate() {
                let before = image(&directory);
                let (status, _) = perform(&mut directory, step);
                prop_assert!(status != 500, "{:?}", step);
                if status >= 400 {
                    prop_assert_eq!(&image(&directory), &before, "a refusal changes nothing");
                }
                check_unique(&directory);
                if n % 7 == 3 {
                    let before = image(&directory);
                    drop(directory);
                    directory = runtime.block_on(Directory::open(&path, 5)).unwrap();
                    prop_assert_eq!(image(&directory), before);
                }
            }
            let last = image(&directory);
            drop(directory);
            let replayed = runtime.block_on(Directory::open(&path, 5)).unwrap();
            prop_assert_eq!(image(&replayed), last);
        }
    }

    #[test]
    fn a_log_torn_at_every_byte_of_its_last_record_loses_only_that_write() {
        let runtime = runtime();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sandbox.log");
        let mut directory = runtime.block_on(Directory::open(&path, 5)).unwrap();
        perform(&mut directory, &Step::CreateUser(1, Some(1)));
        let kept = image(&directory);
        let start = std::fs::metadata(&path).unwrap().len();
        perform(&mut directory, &Step::CreateUser(2, Some(2)));
        drop(directory);
        let whole = std::fs::read(&path).unwrap();
        for cut in usize::try_from(start).unwrap()..whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let mut again = runtime.block_on(Directory::open(&path, 5)).unwrap();
            assert_eq!(image(&again), kept);
            let (status, _) = perform(&mut again, &Step::CreateUser(2, Some(2)));
            assert_eq!(status, 201, "the lost email is free");
        }
    }

    #[test]
    fn passwords_and_hashes_are_in_no_file() {
        let runtime = runtime();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sandbox.log");
        let mut directory = runtime.block_on(Directory::open(&path, 5)).unwrap();
        let hash = format!("$2b$10${}", "Canary9".repeat(8).get(..53).unwrap());
        for body in [
            json!({"email": "a@example.org", "password": "Canary9-password"}),
            json!({"email": "b@example.org", "password_hash": hash, "password_hash_type": "bcrypt"}),
        ] {
            let (status, answer) = send(
                &mut directory,
                &Method::POST,
                "/user_management/users",
                &body,
            );
            assert_eq!(status, 201, "{answer}");
            assert!(!answer.to_string().contains("Canary9"));
        }
        let bytes = std::fs::read(&path).unwrap();
        assert!(!bytes.windows(7).any(|window| window == b"Canary9"));
    }

    #[test]
    fn deleting_a_user_frees_its_email_and_takes_its_memberships_along() {
        let mut directory = Directory::in_memory(1);
        let steps = [
            Step::CreateUser(1, Some(1)),
            Step::CreateOrganization(None),
            Step::CreateMembership(0, 0),
        ];
        for step in &steps {
            assert_eq!(perform(&mut directory, step).0, 201);
        }
        assert_eq!(directory.counts(), [1, 1, 1]);
        assert_eq!(perform(&mut directory, &Step::DeleteUser(0)).0, 200);
        assert_eq!(directory.counts(), [0, 1, 0]);
        assert_eq!(
            perform(&mut directory, &Step::CreateUser(1, Some(1))).0,
            201
        );
        assert_eq!(
            perform(&mut directory, &Step::CreateMembership(0, 0)).0,
            201
        );
        assert_eq!(perform(&mut directory, &Step::DeleteOrganization(0)).0, 200);
        assert_eq!(directory.counts(), [1, 0, 0]);
    }
}
