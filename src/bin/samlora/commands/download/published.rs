//! Which checkpoints are published where, and what tells a complete file.

/// A published checkpoint.
pub struct Published {
    pub backbone: &'static str,
    /// Address of the folder that it is in.
    pub base: &'static str,
    /// Its name there.
    pub remote: &'static str,
    /// Its name here.
    pub file: &'static str,
    known: Known,
}

/// What is known of a published file.
enum Known {
    Crc32 { bytes: u64, crc32: u32 },
    Sha256 { bytes: u64, sha256: &'static str },
    Contents { parameters: u64 },
}

/// What the complete file must be.
#[derive(Debug, Clone)]
pub struct Expected {
    /// Its size; none where only the server knows it.
    pub bytes: Option<u64>,
    pub proof: Proof,
}

/// What is compared.
#[derive(Debug, Clone)]
pub enum Proof {
    /// The whole file's CRC-32.
    Crc32(u32),
    /// The whole file's SHA-256, in lower-case hexadecimal.
    Sha256(String),
    /// What the file holds: tensors with the names and shapes of this backbone, and so many parameters.
    Contents { backbone: &'static str, parameters: u64 },
}

impl Published {
    pub fn expected(&self) -> Expected {
        match self.known {
            Known::Crc32 { bytes, crc32 } => Expected { bytes: Some(bytes), proof: Proof::Crc32(crc32) },
            Known::Sha256 { bytes, sha256 } => Expected { bytes: Some(bytes), proof: Proof::Sha256(sha256.into()) },
            Known::Contents { parameters } => {
                Expected { bytes: None, proof: Proof::Contents { backbone: self.backbone, parameters } }
            }
        }
    }
}

impl Expected {
    /// The size, or what floats of 32 bits would take.
    pub fn about(&self) -> u64 {
        match (self.bytes, &self.proof) {
            (Some(bytes), _) => bytes,
            (None, Proof::Contents { parameters, .. }) => 4 * parameters,
            (None, _) => 0,
        }
    }

    /// Whether a file of `bytes` may be it: as many as are known, else 16 to 32 bits a parameter and some more for names.
    pub fn admits(&self, bytes: u64) -> bool {
        let about = self.about();
        self.bytes.map_or((about / 2..=about + about / 8).contains(&bytes), |known| bytes == known)
    }

    /// The size, for messages.
    pub fn size_text(&self) -> String {
        match self.bytes {
            Some(bytes) => bytes.to_string(),
            None => format!("about {}", self.about()),
        }
    }
}

impl Proof {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Crc32(_) => "crc32",
            Self::Sha256(_) => "sha256",
            Self::Contents { .. } => "contents",
        }
    }
}

/// Where Meta publishes SAM's checkpoints.
const META: &str = "https://dl.fbaipublicfiles.com/segment_anything/";

pub const PUBLISHED: [Published; 6] = [
    meta("vit_b", "sam_vit_b_01ec64.pth", 375_042_383, 1_442_441_403),
    meta("vit_l", "sam_vit_l_0b3195.pth", 1_249_524_607, 1_653_302_572),
    meta("vit_h", "sam_vit_h_4b8939.pth", 2_564_550_879, 2_791_087_151),
    slimsam(
        "slimsam_77",
        "https://huggingface.co/Zigeng/SlimSAM-uniform-77/resolve/main/",
        "SlimSAM-uniform-77.safetensors",
        9_723_528,
    ),
    slimsam(
        "slimsam_50",
        "https://huggingface.co/Zigeng/SlimSAM-uniform-50/resolve/main/",
        "SlimSAM-uniform-50.safetensors",
        27_961_776,
    ),
    // The authors' repository, at the commit that public projects pin when they use the file; they agree on its size and SHA-256.
    Published {
        backbone: "mobile_sam",
        base: "https://raw.githubusercontent.com/ChaoningZhang/MobileSAM/f706ad9c4eb7f219c00d9050e46328518ffb65d2/weights/",
        remote: "mobile_sam.pt",
        file: "mobile_sam.pt",
        known: Known::Sha256 {
            bytes: 40_728_226,
            sha256: "6dbb90523a35330fedd7f1d3dfc66f995213d81b29a5ca8108dbcdd4e37d6c2f",
        },
    },
];

const fn meta(backbone: &'static str, file: &'static str, bytes: u64, crc32: u32) -> Published {
    Published { backbone, base: META, remote: file, file, known: Known::Crc32 { bytes, crc32 } }
}

/// The authors' conversion to `SamModel` of Hugging Face.
const fn slimsam(backbone: &'static str, base: &'static str, file: &'static str, parameters: u64) -> Published {
    Published { backbone, base, remote: "model.safetensors", file, known: Known::Contents { parameters } }
}
