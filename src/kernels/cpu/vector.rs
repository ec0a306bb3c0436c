//! Vectors of f32 as the machine has them, for loops that must keep sums in registers; compilers find the others in
//! [`widest`].

use pulp::{Arch, NullaryFnOnce};

/// Calls `work`, compiled for the widest vectors of this machine. It must say `#[inline(always)]`: as a function of its own it would
/// have those of any machine.
#[inline(always)]
pub fn widest<R>(work: impl FnMut() -> R) -> R {
    // Not the closure itself: a call by value is one of a function in between, which is not always inlined.
    struct Work<F>(F);
    impl<R, F: FnMut() -> R> NullaryFnOnce for Work<F> {
        type Output = R;

        #[inline(always)]
        fn call(mut self) -> R {
            (self.0)()
        }
    }
    Arch::new().dispatch(Work(work))
}

/// A register of f32.
///
/// # Safety
/// Methods need the instructions that the type is named after; pointers need [`Vector::LANES`] values behind them.
pub trait Vector: Copy {
    /// Values in it.
    const LANES: usize;

    /// The same value in every lane.
    unsafe fn splat(value: f32) -> Self;
    /// The values at `from`, of any alignment.
    unsafe fn load(from: *const f32) -> Self;
    /// Writes to `to`, of any alignment.
    unsafe fn store(self, to: *mut f32);
    /// `self + a * b`, rounded once where the machine does.
    unsafe fn add_product(self, a: Self, b: Self) -> Self;
    /// `self + other`.
    unsafe fn add(self, other: Self) -> Self;
    /// Each value, or the nearer limit; what is no number stays so.
    unsafe fn limit(self, least: Self, most: Self) -> Self;
    /// Asks for the cache line at `from`, which may be any address.
    #[inline(always)]
    unsafe fn prefetch(_from: *const f32) {}
}

/// A single value, for fewer than a register has.
impl Vector for f32 {
    const LANES: usize = 1;
    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        value
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller has a value at `from`.
        unsafe { *from }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller has room for a value at `to`.
        unsafe { *to = self }
    }
    #[inline(always)]
    unsafe fn add_product(self, a: Self, b: Self) -> Self {
        self + a * b
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        self + other
    }
    #[inline(always)]
    unsafe fn limit(self, least: Self, most: Self) -> Self {
        self.clamp(least, most)
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::Vector;
    use std::arch::x86_64::*;

    /// AVX-512F.
    impl Vector for __m512 {
        const LANES: usize = 16;
        #[inline(always)]
        unsafe fn splat(value: f32) -> Self {
            // SAFETY: the caller has AVX-512F.
            unsafe { _mm512_set1_ps(value) }
        }
        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            // SAFETY: the caller has AVX-512F and 16 values at `from`.
            unsafe { _mm512_loadu_ps(from) }
        }
        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            // SAFETY: the caller has AVX-512F and room for 16 values at `to`.
            unsafe { _mm512_storeu_ps(to, self) }
        }
        #[inline(always)]
        unsafe fn add_product(self, a: Self, b: Self) -> Self {
            // SAFETY: the caller has AVX-512F.
            unsafe { _mm512_fmadd_ps(a, b, self) }
        }
        #[inline(always)]
        unsafe fn add(self, other: Self) -> Self {
            // SAFETY: the caller has AVX-512F.
            unsafe { _mm512_add_ps(self, other) }
        }
        #[inline(always)]
        unsafe fn limit(self, least: Self, most: Self) -> Self {
            // SAFETY: the caller has AVX-512F.
            unsafe { _mm512_min_ps(most, _mm512_max_ps(least, self)) }
        }
        #[inline(always)]
        unsafe fn prefetch(from: *const f32) {
            // SAFETY: a prefetch of any address is allowed; it reads nothing.
            unsafe { _mm_prefetch::<_MM_HINT_T1>(from.cast()) }
        }
    }

    /// AVX2 and FMA.
    impl Vector for __m256 {
        const LANES: usize = 8;
        #[inline(always)]
        unsafe fn splat(value: f32) -> Self {
            // SAFETY: the caller has AVX.
            unsafe { _mm256_set1_ps(value) }
        }
        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            // SAFETY: the caller has AVX and 8 values at `from`.
            unsafe { _mm256_loadu_ps(from) }
        }
        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            // SAFETY: the caller has AVX and room for 8 values at `to`.
            unsafe { _mm256_storeu_ps(to, self) }
        }
        #[inline(always)]
        unsafe fn add_product(self, a: Self, b: Self) -> Self {
            // SAFETY: the caller has FMA.
            unsafe { _mm256_fmadd_ps(a, b, self) }
        }
        #[inline(always)]
        unsafe fn add(self, other: Self) -> Self {
            // SAFETY: the caller has AVX.
            unsafe { _mm256_add_ps(self, other) }
        }
        #[inline(always)]
        unsafe fn limit(self, least: Self, most: Self) -> Self {
            // SAFETY: the caller has AVX.
            unsafe { _mm256_min_ps(most, _mm256_max_ps(least, self)) }
        }
        #[inline(always)]
        unsafe fn prefetch(from: *const f32) {
            // SAFETY: a prefetch of any address is allowed; it reads nothing.
            unsafe { _mm_prefetch::<_MM_HINT_T1>(from.cast()) }
        }
    }
}

#[cfg(target_arch = "aarch64")]
mod arm {
    use super::Vector;
    use std::arch::aarch64::*;

    /// NEON, which every such processor has.
    impl Vector for float32x4_t {
        const LANES: usize = 4;
        #[inline(always)]
        unsafe fn splat(value: f32) -> Self {
            // SAFETY: NEON is part of the architecture.
            unsafe { vdupq_n_f32(value) }
        }
        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            // SAFETY: the caller has 4 values at `from`.
            unsafe { vld1q_f32(from) }
        }
        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            // SAFETY: the caller has room for 4 values at `to`.
            unsafe { vst1q_f32(to, self) }
        }
        #[inline(always)]
        unsafe fn add_product(self, a: Self, b: Self) -> Self {
            // SAFETY: NEON is part of the architecture.
            unsafe { vfmaq_f32(self, a, b) }
        }
        #[inline(always)]
        unsafe fn add(self, other: Self) -> Self {
            // SAFETY: NEON is part of the architecture.
            unsafe { vaddq_f32(self, other) }
        }
        #[inline(always)]
        unsafe fn limit(self, least: Self, most: Self) -> Self {
            // SAFETY: NEON is part of the architecture.
            unsafe { vminq_f32(most, vmaxq_f32(least, self)) }
        }
    }
}

#[cfg(target_arch = "wasm32")]
mod wasm {
    use super::Vector;
    use std::arch::wasm32::*;

    /// simd128; with the feature `relaxed-simd` also the relaxed product and sum, which most machines round once.
    impl Vector for v128 {
        const LANES: usize = 4;
        #[inline(always)]
        unsafe fn splat(value: f32) -> Self {
            f32x4_splat(value)
        }
        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            // SAFETY: the caller has 4 values at `from`.
            unsafe { v128_load(from.cast()) }
        }
        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            // SAFETY: the caller has room for 4 values at `to`.
            unsafe { v128_store(to.cast(), self) }
        }
        #[cfg(not(feature = "relaxed-simd"))]
        #[inline(always)]
        unsafe fn add_product(self, a: Self, b: Self) -> Self {
            f32x4_add(self, f32x4_mul(a, b))
        }
        #[cfg(feature = "relaxed-simd")]
        #[inline(always)]
        unsafe fn add_product(self, a: Self, b: Self) -> Self {
            f32x4_relaxed_madd(a, b, self)
        }
        #[inline(always)]
        unsafe fn add(self, other: Self) -> Self {
            f32x4_add(self, other)
        }
        #[inline(always)]
        unsafe fn limit(self, least: Self, most: Self) -> Self {
            f32x4_min(f32x4_max(self, least), most)
        }
    }
}

/// Four values in plain code, for machines without any of the above.
#[cfg(not(any(target_arch = "aarch64", target_arch = "wasm32")))]
#[derive(Clone, Copy)]
pub struct Plain([f32; 4]);

#[cfg(not(any(target_arch = "aarch64", target_arch = "wasm32")))]
impl Vector for Plain {
    const LANES: usize = 4;
    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Self([value; 4])
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller has 4 values at `from`.
        Self(unsafe { from.cast::<[f32; 4]>().read_unaligned() })
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller has room for 4 values at `to`.
        unsafe { to.cast::<[f32; 4]>().write_unaligned(self.0) }
    }
    #[inline(always)]
    unsafe fn add_product(self, a: Self, b: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] + a.0[i] * b.0[i]))
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] + other.0[i]))
    }
    #[inline(always)]
    unsafe fn limit(self, least: Self, most: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i].clamp(least.0[i], most.0[i])))
    }
}
