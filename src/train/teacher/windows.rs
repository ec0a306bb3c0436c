//! Windows of a fixed length along one axis of a crop.

use std::ops::Range;

/// A window along one axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Window {
    /// Where it begins; negative where the crop lies inside it.
    pub start: i64,
    /// Its length.
    pub length: usize,
}

/// Windows of `length` that cover 0 to `side`, both multiples of 16, which all starts are too: one about the middle of a
/// smaller crop, else as few as there can be, spread evenly.
pub(super) fn windows(side: usize, length: usize) -> Vec<Window> {
    if side <= length {
        return vec![Window { start: -(((length - side) / 32 * 16) as i64), length }];
    }
    let count = side.div_ceil(length);
    let steps = (side - length) / 16;
    (0..count).map(|i| Window { start: (steps * i / (count - 1) * 16) as i64, length }).collect()
}

impl Window {
    /// The same in units of `cell` pixels.
    pub(super) fn scaled(self, cell: usize) -> Self {
        Self { start: self.start / cell as i64, length: self.length / cell }
    }

    /// The part of 0 to `side` that it covers, and where in the window that begins.
    pub(super) fn within(self, side: usize) -> (Range<usize>, usize) {
        let first = self.start.max(0);
        let last = (self.start + self.length as i64).clamp(first, side as i64);
        (first as usize..last as usize, (first - self.start) as usize)
    }

    /// For each of its pixels the one of 0 to `side` that stands there, mirrored beyond without repeating the border's.
    pub(super) fn mirrored(self, side: usize) -> Vec<usize> {
        let last = side.max(2) as i64 - 1;
        let at = |i: i64| {
            let phase = (self.start + i).rem_euclid(2 * last);
            (phase.min(2 * last - phase) as usize).min(side.saturating_sub(1))
        };
        (0..self.length as i64).map(at).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_cover_a_crop() {
        for (side, length) in [(64, 64), (64, 224), (64, 112), (224, 64), (448, 224), (464, 224), (96, 80)] {
            let found = windows(side, length);
            let mut covered = vec![false; side];
            for window in &found {
                assert_eq!(window.start % 16, 0);
                let (range, from) = window.within(side);
                let seen = &window.mirrored(side)[from..from + range.len()];
                assert!(seen.iter().copied().eq(range.clone()), "{side} {length} {window:?}");
                covered[range].fill(true);
            }
            assert!(covered.iter().all(|c| *c) && found.len() == side.div_ceil(length), "{side} {length}: {found:?}");
        }
    }
}
