//! Memory of large blocks, used again.
//!
//! Networks ask for the same large blocks in every step: outputs, gradients, buffers of a product. A system's allocator gives each
//! back to the system and takes it anew, and the system clears every page of it; that takes longer than many an operation on it.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// Smallest block that is kept.
const SMALLEST: usize = 1 << 16;
/// Largest block that is kept.
const LARGEST: usize = 1 << 26;
/// Sizes between a power of two and the next one.
const STEPS: usize = 4;
/// Sizes in all, the largest included.
const CLASSES: usize = (LARGEST.ilog2() - SMALLEST.ilog2()) as usize * STEPS + 1;
/// Bytes that may lie idle.
const IDLE: usize = 1 << 28;

/// A global allocator that keeps freed blocks of 64 KiB to 64 MiB, at most 256 MiB of them, and leaves all others to the system's.
///
/// A kept block holds up to a quarter more than was asked for.
#[derive(Debug)]
pub struct Reuse {
    /// For each size, the first of its idle blocks.
    idle: [Mutex<Block>; CLASSES],
    /// Bytes of all idle blocks.
    bytes: AtomicUsize,
}

/// An idle block, which begins with the next one.
#[derive(Debug)]
struct Block(Option<NonNull<Block>>);

// SAFETY: an idle block belongs to the list that it is in, whichever thread looks at it.
unsafe impl Send for Block {}

impl Reuse {
    /// An allocator that has nothing yet.
    pub const fn new() -> Self {
        Self { idle: [const { Mutex::new(Block(None)) }; CLASSES], bytes: AtomicUsize::new(0) }
    }

    /// The smallest class whose blocks are large enough; none for what is left to the system.
    fn class(layout: Layout) -> Option<usize> {
        let size = layout.size();
        if !(SMALLEST..=LARGEST).contains(&size) || layout.align() > 16 {
            return None;
        }
        // The exponent and the next two bits, rounded up.
        let power = (size - 1).ilog2();
        let step = (size - 1) >> (power - STEPS.ilog2()) & (STEPS - 1);
        let above = (power as usize * STEPS + step + 1).saturating_sub(SMALLEST.ilog2() as usize * STEPS);
        Some(above)
    }

    /// The blocks of a class.
    fn layout(class: usize) -> Layout {
        let (power, step) = (class / STEPS, class % STEPS);
        let size = (SMALLEST << power) / STEPS * (STEPS + step);
        // SAFETY: the alignment is a power of two, and no class is near the limit of sizes.
        unsafe { Layout::from_size_align_unchecked(size, 16) }
    }

    /// Takes an idle block.
    fn take(&self, class: usize) -> Option<NonNull<u8>> {
        let mut first = self.idle[class].lock().unwrap_or_else(PoisonError::into_inner);
        let block = first.0?;
        // SAFETY: blocks in the list are idle, and begin with what `keep` wrote.
        first.0 = unsafe { block.read() }.0;
        self.bytes.fetch_sub(Self::layout(class).size(), Ordering::Relaxed);
        Some(block.cast())
    }

    /// Keeps a block that nobody uses any more; gives it back if enough lie idle.
    fn keep(&self, class: usize, block: NonNull<u8>) {
        let layout = Self::layout(class);
        if self.bytes.fetch_add(layout.size(), Ordering::Relaxed) + layout.size() > IDLE {
            self.bytes.fetch_sub(layout.size(), Ordering::Relaxed);
            // SAFETY: it came from the system with this layout, and nobody uses it.
            return unsafe { System.dealloc(block.as_ptr(), layout) };
        }
        let block = block.cast::<Block>();
        let mut first = self.idle[class].lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: the block is large enough and aligned for it, and nobody else uses it.
        unsafe { block.write(Block(first.0)) };
        first.0 = Some(block);
    }
}

impl Default for Reuse {
    fn default() -> Self {
        Self::new()
    }
}

// SAFETY: blocks come from the system's allocator; each is in one list or in use, and is as large and aligned as was asked for.
unsafe impl GlobalAlloc for Reuse {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some(class) = Self::class(layout) else {
            // SAFETY: the caller's.
            return unsafe { System.alloc(layout) };
        };
        // SAFETY: the layout of a class has a size.
        self.take(class).map_or_else(|| unsafe { System.alloc(Self::layout(class)) }, NonNull::as_ptr)
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let Some(class) = Self::class(layout) else {
            // SAFETY: the caller's.
            return unsafe { System.alloc_zeroed(layout) };
        };
        match self.take(class) {
            Some(block) => {
                // SAFETY: the block has at least that size.
                unsafe { ptr::write_bytes(block.as_ptr(), 0, layout.size()) };
                block.as_ptr()
            }
            // SAFETY: the layout of a class has a size.
            None => unsafe { System.alloc_zeroed(Self::layout(class)) },
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        match (Self::class(layout), NonNull::new(block)) {
            (Some(class), Some(block)) => self.keep(class, block),
            // SAFETY: the caller's.
            _ => unsafe { System.dealloc(block, layout) },
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller promises that the new size is a valid one for the alignment.
        let after = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        match (Self::class(layout), Self::class(after)) {
            // SAFETY: the caller's.
            (None, None) => unsafe { System.realloc(block, layout, size) },
            (before, wanted) if before == wanted => block,
            _ => {
                // SAFETY: both blocks hold as much as is copied, and the old one is the caller's to give back.
                unsafe {
                    let moved = self.alloc(after);
                    if !moved.is_null() {
                        ptr::copy_nonoverlapping(block, moved, layout.size().min(size));
                        self.dealloc(block, layout);
                    }
                    moved
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(size: usize) -> Layout {
        Layout::from_size_align(size, 4).unwrap()
    }

    #[test]
    fn every_size_fits_its_class_without_much_waste() {
        for size in
            (SMALLEST..1 << 20).step_by(997).chain((0..400).map(|i| LARGEST - i * 160_001)).chain([SMALLEST, LARGEST])
        {
            let class = Reuse::class(layout(size)).unwrap();
            let found = Reuse::layout(class).size();
            assert!(size <= found && found <= size + size / STEPS, "{size} bytes in a block of {found}");
            assert_eq!(Reuse::class(Reuse::layout(class)), Some(class), "{size}");
        }
        assert_eq!(Reuse::class(layout(SMALLEST)), Some(0));
        assert_eq!(Reuse::class(layout(LARGEST)), Some(CLASSES - 1));
        assert!(Reuse::class(layout(SMALLEST - 1)).is_none());
        assert!(Reuse::class(layout(LARGEST + 1)).is_none());
        assert!(Reuse::class(Layout::from_size_align(SMALLEST, 64).unwrap()).is_none());
    }

    #[test]
    fn a_freed_block_serves_again_and_is_cleared_when_asked() {
        let memory = Reuse::new();
        let size = layout(100_000);
        // SAFETY: sizes are not zero, blocks are written within their size and freed once with their layout.
        unsafe {
            let first = memory.alloc(size);
            first.write_bytes(7, 100_000);
            memory.dealloc(first, size);
            assert!(memory.bytes.load(Ordering::Relaxed) >= 100_000);
            let again = memory.alloc_zeroed(layout(99_000));
            assert_eq!(again, first);
            assert!((0..99_000).all(|i| again.add(i).read() == 0));
            let other = memory.alloc_zeroed(size);
            assert_ne!(other, again);
            memory.dealloc(other, size);
            memory.dealloc(again, layout(99_000));
        }
        drain(&memory);
    }

    #[test]
    fn what_moves_keeps_its_values() {
        let memory = Reuse::new();
        let sizes = [10, 70_000, 71_000, 300_000, 66_000, 500];
        // SAFETY: as above.
        unsafe {
            let mut block = memory.alloc(layout(sizes[0]));
            block.write_bytes(9, sizes[0]);
            for pair in sizes.windows(2) {
                block = memory.realloc(block, layout(pair[0]), pair[1]);
                assert!((0..10).all(|i| block.add(i).read() == 9));
            }
            memory.dealloc(block, layout(500));
        }
        drain(&memory);
    }

    #[test]
    fn little_enough_lies_idle() {
        let memory = Reuse::new();
        let size = layout(1 << 25);
        // SAFETY: as above.
        unsafe {
            let blocks: Vec<*mut u8> = (0..12).map(|_| memory.alloc(size)).collect();
            blocks.into_iter().for_each(|block| memory.dealloc(block, size));
        }
        assert_eq!(memory.bytes.load(Ordering::Relaxed), IDLE);
        drain(&memory);
    }

    /// Gives everything back, so that a leak check finds nothing.
    fn drain(memory: &Reuse) {
        for class in 0..CLASSES {
            while let Some(block) = memory.take(class) {
                // SAFETY: it came from the system with this layout.
                unsafe { System.dealloc(block.as_ptr(), Reuse::layout(class)) };
            }
        }
        assert_eq!(memory.bytes.load(Ordering::Relaxed), 0);
    }
}
