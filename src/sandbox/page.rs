//! Cursor pagination over entities that are ordered by id. Pure.

use super::ids::Ulid;

/// Entities of a page when nothing else is asked for.
pub const LIMIT_DEFAULT: usize = 10;
/// Most entities of a page.
pub const LIMIT_MAX: usize = 100;

/// The order of a listing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// Oldest first.
    Asc,
    /// Newest first.
    #[default]
    Desc,
    /// Newest first, and `before` and `after` change places.
    Normal,
}

/// What a page is asked for.
#[derive(Clone, Copy, Debug)]
pub struct PageRequest {
    pub limit: usize,
    pub order: Order,
    pub after: Option<Ulid>,
    pub before: Option<Ulid>,
}

/// Positions of one page in the order of display, and the cursors of its neighbours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    pub positions: Vec<usize>,
    pub before: Option<Ulid>,
    pub after: Option<Ulid>,
}

/// A sequence of entities with strictly ascending ids, some of which may be left out.
pub trait Listing {
    /// Returns how many positions there are.
    fn len(&self) -> usize;
    /// Returns the id at a position.
    fn id(&self, position: usize) -> Ulid;
    /// Returns whether the entity at a position belongs into the listing.
    fn has(&self, position: usize) -> bool;
}

/// Cuts one page. A cursor need not exist any more: it only marks a place.
pub fn cut(request: PageRequest, listing: &impl Listing) -> Page {
    let (newer, older) = match request.order {
        Order::Asc | Order::Normal => (request.after, request.before),
        Order::Desc => (request.before, request.after),
    };
    let low = newer.map_or(0, |id| bound(listing, |other| other <= id));
    let high = older.map_or(listing.len(), |id| bound(listing, |other| other < id));
    let window = low..high.max(low);
    let ascending = request.order == Order::Asc;
    // With one cursor the page is the one next to it; otherwise it starts where display starts.
    let from_low = match (newer, older) {
        (Some(_), None) => true,
        (None, Some(_)) => false,
        _ => ascending,
    };
    let wanted = window.filter(|position| listing.has(*position));
    let mut positions: Vec<usize> = if from_low {
        wanted.take(request.limit).collect()
    } else {
        wanted.rev().take(request.limit).collect()
    };
    if from_low != ascending {
        positions.reverse();
    }
    with_cursors(positions, request.order, listing)
}

fn with_cursors(positions: Vec<usize>, order: Order, listing: &impl Listing) -> Page {
    let (Some(&first), Some(&last)) = (positions.first(), positions.last()) else {
        return Page {
            positions,
            before: None,
            after: None,
        };
    };
    let (lowest, highest) = (first.min(last), first.max(last));
    let older = (0..lowest).rev().any(|position| listing.has(position));
    let newer = (highest + 1..listing.len()).any(|position| listing.has(position));
    let older = older.then(|| listing.id(lowest));
    let newer = newer.then(|| listing.id(highest));
    let (before, after) = match order {
        Order::Asc | Order::Normal => (older, newer),
        Order::Desc => (newer, older),
    };
    Page {
        positions,
        before,
        after,
    }
}

/// Returns the first position whose id fails `is_left`.
fn bound(listing: &impl Listing, is_left: impl Fn(Ulid) -> bool) -> usize {
    let (mut low, mut high) = (0, listing.len());
    while low < high {
        let middle = low + (high - low) / 2;
        if is_left(listing.id(middle)) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::ids::IdSource;
    use proptest::prelude::*;

    struct Shelf(Vec<(Ulid, bool)>);

    impl Listing for Shelf {
        fn len(&self) -> usize {
            self.0.len()
        }
        fn id(&self, position: usize) -> Ulid {
            self.0[position].0
        }
        fn has(&self, position: usize) -> bool {
            self.0[position].1
        }
    }

    fn shelf(present: &[bool]) -> Shelf {
        let mut ids = IdSource::new(3);
        Shelf(present.iter().map(|has| (ids.next(1_000), *has)).collect())
    }

    fn walk(shelf: &Shelf, order: Order, limit: usize, forward: bool) -> Vec<usize> {
        let mut request = PageRequest {
            limit,
            order,
            after: None,
            before: None,
        };
        let mut seen = Vec::new();
        loop {
            let page = cut(request, shelf);
            seen.extend(page.positions);
            let cursor = if forward { page.after } else { page.before };
            if cursor.is_none() {
                return seen;
            }
            if forward {
                request.after = cursor;
            } else {
                request.before = cursor;
            }
        }
    }

    proptest! {
        #[test]
        fn a_walk_meets_every_entity_once_in_order(
            present in prop::collection::vec(any::<bool>(), 0..60),
            limit in 1usize..15,
        ) {
            let shelf = shelf(&present);
            let asc: Vec<usize> = (0..present.len()).filter(|n| present[*n]).collect();
            let desc: Vec<usize> = asc.iter().rev().copied().collect();
            prop_assert_eq!(walk(&shelf, Order::Asc, limit, true), asc);
            prop_assert_eq!(&walk(&shelf, Order::Desc, limit, true), &desc);
            // `normal` starts at the newest page and reaches the older ones through `before`.
            prop_assert_eq!(walk(&shelf, Order::Normal, limit, false), desc);
        }

        #[test]
        fn the_page_before_a_page_is_the_one_it_followed(
            present in prop::collection::vec(any::<bool>(), 0..60),
            limit in 1usize..15,
        ) {
            let shelf = shelf(&present);
            for order in [Order::Asc, Order::Desc] {
                let first = cut(PageRequest { limit, order, after: None, before: None }, &shelf);
                if let Some(after) = first.after {
                    let second = cut(PageRequest { limit, order, after: Some(after), before: None }, &shelf);
                    let back = cut(PageRequest { limit, order, after: None, before: second.before }, &shelf);
                    prop_assert_eq!(back, first);
                }
            }
        }
    }

    #[test]
    fn both_cursors_cut_from_both_sides() {
        let shelf = shelf(&[true; 10]);
        let request = PageRequest {
            limit: 100,
            order: Order::Asc,
            after: Some(shelf.id(2)),
            before: Some(shelf.id(6)),
        };
        assert_eq!(cut(request, &shelf).positions, [3, 4, 5]);
        let crossed = PageRequest {
            after: Some(shelf.id(6)),
            before: Some(shelf.id(2)),
            ..request
        };
        assert_eq!(cut(crossed, &shelf).positions, [0usize; 0]);
    }
}
