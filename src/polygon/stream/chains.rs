//! Borders while rows come in: chains of corners that grow at one or both ends, and join where they meet.

use std::collections::VecDeque;

use super::super::simplify::Corner;
use super::regions::NONE;

/// The end of a chain: twice the chain's number, plus 1 for its back.
pub(super) type End = u32;
/// Where an end of a chain is when it is not on a column: on the row's way to the right.
pub(super) const CARRIED: u32 = u32::MAX - 1;
/// The end of a chain that grows no longer.
const CLOSED: u32 = u32::MAX;

/// A border between two regions that is not complete yet.
#[derive(Debug)]
struct Chain {
    path: VecDeque<Corner>,
    /// Where its front and its back are: a column, [`CARRIED`] or [`CLOSED`].
    at: [u32; 2],
    /// The regions to the left and to the right of it, from front to back.
    sides: [u32; 2],
    /// Whether its ends are nodes, of more than two borders.
    nodes: [bool; 2],
}

/// A complete border: from node to node, or closed, with its first corner again at its end.
#[derive(Debug)]
pub(super) struct Finished {
    pub path: Vec<Corner>,
    pub sides: [u32; 2],
    pub nodes: [bool; 2],
}

#[derive(Debug)]
pub(super) struct Chains {
    chains: Vec<Option<Chain>>,
    free: Vec<u32>,
    /// The chain's end that goes down along each column's left side.
    pub columns: Vec<End>,
    /// The chain's end that goes to the right along the line in hand.
    pub carried: End,
}

impl Chains {
    pub fn new(width: usize) -> Self {
        Self { chains: Vec::new(), free: Vec::new(), columns: vec![NONE; width + 1], carried: NONE }
    }

    fn add(&mut self, chain: Chain) -> u32 {
        match self.free.pop() {
            Some(number) => {
                self.chains[number as usize] = Some(chain);
                number
            }
            None => {
                self.chains.push(Some(chain));
                self.chains.len() as u32 - 1
            }
        }
    }

    fn put(&mut self, end: End, at: u32) {
        match at {
            CLOSED => {}
            CARRIED => self.carried = end,
            column => self.columns[column as usize] = end,
        }
        if let Some(chain) = &mut self.chains[end as usize / 2] {
            chain.at[end as usize % 2] = at;
        }
    }

    /// A chain begins at a node, towards `at`; `sides` are left and right of its way.
    pub fn begin(&mut self, corner: Corner, at: u32, sides: [u32; 2], node: bool) {
        let number = self.add(Chain { path: [corner].into(), at: [CLOSED, at], sides, nodes: [node, false] });
        self.put(2 * number + 1, at);
    }

    /// A chain begins at a corner, and goes on down `column` from its front and to the right from its back.
    pub fn begin_both(&mut self, corner: Corner, column: u32, sides: [u32; 2]) {
        let number = self.add(Chain { path: [corner].into(), at: [column, CARRIED], sides, nodes: [false; 2] });
        self.put(2 * number, column);
        self.put(2 * number + 1, CARRIED);
    }

    /// An end turns at a corner, towards `at`.
    pub fn turn(&mut self, end: End, corner: Corner, at: u32) {
        self.push(end, corner);
        self.put(end, at);
    }

    fn push(&mut self, end: End, corner: Corner) {
        if let Some(chain) = &mut self.chains[end as usize / 2] {
            if end.is_multiple_of(2) { chain.path.push_front(corner) } else { chain.path.push_back(corner) }
        }
    }

    /// An end comes to a node; the border, if it is complete.
    pub fn close(&mut self, end: End, corner: Corner, node: bool) -> Option<Finished> {
        self.push(end, corner);
        let chain = self.chains[end as usize / 2].as_mut()?;
        chain.at[end as usize % 2] = CLOSED;
        chain.nodes[end as usize % 2] = node;
        self.finish(end / 2)
    }

    fn finish(&mut self, number: u32) -> Option<Finished> {
        let complete = self.chains[number as usize].as_ref().is_some_and(|c| c.at == [CLOSED; 2]);
        let chain = if complete { self.chains[number as usize].take() } else { None }?;
        self.free.push(number);
        Some(Finished { path: chain.path.into(), sides: chain.sides, nodes: chain.nodes })
    }

    /// Two ends meet at a corner. Gives the border, if it is complete now, and the sides of the chain that is no more.
    pub fn join(&mut self, a: End, b: End, corner: Corner) -> (Option<Finished>, [u32; 2]) {
        if a / 2 == b / 2 {
            self.push(a, corner);
            // Closed: the first corner again at its end.
            if let Some(chain) = &mut self.chains[a as usize / 2] {
                chain.path.extend(chain.path.front().copied());
                chain.at = [CLOSED; 2];
            }
            return (self.finish(a / 2), [NONE; 2]);
        }
        let length = |end: End| self.chains[end as usize / 2].as_ref().map_or(0, |c| c.path.len());
        let (base, other) = if length(a) >= length(b) { (a, b) } else { (b, a) };
        self.push(base, corner);
        let Some(moved) = self.chains[other as usize / 2].take() else { return (None, [NONE; 2]) };
        self.free.push(other / 2);
        let far = 1 - other as usize % 2;
        if let Some(chain) = &mut self.chains[base as usize / 2] {
            match (base % 2, other % 2) {
                (1, 0) => chain.path.extend(moved.path),
                (1, _) => chain.path.extend(moved.path.into_iter().rev()),
                (_, 0) => moved.path.into_iter().for_each(|c| chain.path.push_front(c)),
                _ => moved.path.into_iter().rev().for_each(|c| chain.path.push_front(c)),
            }
            chain.nodes[base as usize % 2] = moved.nodes[far];
        }
        self.put(base, moved.at[far]);
        (self.finish(base / 2), moved.sides)
    }

    /// Chains in memory: bounded by what was open at once.
    #[cfg(test)]
    pub fn slots(&self) -> usize {
        self.chains.len()
    }
}
