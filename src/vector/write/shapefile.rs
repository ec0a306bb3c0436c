//! Shapefiles: `.shp`, `.shx`, `.dbf`, `.cpg` and, where the system is known, `.prj`.

use std::fs::File;
use std::io::{BufWriter, Seek, Write};
use std::path::{Path, PathBuf};

use shapefile::dbase::{FieldName, FieldValue, Record as Row, TableWriter, TableWriterBuilder};
use shapefile::{Point, Polygon, PolygonRing, ShapeWriter};

use super::Features;
use crate::error::{Error, ErrorKind, Result};
use crate::georef::Crs;
use crate::source::write::AtomicFile;
use crate::vector::record::Record;

/// The most bytes of each part that all readers open: lengths are signed and of 32 bits.
const MAX_BYTES: u64 = (1 << 31) - (1 << 20);
/// Bytes of a class's name in the table; longer ones are cut.
const NAME_BYTES: usize = 80;

/// A Shapefile of polygons: `class`, `name`, `color`, `confidence`, `area_m2`, `pixels`, texts in UTF-8. The format has no place
/// for where it comes from. Its parts appear one after the other, the `.shp` last.
pub struct Shapefile {
    path: PathBuf,
    shapes: ShapeWriter<BufWriter<File>>,
    table: TableWriter<BufWriter<File>>,
    /// `.shx`, `.dbf`, `.shp`.
    files: [AtomicFile; 3],
    wkt: Option<String>,
    shape_bytes: u64,
    row_bytes: u64,
}

impl Shapefile {
    /// Begins a Shapefile whose `.shp` is `path`.
    ///
    /// # Errors
    /// As [`AtomicFile::create`].
    pub fn create(path: impl AsRef<Path>, crs: Option<&Crs>) -> Result<Self> {
        let path = path.as_ref().to_owned();
        let file = |ending| AtomicFile::create(path.with_extension(ending));
        let files = [file("shx")?, file("dbf")?, file("shp")?];
        let handle = |file: &AtomicFile| Ok::<_, Error>(BufWriter::new(file.handle()?));
        let shapes = ShapeWriter::with_shx(handle(&files[2])?, handle(&files[0])?);
        let name =
            |name: &str| FieldName::try_from(name).map_err(|e| Error::new(ErrorKind::Invalid, e).at(path.display()));
        let table = TableWriterBuilder::new()
            .add_numeric_field(name("class")?, 3, 0)
            .add_character_field(name("name")?, NAME_BYTES as u8)
            .add_character_field(name("color")?, 7)
            .add_numeric_field(name("confidence")?, 6, 4)
            .add_numeric_field(name("area_m2")?, 18, 2)
            .add_numeric_field(name("pixels")?, 15, 0)
            .build_with_dest(handle(&files[1])?);
        let wkt = crs.and_then(Crs::well_known_text);
        Ok(Self { path, shapes, table, files, wkt, shape_bytes: 0, row_bytes: 0 })
    }

    /// Completes the parts.
    ///
    /// # Errors
    /// As [`AtomicFile::commit`].
    pub fn finish(mut self) -> Result<Vec<PathBuf>> {
        self.shapes.finalize().map_err(|e| cannot_write(&self.path, e))?;
        drop(self.shapes);
        if self.shape_bytes == 0 {
            // The crate learns from the first shape what the file holds; without one, this is an empty layer of polygons.
            for i in [0, 2] {
                self.files[i].rewind()?;
                self.files[i].write_all(&empty_header())?;
            }
        }
        self.table.finalize().map_err(|e| cannot_write(&self.path, e))?;
        drop(self.table);
        let mut names: Vec<PathBuf> = ["shp", "shx", "dbf", "cpg"].map(|e| self.path.with_extension(e)).into();
        let text = |ending: &str, text: &str| {
            let mut file = AtomicFile::create(self.path.with_extension(ending))?;
            file.write_all(text.as_bytes())?;
            file.commit()
        };
        text("cpg", "UTF-8")?;
        if let Some(wkt) = &self.wkt {
            text("prj", wkt)?;
            names.push(self.path.with_extension("prj"));
        }
        for file in self.files {
            file.commit()?;
        }
        Ok(names)
    }
}

/// A header of 100 bytes for no polygons.
fn empty_header() -> [u8; 100] {
    let mut header = [0; 100];
    header[..4].copy_from_slice(&9994i32.to_be_bytes());
    header[24..28].copy_from_slice(&50i32.to_be_bytes());
    header[28..32].copy_from_slice(&1000i32.to_le_bytes());
    header[32..36].copy_from_slice(&5i32.to_le_bytes());
    header
}

impl Features for Shapefile {
    fn record(&mut self, record: &Record) -> Result<()> {
        let points: u64 = record.parts.iter().flatten().map(|ring| ring.len() as u64).sum();
        let rings: u64 = record.parts.iter().map(|part| part.len() as u64).sum();
        self.shape_bytes += 8 + 44 + 4 * rings + 16 * points;
        self.row_bytes += 200;
        if self.shape_bytes.max(self.row_bytes) > MAX_BYTES {
            return Err(Error::new(ErrorKind::Limit, "the polygons exceed the 2 GiB of a Shapefile")
                .at(self.path.display())
                .remedy("write --format gpkg or fgb"));
        }
        let point = |&[x, y]: &[f64; 2]| Point::new(x, y);
        // The crate turns exteriors clockwise and holes the other way, as the format wants them.
        let ring = |(i, ring): (usize, &Vec<[f64; 2]>)| {
            let points = ring.iter().map(point).collect();
            if i == 0 { PolygonRing::Outer(points) } else { PolygonRing::Inner(points) }
        };
        let rings = record.parts.iter().flat_map(|part| part.iter().enumerate().map(ring)).collect();
        self.shapes.write_shape(&Polygon::with_rings(rings)).map_err(|e| cannot_write(&self.path, e))?;
        let mut row = Row::default();
        let mut put = |name: &str, value: FieldValue| {
            row.insert(name.to_owned(), value);
        };
        put("class", FieldValue::Numeric(Some(f64::from(record.class))));
        put("name", text(cut(&record.name)));
        put("color", text(&record.hex_color()));
        put("confidence", FieldValue::Numeric(record.confidence));
        put("area_m2", FieldValue::Numeric(record.area_m2));
        put("pixels", FieldValue::Numeric(Some(record.pixels as f64)));
        self.table.write_record(&row).map_err(|e| cannot_write(&self.path, e))
    }
}

fn text(text: &str) -> FieldValue {
    FieldValue::from(text.to_owned())
}

/// A name without what exceeds its field.
fn cut(name: &str) -> &str {
    let end = (0..=NAME_BYTES.min(name.len())).rev().find(|&i| name.is_char_boundary(i)).unwrap_or(0);
    &name[..end]
}

fn cannot_write(path: &Path, error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(ErrorKind::Io, "the Shapefile cannot be written")
        .at(path.display())
        .remedy("check that its folder may be written and the disk has room")
        .source(error)
}
