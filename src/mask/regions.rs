//! Connected regions of a class mask: runs of equal class per row, joined by union-find (4-connectivity).

use std::collections::HashMap;

/// A stretch of one class within a row: columns `start..end`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run {
    /// Its number, counted row by row.
    pub index: usize,
    /// First column.
    pub start: usize,
    /// Column after the last.
    pub end: usize,
}

/// The regions of a mask. Regions are numbered from 0 in the order of their first pixel, row by row.
pub(crate) struct Regions {
    width: usize,
    /// First column of each run.
    starts: Vec<u32>,
    /// The number of the first run of each row, and one past the last run at the end.
    rows: Vec<u32>,
    /// The region of each run.
    labels: Vec<u32>,
    /// Pixels of each region.
    pixels: Vec<u32>,
}

impl Regions {
    /// Finds the regions of `classes`, `[height, width]`, of fewer than 2^32 pixels.
    pub(crate) fn find(classes: &[u8], width: usize, height: usize) -> Self {
        debug_assert_eq!(classes.len(), width * height);
        let mut starts: Vec<u32> = Vec::new();
        let mut rows = Vec::with_capacity(height + 1);
        let mut parents: Vec<u32> = Vec::new();
        for (y, row) in classes.chunks_exact(width).enumerate() {
            let first = starts.len();
            rows.push(first as u32);
            for x in 0..width {
                if x == 0 || row[x] != row[x - 1] {
                    parents.push(starts.len() as u32);
                    starts.push(x as u32);
                }
            }
            if y > 0 {
                let above_row = &classes[(y - 1) * width..y * width];
                let (mut above, mut here) = (rows[y - 1] as usize, first);
                while above < first && here < starts.len() {
                    if above_row[starts[above] as usize] == row[starts[here] as usize] {
                        union(&mut parents, above as u32, here as u32);
                    }
                    let above_end = if above + 1 < first { starts[above + 1] as usize } else { width };
                    let here_end = starts.get(here + 1).map_or(width, |&s| s as usize);
                    above += usize::from(above_end <= here_end);
                    here += usize::from(here_end <= above_end);
                }
            }
        }
        rows.push(starts.len() as u32);

        // The root of a set is its first run, so roots come before the rest and get their number first.
        let mut labels = vec![0u32; starts.len()];
        let mut count = 0u32;
        for run in 0..starts.len() {
            let root = find(&mut parents, run as u32) as usize;
            if root == run {
                labels[run] = count;
                count += 1;
            } else {
                labels[run] = labels[root];
            }
        }
        let mut regions = Self { width, starts, rows, labels, pixels: vec![0; count as usize] };
        let mut pixels = std::mem::take(&mut regions.pixels);
        for (_, run) in regions.runs() {
            pixels[regions.labels[run.index] as usize] += (run.end - run.start) as u32;
        }
        regions.pixels = pixels;
        regions
    }

    /// Pixels of each region.
    pub(crate) fn pixels(&self) -> &[u32] {
        &self.pixels
    }

    /// All runs with their row, top to bottom and left to right.
    pub(crate) fn runs(&self) -> impl Iterator<Item = (usize, Run)> + '_ {
        self.rows.windows(2).enumerate().flat_map(move |(y, rows)| {
            let (first, last) = (rows[0] as usize, rows[1] as usize);
            (first..last).map(move |index| {
                let end = if index + 1 < last { self.starts[index + 1] as usize } else { self.width };
                (y, Run { index, start: self.starts[index] as usize, end })
            })
        })
    }

    /// The region of run number `run`.
    pub(crate) fn region_of_run(&self, run: usize) -> usize {
        self.labels[run] as usize
    }

    /// The region of the pixel at column `x`, row `y`.
    pub(crate) fn region_at(&self, x: usize, y: usize) -> usize {
        let (first, last) = (self.rows[y] as usize, self.rows[y + 1] as usize);
        let run = first + self.starts[first..last].partition_point(|&start| start as usize <= x) - 1;
        self.region_of_run(run)
    }

    /// For each region of fewer than `min_pixels` pixels the class it should take; `None` for the others, and for
    /// those of class `no_data`, which no region takes over either.
    pub(crate) fn sieve(&self, classes: &[u8], min_pixels: u64, no_data: u8) -> Vec<Option<u8>> {
        let small: Vec<bool> = self.pixels.iter().map(|&n| u64::from(n) < min_pixels).collect();
        let mut without_data = vec![false; small.len()];
        for (_, run) in self.runs().filter(|(y, run)| classes[y * self.width + run.start] == no_data) {
            without_data[self.region_of_run(run.index)] = true;
        }
        let mut borders: HashMap<usize, HashMap<u8, u64>> = HashMap::new();
        let mut border = |a: usize, b: usize, class_a: u8, class_b: u8, length: u64| {
            for (region, other, class) in [(a, b, class_b), (b, a, class_a)] {
                if small[region] && !small[other] && !without_data[other] {
                    *borders.entry(region).or_default().entry(class).or_default() += length;
                }
            }
        };
        for (y, run) in self.runs() {
            let class = classes[y * self.width + run.start];
            let region = self.region_of_run(run.index);
            if run.end < self.width {
                border(region, self.region_of_run(run.index + 1), class, classes[y * self.width + run.end], 1);
            }
            if y > 0 {
                let (first, last) = (self.rows[y - 1] as usize, self.rows[y] as usize);
                let mut above = first + self.starts[first..last].partition_point(|&s| s as usize <= run.start) - 1;
                while above < last && (self.starts[above] as usize) < run.end {
                    let start = self.starts[above] as usize;
                    let end = if above + 1 < last { self.starts[above + 1] as usize } else { self.width };
                    let length = end.min(run.end) - start.max(run.start);
                    let other = self.region_of_run(above);
                    if other != region {
                        border(region, other, class, classes[(y - 1) * self.width + start], length as u64);
                    }
                    above += 1;
                }
            }
        }
        small
            .iter()
            .enumerate()
            .map(|(region, small)| {
                (*small && !without_data[region]).then(|| {
                    let longest =
                        borders.get(&region).and_then(|b| b.iter().max_by_key(|(class, n)| (**n, 255 - **class)));
                    longest.map_or(0, |(class, _)| *class)
                })
            })
            .collect()
    }
}

fn find(parents: &mut [u32], mut run: u32) -> u32 {
    while parents[run as usize] != run {
        // Path halving keeps later searches short without recursion.
        parents[run as usize] = parents[parents[run as usize] as usize];
        run = parents[run as usize];
    }
    run
}

fn union(parents: &mut [u32], a: u32, b: u32) {
    let (a, b) = (find(parents, a), find(parents, b));
    parents[a.max(b) as usize] = a.min(b);
}
