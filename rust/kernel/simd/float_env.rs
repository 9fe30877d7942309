//! The processor's floating-point control register: saves the settings of the host program while a kernel runs.
#![allow(unsafe_code, reason = "reads and writes MXCSR (x86-64) or FPCR (aarch64)")]

/// While this guard lives, the calling thread rounds to nearest, keeps subnormals and raises no floating-point traps.
/// Dropping it restores the previous settings.
pub struct StandardFloats {
    before: Control,
}

impl StandardFloats {
    /// Saves the thread's settings and enters the standard ones.
    #[inline(always)]
    pub fn enter() -> Self {
        let before = read();
        if before & CONTROL_BITS != STANDARD {
            write(before & !CONTROL_BITS | STANDARD);
        }
        StandardFloats { before }
    }
}

impl Drop for StandardFloats {
    #[inline(always)]
    fn drop(&mut self) {
        if self.before & CONTROL_BITS != STANDARD {
            write(self.before);
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod register {
    use std::arch::asm;

    pub(super) type Control = u32;
    /// Flush-to-zero, rounding mode, exception masks, denormals-are-zero; the other bits are status flags.
    pub(super) const CONTROL_BITS: u32 = 0xffc0;
    /// Every exception masked, everything else off.
    pub(super) const STANDARD: u32 = 0x1f80;

    #[inline(always)]
    pub(super) fn read() -> u32 {
        let mut value = 0u32;
        // SAFETY: SSE is in the x86-64 baseline; the instruction writes four bytes to a local variable.
        unsafe { asm!("stmxcsr [{}]", in(reg) &raw mut value, options(nostack, preserves_flags)) };
        value
    }

    #[inline(always)]
    pub(super) fn write(value: u32) {
        // SAFETY: the value differs from one read from the register only in defined control bits, so no reserved bit is
        // set; the settings become the standard ones that Rust assumes, or again those of the host.
        unsafe { asm!("ldmxcsr [{}]", in(reg) &raw const value, options(nostack, preserves_flags)) };
    }
}

#[cfg(target_arch = "aarch64")]
mod register {
    use std::arch::asm;

    pub(super) type Control = u64;
    /// Alternative half precision, default NaN, flush-to-zero, rounding mode, half flush-to-zero, trap enables, FIZ,
    /// AH, NEP.
    pub(super) const CONTROL_BITS: u64 = 0x07c8_9f07;
    /// Everything off.
    pub(super) const STANDARD: u64 = 0;

    #[inline(always)]
    pub(super) fn read() -> u64 {
        let value: u64;
        // SAFETY: FPCR is readable at every privilege level.
        unsafe { asm!("mrs {}, fpcr", out(reg) value, options(nomem, nostack, preserves_flags)) };
        value
    }

    #[inline(always)]
    pub(super) fn write(value: u64) {
        // SAFETY: FPCR is writable at every privilege level, and unimplemented bits ignore writes; the settings become
        // the standard ones that Rust assumes, or again those of the host.
        unsafe { asm!("msr fpcr, {}", in(reg) value, options(nostack, preserves_flags)) };
    }
}

/// Other processors: leave the settings alone.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
mod register {
    pub(super) type Control = u32;
    pub(super) const CONTROL_BITS: u32 = 0;
    pub(super) const STANDARD: u32 = 0;

    pub(super) fn read() -> u32 {
        0
    }

    pub(super) fn write(_value: u32) {}
}

use register::{CONTROL_BITS, Control, STANDARD, read, write};
