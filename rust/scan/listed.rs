//! Listed items, each scored in float32 from its row: candidates, short allow-lists, and the survivors of a quantized scan.

use super::{Collector, Query};
use crate::filter::Cursor;
use crate::kernel::StandardFloats;
use crate::pool::Watch;

impl Query<'_> {
    /// Shows a row's collector those of `items`, ascending, that are not excluded.
    pub(super) fn visit_listed(&self, row: usize, items: &[u32], into: &mut impl Collector, watch: &Watch<'_>) {
        const AT_ONCE: usize = 1024;
        let mut excluded = Cursor::new(self.excluded(row), items.first().copied().unwrap_or(0));
        let mut left: Vec<u32> = Vec::with_capacity(items.len().min(AT_ONCE));
        let mut logits = [0.0; AT_ONCE];
        for items in items.chunks(AT_ONCE) {
            left.clear();
            left.extend(items.iter().copied().filter(|&item| !excluded.contains(item)));
            let logits = &mut logits[..left.len()];
            self.engine.score_candidates(self.users, row, &left, logits, watch);
            let _settings = StandardFloats::enter(); // else subnormal logits may compare as equal
            for (&item, &mut logit) in left.iter().zip(logits) {
                if logit >= into.threshold() {
                    into.collect(item, logit);
                }
            }
        }
    }
}
