//! `features.safetensors`: what is read, and what is rejected.

use std::path::Path;

use neuralcf::{
    Result,
    format::{FeatureKind, Features, read_features},
};

use super::builder::{Container, Directory, directory, refusal, write};

/// For `builder::neumf`: items with genres (`multi`: a, b), a year and a country (x); users with an age.
fn features(model_id: &str) -> Container {
    let mut file = Container::new(&[("format", "neuralcf"), ("format_version", "1"), ("model_id", model_id)]);
    file.put_u8("items.columns.bytes", "génre\tyearland".as_bytes());
    file.put_i64("items.columns.offsets", &[0, 7, 11, 15]);
    file.put_u8("items.kinds", &[1, 2, 0]);
    file.put_u8("items.values.bytes", b"abx");
    file.put_i64("items.values.offsets", &[0, 1, 2, 3]);
    file.put_i64("items.starts", &[0, 2, 2, 3]);
    file.put_f32("items.scales", &[3, 2], &[0.0, 1.0, 1990.0, 8.5, 0.0, 1.0]);
    file.put_f32("items.gmf", &[5, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0]);
    file.put_f32("items.mlp", &[5, 3], &[0.5; 15]);
    file.put_u8("users.columns.bytes", b"age");
    file.put_i64("users.columns.offsets", &[0, 3]);
    file.put_u8("users.kinds", &[2]);
    file.put_u8("users.values.bytes", b"");
    file.put_i64("users.values.offsets", &[0]);
    file.put_i64("users.starts", &[0, 0]);
    file.put_f32("users.scales", &[1, 2], &[30.0, 12.0]);
    file.put_f32("users.gmf", &[2, 2], &[1.0; 4]);
    file.put_f32("users.mlp", &[2, 2], &[1.0; 4]);
    file
}

fn read(files: &Directory) -> Result<Option<Features>> {
    let place = tempfile::tempdir().unwrap();
    write(files, place.path());
    read_features(place.path(), &mut || Ok(()))
}

fn with(file: &Container) -> Directory {
    let mut files = directory("m");
    files.insert("features.safetensors", file.bytes());
    files
}

#[test]
fn both_sides_are_read() {
    let found = read(&with(&features("m"))).unwrap().unwrap();
    let (users, items) = (found.users.unwrap(), found.items.unwrap());
    let summary: Vec<_> =
        items.columns.iter().map(|column| (column.name.as_str(), column.kind, column.values.concat())).collect();
    assert_eq!(
        summary,
        [
            ("génre\t", FeatureKind::Multi, "ab".to_owned()),
            ("year", FeatureKind::Number, String::new()),
            ("land", FeatureKind::Category, "x".to_owned())
        ]
    );
    assert_eq!(items.columns[1].scale, [1990.0, 8.5]);
    let gmf = items.gmf.unwrap();
    assert_eq!((gmf.rows, gmf.width, gmf.elements[9]), (5, 2, 10.0));
    assert_eq!(items.mlp.unwrap().width, 3);
    assert_eq!((users.columns[0].name.as_str(), users.mlp.unwrap().rows), ("age", 2));
}

#[test]
fn the_file_and_one_of_the_sides_may_be_absent() {
    let mut file = features("m");
    file.tensors.retain(|tensor| tensor.name.starts_with("items."));
    let found = read(&with(&file)).unwrap().unwrap();
    assert!(found.users.is_none() && found.items.is_some());
    assert!(read(&directory("m")).unwrap().is_none());

    let place = tempfile::tempdir().unwrap();
    write(&directory("m"), place.path());
    assert!(read_features(&place.path().join("model.safetensors"), &mut || Ok(())).unwrap().is_none());
    assert!(read_features(Path::new("/dev/null/none"), &mut || Ok(())).is_err());
}

#[test]
fn another_generation_is_rejected() {
    let message = refusal(read(&with(&features("other"))));
    assert!(message.contains("features.safetensors: files of different models: model_id \"other\" here, \"m\" in"));
}

#[test]
fn malformed_features() {
    let change = |change: &dyn Fn(&mut Container)| {
        let mut file = features("m");
        change(&mut file);
        file
    };
    let put = |name: &str, dtype: &str, shape: &[usize]| {
        change(&|file| match dtype {
            "U8" => file.put_u8(name, &vec![0; shape[0]]),
            "I64" => file.put_i64(name, &vec![0; shape[0]]),
            _ => file.reshape(name, shape, 1.0),
        })
    };
    let mut cases = vec![
        ("metadata: \"format\" is missing", change(&|file| drop(file.metadata.remove("format")))),
        ("no tensors; this file holds", change(&|file| file.tensors.clear())),
        ("\"films.kinds\": unexpected tensor", put("films.kinds", "U8", &[1])),
        ("\"kinds\": unexpected tensor", put("kinds", "U8", &[1])),
        ("\"items.more\": unexpected tensor", put("items.more", "U8", &[1])),
        ("items.kinds: dtype I64, expected U8", put("items.kinds", "I64", &[3])),
        ("items.starts: dtype U8, expected I64", put("items.starts", "U8", &[4])),
        ("items.gmf: dtype I64, expected F32", put("items.gmf", "I64", &[5])),
        ("items.kinds: 2 values, expected one for each of 3 columns", put("items.kinds", "U8", &[2])),
        ("items.starts: 3 values, expected 4 (columns + 1)", put("items.starts", "I64", &[3])),
        ("items.starts: must run from 0 to 3", change(&|file| file.put_i64("items.starts", &[0, 2, 2, 4]))),
        ("items.starts: decreases from 2 to 1", change(&|file| file.put_i64("items.starts", &[0, 2, 1, 3]))),
        ("items.columns.offsets: must run from 0 to", put("items.columns.offsets", "I64", &[4])),
        (
            "items.columns: the text at 0 is not valid UTF-8",
            change(&|file| file.put_i64("items.columns.offsets", &[0, 2, 11, 15])),
        ),
        (
            "items.columns: duplicate name \"aa\"",
            change(&|file| {
                file.put_u8("items.columns.bytes", b"aaaab");
                file.put_i64("items.columns.offsets", &[0, 2, 4, 5]);
            }),
        ),
        ("items.kinds: 3 at 2, expected 0, 1 or 2", change(&|file| file.put_u8("items.kinds", &[1, 2, 3]))),
        ("column \"year\" is a Multi with 0 values", change(&|file| file.put_u8("items.kinds", &[1, 1, 0]))),
        ("column \"land\" is a Number with 1 values", change(&|file| file.put_u8("items.kinds", &[1, 2, 2]))),
        ("not sorted, or not unique", change(&|file| file.put_u8("items.values.bytes", b"bax"))),
        ("not sorted, or not unique", change(&|file| file.put_u8("items.values.bytes", b"aax"))),
        ("items.scales: shape [3, 1], expected [3, 2]", put("items.scales", "F32", &[3, 1])),
        (
            "items.scales: deviation 0 of column \"land\", expected above 0",
            change(&|file| {
                file.put_f32("items.scales", &[3, 2], &[0.0, 1.0, 1990.0, 8.5, 0.0, 0.0]);
            }),
        ),
        ("\"items.gmf\": 1 dimensions, expected two", put("items.gmf", "F32", &[5])),
        ("items.gmf: shape [4, 2], expected [5, 2]", put("items.gmf", "F32", &[4, 2])),
        ("items.mlp: shape [5, 2], expected [5, 3]", put("items.mlp", "F32", &[5, 2])),
        ("users.mlp: shape [2, 3], expected [2, 2]", put("users.mlp", "F32", &[2, 3])),
        (
            "users.gmf: element [1, 0] is NaN",
            change(&|file| {
                file.put_f32("users.gmf", &[2, 2], &[1.0, 1.0, f32::NAN, 1.0]);
            }),
        ),
    ];
    let names: Vec<String> = features("m").tensors.iter().map(|tensor| tensor.name.clone()).collect();
    assert_eq!(names.len(), 18);
    let messages: Vec<_> = names.iter().map(|name| format!("tensor {name} is missing")).collect();
    cases.extend(names.iter().zip(&messages).map(|(name, text)| (&**text, change(&|file| file.remove(name)))));
    for (expected, file) in &cases {
        let message = refusal(read(&with(file)));
        assert!(message.contains(expected), "expected {expected:?} in {message:?}");
        assert!(message.contains("features.safetensors"), "{message:?}");
    }
}

#[test]
fn a_model_without_a_block_has_no_map_to_it() {
    let mut files = directory("m");
    let config =
        r#"{"format_version":1,"model_id":"m","kind":"gmf","sizes":{"num_users":3,"num_items":4,"gmf_width":2}}"#;
    files.insert("config.json", config.into());
    let mut file = features("m");
    files.insert("features.safetensors", file.bytes());
    assert!(refusal(read(&files)).contains("users.mlp: unexpected tensor: the model has no such embeddings"));
    file.tensors.retain(|tensor| !tensor.name.ends_with(".mlp"));
    files.insert("features.safetensors", file.bytes());
    assert!(read(&files).unwrap().unwrap().items.unwrap().mlp.is_none());
}
