//! The sandbox over TCP: every refusal of the API, limits, faults, restarts, and what tests ask it.
#![expect(
    clippy::disallowed_methods,
    reason = "these tests start the real binary themselves"
)]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on must fail")]
#![expect(
    clippy::needless_pass_by_value,
    reason = "bodies are literals: a reference at every call would only be noise"
)]

use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;
use userferry::model::{RateLimit, RateLimits};
use userferry::sandbox::{SandboxConfig, SandboxError, Server};

const USERS: &str = "/user_management/users";
const MEMBERSHIPS: &str = "/user_management/organization_memberships";
const ORGANIZATIONS: &str = "/organizations";
const KEY: &str = "sk_test_sandbox";

fn config() -> SandboxConfig {
    SandboxConfig {
        listen: ([127, 0, 0, 1], 0).into(),
        limits: RateLimits::default(),
        latency: "0ms".parse().unwrap(),
        faults: "".parse().unwrap(),
        seed: 11,
        state: None,
        api_key: Some(KEY.into()),
        history_cap: 100_000,
    }
}

fn with_faults(faults: &str) -> Server {
    let config = SandboxConfig {
        faults: faults.parse().unwrap(),
        ..config()
    };
    Server::start(config).unwrap()
}

struct Reply {
    status: u16,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

impl Reply {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// Status, code, and codes of the details.
    fn verdict(&self) -> (u16, String, Vec<String>) {
        let json = self.json();
        let details = json["errors"].as_array().cloned().unwrap_or_default();
        let details = details
            .iter()
            .map(|detail| detail["code"].as_str().unwrap().to_owned());
        let code = json["code"].as_str().unwrap_or_default().to_owned();
        (self.status, code, details.collect())
    }
}

/// One connection, written and read by hand: what it sees is what is on the wire.
struct Client {
    stream: BufReader<TcpStream>,
    key: String,
}

impl Client {
    fn new(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        Self {
            stream: BufReader::new(stream),
            key: KEY.to_owned(),
        }
    }

    fn send(&mut self, method: &str, path: &str, body: &str) {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: sandbox\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.key,
            body.len()
        );
        self.stream.get_mut().write_all(request.as_bytes()).unwrap();
    }

    fn line(&mut self) -> std::io::Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim_end().to_owned())
    }

    fn receive(&mut self) -> std::io::Result<Reply> {
        let status = self.line()?;
        let status = status.split(' ').nth(1).unwrap().parse().unwrap();
        let mut headers = BTreeMap::new();
        loop {
            let line = self.line()?;
            let Some((name, value)) = line.split_once(": ") else {
                break;
            };
            headers.insert(name.to_lowercase(), value.to_owned());
        }
        let mut body = Vec::new();
        if let Some(length) = headers.get("content-length") {
            body.resize(length.parse().unwrap(), 0);
            self.stream.read_exact(&mut body)?;
        } else {
            loop {
                let size = usize::from_str_radix(&self.line()?, 16).unwrap();
                let start = body.len();
                body.resize(start + size + 2, 0);
                self.stream.read_exact(&mut body[start..])?;
                body.truncate(start + size);
                if size == 0 {
                    break;
                }
            }
        }
        Ok(Reply {
            status,
            headers,
            body,
        })
    }

    fn call(&mut self, method: &str, path: &str, body: &Value) -> Reply {
        self.send(method, path, &body.to_string());
        self.receive().unwrap()
    }

    fn get(&mut self, path: &str) -> Reply {
        self.send("GET", path, "");
        self.receive().unwrap()
    }

    fn post(&mut self, path: &str, body: Value) -> Reply {
        self.call("POST", path, &body)
    }

    fn put(&mut self, path: &str, body: Value) -> Reply {
        self.call("PUT", path, &body)
    }

    /// Makes an entity and returns its id.
    fn make(&mut self, path: &str, body: Value) -> String {
        let reply = self.post(path, body);
        assert_eq!(reply.status, 201, "{}", reply.json());
        reply.json()["id"].as_str().unwrap().to_owned()
    }

    fn history(&mut self, query: &str) -> Vec<Value> {
        let reply = self.get(&format!("/_sandbox/history{query}"));
        let text = String::from_utf8(reply.body).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    fn stats(&mut self) -> Value {
        self.get("/_sandbox/stats").json()
    }

    fn dump(&mut self) -> Value {
        self.get("/_sandbox/dump").json()
    }
}

fn start() -> (Server, Client) {
    let server = Server::start(config()).unwrap();
    let client = Client::new(server.address());
    (server, client)
}

fn refused(status: u16, code: &str) -> (u16, String, Vec<String>) {
    (status, code.to_owned(), Vec::new())
}

#[test]
fn a_user_is_made_found_changed_and_deleted() {
    let (_server, mut client) = start();
    let reply = client.post(
        USERS,
        json!({"email": " Ada+1@Example.org ", "first_name": "Ada", "last_name": null, "email_verified": true,
            "external_id": "a/b c+d", "metadata": {"team": "core"}, "password": "correct horse"}),
    );
    assert_eq!(reply.status, 201);
    let user = reply.json();
    assert_eq!(user["object"], "user");
    assert!(user["id"].as_str().unwrap().starts_with("user_01"));
    assert_eq!(user["email"], "Ada+1@Example.org");
    assert_eq!(
        (&user["first_name"], &user["last_name"]),
        (&json!("Ada"), &Value::Null)
    );
    assert_eq!(user["metadata"], json!({"team": "core"}));
    assert_eq!(user["created_at"], user["updated_at"]);
    assert!(user["created_at"].as_str().unwrap().ends_with('Z'));
    assert_eq!(
        user["created_at"].as_str().unwrap().len(),
        "2026-01-01T00:00:00.000Z".len()
    );
    assert_eq!(reply.headers["x-request-id"].len(), 36);
    assert!(reply.headers["date"].ends_with(" GMT"));

    let id = user["id"].as_str().unwrap();
    assert_eq!(client.get(&format!("{USERS}/{id}")).json(), user);
    assert_eq!(
        client
            .get(&format!("{USERS}/external_id/a%2Fb%20c%2Bd"))
            .json(),
        user
    );
    let found = client
        .get(&format!("{USERS}?email=ada%2B1%40EXAMPLE.org"))
        .json();
    assert_eq!(found["data"], json!([user]));
    assert_eq!(
        found["list_metadata"],
        json!({"before": null, "after": null})
    );
    let unencoded = client
        .get(&format!("{USERS}?email=ada+1@example.org"))
        .json();
    assert_eq!(unencoded["data"], json!([]), "a plus in a query is a space");

    let changed = client.put(
        &format!("{USERS}/{id}"),
        json!({"last_name": "Lovelace", "locale": "en-GB", "metadata": {"team": null, "x": "1"}}),
    );
    let changed = changed.json();
    assert_eq!(changed["first_name"], "Ada");
    assert_eq!(changed["last_name"], "Lovelace");
    assert_eq!(changed["locale"], "en-GB");
    assert_eq!(changed["metadata"], json!({"x": "1"}));
    assert_eq!(changed["external_id"], "a/b c+d");

    assert_eq!(
        client
            .call("DELETE", &format!("{USERS}/{id}"), &json!({}))
            .status,
        200
    );
    assert_eq!(client.get(&format!("{USERS}/{id}")).status, 404);
    assert_eq!(
        client
            .get(&format!("{USERS}/external_id/a%2Fb%20c%2Bd"))
            .status,
        404
    );
}

#[test]
fn a_taken_email_or_external_id_is_a_detail_of_the_creation_error() {
    let (_server, mut client) = start();
    client.make(
        USERS,
        json!({"email": "a@example.org", "external_id": "x1"}),
    );
    for (body, details) in [
        (
            json!({"email": " A@EXAMPLE.org"}),
            vec!["email_not_available"],
        ),
        (
            json!({"email": "b@example.org", "external_id": "x1"}),
            vec!["external_id_already_used"],
        ),
        (
            json!({"email": "a@example.org", "external_id": "x1"}),
            vec!["email_not_available", "external_id_already_used"],
        ),
    ] {
        let (status, code, found) = client.post(USERS, body).verdict();
        assert_eq!((status, code.as_str()), (400, "user_creation_error"));
        assert_eq!(found, details);
    }
    assert_eq!(
        client.dump()["users"].as_array().unwrap().len(),
        1,
        "a refusal makes nothing"
    );
}

#[test]
fn user_fields_of_the_wrong_shape_are_refused() {
    let (_server, mut client) = start();
    for body in [
        json!({"email": "nobody"}),
        json!({"email": ""}),
        json!({"email": 7}),
        json!({}),
        json!([]),
        json!({"email": "c@example.org", "email_verified": "yes"}),
        json!({"email": "c@example.org", "external_id": "ü"}),
        json!({"email": "c@example.org", "external_id": "x".repeat(129)}),
    ] {
        let verdict = client.post(USERS, body.clone()).verdict();
        assert_eq!(
            verdict,
            refused(422, "invalid_request_parameters"),
            "{body}"
        );
    }
    let metadata = json!({"email": "c@example.org", "metadata": {"a": 1}});
    assert_eq!(
        client.post(USERS, metadata).verdict(),
        refused(400, "invalid_metadata")
    );
    client.send("POST", USERS, "{\"email\":");
    assert_eq!(client.receive().unwrap().status, 400);
    assert_eq!(client.dump()["users"], json!([]));
}

#[test]
fn credentials_are_checked_and_forgotten() {
    let (_server, mut client) = start();
    let hash = format!("$2b$10${}", "a".repeat(53));
    let with = |mut more: Value| {
        more["email"] = "c@example.org".into();
        more
    };
    for (body, status, code) in [
        (
            json!({"password": "long enough", "password_hash": hash, "password_hash_type": "bcrypt"}),
            400,
            "password_and_password_hash_provided",
        ),
        (
            json!({"password": "long enough", "password_hash_type": "bcrypt"}),
            400,
            "password_and_password_hash_type_provided",
        ),
        (
            json!({"password_salt_position": "prefix"}),
            400,
            "password_salt_position_requires_password_hash",
        ),
        (
            json!({"password_hash": "5f4dcc3b", "password_hash_type": "bcrypt"}),
            400,
            "invalid_password_hash",
        ),
        (
            json!({"password_hash": hash}),
            422,
            "invalid_request_parameters",
        ),
        (
            json!({"password_hash": "x", "password_hash_type": "md5"}),
            422,
            "invalid_request_parameters",
        ),
    ] {
        assert_eq!(
            client.post(USERS, with(body.clone())).verdict(),
            refused(status, code),
            "{body}"
        );
    }
    let (status, code, details) = client
        .post(USERS, with(json!({"password": "short"})))
        .verdict();
    assert_eq!((status, code.as_str()), (400, "password_strength_error"));
    assert_eq!(details, ["password_too_short"]);

    client.make(
        USERS,
        with(json!({"password_hash": hash, "password_hash_type": "bcrypt"})),
    );
    assert!(!client.dump().to_string().contains("$2b$"));
    let history = client.history("");
    assert!(
        !history
            .iter()
            .any(|entry| entry.to_string().contains("$2b$"))
    );
}

#[test]
fn user_updates_are_refused_in_the_words_of_the_api() {
    let (_server, mut client) = start();
    client.make(
        USERS,
        json!({"email": "a@example.org", "external_id": "x1"}),
    );
    let id = client.make(USERS, json!({"email": "b@example.org"}));
    let path = format!("{USERS}/{id}");
    for (body, code) in [
        (json!({"email": "A@example.org"}), "email_not_available"),
        (json!({"email": "nobody"}), "invalid_email"),
        (json!({"external_id": "x1"}), "external_id_already_used"),
        (json!({"locale": "?"}), "invalid_locale"),
        (json!({"metadata": {"": "x"}}), "invalid_metadata"),
    ] {
        assert_eq!(
            client.put(&path, body.clone()).verdict(),
            refused(400, code),
            "{body}"
        );
    }
    assert_eq!(
        client.put(&path, json!({"email": "B@EXAMPLE.ORG"})).status,
        200,
        "its own email"
    );
    let unknown = client.put(
        &format!("{USERS}/user_01ARZ3NDEKTSV4RRFFQ69G5FAV"),
        json!({}),
    );
    assert_eq!(unknown.verdict(), refused(404, ""));
    assert!(unknown.json()["message"].is_string());
}

#[test]
fn organizations_are_unique_by_external_id_and_not_by_name() {
    let (_server, mut client) = start();
    let id = client.make(
        ORGANIZATIONS,
        json!({"name": "Acme", "external_id": "acme"}),
    );
    assert!(id.starts_with("org_01"));
    client.make(ORGANIZATIONS, json!({"name": "Acme"}));
    let twice = client.post(
        ORGANIZATIONS,
        json!({"name": "Other", "external_id": "acme"}),
    );
    assert_eq!(twice.verdict(), refused(400, "external_id_already_used"));
    let nameless = client.post(ORGANIZATIONS, json!({"external_id": "z"}));
    assert_eq!(
        nameless.verdict(),
        refused(422, "invalid_request_parameters")
    );
    let domains =
        json!({"name": "D", "domain_data": [{"domain": "d.example", "state": "verified"}]});
    assert_eq!(client.post(ORGANIZATIONS, domains).status, 422);

    assert_eq!(
        client.get("/organizations/external_id/acme").json()["id"],
        id
    );
    assert_eq!(
        client.get("/organizations/external_id/none").verdict(),
        refused(404, "")
    );
    let renamed = client.put(
        &format!("{ORGANIZATIONS}/{id}"),
        json!({"name": "Acme Ltd"}),
    );
    assert_eq!(renamed.json()["name"], "Acme Ltd");
    let found = client.get("/organizations?search=ltd").json();
    assert_eq!(found["data"].as_array().unwrap().len(), 1);
    assert_eq!(
        client
            .call("DELETE", &format!("{ORGANIZATIONS}/{id}"), &json!({}))
            .status,
        200
    );
    assert_eq!(client.get(&format!("{ORGANIZATIONS}/{id}")).status, 404);
}

struct Pair {
    user: String,
    organization: String,
}

impl Pair {
    fn new(client: &mut Client) -> Self {
        Self {
            user: client.make(USERS, json!({"email": "a@example.org"})),
            organization: client.make(ORGANIZATIONS, json!({"name": "Acme"})),
        }
    }

    fn with(&self, more: Value) -> Value {
        let mut body = json!({"user_id": self.user, "organization_id": self.organization});
        body.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        body
    }
}

#[test]
fn memberships_go_through_their_states() {
    let (_server, mut client) = start();
    let pair = Pair::new(&mut client);
    let made = client.post(
        MEMBERSHIPS,
        pair.with(json!({"role_slugs": ["admin", "member"]})),
    );
    assert_eq!(made.status, 201);
    let made = made.json();
    assert_eq!(made["status"], "active");
    assert_eq!(made["role"], json!({"slug": "admin"}));
    assert_eq!(
        made["roles"],
        json!([{"slug": "admin"}, {"slug": "member"}])
    );
    let path = format!("{MEMBERSHIPS}/{}", made["id"].as_str().unwrap());

    let again = client.post(MEMBERSHIPS, pair.with(json!({})));
    assert_eq!(
        again.verdict(),
        refused(400, "organization_membership_already_exists")
    );
    assert_eq!(
        client.put(&format!("{path}/deactivate"), json!({})).json()["status"],
        "inactive"
    );
    assert_eq!(
        client.put(&format!("{path}/deactivate"), json!({})).status,
        200,
        "without effect"
    );
    let list = format!("{MEMBERSHIPS}?user_id={}", pair.user);
    assert_eq!(
        client.get(&list).json()["data"],
        json!([]),
        "active ones only"
    );
    let all = client
        .get(&format!("{list}&statuses=active,inactive,pending"))
        .json();
    assert_eq!(all["data"][0]["status"], "inactive");

    let back = client.post(MEMBERSHIPS, pair.with(json!({"role_slug": "member"})));
    assert_eq!(back.status, 201);
    assert_eq!(
        back.json()["id"],
        made["id"],
        "the same membership is active again"
    );
    assert_eq!(back.json()["roles"], json!([{"slug": "member"}]));
    assert_eq!(back.json()["created_at"], made["created_at"]);
    assert_eq!(
        client.put(&path, json!({"role_slug": "admin"})).json()["role"]["slug"],
        "admin"
    );
    client.put(&format!("{path}/deactivate"), json!({}));
    let reactivated = client.put(&format!("{path}/reactivate"), json!({})).json();
    assert_eq!(
        (&reactivated["status"], &reactivated["role"]["slug"]),
        (&json!("active"), &json!("admin"))
    );

    assert_eq!(client.call("DELETE", &path, &json!({})).status, 200);
    assert_eq!(client.get(&path).status, 404);
    assert_eq!(client.post(MEMBERSHIPS, pair.with(json!({}))).status, 201);
}

#[test]
fn a_pending_membership_stays_pending() {
    let (_server, mut client) = start();
    let pair = Pair::new(&mut client);
    let seed = json!({"memberships": [pair.with(json!({"status": "pending"}))]});
    assert_eq!(
        client.post("/_sandbox/seed", seed).json(),
        json!({"memberships": 1})
    );
    let list = format!(
        "{MEMBERSHIPS}?organization_id={}&statuses=pending",
        pair.organization
    );
    let id = client.get(&list).json()["data"][0]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let cannot = "cannot_reactivate_pending_organization_membership";
    assert_eq!(
        client.post(MEMBERSHIPS, pair.with(json!({}))).verdict(),
        refused(400, cannot)
    );
    let path = format!("{MEMBERSHIPS}/{id}");
    assert_eq!(
        client
            .put(&format!("{path}/reactivate"), json!({}))
            .verdict(),
        refused(400, cannot)
    );
    assert_eq!(
        client
            .put(&format!("{path}/deactivate"), json!({}))
            .verdict(),
        refused(400, "cannot_deactivate_pending_organization_membership")
    );
    let odd = json!({"memberships": [pair.with(json!({"status": "asleep"}))]});
    assert_eq!(client.post("/_sandbox/seed", odd).status, 422);
}

#[test]
fn memberships_are_refused_in_the_words_of_the_api() {
    let (_server, mut client) = start();
    let pair = Pair::new(&mut client);
    for (body, verdict) in [
        (
            pair.with(json!({"role_slug": "owner"})),
            refused(422, "invalid_role"),
        ),
        (
            pair.with(json!({"role_slugs": ["member", "owner"]})),
            refused(422, "invalid_role"),
        ),
        (
            pair.with(json!({"role_slug": "member", "role_slugs": ["member"]})),
            refused(422, "invalid_request_parameters"),
        ),
        (
            json!({"user_id": pair.user}),
            refused(422, "invalid_request_parameters"),
        ),
        (
            pair.with(json!({"user_id": "user_01ARZ3NDEKTSV4RRFFQ69G5FAV"})),
            refused(404, ""),
        ),
        (
            pair.with(json!({"organization_id": "org_nope"})),
            refused(404, ""),
        ),
    ] {
        assert_eq!(
            client.post(MEMBERSHIPS, body.clone()).verdict(),
            verdict,
            "{body}"
        );
    }
    assert_eq!(
        client.get(MEMBERSHIPS).verdict(),
        refused(400, "missing_user_id_or_organization_id")
    );
    let odd = format!("{MEMBERSHIPS}?user_id={}&statuses=active,asleep", pair.user);
    assert_eq!(
        client.get(&odd).verdict(),
        refused(422, "invalid_request_parameters")
    );
}

#[test]
fn roles_are_listed_for_the_environment_and_for_organizations_that_are_there() {
    let (_server, mut client) = start();
    let pair = Pair::new(&mut client);
    let organization = pair.with(json!({}))["organization_id"].clone();
    let organization = organization.as_str().unwrap();
    let own = format!("/authorization/organizations/{organization}/roles");
    for path in ["/authorization/roles", own.as_str()] {
        let reply = client.get(path);
        assert_eq!(reply.status, 200, "{path}");
        let list = reply.json();
        assert_eq!(list["object"], "list");
        let told: Vec<(&str, &str)> = list["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|role| {
                assert_eq!(role["object"], "role");
                (
                    role["slug"].as_str().unwrap(),
                    role["type"].as_str().unwrap(),
                )
            })
            .collect();
        let kind = "EnvironmentRole";
        assert_eq!(told, [("member", kind), ("admin", kind)]);
    }
    let nobody = "/authorization/organizations/org_01ARZ3NDEKTSV4RRFFQ69G5FAV/roles";
    assert_eq!(client.get(nobody).verdict(), refused(404, ""));
}

#[test]
fn the_key_and_the_address_must_be_right() {
    let (_server, mut client) = start();
    client.key = "sk_wrong".to_owned();
    assert_eq!(client.get(USERS).verdict(), refused(401, ""));
    assert_eq!(
        client.post(USERS, json!({"email": "a@example.org"})).status,
        401
    );
    assert_eq!(
        client.dump()["users"],
        json!([]),
        "no key is wanted here, and nothing was made"
    );
    client.key = KEY.to_owned();
    assert_eq!(client.get("/user_management/nothing").status, 404);
    assert_eq!(client.call("PATCH", USERS, &json!({})).status, 404);
    assert_eq!(client.get("/_sandbox/nothing").status, 404);
    let long = json!({"email": "a@example.org", "first_name": "x".repeat(2 << 20)});
    client.send("POST", USERS, &long.to_string());
    assert_eq!(client.receive().unwrap().status, 413);

    let open = SandboxConfig {
        listen: ([0, 0, 0, 0], 0).into(),
        ..config()
    };
    assert!(matches!(
        Server::start(open),
        Err(SandboxError::NotLoopback(_))
    ));
}

#[test]
fn listings_walk_in_every_order_and_by_organization() {
    let (_server, mut client) = start();
    let organization = client.make(ORGANIZATIONS, json!({"name": "Acme"}));
    let ids: Vec<String> = (0..25)
        .map(|n| client.make(USERS, json!({"email": format!("u{n}@example.org")})))
        .collect();
    for id in ids.iter().step_by(2) {
        client.make(
            MEMBERSHIPS,
            json!({"user_id": id, "organization_id": organization}),
        );
    }
    let default = client.get(USERS).json();
    assert_eq!(default["data"].as_array().unwrap().len(), 10);
    assert_eq!(default["data"][0]["id"], json!(ids[24]), "newest first");
    assert_eq!(default["list_metadata"]["after"], json!(ids[15]));

    let mut walk = |query: &str| {
        let mut seen = Vec::new();
        let mut after = String::new();
        loop {
            let page = client.get(&format!("{query}&limit=7{after}")).json();
            let data = page["data"].as_array().unwrap();
            seen.extend(
                data.iter()
                    .map(|entity| entity["id"].as_str().unwrap().to_owned()),
            );
            match page["list_metadata"]["after"].as_str() {
                Some(cursor) => after = format!("&after={cursor}"),
                None => return seen,
            }
        }
    };
    assert_eq!(walk(&format!("{USERS}?order=asc")), ids);
    let members: Vec<String> = ids.iter().step_by(2).cloned().collect();
    assert_eq!(
        walk(&format!("{USERS}?order=asc&organization_id={organization}")),
        members
    );
    assert_eq!(
        walk(&format!("{USERS}?order=asc&organization={organization}")),
        members
    );
    assert_eq!(
        walk(&format!("{MEMBERSHIPS}?organization_id={organization}")).len(),
        13
    );
    let both = format!("{USERS}?email=u1@example.org&organization_id={organization}");
    assert!(walk(&both).is_empty());
    assert_eq!(walk(&both.replace("u1", "u2")), [ids[2].clone()]);
    assert_eq!(client.get(&format!("{USERS}?limit=101")).status, 422);
}

#[test]
fn beyond_the_limit_429_says_when_there_is_room() {
    let limits = RateLimits {
        writes: Some(RateLimit::per_seconds(3, 30)),
        ..RateLimits::default()
    };
    let server = Server::start(SandboxConfig { limits, ..config() }).unwrap();
    let mut client = Client::new(server.address());
    let statuses: Vec<u16> = (0..6)
        .map(|n| {
            client
                .post(USERS, json!({"email": format!("u{n}@example.org")}))
                .status
        })
        .collect();
    assert_eq!(statuses, [201, 201, 201, 429, 429, 429]);
    let refused = client.post(USERS, json!({"email": "late@example.org"}));
    let wait: u32 = refused.headers["retry-after"].parse().unwrap();
    assert!((1..=30).contains(&wait), "{wait}");
    assert_eq!(client.get(USERS).status, 200, "reads have no limit here");
    assert_eq!(
        client.post(ORGANIZATIONS, json!({"name": "Acme"})).status,
        201,
        "another budget"
    );
    let stats = client.stats();
    assert_eq!(stats["requests"]["refused"], 4);
    assert_eq!(stats["largest_windows"]["user_management_writes"]["10s"], 3);
    assert_eq!(
        stats["by_kind_and_status"]["create_user"],
        json!({"201": 3, "429": 4})
    );
    let entry = client
        .history("")
        .into_iter()
        .find(|entry| entry["status"] == 429)
        .unwrap();
    assert!(entry["retry_after"].as_u64().is_some() && entry["applied_ms"].is_null());
}

#[test]
fn faults_apply_or_do_not_as_documented() {
    for (faults, applied, answer) in [
        ("drop-before=100%", 0, None),
        ("drop-after=100%", 1, None),
        ("500=100%", 0, Some(500)),
        ("500-after=100%", 1, Some(500)),
        ("429=100%:4", 0, Some(429)),
        ("malformed=100%", 1, Some(201)),
    ] {
        let server = with_faults(faults);
        let mut client = Client::new(server.address());
        client.send(
            "POST",
            USERS,
            &json!({"email": "a@example.org"}).to_string(),
        );
        let reply = client.receive();
        assert_eq!(
            reply.as_ref().ok().map(|reply| reply.status),
            answer,
            "{faults}"
        );
        if faults.starts_with("malformed") {
            let body = &reply.as_ref().unwrap().body;
            assert!(serde_json::from_slice::<Value>(body).is_err());
        }
        if faults.starts_with("429") {
            assert_eq!(reply.unwrap().headers["retry-after"], "4");
        }
        let mut client = Client::new(server.address());
        assert_eq!(
            client.dump()["users"].as_array().unwrap().len(),
            applied,
            "{faults}"
        );
        let history = client.history("");
        assert_eq!(history.len(), 1);
        let [entry] = &history[..] else {
            unreachable!()
        };
        assert_eq!(entry["fault"], faults.split('=').next().unwrap());
        assert_eq!(entry["applied_ms"].is_null(), applied == 0, "{faults}");
        assert_eq!(entry["answered_ms"].is_null(), answer.is_none(), "{faults}");
        assert_eq!(entry["status"], json!(answer), "{faults}");
    }
}

#[test]
fn a_hanging_request_may_or_may_not_be_applied() {
    let server = with_faults("hang=100%");
    let mut open = Vec::new();
    for n in 0..12 {
        let mut client = Client::new(server.address());
        client
            .stream
            .get_mut()
            .set_read_timeout(Some(Duration::from_millis(20)))
            .unwrap();
        client.send(
            "POST",
            USERS,
            &json!({"email": format!("u{n}@example.org")}).to_string(),
        );
        let kind = client
            .receive()
            .map(|reply| reply.status)
            .unwrap_err()
            .kind();
        assert!(matches!(
            kind,
            std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
        ));
        open.push(client);
    }
    let mut client = Client::new(server.address());
    let applied = client.stats()["requests"]["applied"].as_u64().unwrap();
    assert!((1..12).contains(&applied), "{applied}");
    assert_eq!(client.stats()["requests"]["answered"], 0);
}

#[test]
fn the_history_tells_every_request_in_order() {
    let (_server, mut client) = start();
    let pair = Pair::new(&mut client);
    let membership = client.make(MEMBERSHIPS, pair.with(json!({})));
    client.post(USERS, json!({"email": "A@example.org", "external_id": "x"}));
    client.get(&format!("{USERS}?email=a%40example.org"));
    client.get(&format!("{USERS}/external_id/x%20y"));
    client.stats();
    let history = client.history("");
    let ops: Vec<&str> = history
        .iter()
        .map(|entry| entry["op"].as_str().unwrap())
        .collect();
    assert_eq!(
        ops,
        [
            "create_user",
            "create_organization",
            "create_membership",
            "create_user",
            "list_users",
            "get_user_by_external_id"
        ]
    );
    let numbers: Vec<u64> = history
        .iter()
        .map(|entry| entry["sequence"].as_u64().unwrap())
        .collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5, 6]);
    assert_eq!(history[0]["id"], json!(pair.user));
    assert_eq!(history[2]["id"], json!(membership));
    assert_eq!(history[2]["user_id"], json!(pair.user));
    assert_eq!(history[2]["organization_id"], json!(pair.organization));
    assert_eq!(history[3]["email"], "A@example.org");
    assert_eq!(
        (&history[3]["status"], &history[3]["applied_ms"]),
        (&json!(400), &Value::Null)
    );
    assert_eq!(history[4]["path"], format!("{USERS}?email=a%40example.org"));
    assert_eq!(history[5]["external_id"], "x y");
    for entry in &history {
        let instant = |name: &str| entry[name].as_u64();
        assert!(instant("received_ns").unwrap() <= instant("answered_ns").unwrap());
        if let Some(applied) = instant("applied_ns") {
            assert!(
                (instant("received_ns").unwrap()..=instant("answered_ns").unwrap())
                    .contains(&applied)
            );
        }
    }
    let part = client.history("?after=2&limit=3");
    assert_eq!(part.len(), 3);
    assert_eq!(part[0]["sequence"], 3);
    assert!(client.history("?after=99").is_empty());
    assert_eq!(client.get("/_sandbox/history?after=x").status, 422);
}

#[test]
fn a_long_dump_and_history_arrive_whole() {
    let (_server, mut client) = start();
    let ids: BTreeSet<String> = (0..1500)
        .map(|n| client.make(USERS, json!({"email": format!("u{n}@example.org")})))
        .collect();
    let dump = client.dump();
    let users = dump["users"].as_array().unwrap();
    let dumped: BTreeSet<String> = users
        .iter()
        .map(|user| user["id"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(dumped, ids);
    assert_eq!(
        users[0],
        client
            .get(&format!("{USERS}/{}", users[0]["id"].as_str().unwrap()))
            .json()
    );
    assert_eq!(client.history("").len(), 1501);
}

#[test]
fn many_connections_at_once_make_each_email_once() {
    let (server, mut client) = start();
    let address = server.address();
    let threads: Vec<_> = (0..8)
        .map(|_| {
            std::thread::spawn(move || {
                let mut client = Client::new(address);
                (0..100)
                    .filter(|n| {
                        client
                            .post(USERS, json!({"email": format!("u{n}@example.org")}))
                            .status
                            == 201
                    })
                    .count()
            })
        })
        .collect();
    let made: usize = threads
        .into_iter()
        .map(|thread| thread.join().unwrap())
        .sum();
    assert_eq!(made, 100);
    assert_eq!(client.dump()["users"].as_array().unwrap().len(), 100);
}

/// `userferry sandbox --child`, as an import starts it.
struct Kid {
    child: Child,
    stdin: Option<ChildStdin>,
    address: SocketAddr,
}

impl Kid {
    fn start(state: &std::path::Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_userferry"))
            .args(["sandbox", "--child", "--listen", "127.0.0.1:0", "--state"])
            .arg(state)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(format!("{KEY}\n").as_bytes()).unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let address = line
            .trim()
            .strip_prefix("sandbox listening on http://")
            .unwrap();
        Self {
            address: address.parse().unwrap(),
            child,
            stdin: Some(stdin),
        }
    }
}

impl Drop for Kid {
    fn drop(&mut self) {
        drop(self.stdin.take());
        assert!(self.child.wait().is_ok());
    }
}

#[test]
fn a_killed_sandbox_comes_back_with_every_answered_write() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("sandbox.log");
    let mut kid = Kid::start(&state);
    let mut client = Client::new(kid.address);
    let pair = Pair::new(&mut client);
    client.make(MEMBERSHIPS, pair.with(json!({"role_slug": "admin"})));
    for n in 0..200 {
        client.make(
            USERS,
            json!({"email": format!("u{n}@example.org"), "external_id": format!("x{n}")}),
        );
    }
    let before = client.dump();
    kid.child.kill().unwrap();
    drop(kid);
    let kid = Kid::start(&state);
    let mut client = Client::new(kid.address);
    assert_eq!(client.dump(), before);
    let again = client.post(USERS, json!({"email": "U7@example.org"}));
    assert_eq!(again.status, 400);
    let newer = client.make(USERS, json!({"email": "new@example.org"}));
    assert!(newer.as_str() > before["users"][200]["id"].as_str().unwrap());
    client.key = "sk_other".to_owned();
    assert_eq!(client.get(USERS).status, 401, "the key came over stdin");
}

#[test]
fn a_child_ends_when_its_stdin_ends_and_a_successor_takes_over_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("sandbox.log");
    let mut first = Kid::start(&state);
    let id = Client::new(first.address).make(USERS, json!({"email": "a@example.org"}));
    let stdin = first.stdin.take();
    let successor = std::thread::spawn({
        let state = state.clone();
        move || Kid::start(&state)
    });
    drop(stdin);
    assert!(first.child.wait().unwrap().success());
    let second = successor.join().unwrap();
    assert_eq!(
        Client::new(second.address)
            .get(&format!("{USERS}/{id}"))
            .status,
        200
    );
}
