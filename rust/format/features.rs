//! `features.safetensors`: what gives vectors to users and items by their features alone. Scoring does not use it.

use std::path::Path;

use super::{
    config::Config,
    container::{Entry, Header},
    directory::{OpenConfig, OpenEntry, open_entry, open_in},
    dtype::Dtype,
    json::quote,
    sidecar::{missing, offsets, unknown, vector_len, wrong_dtype},
    stream::Stream,
};
use crate::error::{Error, Result, copied, reserve};

const EXPECTED: &str = "columns.bytes, columns.offsets, kinds, values.bytes, values.offsets, starts, scales, and gmf or \
                        mlp or both, of users or items or both";

/// The maps of a model; at least one of them is present.
#[derive(Debug, Clone)]
pub struct Features {
    /// The id of the model.
    pub model_id: String,
    /// That of users.
    pub users: Option<FeatureMap>,
    /// That of items.
    pub items: Option<FeatureMap>,
}

/// How the features of users or of items become their embeddings, valid by construction.
#[derive(Debug, Clone)]
pub struct FeatureMap {
    /// The columns of attributes, at least one.
    pub columns: Vec<FeatureColumn>,
    /// The map to GMF embeddings, if the model has any.
    pub gmf: Option<Map>,
    /// The map to MLP embeddings, if the model has any.
    pub mlp: Option<Map>,
}

/// A column of attributes.
#[derive(Debug, Clone, PartialEq)]
pub struct FeatureColumn {
    /// Its name, unique among the columns.
    pub name: String,
    /// Whether cells hold one value, several values, or a number.
    pub kind: FeatureKind,
    /// The known values, ascending; none in a column of numbers.
    pub values: Vec<String>,
    /// The mean and the standard deviation (above 0) of a column of numbers.
    pub scale: [f32; 2],
}

/// What the cells of a column hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FeatureKind {
    /// One value.
    Category,
    /// Several values, separated by `|`.
    Multi,
    /// A number.
    Number,
}

/// A `[rows, width]` matrix, row-major, of finite numbers: row 0 for all entities, then the rows of each column.
#[derive(Debug, Clone)]
pub struct Map {
    /// How many rows: 1, and for each column its values, or 1 if it holds numbers.
    pub rows: usize,
    /// The width of the embeddings.
    pub width: usize,
    /// The elements.
    pub elements: Vec<f32>,
}

/// Reads the features of a model directory, or `None` if it has none, or if `path` is a file. `check` is called as by
/// [`open`](super::open).
///
/// # Errors
/// [`Error::Io`] if the path does not exist, [`Error::Format`] if the file is not valid or belongs to another model,
/// [`Error::Memory`], or the error of `check`.
pub fn read_features(path: &Path, check: &mut dyn FnMut() -> Result<()>) -> Result<Option<Features>> {
    loop {
        check()?;
        let OpenEntry::Directory(directory) = open_entry(path).map_err(|error| error.within(path.display()))? else {
            return Ok(None);
        };
        let (config, features) =
            (open_in(&directory, path, "config.json")?, open_in(&directory, path, "features.safetensors")?);
        if !directory.is_at(path) {
            continue; // a new generation was published meanwhile
        }
        let Some(config) = config else { return Ok(None) };
        let config = OpenConfig::read(config, check)?;
        return match features {
            Some(file) => {
                let read = |stream: &mut Stream<'_>, header| Features::read(stream, &header, &config.config);
                let (features, _) = file.read_part("features.safetensors", &config, check, read)?;
                Ok(Some(features))
            }
            None if config.config.lists("features.safetensors") => Err(config.lost("features.safetensors")),
            None => Ok(None),
        };
    }
}

impl Features {
    fn read(stream: &mut Stream<'_>, header: &Header, config: &Config) -> Result<Self> {
        let (mut users, mut items) = (Side::default(), Side::default());
        for entry in &header.entries {
            let (side, part) = match entry.name.split_once('.') {
                Some(("users", part)) => (&mut users, part),
                Some(("items", part)) => (&mut items, part),
                _ => return Err(unknown(&entry.name, EXPECTED)),
            };
            side.read(stream, entry, part)?;
        }
        let [users, items] = [(users, "users", "mlp_user_width"), (items, "items", "mlp_item_width")]
            .map(|(side, name, mlp_width)| side.into_map(name, config.width("gmf_width"), config.width(mlp_width)));
        match (users?, items?) {
            (None, None) => Err(Error::Format(format!("no tensors; this file holds {EXPECTED}"))),
            (users, items) => Ok(Features { model_id: config.model_id.clone(), users, items }),
        }
    }
}

/// The tensors of one side, users or items, read so far.
#[derive(Default)]
struct Side {
    columns: Texts,
    values: Texts,
    kinds: Option<Vec<u8>>,
    starts: Option<Vec<i64>>,
    scales: Option<Map>,
    gmf: Option<Map>,
    mlp: Option<Map>,
    any: bool,
}

/// Strings, as read so far.
#[derive(Default)]
struct Texts {
    bytes: Option<Vec<u8>>,
    offsets: Option<Vec<i64>>,
}

impl Side {
    fn read(&mut self, stream: &mut Stream<'_>, entry: &Entry, part: &str) -> Result<()> {
        self.any = true;
        let name = &entry.name;
        match (part, entry.dtype) {
            ("columns.bytes", Dtype::U8) => self.columns.bytes = Some(bytes(stream, entry)?),
            ("values.bytes", Dtype::U8) => self.values.bytes = Some(bytes(stream, entry)?),
            ("kinds", Dtype::U8) => self.kinds = Some(bytes(stream, entry)?),
            ("columns.offsets", Dtype::I64) => self.columns.offsets = Some(integers(stream, entry)?),
            ("values.offsets", Dtype::I64) => self.values.offsets = Some(integers(stream, entry)?),
            ("starts", Dtype::I64) => self.starts = Some(integers(stream, entry)?),
            ("scales", Dtype::F32) => self.scales = Some(matrix(stream, entry)?),
            ("gmf", Dtype::F32) => self.gmf = Some(matrix(stream, entry)?),
            ("mlp", Dtype::F32) => self.mlp = Some(matrix(stream, entry)?),
            ("columns.bytes" | "values.bytes" | "kinds", dtype) => return Err(wrong_dtype(name, dtype, "U8")),
            ("columns.offsets" | "values.offsets" | "starts", dtype) => return Err(wrong_dtype(name, dtype, "I64")),
            ("scales" | "gmf" | "mlp", dtype) => return Err(wrong_dtype(name, dtype, "F32")),
            _ => return Err(unknown(name, EXPECTED)),
        }
        Ok(())
    }

    /// Checks the tensors of the side `side` against each other and against the `widths` of the model.
    fn into_map(self, side: &str, gmf_width: Option<usize>, mlp_width: Option<usize>) -> Result<Option<FeatureMap>> {
        if !self.any {
            return Ok(None);
        }
        let name = |part: &str| format!("{side}.{part}");
        let refuse = |part: &str, text: String| Err(Error::Format(format!("{side}.{part}: {text}")));
        let names = self.columns.decode(&name("columns"))?;
        let values = self.values.decode(&name("values"))?;
        let kinds = self.kinds.ok_or_else(|| missing(&name("kinds")))?;
        let starts = self.starts.ok_or_else(|| missing(&name("starts")))?;
        let scales = self.scales.ok_or_else(|| missing(&name("scales")))?;
        let count = names.len();
        if count == 0 || kinds.len() != count {
            return refuse("kinds", format!("{} values, expected one for each of {count} columns", kinds.len()));
        }
        if starts.len() != count + 1 {
            return refuse("starts", format!("{} values, expected {} (columns + 1)", starts.len(), count + 1));
        }
        if (scales.rows, scales.width) != (count, 2) {
            return refuse("scales", format!("shape [{}, {}], expected [{count}, 2]", scales.rows, scales.width));
        }
        let mut sorted = reserve(side, count)?;
        sorted.extend(&names);
        sorted.sort_unstable();
        if let Some(twice) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
            return refuse("columns", format!("duplicate name {}", quote(twice[0])));
        }
        let starts = offsets(&name("starts"), starts, values.len())?;

        let (mut columns, mut values) = (reserve(side, count)?, values.into_iter());
        for (at, column) in names.into_iter().enumerate() {
            let mut of_column = reserve(side, starts[at + 1] - starts[at])?;
            of_column.extend(values.by_ref().take(starts[at + 1] - starts[at]));
            let scale = [scales.elements[2 * at], scales.elements[2 * at + 1]];
            let kind = match kinds[at] {
                0 => FeatureKind::Category,
                1 => FeatureKind::Multi,
                2 => FeatureKind::Number,
                other => return refuse("kinds", format!("{other} at {at}, expected 0, 1 or 2")),
            };
            let column_name = quote(&column);
            if (kind == FeatureKind::Number) != of_column.is_empty() {
                let count = of_column.len();
                return refuse("starts", format!("column {column_name} is a {kind:?} with {count} values"));
            }
            if !of_column.is_sorted_by(|a, b| a < b) {
                return refuse("values", format!("column {column_name}: not sorted, or not unique"));
            }
            if scale[1] <= 0.0 {
                return refuse("scales", format!("deviation {} of column {column_name}, expected above 0", scale[1]));
            }
            columns.push(FeatureColumn { name: column, kind, values: of_column, scale });
        }

        let rows = 1 + columns.iter().map(|column| column.values.len().max(1)).sum::<usize>();
        for (part, map, width) in [("gmf", &self.gmf, gmf_width), ("mlp", &self.mlp, mlp_width)] {
            match (map, width) {
                (None, None) => {}
                (None, Some(_)) => return Err(missing(&name(part))),
                (Some(_), None) => {
                    return refuse(part, "unexpected tensor: the model has no such embeddings".to_owned());
                }
                (Some(map), Some(width)) if (map.rows, map.width) != (rows, width) => {
                    return refuse(part, format!("shape [{}, {}], expected [{rows}, {width}]", map.rows, map.width));
                }
                (Some(_), Some(_)) => {}
            }
        }
        Ok(Some(FeatureMap { columns, gmf: self.gmf, mlp: self.mlp }))
    }
}

impl Texts {
    fn decode(self, name: &str) -> Result<Vec<String>> {
        let bytes = self.bytes.ok_or_else(|| missing(&format!("{name}.bytes")))?;
        let starts = self.offsets.ok_or_else(|| missing(&format!("{name}.offsets")))?;
        let starts = offsets(&format!("{name}.offsets"), starts, bytes.len())?;
        let mut texts = reserve(name, starts.len() - 1)?;
        for (at, span) in starts.windows(2).enumerate() {
            match str::from_utf8(&bytes[span[0]..span[1]]) {
                Ok(text) => texts.push(copied(name, text)?),
                Err(_) => return Err(Error::Format(format!("{name}: the text at {at} is not valid UTF-8"))),
            }
        }
        Ok(texts)
    }
}

fn bytes(stream: &mut Stream<'_>, entry: &Entry) -> Result<Vec<u8>> {
    stream.collect(&entry.name, vector_len(entry)?, |[byte]| byte)
}

fn integers(stream: &mut Stream<'_>, entry: &Entry) -> Result<Vec<i64>> {
    stream.collect(&entry.name, vector_len(entry)?, i64::from_le_bytes)
}

fn matrix(stream: &mut Stream<'_>, entry: &Entry) -> Result<Map> {
    let name = &entry.name;
    let [rows, width] = entry.shape[..] else {
        return Err(Error::Format(format!("{}: {} dimensions, expected two", quote(name), entry.shape.len())));
    };
    let elements = stream.collect(name, rows * width, f32::from_le_bytes)?; // the header has checked the product
    if let Some(at) = elements.iter().position(|element| !element.is_finite()) {
        let (row, column) = (at / width, at % width);
        return Err(Error::Format(format!("{name}: element [{row}, {column}] is {}", elements[at])));
    }
    Ok(Map { rows, width, elements })
}
