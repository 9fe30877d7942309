//! Model directories: which files belong together, and which config, seen and ids files are rejected.

use std::{fs, path::Path};

use neuralcf::{Error, ids::Id};
use sha2::{Digest, Sha256};

use super::builder::{Container, Directory, directory, history, ids, neumf, open, refusal, seen, write};

/// Writes `files` to a temporary directory and opens it.
fn open_files(files: &Directory) -> neuralcf::Result<neuralcf::format::Opened> {
    let place = tempfile::tempdir().unwrap();
    write(files, place.path());
    open(place.path())
}

#[test]
fn a_complete_directory_opens() {
    let files = directory("m");
    let opened = open_files(&files).unwrap();
    assert_eq!((opened.model.num_users(), opened.model_id.as_deref()), (3, Some("m")));
    let seen = opened.seen.unwrap();
    assert_eq!([seen.row(0), seen.row(1), seen.row(2)], [&[1, 3][..], &[], &[0]]);
    let (users, items) = (opened.users.unwrap(), opened.items.unwrap());
    assert_eq!([users.get(0), users.get(1), users.get(2)], [Id::Int(30), Id::Int(-1), Id::Int(7)]);
    assert_eq!(["a", "", "ß", "7", "b"].map(|id| items.find_str(id)), [Some(0), Some(1), Some(2), Some(3), None]);

    let history = opened.history.unwrap();
    assert_eq!((history.num_items(), history.width()), (4, 4));
    assert_eq!(history.nbytes(), 4 * (4 + 4 + 2 * 16 + 12 + 3 + 12));

    let sha256 = |bytes: &[u8]| Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let names = ["config.json", "model.safetensors", "seen.safetensors", "history.safetensors", "ids.safetensors"];
    let lines = names.map(|name| format!("{}  {name}\n", sha256(&files[name])));
    assert_eq!(opened.digest, sha256(lines.concat().as_bytes()));
}

#[test]
fn optional_files_may_be_absent_or_empty() {
    let mut files = directory("m");
    files.remove("ids.safetensors");
    let mut none = seen("m");
    none.put_i64("indptr", &[0; 4]);
    none.put_i32("indices", &[]);
    files.insert("seen.safetensors", none.bytes());
    let opened = open_files(&files).unwrap();
    assert!(opened.seen.unwrap().is_empty() && opened.users.is_none());
    files.remove("seen.safetensors");
    files.remove("history.safetensors");
    let opened = open_files(&files).unwrap();
    assert!(opened.seen.is_none() && opened.history.is_none());
}

#[test]
fn paths_that_are_not_models() {
    let place = tempfile::tempdir().unwrap();
    let absent = place.path().join("absent");
    match open(&absent) {
        Err(Error::Io { doing, source }) => {
            assert!(doing.contains(absent.to_str().unwrap()), "{doing}");
            assert_eq!(source.kind(), std::io::ErrorKind::NotFound);
        }
        other => panic!("{other:?}"),
    }
    assert!(refusal(open(place.path())).contains("no model.safetensors in this directory; expected"));
    assert!(refusal(open(Path::new("/dev/null"))).contains("/dev/null: neither a regular file nor a directory"));
    fs::create_dir(place.path().join("model.safetensors")).unwrap();
    assert!(refusal(open(place.path())).contains("model.safetensors: neither a regular file"));
    let mut files = directory("m");
    files.remove("config.json");
    assert!(refusal(open_files(&files)).contains("no config.json beside model.safetensors"));
}

#[test]
fn mixed_generations_are_rejected_naming_files_and_ids() {
    for name in ["model.safetensors", "seen.safetensors", "history.safetensors", "ids.safetensors"] {
        let mut files = directory("new");
        files.insert(name, directory("old").remove(name).unwrap());
        let message = refusal(open_files(&files));
        for part in [name, "files of different models: model_id \"old\" here, \"new\" in ", "config.json"] {
            assert!(message.contains(part), "expected {part:?} in {message:?}");
        }
    }
    let mut files = directory("new");
    files.insert("model.safetensors", neumf().bytes());
    assert!(refusal(open_files(&files)).contains("no model_id here, \"new\" in "));
}

#[test]
fn malformed_configs() {
    let swap = |from: &str, to: &str| {
        let mut files = directory("m");
        let config = String::from_utf8(files["config.json"].clone()).unwrap();
        assert!(config.contains(from), "no {from} in {config}");
        files.insert("config.json", config.replacen(from, to, 1).into_bytes());
        files
    };
    let mut long = directory("m");
    long.get_mut("config.json").unwrap().resize((4 << 20) + 1, b' ');
    let cases = [
        ("not valid JSON", swap("{", "[")),
        ("4194305 bytes long, the limit is 4194304", long),
        ("duplicate key \"epochs\"", swap("\"x\"", "\"epochs\"")),
        ("key \"format_version\" is missing", swap("format_version", "version")),
        ("format_version: expected 1, got \"1\"", swap(":1", ":\"1\"")),
        ("format_version: expected 1, got 2", swap(":1", ":2")),
        ("key \"model_id\" is missing", swap("model_id", "id")),
        ("model_id must be a non-empty string, got \"\"", swap("\"m\"", "\"\"")),
        ("model_id must be a non-empty string, got 7", swap("\"m\"", "7")),
        ("key \"kind\" is missing", swap("kind", "sort")),
        ("kind: expected \"gmf\", \"mlp\" or \"neumf\", got \"svd\"", swap("neumf", "svd")),
        ("kind is mlp, but model.safetensors holds a neumf model", swap("neumf", "mlp")),
        ("key \"sizes\" is missing", swap("sizes", "shapes")),
        ("sizes must be an object, got 5", swap("\"sizes\":", "\"sizes\":5,\"shapes\":")),
        ("sizes: num_users is 4, but 3 in model.safetensors", swap("\"num_users\":3", "\"num_users\":4")),
        ("sizes: num_items is absent, but 4 in model.safetensors", swap("num_items", "items")),
        ("sizes: gmf_width is 3", swap("\"gmf_width\":2", "\"gmf_width\":3")),
        (
            "sizes: mlp_user_width must be a non-negative integer, got a negative number or a fraction",
            swap("\"mlp_user_width\":2", "\"mlp_user_width\":2.5"),
        ),
        (
            "sizes: mlp_item_width must be a non-negative integer, got \"3\"",
            swap("\"mlp_item_width\":3", "\"mlp_item_width\":\"3\""),
        ),
        ("sizes: mlp_layers is [4, 3], but [4, 2] in model.safetensors", swap("[4,2]", "[4,3]")),
    ];
    for (fragment, files) in cases {
        let message = refusal(open_files(&files));
        assert!(message.contains(fragment), "expected {fragment:?} in {message:?}");
        assert!(message.contains("config.json: "), "{message}");
    }
}

#[test]
fn malformed_seen_interactions() {
    let with = |change: &dyn Fn(&mut Container)| {
        let mut file = seen("m");
        change(&mut file);
        file
    };
    all_rejected(
        "seen.safetensors",
        &[
            ("\"format\" is missing", with(&|file| drop(file.metadata.remove("format")))),
            (
                "\"format_version\": expected \"1\", got \"9\"",
                with(&|file| drop(file.metadata.insert("format_version".into(), "9".into()))),
            ),
            ("tensor indptr is missing", with(&|file| file.remove("indptr"))),
            ("tensor indices is missing", with(&|file| file.remove("indices"))),
            ("\"more\": unexpected tensor; this file holds", with(&|file| file.put_i64("more", &[1]))),
            ("indptr: dtype I32, expected I64", with(&|file| file.put_i32("indptr", &[0, 2, 2, 3]))),
            ("indices: dtype I64, expected I32", with(&|file| file.put_i64("indices", &[1, 3, 0]))),
            ("\"indptr\": 2 dimensions, expected one", with(&|file| file.put("indptr", "I64", &[4, 1], vec![0; 32]))),
            ("indptr: 5 values, expected 4 (users + 1)", with(&|file| file.put_i64("indptr", &[0, 2, 2, 2, 3]))),
            ("indptr: must run from 0 to 3, but runs from 1 to 3", with(&|file| file.put_i64("indptr", &[1, 2, 2, 3]))),
            ("indptr: must run from 0 to 3, but runs from 0 to 2", with(&|file| file.put_i64("indptr", &[0, 2, 2, 2]))),
            ("indptr: decreases from 2 to -9 after element 1", with(&|file| file.put_i64("indptr", &[0, 2, -9, 3]))),
            ("item 4 in row 2, expected 0 to 3", with(&|file| file.put_i32("indices", &[1, 3, 4]))),
            ("item -1 in row 0, expected 0 to 3", with(&|file| file.put_i32("indices", &[-1, 3, 0]))),
            ("row 0 is not sorted or has duplicate items", with(&|file| file.put_i32("indices", &[3, 1, 0]))),
            ("row 0 is not sorted or has duplicate items", with(&|file| file.put_i32("indices", &[3, 3, 0]))),
        ],
    );
}

#[test]
fn malformed_histories() {
    let with = |change: &dyn Fn(&mut Container)| {
        let mut file = history("m");
        change(&mut file);
        file
    };
    let reshaped = |name: &'static str, shape: &'static [usize]| with(&|file| file.reshape(name, shape, 1.0));
    let set = |name: &'static str, values: &'static [f32]| with(&|file| file.put_f32(name, &[values.len()], values));
    all_rejected(
        "history.safetensors",
        &[
            ("metadata: \"format\" is missing", with(&|file| drop(file.metadata.remove("format")))),
            ("tensor empty is missing", with(&|file| file.remove("empty"))),
            ("tensor bias is missing", with(&|file| file.remove("bias"))),
            ("tensor linear.1.exponent is missing", with(&|file| file.remove("linear.1.exponent"))),
            ("tensor ridge.0.diagonal is missing", with(&|file| file.remove("ridge.0.diagonal"))),
            ("tensor ridge.0.l2 is missing", with(&|file| file.remove("ridge.0.l2"))),
            ("tensor ridge.0.output is missing", with(&|file| file.remove("ridge.0.output"))),
            ("\"more\": unexpected tensor; this file holds", reshaped("more", &[4])),
            ("\"linear.0.exponent\": unexpected tensor", with(&|file| file.remove("linear.0.items"))),
            ("\"linear.3.items\": unexpected tensor", reshaped("linear.3.items", &[4, 4])),
            ("\"linear.01.items\": unexpected tensor", reshaped("linear.01.items", &[4, 4])),
            ("no encoder: expected linear.0.items or ridge.0.items", with(&|file| file.tensors.truncate(2))),
            ("\"bias\": dtype I64, expected F32, F16 or BF16", with(&|file| file.put_i64("bias", &[0; 4]))),
            ("empty: shape [3], expected [4]", reshaped("empty", &[3])),
            ("bias: shape [4, 1], expected [4]", reshaped("bias", &[4, 1])),
            ("linear.0.items: shape [3, 4], expected [4, 4]", reshaped("linear.0.items", &[3, 4])),
            ("linear.1.items: shape [4, 2], expected [4, 4]", reshaped("linear.1.items", &[4, 2])),
            ("linear.0.exponent: shape [1, 1], expected [1]", reshaped("linear.0.exponent", &[1, 1])),
            ("ridge.0.items: shape [4, 0], expected [4, d] with d >= 1", reshaped("ridge.0.items", &[4, 0])),
            ("ridge.0.items: shape [12], expected [4, d] with d >= 1", reshaped("ridge.0.items", &[12])),
            ("ridge.0.items: shape [5, 3], expected [4, 3]", reshaped("ridge.0.items", &[5, 3])),
            ("ridge.0.diagonal: shape [2], expected [3]", reshaped("ridge.0.diagonal", &[2])),
            ("ridge.0.l2: shape [3], expected [2]", reshaped("ridge.0.l2", &[3])),
            ("ridge.0.output: shape [4, 4], expected [3, 4]", reshaped("ridge.0.output", &[4, 4])),
            ("linear.1.exponent: expected 0, 0.25, 0.5, 0.75 or 1, got 0.3", set("linear.1.exponent", &[0.3])),
            ("linear.1.exponent: expected 0, 0.25, 0.5, 0.75 or 1, got 1.25", set("linear.1.exponent", &[1.25])),
            ("ridge.0.diagonal: element [1] is -1, expected at least 0", set("ridge.0.diagonal", &[0.0, -1.0, 0.0])),
            ("ridge.0.l2: expected values of at least 0, not both 0, got [0.0, 0.0]", set("ridge.0.l2", &[0.0; 2])),
            ("ridge.0.l2: expected values of at least 0, not both 0, got [-1.0, 2.0]", set("ridge.0.l2", &[-1.0, 2.0])),
            ("bias: element [2] is NaN", set("bias", &[0.0, 0.0, f32::NAN, 0.0])),
            (
                "ridge.0.output: element [0, 0] is inf",
                with(&|file| file.reshape("ridge.0.output", &[3, 4], f32::INFINITY)),
            ),
        ],
    );
}

#[test]
fn malformed_external_ids() {
    let with = |change: &dyn Fn(&mut Container)| {
        let mut file = ids("m");
        change(&mut file);
        file
    };
    let starts = |starts: &'static [i64]| with(&|file| file.put_i64("items.offsets", starts));
    all_rejected(
        "ids.safetensors",
        &[
            ("tensor users is missing", with(&|file| file.remove("users"))),
            ("tensor items.offsets is missing", with(&|file| file.remove("items.offsets"))),
            ("tensor items.bytes is missing", with(&|file| file.remove("items.bytes"))),
            ("\"names\": unexpected tensor; this file holds", with(&|file| file.put_i64("names", &[1]))),
            ("\"users.codes\": unexpected tensor; this file holds", with(&|file| file.put_i64("users.codes", &[1]))),
            ("users: given both as integers and as strings", with(&|file| file.put_u8("users.bytes", b""))),
            ("users: dtype I32, expected I64", with(&|file| file.put_i32("users", &[1, 2, 3]))),
            ("items.bytes: dtype I32, expected U8", with(&|file| file.put_i32("items.bytes", &[1]))),
            ("items.offsets: dtype U8, expected I64", with(&|file| file.put_u8("items.offsets", &[0, 1, 1, 3, 4]))),
            ("users: 2 ids, but the weights have 3 users", with(&|file| file.put_i64("users", &[1, 2]))),
            ("items: 3 ids, but the weights have 4 items", starts(&[0, 1, 3, 4])),
            ("users: duplicate id 7, at 0 and 2", with(&|file| file.put_i64("users", &[7, 1, 7]))),
            ("items: duplicate id \"\", at 1 and 2", starts(&[0, 1, 1, 1, 4])),
            ("items.offsets: must run from 0 to 4, but runs from 0 to 3", starts(&[0, 1, 1, 3, 3])),
            ("items.offsets: must run from 0 to 4, but runs from nothing to nothing", starts(&[])),
            ("items.offsets: decreases from 3 to 1 after element 1", starts(&[0, 3, 1, 3, 4])),
            ("items: the id at 1 is not valid UTF-8", starts(&[0, 1, 2, 3, 4])),
            ("items: the id at 2 is not valid UTF-8", with(&|file| file.put_u8("items.bytes", b"a\xff77"))),
        ],
    );
}

/// Checks that each file, in place of `name`, is rejected with a message that contains its fragment and names the file.
fn all_rejected(name: &'static str, cases: &[(&str, Container)]) {
    open_files(&directory("m")).expect("the directory is valid before it is broken");
    for (fragment, file) in cases {
        let mut files = directory("m");
        files.insert(name, file.bytes());
        let message = refusal(open_files(&files));
        assert!(message.contains(fragment), "expected {fragment:?} in {message:?}");
        assert!(message.contains(&format!("{name}: ")), "{message}");
    }
}
