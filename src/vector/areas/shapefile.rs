//! Shapefiles: `.shp`, with what lies beside it (`.dbf`, `.prj`, `.cpg`).

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use shapefile::dbase::{self, FieldValue};
use shapefile::{Shape, ShapeReader};

use super::{Area, Areas, Ring, no_area};
use crate::error::{Error, ErrorKind, Result};
use crate::georef::Crs;

/// The longest `.prj` that is read.
const MAX_PRJ: u64 = 1 << 16;

pub(super) fn read(path: &Path) -> Result<Areas> {
    let crs = system(path)?;
    let mut notes = Vec::new();
    if let Some(cpg) = beside(path, "cpg") {
        let encoding = std::fs::read_to_string(&cpg).unwrap_or_default();
        let name = encoding.trim().to_ascii_uppercase();
        if !name.is_empty() && !name.contains("UTF") && name != "65001" {
            notes.push(format!("texts in {name} are read as UTF-8: letters beyond ASCII may be wrong in names"));
        }
    }
    let mut rows = rows(path, &mut notes).into_iter();
    let mut reader = ShapeReader::new(BufReader::new(File::open(path)?)).map_err(broken)?;
    let length = std::fs::metadata(path)?.len();
    // In words of 16 bits.
    if u64::from(reader.header().file_length.unsigned_abs()) * 2 != length {
        return Err(Error::new(ErrorKind::Format, format!("has {length} bytes, and says otherwise"))
            .remedy("check that the file is complete"));
    }
    let mut areas = Vec::new();
    for shape in reader.iter_shapes() {
        let shape = shape.map_err(|e| broken(e).at(format!("feature {}", areas.len() + 1)))?;
        // Which ring is a hole of which tells the even-odd rule, not their direction, which files have wrong.
        let rings: Vec<Ring> = match &shape {
            Shape::NullShape => Vec::new(),
            Shape::Polygon(p) => p.rings().iter().map(|r| r.points().iter().map(|p| [p.x, p.y]).collect()).collect(),
            Shape::PolygonM(p) => p.rings().iter().map(|r| r.points().iter().map(|p| [p.x, p.y]).collect()).collect(),
            Shape::PolygonZ(p) => p.rings().iter().map(|r| r.points().iter().map(|p| [p.x, p.y]).collect()).collect(),
            Shape::Polyline(_) | Shape::PolylineM(_) | Shape::PolylineZ(_) => return Err(no_area("lines")),
            Shape::Multipatch(_) => {
                return Err(Error::new(ErrorKind::Unsupported, "holds bodies (multipatches), which are not read")
                    .remedy("convert it to polygons"));
            }
            _ => return Err(no_area("points")),
        };
        let polygons = if rings.is_empty() { Vec::new() } else { vec![rings] };
        areas.push(Area { name: String::new(), properties: rows.next().unwrap_or_default(), polygons });
    }
    Ok(Areas { areas, crs, notes })
}

fn broken(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(ErrorKind::Format, "the Shapefile cannot be read")
        .source(error)
        .remedy("check that the file is complete")
}

/// The file of the same name with another ending, in small or capital letters.
fn beside(path: &Path, ending: &str) -> Option<PathBuf> {
    [ending.to_owned(), ending.to_ascii_uppercase()].iter().map(|e| path.with_extension(e)).find(|p| p.is_file())
}

fn system(path: &Path) -> Result<Crs> {
    let remedy = "put a .prj file beside it, for example with ogr2ogr -a_srs EPSG:CODE OUT IN";
    let Some(prj) = beside(path, "prj") else {
        return Err(
            Error::new(ErrorKind::Unsupported, "has no .prj file, so that its place is not known").remedy(remedy)
        );
    };
    let length = std::fs::metadata(&prj)?.len();
    let crs =
        if length > MAX_PRJ { Crs::default() } else { Crs::from_wkt(&String::from_utf8_lossy(&std::fs::read(&prj)?)) };
    if crs == Crs::default() {
        return Err(Error::new(ErrorKind::Format, "holds no well-known text").at(prj.display()).remedy(remedy));
    }
    Ok(crs)
}

/// The table's rows as texts; a table that cannot be read costs names, not areas.
fn rows(path: &Path, notes: &mut Vec<String>) -> Vec<Vec<(String, String)>> {
    let Some(table) = beside(path, "dbf") else { return Vec::new() };
    let read = || -> std::result::Result<Vec<Vec<(String, String)>>, dbase::Error> {
        let mut reader = dbase::Reader::from_path(&table)?;
        let names: Vec<String> = reader.fields().iter().map(|f| f.name().to_owned()).collect();
        let row = |row: &dbase::Record| {
            let text = |name: &String| Some((name.clone(), text(row.get(name)?)?));
            names.iter().filter_map(text).collect()
        };
        Ok(reader.read()?.iter().map(row).collect())
    };
    read().unwrap_or_else(|error| {
        notes.push(format!("{}: {error}: areas have no names", table.display()));
        Vec::new()
    })
}

fn text(value: &FieldValue) -> Option<String> {
    match value {
        FieldValue::Character(v) => v.clone(),
        FieldValue::Numeric(v) => v.map(|v| v.to_string()),
        FieldValue::Logical(v) => v.map(|v| v.to_string()),
        FieldValue::Float(v) => v.map(|v| v.to_string()),
        FieldValue::Integer(v) => Some(v.to_string()),
        FieldValue::Currency(v) | FieldValue::Double(v) => Some(v.to_string()),
        _ => None,
    }
}
