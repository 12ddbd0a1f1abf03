//! Numbers that look like chance and come again with the same seed.

/// A sequence (xorshift).
pub struct Chance(u64);

impl Chance {
    /// The sequence of a seed.
    pub fn new(seed: u64) -> Self {
        // It never leaves 0; and seeds that are near each other are to differ at once.
        Chance(seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15).max(1))
    }

    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// The next number below a bound, which is above 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        // The upper half: the lower bits of the sequence are the poorer ones.
        (self.draw() >> 32) % bound
    }
}
