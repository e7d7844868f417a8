//! The yardstick of `http`: a bare client that posts as fast as it can and does nothing else.
//!
//! # Owns
//! A loop of its own over the same HTTP library with the same settings as the importer's client
//! (`target/http.rs`), as a process of its own: user, then membership, 64 rows at a time.
//! # Never
//! Checks, records, limits or retries anything: what it leaves out is what the importer adds.
#![expect(
    clippy::print_stderr,
    reason = "its stderr is read by the process that measures it"
)]

use crate::report::screen::print_data;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use serde::{Deserialize, Serialize};
use std::cell::Cell;
use std::fmt;
use std::io;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;
use tokio::task::{JoinHandle, LocalSet};

/// Longest order that is read.
const ORDER_BYTES_MAX: u64 = 64 * 1024;

/// What one process is to do: a line of JSON on its stdin, because it holds the key.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Order {
    /// The server.
    pub base_url: String,
    /// Its key.
    pub key: String,
    /// The organization everybody joins.
    pub org_id: String,
    /// The number of the first row: emails of several processes must differ.
    pub first: u32,
    /// Rows.
    pub rows: u32,
    /// Rows at a time.
    pub concurrency: u32,
}

impl fmt::Debug for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Order")
            .field("rows", &self.rows)
            .field("concurrency", &self.concurrency)
            .finish_non_exhaustive()
    }
}

/// What it did: a line of JSON on its stdout.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Done {
    /// Requests.
    pub requests: u64,
}

/// Runs the loop as a process: its order comes over stdin.
pub fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bare client: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    let order: Order =
        serde_json::from_reader(io::Read::take(io::stdin().lock(), ORDER_BYTES_MAX))?;
    let client = Client::new(&order.base_url, &order.key)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let done = LocalSet::new().block_on(&runtime, post_all(client, order))?;
    print_data(serde_json::to_string(&done)?.as_bytes())?;
    Ok(())
}

/// The library with the importer's settings.
#[derive(Clone, Debug)]
pub(super) struct Client {
    http: reqwest::Client,
    base_url: String,
}

impl Client {
    pub fn new(base_url: &str, key: &str) -> Result<Self, Box<dyn std::error::Error>> {
        // Also for plain http, or the library panics; an error says that one is installed already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut authorization = HeaderValue::from_str(&format!("Bearer {key}"))?;
        authorization.set_sensitive(true);
        let http = reqwest::Client::builder()
            .user_agent(concat!("userferry/", env!("CARGO_PKG_VERSION")))
            .default_headers(HeaderMap::from_iter([(AUTHORIZATION, authorization)]))
            .http1_only()
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .pool_idle_timeout(Duration::from_secs(20))
            .pool_max_idle_per_host(usize::MAX)
            .connect_timeout(Duration::from_secs(10))
            .timeout(Duration::from_secs(30))
            .no_proxy()
            .tls_certs_only([])
            .build()?;
        Ok(Self {
            http,
            base_url: base_url.to_owned(),
        })
    }

    /// Posts and returns the id of what was made.
    pub async fn post(
        &self,
        path: &str,
        body: String,
    ) -> Result<String, Box<dyn std::error::Error>> {
        let url = format!("{}{path}", self.base_url);
        let request = self.http.post(url).header(CONTENT_TYPE, "application/json");
        let answer = request.body(body).send().await?;
        let status = answer.status();
        let bytes = answer.bytes().await?;
        match id_in(&bytes) {
            Some(id) if status.is_success() => Ok(id),
            _ => Err(format!("the server answered {status}").into()),
        }
    }
}

/// Finds the first `"id":"…"`: the bare minimum a client has to read of an answer.
fn id_in(body: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(body).ok()?;
    let (_, after) = text.split_once("\"id\":")?;
    let id = after.trim_start().strip_prefix('"')?.split('"').next()?;
    Some(id.to_owned())
}

async fn post_all(client: Client, order: Order) -> Result<Done, Box<dyn std::error::Error>> {
    let next = Rc::new(Cell::new(0_u32));
    let order = Rc::new(order);
    let mut tasks: Vec<JoinHandle<Result<(), String>>> = Vec::new();
    for _ in 0..order.concurrency.max(1) {
        let (client, next, order) = (client.clone(), Rc::clone(&next), Rc::clone(&order));
        tasks.push(tokio::task::spawn_local(async move {
            loop {
                let row = next.get();
                if row >= order.rows {
                    return Ok(());
                }
                next.set(row + 1);
                let posted = post_row(&client, &order, order.first + row).await;
                posted.map_err(|error| error.to_string())?;
            }
        }));
    }
    for task in tasks {
        task.await??;
    }
    Ok(Done {
        requests: u64::from(order.rows) * 2,
    })
}

/// What the importer sends for a row of `generate`.
async fn post_row(
    client: &Client,
    order: &Order,
    row: u32,
) -> Result<(), Box<dyn std::error::Error>> {
    let user = format!(
        "{{\"email\":\"person.{row}@bare.invalid\",\"first_name\":\"Person\",\
         \"last_name\":\"Number{row}\",\"external_id\":\"bare-{row}\",\"email_verified\":true,\
         \"metadata\":{{\"plan\":\"team\",\"seat\":\"{row}\"}}}}"
    );
    let id = client.post("/user_management/users", user).await?;
    let membership = format!(
        "{{\"user_id\":\"{id}\",\"organization_id\":\"{}\"}}",
        order.org_id
    );
    let path = "/user_management/organization_memberships";
    client.post(path, membership).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_of_an_answer_is_found() {
        let body = br#"{"object":"user","id":"user_01","email":"a"}"#;
        assert_eq!(id_in(body).as_deref(), Some("user_01"));
        assert_eq!(id_in(b"{}"), None);
    }

    #[test]
    fn an_order_does_not_print_its_key() {
        let order = Order {
            base_url: "http://127.0.0.1:1".to_owned(),
            key: "sk_canary".to_owned(),
            org_id: "org_1".to_owned(),
            first: 0,
            rows: 1,
            concurrency: 1,
        };
        assert!(!format!("{order:?}").contains("canary"));
    }
}
