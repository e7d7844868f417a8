//! Which roles the target knows, as far as this worker has asked, and which of a row it does not.
//!
//! Only a dry run that looks at its target needs it: there no request says that a role is unknown.

use super::attempts::Attempts;
use crate::model::scan::RoleScope;
use crate::protocol::RoleList;
use crate::target::NotApplied;
use crate::target::{Rejection, StopReason, Verdict};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::oneshot;

/// A list as rows share it; `None` if it could not be read.
pub(crate) type Known = Option<Rc<[String]>>;

/// What a row gets when it asks.
#[derive(Debug)]
pub(crate) enum Asked {
    /// Known.
    Hit(Known),
    /// Wait for it.
    Wait {
        /// Where the answer comes; it fails when a drain turned the row away.
        answer: oneshot::Receiver<Known>,
        /// Whether nobody has asked the coordinator yet.
        ask: bool,
    },
}

#[derive(Debug)]
enum List {
    Known(Known),
    Awaited(Vec<oneshot::Sender<Known>>),
}

/// Every list that rows of this worker asked for: one, and one for each organization for which the
/// file has a role that the environment has not.
#[derive(Debug, Default)]
pub(crate) struct RoleBook {
    lists: BTreeMap<RoleScope, List>,
    draining: bool,
}

impl RoleBook {
    /// Looks a list up for a row.
    pub(crate) fn ask(&mut self, scope: &RoleScope) -> Asked {
        if let Some(List::Known(known)) = self.lists.get(scope) {
            return Asked::Hit(known.clone());
        }
        let (tell, answer) = oneshot::channel();
        if self.draining {
            return Asked::Wait { answer, ask: false };
        }
        match self.lists.get_mut(scope) {
            Some(List::Awaited(waiting)) => {
                waiting.push(tell);
                Asked::Wait { answer, ask: false }
            }
            Some(List::Known(_)) | None => {
                self.lists.insert(scope.clone(), List::Awaited(vec![tell]));
                Asked::Wait { answer, ask: true }
            }
        }
    }

    /// The coordinator answered: everybody who waits is told.
    pub(crate) fn on_answer(&mut self, scope: RoleScope, roles: RoleList) {
        let known: Known = roles.ok().map(Rc::from);
        let before = self.lists.insert(scope, List::Known(known.clone()));
        if let Some(List::Awaited(waiting)) = before {
            for waiter in waiting {
                // A row that was turned away in between needs no answer.
                drop(waiter.send(known.clone()));
            }
        }
    }

    /// Returns what is known of the environment's roles.
    pub(crate) fn environment(&self) -> Known {
        match self.lists.get(&RoleScope::Environment) {
            Some(List::Known(known)) => known.clone(),
            Some(List::Awaited(_)) | None => None,
        }
    }

    /// Turns away whoever waits, now and from now on.
    pub(crate) fn drain(&mut self) {
        self.draining = true;
        self.lists.retain(|_, list| matches!(list, List::Known(_)));
    }
}

/// Returns the first role of a row that is on none of these lists.
pub(crate) fn first_unknown<'a>(asked: &'a [String], lists: &[&[String]]) -> Option<&'a String> {
    asked
        .iter()
        .find(|slug| !lists.iter().any(|list| list.contains(slug)))
}

/// What is done next to read a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    /// Ask (again).
    Ask,
    /// Wait this long, then ask again.
    Backoff(Duration),
    /// That is it.
    Done(RoleList),
    /// The run stops.
    Halt(StopReason),
}

/// Unclear answers after which a list is given up, although nothing else went well meanwhile: it may
/// be the only thing that rows wait for. With the waits between them, two minutes.
const UNCLEAR_MAX: u32 = 10;

/// The tries to read a list.
#[derive(Debug, Default)]
pub(crate) struct Tries {
    attempts: Attempts,
    unclear: u32,
    denied: bool,
}

impl Tries {
    /// Notes a denial; returns whether it was not the first.
    const fn was_denied(&mut self) -> bool {
        std::mem::replace(&mut self.denied, true)
    }
}

/// Goes on with what an answer means; `roles` is what it showed. `alive` counts successes of other
/// requests.
pub(crate) fn on_answer(
    tries: &mut Tries,
    verdict: Verdict,
    roles: Option<Vec<String>>,
    alive: u64,
) -> Reading {
    let unreadable = |words: &str| Reading::Done(Err(words.to_owned()));
    match (verdict, roles) {
        (Verdict::Ok(_), Some(roles)) => Reading::Done(Ok(roles)),
        (Verdict::Ok(_), None) => unreadable("the list is not whole"),
        (Verdict::Absent, _) => unreadable("the target does not show them, or not to this key"),
        // The key is good for everything else.
        (Verdict::NotApplied(NotApplied::Unauthorized), _) if tries.was_denied() => {
            unreadable("the target does not show them to this key")
        }
        (Verdict::NotApplied(_), _) => Reading::Ask,
        (Verdict::Stop(reason), _) => Reading::Halt(reason),
        (Verdict::Ambiguous(why) | Verdict::Rejected(why) | Verdict::Exists(why), _) => {
            unclear(tries, &why, alive)
        }
        (Verdict::Made(_) | Verdict::OddEcho(_), _) => unclear(tries, &Rejection::default(), alive),
    }
}

/// A list that cannot be had spoils no plan: it is tried a few times.
fn unclear(tries: &mut Tries, why: &Rejection, alive: u64) -> Reading {
    let wait = tries.attempts.note_unclear(alive);
    tries.unclear += 1;
    // A list beyond all bounds is not shorter the next time.
    let hopeless = why.code == "oversized_answer";
    if hopeless || tries.attempts.are_spent() || tries.unclear >= UNCLEAR_MAX {
        return Reading::Done(Err(format!("the last answer was {}", why.code)));
    }
    Reading::Backoff(wait)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(slugs: &[&str]) -> Vec<String> {
        slugs.iter().map(|&slug| slug.to_owned()).collect()
    }

    #[test]
    fn a_role_on_any_list_is_known() {
        let (environment, own) = (list(&["member", "admin"]), list(&["org-night"]));
        let first =
            |asked: &[&str], lists: &[&[String]]| first_unknown(&list(asked), lists).cloned();
        assert_eq!(first(&["admin", "member"], &[&environment]), None);
        let night = Some("org-night".to_owned());
        assert_eq!(first(&["admin", "org-night"], &[&environment]), night);
        assert_eq!(first(&["org-night"], &[&environment, &own]), None);
        assert_eq!(
            first(&["Admin"], &[&environment, &own]),
            Some("Admin".to_owned()),
            "slugs are compared as they are"
        );
    }

    #[test]
    fn rows_share_one_question_and_a_drain_turns_them_away() {
        let mut book = RoleBook::default();
        let scope = RoleScope::Environment;
        let Asked::Wait { mut answer, ask } = book.ask(&scope) else {
            panic!("nobody knows yet")
        };
        assert!(ask);
        let Asked::Wait { ask: false, .. } = book.ask(&scope) else {
            panic!("somebody asks already")
        };
        book.on_answer(scope.clone(), Ok(list(&["member"])));
        assert!(matches!(answer.try_recv(), Ok(Some(_))));
        assert!(matches!(book.ask(&scope), Asked::Hit(Some(_))));
        let own = RoleScope::Organization("org_1".to_owned());
        let Asked::Wait { mut answer, .. } = book.ask(&own) else {
            panic!("of this one nobody knows")
        };
        book.drain();
        assert!(answer.try_recv().is_err());
        assert!(book.environment().is_some());
    }

    #[test]
    fn what_cannot_be_read_is_said_and_what_is_unclear_is_asked_again() {
        let mut tries = Tries::default();
        let entity = || Verdict::Ok(Box::default());
        let mut on = |verdict, roles| on_answer(&mut tries, verdict, roles, 0);
        let slugs = list(&["member"]);
        assert_eq!(on(entity(), Some(slugs.clone())), Reading::Done(Ok(slugs)));
        assert!(matches!(on(entity(), None), Reading::Done(Err(_))));
        assert!(matches!(on(Verdict::Absent, None), Reading::Done(Err(_))));
        let throttled = Verdict::NotApplied(NotApplied::Throttled(None));
        assert_eq!(on(throttled, None), Reading::Ask);
        let broken = || Verdict::Ambiguous(Rejection::default());
        assert!(matches!(on(broken(), None), Reading::Backoff(_)));
        let long = Rejection {
            code: "oversized_answer".to_owned(),
            ..Rejection::default()
        };
        let long = on(Verdict::Ambiguous(long), None);
        assert!(matches!(long, Reading::Done(Err(_))));
    }

    #[test]
    fn a_list_is_given_up_sooner_while_other_requests_succeed() {
        let tried = |alive: fn(u64) -> u64| {
            let mut tries = Tries::default();
            let broken = || Verdict::Ambiguous(Rejection::default());
            (1..100)
                .find(|n| {
                    let reading = on_answer(&mut tries, broken(), None, alive(*n));
                    matches!(reading, Reading::Done(Err(_)))
                })
                .unwrap()
        };
        assert_eq!(tried(|n| n), 8);
        assert_eq!(tried(|_| 0), u64::from(UNCLEAR_MAX));
    }
}
