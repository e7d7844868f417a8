//! The bounded queue between a run and the thread that writes its events.
//!
//! # Owns
//! Order, the bound, and the exact count of what was dropped when the bound was met.
//! # Never
//! Drops an event that [`Keep::Always`] protects: a full queue makes the run wait for it.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// What happens when events come faster than the disk takes them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overflow {
    /// The run waits.
    #[default]
    Block,
    /// The oldest event that may go makes room.
    DropOldest,
    /// The newest event goes, if it may.
    DropNewest,
}

/// Whether an event may be dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Results and errors.
    Always,
    /// Everything that only shows how the run is going.
    IfRoom,
}

/// The writer is gone: nothing will be written any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone;

/// A bounded queue for one writer.
#[derive(Debug)]
pub struct Queue<T> {
    /// Guards everything below; held for a push or for taking all, never while writing.
    state: Mutex<State<T>>,
    not_empty: Condvar,
    not_full: Condvar,
    overflow: Overflow,
    max: usize,
}

#[derive(Debug)]
struct State<T> {
    /// `None` where an event was dropped: places keep their numbers until they are taken.
    places: VecDeque<Option<T>>,
    /// Number of the first place.
    first: u64,
    /// Numbers of the places that may be dropped, oldest first.
    droppable: VecDeque<u64>,
    /// Places that hold an event.
    live: usize,
    dropped: u64,
    closed: bool,
    writer_gone: bool,
}

impl<T> Queue<T> {
    /// Makes a queue of at most `max` events.
    pub fn new(max: usize, overflow: Overflow) -> Self {
        Self {
            state: Mutex::new(State {
                places: VecDeque::with_capacity(max),
                first: 0,
                droppable: VecDeque::new(),
                live: 0,
                dropped: 0,
                closed: false,
                writer_gone: false,
            }),
            not_empty: Condvar::new(),
            not_full: Condvar::new(),
            overflow,
            max: max.max(1),
        }
    }

    /// Appends an event, or does what the policy says when there is no room.
    pub fn push(&self, event: T, keep: Keep) -> Result<(), Gone> {
        let mut state = self.lock();
        while state.live >= self.max && !state.writer_gone {
            if self.overflow == Overflow::DropOldest && state.drop_oldest() {
                continue;
            }
            // Also when nothing in the queue may go: then the newcomer does, if it may.
            if self.overflow != Overflow::Block && keep == Keep::IfRoom {
                state.dropped += 1;
                return Ok(());
            }
            state = wait(&self.not_full, state);
        }
        if state.writer_gone {
            return Err(Gone);
        }
        let was_empty = state.live == 0;
        state.append(event, keep);
        drop(state);
        if was_empty {
            self.not_empty.notify_one();
        }
        Ok(())
    }

    /// Waits for events and moves all of them into `batch`, in order; returns `false` when the
    /// queue is closed and empty.
    pub fn take(&self, batch: &mut Vec<T>) -> bool {
        let mut state = self.lock();
        while state.live == 0 && !state.closed {
            state = wait(&self.not_empty, state);
        }
        let full = state.live >= self.max;
        state.take(batch);
        drop(state);
        if full {
            self.not_full.notify_all();
        }
        !batch.is_empty()
    }

    /// Ends the queue: what is in it is still taken.
    pub fn close(&self) {
        self.lock().closed = true;
        self.not_empty.notify_one();
    }

    /// Says that nobody takes any more, so that nobody waits for room.
    pub fn writer_is_gone(&self) {
        self.lock().writer_gone = true;
        self.not_full.notify_all();
    }

    /// Returns how many events were dropped so far.
    pub fn dropped(&self) -> u64 {
        self.lock().dropped
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wait<'a, T>(condition: &Condvar, state: MutexGuard<'a, State<T>>) -> MutexGuard<'a, State<T>> {
    condition
        .wait(state)
        .unwrap_or_else(PoisonError::into_inner)
}

impl<T> State<T> {
    fn append(&mut self, event: T, keep: Keep) {
        if keep == Keep::IfRoom {
            let number = self.first + self.places.len() as u64;
            self.droppable.push_back(number);
        }
        self.places.push_back(Some(event));
        self.live += 1;
    }

    /// Empties the oldest place that may be; places in front of the first event go altogether.
    fn drop_oldest(&mut self) -> bool {
        let Some(number) = self.droppable.pop_front() else {
            return false;
        };
        let place = usize::try_from(number - self.first)
            .ok()
            .and_then(|at| self.places.get_mut(at));
        if place.and_then(Option::take).is_some() {
            self.live -= 1;
            self.dropped += 1;
        }
        while self.places.front().is_some_and(Option::is_none) {
            self.places.pop_front();
            self.first += 1;
        }
        self.compact();
        true
    }

    /// Behind an event that stays, dropped places pile up: closes the gaps before they double the
    /// queue.
    fn compact(&mut self) {
        if self.places.len() <= 2 * self.live.max(16) {
            return;
        }
        let droppable: std::collections::BTreeSet<u64> = self.droppable.drain(..).collect();
        let mut moved = VecDeque::with_capacity(self.live + 1);
        for (number, place) in (self.first..).zip(self.places.drain(..)) {
            if place.is_some() {
                if droppable.contains(&number) {
                    self.droppable.push_back(self.first + moved.len() as u64);
                }
                moved.push_back(place);
            }
        }
        self.places = moved;
    }

    fn take(&mut self, batch: &mut Vec<T>) {
        self.first += self.places.len() as u64;
        batch.extend(self.places.drain(..).flatten());
        self.droppable.clear();
        self.live = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn taken(queue: &Queue<u32>) -> Vec<u32> {
        let mut batch = Vec::new();
        queue.close();
        queue.take(&mut batch);
        batch
    }

    #[test]
    fn the_oldest_makes_room() {
        let queue = Queue::new(3, Overflow::DropOldest);
        for n in 0..10 {
            queue.push(n, Keep::IfRoom).unwrap();
        }
        assert_eq!(queue.dropped(), 7);
        assert_eq!(taken(&queue), [7, 8, 9]);
    }

    #[test]
    fn the_newest_goes() {
        let queue = Queue::new(3, Overflow::DropNewest);
        for n in 0..10 {
            queue.push(n, Keep::IfRoom).unwrap();
        }
        assert_eq!(queue.dropped(), 7);
        assert_eq!(taken(&queue), [0, 1, 2]);
    }

    #[test]
    fn a_result_waits_for_room_and_is_never_dropped() {
        for overflow in [Overflow::Block, Overflow::DropOldest, Overflow::DropNewest] {
            let queue = Queue::new(2, overflow);
            let mut seen = Vec::new();
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    for n in 0..1_000 {
                        queue.push(n, Keep::Always).unwrap();
                    }
                    queue.close();
                });
                let mut batch = Vec::new();
                while queue.take(&mut batch) {
                    seen.append(&mut batch);
                }
            });
            assert!(seen.into_iter().eq(0..1_000), "{overflow:?}");
            assert_eq!(queue.dropped(), 0);
        }
    }

    #[test]
    fn nobody_waits_for_a_writer_that_is_gone() {
        let queue = Queue::new(1, Overflow::Block);
        queue.push(1, Keep::Always).unwrap();
        queue.writer_is_gone();
        assert_eq!(queue.push(2, Keep::Always), Err(Gone));
    }

    proptest! {
        /// Against the plain model: a list, from which the first droppable one is removed.
        #[test]
        fn order_is_kept_and_every_drop_is_counted(
            events in proptest::collection::vec((any::<bool>(), any::<bool>()), 0..200),
            max in 1_usize..8,
        ) {
            let queue = Queue::new(max, Overflow::DropOldest);
            let mut model: Vec<(u32, bool)> = Vec::new();
            let (mut written, mut expected, mut dropped) = (Vec::new(), Vec::new(), 0);
            for (n, (keep, take)) in (0_u32..).zip(events) {
                let stuck = model.len() >= max && model.iter().all(|(_, keep)| *keep);
                if take || (stuck && keep) {
                    if !model.is_empty() {
                        queue.take(&mut written);
                    }
                    expected.extend(model.drain(..).map(|(n, _)| n));
                }
                queue.push(n, if keep { Keep::Always } else { Keep::IfRoom }).unwrap();
                if model.len() >= max {
                    dropped += 1;
                    match model.iter().position(|(_, keep)| !keep) {
                        Some(at) => drop(model.remove(at)),
                        None => continue,
                    }
                }
                model.push((n, keep));
            }
            expected.extend(model.drain(..).map(|(n, _)| n));
            written.extend(taken(&queue));
            prop_assert_eq!(written, expected);
            prop_assert_eq!(queue.dropped(), dropped);
        }
    }
}
