//! Planted bugs: the door through which a test breaks one rule to see whether anybody notices.
//!
//! Without the feature `plant` every question is answered no at compile time. With it, the number
//! of one bug is taken from `USERFERRY_PLANT`, or from `plant` for the calling thread.

/// Returns whether bug number `bug` is planted.
#[cfg(not(feature = "plant"))]
#[inline]
pub const fn is(_bug: u32) -> bool {
    false
}

#[cfg(feature = "plant")]
pub use planted::{is, plant};

#[cfg(feature = "plant")]
mod planted {
    use std::cell::Cell;

    thread_local! {
        static BUG: Cell<u32> = Cell::new(from_environment());
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "a build for tests; never shipped"
    )]
    fn from_environment() -> u32 {
        let number = std::env::var("USERFERRY_PLANT").ok();
        number.and_then(|text| text.parse().ok()).unwrap_or(0)
    }

    /// Returns whether bug number `bug` is planted on this thread.
    pub fn is(bug: u32) -> bool {
        BUG.get() == bug
    }

    /// Plants bug number `bug` on this thread; 0 plants none.
    pub fn plant(bug: u32) {
        BUG.set(bug);
    }
}
