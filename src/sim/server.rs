//! A target in the shape of the `WorkOS` API: atomic uniqueness, reads that lag, answers as HTTP.

use super::plan::{BAD_ISSUER, BAD_LOCALE, BAD_ROLE, OldUser, REFUSED, REFUSED_ORG, old_org_id};
use crate::model::{Mono, RowNumber};
use crate::source::SourceRow;
use crate::target::{NewFactor, Op, PageOf, Reply};
use reqwest::header::{DATE, HeaderName, RETRY_AFTER};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use std::time::{Duration, UNIX_EPOCH};

/// The server's clock at the virtual clock's zero, in milliseconds.
pub const EPOCH_MS: i64 = 1_790_000_000_000;
/// What was there before is this old.
pub const OLD_MS: i64 = EPOCH_MS - 86_400_000;

/// Who made something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// A request of the job, for that row if it was for one.
    Job(Option<RowNumber>),
    /// Somebody else.
    Other,
}

#[derive(Clone, Debug)]
pub struct User {
    pub id: String,
    pub email: String,
    pub external_id: Option<String>,
    pub first_name: Option<String>,
    pub last_name: Option<String>,
    pub verified: bool,
    pub locale: Option<String>,
    /// The row whose request set the locale last.
    pub locale_by: Option<RowNumber>,
    pub by: By,
    pub created_ms: i64,
    seen_from: Mono,
}

#[derive(Clone, Debug)]
pub struct Membership {
    pub id: String,
    pub user: String,
    pub org: String,
    pub status: &'static str,
    pub role: String,
    pub by: By,
    /// The row whose request activated it again.
    pub reactivated_by: Option<RowNumber>,
    pub created_ms: i64,
    seen_from: Mono,
}

/// A second factor: nothing makes it unique.
#[derive(Clone, Debug)]
pub struct Factor {
    pub id: String,
    pub user: String,
    pub secret: String,
    pub by: By,
    created_ms: i64,
    seen_from: Mono,
}

#[derive(Clone, Debug)]
pub struct Org {
    pub id: String,
    pub external_id: String,
    pub name: String,
    pub by: By,
    pub created_ms: i64,
    seen_from: Mono,
}

/// The target's state.
#[derive(Clone, Debug)]
pub struct Server {
    pub users: Vec<User>,
    pub memberships: Vec<Membership>,
    pub orgs: Vec<Org>,
    /// Who was there before and was deleted by somebody else, with their memberships.
    pub gone: (Vec<User>, Vec<Membership>),
    pub factors: Vec<Factor>,
    /// How much later than writers readers see something new.
    lag: Duration,
    next_id: u32,
    /// Writes that changed something.
    pub writes_applied: u64,
    /// How far the clock that dates what is made is behind the one of `Date`.
    behind: Duration,
    /// How much more time passed here than on the importer's machine.
    ahead: Duration,
}

/// Returns the server's clock.
fn ms(clock: Mono) -> i64 {
    EPOCH_MS + i64::try_from(clock.0 / 1_000_000).unwrap()
}

fn iso(ms: i64) -> String {
    format!("{:.3}", jiff::Timestamp::from_millisecond(ms).unwrap())
}

/// Returns an instant of the server's clock as headers say it.
pub fn http_date(clock: Mono) -> String {
    httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_millis(ms(clock).cast_unsigned()))
}

/// Returns an answer with this body.
pub fn http(now: Mono, status: u16, body: &Value) -> Reply {
    raw(now, status, None, Some(body.to_string().into_bytes()))
}

/// Returns an answer as given.
pub fn raw(now: Mono, status: u16, retry_after: Option<String>, body: Option<Vec<u8>>) -> Reply {
    let given = [
        (RETRY_AFTER, retry_after),
        (DATE, Some(http_date(now))),
        (
            HeaderName::from_static("x-request-id"),
            Some("req-1".into()),
        ),
    ];
    let sent = |(name, value): (_, Option<String>)| Some((name, value?.try_into().unwrap()));
    Reply::Http {
        status,
        headers: given.into_iter().filter_map(sent).collect(),
        body: body.map(Into::into),
    }
}

impl Server {
    pub fn new(
        old_orgs: &[String],
        old_users: &[OldUser],
        (lag, behind): (Duration, Duration),
    ) -> Self {
        let mut server = Self {
            users: Vec::new(),
            memberships: Vec::new(),
            orgs: Vec::new(),
            gone: (Vec::new(), Vec::new()),
            factors: Vec::new(),
            lag,
            behind,
            next_id: 0,
            writes_applied: 0,
            ahead: Duration::ZERO,
        };
        for external_id in old_orgs {
            server.orgs.push(Org {
                id: old_org_id(external_id),
                external_id: external_id.clone(),
                name: external_id.clone(),
                by: By::Other,
                created_ms: OLD_MS,
                seen_from: Mono(0),
            });
        }
        for old in old_users {
            server.add_old(old);
        }
        server
    }

    fn add_old(&mut self, old: &OldUser) {
        let id = self.id("user");
        self.users.push(User {
            id: id.clone(),
            email: old.email.clone(),
            external_id: old.external_id.clone(),
            first_name: old.first_name.clone(),
            last_name: Some("Lee".into()),
            verified: false,
            locale: None,
            locale_by: None,
            by: By::Other,
            created_ms: OLD_MS,
            seen_from: Mono(0),
        });
        for (org, status) in &old.memberships {
            let membership = Membership {
                id: self.id("om"),
                user: id.clone(),
                org: old_org_id(org),
                status,
                role: "member".into(),
                by: By::Other,
                reactivated_by: None,
                created_ms: OLD_MS,
                seen_from: Mono(0),
            };
            self.memberships.push(membership);
        }
    }

    /// Somebody signs up with an email of the file, if it is still free.
    pub fn sign_up(&mut self, now: Mono, email: &str, first: Option<&str>, verified: bool) -> bool {
        if self.users.iter().any(|user| user.email == email) {
            return false;
        }
        let user = User {
            id: self.id("user"),
            email: email.to_owned(),
            external_id: None,
            first_name: first.map(str::to_owned),
            last_name: Some("Lee".into()),
            verified,
            locale: None,
            locale_by: None,
            by: By::Other,
            created_ms: self.dated(now),
            seen_from: now.after(self.lag),
        };
        self.users.push(user);
        true
    }

    /// Somebody else makes an organization that rows of the file name.
    pub fn open_org(&mut self, now: Mono, external_id: &str) -> bool {
        if self.orgs.iter().any(|org| org.external_id == external_id) {
            return false;
        }
        let org = Org {
            id: self.id("org"),
            external_id: external_id.to_owned(),
            name: external_id.to_owned(),
            by: By::Other,
            created_ms: self.dated(now),
            seen_from: now.after(self.lag),
        };
        self.orgs.push(org);
        true
    }

    /// Returns whether whoever looks from `since` on finds the organization.
    pub fn shows_org(&self, external_id: &str, since: Mono) -> bool {
        let mut orgs = self.orgs.iter();
        orgs.any(|org| org.external_id == external_id && org.seen_from <= since)
    }

    /// Returns the time that something made now is dated with.
    fn dated(&self, now: Mono) -> i64 {
        ms(now) - i64::try_from(self.behind.as_millis()).unwrap()
    }

    /// Somebody deletes a user who was there before the job.
    pub fn vanish(&mut self, email: &str) -> bool {
        let is_it = |user: &User| user.email == email && user.created_ms == OLD_MS;
        let Some(at) = self.users.iter().position(is_it) else {
            return false;
        };
        let user = self.users.remove(at);
        let all = std::mem::take(&mut self.memberships);
        let (gone, left) = all.into_iter().partition(|it| it.user == user.id);
        self.memberships = left;
        let mut gone: Vec<Membership> = gone;
        self.gone.1.append(&mut gone);
        self.gone.0.push(user);
        true
    }

    /// Says whether there are some of these users, and somebody deleted all of them.
    pub fn are_gone(&self, ids: &[String]) -> bool {
        let is_gone = |id: &String| self.gone.0.iter().any(|user| user.id == *id);
        !ids.is_empty() && ids.iter().all(is_gone)
    }

    /// Everybody who is or was there.
    pub fn users_ever(&self) -> impl Iterator<Item = &User> {
        self.users.iter().chain(&self.gone.0)
    }

    /// Every membership that is or was there.
    pub fn memberships_ever(&self) -> impl Iterator<Item = &Membership> {
        self.memberships.iter().chain(&self.gone.1)
    }

    /// Returns the server's own time: it does not stand still while the importer's machine sleeps.
    pub fn clock(&self, now: Mono) -> Mono {
        now.after(self.ahead)
    }

    /// The importer's machine slept so long.
    pub fn on_sleep(&mut self, length: Duration) {
        self.ahead += length;
    }

    fn id(&mut self, kind: &str) -> String {
        self.next_id += 1;
        format!("{kind}_{:04}", self.next_id)
    }

    /// Applies a request and answers it.
    #[expect(clippy::too_many_lines, reason = "one arm for each operation")]
    pub fn handle(&mut self, now: Mono, op: &Op, row: Option<RowNumber>) -> Reply {
        match op {
            // No plan knows an organization by its name alone.
            // Nor does any run here look at its target only, and ask for roles.
            Op::FindOrgByName(_) | Op::ListRoles(_) => http(now, 200, &list(&[])),
            Op::Probe => {
                let seen = self.users.iter().filter(|user| user.seen_from <= now);
                http(
                    now,
                    200,
                    &list(&seen.take(1).map(show_user).collect::<Vec<_>>()),
                )
            }
            Op::ListUsers { oldest_first, page } => {
                let seen = self.users.iter().filter(|user| user.seen_from <= now);
                let mut all: Vec<Value> = seen.map(show_user).collect();
                if !oldest_first {
                    all.reverse();
                }
                http(now, 200, &part(&all, page))
            }
            Op::ListMemberships { org_id, page } => {
                let all = self.memberships.iter();
                let seen = all.filter(|it| it.org == *org_id && it.seen_from <= now);
                http(
                    now,
                    200,
                    &part(&seen.map(show_membership).collect::<Vec<_>>(), page),
                )
            }
            Op::ListOrgs(page) => {
                let seen = self.orgs.iter().filter(|org| org.seen_from <= now);
                http(
                    now,
                    200,
                    &part(&seen.map(show_org).collect::<Vec<_>>(), page),
                )
            }
            Op::CreateUser(user) => self.create_user(now, user, row),
            Op::CreateMembership {
                user_id,
                org_id,
                role_slugs,
            } => self.create_membership(now, (user_id, org_id, role_slugs), row),
            Op::CreateFactor(factor) => self.create_factor(now, factor, row),
            Op::FindFactor(user_id) => self.find_factors(now, user_id),
            Op::SetLocale { user_id, locale } => self.set_locale(now, user_id, locale, row),
            Op::CreateOrg { external_id, name } => self.create_org(now, external_id, name),
            Op::FindUserByExternalId(id) => {
                let found = self
                    .users
                    .iter()
                    .find(|user| user.external_id.as_ref() == Some(id) && user.seen_from <= now);
                found.map_or_else(
                    || missing(now, "User"),
                    |user| http(now, 200, &show_user(user)),
                )
            }
            Op::FindUserByEmail(email) => {
                let email = email.to_lowercase();
                let found = self
                    .users
                    .iter()
                    .filter(|user| user.email == email && user.seen_from <= now);
                http(now, 200, &list(&found.map(show_user).collect::<Vec<_>>()))
            }
            Op::GetUser(id) => {
                let found = self
                    .users
                    .iter()
                    .find(|user| user.id == *id && user.seen_from <= now);
                found.map_or_else(
                    || missing(now, "User"),
                    |user| http(now, 200, &show_user(user)),
                )
            }
            Op::FindMembership { user_id, org_id } => {
                let found = self.memberships.iter().filter(|found| {
                    found.user == *user_id && found.org == *org_id && found.seen_from <= now
                });
                http(
                    now,
                    200,
                    &list(&found.map(show_membership).collect::<Vec<_>>()),
                )
            }
            Op::GetOrg(id) => {
                let found = self
                    .orgs
                    .iter()
                    .find(|org| org.id == *id && org.seen_from <= now);
                found.map_or_else(|| missing(now, "Org"), |org| http(now, 200, &show_org(org)))
            }
            Op::FindOrgByExternalId(id) => {
                let found = self
                    .orgs
                    .iter()
                    .find(|org| org.external_id == *id && org.seen_from <= now);
                found.map_or_else(|| missing(now, "Org"), |org| http(now, 200, &show_org(org)))
            }
        }
    }

    fn create_user(&mut self, now: Mono, new: &SourceRow, row: Option<RowNumber>) -> Reply {
        if new.last_name.as_deref() == Some(REFUSED) {
            let errors = [("password_too_short", "Too short.")];
            return http(now, 400, &refusal("password_strength_error", &errors));
        }
        let email = String::from(new.email.to_lowercase());
        let mut errors = Vec::new();
        if self.users.iter().any(|user| user.email == email) {
            errors.push(("email_not_available", "This email is not available."));
        }
        let external = new.external_id.as_deref();
        if external.is_some()
            && self
                .users
                .iter()
                .any(|u| u.external_id.as_deref() == external)
        {
            errors.push(("external_id_already_used", "This external_id is assigned."));
        }
        if !errors.is_empty() {
            return http(now, 400, &refusal("user_creation_error", &errors));
        }
        self.writes_applied += 1;
        let user = User {
            id: self.id("user"),
            email,
            external_id: new.external_id.clone().map(String::from),
            first_name: new.first_name.clone().map(String::from),
            last_name: new.last_name.clone().map(String::from),
            verified: new.email_verified.unwrap_or(false),
            locale: None,
            locale_by: None,
            by: By::Job(row),
            created_ms: self.dated(now),
            seen_from: now.after(self.lag),
        };
        let shown = show_user(&user);
        self.users.push(user);
        http(now, 201, &shown)
    }

    fn find_factors(&self, now: Mono, user_id: &str) -> Reply {
        if !self.users.iter().any(|user| user.id == user_id) {
            return missing(now, "User");
        }
        let found = self
            .factors
            .iter()
            .filter(|found| found.user == user_id && found.seen_from <= now);
        http(now, 200, &list(&found.map(show_factor).collect::<Vec<_>>()))
    }

    fn create_factor(&mut self, now: Mono, new: &NewFactor, row: Option<RowNumber>) -> Reply {
        if !self.users.iter().any(|user| user.id == new.user_id) {
            return missing(now, "User");
        }
        if new.issuer.as_deref() == Some(BAD_ISSUER) {
            let body = json!({"message": "No.", "code": "invalid_request_parameters"});
            return http(now, 422, &body);
        }
        self.writes_applied += 1;
        let factor = Factor {
            id: self.id("auth_factor"),
            user: new.user_id.clone(),
            secret: new.secret.expose_secret().to_owned(),
            by: By::Job(row),
            created_ms: ms(now),
            seen_from: now.after(self.lag),
        };
        let shown = show_factor(&factor);
        self.factors.push(factor);
        http(now, 201, &json!({"authentication_factor": shown}))
    }

    fn set_locale(
        &mut self,
        now: Mono,
        user_id: &str,
        locale: &str,
        row: Option<RowNumber>,
    ) -> Reply {
        let Some(user) = self.users.iter_mut().find(|user| user.id == user_id) else {
            return missing(now, "User");
        };
        if locale == BAD_LOCALE {
            let body = json!({"message": "No.", "code": "invalid_locale"});
            return http(now, 400, &body);
        }
        user.locale = Some(locale.to_owned());
        user.locale_by = row;
        self.writes_applied += 1;
        http(now, 200, &show_user(user))
    }

    fn create_membership(
        &mut self,
        now: Mono,
        (user_id, org_id, roles): (&str, &str, &[String]),
        row: Option<RowNumber>,
    ) -> Reply {
        if !self.users.iter().any(|user| user.id == user_id) {
            return missing(now, "User");
        }
        if !self.orgs.iter().any(|org| org.id == org_id) {
            return missing(now, "Organization");
        }
        if roles.iter().any(|role| role == BAD_ROLE) {
            let body = json!({"message": "The role does not exist.", "code": "invalid_role"});
            return http(now, 422, &body);
        }
        let role = roles
            .first()
            .cloned()
            .unwrap_or_else(|| "member".to_owned());
        let old = self
            .memberships
            .iter_mut()
            .find(|found| found.user == user_id && found.org == org_id);
        if let Some(old) = old {
            return match old.status {
                "active" => http(
                    now,
                    400,
                    &json!({"message": "Already a member.",
                            "code": "organization_membership_already_exists"}),
                ),
                "inactive" => {
                    old.status = "active";
                    old.role = role;
                    old.reactivated_by = row;
                    self.writes_applied += 1;
                    http(now, 201, &show_membership(old))
                }
                _ => http(
                    now,
                    400,
                    &json!({"message": "Pending.",
                            "code": "cannot_reactivate_pending_organization_membership"}),
                ),
            };
        }
        self.writes_applied += 1;
        let membership = Membership {
            id: self.id("om"),
            user: user_id.to_owned(),
            org: org_id.to_owned(),
            status: "active",
            role,
            by: By::Job(row),
            reactivated_by: None,
            created_ms: self.dated(now),
            seen_from: now.after(self.lag),
        };
        let shown = show_membership(&membership);
        self.memberships.push(membership);
        http(now, 201, &shown)
    }

    fn create_org(&mut self, now: Mono, external_id: &str, name: &str) -> Reply {
        if external_id.starts_with(REFUSED_ORG) {
            let body = json!({"message": "No.", "code": "invalid_request_parameters"});
            return http(now, 422, &body);
        }
        if self.orgs.iter().any(|org| org.external_id == external_id) {
            let body = json!({"message": "Assigned.", "code": "external_id_already_used"});
            return http(now, 400, &body);
        }
        self.writes_applied += 1;
        let org = Org {
            id: self.id("org"),
            external_id: external_id.to_owned(),
            name: name.to_owned(),
            by: By::Job(None),
            created_ms: self.dated(now),
            seen_from: now.after(self.lag),
        };
        let shown = show_org(&org);
        self.orgs.push(org);
        http(now, 201, &shown)
    }
}

fn list(data: &[Value]) -> Value {
    json!({"object": "list", "data": data, "list_metadata": {"before": null, "after": null}})
}

/// A page of at most three: small plays turn pages too. A cursor that is gone starts anew, which
/// no walk may follow for ever.
fn part(all: &[Value], page: &PageOf) -> Value {
    let after = page.after.as_deref();
    let start = after.and_then(|id| all.iter().position(|item| item["id"] == id));
    let rest = &all[start.map_or(0, |at| at + 1)..];
    let shown = &rest[..rest.len().min(3).min(page.limit as usize)];
    let mut answer = list(shown);
    if shown.len() < rest.len() {
        answer["list_metadata"]["after"] = shown.last().map_or(Value::Null, |it| it["id"].clone());
    }
    answer
}

fn refusal(code: &str, errors: &[(&str, &str)]) -> Value {
    let errors: Vec<Value> = errors
        .iter()
        .map(|(code, message)| json!({"code": code, "message": message}))
        .collect();
    json!({"message": "Could not do it.", "code": code, "errors": errors})
}

fn missing(now: Mono, noun: &str) -> Reply {
    http(now, 404, &json!({"message": format!("{noun} not found.")}))
}

fn show_user(user: &User) -> Value {
    json!({"object": "user", "id": user.id, "email": user.email,
           "external_id": user.external_id, "first_name": user.first_name,
           "last_name": user.last_name, "email_verified": user.verified,
           "created_at": iso(user.created_ms)})
}

fn show_membership(membership: &Membership) -> Value {
    json!({"object": "organization_membership", "id": membership.id, "user_id": membership.user,
           "organization_id": membership.org, "status": membership.status,
           "role": {"slug": membership.role}, "created_at": iso(membership.created_ms)})
}

fn show_factor(factor: &Factor) -> Value {
    json!({"object": "authentication_factor", "id": factor.id, "type": "totp",
           "user_id": factor.user, "created_at": iso(factor.created_ms)})
}

fn show_org(org: &Org) -> Value {
    json!({"object": "organization", "id": org.id, "external_id": org.external_id,
           "name": org.name, "created_at": iso(org.created_ms)})
}
