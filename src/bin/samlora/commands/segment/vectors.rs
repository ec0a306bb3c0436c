//! Polygons of one input in all formats that were asked for, from one pass over its rows.

use std::path::{Path, PathBuf};

use samlora::config::Class;
use samlora::error::{Error, ErrorKind, Result};
use samlora::geojson::{Layout, Placement, Writer};
use samlora::georef::Georef;
use samlora::polygon::{StreamOptions, Traced, Tracer, right_angles};
use samlora::source::write::AtomicFile;
use samlora::vector::record::{Least, sieve};
use samlora::vector::write::{Features, FlatGeobuf, GeoPackage, Shapefile, Table};
use samlora::vector::{Provenance, Records, Target};

use super::{Format, OutputArgs};

/// Holes of more pixels are not filled, whatever `--min-hole`: borders of larger backgrounds are not kept together.
const MAX_FILLED: u64 = 1 << 20;

/// The writers of one input's polygons.
pub struct Vectors<'a> {
    tracer: Tracer,
    placement: Placement<'a>,
    records: Records<'a>,
    least: Least,
    texts: Vec<(Format, PathBuf, Writer<'a, AtomicFile>)>,
    fgb: Option<(PathBuf, FlatGeobuf)>,
    gpkg: Option<(PathBuf, GeoPackage)>,
    shp: Option<Shapefile>,
    right_angles: Vec<u8>,
    report: RightAngles,
}

/// What became of the outlines that were to get right angles.
#[derive(Debug, Clone, Copy, Default, serde::Serialize)]
pub struct RightAngles {
    /// Outlines with right angles.
    made: u64,
    /// Outlines that stay as they were.
    kept: u64,
    /// The area of those with right angles, square pixels, before and after.
    before: f64,
    after: f64,
}

impl RightAngles {
    /// A line for people.
    pub fn text(&self) -> String {
        let change = 100.0 * (self.after / self.before.max(1.0) - 1.0) * f64::from(u8::from(self.made > 0));
        format!("{} outlines have right angles ({change:+.2} % of area), {} stay as they were", self.made, self.kept)
    }
}

/// The most that right angles may change of an outline's area.
const MAX_CHANGE: f64 = 0.1;

/// What the polygons of an image are of.
pub struct Origin<'a> {
    pub classes: &'a [Class],
    pub georef: Option<&'a Georef>,
    pub size: (usize, usize),
    pub provenance: &'a Provenance,
}

/// Files by the format that they are of.
pub type Files = Vec<(Format, Vec<PathBuf>)>;

impl<'a> Vectors<'a> {
    /// Begins the files; `None` if no polygons were asked for.
    pub fn begin(args: &OutputArgs, folder: &Path, stem: &str, origin: &Origin<'a>) -> Result<Option<Self>> {
        let formats: Vec<Format> = args.format.iter().copied().filter(|f| f.has_polygons()).collect();
        if formats.is_empty() {
            return Ok(None);
        }
        let &Origin { classes, georef, size: (width, height), provenance } = origin;
        let target = args.crs.map_or(Target::Raster, Target::Epsg);
        let records = Records::new(georef, (width, height), classes, &target)?;
        let crs = records.crs().cloned();
        let path = |format: Format| folder.join(format!("{stem}.{}", format.endings()[0]));
        let mut texts = Vec::new();
        let (mut fgb, mut gpkg, mut shp) = (None, None, None);
        for format in formats {
            let path = path(format);
            let layout = match format {
                Format::Geojson => Layout::Collection,
                Format::Geojsons => Layout::Sequence,
                Format::Geojsonl => Layout::Lines,
                Format::Fgb => {
                    fgb = Some((path.clone(), FlatGeobuf::create(&path, stem, crs.as_ref(), provenance)?));
                    continue;
                }
                Format::Gpkg => {
                    gpkg = Some((path.clone(), GeoPackage::create(&path, stem, classes, crs.as_ref(), provenance)?));
                    continue;
                }
                _ => {
                    shp = Some(Shapefile::create(&path, crs.as_ref())?);
                    continue;
                }
            };
            let placement = Placement::new(georef, width, height);
            let file = AtomicFile::create(&path)?;
            let writer = Writer::begin(file, classes, placement, layout, Some(&provenance.json()));
            texts.push((format, path.clone(), writer.map_err(|e| e.at(path.display()))?));
        }
        let least = Least { area: args.min_area_m2, hole: args.min_hole_m2 };
        let tracer = Tracer::new(
            width,
            StreamOptions {
                min_pixels: args.min_area,
                tolerance: args.simplify,
                fill_pixels: if least.hole > 0.0 { MAX_FILLED } else { 0 },
                ..StreamOptions::default()
            },
        )?;
        let placement = Placement::new(georef, width, height);
        let class = |name: &String| {
            let found = classes.iter().find(|c| c.name == *name && c.index != 0).map(|c| c.index);
            found.ok_or_else(|| {
                let known: Vec<&str> = classes.iter().filter(|c| c.index != 0).map(|c| c.name.as_str()).collect();
                Error::new(ErrorKind::NotFound, format!("the model has no class {name:?}"))
                    .at("--right-angles")
                    .remedy(format!("its classes: {}", known.join(", ")))
            })
        };
        let right_angles = args.right_angles.iter().map(class).collect::<Result<_>>()?;
        let report = RightAngles::default();
        Ok(Some(Self { tracer, placement, records, least, texts, fgb, gpkg, shp, right_angles, report }))
    }

    /// Takes finished rows.
    pub fn rows(&mut self, classes: &[u8], confidence: &[u8]) -> Result<()> {
        self.tracer.rows(classes, confidence)?;
        let closed: Vec<Traced> = self.tracer.closed().collect();
        closed.into_iter().try_for_each(|traced| self.polygon(traced))
    }

    fn polygon(&mut self, traced: Traced) -> Result<()> {
        let Some(mut polygon) = sieve(traced, &self.placement, self.least)? else { return Ok(()) };
        if self.right_angles.contains(&polygon.class) {
            match right_angles(&polygon, MAX_CHANGE) {
                Some(right) => {
                    self.report.made += 1;
                    self.report.before += polygon.area();
                    self.report.after += right.area();
                    polygon = right;
                }
                None => self.report.kept += 1,
            }
        }
        for (_, path, writer) in &mut self.texts {
            writer.polygon(&polygon).map_err(|e| e.at(path.display()))?;
        }
        if self.fgb.is_none() && self.gpkg.is_none() && self.shp.is_none() {
            return Ok(());
        }
        let record = self.records.record(&polygon)?;
        if let Some((_, file)) = &mut self.fgb {
            file.record(&record)?;
        }
        if let Some((_, file)) = &mut self.gpkg {
            file.record(&record)?;
        }
        if let Some(file) = &mut self.shp {
            file.record(&record)?;
        }
        Ok(())
    }

    /// Completes the files: their names by format.
    pub fn finish(mut self, table: Option<&Table<'_>>) -> Result<(Files, Option<RightAngles>)> {
        let tracer = std::mem::replace(&mut self.tracer, Tracer::new(1, StreamOptions::default())?);
        tracer.finish()?.into_iter().try_for_each(|traced| self.polygon(traced))?;
        let mut files = Vec::new();
        for (format, path, writer) in self.texts {
            writer.finish().map_err(|e| e.at(path.display()))?.commit()?;
            files.push((format, vec![path]));
        }
        if let Some((path, file)) = self.fgb {
            file.finish()?;
            files.push((Format::Fgb, vec![path]));
        }
        if let Some((path, mut file)) = self.gpkg {
            if let Some(table) = table {
                file.table(table)?;
            }
            file.finish()?;
            files.push((Format::Gpkg, vec![path]));
        }
        if let Some(file) = self.shp {
            files.push((Format::Shp, file.finish()?));
        }
        Ok((files, (!self.right_angles.is_empty()).then_some(self.report)))
    }
}
