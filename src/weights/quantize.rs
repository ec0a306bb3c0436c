//! Weight schemes of a package: f32, f16, and symmetric block-wise int8 and int4.
//!
//! A tensor is seen as a matrix `[rows, columns]`: rows are its first axis that is not 1, columns all that follow.
//! Integer schemes cut each row into blocks of [`BLOCK`] columns (the last may be shorter) with one f16 scale a block:
//! `value = scale * integer`, int8 in -127 to 127, int4 in -7 to 7. int4 values are stored plus 8, two to a byte, the
//! even column in the low half.

use half::f16;
use serde::{Deserialize, Serialize};

use super::tensor::Dtype;
use crate::error::{Error, ErrorKind, Result};
use crate::names::{self, ModelPart, TensorRole};

/// Columns that share a scale.
pub const BLOCK: usize = 32;

/// How the numbers of one tensor, or of a whole package's matrices, are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    /// 32-bit floats.
    F32,
    /// 16-bit floats.
    F16,
    /// 8-bit integers, 8.5 bits a weight with scales.
    Q8,
    /// 4-bit integers, 4.5 bits a weight with scales.
    Q4,
}

impl Scheme {
    /// All schemes, largest first.
    pub const ALL: [Self; 4] = [Self::F32, Self::F16, Self::Q8, Self::Q4];

    /// Its name: `f32`, `f16`, `q8` or `q4`.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Q8 => "q8",
            Self::Q4 => "q4",
        }
    }

    /// The scheme of one tensor in a package of this scheme. Vectors, norms, tokens and relative positions stay f16,
    /// the positional encoding's matrix f32; in `q4` the decoder, the prompt encoder and the neck stay q8, and so do convolutions that
    /// a batch norm is folded into: a trained EfficientNet-Lite0 lost 15 points of IoU with theirs in 4 bits. The absolute
    /// positions (6 MB as f16 in ViT-B) are quantised to 8 bits in both.
    pub fn of_tensor(self, name: &str, shape: &[usize]) -> Self {
        if matches!(self, Self::F32 | Self::F16) {
            return self;
        }
        let (rows, columns) = matrix(shape);
        let (role, part) =
            names::named(name).map_or((TensorRole::Matrix, ModelPart::Masks), |found| (found.role, found.part));
        match role {
            // 256 numbers that angles of many turns are multiplied from
            TensorRole::Frequencies => Self::F32,
            TensorRole::RelativePositions | TensorRole::MaskTokens => Self::F16,
            _ if rows < 8 || columns < BLOCK => Self::F16,
            TensorRole::Matrix if matches!(part, ModelPart::Patches | ModelPart::Blocks) => self,
            _ => Self::Q8,
        }
    }

    /// Bytes of one row of `columns` numbers: values and scales.
    pub fn row_bytes(self, columns: usize) -> (usize, usize) {
        let scales = 2 * columns.div_ceil(BLOCK);
        match self {
            Self::F32 => (4 * columns, 0),
            Self::F16 => (2 * columns, 0),
            Self::Q8 => (columns, scales),
            Self::Q4 => (columns.div_ceil(2), scales),
        }
    }

    /// The type that its numbers have in a shard; two of int4 share a byte.
    pub fn dtype(self) -> Dtype {
        match self {
            Self::F32 => Dtype::F32,
            Self::F16 => Dtype::F16,
            Self::Q8 => Dtype::I8,
            Self::Q4 => Dtype::U8,
        }
    }

    /// The largest magnitude that it can store: that of its floats, or of its f16 scales times its largest integer.
    pub fn largest(self) -> f32 {
        let half = f16::MAX.to_f32();
        match self {
            Self::F32 => f32::MAX,
            Self::F16 => half,
            Self::Q8 => half * 127.0,
            Self::Q4 => half * 7.0,
        }
    }

    /// Stores rows of `columns` numbers: bytes of the values and of the scales (empty for floats), little-endian.
    pub fn encode(self, values: &[f32], columns: usize) -> (Vec<u8>, Vec<u8>) {
        match self {
            Self::F32 => (values.iter().flat_map(|v| v.to_le_bytes()).collect(), Vec::new()),
            Self::F16 => (values.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect(), Vec::new()),
            Self::Q8 => {
                let (mut bytes, mut scales) = (Vec::with_capacity(values.len()), Vec::new());
                for block in values.chunks(columns).flat_map(|row| row.chunks(BLOCK)) {
                    let scale = block_scale(block, 127.0, &mut scales);
                    bytes.extend(block.iter().map(|v| integer(*v, scale, 127.0) as i8 as u8));
                }
                (bytes, scales)
            }
            Self::Q4 => {
                let (mut bytes, mut scales) = (Vec::with_capacity(values.len() / 2), Vec::new());
                for block in values.chunks(columns).flat_map(|row| row.chunks(BLOCK)) {
                    let scale = block_scale(block, 7.0, &mut scales);
                    let nibble = |v: &f32| (integer(*v, scale, 7.0) as i8 + 8) as u8;
                    bytes.extend(block.chunks(2).map(|pair| nibble(&pair[0]) | pair.get(1).map_or(8, nibble) << 4));
                }
                (bytes, scales)
            }
        }
    }

    /// Checks what [`Scheme::encode`] wrote: lengths, and that scales are finite.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] if the lengths do not fit `rows` x `columns` or a scale is not finite.
    pub fn check(self, bytes: &[u8], scales: &[u8], rows: usize, columns: usize) -> Result<()> {
        let (row_bytes, row_scales) = self.row_bytes(columns);
        if bytes.len() != rows * row_bytes || scales.len() != rows * row_scales {
            return Err(Error::new(
                ErrorKind::Format,
                format!(
                    "{} + {} bytes for {rows} x {columns} {} numbers, expected {} + {}",
                    bytes.len(),
                    scales.len(),
                    self.name(),
                    rows * row_bytes,
                    rows * row_scales
                ),
            ));
        }
        let mut scales = scales.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]]));
        match scales.position(|scale| !scale.is_finite()) {
            Some(i) => Err(Error::new(ErrorKind::Format, format!("scale {i} is not finite"))),
            None => Ok(()),
        }
    }

    /// Reads back what [`Scheme::encode`] wrote.
    ///
    /// # Errors
    /// Those of [`Scheme::check`]; [`ErrorKind::Format`] if a number is not finite.
    pub fn decode(self, bytes: &[u8], scales: &[u8], rows: usize, columns: usize) -> Result<Vec<f32>> {
        self.check(bytes, scales, rows, columns)?;
        let (row_bytes, row_scales) = self.row_bytes(columns);
        let half_at = |b: &[u8]| f16::from_le_bytes([b[0], b[1]]).to_f32();
        let values: Vec<f32> = match self {
            Self::F32 => bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
            Self::F16 => bytes.chunks_exact(2).map(half_at).collect(),
            Self::Q8 => {
                let mut values = Vec::with_capacity(rows * columns);
                let blocks = bytes.chunks(columns).flat_map(|row| row.chunks(BLOCK));
                for (block, scale) in blocks.zip(scales.chunks_exact(2)) {
                    let scale = half_at(scale);
                    values.extend(block.iter().map(|b| *b as i8 as f32 * scale));
                }
                values
            }
            Self::Q4 => {
                let mut values = Vec::with_capacity(rows * columns);
                for (row, scales) in bytes.chunks_exact(row_bytes).zip(scales.chunks_exact(row_scales)) {
                    for column in 0..columns {
                        let nibble = row[column / 2] >> (4 * (column % 2)) & 15;
                        values.push((nibble as i8 - 8) as f32 * half_at(&scales[column / BLOCK * 2..]));
                    }
                }
                values
            }
        };
        match values.iter().position(|v| !v.is_finite()) {
            Some(i) => Err(Error::new(ErrorKind::Format, format!("value {i} is {}", values[i]))),
            None => Ok(values),
        }
    }
}

impl std::str::FromStr for Scheme {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|s| s.name() == name).ok_or_else(|| {
            Error::new(ErrorKind::Invalid, format!("there is no weight scheme {name:?}"))
                .remedy("use f32, f16, q8 or q4")
        })
    }
}

/// A tensor's shape as a matrix: its first axis that is not 1, and the product of all that follow.
pub fn matrix(shape: &[usize]) -> (usize, usize) {
    let first = shape.iter().position(|&n| n != 1).unwrap_or(shape.len().saturating_sub(1));
    let rows = shape.get(first).copied().unwrap_or(1);
    (rows, shape.iter().skip(first + 1).product())
}

/// The scale of a block, as the f16 that is stored.
fn block_scale(block: &[f32], largest: f32, scales: &mut Vec<u8>) -> f32 {
    let peak = block.iter().fold(0.0f32, |m, v| m.max(v.abs()));
    let scale = f16::from_f32(peak / largest);
    scales.extend(scale.to_le_bytes());
    scale.to_f32()
}

fn integer(value: f32, scale: f32, largest: f32) -> f32 {
    if scale == 0.0 { 0.0 } else { (value / scale).round().clamp(-largest, largest) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::SplitMix;

    #[test]
    fn every_scheme_reads_back_what_it_wrote_within_its_step() {
        let mut random = SplitMix(1);
        for columns in [1, 31, 32, 33, 48, 100] {
            let values: Vec<f32> = (0..7 * columns).map(|_| random.uniform() * 3.0).collect();
            // f16 keeps 11 bits, q8 half a step of 3/127 and the rounding of its scale, q4 likewise
            for (scheme, bound) in [(Scheme::F32, 0.0), (Scheme::F16, 2e-3), (Scheme::Q8, 0.014), (Scheme::Q4, 0.22)] {
                let (bytes, scales) = scheme.encode(&values, columns);
                let back = scheme.decode(&bytes, &scales, 7, columns).expect("decodes");
                let worst = values.iter().zip(&back).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(worst <= bound, "{} with {columns} columns: {worst}", scheme.name());
            }
        }
    }

    #[test]
    fn wrong_lengths_and_infinite_scales_are_errors() {
        assert!(Scheme::Q8.decode(&[0; 31], &[0; 2], 1, 32).is_err());
        assert!(Scheme::Q8.decode(&[1; 32], &f16::INFINITY.to_le_bytes(), 1, 32).is_err());
    }

    #[test]
    fn small_and_sensitive_tensors_keep_floats() {
        for scheme in [Scheme::Q8, Scheme::Q4] {
            let frequencies = "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix";
            assert_eq!(scheme.of_tensor(frequencies, &[2, 128]), Scheme::F32);
            assert_eq!(scheme.of_tensor("image_encoder.blocks.0.norm1.weight", &[768]), Scheme::F16);
            assert_eq!(scheme.of_tensor("image_encoder.pos_embed", &[1, 64, 64, 768]), Scheme::Q8);
            assert_eq!(scheme.of_tensor("image_encoder.blocks.0.attn.qkv.weight", &[2304, 768]), scheme);
            assert_eq!(scheme.of_tensor("image_encoder.blocks.5.expand.weight", &[480, 80]), Scheme::Q8);
            assert_eq!(scheme.of_tensor("image_encoder.layers.1.blocks.0.mlp.fc1.weight", &[512, 128]), scheme);
        }
    }

    #[test]
    fn leading_ones_are_not_rows() {
        assert_eq!(matrix(&[1, 64, 64, 48]), (64, 64 * 48));
        assert_eq!(matrix(&[48]), (48, 1));
        assert_eq!(matrix(&[1, 256]), (256, 1));
        assert_eq!(matrix(&[768, 3, 16, 16]), (768, 768));
    }
}
