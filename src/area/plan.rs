//! What a job is: everything that its result depends on, in a file.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::fingerprint::hex;
use super::grid::{Block, Grid};
use super::place::Place;
use crate::config::Class;
use crate::error::{Error, ErrorKind, Result};
use crate::georef::Georef;
use crate::source::{Raster, Window};
use crate::weights::manifest::Manifest;

/// The version of the job's folder.
const FORMAT: u32 = 1;
/// The largest side of a block in pixels.
const MAX_BLOCK: usize = 8192;
/// The most blocks of a job, whose list is held in memory: 70 million megapixels in blocks of 2,048.
const MAX_BLOCKS: u64 = 1 << 24;

/// What a job is. Two jobs with equal plans have equal results, on devices that compute equal numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Always 1.
    pub format: u32,
    /// The program's name and version.
    pub tool: String,
    /// The network.
    pub model: ModelPlan,
    /// The imagery.
    pub raster: RasterPlan,
    /// Where windows and blocks lie.
    pub grid: GridPlan,
    /// What is segmented.
    pub area: AreaPlan,
    /// [`Augment::name`](super::Augment::name).
    pub augment: String,
}

/// The network of a plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelPlan {
    /// SHA-256 of its manifest, which holds those of its weights.
    pub sha256: String,
    /// SHA-256 of its weights, [`Manifest::content_hash`], as outputs name it.
    #[serde(default)]
    pub weights: String,
    /// Its classes in channel order, background first.
    pub classes: Vec<Class>,
}

impl ModelPlan {
    /// Of a package.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] if the manifest cannot be written as JSON.
    pub fn of(manifest: &Manifest) -> Result<Self> {
        let text = serde_json::to_vec(manifest).map_err(|e| Error::new(ErrorKind::Format, "the manifest").source(e))?;
        let (sha256, weights) = (hex(&Sha256::digest(text)), manifest.content_hash());
        Ok(Self { sha256, weights, classes: manifest.classes.clone() })
    }
}

/// The imagery of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RasterPlan {
    /// What the source is known by; for files [`fingerprint`](super::fingerprint()).
    pub fingerprint: String,
    /// How it is read: bands, zoom.
    pub reading: String,
    /// Its name, for people and for what outputs say of their source.
    #[serde(default)]
    pub name: String,
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Where it lies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
}

/// Windows and blocks of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GridPlan {
    /// [`Grid::origin`].
    pub origin: [i64; 2],
    /// Side of a window in pixels.
    pub input: usize,
    /// Side of a cell in pixels.
    pub tile: usize,
    /// Side of a block in pixels, a multiple of `tile`.
    pub block: usize,
}

/// The area of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AreaPlan {
    /// Column of the raster at which it begins.
    pub x: usize,
    /// Row of the raster at which it begins.
    pub y: usize,
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// What the outline within it is known by, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clip: Option<String>,
    /// The blocks that have any of the outline, as (row, first column, last column); absent if all have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocks: Option<Vec<[i64; 3]>>,
}

impl Plan {
    /// The plan to segment `area`, a window of `raster` that is known by `fingerprint` and read as `reading` says, in blocks of about
    /// `block` pixels a side.
    ///
    /// # Errors
    /// Those of [`Grid::new`] and [`Window::within`]; [`ErrorKind::Invalid`] for a block that is empty or too large.
    pub fn new(
        model: ModelPlan,
        raster: &dyn Raster,
        (fingerprint, reading): (String, String),
        area: Window,
        (input, tile): (usize, usize),
        block: usize,
    ) -> Result<Self> {
        area.within(raster.size())?;
        let grid = Grid::new(raster.size(), raster.georef(), input, tile)?;
        if block == 0 || block > MAX_BLOCK {
            let message = format!("blocks of {block} pixels a side");
            return Err(Error::new(ErrorKind::Invalid, message).remedy(format!("give 1 to {MAX_BLOCK}")));
        }
        let side = grid.block_side(block);
        let (rows, columns) = grid.blocks(side, area);
        let count = |range: std::ops::RangeInclusive<i64>| (range.end() - range.start() + 1) as u64;
        if count(rows).saturating_mul(count(columns)) > MAX_BLOCKS {
            let message =
                format!("{} x {} pixels are more than {MAX_BLOCKS} blocks of {side}", area.width, area.height);
            return Err(Error::new(ErrorKind::Limit, message).remedy("take larger blocks, or several smaller areas"));
        }
        let (width, height) = raster.size();
        Ok(Self {
            format: FORMAT,
            tool: concat!("samlora ", env!("CARGO_PKG_VERSION")).into(),
            model,
            raster: RasterPlan {
                fingerprint,
                reading,
                name: String::new(),
                width,
                height,
                place: raster.georef().map(Place::from),
            },
            grid: GridPlan { origin: grid.origin(), input, tile, block: side },
            area: AreaPlan { x: area.x, y: area.y, width: area.width, height: area.height, clip: None, blocks: None },
            augment: "none".into(),
        })
    }

    /// The area as a window of the raster.
    pub fn window(&self) -> Window {
        Window { x: self.area.x, y: self.area.y, width: self.area.width, height: self.area.height }
    }

    /// The grid.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] if the numbers contradict each other, as in a plan that was changed by hand.
    pub fn grid(&self) -> Result<Grid> {
        let georef = self.raster.place.as_ref().map(Place::georef).transpose()?;
        let GridPlan { origin, input, tile, block } = self.grid;
        let grid = Grid::new((self.raster.width, self.raster.height), georef.as_ref(), input, tile)?;
        self.window().within((self.raster.width, self.raster.height))?;
        if grid.origin() != origin || block == 0 || block > 2 * MAX_BLOCK || block % tile != 0 {
            return Err(
                Error::new(ErrorKind::Format, "the plan's grid is not that of its raster").remedy("start a new job")
            );
        }
        Ok(grid)
    }

    /// Where the area lies.
    ///
    /// # Errors
    /// As [`Place::georef`].
    pub fn georef(&self) -> Result<Option<Georef>> {
        let whole = self.raster.place.as_ref().map(Place::georef).transpose()?;
        Ok(whole.map(|georef| georef.window(self.area.x, self.area.y)))
    }

    /// The blocks and the part of the raster that each is, row by row.
    ///
    /// # Errors
    /// As [`Plan::grid`].
    pub fn blocks(&self) -> Result<Vec<(Block, Window)>> {
        let (grid, area, side) = (self.grid()?, self.window(), self.grid.block);
        let (rows, columns) = grid.blocks(side, area);
        let part = |block: Block| grid.block_part(block, side, area).map(|part| (block, part));
        Ok(match &self.area.blocks {
            None => {
                rows.flat_map(|row| columns.clone().filter_map(move |column| part(Block { row, column }))).collect()
            }
            Some(runs) => {
                // A run beyond the area, in a plan that was changed by hand, must not be walked.
                let within = |&&[row, _, _]: &&[i64; 3]| rows.contains(&row);
                let run = |&[row, first, last]: &[i64; 3]| {
                    let cut = first.max(*columns.start())..=last.min(*columns.end());
                    cut.filter_map(move |column| part(Block { row, column }))
                };
                runs.iter().filter(within).flat_map(run).collect()
            }
        })
    }

    /// The plan as its file has it.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] if it cannot be written as JSON.
    pub fn text(&self) -> Result<String> {
        let text = serde_json::to_string_pretty(self);
        text.map_err(|e| Error::new(ErrorKind::Format, "the plan cannot be written").source(e))
    }

    /// The plan of a file.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] if it is none.
    pub fn parse(text: &str) -> Result<Self> {
        let plan: Self = serde_json::from_str(text)
            .map_err(|e| Error::new(ErrorKind::Format, "is no plan of a job").source(e).remedy("start a new job"))?;
        if plan.format != FORMAT {
            let message = format!("is a plan of format {}, this program knows {FORMAT}", plan.format);
            return Err(Error::new(ErrorKind::Unsupported, message));
        }
        Ok(plan)
    }
}

/// What blocks name their plan by.
pub(super) fn hash(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

/// The names of what differs between two plans, at most five.
pub(super) fn differences(ours: &str, theirs: &str) -> String {
    let mut all = Vec::new();
    match (serde_json::from_str(ours), serde_json::from_str(theirs)) {
        (Ok(ours), Ok(theirs)) => compare("", &ours, &theirs, &mut all),
        _ => all.push("one of them is damaged".into()),
    }
    let more = if all.len() > 5 { format!(", and {} more", all.len() - 5) } else { String::new() };
    all.truncate(5);
    all.join(", ") + &more
}

fn compare(name: &str, ours: &Value, theirs: &Value, all: &mut Vec<String>) {
    match (ours, theirs) {
        (Value::Object(a), Value::Object(b)) => {
            let keys: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for key in keys {
                let place = if name.is_empty() { key.clone() } else { format!("{name}.{key}") };
                compare(&place, a.get(key).unwrap_or(&Value::Null), b.get(key).unwrap_or(&Value::Null), all);
            }
        }
        (a, b) if a == b => {}
        (a, b) => {
            let short = |v: &Value| {
                let text = v.to_string();
                let cut: String = text.chars().take(40).collect();
                if cut.len() < text.len() { format!("{cut}..") } else { text }
            };
            all.push(format!("{name} (here {}, there {})", short(a), short(b)));
        }
    }
}
