//! Which of the engine's kernels are used: all but those that are known to be wrong.
//!
//! tract 0.23.9 multiplies int8 matrices on Intel's AMX tiles with a kernel that reads its right operand in tiles of 64
//! rows, while that operand is packed for rows in fours (`avx512amx_mmm_i32_16x16` on a `PackedI8K4`). Where the depth is
//! no multiple of 64 it reads up to 960 bytes beyond the buffer: what it reads there is multiplied by zeros, unless the
//! buffer ends where a page does; then the process dies by a segmentation fault. Seen on a machine with `amx_int8`, with
//! the int8 variant of a shipped package, several times a minute.

use std::sync::Once;

/// Leaves those out. What `TRACT_CPU_ISA` says of other kernels holds. Must be called before the engine is first used;
/// only the first call does anything.
pub(crate) fn choose() {
    static CHOSEN: Once = Once::new();
    CHOSEN.call_once(without_amx);
}

#[cfg(target_arch = "x86_64")]
fn without_amx() {
    let knob = &tract_onnx::tract_core::tract_linalg::knobs::TRACT_CPU_ISA;
    let asked = knob.get().into_iter();
    let all: Vec<String> = asked.chain(["-amx-int8".to_owned()]).collect();
    knob.set(Some(all.join(",")));
}

#[cfg(not(target_arch = "x86_64"))]
const fn without_amx() {}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use tract_onnx::tract_core::tract_linalg::isa::{Isa, native};

    #[test]
    fn int8_matrices_are_not_multiplied_on_tiles() {
        super::choose();
        assert!(!native().has(Isa::X86_64AmxInt8));
        // The rest of what the machine has is there.
        assert_eq!(
            native().has(Isa::X86_64Avx2),
            std::arch::is_x86_feature_detected!("avx2")
        );
    }
}
