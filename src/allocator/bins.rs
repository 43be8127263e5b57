//! Blocks at hand: one short list for each class of sizes, the last one given back is the first one taken.

#![expect(clippy::cast_ptr_alignment, reason = "every block of a class is aligned to 16 at least")]

use std::alloc::Layout;
use std::cell::Cell;
use std::ptr::null_mut;

/// Up to here a class every 16 bytes; above, eight for each doubling.
const SMALL: usize = 1024;
/// Larger blocks are mimalloc's alone.
const LARGEST: usize = 128 << 10;
const SMALL_BINS: usize = SMALL / 16;
const STEPS: usize = 8;
const MEDIUM_BINS: usize = STEPS * (LARGEST / SMALL).ilog2() as usize;
/// For each kind of alignment.
const BINS: usize = SMALL_BINS + MEDIUM_BINS;

/// Sizes that the same blocks serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Class {
    bin: usize,
    /// What its blocks have.
    pub(super) size: usize,
    /// Aligned to [`Class::WIDE`], not to 16.
    pub(super) wide: bool,
}

impl Class {
    pub(super) const WIDE: usize = 128;

    /// None for what is too large, too strictly aligned, or nothing.
    #[inline]
    pub(super) fn of(layout: Layout) -> Option<Self> {
        let (size, align) = (layout.size(), layout.align());
        if size == 0 || size > LARGEST || align > Self::WIDE {
            return None;
        }
        let wide = align > 16;
        let (bin, size) = if size <= SMALL {
            let bin = (size - 1) / 16;
            (bin, (bin + 1) * 16)
        } else {
            // The doubling above SMALL in which the last byte lies, and its eighth there.
            let last = size - 1;
            let shift = last.ilog2() - STEPS.ilog2();
            let doubling = (last.ilog2() - SMALL.ilog2()) as usize;
            (SMALL_BINS + doubling * STEPS + ((last >> shift) - STEPS), ((last >> shift) + 1) << shift)
        };
        Some(Self { bin: if wide { bin + BINS } else { bin }, size, wide })
    }
}

/// The lists of one thread. Each block holds the address of the next one.
pub(super) struct Bins {
    first: [Cell<*mut u8>; 2 * BINS],
    /// How many more blocks each list takes.
    room: [Cell<u16>; 2 * BINS],
}

impl Bins {
    /// Without room for anything.
    pub(super) const fn new() -> Self {
        Self { first: [const { Cell::new(null_mut()) }; 2 * BINS], room: [const { Cell::new(0) }; 2 * BINS] }
    }

    /// Makes room: at most 13 MiB altogether, were every list full.
    pub(super) fn open(&self) {
        for (bin, room) in self.room.iter().enumerate() {
            let most = match bin % BINS {
                ..SMALL_BINS => 64,
                bin if bin < SMALL_BINS + 4 * STEPS => 8,
                _ => 2,
            };
            room.set(most);
        }
    }

    /// The block of this class that was kept last.
    #[inline]
    pub(super) fn take(&self, class: Class) -> Option<*mut u8> {
        let (first, room) = (self.first.get(class.bin)?, self.room.get(class.bin)?);
        let block = first.get();
        if block.is_null() {
            return None;
        }
        // SAFETY: a kept block is nobody's, and begins with the address that `keep` wrote there.
        first.set(unsafe { block.cast::<*mut u8>().read() });
        room.set(room.get() + 1);
        Some(block)
    }

    /// Whether there was room for it.
    ///
    /// # Safety
    /// The block serves every layout of the class and is nobody's any more.
    #[inline]
    pub(super) unsafe fn keep(&self, class: Class, block: *mut u8) -> bool {
        let (Some(first), Some(room)) = (self.first.get(class.bin), self.room.get(class.bin)) else { return false };
        let left = room.get();
        if left == 0 {
            return false;
        }
        room.set(left - 1);
        // SAFETY: every block has 16 bytes at least, aligned to 8 at least.
        unsafe { block.cast::<*mut u8>().write(first.get()) };
        first.set(block);
        true
    }
}
