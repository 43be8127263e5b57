//! Where the descriptions of services come from: `.proto` files, or a set that `protoc` has compiled.

use std::collections::BTreeSet;
use std::path::{Path as FilePath, PathBuf};

use prost_reflect::prost_types::FileDescriptorProto;
use prost_reflect::{DescriptorPool, FileDescriptor, MethodDescriptor, ServiceDescriptor};
use protox::Compiler;
use protox::file::{ChainFileResolver, File, FileResolver, GoogleFileResolver, IncludeFileResolver};

use super::Config;
use crate::problem::{Path, Problems};

/// What everybody imports and hardly anybody ships, and what errors are told with.
const OURS: [(&str, &str); 3] = [
    ("google/api/http.proto", include_str!("google/http.proto")),
    ("google/api/annotations.proto", include_str!("google/annotations.proto")),
    ("google/rpc/error_details.proto", include_str!("google/error_details.proto")),
];

struct Ours;

impl FileResolver for Ours {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        match OURS.iter().find(|(ours, _)| *ours == name) {
            Some((name, text)) => File::from_source(name, text),
            None => Err(protox::Error::file_not_found(name)),
        }
    }
}

/// What was read.
pub(super) struct Described {
    pub pool: DescriptorPool,
    /// The services of the files that the document names, not of those that they import.
    pub services: Vec<ServiceDescriptor>,
    /// Every file of which it came.
    pub files: Vec<PathBuf>,
    /// Where imports are looked for.
    directories: Vec<PathBuf>,
}

/// Reads what the document names; every problem with its file and place.
pub(super) fn read(config: &Config, at: &Path, problems: &mut Problems) -> Option<Described> {
    match (&config.descriptors, config.proto.is_empty()) {
        (Some(file), true) => {
            if !config.import.is_empty() {
                problems.error(at.key("import"), "is for `proto`; a set of `descriptors` holds all that it needs");
            }
            let read = set(file);
            read.map_err(|why| problems.error(at.key("descriptors"), why)).ok()
        }
        (None, false) => sources(config, at, problems),
        _ => {
            problems.error(at.clone(), "takes exactly one of `proto` and `descriptors`");
            None
        }
    }
}

fn set(file: &FilePath) -> Result<Described, String> {
    let name = file.display();
    let bytes = std::fs::read(file).map_err(|why| format!("cannot read {name}: {why}"))?;
    let mut pool = DescriptorPool::decode(bytes.as_slice()).map_err(|why| {
        let hint = if why.to_string().contains("not found") { "; is it made with --include_imports?" } else { "" };
        format!("{name} is no set of descriptors: {why}{hint}")
    })?;
    let services = pool.services().collect();
    // Where it does not fit to what is there, errors are told without it.
    let mut more = pool.clone();
    if add_details(&mut more).is_ok() {
        pool = more;
    }
    Ok(Described { pool, services, files: vec![file.to_owned()], directories: Vec::new() })
}

/// What errors are told with, where the set has nothing of that name.
pub(super) fn add_details(pool: &mut DescriptorPool) -> Result<(), String> {
    if pool.get_message_by_name("google.rpc.BadRequest").is_some() {
        return Ok(());
    }
    let mut all = ChainFileResolver::new();
    all.add(Ours);
    all.add(GoogleFileResolver::new());
    let mut compiler = Compiler::with_file_resolver(all);
    compiler.include_imports(true).open_file(DETAILS).map_err(|why| format!("{why:?}"))?;
    let known = |file: &&FileDescriptorProto| pool.get_file_by_name(file.name()).is_none();
    let missing: Vec<_> = compiler.file_descriptor_set().file.iter().filter(known).cloned().collect();
    pool.add_file_descriptor_protos(missing).map_err(|why| why.to_string())
}

const DETAILS: &str = "google/rpc/error_details.proto";

fn sources(config: &Config, at: &Path, problems: &mut Problems) -> Option<Described> {
    let before = problems.errors();
    for (index, directory) in config.import.iter().enumerate().filter(|(_, directory)| !directory.is_dir()) {
        problems.error(at.key("import").index(index), format!("{} is no directory", directory.display()));
    }
    let directories = directories(config);
    let mut all = ChainFileResolver::new();
    for directory in &directories {
        all.add(IncludeFileResolver::new(directory.clone()));
    }
    all.add(Ours);
    all.add(GoogleFileResolver::new());
    let mut compiler = Compiler::with_file_resolver(all);
    let mut said = BTreeSet::new();
    let mut names = Vec::new();
    for (index, file) in config.proto.iter().enumerate() {
        match compiler.open_file(file) {
            Ok(_) => names.extend(name_of(file, &directories)),
            Err(why) => {
                let sentence = told(&why, file, &directories);
                if said.insert(sentence.clone()) {
                    problems.error(at.key("proto").index(index), sentence);
                }
            }
        }
    }
    if problems.errors() > before {
        return None;
    }
    let files = compiler.files().filter_map(|file| file.path().map(PathBuf::from)).collect();
    // Only who asks for it by an import of his own could be in its way.
    let _ = compiler.open_file(DETAILS);
    let pool = compiler.descriptor_pool();
    let served = names.iter().filter_map(|name| pool.get_file_by_name(name));
    let services = served.flat_map(|file| file.services().collect::<Vec<_>>()).collect();
    Some(Described { pool, services, files, directories })
}

/// Where imports are looked for; a file that lies in none of them is at home in its own directory.
fn directories(config: &Config) -> Vec<PathBuf> {
    let mut directories = config.import.clone();
    for file in &config.proto {
        if name_of(file, &directories).is_none() {
            directories.extend(file.parent().map(PathBuf::from));
        }
    }
    directories
}

/// The name under which others import the file.
fn name_of(file: &FilePath, directories: &[PathBuf]) -> Option<String> {
    let within = directories.iter().find_map(|directory| file.strip_prefix(directory).ok())?;
    Some(within.to_string_lossy().into_owned())
}

/// `protos/shop.proto:3:9: ...`; without a place where there is none.
fn told(why: &protox::Error, file: &FilePath, directories: &[PathBuf]) -> String {
    let full = format!("{why:?}");
    let Some(name) = why.file() else {
        return if file.exists() { full } else { format!("{} does not exist", file.display()) };
    };
    let place = path_of(name, directories).display().to_string();
    match full.strip_prefix(name) {
        Some(rest) => format!("{place}{rest}"),
        None => format!("{place}: {why}"),
    }
}

fn path_of(name: &str, directories: &[PathBuf]) -> PathBuf {
    let found = directories.iter().map(|directory| directory.join(name)).find(|path| path.exists());
    found.unwrap_or_else(|| PathBuf::from(name))
}

impl Described {
    /// Where a method stands: `protos/shop.proto:12`, or its file alone where lines are not known.
    pub(super) fn place(&self, method: &MethodDescriptor) -> String {
        let file: FileDescriptor = method.parent_service().parent_file();
        let path = path_of(file.name(), &self.directories);
        let lines = file.file_descriptor_proto().source_code_info.as_ref();
        let location = lines.and_then(|lines| lines.location.iter().find(|one| one.path == method.path()));
        match location.and_then(|location| location.span.first()) {
            Some(line) => format!("{}:{}", path.display(), line + 1),
            None => path.display().to_string(),
        }
    }
}
