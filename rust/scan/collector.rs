//! The consumer of a scan's items. A scan does not know what is collected.

use crate::kernel::LANES;

/// Collects the items of one row that reach a threshold.
pub(crate) trait Collector {
    /// The logit that an item must reach to be collected.
    fn threshold(&self) -> f32;
    /// The logit from which an item may be collected without its exact logit; infinite if the exact logit matters.
    fn certain(&self) -> f32;
    /// How many items are wanted, if only the best are.
    fn wanted(&self) -> Option<usize>;
    /// Raises the threshold to `logit`, if that is higher: as many items as are wanted are known to reach it.
    fn prove(&mut self, logit: f32);
    /// Raises the threshold as far as the items collected so far allow.
    fn tighten(&mut self);
    /// Collects an item that reaches the threshold.
    fn collect(&mut self, item: u32, logit: f32);
}

/// The lanes whose bits are set, ascending.
pub(super) fn lanes(mut bits: u16) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let lane = bits.trailing_zeros() as usize;
        bits &= bits.wrapping_sub(1);
        (lane < LANES).then_some(lane)
    })
}
