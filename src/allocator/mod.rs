//! Memory: mimalloc, with a few blocks kept at hand by each worker.
//!
//! **It never says no**: the program ends where there is no memory left. A request is served by one large future in a
//! box. As long as an allocation can fail, and a failure unwinds, the compiler has to build that future on the stack
//! and then copy it: 13 KiB for every request. Here it sees that nothing can fail, and builds it in place.
//!
//! **Workers take back the block that they gave away last**, which the processor still has at hand: mimalloc walks
//! through whole pages of blocks before it comes back to the first one. A request takes ninety blocks.

#![expect(unsafe_code, reason = "the contract of `GlobalAlloc` is unsafe; each line keeps it by passing it on")]

mod bins;

use std::alloc::{GlobalAlloc, Layout};
use std::ffi::c_void;
use std::process::abort;

use libmimalloc_sys as mi;

use bins::{Bins, Class};

/// The allocator of the program.
pub struct Allocator;

thread_local! {
    static AT_HAND: Bins = const { Bins::new() };
}

/// From now on this thread keeps some of the blocks that it gives away. For threads that end with the process: what
/// they keep is never given back.
pub fn keep_blocks() {
    AT_HAND.with(Bins::open);
}

#[inline]
fn sure(block: *mut c_void) -> *mut u8 {
    if block.is_null() {
        abort();
    }
    block.cast()
}

/// A block from mimalloc that serves every layout of the class.
#[inline]
fn fresh(class: Class) -> *mut u8 {
    // SAFETY: any size and any power of two are valid. Unasked, mimalloc aligns to 16 whatever has 16 bytes.
    sure(unsafe { if class.wide { mi::mi_malloc_aligned(class.size, Class::WIDE) } else { mi::mi_malloc(class.size) } })
}

// SAFETY: every block comes from mimalloc with at least the size and alignment asked for, belongs to one owner at a
// time, and goes back to mimalloc or to a bin of its class; nothing here unwinds.
unsafe impl GlobalAlloc for Allocator {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some(class) = Class::of(layout) else {
            // SAFETY: any size and any power of two are valid.
            return sure(unsafe { mi::mi_malloc_aligned(layout.size(), layout.align()) });
        };
        AT_HAND.with(|bins| bins.take(class)).unwrap_or_else(|| fresh(class))
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if Class::of(layout).is_none() {
            // SAFETY: as above; the kernel's pages are zero already.
            return sure(unsafe { mi::mi_zalloc_aligned(layout.size(), layout.align()) });
        }
        // SAFETY: the block has the size that is written.
        unsafe {
            let block = self.alloc(layout);
            block.write_bytes(0, layout.size());
            block
        }
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller gives back what it got here for this layout, so a bin of its class may have it.
        let kept = Class::of(layout).is_some_and(|class| AT_HAND.with(|bins| unsafe { bins.keep(class, block) }));
        if !kept {
            // SAFETY: the block came from mimalloc.
            unsafe { mi::mi_free(block.cast()) }
        }
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller vouches for size and alignment.
        let wanted = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        match (Class::of(layout), Class::of(wanted)) {
            (Some(is), Some(shall)) if is == shall => block,
            (None, None) => {
                // SAFETY: the block is the caller's; size and alignment are valid.
                sure(unsafe { mi::mi_realloc_aligned(block.cast(), size, layout.align()) })
            }
            // SAFETY: both blocks have the size that is copied, and the old one is given back for its own layout.
            _ => unsafe {
                let moved = self.alloc(wanted);
                moved.copy_from_nonoverlapping(block, layout.size().min(size));
                self.dealloc(block, layout);
                moved
            },
        }
    }
}

#[cfg(test)]
mod tests;
