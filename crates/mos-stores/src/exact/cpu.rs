//! Which vector instructions the processor offers, asked at run time.

#![allow(unsafe_code, reason = "`xgetbv` has no safe form; `cpuid` was asked first")]

use std::sync::OnceLock;

/// Instructions that the kernels are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Instructions {
    /// Plain Rust; vectorised by the compiler as far as its flags allow.
    Portable,
    /// 256 bit vectors with fused multiply-add.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// 512 bit vectors with sums of integer products (VNNI).
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Instructions {
    /// Returns the best that this processor has; asked once per process.
    pub(super) fn best() -> Self {
        static BEST: OnceLock<Instructions> = OnceLock::new();
        *BEST.get_or_init(|| Self::available().last().copied().unwrap_or(Self::Portable))
    }

    /// Returns all that this processor has, slowest first.
    pub(super) fn available() -> Vec<Self> {
        #[allow(unused_mut, reason = "only x86-64 has more than one")]
        let mut available = vec![Self::Portable];
        #[cfg(target_arch = "x86_64")]
        {
            let has = x86::features();
            if has.avx2 {
                available.push(Self::Avx2);
            }
            if has.avx2 && has.avx512 {
                available.push(Self::Avx512);
            }
        }
        available
    }
}

/// Asks the processor itself: when the program is built for a newer processor, the standard macro answers without
/// looking.
#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};

    pub(super) struct Features {
        /// AVX2 and FMA, enabled by the operating system.
        pub(super) avx2: bool,
        /// AVX-512 F, BW and VNNI, enabled by the operating system.
        pub(super) avx512: bool,
    }

    pub(super) fn features() -> Features {
        let has = |register: u32, bits: &[u32]| bits.iter().all(|bit| register & (1 << bit) != 0);
        // FMA, XSAVE enabled by the system, AVX.
        if __cpuid(0).eax < 7 || !has(__cpuid(1).ecx, &[12, 27, 28]) {
            return Features { avx2: false, avx512: false };
        }
        // SAFETY: bit 27 (OSXSAVE) says that `xgetbv` may be executed.
        let saved = unsafe { saved_registers() };
        let extended = __cpuid_count(7, 0);
        Features {
            avx2: saved & 0x6 == 0x6 && has(extended.ebx, &[5]),
            avx512: saved & 0xe6 == 0xe6 && has(extended.ebx, &[16, 30]) && has(extended.ecx, &[11]),
        }
    }

    #[target_feature(enable = "xsave")]
    fn saved_registers() -> u64 {
        // SAFETY: the caller checked OSXSAVE; register 0 always exists then.
        unsafe { _xgetbv(0) }
    }
}
