//! What may be written of a mask, by `segment` and `merge` alike.

use clap::{Args, ValueEnum};
use samlora::error::{Error, ErrorKind, Result};

/// The most pixels of a mask that has to be in memory as a whole.
const MAX_WHOLE: u64 = 1 << 28;

/// What to write, and how.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Outputs")]
pub struct OutputArgs {
    /// What to write [default: png,overlay; of merge: png]
    #[arg(long, value_delimiter = ',')]
    pub format: Vec<Format>,
    /// Regions of fewer pixels are removed
    #[arg(long, default_value_t = 0, value_name = "PIXELS")]
    pub min_area: u64,
    /// Straightens polygons by up to so many pixels
    #[arg(long, default_value_t = 0.0, value_name = "PIXELS")]
    pub simplify: f64,
    /// Polygons of fewer square metres are left out
    #[arg(long, default_value_t = 0.0, value_name = "M2")]
    pub min_area_m2: f64,
    /// Holes of fewer square metres are filled where they hold background alone
    #[arg(long, default_value_t = 0.0, value_name = "M2")]
    pub min_hole_m2: f64,
    /// Coordinates of fgb, gpkg and shp [default: the input's]
    #[arg(long, value_name = "EPSG:CODE", value_parser = epsg)]
    pub crs: Option<u32>,
    /// Classes, by name, whose outlines get right angles, unless their area would change by more than 10 %
    #[arg(long, value_delimiter = ',', value_name = "CLASS")]
    pub right_angles: Vec<String>,
    /// Opacity of classes in the overlay, 0 to 1
    #[arg(long, default_value_t = 0.5)]
    pub opacity: f32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// NAME.mask.png: 8-bit with colour table, sample = class, 255 (transparent) without data
    Png,
    /// NAME.overlay.png: classes drawn over the image
    Overlay,
    /// NAME.geojson: polygons with holes, in longitude and latitude where the place is known
    Geojson,
    /// NAME.geojsons: the same as a GeoJSON text sequence (RFC 8142), each after a record separator
    Geojsons,
    /// NAME.geojsonl: the same, one feature a line
    Geojsonl,
    /// NAME.fgb: FlatGeobuf with an index, in the input's system or --crs
    Fgb,
    /// NAME.gpkg: GeoPackage with an index and its colours, in the input's system or --crs
    Gpkg,
    /// NAME.shp and its parts: Shapefile, in the input's system or --crs
    Shp,
    /// NAME.csv: hectares and share of each class, by area of --area
    Csv,
    /// NAME.tif: GeoTIFF with colour table, at the input's place; 255 is no data
    Geotiff,
    /// NAME.classes.tif: the same as a cloud optimised GeoTIFF with overviews
    Cog,
    /// NAME.confidence.tif: cloud optimised GeoTIFF of confidence, 1 to 255 for 0 to 1, with overviews; 0 is no data
    Confidence,
    /// NAME.classes.u8, NAME.confidence.u8 and, where the image fits into the input, NAME.logits.f32: plain numbers
    Raw,
}

impl OutputArgs {
    /// Takes these formats if none were asked for.
    pub fn or(&mut self, formats: &[Format]) {
        if self.format.is_empty() {
            self.format = formats.to_vec();
        }
    }

    /// Whether polygons are written.
    pub fn has_polygons(&self) -> bool {
        self.format.iter().any(|format| format.has_polygons())
    }

    /// Refuses values that can be of no input.
    pub fn check(&self) -> Result<()> {
        if !(0.0..=1.0).contains(&self.opacity) {
            return Err(
                Error::new(ErrorKind::Invalid, format!("{} is not within 0 to 1", self.opacity)).at("--opacity")
            );
        }
        if !(self.simplify.is_finite() && self.simplify >= 0.0) {
            let message = format!("{} is no number of pixels", self.simplify);
            return Err(Error::new(ErrorKind::Invalid, message).at("--simplify").remedy("give 0 for none"));
        }
        for (option, value) in [("--min-area-m2", self.min_area_m2), ("--min-hole-m2", self.min_hole_m2)] {
            if !(value.is_finite() && value >= 0.0) {
                let message = format!("{value} is no number of square metres");
                return Err(Error::new(ErrorKind::Invalid, message).at(option).remedy("give 0 for none"));
            }
        }
        Ok(())
    }

    /// Refuses what takes the whole mask in memory, of an area (width, height) that is too large for it.
    pub fn check_size(&self, (width, height): (usize, usize)) -> Result<()> {
        let holds_all = self.format.contains(&Format::Raw) || self.min_area > 1;
        if holds_all && width as u64 * height as u64 > MAX_WHOLE {
            let message = format!("{width} x {height} pixels are too many for one mask in memory");
            return Err(Error::new(ErrorKind::Limit, message)
                .remedy("take a smaller --area, leave --format raw out, and use --min-area-m2 instead of --min-area"));
        }
        Ok(())
    }
}

/// The code of `EPSG:32737` or `32737`.
fn epsg(text: &str) -> std::result::Result<u32, String> {
    let number = text.strip_prefix("EPSG:").or_else(|| text.strip_prefix("epsg:")).unwrap_or(text);
    number.parse().map_err(|_| format!("{text:?} is no EPSG code (for example EPSG:32737)"))
}

impl Format {
    /// How the names of its files end.
    pub fn endings(self) -> &'static [&'static str] {
        match self {
            Self::Png => &["mask.png"],
            Self::Overlay => &["overlay.png"],
            Self::Geojson => &["geojson"],
            Self::Geojsons => &["geojsons"],
            Self::Geojsonl => &["geojsonl"],
            Self::Fgb => &["fgb"],
            Self::Gpkg => &["gpkg"],
            Self::Shp => &["shp", "shx", "dbf", "cpg", "prj"],
            Self::Csv => &["csv"],
            Self::Geotiff => &["tif"],
            Self::Cog => &["classes.tif"],
            Self::Confidence => &["confidence.tif"],
            Self::Raw => &["classes.u8", "confidence.u8", "logits.f32"],
        }
    }

    /// Whether it holds polygons.
    pub fn has_polygons(self) -> bool {
        matches!(self, Self::Geojson | Self::Geojsons | Self::Geojsonl | Self::Fgb | Self::Gpkg | Self::Shp)
    }
}
