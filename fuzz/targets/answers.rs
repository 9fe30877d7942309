//! What a loaded model must answer, whatever file it came from.

use neuralcf::filter::Filter;
use neuralcf::format::{Model, Opened};
use neuralcf::{Call, Effort, Engine, Index, Isa, Scale, ScanPrecision};

/// Larger models are valid, but take the fuzzer's time.
const MOST_CELLS: usize = 1 << 20;

/// Lays out a model and checks its first answers against each other.
pub fn check(opened: Opened) {
    let Opened { model, seen, history, index, .. } = opened;
    let (users, items) = (model.num_users(), model.num_items());
    if cells(&model) > MOST_CELLS {
        return;
    }
    let isa = Isa::choose(None).expect("a supported instruction set");
    let mut engine =
        Engine::new(model, seen, isa, ScanPrecision::Auto, Call::ALONE).expect("a valid model can be laid out");
    if let Some(history) = history {
        engine = engine.with_fold_in(history).expect("a history of the same model");
    }
    let last = vec![(users - 1) as u32; items];
    let user = engine.users(&last[..1]).expect("a user of the model");
    let many = engine.users(&last).expect("a user of the model");
    let all: Vec<u32> = (0..items as u32).collect();
    let all = engine.items(&all).expect("items of the model");
    let scores = engine.score_batch(&many, &all, Scale::Logit, Call::ALONE).expect("scores");
    assert!(scores.iter().all(|score| score.is_finite()));
    let top = engine.top_k(&user, items, &Filter::default(), Scale::Logit, Call::ALONE).expect("a list");
    for (&item, &score) in top.ids.iter().zip(&top.scores) {
        assert_eq!(scores[item as usize].to_bits(), score.to_bits(), "item {item}");
    }
    assert!(top.scores.is_sorted_by(|a, b| a >= b));
    let Some(Ok(index)) = index else { return };
    if let Ok(index) = Index::restore(&engine, &index.saved, None, Call::ALONE) {
        let (filter, effort) = (Filter::default(), Effort::Probes(items));
        let near = index.top_k(&engine, &user, items, &filter, effort, Scale::Logit, Call::ALONE).expect("a list");
        assert_eq!((near.ids, near.scores), (top.ids, top.scores));
    }
}

fn cells(model: &Model) -> usize {
    let gmf = model.gmf().map_or(1, |gmf| gmf.users.width());
    let mlp = model.mlp().map_or(1, |mlp| mlp.layers.iter().map(|layer| layer.inputs * layer.outputs).sum());
    (model.num_users() + model.num_items()).saturating_mul(gmf + mlp)
}
