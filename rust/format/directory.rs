//! Opening a model: a directory, whose files are all of one generation, or a single file.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

use super::{
    config::Config,
    container::Header,
    digest,
    history::{FoldIn, read_history},
    index::{OpenedIndex, check_weights, read_index},
    json::quote,
    model::Model,
    schema::Sizes,
    sidecar,
    stream::Stream,
    system::{self, Directory},
    weights::{check_version, read_weights},
};
use crate::{
    csr::Csr,
    error::{Error, Result},
    ids::Ids,
};

/// A model as [`open`] read it, whole, into private memory.
#[derive(Debug)]
pub struct Opened {
    /// The weights.
    pub model: Model,
    /// The interactions known at training time, one row per user.
    pub seen: Option<Csr>,
    /// How histories become user vectors.
    pub history: Option<FoldIn>,
    /// The external ids of the users.
    pub users: Option<Ids>,
    /// The external ids of the items.
    pub items: Option<Ids>,
    /// The generation: the `model_id` of all the files. A single file may lack one.
    pub model_id: Option<String>,
    /// The approximate index, or the sentence that refuses it: the model serves without one too.
    pub index: Option<std::result::Result<OpenedIndex, String>>,
    /// SHA-256, in hexadecimal, over all files that were read but the index, as `README.md` in this folder defines it.
    pub digest: String,
    /// SHA-256, in hexadecimal, of model.safetensors in a directory.
    pub weights_digest: Option<String>,
}

/// Reads a model directory or a single model file. The interrupt check `check` is called at least every 8 MiB and every
/// 50 ms; its error aborts the read.
///
/// If a new generation is published meanwhile, the result is the old generation or the new one, never a mix.
///
/// # Errors
/// [`Error::Io`] if the path does not exist or cannot be read, [`Error::Format`] if it is not a valid model,
/// [`Error::Memory`], or the error of `check`.
pub fn open(path: &Path, check: &mut dyn FnMut() -> Result<()>) -> Result<Opened> {
    open_admitted(path, &|_, _| Ok(()), check)
}

/// Decides by the sizes of a model, and by the bytes of its files but model.safetensors, whether it is read; its error
/// is returned.
pub type Admit<'a> = dyn Fn(&Sizes, u64) -> Result<()> + 'a;

/// [`open`], but asks `admit` before any weights are read.
///
/// # Errors
/// As for [`open`], or the error of `admit`.
pub fn open_admitted(path: &Path, admit: &Admit<'_>, check: &mut dyn FnMut() -> Result<()>) -> Result<Opened> {
    // An attempt fails only if a publication hits the microseconds that it takes to open the files.
    const ATTEMPTS: usize = 1000;
    for _ in 0..ATTEMPTS {
        check()?;
        let entry = open_entry(path).map_err(|error| error.within(path.display()))?;
        match entry {
            OpenEntry::File(model) => return read_single(model, admit, check),
            OpenEntry::Directory(directory) => {
                if let Some(files) = Files::open(&directory, path)? {
                    return files.read(admit, check);
                }
            }
        }
    }
    let doing = format!("{}: the directory was replaced during each of {ATTEMPTS} attempts to open it", path.display());
    Err(Error::Io { doing, source: io::ErrorKind::ResourceBusy.into() })
}

/// An open file or directory.
pub(super) enum OpenEntry {
    File(ModelFile),
    Directory(Directory),
}

pub(super) fn open_entry(path: &Path) -> Result<OpenEntry> {
    match system::open_file(path).map_err(cannot_open)? {
        Ok(directory) => Ok(OpenEntry::Directory(directory)),
        Err(file) => Ok(OpenEntry::File(ModelFile::new(file, path.to_owned())?)),
    }
}

fn cannot_open(source: io::Error) -> Error {
    Error::Io { doing: "cannot open".to_owned(), source }
}

/// An open regular file, with its path for error messages.
pub(super) struct ModelFile {
    file: File,
    pub(super) path: PathBuf,
    length: u64,
}

impl ModelFile {
    fn new(file: File, path: PathBuf) -> Result<Self> {
        let metadata = file.metadata().map_err(cannot_open)?;
        if !metadata.is_file() {
            return Err(Error::Format("neither a regular file nor a directory".to_owned()));
        }
        Ok(ModelFile { file, path, length: metadata.len() })
    }

    /// Runs `read` on the file's bytes, and returns its result with the digest; its errors name the path.
    pub(super) fn read<T>(
        mut self,
        check: &mut dyn FnMut() -> Result<()>,
        read: impl FnOnce(&mut Stream<'_>) -> Result<T>,
    ) -> Result<(T, String)> {
        let mut stream = Stream::new(&mut self.file, self.length, check);
        let result = read(&mut stream).map(|content| (content, stream.digest()));
        result.map_err(|error| error.within(self.path.display()))
    }

    /// Reads the file `name` of the model that `config` describes: checks size and digest, format and generation.
    pub(super) fn read_part<T>(
        self,
        name: &str,
        config: &OpenConfig,
        check: &mut dyn FnMut() -> Result<()>,
        read: impl FnOnce(&mut Stream<'_>, Header) -> Result<T>,
    ) -> Result<(T, String)> {
        let (path, length) = (self.path.clone(), self.length);
        let within = |error: Error| error.within(path.display());
        let listed = config.config.listed(name).map_err(within)?;
        if let Some(listed) = listed
            && listed.size != length
        {
            let (size, place) = (listed.size, config.path.display());
            return Err(within(Error::Format(format!("{length} bytes long, expected {size} by {place}"))));
        }
        let (content, digest) = self.read(check, |stream| {
            let header = Header::read(stream)?;
            check_version(&header.metadata)?;
            config.check_same_set(&header)?;
            read(stream, header)
        })?;
        if let Some(listed) = listed {
            digest::compare(&listed.sha256, &digest, config.path.display()).map_err(within)?;
        }
        Ok((content, digest))
    }

    /// Reads `index.safetensors` of the model that `config` describes, of `items` items, whose model.safetensors has
    /// the SHA-256 `weights`. It may be newer than config.json, so it states its own digest.
    fn read_index(
        self,
        config: &OpenConfig,
        weights: &str,
        items: usize,
        check: &mut dyn FnMut() -> Result<()>,
    ) -> Result<OpenedIndex> {
        let path = self.path.clone();
        let ((saved, own), digest) = self.read(check, |stream| {
            let header = Header::read(stream)?;
            check_version(&header.metadata)?;
            config.check_same_set(&header)?;
            check_weights(&header.metadata, weights)?;
            let own = header.blank_own_digest(stream)?;
            let own = own.ok_or_else(|| Error::Format("metadata: the key \"sha256\" is missing".to_owned()))?;
            Ok((read_index(stream, &header, items)?, own))
        })?;
        digest::compare(&own, &digest, "its own metadata").map_err(|error| error.within(path.display()))?;
        Ok(OpenedIndex { saved, digest })
    }
}

fn read_single(file: ModelFile, admit: &Admit<'_>, check: &mut dyn FnMut() -> Result<()>) -> Result<Opened> {
    let path = file.path.clone();
    let ((model, own), digest) = file.read(check, |stream| {
        let header = Header::read(stream)?;
        let own = header.blank_own_digest(stream)?;
        Ok((read_weights(stream, header, &|sizes| admit(sizes, 0))?, own))
    })?;
    if let Some(own) = own {
        digest::compare(&own, &digest, "its own metadata").map_err(|error| error.within(path.display()))?;
    }
    let model_id = model.metadata().get("model_id").map(str::to_owned);
    Ok(Opened {
        model,
        seen: None,
        history: None,
        users: None,
        items: None,
        model_id,
        index: None,
        digest,
        weights_digest: None,
    })
}

/// The files of one generation of a model directory; all are opened before any is read.
struct Files {
    config: ModelFile,
    model: ModelFile,
    seen: Option<ModelFile>,
    history: Option<ModelFile>,
    ids: Option<ModelFile>,
    index: Option<ModelFile>,
}

impl Files {
    /// Opens the files relative to the open `directory`, which stays the same generation even if `path` is replaced.
    /// `None` if `path` has been replaced by the time all are open: the old generation's files may be partly removed.
    fn open(directory: &Directory, path: &Path) -> Result<Option<Self>> {
        let find = |name: &str| open_in(directory, path, name);
        let files = [
            find("config.json")?,
            find("model.safetensors")?,
            find("seen.safetensors")?,
            find("history.safetensors")?,
            find("ids.safetensors")?,
            find("index.safetensors")?,
        ];
        if !directory.is_at(path) {
            return Ok(None);
        }
        match files {
            [Some(config), Some(model), seen, history, ids, index] => {
                Ok(Some(Files { config, model, seen, history, ids, index }))
            }
            [_, None, ..] => Err(Error::Format(format!(
                "{}: no model.safetensors in this directory; expected a model directory, which holds model.safetensors and \
                 config.json, or the path of a single .safetensors file",
                path.display()
            ))),
            [None, ..] => Err(Error::Format(format!(
                "{}: no config.json beside model.safetensors; a model directory needs both (to read the weights alone, \
                 pass the path of model.safetensors)",
                path.display()
            ))),
        }
    }

    fn read(self, admit: &Admit<'_>, check: &mut dyn FnMut() -> Result<()>) -> Result<Opened> {
        let Files { config, model, seen, history, ids, index } = self;
        let config = OpenConfig::read(config, check)?;
        let lost = [("history.safetensors", history.is_none()), ("ids.safetensors", ids.is_none())];
        if let Some((name, _)) = lost.into_iter().find(|&(name, absent)| absent && config.config.lists(name)) {
            return Err(config.lost(name));
        }

        let other = [&seen, &history, &ids].into_iter().flatten().map(|file| file.length).sum();
        let mut digest = Sha256::new();
        digest.update(digest::line(&config.digest, "config.json"));
        let mut read = Parts { config: &config, digest: &mut digest, check };
        let (model, weights_digest) = read.part("model.safetensors", model, |stream, header| {
            read_weights(stream, header, &|sizes| admit(sizes, other))
        })?;
        config.config.check(&model).map_err(|error| error.within(config.path.display()))?;
        let (num_users, num_items) = (model.num_users(), model.num_items());
        let seen = seen.map(|file| {
            read.part("seen.safetensors", file, |stream, header| {
                sidecar::read_seen(stream, &header, num_users, num_items)
            })
        });
        let (seen, _) = seen.transpose()?.unzip();
        let history = history
            .map(|file| read.part("history.safetensors", file, |stream, header| read_history(stream, header, &model)));
        let (history, _) = history.transpose()?.unzip();
        let ids = ids.map(|file| {
            read.part("ids.safetensors", file, |stream, header| {
                sidecar::read_ids(stream, &header, num_users, num_items)
            })
        });
        let (users, items) = ids.transpose()?.map(|(ids, _)| ids).unzip();
        let index = index.map(|file| file.read_index(&config, &weights_digest, num_items, check));
        let index = match index {
            None => None,
            Some(Ok(index)) => Some(Ok(index)),
            Some(Err(error @ (Error::Format(_) | Error::Io { .. }))) => Some(Err(error.to_string())),
            Some(Err(other)) => return Err(other),
        };
        let (model_id, digest) = (Some(config.config.model_id), digest::hexadecimal(digest.finalize()));
        Ok(Opened { model, seen, history, users, items, model_id, index, digest, weights_digest: Some(weights_digest) })
    }
}

/// Reads the parts of one model, each with its digest, and adds that to the digest of the model.
struct Parts<'a> {
    config: &'a OpenConfig,
    digest: &'a mut Sha256,
    check: &'a mut dyn FnMut() -> Result<()>,
}

impl Parts<'_> {
    fn part<T>(
        &mut self,
        name: &str,
        file: ModelFile,
        read: impl FnOnce(&mut Stream<'_>, Header) -> Result<T>,
    ) -> Result<(T, String)> {
        let (content, digest) = file.read_part(name, self.config, self.check, read)?;
        self.digest.update(digest::line(&digest, name));
        Ok((content, digest))
    }
}

/// The config.json of an open model directory.
pub(super) struct OpenConfig {
    pub(super) config: Config,
    pub(super) path: PathBuf,
    digest: String,
}

impl OpenConfig {
    pub(super) fn read(file: ModelFile, check: &mut dyn FnMut() -> Result<()>) -> Result<Self> {
        let path = file.path.clone();
        let (config, digest) = file.read(check, Config::read)?;
        Ok(OpenConfig { config, path, digest })
    }

    /// The error that the file `name`, which is listed, is not there.
    pub(super) fn lost(&self, name: &str) -> Error {
        let place = self.path.display();
        Error::Format(format!("{}: missing, but listed in {place}", self.path.with_file_name(name).display()))
    }

    /// Rejects a file whose `model_id` differs from that of config.json.
    fn check_same_set(&self, header: &Header) -> Result<()> {
        let expected = quote(&self.config.model_id);
        let config_path = self.path.display();
        match header.metadata.get("model_id") {
            Some(model_id) if model_id == self.config.model_id => Ok(()),
            Some(model_id) => Err(Error::Format(format!(
                "files of different models: model_id {} here, {expected} in {config_path}",
                quote(model_id)
            ))),
            None => {
                Err(Error::Format(format!("files of different models: no model_id here, {expected} in {config_path}")))
            }
        }
    }
}

/// Opens the file `name` of the open `directory` at `path`; `None` if there is none.
pub(super) fn open_in(directory: &Directory, path: &Path, name: &str) -> Result<Option<ModelFile>> {
    let path = path.join(name);
    let found = match directory.open_file(name) {
        Ok(Some(file)) => ModelFile::new(file, path.clone()).map(Some),
        Ok(None) => Ok(None),
        Err(error) => Err(cannot_open(error)),
    };
    found.map_err(|error| error.within(path.display()))
}
