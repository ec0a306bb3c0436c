//! Connected regions while rows come in: which runs of pixels belong together, and what is known of each region so far.
//! Numbers of regions are used again once nothing refers to them, so that memory holds open regions only.

/// No region: beyond the frame, or where nobody asks.
pub(super) const NONE: u32 = u32::MAX;

/// A region that is still open.
#[derive(Debug)]
pub(super) struct Region {
    pub class: u8,
    pub pixels: u64,
    /// Sum of its pixels' confidence, 0 to 255 each.
    pub confidence: u64,
    /// The last row that has pixels of it.
    pub last_row: u32,
    /// Finished arcs of its border: twice the arc's number, plus 1 where the region lies to the left of it.
    pub arcs: Vec<u32>,
    /// Whether its arcs are no longer noted: a background too large to be filled.
    pub unnoted: bool,
}

#[derive(Debug)]
struct Slot {
    /// Itself if it is a region, else the one it was found to belong to.
    parent: u32,
    /// Open chains, and slots that have it as their parent.
    references: u32,
    queued: bool,
    region: Option<Box<Region>>,
}

/// Numbered regions: a forest without path compression, by size, whose unused nodes are used again.
#[derive(Debug, Default)]
pub(super) struct Regions {
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// Slots that may be free once the row is done.
    queue: Vec<u32>,
}

impl Regions {
    pub fn begin(&mut self, class: u8, row: u32) -> u32 {
        let region = Region { class, pixels: 0, confidence: 0, last_row: row, arcs: Vec::new(), unnoted: false };
        let number = self.free.pop().unwrap_or(self.slots.len() as u32);
        let slot = Slot { parent: number, references: 0, queued: false, region: Some(Box::new(region)) };
        match self.slots.get_mut(number as usize) {
            Some(place) => *place = slot,
            None => self.slots.push(slot),
        }
        number
    }

    /// The region that a number stands for now.
    pub fn find(&self, mut number: u32) -> u32 {
        loop {
            let parent = self.slots[number as usize].parent;
            if parent == number {
                return number;
            }
            number = parent;
        }
    }

    /// The region of a number, as long as it is open.
    pub fn get(&mut self, number: u32) -> Option<&mut Region> {
        let root = self.find(number);
        self.slots[root as usize].region.as_deref_mut()
    }

    /// Two numbers turn out to be one region, whose number it gives. Arcs that nobody notes any more go to `unnoted`.
    pub fn unite(&mut self, a: u32, b: u32, unnoted: &mut Vec<u32>) -> u32 {
        let (a, b) = (self.find(a), self.find(b));
        if a == b {
            return a;
        }
        let pixels = |n: u32| self.slots[n as usize].region.as_ref().map_or(0, |r| r.pixels);
        let (root, child) = if pixels(a) >= pixels(b) { (a, b) } else { (b, a) };
        let taken = self.slots[child as usize].region.take();
        self.slots[child as usize].parent = root;
        self.slots[root as usize].references += 1;
        if let (Some(mut from), Some(to)) = (taken, self.slots[root as usize].region.as_deref_mut()) {
            to.pixels += from.pixels;
            to.confidence += from.confidence;
            to.last_row = to.last_row.max(from.last_row);
            if from.arcs.len() > to.arcs.len() {
                std::mem::swap(&mut from.arcs, &mut to.arcs);
            }
            to.arcs.append(&mut from.arcs);
            to.unnoted |= from.unnoted;
            if to.unnoted {
                unnoted.append(&mut to.arcs);
            }
        }
        self.enqueue(child);
        root
    }

    /// Another chain refers to a region.
    pub fn hold(&mut self, number: u32) {
        if number != NONE {
            self.slots[number as usize].references += 1;
        }
    }

    /// A chain refers to it no longer.
    pub fn release(&mut self, number: u32) {
        if number == NONE {
            return;
        }
        let slot = &mut self.slots[number as usize];
        slot.references -= 1;
        if slot.references == 0 && slot.parent != number {
            self.enqueue(number);
        }
    }

    fn enqueue(&mut self, number: u32) {
        let slot = &mut self.slots[number as usize];
        if !slot.queued {
            slot.queued = true;
            self.queue.push(number);
        }
    }

    /// Once no row in hand has numbers of merged regions: those that no chain has either are free again.
    pub fn collect(&mut self) {
        while let Some(number) = self.queue.pop() {
            let slot = &mut self.slots[number as usize];
            slot.queued = false;
            let parent = slot.parent;
            if slot.references == 0 && parent != number {
                self.free.push(number);
                // Its own parent from now on, so that it is not freed twice.
                slot.parent = number;
                self.release(parent);
            }
        }
    }

    /// Ends a region; `None` if it has ended before.
    pub fn end(&mut self, number: u32) -> Option<Region> {
        let region = self.slots[number as usize].region.take()?;
        self.free.push(number);
        Some(*region)
    }

    /// Slots in memory: bounded by what was open at once.
    #[cfg(test)]
    pub fn slots(&self) -> usize {
        self.slots.len()
    }
}
