//! The right-hand side of a product, in floats or block-quantised, and the panels that are cut from it.

use std::ops::Range;

use half::f16;
use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};

use super::super::parallel::for_chunks;
use super::super::vector::widest;
use super::level::Level;
use crate::kernels::quantized::BLOCK;

/// A right-hand side as it is stored.
pub enum Rhs<'a> {
    /// In floats.
    Floats {
        /// The matrix, and what follows it in memory.
        values: &'a [f32],
        /// From one row and one column to the next; one of them is 1.
        strides: [usize; 2],
    },
    /// In 8 or 4 bits.
    Blocks(Blocks<'a>),
    /// In floats, already packed as by [`Rhs::pack`], one panel after the other.
    Panels {
        /// As many panels as it takes, the last one's columns beyond the matrix being zero.
        values: &'a [f32],
        /// Rows of the matrix.
        inputs: usize,
        /// Columns of a panel.
        width: usize,
    },
}

/// A block-quantised matrix: the words of [`crate::kernels::quantized::Quantized`], as the bytes that they are in memory.
pub struct Blocks<'a> {
    /// 8 or 4.
    pub bits: usize,
    /// Of 8 bits `[inputs, outputs]` bytes. Of 4 bits `[inputs / 2, outputs / 4]` groups of four: two of the even input, two of the odd.
    pub values: &'a [u8],
    /// `[ceil(inputs / 32), outputs]` f16.
    pub scales: &'a [u8],
    /// Columns of the matrix.
    pub outputs: usize,
}

/// Writes `rhs` `[inputs, outputs]` in [`Rhs::Panels`].
pub fn panels(rhs: &Rhs, [inputs, outputs]: [usize; 2]) -> Vec<f32> {
    let width = panel_width(outputs);
    let mut values = vec![0.0f32; inputs * outputs.next_multiple_of(width)];
    for_chunks(&mut values, (inputs * width).max(1), |i, panel| {
        let columns = i * width..((i + 1) * width).min(outputs);
        rhs.pack(0..inputs, columns, width, panel);
    });
    values
}

/// Columns of a panel of a matrix of `outputs`, on this machine.
pub fn panel_width(outputs: usize) -> usize {
    Level::here().width_for(outputs).0
}

impl Rhs<'_> {
    /// Whether it has `inputs` rows and `outputs` columns.
    pub fn holds(&self, inputs: usize, outputs: usize) -> bool {
        match self {
            Self::Floats { values, strides: [row, column] } => {
                inputs == 0 || outputs == 0 || values.len() > (inputs - 1) * row + (outputs - 1) * column
            }
            Self::Panels { values, inputs: of, width } => {
                inputs == *of && values.len() == inputs * outputs.next_multiple_of(*width)
            }
            Self::Blocks(blocks) => {
                outputs == blocks.outputs
                    && blocks.values.len() == inputs * outputs * blocks.bits / 8
                    && blocks.scales.len() == inputs.div_ceil(BLOCK) * outputs * 2
            }
        }
    }

    /// Lines of the columns from `first` on, if they are packed already.
    #[inline(always)]
    pub fn panel(&self, lines: Range<usize>, first: usize) -> Option<&[f32]> {
        match self {
            Self::Panels { values, inputs, width } => {
                Some(&values[first * inputs + lines.start * width..first * inputs + lines.end * width])
            }
            Self::Floats { .. } | Self::Blocks(_) => None,
        }
    }

    /// Lines of `width` columns, one for each input; those beyond the matrix are zero.
    pub fn pack(&self, inputs: Range<usize>, columns: Range<usize>, width: usize, panel: &mut [f32]) {
        widest(
            #[inline(always)]
            || self.write(inputs.clone(), columns.clone(), width, panel),
        );
    }

    #[inline(always)]
    fn write(&self, inputs: Range<usize>, columns: Range<usize>, width: usize, panel: &mut [f32]) {
        if columns.len() < width {
            panel.fill(0.0);
        }
        match *self {
            Self::Floats { values, strides: [row, 1] } => {
                let from = &values[inputs.start * row + columns.start..];
                // Of a width that compilers know, a line is a few vectors; of any other it is a call.
                match (columns.len() == width, width) {
                    (true, 48) => copy_lines::<48>(panel, from, row),
                    (true, 32) => copy_lines::<32>(panel, from, row),
                    (true, 24) => copy_lines::<24>(panel, from, row),
                    (true, 16) => copy_lines::<16>(panel, from, row),
                    (true, 12) => copy_lines::<12>(panel, from, row),
                    (true, 8) => copy_lines::<8>(panel, from, row),
                    _ => {
                        for (i, line) in panel.chunks_exact_mut(width).enumerate() {
                            line[..columns.len()].copy_from_slice(&from[i * row..][..columns.len()]);
                        }
                    }
                }
            }
            // Sixteen inputs of a column fill a cache line.
            Self::Floats { values, strides: [row, column] } => {
                for start in inputs.clone().step_by(16) {
                    for (place, number) in columns.clone().enumerate() {
                        let end = (start + 16).min(inputs.end);
                        let lines = panel[(start - inputs.start) * width..].chunks_exact_mut(width);
                        let from = values[number * column + start * row..].iter().step_by(row);
                        for ((line, value), _) in lines.zip(from).zip(start..end) {
                            line[place] = *value;
                        }
                    }
                }
            }
            Self::Panels { .. } => {
                if let Some(lines) = self.panel(inputs, columns.start) {
                    panel.copy_from_slice(lines);
                }
            }
            Self::Blocks(ref blocks) => match (columns.len() == width, width) {
                (true, 48) => blocks.unpack::<48>(inputs, columns.start, panel),
                (true, 32) => blocks.unpack::<32>(inputs, columns.start, panel),
                (true, 24) => blocks.unpack::<24>(inputs, columns.start, panel),
                (true, 16) => blocks.unpack::<16>(inputs, columns.start, panel),
                (true, 12) => blocks.unpack::<12>(inputs, columns.start, panel),
                (true, 8) => blocks.unpack::<8>(inputs, columns.start, panel),
                // Outputs come in fours.
                _ => {
                    for (four, first) in columns.step_by(4).enumerate() {
                        for (i, line) in panel.chunks_exact_mut(width).enumerate() {
                            let input = inputs.start + i;
                            blocks.unpack::<4>(input..input + 1, first, &mut line[4 * four..][..4]);
                        }
                    }
                }
            },
        }
    }

    /// Calls `fetch` for the cache lines of some columns of `input`, if they are contiguous.
    #[inline(always)]
    pub fn lines(&self, input: usize, columns: Range<usize>, fetch: impl Fn(*const f32)) {
        match self {
            Self::Floats { values, strides: [row, 1] } => {
                for column in columns.step_by(16) {
                    fetch(values.as_ptr().wrapping_add(input * row + column));
                }
            }
            Self::Floats { .. } => (),
            Self::Panels { values, inputs, width } => {
                let line = values.as_ptr().wrapping_add(columns.start * inputs + input * width);
                for column in (0..columns.len()).step_by(16) {
                    fetch(line.wrapping_add(column));
                }
            }
            // A byte an output, of one input or of two.
            Self::Blocks(blocks) if blocks.bits == 8 || input.is_multiple_of(2) => {
                let line = blocks.values.as_ptr().wrapping_add(input * blocks.bits / 8 * blocks.outputs);
                fetch(line.wrapping_add(columns.start).cast());
                fetch(line.wrapping_add(columns.end - 1).cast());
            }
            Self::Blocks(_) => (),
        }
    }
}

/// `W` values from the start and from every `row` further: a single line's `row` may be less than its width.
#[inline(always)]
fn copy_lines<const W: usize>(panel: &mut [f32], from: &[f32], row: usize) {
    for (i, line) in panel.as_chunks_mut::<W>().0.iter_mut().enumerate() {
        if let Some(from) = from[i * row..].first_chunk::<W>() {
            *line = *from;
        }
    }
}

impl Blocks<'_> {
    /// `W` columns from `first` on of each of `inputs`, as floats.
    #[inline(always)]
    fn unpack<const W: usize>(&self, inputs: Range<usize>, first: usize, panel: &mut [f32]) {
        let mut scales = [0.0f32; W];
        for (line, input) in panel.as_chunks_mut::<W>().0.iter_mut().zip(inputs.clone()) {
            if input == inputs.start || input.is_multiple_of(BLOCK) {
                scales = self.scales(input / BLOCK, first);
            }
            let at = input * self.bits / 8 * self.outputs + first;
            let Some(bytes) = self.values[at..].first_chunk::<W>() else { return };
            let mut integers = *bytes;
            if self.bits == 4 {
                // Of a group's four bytes an even input has the first two; the lower half of a byte comes first.
                let shift = 16 * (input % 2) as u32;
                for group in integers.as_chunks_mut::<4>().0 {
                    let halves = u32::from_le_bytes(*group) >> shift & 0xffff;
                    let pairs = (halves | halves << 8) & 0x00ff_00ff;
                    *group = ((pairs | pairs << 4) & 0x0f0f_0f0f).to_le_bytes();
                }
                integers.iter_mut().for_each(|x| *x = x.wrapping_sub(8));
            }
            for ((x, integer), scale) in line.iter_mut().zip(&integers).zip(&scales) {
                *x = f32::from(integer.cast_signed()) * scale;
            }
        }
    }

    /// Scales of `W` columns from `first` on, of one block of inputs.
    #[inline(always)]
    fn scales<const W: usize>(&self, block: usize, first: usize) -> [f32; W] {
        let (mut bits, mut scales) = ([0u16; W], [0.0f32; W]);
        let from = self.scales[2 * (block * self.outputs + first)..].as_chunks::<2>().0;
        for (bits, bytes) in bits.iter_mut().zip(from) {
            *bits = u16::from_le_bytes(*bytes);
        }
        bits.reinterpret_cast::<f16>().convert_to_f32_slice(&mut scales);
        scales
    }
}
