//! A packed charm: what is in the file that somebody gave us, before any controller gets it.

use super::charm::{Base, ResourceMeta};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::path::Path;
use zip::ZipArchive;

/// The most that a controller takes (juju's apiserver/internal/handlers/objects).
const LARGEST: u64 = 500 << 20;

/// The most that one of the files inside is read for.
const LARGEST_INSIDE: u64 = 1 << 20;

/// Why a file is no charm.
#[derive(Debug, thiserror::Error)]
pub enum Unpackable {
    /// It is not there, or may not be read.
    #[error("it cannot be read ({0})")]
    Unreadable(#[from] io::Error),
    /// What is published in place of a file that everybody brings along themselves.
    #[error("it is empty, as the placeholder is that comes with the coordinator")]
    Empty,
    /// No controller would take it.
    #[error("it has {} MiB, and a controller takes no more than {}", .0 >> 20, LARGEST >> 20)]
    TooLarge(u64),
    /// It is something else.
    #[error("it is no packed charm ({0})")]
    NoArchive(String),
    /// A file that every packed charm has.
    #[error("it is no packed charm (there is no {0} in it)")]
    Lacks(&'static str),
    /// One of the files inside.
    #[error("its {name} cannot be read ({why})")]
    Inside {
        /// The file's name.
        name: &'static str,
        /// What the parser met.
        why: String,
    },
}

/// A packed charm, open: what is read and what is uploaded later is the same file, whatever becomes of its name.
#[derive(Debug)]
pub struct CharmArchive {
    pub(super) file: File,
    /// SHA-256 of the whole file, in hexadecimal digits.
    pub sha256: String,
    /// The charm's name.
    pub name: String,
    /// The endpoints that provide, with their interfaces.
    pub provides: BTreeMap<String, String>,
    /// The endpoints that require, with their interfaces.
    pub requires: BTreeMap<String, String>,
    /// The names of its actions.
    pub actions: Vec<String>,
    /// Its resources, by name.
    pub resources: BTreeMap<String, ResourceMeta>,
    /// What it says that it runs on; nothing where it does not say.
    pub bases: Vec<Base>,
}

#[derive(Deserialize)]
struct Metadata {
    name: String,
    #[serde(default)]
    provides: Option<BTreeMap<String, Value>>,
    #[serde(default)]
    requires: Option<BTreeMap<String, Value>>,
    #[serde(default)]
    resources: Option<BTreeMap<String, Declared>>,
}

#[derive(Deserialize)]
struct Declared {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    filename: String,
    #[serde(default)]
    description: String,
}

#[derive(Default, Deserialize)]
struct Manifest {
    #[serde(default)]
    bases: Vec<Base>,
}

impl CharmArchive {
    /// Opens a file and reads what it holds.
    ///
    /// # Errors
    /// Why it is no charm.
    pub fn open(path: &Path) -> Result<Self, Unpackable> {
        let mut file = File::open(path)?;
        match file.metadata()?.len() {
            0 => return Err(Unpackable::Empty),
            size if size > LARGEST => return Err(Unpackable::TooLarge(size)),
            _ => {}
        }
        let mut archive = ZipArchive::new(&file).map_err(|error| Unpackable::NoArchive(error.to_string()))?;
        let metadata: Metadata = inside(&mut archive, "metadata.yaml")?.ok_or(Unpackable::Lacks("metadata.yaml"))?;
        let manifest: Manifest = inside(&mut archive, "manifest.yaml")?.unwrap_or_default();
        let actions: Option<BTreeMap<String, Value>> = inside(&mut archive, "actions.yaml")?;
        let sha256 = digest(&mut file)?;
        Ok(Self {
            file,
            sha256,
            name: metadata.name,
            provides: interfaces(metadata.provides),
            requires: interfaces(metadata.requires),
            actions: actions.unwrap_or_default().into_keys().collect(),
            resources: metadata.resources.unwrap_or_default().into_iter().map(resource).collect(),
            bases: manifest.bases,
        })
    }
}

/// SHA-256 of a file.
fn digest(file: &mut File) -> io::Result<String> {
    file.rewind()?;
    let (mut hasher, mut buffer) = (Sha256::new(), vec![0; 1 << 16]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex(&hasher.finalize())),
            read => hasher.update(buffer.get(..read).unwrap_or_default()),
        }
    }
}

/// One of the YAML files inside, if it is there.
fn inside<T: DeserializeOwned>(archive: &mut ZipArchive<&File>, name: &'static str) -> Result<Option<T>, Unpackable> {
    let unreadable = |why: String| Unpackable::Inside { name, why };
    let found = match archive.by_name(name) {
        Ok(found) => found,
        Err(zip::result::ZipError::FileNotFound) => return Ok(None),
        Err(error) => return Err(unreadable(error.to_string())),
    };
    let mut text = String::new();
    found.take(LARGEST_INSIDE).read_to_string(&mut text).map_err(|error| unreadable(error.to_string()))?;
    // A file that holds nothing declares nothing.
    serde_yaml::from_str(&text).map_err(|error| unreadable(error.to_string()))
}

/// An endpoint is declared by a map, or by its interface alone.
fn interfaces(declared: Option<BTreeMap<String, Value>>) -> BTreeMap<String, String> {
    let interface = |value: &Value| value.as_str().or_else(|| value.get("interface")?.as_str()).map(str::to_owned);
    let named = |(name, value): (String, Value)| Some((name, interface(&value)?));
    declared.unwrap_or_default().into_iter().filter_map(named).collect()
}

fn resource((name, declared): (String, Declared)) -> (String, ResourceMeta) {
    let Declared { kind, filename: path, description } = declared;
    (name.clone(), ResourceMeta { name, kind, path, description })
}

/// Bytes as hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use zip::write::{SimpleFileOptions, ZipWriter};

    const METADATA: &str = "
name: kratos
summary: s
description: d
provides: {kratos-info: kratos_info}
requires:
  pg-database: {interface: postgresql_client, limit: 1}
resources:
  oci-image: {type: oci-image, description: the server}
";

    fn opened(name: &str, content: &[u8]) -> Result<CharmArchive, Unpackable> {
        let path = std::env::temp_dir().join(format!("archive-{name}-{}", std::process::id()));
        std::fs::write(&path, content).unwrap();
        let opened = CharmArchive::open(&path);
        std::fs::remove_file(&path).unwrap();
        opened
    }

    fn packed(files: &[(&str, &str)]) -> Vec<u8> {
        let mut writer = ZipWriter::new(io::Cursor::new(Vec::new()));
        for (name, text) in files {
            writer.start_file(*name, SimpleFileOptions::default()).unwrap();
            writer.write_all(text.as_bytes()).unwrap();
        }
        writer.finish().unwrap().into_inner()
    }

    #[test]
    fn what_a_charm_declares_is_read_and_the_file_stays_whole() {
        let manifest = "bases:\n- {name: ubuntu, channel: '22.04', architectures: [amd64]}\n";
        let content = packed(&[
            ("metadata.yaml", METADATA),
            ("manifest.yaml", manifest),
            ("actions.yaml", "run-migration: {description: d}\n"),
        ]);
        let mut charm = opened("good", &content).unwrap();
        assert_eq!(charm.name, "kratos");
        assert_eq!(charm.provides["kratos-info"], "kratos_info");
        assert_eq!(charm.requires["pg-database"], "postgresql_client");
        assert_eq!(charm.actions, ["run-migration"]);
        assert_eq!(charm.resources["oci-image"].kind, "oci-image");
        assert!(charm.bases[0].is_like(&Base { name: "ubuntu".into(), channel: "22.04/stable".into() }));
        assert_eq!(charm.sha256, hex(&Sha256::digest(&content)));
        let mut uploaded = Vec::new();
        charm.file.rewind().unwrap();
        charm.file.read_to_end(&mut uploaded).unwrap();
        assert_eq!(uploaded, content);
    }

    #[test]
    fn what_is_no_charm_is_told() {
        for (name, content, says) in [
            ("empty", Vec::new(), "it is empty"),
            ("text", b"this is no archive".to_vec(), "it is no packed charm ("),
            ("cut", packed(&[("metadata.yaml", METADATA)])[..200].to_vec(), "it is no packed charm ("),
            ("other", packed(&[("readme", "hello")]), "(there is no metadata.yaml in it)"),
            ("nameless", packed(&[("metadata.yaml", "summary: s\n")]), "its metadata.yaml cannot be read ("),
        ] {
            let found = opened(name, &content).unwrap_err().to_string();
            assert!(found.contains(says), "{name}: {found}");
        }
        assert!(
            CharmArchive::open(Path::new("/nowhere/kratos.charm")).unwrap_err().to_string().contains("No such file")
        );
    }
}
