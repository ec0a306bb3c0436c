//! The instructions of this machine that products use, and the tile sizes that suit them.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{__m256, __m512};

use super::super::vector::Vector;

#[cfg(target_arch = "aarch64")]
/// The vectors that every machine of this kind has.
pub type Base = std::arch::aarch64::float32x4_t;
#[cfg(target_arch = "wasm32")]
/// The vectors that every machine of this kind has.
pub type Base = std::arch::wasm32::v128;
#[cfg(not(any(target_arch = "aarch64", target_arch = "wasm32")))]
/// The vectors that every machine of this kind has.
pub type Base = super::super::vector::Plain;

/// The instructions to use.
#[derive(Clone, Copy)]
pub enum Level {
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    Base,
}

/// Work in vectors, compiled for each kind of them.
pub trait VectorWork {
    /// Does it. Implementations say `#[inline(always)]`: only so are they compiled for those vectors.
    ///
    /// # Safety
    /// The machine has `T`'s instructions; implementations may ask for more.
    unsafe fn run<T: Vector>(self);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512cd")]
unsafe fn avx512(work: impl VectorWork) {
    // SAFETY: as the caller promises.
    unsafe { work.run::<__m512>() }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn avx2(work: impl VectorWork) {
    // SAFETY: as the caller promises.
    unsafe { work.run::<__m256>() }
}

impl Level {
    /// Does `work` in the vectors of this level.
    ///
    /// # Safety
    /// This is [`Level::here`], and what the work asks for is so.
    pub unsafe fn run(self, work: impl VectorWork) {
        // SAFETY: as the caller promises.
        unsafe {
            match self {
                #[cfg(target_arch = "x86_64")]
                Self::Avx512 => avx512(work),
                #[cfg(target_arch = "x86_64")]
                Self::Avx2 => avx2(work),
                Self::Base => work.run::<Base>(),
            }
        }
    }

    /// The best of this machine.
    pub fn here() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::is_x86_feature_detected as has;
            if has!("avx512f") && has!("avx512vl") && has!("avx512bw") && has!("avx512dq") && has!("avx512cd") {
                return Self::Avx512;
            }
            if has!("avx2") && has!("fma") {
                return Self::Avx2;
            }
        }
        Self::Base
    }

    /// Columns of a panel for a matrix of `n`, and whether that is the narrower tile's.
    pub fn width_for(self, n: usize) -> (usize, bool) {
        let [wide, narrow] = self.widths();
        // The narrower tile is a twentieth slower, but may have fewer columns to spare.
        let is_narrow = 20 * n.next_multiple_of(wide) > 21 * n.next_multiple_of(narrow);
        (if is_narrow { narrow } else { wide }, is_narrow)
    }

    /// Columns of its tile of three vectors, which is the fastest, and of two, which fits other matrices.
    fn widths(self) -> [usize; 2] {
        let lanes = match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => __m512::LANES,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => __m256::LANES,
            Self::Base => Base::LANES,
        };
        [3 * lanes, 2 * lanes]
    }
}
