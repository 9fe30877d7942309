//! Builds valid files tensor by tensor, for the tests to break in one place each.

use std::{collections::BTreeMap, fs, path::Path};

use neuralcf::{
    Error, Result,
    format::{Model, Opened},
};

#[derive(Clone)]
pub(crate) struct Tensor {
    pub(crate) name: String,
    pub(crate) dtype: &'static str,
    pub(crate) shape: Vec<usize>,
    pub(crate) data: Vec<u8>,
}

/// The contents of a safetensors file.
#[derive(Clone)]
pub(crate) struct Container {
    pub(crate) metadata: BTreeMap<String, String>,
    pub(crate) tensors: Vec<Tensor>,
}

impl Container {
    pub(crate) fn new(metadata: &[(&str, &str)]) -> Self {
        let metadata = metadata.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
        Container { metadata, tensors: Vec::new() }
    }

    pub(crate) fn put(&mut self, name: &str, dtype: &'static str, shape: &[usize], data: Vec<u8>) {
        self.tensors.retain(|tensor| tensor.name != name);
        self.tensors.push(Tensor { name: name.to_owned(), dtype, shape: shape.to_vec(), data });
    }

    pub(crate) fn put_f32(&mut self, name: &str, shape: &[usize], values: &[f32]) {
        assert_eq!(shape.iter().product::<usize>(), values.len());
        self.put(name, "F32", shape, values.iter().flat_map(|value| value.to_le_bytes()).collect());
    }

    pub(crate) fn put_i64(&mut self, name: &str, values: &[i64]) {
        self.put(name, "I64", &[values.len()], values.iter().flat_map(|value| value.to_le_bytes()).collect());
    }

    pub(crate) fn put_i32(&mut self, name: &str, values: &[i32]) {
        self.put(name, "I32", &[values.len()], values.iter().flat_map(|value| value.to_le_bytes()).collect());
    }

    pub(crate) fn put_u8(&mut self, name: &str, values: &[u8]) {
        self.put(name, "U8", &[values.len()], values.to_vec());
    }

    /// Replaces a tensor by one of another shape, filled with `value`.
    pub(crate) fn reshape(&mut self, name: &str, shape: &[usize], value: f32) {
        self.put_f32(name, shape, &vec![value; shape.iter().product()]);
    }

    pub(crate) fn remove(&mut self, name: &str) {
        let before = self.tensors.len();
        self.tensors.retain(|tensor| tensor.name != name);
        assert_ne!(before, self.tensors.len(), "no {name} to remove");
    }

    pub(crate) fn rename(&mut self, name: &str, new: &str) {
        self.tensors.iter_mut().find(|tensor| tensor.name == name).expect("a tensor to rename").name = new.to_owned();
    }

    pub(crate) fn header(&self) -> String {
        let mut header = format!("{{\"__metadata__\":{}", serde_json::to_string(&self.metadata).unwrap());
        let mut start = 0;
        for tensor in &self.tensors {
            let (name, dtype, shape) = (&tensor.name, tensor.dtype, &tensor.shape);
            let end = start + tensor.data.len();
            header +=
                &format!(",{name:?}:{{\"dtype\":\"{dtype}\",\"shape\":{shape:?},\"data_offsets\":[{start},{end}]}}");
            start = end;
        }
        header + "}"
    }

    pub(crate) fn data(&self) -> Vec<u8> {
        self.tensors.iter().flat_map(|tensor| tensor.data.clone()).collect()
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        join(self.header().as_bytes(), &self.data())
    }
}

pub(crate) fn join(header: &[u8], data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes()[..], header, data].concat()
}

/// `len` values that float16 and bfloat16 represent exactly.
pub(crate) fn values(len: usize) -> Vec<f32> {
    (0..len).map(|n| (n % 61) as f32 / 16.0 - 2.0).collect()
}

/// A model with every block: U = 3, I = 4, G = 2, Mu = 2, Mi = 3, layers 5 -> 4 -> 2.
pub(crate) fn neumf() -> Container {
    let metadata = [("format", "neuralcf"), ("format_version", "1"), ("kind", "neumf"), ("activation", "relu")];
    let mut file = Container::new(&metadata);
    let shapes: [(&str, &[usize]); 10] = [
        ("gmf.user_embedding.weight", &[3, 2]),
        ("gmf.item_embedding.weight", &[4, 2]),
        ("mlp.user_embedding.weight", &[3, 2]),
        ("mlp.item_embedding.weight", &[4, 3]),
        ("mlp.layers.0.weight", &[4, 5]),
        ("mlp.layers.0.bias", &[4]),
        ("mlp.layers.1.weight", &[2, 4]),
        ("mlp.layers.1.bias", &[2]),
        ("output.weight", &[1, 4]),
        ("output.bias", &[1]),
    ];
    for (name, shape) in shapes {
        file.put_f32(name, shape, &values(shape.iter().product()));
    }
    file
}

/// [`neumf`] without its MLP block.
pub(crate) fn gmf() -> Container {
    let mut file = neumf();
    file.tensors.retain(|tensor| !tensor.name.starts_with("mlp."));
    file.put_f32("output.weight", &[1, 2], &values(2));
    file.metadata.insert("kind".to_owned(), "gmf".to_owned());
    file
}

/// The files of a model directory, by name.
pub(crate) type Directory = BTreeMap<&'static str, Vec<u8>>;

/// A complete directory for [`neumf`], with every file of generation `model_id`.
pub(crate) fn directory(model_id: &str) -> Directory {
    let mut model = neumf();
    model.metadata.insert("model_id".to_owned(), model_id.to_owned());
    let sizes =
        r#"{"num_users":3,"num_items":4,"gmf_width":2,"mlp_user_width":2,"mlp_item_width":3,"mlp_layers":[4,2]}"#;
    let config = format!(
        r#"{{"format_version":1,"model_id":"{model_id}","kind":"neumf","sizes":{sizes},"training":{{"epochs":2.5,"x":null}}}}"#
    );
    let files = [
        ("config.json", config.into_bytes()),
        ("model.safetensors", model.bytes()),
        ("seen.safetensors", seen(model_id).bytes()),
        ("history.safetensors", history(model_id).bytes()),
        ("ids.safetensors", ids(model_id).bytes()),
    ];
    files.into_iter().collect()
}

/// User 0 has items 1 and 3, user 1 none, user 2 item 0.
pub(crate) fn seen(model_id: &str) -> Container {
    let mut file = Container::new(&[("format", "neuralcf"), ("format_version", "1"), ("model_id", model_id)]);
    file.put_i64("indptr", &[0, 2, 2, 3]);
    file.put_i32("indices", &[1, 3, 0]);
    file
}

/// For [`neumf`], whose users' vectors have W = 2 + 2 elements: two linear encoders and a ridge regression of d = 3.
pub(crate) fn history(model_id: &str) -> Container {
    let mut file = Container::new(&[("format", "neuralcf"), ("format_version", "1"), ("model_id", model_id)]);
    let shapes: [(&str, &[usize]); 6] = [
        ("empty", &[4]),
        ("bias", &[4]),
        ("linear.0.items", &[4, 4]),
        ("linear.1.items", &[4, 4]),
        ("ridge.0.items", &[4, 3]),
        ("ridge.0.output", &[3, 4]),
    ];
    for (name, shape) in shapes {
        file.put_f32(name, shape, &values(shape.iter().product()));
    }
    file.put_f32("linear.0.exponent", &[1], &[0.0]);
    file.put_f32("linear.1.exponent", &[1], &[0.5]);
    file.put_f32("ridge.0.diagonal", &[3], &[0.0, 1.0, 2.5]);
    file.put_f32("ridge.0.l2", &[2], &[0.0, 0.25]);
    file
}

/// Users 30, -1 and 7; items "a", "", "ß" and "7".
pub(crate) fn ids(model_id: &str) -> Container {
    let mut file = Container::new(&[("format", "neuralcf"), ("format_version", "1"), ("model_id", model_id)]);
    file.put_i64("users", &[30, -1, 7]);
    file.put_u8("items.bytes", "aß7".as_bytes());
    file.put_i64("items.offsets", &[0, 1, 1, 3, 4]);
    file
}

pub(crate) fn write(files: &Directory, path: &Path) {
    fs::create_dir_all(path).unwrap();
    for (name, bytes) in files {
        fs::write(path.join(name), bytes).unwrap();
    }
}

pub(crate) fn read(bytes: &[u8]) -> Result<Model> {
    neuralcf::format::read_model(&mut &bytes[..], bytes.len() as u64, &mut || Ok(()))
}

pub(crate) fn open(path: &Path) -> Result<Opened> {
    neuralcf::format::open(path, &mut || Ok(()))
}

/// The message of an [`Error::Format`]; panics for any other result.
pub(crate) fn refusal<T>(result: Result<T>) -> String {
    match result {
        Ok(_) => panic!("accepted"),
        Err(Error::Format(text)) => text,
        Err(other) => panic!("refused as {other:?}"),
    }
}
