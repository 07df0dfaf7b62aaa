//! The random numbers of NumPy's `RandomState`: with a seed, operators draw what the reference implementation draws.

const SIZE: usize = 624;
const MIDDLE: usize = 397;

/// The Mersenne Twister MT19937.
pub(super) struct Mersenne {
    state: [u32; SIZE],
    position: usize,
}

impl Mersenne {
    /// The sequence of a seed.
    pub fn new(seed: u32) -> Self {
        let mut state = [seed; SIZE];
        for i in 1..SIZE {
            state[i] = (state[i - 1] ^ (state[i - 1] >> 30)).wrapping_mul(1_812_433_253).wrapping_add(i as u32);
        }
        Self { state, position: SIZE }
    }

    /// A sequence that is another one each time.
    pub fn unseeded() -> Self {
        use std::hash::{BuildHasher, Hasher};
        Self::new(std::hash::RandomState::new().build_hasher().finish() as u32)
    }

    fn next(&mut self) -> u32 {
        if self.position == SIZE {
            for i in 0..SIZE {
                let both = (self.state[i] & 0x8000_0000) | (self.state[(i + 1) % SIZE] & 0x7fff_ffff);
                let twist = if both & 1 == 0 { 0 } else { 0x9908_b0df };
                self.state[i] = self.state[(i + MIDDLE) % SIZE] ^ (both >> 1) ^ twist;
            }
            self.position = 0;
        }
        let mut y = self.state[self.position];
        self.position += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c_5680;
        y ^= (y << 15) & 0xefc6_0000;
        y ^ (y >> 18)
    }

    /// A float from 0 up to 1, 53 bits of it random.
    pub fn uniform(&mut self) -> f64 {
        let (high, low) = (self.next() >> 5, self.next() >> 6);
        (f64::from(high) * 67_108_864.0 + f64::from(low)) / 9_007_199_254_740_992.0
    }
}
