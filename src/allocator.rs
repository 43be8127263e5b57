//! Memory from mimalloc, which never says no: the program ends where there is none left.
//!
//! A request is served by one large future in a box. As long as an allocation can fail, and a failure unwinds, the
//! compiler has to build that future on the stack and then copy it: 13 KiB for every request. Here it sees that
//! nothing can fail, and builds it in place.

#![expect(unsafe_code, reason = "the contract of `GlobalAlloc` is unsafe; each line keeps it by passing it on")]

use std::alloc::{GlobalAlloc, Layout};
use std::ffi::c_void;
use std::process::abort;

use libmimalloc_sys as mi;

/// The allocator of the program.
pub struct Allocator;

/// How long mimalloc keeps pages that nobody uses before the kernel gets them back, in milliseconds. Its own 10 make a
/// busy worker give back what it needs again a moment later.
const PURGE_DELAY: std::ffi::c_long = 1000;

/// Settles what is settled once, before the first thread starts.
pub fn settle() {
    /// `mi_option_purge_delay` in the `mi_option_e` of mimalloc 2.
    const OPTION: mi::mi_option_t = 15;
    // SAFETY: a known option, and a value that it takes.
    unsafe { mi::mi_option_set(OPTION, PURGE_DELAY) }
}

/// What mimalloc aligns by itself: to a word always, to 16 bytes whatever has 16 bytes.
#[inline]
fn aligns_itself(size: usize, align: usize) -> bool {
    align <= 8 || (align == 16 && size >= 16)
}

#[inline]
fn sure(block: *mut c_void) -> *mut u8 {
    if block.is_null() {
        abort();
    }
    block.cast()
}

// SAFETY: every block comes from mimalloc with the size and alignment asked for, and goes back to mimalloc; nothing
// here unwinds.
unsafe impl GlobalAlloc for Allocator {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let (size, align) = (layout.size(), layout.align());
        // SAFETY: any size and any power of two are valid.
        sure(unsafe {
            if aligns_itself(size, align) { mi::mi_malloc(size) } else { mi::mi_malloc_aligned(size, align) }
        })
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        sure(unsafe { mi::mi_zalloc_aligned(layout.size(), layout.align()) })
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, _: Layout) {
        // SAFETY: the caller gives back what it got here.
        unsafe { mi::mi_free(block.cast()) }
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let (block, align) = (block.cast(), layout.align());
        // SAFETY: the block is the caller's; size and alignment are valid as above.
        sure(unsafe {
            if aligns_itself(size, align) {
                mi::mi_realloc(block, size)
            } else {
                mi::mi_realloc_aligned(block, size, align)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_aligned_as_asked_and_keep_what_they_hold() {
        for align in [1, 8, 16, 64, 4096] {
            for size in [1, 8, 15, 16, 17, 1000, 1025, 20_000, 5_000_000] {
                let layout = Layout::from_size_align(size, align).unwrap();
                // SAFETY: the block is written within its size and given back once.
                unsafe {
                    let block = Allocator.alloc(layout);
                    assert!(block.addr().is_multiple_of(align), "{size} {align}");
                    block.write_bytes(7, size);
                    let block = Allocator.realloc(block, layout, size * 2);
                    assert!(block.addr().is_multiple_of(align), "{size} {align}");
                    assert!((0..size).all(|at| block.add(at).read() == 7));
                    Allocator.dealloc(block, Layout::from_size_align(size * 2, align).unwrap());
                    let zeroed = Allocator.alloc_zeroed(layout);
                    assert!((0..size).all(|at| zeroed.add(at).read() == 0));
                    Allocator.dealloc(zeroed, layout);
                }
            }
        }
    }
}
