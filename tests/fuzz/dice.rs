//! Changes seeds at random. The same number leads to the same changes.

use std::ops::Range;

/// A generator of random numbers: xorshift64*, <https://en.wikipedia.org/wiki/Xorshift>.
pub struct Dice(u64);

/// Numbers at which arithmetic breaks, if it does.
const EDGES: [u64; 14] = [
    0,
    1,
    7,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0xffff,
    0x7fff_ffff,
    0xffff_ffff,
    1 << 47,
    1 << 63,
    u64::MAX - 7,
    u64::MAX,
];

/// Words that mean something in a text of numbers.
const WORDS: [&str; 12] = [
    "18446744073709551615",
    "9223372036854775808",
    "-1",
    "0",
    "1e308",
    "-0.5",
    "null",
    "true",
    "\"\"",
    "[]",
    "{}",
    "\"\\u202e\\u0000\"",
];

impl Dice {
    pub fn new(seed: u64) -> Dice {
        Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn roll(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `n`; 0 where there is none.
    pub fn below(&mut self, n: usize) -> usize {
        (self.roll() >> 8) as usize % n.max(1)
    }

    pub fn one_of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }

    /// A number that is an edge, near one, small, or anything.
    pub fn number(&mut self) -> u64 {
        match self.below(4) {
            0 => *self.one_of(&EDGES),
            1 => self.one_of(&EDGES).wrapping_add(self.roll() % 17).wrapping_sub(8),
            2 => self.roll() % 4096,
            _ => self.roll(),
        }
    }

    /// Changes one thing or several, in the ranges that matter if there are any.
    pub fn change(&mut self, bytes: &mut Vec<u8>, hot: &[Range<usize>]) {
        for _ in 0..1 + self.below(6) {
            let at = match hot {
                [] => self.below(bytes.len()),
                hot => {
                    let range = self.one_of(hot).clone();
                    range.start + self.below(range.len())
                }
            };
            if at >= bytes.len() {
                continue;
            }
            let rest = bytes.len() - at;
            match self.below(if hot.is_empty() { 7 } else { 3 }) {
                0 => bytes[at] ^= 1 << self.below(8),
                1 | 2 => {
                    let width = (1 << self.below(4)).min(rest);
                    let number = self.number().to_le_bytes();
                    bytes[at..at + width].copy_from_slice(&number[..width]);
                }
                3 => drop(bytes.drain(at..at + 1 + self.below(rest.min(64)))),
                4 => {
                    let length = 1 + self.below(rest.min(256));
                    let piece = bytes[at..at + length].to_vec();
                    let to = self.below(bytes.len());
                    bytes.splice(to..to, piece);
                }
                5 => bytes.truncate(at + 1),
                // A number in a text becomes another word.
                _ => {
                    let is_part = |byte: &u8| byte.is_ascii_digit() || b".-".contains(byte);
                    let Some(start) = bytes[at..].iter().position(is_part).map(|skip| at + skip) else {
                        continue;
                    };
                    let length = bytes[start..].iter().take_while(|byte| is_part(byte)).count();
                    let word = self.one_of(&WORDS).bytes();
                    bytes.splice(start..start + length, word);
                }
            }
        }
    }
}
