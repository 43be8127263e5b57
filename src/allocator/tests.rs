use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

fn layout(size: usize, align: usize) -> Layout {
    Layout::from_size_align(size, align).unwrap()
}

/// A block, filled with one byte.
fn filled(layout: Layout, byte: u8) -> *mut u8 {
    // SAFETY: written within its size.
    unsafe {
        let block = Allocator.alloc(layout);
        block.write_bytes(byte, layout.size());
        block
    }
}

fn holds(block: *mut u8, size: usize, byte: u8) -> bool {
    // SAFETY: read within its size.
    (0..size).all(|at| unsafe { block.add(at).read() } == byte)
}

#[test]
fn a_class_holds_its_sizes_and_wastes_little() {
    for align in [1, 8, 16, 32, 128] {
        for size in (1..5000).chain((5000..=(128 << 10)).step_by(77)) {
            let class = Class::of(layout(size, align)).unwrap();
            assert!(class.size >= size && class.size - size < 16.max(size / 7), "{size} {class:?}");
            assert_eq!(Class::of(layout(class.size, align)), Some(class), "{size}");
        }
    }
    assert_eq!([Class::of(layout((128 << 10) + 1, 8)), Class::of(layout(64, 256)), Class::of(layout(0, 1))], [None; 3]);
}

#[test]
fn the_last_block_given_back_is_the_first_one_taken() {
    std::thread::spawn(|| {
        keep_blocks();
        let (first, second) = (filled(layout(40, 8), 1), filled(layout(40, 8), 2));
        // SAFETY: each is given back once, for a layout of its class.
        unsafe {
            Allocator.dealloc(first, layout(40, 8));
            Allocator.dealloc(second, layout(40, 8));
            assert_eq!([Allocator.alloc(layout(33, 8)), Allocator.alloc(layout(48, 16))], [second, first]);
            Allocator.dealloc(first, layout(48, 16));
            Allocator.dealloc(second, layout(33, 8));
        }
    })
    .join()
    .unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is taken, changed and given back in whatever order: no block is anybody else's.
    #[test]
    fn blocks_are_aligned_as_asked_and_keep_what_they_hold(
        steps in prop::collection::vec((0_usize..4, 1_usize..300_000, 0_usize..9, any::<prop::sample::Index>()), 1..200),
        keeps: bool,
    ) {
        std::thread::spawn(move || {
            if keeps {
                keep_blocks();
            }
            let mut blocks: HashMap<usize, (*mut u8, Layout, u8)> = HashMap::new();
            for (number, (deed, size, align, which)) in steps.into_iter().enumerate() {
                let size = if deed == 0 { size } else { 1 + size % 3000 };
                let byte = u8::try_from(number % 251).unwrap();
                let key = (!blocks.is_empty()).then(|| *blocks.keys().nth(which.index(blocks.len())).unwrap());
                match (deed, key) {
                    (0 | 1, _) | (_, None) => {
                        let layout = layout(size, 1 << align);
                        let block = filled(layout, byte);
                        assert!(block.addr().is_multiple_of(layout.align()));
                        blocks.insert(number, (block, layout, byte));
                    }
                    (2, Some(key)) => {
                        let (block, was, byte) = blocks[&key];
                        // SAFETY: the block is ours and is replaced by what comes back.
                        let moved = unsafe { Allocator.realloc(block, was, size) };
                        assert!(holds(moved, size.min(was.size()), byte) && moved.addr().is_multiple_of(was.align()));
                        // SAFETY: written within its size.
                        unsafe { moved.write_bytes(byte, size) };
                        blocks.insert(key, (moved, layout(size, was.align()), byte));
                    }
                    (_, Some(key)) => {
                        let (block, layout, byte) = blocks.remove(&key).unwrap();
                        assert!(holds(block, layout.size(), byte));
                        // SAFETY: given back once.
                        unsafe {
                            Allocator.dealloc(block, layout);
                            let zeroed = Allocator.alloc_zeroed(layout);
                            assert!(holds(zeroed, layout.size(), 0));
                            Allocator.dealloc(zeroed, layout);
                        }
                    }
                }
            }
            for (block, layout, byte) in blocks.into_values() {
                assert!(holds(block, layout.size(), byte));
                // SAFETY: given back once.
                unsafe { Allocator.dealloc(block, layout) };
            }
        })
        .join()
        .unwrap();
    }
}
