//! `config.json`: the generation of a model directory, and the sizes its weights must have.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use super::{
    blocks::Kind,
    digest::{self, Listed},
    json::{Json, quote},
    model::Model,
    stream::Stream,
    weights::FORMAT_VERSION,
};
use crate::error::{Error, Result};

/// The maximum size of config.json, in bytes.
const CONFIG_LIMIT: u64 = 4 << 20;

/// The keys that the reader uses; training configuration, metrics and the like are ignored.
#[derive(Debug)]
pub(super) struct Config {
    pub(super) model_id: String,
    kind: Kind,
    sizes: BTreeMap<String, Json>,
    /// The size and digest of every other file; `None` if the writer stored none.
    files: Option<BTreeMap<String, Listed>>,
}

impl Config {
    pub(super) fn read(stream: &mut Stream<'_>) -> Result<Self> {
        let length = stream.length();
        if length > CONFIG_LIMIT {
            return Err(Error::Format(format!("{length} bytes long, the limit is {CONFIG_LIMIT}")));
        }
        let text = stream.bytes(length as usize)?;
        let mut object = Json::object_with(text, |key| {
            matches!(key, "format_version" | "model_id" | "kind" | "sizes" | "files" | "sha256")
        })?;
        let files = read_files(text, &mut object)?;
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
        Ok(Config { model_id, kind, sizes, files })
    }

    /// The size and digest of the file `name`; `None` if the model has no digests.
    ///
    /// # Errors
    /// [`Error::Format`] if the model has digests but none of this file.
    pub(super) fn listed(&self, name: &str) -> Result<Option<&Listed>> {
        let Some(files) = &self.files else { return Ok(None) };
        match files.get(name) {
            Some(listed) => Ok(Some(listed)),
            None => Err(Error::Format("not listed in config.json: a file of another model".to_owned())),
        }
    }

    /// Whether the model was published with a file `name`.
    pub(super) fn lists(&self, name: &str) -> bool {
        self.files.as_ref().is_some_and(|files| files.contains_key(name))
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

/// Takes the digests out of config.json: `sha256` is that of its own `text`, which is checked, `files` has those of all
/// other files. Each without the other is damage, so that no single change of a key switches the check off.
fn read_files(text: &[u8], object: &mut BTreeMap<String, Json>) -> Result<Option<BTreeMap<String, Listed>>> {
    let (files, own) = match (object.remove("files"), object.remove("sha256")) {
        (None, None) => return Ok(None),
        (Some(Json::Object(files)), Some(Json::String(own))) => (files, own),
        _ => return Err(Error::Format("expected files, an object, and sha256, a string, or neither".to_owned())),
    };
    let mut found = Sha256::new();
    digest::update_with_blank(&mut found, text, digest::parse(&own)?)?;
    digest::compare(&own, &digest::hexadecimal(found.finalize()), "its own key sha256")?;
    let entry = |(name, value): (String, Json)| match Listed::from_json(&value) {
        Ok(listed) => Ok((name, listed)),
        Err(error) => Err(error.within(format_args!("files: {}", quote(&name)))),
    };
    files.into_iter().map(entry).collect::<Result<_>>().map(Some)
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
