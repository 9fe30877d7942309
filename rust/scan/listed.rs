//! Scores listed items in float32 from their rows: candidates, short allow lists, and the survivors of a quantized
//! scan.

use super::{Collector, Query};
use crate::error::{Result, reserve};
use crate::filter::Cursor;
use crate::kernel::StandardFloats;
use crate::pool::Watch;

impl Query<'_> {
    /// Passes to a row's collector those of `items`, which are ascending, that are not excluded and reach its
    /// threshold.
    ///
    /// # Errors
    /// [`Error::Memory`](crate::Error::Memory).
    pub(super) fn visit_listed(
        &self,
        row: usize,
        items: &[u32],
        collector: &mut impl Collector,
        watch: &Watch<'_>,
    ) -> Result<()> {
        const BATCH: usize = 1024;
        let mut excluded = Cursor::new(self.excluded(row), items.first().copied().unwrap_or(0));
        let mut remaining = reserve("items", items.len().min(BATCH))?;
        let mut logits = [0.0; BATCH];
        for items in items.chunks(BATCH) {
            remaining.clear();
            remaining.extend(items.iter().copied().filter(|&item| !excluded.contains(item)));
            let logits = &mut logits[..remaining.len()];
            self.engine.score_candidates(self.users, row, &remaining, logits, watch)?;
            let _settings = StandardFloats::enter(); // otherwise subnormal logits may compare as equal
            for (&item, &mut logit) in remaining.iter().zip(logits) {
                if logit >= collector.threshold() {
                    collector.collect(item, logit);
                }
            }
        }
        Ok(())
    }
}
