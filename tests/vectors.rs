//! The reference cases in `vectors/`, shared with the Python tests; `vectors/make_vectors.py` documents them.

use std::{fs, path::Path};

use neuralcf::filter::Filter;
use neuralcf::{Call, Engine, Isa, Scale, ScanPrecision, format};
use serde_json::Value;

fn list<T>(case: &Value, key: &str, convert: impl Fn(&Value) -> Option<T>) -> Vec<T> {
    let list = case[key].as_array().unwrap_or_else(|| panic!("{key} is a list"));
    list.iter().map(|value| convert(value).unwrap_or_else(|| panic!("{key} holds {value}"))).collect()
}

fn check(name: &str, path: &Path, isa: Isa) {
    let case: Value = serde_json::from_slice(&fs::read(path.with_extension("json")).unwrap()).unwrap();
    let indices = |key| list(&case, key, |value| u32::try_from(value.as_u64()?).ok());
    let model = format::open(path, &mut || Ok(())).unwrap().model;
    let engine = Engine::new(model, None, isa, ScanPrecision::Auto, Call::ALONE).unwrap();
    let (users, items) = (indices("users"), indices("items"));
    let users = engine.users(&users).unwrap();

    for (key, scale) in [("logit", Scale::Logit), ("probability", Scale::Probability)] {
        let tolerance = case[format!("{key}_tolerance")].as_f64().unwrap();
        let plural = if scale == Scale::Logit { "logits" } else { "probabilities" };
        let expected = list(&case, plural, Value::as_f64);
        let got = engine.score_batch(&users, &engine.items(&items).unwrap(), scale, Call::ALONE).unwrap();
        assert!(expected.len() == got.len() && !got.is_empty());
        for (expected, got) in expected.iter().zip(got) {
            let off = (f64::from(got) - expected).abs();
            assert!(off <= tolerance * expected.abs().max(1.0), "{name} {isa} {key}: {got}, expected {expected}");
        }
    }
    let ranks = engine.rank_of(&users, &engine.items(&items).unwrap(), &Filter::default(), Call::ALONE).unwrap();
    assert_eq!(ranks, list(&case, "ranks", Value::as_i64), "{name} {isa}");

    let top_users = indices("top_users");
    let expected = list(&case, "top", |row| row.as_array()?.iter().map(Value::as_i64).collect::<Option<Vec<_>>>());
    let users = engine.users(&top_users).unwrap();
    let top = engine.top_k(&users, expected[0].len(), &Filter::default(), Scale::Logit, Call::ALONE).unwrap();
    assert_eq!(top.ids, expected.concat(), "{name} {isa}");
}

#[test]
fn every_case_matches_on_every_instruction_set() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors");
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "safetensors") {
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            Isa::supported().into_iter().for_each(|isa| check(&name, &path, isa));
            names.push(name);
        }
    }
    names.sort();
    assert_eq!(names, ["gmf", "mlp", "neumf", "one"]);
}
