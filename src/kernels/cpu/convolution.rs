//! Convolutions as products of gathered rows.

use burn_flex::FlexTensor;

use super::depthwise::CpuPlacement;
use super::linear::{CpuEpilogue, CpuMatrix};
use super::parallel::{ROWS, for_chunks};
use super::product::{Plane, RowSource};
use super::tensor::primitive;

#[cfg(feature = "train")]
pub mod gradients;

/// A 3x3 convolution, zero beyond the border: x `[b, h, w, c]`, matrix `[9 c, n]` in the order of row, column and channel of the
/// kernel; `[b, ceil(h / stride), ceil(w / stride), n]`.
pub fn conv3x3(x: &FlexTensor, matrix: &CpuMatrix, placement: &CpuPlacement) -> FlexTensor {
    let (shape, stride) = (x.layout().shape(), placement.stride);
    let (b, h, w) = (shape[0], shape[1], shape[2]);
    let (rows, columns) = (h.div_ceil(stride), w.div_ceil(stride));
    let grid = Grid { rows, columns, stride, first: [-(placement.before as isize); 2], kernel: [3, 3] };
    primitive(grid.product(x, matrix, &placement.epilogue()), &[b, rows, columns, matrix.sides()[1]])
}

/// Places on an image at which a kernel lies.
#[derive(Clone, Copy)]
struct Grid {
    rows: usize,
    columns: usize,
    /// Pixels from one place to the next.
    stride: usize,
    /// Where the first kernel starts, row and column.
    first: [isize; 2],
    /// Rows and columns of the kernel.
    kernel: [usize; 2],
}

/// Numbers below which a run is too short for products to read it in place.
const SHORT: usize = 16;

impl Grid {
    /// The pixels under the kernel at each place of images `[b, h, w, c]`, as rows, times `matrix`.
    fn product(self, x: &FlexTensor, matrix: &CpuMatrix, epilogue: &CpuEpilogue) -> Vec<f32> {
        let shape = x.layout().shape();
        let (b, sides) = (shape[0], [shape[1], shape[2], shape[3]]);
        let count = b * self.rows * self.columns;
        let taps = Taps::new(self, x.storage(), sides);
        if taps.run() >= SHORT {
            return epilogue.product(taps, matrix, count).compute();
        }
        let copied = taps.copied(count);
        epilogue.product(Plane { values: &copied, inputs: matrix.sides()[0] }, matrix, count).compute()
    }
}

/// The pixels under a kernel at each place of a grid: a run for each row of the kernel.
struct Taps<'a> {
    grid: Grid,
    /// `[b, h, w, c]`.
    values: &'a [f32],
    /// `h`, `w` and `c`.
    sides: [usize; 3],
    /// For each column of the grid whose kernel reaches beyond the image, its number among them; the others have none.
    edges: Vec<Option<usize>>,
    /// How many do.
    count: usize,
    /// The runs there of each line of the images, `[b, h, count, run]`.
    at_edges: Vec<f32>,
    /// A run of zeros.
    outside: Vec<f32>,
}

impl<'a> Taps<'a> {
    fn new(grid: Grid, values: &'a [f32], sides: [usize; 3]) -> Self {
        let [_, w, c] = sides;
        let width = grid.kernel[1];
        let left = |column: usize| (column * grid.stride) as isize + grid.first[1];
        let mut count = 0;
        let is_edge = |column: usize| left(column) < 0 || left(column) + width as isize > w as isize;
        let edges: Vec<Option<usize>> = (0..grid.columns)
            .map(|column| {
                is_edge(column).then(|| {
                    count += 1;
                    count - 1
                })
            })
            .collect();
        let run = width * c;
        let mut at_edges = vec![0.0f32; values.len() / (w * c).max(1) * count * run];
        for (line, runs) in values.chunks_exact((w * c).max(1)).zip(at_edges.chunks_exact_mut((count * run).max(1))) {
            let columns = (0..grid.columns).filter(|column| is_edge(*column));
            for (run, column) in runs.chunks_exact_mut(run.max(1)).zip(columns) {
                for (x, pixel) in run.chunks_exact_mut(c).enumerate() {
                    let x = left(column) + x as isize;
                    if (0..w as isize).contains(&x) {
                        pixel.copy_from_slice(&line[x as usize * c..][..c]);
                    }
                }
            }
        }
        Self { grid, values, sides, edges, count, at_edges, outside: vec![0.0; run] }
    }

    /// The rows of `count` places.
    fn copied(&self, count: usize) -> Vec<f32> {
        let (run, [lines, _], grid) = (self.run(), self.grid.kernel, &self.grid);
        let mut copied = vec![0.0f32; count * lines * run];
        for_chunks(&mut copied, (grid.columns * lines * run).max(1), |above, places| {
            let (batch, row) = (above / grid.rows, above % grid.rows);
            for (column, line) in (0..grid.columns).flat_map(|column| (0..lines).map(move |line| (column, line))) {
                let from = self.from([batch, row, column], line);
                let to = &mut places[(column * lines + line) * run..];
                // Of a length that compilers know it is a vector; what is too much is written again.
                match (to.first_chunk_mut::<SHORT>(), from.first_chunk::<SHORT>()) {
                    (Some(to), Some(from)) => *to = *from,
                    _ => to[..run].copy_from_slice(&from[..run]),
                }
            }
        });
        copied
    }

    /// The run of kernel row `line` at a place, by batch, row and column, and what follows it in memory.
    #[inline(always)]
    fn from(&self, [batch, row, column]: [usize; 3], line: usize) -> &[f32] {
        let ([h, w, c], grid) = (self.sides, &self.grid);
        let y = (row * grid.stride + line).wrapping_add_signed(grid.first[0]);
        if y >= h {
            return &self.outside;
        }
        match self.edges[column] {
            None => {
                let x = (column * grid.stride).wrapping_add_signed(grid.first[1]);
                &self.values[((batch * h + y) * w + x) * c..]
            }
            Some(edge) => &self.at_edges[((batch * h + y) * self.count + edge) * self.outside.len()..],
        }
    }
}

impl RowSource for Taps<'_> {
    fn run(&self) -> usize {
        self.outside.len()
    }

    #[inline(always)]
    fn part(&self, row: usize, from: usize, length: usize) -> &[f32] {
        let (run, grid) = (self.outside.len(), &self.grid);
        // Divisions of 32 bits are a fraction of the others; there are fewer pixels than that.
        let (above, column) = (row as u32 / grid.columns as u32, row as u32 % grid.columns as u32);
        let (batch, row) = (above / grid.rows as u32, above % grid.rows as u32);
        &self.from([batch as usize, row as usize, column as usize], from / run)[from % run..][..length]
    }
}

/// A convolution whose stride is its kernel: image `[b, bands, h, w]`, matrix `[bands side side, n]`;
/// `[b, h / side, w / side, n]`.
pub fn patch_embed(image: &FlexTensor, side: usize, matrix: &CpuMatrix, epilogue: &CpuEpilogue) -> FlexTensor {
    let shape = image.layout().shape();
    let [b, bands, h, w] = [shape[0], shape[1], shape[2], shape[3]];
    let (down, across, line) = (h / side, w / side, matrix.sides()[0]);
    // Copied first: a patch's runs of `side` pixels are too short for products to read them in place.
    let values: &[f32] = image.storage();
    let mut patches = vec![0.0f32; b * down * across * line];
    for_chunks(&mut patches, (ROWS * line).max(1), |first, patches| {
        for (i, patch) in patches.chunks_exact_mut(line).enumerate() {
            let place = ROWS * first + i;
            let (batch, y, x) = (place / (down * across), place / across % down, place % across);
            for (run, to) in patch.chunks_exact_mut(side).enumerate() {
                let (band, row) = (run / side, run % side);
                let at = ((batch * bands + band) * h + y * side + row) * w + x * side;
                to.copy_from_slice(&values[at..][..side]);
            }
        }
    });
    let lhs = Plane { values: &patches, inputs: line };
    let out = epilogue.product(lhs, matrix, b * down * across).compute();
    primitive(out, &[b, down, across, matrix.sides()[1]])
}
