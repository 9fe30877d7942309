//! `config.json`: the generation of a model directory, and the sizes its weights must have.

use sha2::{Digest, Sha256};

use super::{
    blocks::Kind,
    digest::{self, Listed},
    json::{Json, describe, quote},
    model::Model,
    stream::Stream,
    weights::FORMAT_VERSION,
};
use crate::error::{Error, Result, copied, reserve};

/// The maximum size of config.json, in bytes.
const CONFIG_LIMIT: u64 = 4 << 20;

/// The files beside config.json that the reader reads.
const FILES: [&str; 5] =
    ["model.safetensors", "seen.safetensors", "history.safetensors", "ids.safetensors", "features.safetensors"];

/// The keys that the reader uses; all others (training configuration, metrics and the like) are only checked to be
/// JSON.
#[derive(Debug)]
pub(super) struct Config {
    pub(super) model_id: String,
    kind: Kind,
    sizes: Sizes,
    /// The size and digest of those of [`FILES`] that the writer wrote; `None` if it stored no digests.
    files: Option<Vec<(&'static str, Listed)>>,
}

/// `sizes`, as far as they are present.
#[derive(Debug, Default)]
struct Sizes {
    /// In the order of [`NUMBERS`].
    numbers: [Option<u64>; NUMBERS.len()],
    /// The units of each layer.
    mlp_layers: Option<Vec<u64>>,
}

const NUMBERS: [&str; 5] = ["num_users", "num_items", "gmf_width", "mlp_user_width", "mlp_item_width"];

impl Sizes {
    fn read(json: &mut Json<'_, '_>) -> Result<Self> {
        let mut sizes = Sizes::default();
        json.object(&"sizes must be an object", &mut |json, key| {
            if let Some(at) = NUMBERS.iter().position(|&name| name == key) {
                sizes.numbers[at] = Some(json.integer(&format_args!("sizes: {key} must be a non-negative integer"))?);
            } else if key == "mlp_layers" {
                sizes.mlp_layers = Some(json.integers(usize::MAX, &"sizes: mlp_layers must be a list of integers")?);
            } else {
                json.skip()?;
            }
            Ok(())
        })?;
        Ok(sizes)
    }

    /// Those that a model has.
    fn of(model: &Model) -> Result<Self> {
        let (gmf, mlp) = (model.gmf(), model.mlp());
        let numbers = [
            Some(model.num_users()),
            Some(model.num_items()),
            gmf.map(|gmf| gmf.users.width()),
            mlp.map(|mlp| mlp.users.width()),
            mlp.map(|mlp| mlp.items.width()),
        ];
        let mut mlp_layers = None;
        if let Some(mlp) = mlp {
            let mut units = reserve("layers", mlp.layers.len())?;
            units.extend(mlp.layers.iter().map(|layer| layer.outputs as u64));
            mlp_layers = Some(units);
        }
        Ok(Sizes { numbers: numbers.map(|size| size.map(|size| size as u64)), mlp_layers })
    }
}

impl Config {
    pub(super) fn read(stream: &mut Stream<'_>) -> Result<Self> {
        let length = stream.length();
        if length > CONFIG_LIMIT {
            return Err(Error::Format(format!("{length} bytes long, the limit is {CONFIG_LIMIT}")));
        }
        let (text, interrupts) = stream.bytes_and_interrupts(length as usize)?;
        let (mut version, mut model_id, mut kind, mut sizes, mut files, mut own) = (None, None, None, None, None, None);
        Json::read(text, interrupts, |json| {
            json.object(&"expected a JSON object", &mut |json, key| {
                match key {
                    "format_version" => version = Some(read_version(json)?),
                    "model_id" => model_id = Some(read_model_id(json)?),
                    "kind" => kind = Some(read_kind(json)?),
                    "sizes" => sizes = Some(Sizes::read(json)?),
                    "files" => files = Some(read_files(json)?),
                    "sha256" => own = Some(digest::read(json)?),
                    _ => json.skip()?,
                }
                Ok(())
            })
        })?;
        // Each without the other is damage, so that no single change of a key switches the check off.
        if files.is_some() != own.is_some() {
            return Err(Error::Format("expected files, an object, and sha256, a string, or neither".to_owned()));
        }
        if let Some(own) = own {
            let mut found = Sha256::new();
            digest::update_with_blank(&mut found, text, &own)?;
            digest::compare(&own, &digest::hexadecimal(found.finalize()), "its own key sha256")?;
        }
        let missing = |key: &str| Error::Format(format!("key {key:?} is missing"));
        version.ok_or_else(|| missing("format_version"))?;
        Ok(Config {
            model_id: model_id.ok_or_else(|| missing("model_id"))?,
            kind: kind.ok_or_else(|| missing("kind"))?,
            sizes: sizes.ok_or_else(|| missing("sizes"))?,
            files,
        })
    }

    /// The size and digest of the file `name`; `None` if the model has no digests.
    ///
    /// # Errors
    /// [`Error::Format`] if the model has digests but none of this file.
    pub(super) fn listed(&self, name: &str) -> Result<Option<&Listed>> {
        let Some(files) = &self.files else { return Ok(None) };
        match files.iter().find(|&&(other, _)| other == name) {
            Some((_, listed)) => Ok(Some(listed)),
            None => Err(Error::Format("not listed in config.json: a file of another model".to_owned())),
        }
    }

    /// Whether the model was published with a file `name`.
    pub(super) fn lists(&self, name: &str) -> bool {
        self.files.as_ref().is_some_and(|files| files.iter().any(|&(other, _)| other == name))
    }

    /// The width `key` among the sizes, or `None` if it is absent.
    pub(super) fn width(&self, key: &str) -> Option<usize> {
        let at = NUMBERS.iter().position(|&name| name == key)?;
        usize::try_from(self.sizes.numbers[at]?).ok()
    }

    /// Rejects weights whose kind or sizes differ from these.
    pub(super) fn check(&self, model: &Model) -> Result<()> {
        let differ = |key: &str, here: String, there: String| {
            Err(Error::Format(format!("sizes: {key} is {here}, but {there} in model.safetensors")))
        };
        if self.kind != model.kind() {
            let (expected, got) = (self.kind, model.kind());
            return Err(Error::Format(format!("kind is {expected}, but model.safetensors holds a {got} model")));
        }
        let (here, there) = (&self.sizes, Sizes::of(model)?);
        for ((key, here), there) in NUMBERS.iter().zip(&here.numbers).zip(&there.numbers) {
            if here != there {
                let shown = |size: &Option<u64>| size.map_or_else(|| "absent".to_owned(), |size| size.to_string());
                return differ(key, shown(here), shown(there));
            }
        }
        if here.mlp_layers != there.mlp_layers {
            let shown = |layers: &Option<Vec<u64>>| layers.as_deref().map_or_else(|| "absent".to_owned(), describe);
            return differ("mlp_layers", shown(&here.mlp_layers), shown(&there.mlp_layers));
        }
        Ok(())
    }
}

fn read_version(json: &mut Json<'_, '_>) -> Result<()> {
    let expected = format!("format_version: expected {FORMAT_VERSION}");
    match json.integer(&expected)? {
        FORMAT_VERSION => Ok(()),
        other => Err(Error::Format(format!("{expected}, got {other}"))),
    }
}

fn read_model_id(json: &mut Json<'_, '_>) -> Result<String> {
    let expected = "model_id must be a non-empty string";
    match &*json.string(&expected)? {
        "" => Err(Error::Format(format!("{expected}, got \"\""))),
        id => copied("model_id", id),
    }
}

fn read_kind(json: &mut Json<'_, '_>) -> Result<Kind> {
    let kind = json.string(&"kind: expected a string")?;
    kind.parse().map_err(|error: Error| Error::Format(error.to_string()))
}

/// Reads the digests of all files but config.json; those of files that are not read are only checked.
fn read_files(json: &mut Json<'_, '_>) -> Result<Vec<(&'static str, Listed)>> {
    let mut files = Vec::new();
    json.object(&"files must be an object", &mut |json, name| {
        let listed = Listed::read(json).map_err(|error| error.within(format_args!("files: {}", quote(name))))?;
        files.extend(FILES.into_iter().find(|&known| known == name).map(|name| (name, listed)));
        Ok(())
    })?;
    Ok(files)
}
