//! Logits of windows that the next blocks need again.

use std::collections::BTreeMap;

use crate::logits::Logits;

/// A window by row and column of its cell.
pub(super) type Cell = (i64, i64);

/// Logits by window; none where a window has no data in its cell.
#[derive(Default)]
pub(super) struct Kept {
    windows: BTreeMap<Cell, Option<Logits>>,
    bytes: usize,
}

fn bytes(logits: &Option<Logits>) -> usize {
    logits.as_ref().map_or(0, |l| l.values.len() * size_of::<f32>())
}

impl Kept {
    pub(super) fn has(&self, cell: Cell) -> bool {
        self.windows.contains_key(&cell)
    }

    pub(super) fn get(&self, cell: Cell) -> Option<&Logits> {
        self.windows.get(&cell)?.as_ref()
    }

    pub(super) fn put(&mut self, cell: Cell, logits: Option<Logits>) {
        self.bytes += bytes(&logits);
        if let Some(before) = self.windows.insert(cell, logits) {
            self.bytes -= bytes(&before);
        }
    }

    /// Keeps the windows that `wanted` names, and of them no more than `most` bytes: those of the lowest rows go first, as they are
    /// needed last. A window that is gone is computed again.
    pub(super) fn retain(&mut self, most: usize, wanted: impl Fn(Cell) -> bool) {
        self.windows.retain(|cell, _| wanted(*cell));
        self.bytes = self.windows.values().map(bytes).sum();
        while self.bytes > most {
            let Some((_, logits)) = self.windows.pop_last() else { break };
            self.bytes -= bytes(&logits);
        }
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_the_given_bytes_are_kept() {
        let logits = || Some(Logits { classes: 1, height: 2, width: 2, values: vec![0.0; 4] });
        let mut kept = Kept::default();
        for row in 0..10 {
            kept.put((row, 0), logits());
            kept.put((row, 0), logits());
            kept.put((row, 1), None);
        }
        assert_eq!(kept.bytes, 160);
        kept.retain(100, |(row, _)| row > 1);
        assert_eq!((kept.bytes, kept.has((1, 0)), kept.has((2, 0)), kept.has((9, 0))), (96, false, true, false));
        kept.retain(0, |_| true);
        assert!(kept.bytes == 0 && kept.get((2, 0)).is_none());
        kept.clear();
        assert!(!kept.has((2, 1)));
    }
}
