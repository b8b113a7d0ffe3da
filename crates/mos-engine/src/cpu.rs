//! Which instructions the processor offers, asked at run time.
//!
//! `is_x86_feature_detected!` answers from the compiler's flags when the program is built for a newer processor
//! than the baseline, so this asks the processor itself.

#![allow(unsafe_code, reason = "`xgetbv` has no safe form; `cpuid` was asked first")]

use std::sync::OnceLock;

/// A set of instructions that the kernels are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CpuPath {
    /// Plain Rust; vectorised by the compiler as far as its flags allow.
    Portable,
    /// 256 bit vectors with fused multiply-add.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// 512 bit vectors.
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl CpuPath {
    /// Returns the best path this processor can run; asked once per process.
    pub(crate) fn best() -> Self {
        static BEST: OnceLock<CpuPath> = OnceLock::new();
        *BEST.get_or_init(|| *Self::available().last().expect("the portable path is always available"))
    }

    /// Returns every path this processor can run, slowest first.
    pub(crate) fn available() -> Vec<Self> {
        #[allow(unused_mut, reason = "only x86-64 has more than one path")]
        let mut paths = vec![Self::Portable];
        #[cfg(target_arch = "x86_64")]
        {
            let features = x86::features();
            if features.avx2 {
                paths.push(Self::Avx2);
            }
            if features.avx2 && features.avx512 {
                paths.push(Self::Avx512);
            }
        }
        paths
    }

    fn name(self) -> &'static str {
        match self {
            Self::Portable if cfg!(target_arch = "aarch64") => "aarch64 neon",
            Self::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => "x86-64 avx2+fma",
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => "x86-64 avx512",
        }
    }
}

/// Returns the name of the instructions that local inference uses on this machine, for example `x86-64 avx2+fma`.
pub fn cpu_path() -> &'static str {
    CpuPath::best().name()
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};

    pub(super) struct Features {
        /// AVX2, FMA and F16C, enabled by the operating system.
        pub(super) avx2: bool,
        /// AVX-512 F, enabled by the operating system.
        pub(super) avx512: bool,
    }

    const NONE: Features = Features { avx2: false, avx512: false };

    pub(super) fn features() -> Features {
        if __cpuid(0).eax < 7 {
            return NONE;
        }
        let basic = __cpuid(1).ecx;
        let has = |register: u32, bit: u32| register & (1 << bit) != 0;
        // FMA, XSAVE enabled by the system, AVX, F16C.
        if ![12, 27, 28, 29].into_iter().all(|bit| has(basic, bit)) {
            return NONE;
        }
        // SAFETY: bit 27 (OSXSAVE) says that `xgetbv` may be executed.
        let enabled = unsafe { saved_state() };
        let extended = __cpuid_count(7, 0).ebx;
        Features { avx2: enabled & 0x6 == 0x6 && has(extended, 5), avx512: enabled & 0xe6 == 0xe6 && has(extended, 16) }
    }

    #[target_feature(enable = "xsave")]
    fn saved_state() -> u64 {
        // SAFETY: the caller checked OSXSAVE; register 0 always exists then.
        unsafe { _xgetbv(0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_portable_path_is_always_there_and_the_best_is_available() {
        let paths = CpuPath::available();
        assert_eq!(paths[0], CpuPath::Portable);
        assert!(paths.contains(&CpuPath::best()));
        assert!(!cpu_path().is_empty());
    }
}
