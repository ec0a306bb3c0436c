//! A share of a job.

use std::ops::Range;

use crate::error::{Error, ErrorKind, Result};

/// Share `index` (from 1 on) of `count`: consecutive blocks, as near to equally many as can be. Neighbours share windows, so that
/// consecutive blocks cost less than spread ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    index: usize,
    count: usize,
}

impl Default for Shard {
    fn default() -> Self {
        Self { index: 1, count: 1 }
    }
}

impl Shard {
    /// Which of `blocks` blocks are this share.
    pub fn of(self, blocks: usize) -> Range<usize> {
        let at = |index: usize| (blocks as u128 * index as u128 / self.count as u128) as usize;
        at(self.index - 1)..at(self.index)
    }
}

impl std::fmt::Display for Shard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

impl std::str::FromStr for Shard {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parts = text.split_once('/').and_then(|(i, n)| Some((i.trim().parse().ok()?, n.trim().parse().ok()?)));
        match parts {
            Some((index, count)) if index >= 1 && index <= count => Ok(Self { index, count }),
            _ => Err(Error::new(ErrorKind::Invalid, format!("{text:?} is no share"))
                .remedy("give its number from 1 on and how many there are, for example 3/7")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_all_and_each_block_once() {
        for blocks in [0, 1, 5, 7, 100, 1_000_003] {
            for count in [1, 2, 7, 64] {
                let shares: Vec<_> = (1..=count).map(|index| Shard { index, count }.of(blocks)).collect();
                assert_eq!((shares[0].start, shares[count - 1].end), (0, blocks));
                assert!(shares.windows(2).all(|s| s[0].end == s[1].start && s[0].len().abs_diff(s[1].len()) <= 1));
            }
        }
        assert_eq!("3/7".parse::<Shard>().expect("a share").to_string(), "3/7");
        for text in ["0/7", "8/7", "7", "a/b", "", "1/0", "-1/3"] {
            assert!(text.parse::<Shard>().is_err(), "{text}");
        }
    }
}
