//! Taking a model over: look at it, hash it, put it into the library's folder.
//!
//! It may be a file in GGUF (a model or an adapter), an adapter in safetensors, a folder as PEFT saves
//! one, or a model's folder of Hugging Face's form. Files are linked where the file system can, so that
//! they lie on the disk once; else copied. Nothing is taken over that the engine could not open.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use openledger_models::{
    Adapter, AdapterBundle, AdapterError, BundleError, Gguf, MapError, Mapped, Model, ModelConfig,
    ModelError,
};
use openledger_wire::BlobId;
use thiserror::Error;

use super::folder;
use super::library::{Entry, EntryKind, Library, LibraryError, plain_name};
use crate::data_dir::write_private;
use crate::limits;

/// PEFT's names for the two files of an adapter.
const ADAPTER_CONFIG: &str = "adapter_config.json";
const ADAPTER_TENSORS: &str = "adapter_model.safetensors";
/// How files in GGUF begin.
const GGUF: &[u8] = b"GGUF";

/// Why a file was not taken over.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AddError {
    /// The file could not be read or placed.
    #[error("{action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// The file could not be mapped.
    #[error(transparent)]
    Map(#[from] MapError),
    /// It is no model that the engine can open.
    #[error("take {} over: {source}", path.display())]
    Model {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: ModelError,
    },
    /// It is no adapter that the engine can open.
    #[error("take {} over: {source}", path.display())]
    Adapter {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: AdapterError,
    },
    /// It cannot be packed.
    #[error("take {} over: {source}", path.display())]
    Pack {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: BundleError,
    },
    /// It fits no base that is here, or several.
    #[error(
        "take adapter {} over: {problem}; add its base model first, and name it with --base",
        path.display()
    )]
    NoBase {
        /// The file.
        path: PathBuf,
        /// What was looked for.
        problem: String,
    },
    /// Another file than was named.
    #[error("take {} over: it has the id {found}, {wanted} was wanted", path.display())]
    OtherId {
        /// The file.
        path: PathBuf,
        /// Its id.
        found: BlobId,
        /// The one wanted.
        wanted: BlobId,
    },
    /// The library.
    #[error(transparent)]
    Library(#[from] LibraryError),
}

/// How a file is taken over.
#[derive(Clone, Debug, Default)]
pub struct AddOptions {
    /// Its name; from the file if left out.
    pub name: Option<String>,
    /// The base of an adapter, by name or id; the one that it fits if left out.
    pub base: Option<String>,
    /// Use the file where it lies.
    pub in_place: bool,
    /// Where it came from, pinned, if from a hub.
    pub source: Option<String>,
}

/// What a file is, once it was looked at.
struct Looked {
    kind: EntryKind,
    base: Option<BlobId>,
    /// The file to place, or bytes made of several.
    content: Content,
}

enum Content {
    File(PathBuf),
    Folder(PathBuf),
    Bytes(Vec<u8>),
}

/// Takes a file or folder over.
/// Blocking; hashing takes a second for each gigabyte.
///
/// # Errors
/// [`AddError`]; the library is unchanged then.
pub fn add(library: &Library, file: &Path, options: &AddOptions) -> Result<Entry, AddError> {
    let file = fs::canonicalize(file).map_err(|source| io_error("open", file, source))?;
    let looked = look(library, &file, options)?;
    let (blob, bytes, path) = place(library, looked.content, looked.kind, options.in_place)?;
    let name = match &options.name {
        Some(name) => plain_name(name),
        None => match library.get(&blob) {
            Some(known) => known.name,
            None => library.free_name(&name_of(&file), blob),
        },
    };
    let (kind, base, problem) = (looked.kind, looked.base, None);
    let source = options.source.clone();
    Ok(library.note(Entry { name, blob, bytes, kind, base, path, source, problem })?)
}

/// Looks at a file that came from a peer and lies in its place already.
///
/// # Errors
/// [`AddError`]; whoever placed it removes it then.
pub(super) fn examine(
    library: &Library,
    path: &Path,
    blob: BlobId,
    kind: EntryKind,
    base: Option<BlobId>,
) -> Result<u64, AddError> {
    let mapped = Mapped::open(path)?;
    let found = BlobId::of(&mapped);
    if found != blob {
        return Err(AddError::OtherId { path: path.to_owned(), found, wanted: blob });
    }
    let bytes = mapped.len() as u64;
    match kind {
        EntryKind::Base => {
            let opened = Model::from_mapped(mapped);
            opened.map_err(|source| AddError::Model { path: path.to_owned(), source })?;
        }
        EntryKind::Adapter => {
            let base = base.and_then(|base| library.get(&base));
            if let Some(config) = base.and_then(|base| shape_of(&base.path)) {
                adapter(path, &mapped, &config)?;
            }
        }
    }
    Ok(bytes)
}

fn io_error(action: &'static str, path: &Path, source: io::Error) -> AddError {
    AddError::Io { action, path: path.to_owned(), source }
}

fn look(library: &Library, file: &Path, options: &AddOptions) -> Result<Looked, AddError> {
    if folder::is_model(file) {
        let opened = Model::open(file);
        opened.map_err(|source| AddError::Model { path: file.to_owned(), source })?;
        let content = Content::Folder(file.to_owned());
        return Ok(Looked { kind: EntryKind::Base, base: None, content });
    }
    if file.is_dir() {
        let read = |name: &str| read(&file.join(name));
        return pack(library, file, &read(ADAPTER_CONFIG)?, &read(ADAPTER_TENSORS)?, options);
    }
    if is_gguf_adapter(file)? {
        let base = base_of(library, file, &Mapped::open(file)?, options)?;
        let content = Content::File(file.to_owned());
        return Ok(Looked { kind: EntryKind::Adapter, base: Some(base), content });
    }
    if file.extension().is_none_or(|extension| extension != "safetensors") {
        let content = Content::File(file.to_owned());
        let opened = Model::open(file);
        opened.map_err(|source| AddError::Model { path: file.to_owned(), source })?;
        return Ok(Looked { kind: EntryKind::Base, base: None, content });
    }
    let mapped = Mapped::open(file)?;
    let beside = file.with_file_name(ADAPTER_CONFIG);
    if matches!(AdapterBundle::config(&mapped), Err(BundleError::NoConfig)) && beside.is_file() {
        return pack(library, file, &read(&beside)?, &mapped, options);
    }
    let base = base_of(library, file, &mapped, options)?;
    let content = Content::File(file.to_owned());
    Ok(Looked { kind: EntryKind::Adapter, base: Some(base), content })
}

/// An adapter of two files becomes one.
fn pack(
    library: &Library,
    file: &Path,
    config: &[u8],
    tensors: &[u8],
    options: &AddOptions,
) -> Result<Looked, AddError> {
    let packed = AdapterBundle::pack(config, tensors)
        .map_err(|source| AddError::Pack { path: file.to_owned(), source })?;
    let base = base_of(library, file, &packed, options)?;
    Ok(Looked { kind: EntryKind::Adapter, base: Some(base), content: Content::Bytes(packed) })
}

fn read(path: &Path) -> Result<Vec<u8>, AddError> {
    let failed = |source| io_error("read", path, source);
    let mut bytes = Vec::new();
    let file = fs::File::open(path).map_err(failed)?;
    file.take(limits::ADAPTER_BYTES_MAX).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

/// An adapter in one file, of either form.
fn adapter(path: &Path, file: &[u8], config: &ModelConfig) -> Result<Adapter, AddError> {
    let read = if file.starts_with(GGUF) {
        Adapter::from_gguf(file, config)
    } else {
        Adapter::from_bundle(file, config)
    };
    read.map_err(|source| AddError::Adapter { path: path.to_owned(), source })
}

/// Whether a file is in GGUF and says that it is an adapter. One that does not read is none: what is
/// wrong with it is told of it as a model.
fn is_gguf_adapter(file: &Path) -> Result<bool, AddError> {
    let mapped = Mapped::open(file)?;
    if !mapped.starts_with(GGUF) {
        return Ok(false);
    }
    let kind = Gguf::parse(&mapped)
        .ok()
        .and_then(|gguf| gguf.text("general.type").ok().flatten().map(str::to_owned));
    Ok(kind.is_some_and(|kind| kind == "adapter"))
}

/// The shape of a base model's file or folder; `None` where it does not read.
pub(crate) fn shape_of(path: &Path) -> Option<ModelConfig> {
    if path.is_dir() {
        let config = Mapped::open(&path.join("config.json")).ok()?;
        return ModelConfig::from_json(&config).ok();
    }
    let mapped = Mapped::open(path).ok()?;
    let gguf = Gguf::parse(&mapped).ok()?;
    ModelConfig::from_gguf(&gguf, &mapped).ok()
}

/// The base of an adapter: the one named, else the only one that it fits.
fn base_of(
    library: &Library,
    file: &Path,
    bundle: &[u8],
    options: &AddOptions,
) -> Result<BlobId, AddError> {
    let no_base = |problem: String| AddError::NoBase { path: file.to_owned(), problem };
    if let Some(named) = &options.base {
        let base = library.find(named)?;
        let config = shape_of(&base.path)
            .ok_or_else(|| no_base(format!("its base {} cannot be opened", base.name)))?;
        adapter(file, bundle, &config)?;
        return Ok(base.blob);
    }
    let bases = library.entries();
    let bases: Vec<&Entry> = bases.iter().filter(|one| one.kind == EntryKind::Base).collect();
    let mut fitting = Vec::new();
    let mut misfit = None;
    for base in &bases {
        let Some(config) = shape_of(&base.path) else { continue };
        match adapter(file, bundle, &config) {
            Ok(_) => fitting.push(*base),
            Err(error) => misfit = Some(error),
        }
    }
    match (fitting.as_slice(), bases.len(), misfit) {
        ([one], ..) => Ok(one.blob),
        ([], 0, _) => Err(no_base("there is no base model here".to_owned())),
        // With a single base the reason is the best message.
        ([], 1, Some(error)) => Err(error),
        ([], ..) => Err(no_base("it fits none of the base models here".to_owned())),
        (several, ..) => {
            let names: Vec<&str> = several.iter().map(|base| base.name.as_str()).collect();
            Err(no_base(format!("it fits {}", names.join(" and "))))
        }
    }
}

/// Puts content where the library keeps it; gives id, length and path.
fn place(
    library: &Library,
    content: Content,
    kind: EntryKind,
    in_place: bool,
) -> Result<(BlobId, u64, PathBuf), AddError> {
    let file = match content {
        Content::Bytes(bytes) => {
            let blob = BlobId::of(&bytes);
            let path = library.place(blob, kind);
            make_folder(library)?;
            write_private(&path, &bytes).map_err(LibraryError::from)?;
            return Ok((blob, bytes.len() as u64, path));
        }
        Content::Folder(from) => return place_folder(library, &from, in_place),
        Content::File(file) => file,
    };
    // Notes lie there, too.
    make_folder(library)?;
    if in_place {
        let mapped = Mapped::open(&file)?;
        return Ok((BlobId::of(&mapped), mapped.len() as u64, file));
    }
    let draft = library.folder().join(format!("adding-{}.draft", std::process::id()));
    let placed = link(&file, &draft).and_then(|()| {
        let mapped = Mapped::open(&draft)?;
        let (blob, bytes) = (BlobId::of(&mapped), mapped.len() as u64);
        let path = library.place(blob, kind);
        fs::rename(&draft, &path).map_err(|source| io_error("place", &path, source))?;
        Ok((blob, bytes, path))
    });
    if placed.is_err() || draft.exists() {
        // A rename onto another link of the same file leaves both, as POSIX has it.
        let _ = fs::remove_file(&draft);
    }
    placed
}

/// The same for a model's folder: its files, linked into one of ours.
fn place_folder(
    library: &Library,
    from: &Path,
    in_place: bool,
) -> Result<(BlobId, u64, PathBuf), AddError> {
    let (blob, bytes) = folder::id(from)?;
    make_folder(library)?;
    if in_place {
        return Ok((blob, bytes, from.to_owned()));
    }
    let path = library.folder().join(blob.to_string());
    let draft = library.folder().join(format!("adding-{}.folder", std::process::id()));
    let failed = |source| io_error("place", &path, source);
    let _ = fs::remove_dir_all(&draft);
    fs::create_dir(&draft).map_err(failed)?;
    let placed = || {
        let names = folder::files(from).map_err(|source| io_error("read", from, source))?;
        for name in names {
            link(&from.join(&name), &draft.join(&name))?;
        }
        let _ = fs::remove_dir_all(&path);
        fs::rename(&draft, &path).map_err(failed)
    };
    let placed = placed();
    if placed.is_err() {
        let _ = fs::remove_dir_all(&draft);
    }
    placed.map(|()| (blob, bytes, path.clone()))
}

fn make_folder(library: &Library) -> Result<(), AddError> {
    let folder = library.folder();
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt as _;
        builder.mode(0o700);
    }
    builder.recursive(true).create(folder).map_err(|source| io_error("create", folder, source))
}

/// A second name for the file, or a copy where the file system has no such thing.
fn link(file: &Path, draft: &Path) -> Result<(), AddError> {
    let _ = fs::remove_file(draft);
    if fs::hard_link(file, draft).is_ok() {
        return Ok(());
    }
    fs::copy(file, draft).map_err(|source| io_error("copy", file, source))?;
    Ok(())
}

/// A name from a file's: its own, or its folder's where PEFT gave it the same name as all others.
fn name_of(file: &Path) -> String {
    let stem = |path: &Path| path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    let own = stem(file).unwrap_or_default();
    let is_common = file.file_name().is_some_and(|name| name == ADAPTER_TENSORS);
    let folder = if is_common { file.parent().and_then(stem) } else { None };
    let name = if file.is_dir() {
        file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    } else {
        folder.unwrap_or(own)
    };
    plain_name(&name)
}
