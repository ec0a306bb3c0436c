//! Views of storages: how PyTorch's tensors lie in a checkpoint.

use crate::error::{Error, ErrorKind, Result};
use crate::weights::tensor::{Dtype, TensorInfo};

/// A storage: the zip entry `data/<key>`, one flat array.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Storage {
    pub key: String,
    pub dtype: Dtype,
    /// Number of elements.
    pub len: u64,
}

/// A view of a storage. Offset and strides count elements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StorageView {
    pub storage: usize,
    pub offset: u64,
    pub shape: Vec<usize>,
    pub strides: Vec<u64>,
}

impl StorageView {
    /// Elements from the view's first to its last, both counted; `None` on overflow.
    pub fn span(&self) -> Option<u64> {
        if self.shape.contains(&0) {
            return Some(0);
        }
        let sides = self.shape.iter().zip(&self.strides);
        sides
            .into_iter()
            .try_fold(1u64, |last, (&side, &stride)| last.checked_add((side as u64 - 1).checked_mul(stride)?))
    }

    /// Checks that it lies within its storage, whose zip entry has `held` bytes.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] if it does not, [`ErrorKind::Limit`] if it claims more than the whole file.
    pub fn check(&self, info: &TensorInfo, storage: &Storage, held: u64, file_len: u64) -> Result<()> {
        let size = info.dtype.size() as u64;
        let end = self.span().and_then(|span| self.offset.checked_add(span)).and_then(|n| n.checked_mul(size));
        if storage.len.checked_mul(size) != Some(held) || end.is_none_or(|end| end > held) {
            let message = format!("shape {:?} at {} does not fit its storage of {held} bytes", info.shape, self.offset);
            return Err(Error::new(ErrorKind::Format, message).remedy("the checkpoint is damaged; fetch it again"));
        }
        // A stride of 0 repeats elements: a small file must not claim gigabytes.
        if info.byte_len().is_none_or(|len| len as u64 > file_len) {
            return Err(Error::new(ErrorKind::Limit, format!("shape {:?} is larger than the whole file", info.shape)));
        }
        Ok(())
    }

    /// Whether the view's elements lie one after another in row-major order.
    pub fn is_contiguous(&self) -> bool {
        let mut expected = 1u64;
        self.shape.iter().zip(&self.strides).rev().all(|(&side, &stride)| {
            let fits = side == 1 || stride == expected;
            expected = expected.saturating_mul(side as u64);
            fits
        }) || self.shape.contains(&0)
    }

    /// Picks the view's elements of `size` bytes out of `bytes`, which begin at its first one, in row-major order.
    pub fn gather(&self, bytes: &[u8], size: usize, len: usize) -> Option<Vec<u8>> {
        let mut out = Vec::with_capacity(len);
        let mut index = vec![0usize; self.shape.len()];
        while out.len() < len {
            let at = index.iter().zip(&self.strides).map(|(&i, &stride)| i * stride as usize).sum::<usize>() * size;
            out.extend_from_slice(bytes.get(at..at + size)?);
            for (i, &side) in index.iter_mut().zip(&self.shape).rev() {
                *i += 1;
                if *i < side {
                    break;
                }
                *i = 0;
            }
        }
        Some(out)
    }
}
