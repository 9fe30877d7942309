//! `config.json`: the generation of a model directory, and the sizes its weights must have.

use std::collections::BTreeMap;

use super::{blocks::Kind, json::Json, model::Model, stream::Stream, weights::FORMAT_VERSION};
use crate::error::{Error, Result};

/// The maximum size of config.json, in bytes.
const CONFIG_LIMIT: u64 = 4 << 20;

/// The keys that the reader uses; training configuration, metrics and the like are ignored.
#[derive(Debug)]
pub(super) struct Config {
    pub(super) model_id: String,
    kind: Kind,
    sizes: BTreeMap<String, Json>,
}

impl Config {
    pub(super) fn read(stream: &mut Stream<'_>) -> Result<Self> {
        let length = stream.length();
        if length > CONFIG_LIMIT {
            return Err(Error::Format(format!("{length} bytes long, the limit is {CONFIG_LIMIT}")));
        }
        let mut object = Json::object(stream.bytes(length as usize)?)?;
        let mut take = |key: &str| object.remove(key).ok_or_else(|| Error::Format(format!("key {key:?} is missing")));

        let version = take("format_version")?;
        if version != Json::Integer(FORMAT_VERSION) {
            let got = version.describe();
            return Err(Error::Format(format!("format_version: expected {FORMAT_VERSION}, got {got}")));
        }
        let model_id = match take("model_id")? {
            Json::String(id) if !id.is_empty() => id,
            other => {
                let got = other.describe();
                return Err(Error::Format(format!("model_id must be a non-empty string, got {got}")));
            }
        };
        let kind = take("kind")?;
        let kind =
            kind.string().unwrap_or_default().parse::<Kind>().map_err(|error| Error::Format(error.to_string()))?;
        let sizes = match take("sizes")? {
            Json::Object(sizes) => sizes,
            other => return Err(Error::Format(format!("sizes must be an object, got {}", other.describe()))),
        };
        Ok(Config { model_id, kind, sizes })
    }

    /// The width `key` among the sizes, or `None` if it is absent.
    pub(super) fn width(&self, key: &str) -> Option<usize> {
        match self.sizes.get(key) {
            Some(Json::Integer(width)) => usize::try_from(*width).ok(),
            _ => None,
        }
    }

    /// Rejects weights whose kind or sizes differ from these.
    pub(super) fn check(&self, model: &Model) -> Result<()> {
        if self.kind != model.kind() {
            let (expected, got) = (self.kind, model.kind());
            return Err(Error::Format(format!("kind is {expected}, but model.safetensors holds a {got} model")));
        }
        for (key, expected) in sizes(model) {
            if self.sizes.get(key) != expected.as_ref() {
                let [here, there] = [self.sizes.get(key), expected.as_ref()]
                    .map(|size| size.map_or_else(|| "absent".to_owned(), Json::describe));
                return Err(Error::Format(format!("sizes: {key} is {here}, but {there} in model.safetensors")));
            }
        }
        Ok(())
    }
}

/// The model's sizes under the keys of config.json; `None` for a block that the model lacks.
fn sizes(model: &Model) -> [(&'static str, Option<Json>); 6] {
    let integer = |size: usize| Json::Integer(size as u64);
    let layers = |layers: &[super::Layer]| Json::List(layers.iter().map(|layer| integer(layer.outputs)).collect());
    let mlp = model.mlp();
    [
        ("num_users", Some(integer(model.num_users()))),
        ("num_items", Some(integer(model.num_items()))),
        ("gmf_width", model.gmf().map(|gmf| integer(gmf.users.width()))),
        ("mlp_user_width", mlp.map(|mlp| integer(mlp.users.width()))),
        ("mlp_item_width", mlp.map(|mlp| integer(mlp.items.width()))),
        ("mlp_layers", mlp.map(|mlp| layers(&mlp.layers))),
    ]
}
