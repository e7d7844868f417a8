//! The organizations this worker remembers, and the rows that wait for one.

use crate::model::OrgKey;
use crate::model::tally::OrgCacheTally;
use crate::protocol::OrgAnswer;
use lru::LruCache;
use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use tokio::sync::oneshot;

/// What a row gets when it asks.
#[derive(Debug)]
pub(crate) enum Asked {
    /// Known.
    Hit(String),
    /// Wait for it; `ask` says whether the coordinator has to be asked.
    Wait {
        /// Where the answer comes; it fails when a drain turned the row away.
        answer: oneshot::Receiver<OrgAnswer>,
        /// Whether nobody has asked yet.
        ask: bool,
    },
}

/// A bounded memory of hints: the coordinator knows better, and is asked on a miss.
#[derive(Debug)]
pub(crate) struct OrgCache {
    known: LruCache<OrgKey, String>,
    waiting: BTreeMap<OrgKey, Vec<oneshot::Sender<OrgAnswer>>>,
    /// Flights of this very worker: their results are its own finds, not merged ones.
    own: BTreeSet<OrgKey>,
    draining: bool,
}

impl OrgCache {
    pub(crate) fn new(capacity: u32) -> Self {
        let capacity = NonZeroUsize::new(capacity as usize).unwrap_or(NonZeroUsize::MIN);
        Self {
            known: LruCache::new(capacity),
            waiting: BTreeMap::new(),
            own: BTreeSet::new(),
            draining: false,
        }
    }

    /// Returns whether a row that asks for it has its answer at once.
    pub(crate) fn knows(&self, key: &OrgKey) -> bool {
        self.known.contains(key)
    }

    /// Returns an organization's id if it is here.
    pub(crate) fn known(&mut self, key: &OrgKey, tally: &mut OrgCacheTally) -> Option<String> {
        // While there is plenty of room nobody is evicted, and an order that nobody needs is not
        // kept: it costs more than the look-up.
        let id = if self.known.len() < self.known.cap().get() / 2 {
            self.known.peek(key)?
        } else {
            self.known.get(key)?
        };
        tally.hits += 1;
        Some(id.clone())
    }

    /// Looks an organization up for a row.
    pub(crate) fn ask(&mut self, key: &OrgKey, tally: &mut OrgCacheTally) -> Asked {
        if let Some(id) = self.known(key, tally) {
            return Asked::Hit(id);
        }
        let (tell, answer) = oneshot::channel();
        if self.draining {
            return Asked::Wait { answer, ask: false };
        }
        let waiting = self.waiting.entry(key.clone()).or_default();
        waiting.push(tell);
        let ask = waiting.len() == 1;
        if ask {
            tally.misses += 1;
        } else {
            tally.hits += 1;
        }
        Asked::Wait { answer, ask }
    }

    /// This worker resolves `key` itself.
    pub(crate) fn on_flight(&mut self, key: &OrgKey) {
        self.own.insert(key.clone());
    }

    /// The coordinator answered: everybody who waits is told.
    pub(crate) fn on_answer(
        &mut self,
        key: &OrgKey,
        answer: &OrgAnswer,
        tally: &mut OrgCacheTally,
    ) {
        let own = self.own.remove(key);
        if let OrgAnswer::Ready { id } = answer {
            tally.merged += u64::from(!own);
            self.keep(key, id.clone(), tally);
        }
        for waiter in self.waiting.remove(key).unwrap_or_default() {
            // A row that was turned away in between needs no answer.
            drop(waiter.send(answer.clone()));
        }
    }

    /// Takes hints while there is room: what a row of this worker asked for is worth more.
    pub(crate) fn on_hints(&mut self, hints: Vec<(OrgKey, String)>, tally: &mut OrgCacheTally) {
        for (key, id) in hints {
            if self.known.len() >= self.known.cap().get() {
                break;
            }
            if !self.known.contains(&key) {
                tally.merged += 1;
                self.known.put(key, id);
            }
        }
    }

    /// Turns away whoever waits, now and from now on.
    pub(crate) fn drain(&mut self) {
        self.draining = true;
        self.waiting.clear();
    }

    fn keep(&mut self, key: &OrgKey, id: String, tally: &mut OrgCacheTally) {
        if let Some((old, _)) = self.known.push(key.clone(), id) {
            tally.evicted += u64::from(old != *key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> OrgKey {
        OrgKey::External(name.into())
    }

    fn ready(id: &str) -> OrgAnswer {
        OrgAnswer::Ready { id: id.into() }
    }

    #[test]
    fn rows_of_one_worker_share_one_question() {
        let (mut cache, mut tally) = (OrgCache::new(2), OrgCacheTally::default());
        let Asked::Wait {
            answer: mut first,
            ask: true,
        } = cache.ask(&key("a"), &mut tally)
        else {
            panic!("the first one asks")
        };
        let Asked::Wait {
            answer: mut second,
            ask: false,
        } = cache.ask(&key("a"), &mut tally)
        else {
            panic!("the second one waits")
        };
        cache.on_answer(&key("a"), &ready("org_a"), &mut tally);
        assert_eq!(first.try_recv(), Ok(ready("org_a")));
        assert_eq!(second.try_recv(), Ok(ready("org_a")));
        assert!(matches!(cache.ask(&key("a"), &mut tally), Asked::Hit(_)));
        assert_eq!((tally.hits, tally.misses, tally.merged), (2, 1, 1));
    }

    #[test]
    fn a_full_cache_drops_the_oldest_and_takes_no_hints() {
        let (mut cache, mut tally) = (OrgCache::new(2), OrgCacheTally::default());
        for name in ["a", "b", "c"] {
            cache.on_answer(&key(name), &ready(name), &mut tally);
        }
        cache.on_hints(vec![(key("d"), "d".into())], &mut tally);
        assert_eq!((tally.evicted, tally.merged), (1, 3));
        assert!(matches!(
            cache.ask(&key("a"), &mut tally),
            Asked::Wait { .. }
        ));
        assert!(matches!(
            cache.ask(&key("d"), &mut tally),
            Asked::Wait { .. }
        ));
        assert!(matches!(cache.ask(&key("c"), &mut tally), Asked::Hit(_)));
    }

    #[test]
    fn failures_are_told_and_not_remembered() {
        let (mut cache, mut tally) = (OrgCache::new(2), OrgCacheTally::default());
        cache.ask(&key("a"), &mut tally);
        let failed = OrgAnswer::Failed {
            code: "organization_not_found".into(),
            message: String::new(),
            http_status: None,
            parked: false,
        };
        cache.on_answer(&key("a"), &failed, &mut tally);
        assert!(matches!(
            cache.ask(&key("a"), &mut tally),
            Asked::Wait { ask: true, .. }
        ));
    }
}
