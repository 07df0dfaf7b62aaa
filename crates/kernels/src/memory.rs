//! Memory for values of any of the kernels' types, from the beginning of a cache line on.
#![allow(unsafe_code)]

use std::fmt;

/// Bytes of a cache line.
const LINE: usize = 64;

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; LINE]);

mod sealed {
    pub trait Plain: Copy + Send + Sync + 'static {}
}

/// Types for which any bits are a value.
pub trait Plain: sealed::Plain {}

macro_rules! plain {
    ($($ty:ty)*) => { $(impl sealed::Plain for $ty {} impl Plain for $ty {})* };
}

plain!(f32 f64 u8 i8 u16 i16 u32 i32 u64 i64);

/// Memory that grows on demand and never shrinks. What it holds is seen as values of the type that is asked for.
#[derive(Default)]
pub struct Memory(Vec<Line>);

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Memory({} bytes)", self.bytes())
    }
}

impl Memory {
    /// No memory.
    pub const fn empty() -> Self {
        Self(Vec::new())
    }

    /// Memory of at least so many bytes, all zero.
    pub fn new(bytes: usize) -> Self {
        let mut memory = Self::default();
        memory.reserve(bytes);
        memory
    }

    /// Memory with a copy of values.
    pub fn of<T: Plain>(values: &[T]) -> Self {
        let mut memory = Self::new(size_of_val(values));
        memory.values_mut(values.len()).copy_from_slice(values);
        memory
    }

    /// Grows to at least so many bytes; new ones are zero.
    pub fn reserve(&mut self, bytes: usize) {
        if bytes > self.bytes() {
            self.0.resize(bytes.div_ceil(LINE), Line([0; LINE]));
        }
    }

    /// How many bytes there are.
    pub fn bytes(&self) -> usize {
        self.0.len() * LINE
    }

    /// The first `len` values.
    ///
    /// # Panics
    /// When there are fewer.
    pub fn values<T: Plain>(&self, len: usize) -> &[T] {
        assert!(len <= self.bytes() / size_of::<T>(), "values that are inside of their memory");
        // SAFETY: the lines are initialized and aligned for every `Plain` type, any bits of which are a value.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr().cast(), len) }
    }

    /// The first `len` values, to change them.
    ///
    /// # Panics
    /// When there are fewer.
    pub fn values_mut<T: Plain>(&mut self, len: usize) -> &mut [T] {
        assert!(len <= self.bytes() / size_of::<T>(), "values that are inside of their memory");
        // SAFETY: as above, and borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.0.as_mut_ptr().cast(), len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_and_keeps_its_values() {
        let mut memory = Memory::of(&[1.5f32, -2.0]);
        memory.reserve(1000);
        assert_eq!((memory.values::<f32>(2), memory.bytes()), (&[1.5, -2.0][..], 1024));
        memory.values_mut::<u8>(8)[7] = 0x40;
        assert_eq!(memory.values::<f32>(2)[1], 2.0);
        assert!(memory.values::<i64>(128)[1..].iter().all(|&value| value == 0));
        assert_eq!(memory.values::<u8>(0).len(), 0);
    }
}
