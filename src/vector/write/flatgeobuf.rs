//! FlatGeobuf (version 3), with its index.

use std::path::{Path, PathBuf};

use flatgeobuf::{ColumnType, FgbCrs, FgbWriter, FgbWriterOptions, GeometryType};
use geozero::error::Result as GeozeroResult;
use geozero::{ColumnValue, GeomProcessor, GeozeroGeometry, PropertyProcessor};

use super::Features;
use crate::error::{Error, ErrorKind, Result};
use crate::georef::Crs;
use crate::source::write::AtomicFile;
use crate::vector::provenance::Provenance;
use crate::vector::record::Record;

/// A FlatGeobuf file of MultiPolygons: `class`, `name`, `color`, `confidence`, `area_m2`, `pixels`; where it comes from is its
/// header's `metadata`, JSON. Features lie in a temporary file until the last one is there: the index is before them.
pub struct FlatGeobuf {
    path: PathBuf,
    writer: FgbWriter<'static>,
    /// The same without an index, for a file that gets no feature: GDAL refuses an index of nothing.
    empty: FgbWriter<'static>,
    features: u64,
    file: AtomicFile,
}

impl FlatGeobuf {
    /// Begins a file of a layer called `layer`.
    ///
    /// # Errors
    /// As [`AtomicFile::create`]; [`ErrorKind::Io`] if there is no room for temporary files.
    pub fn create(path: impl AsRef<Path>, layer: &str, crs: Option<&Crs>, provenance: &Provenance) -> Result<Self> {
        let path = path.as_ref().to_owned();
        let file = AtomicFile::create(&path)?;
        let metadata = provenance.json().to_string();
        let writer = |index| writer(layer, crs, &metadata, index).map_err(|e| cannot_write(&path, e));
        let (writer, empty) = (writer(true)?, writer(false)?);
        Ok(Self { path, writer, empty, features: 0, file })
    }

    /// Completes the file.
    ///
    /// # Errors
    /// As [`AtomicFile::commit`].
    pub fn finish(mut self) -> Result<()> {
        let writer = if self.features == 0 { self.empty } else { self.writer };
        writer.write(&mut self.file).map_err(|e| cannot_write(&self.path, e))?;
        self.file.commit()
    }
}

impl Features for FlatGeobuf {
    fn record(&mut self, record: &Record) -> Result<()> {
        self.features += 1;
        let color = record.hex_color();
        let mut failed = None;
        let written = self.writer.add_feature_geom(Shape(record), |feature| {
            let mut put = |i: usize, name: &str, value: ColumnValue| {
                if let Err(error) = feature.property(i, name, &value) {
                    failed = Some(error);
                }
            };
            put(0, "class", ColumnValue::Int(i32::from(record.class)));
            put(1, "name", ColumnValue::String(&record.name));
            put(2, "color", ColumnValue::String(&color));
            if let Some(confidence) = record.confidence {
                put(3, "confidence", ColumnValue::Double(confidence));
            }
            if let Some(area) = record.area_m2 {
                put(4, "area_m2", ColumnValue::Double(area));
            }
            put(5, "pixels", ColumnValue::Long(record.pixels as i64));
        });
        match (written, failed) {
            (Ok(()), None) => Ok(()),
            (Err(error), _) | (_, Some(error)) => Err(cannot_write(&self.path, error)),
        }
    }
}

/// A writer of a layer's features, with its columns.
fn writer(
    layer: &str,
    crs: Option<&Crs>,
    metadata: &str,
    write_index: bool,
) -> std::result::Result<FgbWriter<'static>, flatgeobuf::Error> {
    let wkt = crs.and_then(Crs::well_known_text);
    let name = crs.map(Crs::name);
    let code = crs.and_then(|c| c.epsg).and_then(|code| i32::try_from(code).ok());
    let options = FgbWriterOptions {
        write_index,
        detect_type: false,
        crs: FgbCrs {
            org: code.map(|_| "EPSG"),
            code: code.unwrap_or(0),
            name: name.as_deref(),
            wkt: wkt.as_deref(),
            ..Default::default()
        },
        description: crs.is_none().then_some("coordinates are pixels, x right, y down from the top left corner"),
        metadata: Some(metadata),
        ..Default::default()
    };
    let mut writer = FgbWriter::create_with_options(layer, GeometryType::MultiPolygon, options)?;
    for (name, kind) in [
        ("class", ColumnType::Int),
        ("name", ColumnType::String),
        ("color", ColumnType::String),
        ("confidence", ColumnType::Double),
        ("area_m2", ColumnType::Double),
        ("pixels", ColumnType::Long),
    ] {
        writer.add_column(name, kind, |_, _| {});
    }
    Ok(writer)
}

fn cannot_write(path: &Path, error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(ErrorKind::Io, "the FlatGeobuf file cannot be written")
        .at(path.display())
        .remedy("check that the disk has room, also for temporary files (TMPDIR)")
        .source(error)
}

struct Shape<'a>(&'a Record);

impl GeozeroGeometry for Shape<'_> {
    fn process_geom<P: GeomProcessor>(&self, to: &mut P) -> GeozeroResult<()> {
        let parts = &self.0.parts;
        to.multipolygon_begin(parts.len(), 0)?;
        for (i, part) in parts.iter().enumerate() {
            to.polygon_begin(false, part.len(), i)?;
            for (j, ring) in part.iter().enumerate() {
                to.linestring_begin(false, ring.len(), j)?;
                for (k, &[x, y]) in ring.iter().enumerate() {
                    to.xy(x, y, k)?;
                }
                to.linestring_end(false, j)?;
            }
            to.polygon_end(false, i)?;
        }
        to.multipolygon_end(0)
    }
}
