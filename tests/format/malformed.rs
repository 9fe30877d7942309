//! Malformed model files: each has a message of its own.

use super::builder::{Container, gmf, join, neumf, read, refusal};

/// Checks that each file is rejected with a message that contains its fragment.
fn all_rejected(cases: &[(&str, Vec<u8>)]) {
    assert!(
        read(&neumf().bytes()).is_ok() && read(&gmf().bytes()).is_ok(),
        "the files are valid before they are broken"
    );
    for (fragment, bytes) in cases {
        let message = refusal(read(bytes));
        assert!(message.contains(fragment), "expected {fragment:?} in {message:?}");
    }
}

/// The NeuMF model with one change.
fn with(change: impl FnOnce(&mut Container)) -> Vec<u8> {
    let mut file = neumf();
    change(&mut file);
    file.bytes()
}

/// The GMF model, with the first `from` in its header replaced by `to`.
fn swap(from: &str, to: &str) -> Vec<u8> {
    let (file, header) = (gmf(), gmf().header());
    assert!(header.contains(from), "no {from} in {header}");
    join(header.replacen(from, to, 1).as_bytes(), &file.data())
}

#[test]
fn malformed_containers() {
    let valid = gmf().bytes();
    let followed_by = |extra: &[u8]| [&valid[..], extra].concat();
    let user = r#""gmf.user_embedding.weight":{"dtype":"F32","shape":[3, 2],"data_offsets":[0,24]}"#;
    let field = |text: &str| swap(user, &format!(r#""gmf.user_embedding.weight":{text}"#));
    all_rejected(&[
        ("0 bytes long, too short", vec![]),
        ("7 bytes long, too short", valid[..7].to_vec()),
        ("header of 4194305 bytes, the limit is 4194304", (4194305u64).to_le_bytes().to_vec()),
        ("header of 18446744073709551615 bytes", [255; 64].to_vec()),
        ("header of 100 bytes in a file of 50 bytes", [&100u64.to_le_bytes()[..], &[b'{'; 42]].concat()),
        ("header does not start with '{'", join(b" {}", b"")),
        ("header does not start with '{'", join(b"", b"")),
        ("header: not valid JSON: byte 1: expected a key, got the end", join(b"{", b"")),
        ("expected the end, got 'x'", swap("[60,68]}}", "[60,68]}}x")),
        (
            "not valid JSON: nested more than 128 levels deep",
            join(format!("{{\"x\":{}", "[".repeat(200)).as_bytes(), b""),
        ),
        ("not valid JSON", swap("\"kind\"", "\"\\ud800\"")),
        ("not valid JSON", join(b"{\"\xff\":1}", b"")),
        ("duplicate key \"gmf.item_embedding.weight\"", swap("gmf.user_emb", "gmf.item_emb")),
        ("duplicate key \"kind\"", swap("\"format_version\"", "\"k\\u0069nd\"")),
        ("duplicate key \"dtype\"", swap("\"shape\":", "\"dtype\":\"F32\",\"shape\":")),
        ("__metadata__: expected an object, got 3", swap("\"__metadata__\":{", "\"__metadata__\":3,\"x\":{")),
        ("__metadata__: \"kind\": expected a string, got 7", swap("\"kind\":\"gmf\"", "\"kind\":7")),
        ("\"gmf.user_embedding.weight\": expected an object, got a list of 9 values", field("[1,2,3,4,5,6,7,8,9]")),
        ("unknown key \"order\" in the header", swap("\"shape\":", "\"order\":\"C\",\"shape\":")),
        ("dtype is missing", field(r#"{"shape":[3,2],"data_offsets":[0,24]}"#)),
        ("shape is missing", field(r#"{"dtype":"F32","data_offsets":[0,24]}"#)),
        ("data_offsets is missing", field(r#"{"dtype":"F32","shape":[3,2]}"#)),
        ("dtype: expected F64, F32, F16, BF16, I64, I32 or U8, got \"F8\"", swap("F32", "F8")),
        ("shape must be a list of sizes", swap("[3, 2]", "[3, 2.0]")),
        ("shape must be a list of sizes", swap("[3, 2]", "[-3, 2]")),
        ("shape must be a list of sizes", swap("[3, 2]", "[3, 18446744073709551616]")),
        ("data_offsets must be a list of two positions", swap("[0,24]", "[0,24,48]")),
        ("data_offsets must be a list of two positions", swap("[0,24]", "[0,null]")),
        ("data_offsets run backwards, from 24 to 0", swap("[0,24]", "[24,0]")),
        ("shape [4294967296, 4294967296] is too large", swap("[3, 2]", "[4294967296, 4294967296]")),
        ("shape [3, 3] of F32 takes 36 bytes, but data_offsets 0 to 24 hold 24", swap("[3, 2]", "[3, 3]")),
        ("a gap in the data: bytes 24 to 28", swap("[24,56]", "[28,60]")),
        ("its data start at byte 20 and overlap another tensor, which ends at 24", swap("[24,56]", "[20,52]")),
        ("truncated: the tensors take 68 bytes, the file has 67", valid[..valid.len() - 1].to_vec()),
        ("1 bytes after the last tensor", followed_by(&[0])),
    ]);
}

#[test]
fn metadata() {
    let without = |key: &str| with(|file| drop(file.metadata.remove(key).expect("a key to remove")));
    let set = |key: &str, value: &str| with(|file| drop(file.metadata.insert(key.to_owned(), value.to_owned())));
    all_rejected(&[
        ("\"format\" is missing; is this a neuralcf model file?", without("format")),
        ("\"format\": expected \"neuralcf\", got \"other\"", set("format", "other")),
        ("\"format_version\" is missing", without("format_version")),
        ("\"format_version\": expected \"1\", got \"2\"", set("format_version", "2")),
        ("\"kind\" is missing", without("kind")),
        ("kind: expected \"gmf\", \"mlp\" or \"neumf\", got \"svd\"", set("kind", "svd")),
        ("\"activation\" is missing", without("activation")),
        ("\"activation\": expected \"relu\", got \"tanh\"", set("activation", "tanh")),
    ]);
}

#[test]
fn tensors() {
    let shape = |name: &'static str, shape: &'static [usize]| with(|file| file.reshape(name, shape, 0.5));
    let without = |name: &'static str| with(|file| file.remove(name));
    let rename = |name: &'static str, new: &'static str| with(|file| file.rename(name, new));
    let kind = |kind: &str| with(|file| drop(file.metadata.insert("kind".to_owned(), kind.to_owned())));
    let empty = with(|file| file.put("gmf.user_embedding.weight", "F32", &[3, 0], vec![]));
    let integer = with(|file| file.put_i64("output.bias", &[1]));
    let long = with(|file| file.rename("output.bias", &"x".repeat(1000)));
    all_rejected(&[
        ("\"extra\": not a tensor of the model format", with(|file| file.reshape("extra", &[1], 0.0))),
        ("xxxxx\"... (1000 bytes): not a tensor", long),
        ("\"mlp.layers.01.weight\": not a tensor", rename("mlp.layers.1.weight", "mlp.layers.01.weight")),
        ("\"mlp.layers.+1.bias\": not a tensor", rename("mlp.layers.1.bias", "mlp.layers.+1.bias")),
        ("\"mlp.layers.0.scale\": not a tensor", rename("mlp.layers.0.bias", "mlp.layers.0.scale")),
        ("mlp.user_embedding.weight: does not belong to a model of kind gmf", kind("gmf")),
        ("gmf.user_embedding.weight: does not belong to a model of kind mlp", kind("mlp")),
        ("gmf.user_embedding.weight: missing from a model of kind neumf", without("gmf.user_embedding.weight")),
        ("mlp.item_embedding.weight: missing from a model of kind neumf", without("mlp.item_embedding.weight")),
        ("mlp.layers.1.bias: missing", without("mlp.layers.1.bias")),
        ("mlp.layers.0.weight: missing", without("mlp.layers.0.weight")),
        ("mlp.layers.2.weight: missing", with(|file| file.reshape("mlp.layers.3.bias", &[2], 0.0))),
        ("mlp.layers.2.weight: missing", with(|file| file.reshape("mlp.layers.18446744073709551615.bias", &[2], 0.0))),
        ("output.weight: missing", without("output.weight")),
        ("output.bias: missing", without("output.bias")),
        ("\"output.bias\": dtype I64, expected F32, F16 or BF16", integer),
        ("output.weight: shape [4], expected 2 dimension(s)", shape("output.weight", &[4])),
        ("output.bias: shape [], expected 1 dimension(s)", shape("output.bias", &[])),
        ("gmf.user_embedding.weight: shape [3, 0], every dimension must be at least 1", empty),
        ("gmf.item_embedding.weight: shape [4, 3], expected [4, 2]", shape("gmf.item_embedding.weight", &[4, 3])),
        ("mlp.user_embedding.weight: shape [4, 2], expected [3, 2]", shape("mlp.user_embedding.weight", &[4, 2])),
        ("mlp.item_embedding.weight: shape [3, 3], expected [4, 3]", shape("mlp.item_embedding.weight", &[3, 3])),
        ("[4, 6], expected [4, 5] to match embedding widths, 2 + 3", shape("mlp.layers.0.weight", &[4, 6])),
        ("mlp.layers.0.bias: shape [3], expected [4]", shape("mlp.layers.0.bias", &[3])),
        ("mlp.layers.1.weight: shape [2, 3], expected [2, 4]", shape("mlp.layers.1.weight", &[2, 3])),
        ("[1, 5], expected [1, 4] to match GMF width 2 + last layer 2", shape("output.weight", &[1, 5])),
        ("output.weight: shape [2, 4], expected [1, 4]", shape("output.weight", &[2, 4])),
        ("output.bias: shape [2], expected [1]", shape("output.bias", &[2])),
    ]);
}

#[test]
fn numbers() {
    let one = |name: &'static str, at: usize, value: f32| {
        with(|file| {
            let tensor = file.tensors.iter_mut().find(|tensor| tensor.name == name).expect("a tensor");
            tensor.data[4 * at..4 * at + 4].copy_from_slice(&value.to_le_bytes());
        })
    };
    let float16 = with(|file| file.put("output.bias", "F16", &[1], vec![0x00, 0x7c]));
    let bfloat16 = with(|file| file.put("output.bias", "BF16", &[1], vec![0xc0, 0x7f]));
    let large = |tensors: &[(&'static str, &[usize], f32)]| {
        with(|file| tensors.iter().for_each(|(name, shape, value)| file.reshape(name, shape, *value)))
    };
    all_rejected(&[
        ("mlp.item_embedding.weight: element [2, 1] is NaN", one("mlp.item_embedding.weight", 7, f32::NAN)),
        ("gmf.user_embedding.weight: element [2, 1] is -inf", one("gmf.user_embedding.weight", 5, f32::NEG_INFINITY)),
        ("mlp.layers.0.weight: element [3, 4] is inf", one("mlp.layers.0.weight", 19, f32::INFINITY)),
        ("mlp.layers.1.bias: element [1] is NaN", one("mlp.layers.1.bias", 1, -f32::NAN)),
        ("output.bias: element [0] is inf", float16),
        ("output.bias: element [0] is NaN", bfloat16),
        (
            "output.weight: its products with gmf.user_embedding.weight could reach",
            large(&[("gmf.user_embedding.weight", &[3, 2], 1e20), ("output.weight", &[1, 4], 1e20)]),
        ),
        (
            "mlp.layers.0.weight: its products with mlp.item_embedding.weight could reach",
            large(&[("mlp.item_embedding.weight", &[4, 3], 1e38)]),
        ),
        (
            "mlp.layers.0.weight: its products with mlp.user_embedding.weight could reach",
            large(&[("mlp.user_embedding.weight", &[3, 2], -1e38)]),
        ),
        (
            "mlp.layers.0.weight: its products with mlp.user_embedding.weight could reach",
            large(&[("mlp.layers.0.bias", &[4], 2e38)]),
        ),
        (
            // Only the sum is too large: 9e37 from the items, 6e37 from the users.
            "mlp.layers.0.weight: the output of layer 0 could reach",
            large(&[
                ("mlp.layers.0.weight", &[4, 5], 1.0),
                ("mlp.item_embedding.weight", &[4, 3], 3e37),
                ("mlp.user_embedding.weight", &[3, 2], 3e37),
            ]),
        ),
        ("mlp.layers.1.weight: the output of layer 1 could reach", large(&[("mlp.layers.1.weight", &[2, 4], 3e37)])),
        ("output.weight: the logit could reach", large(&[("output.bias", &[1], -3e38)])),
        ("output.weight: the logit could reach", large(&[("gmf.item_embedding.weight", &[4, 2], 1e38)])),
    ]);
}
