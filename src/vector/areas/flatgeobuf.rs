//! FlatGeobuf (version 3). The crate checks a file's structure; what its numbers say is checked here.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use flatgeobuf::packed_r_tree::PackedRTree;
use flatgeobuf::{ColumnType, FallibleStreamingIterator, Feature, FgbReader, Geometry, GeometryType, Header};

use super::{Area, Areas, Ring, no_area};
use crate::error::{Error, ErrorKind, Result};
use crate::georef::Crs;

/// Features and levels of the index that a file may have.
const MAX_FEATURES: u64 = 1 << 32;

pub(super) fn read(path: &Path) -> Result<Areas> {
    let open =
        || -> Result<FgbReader<BufReader<File>>> { FgbReader::open(BufReader::new(File::open(path)?)).map_err(broken) };
    let reader = open()?;
    let header = reader.header();
    let crs = system(&header)?;
    let count = header.features_count();
    check_lengths(path, &header)?;
    let kind = header.geometry_type();
    let columns: Vec<(String, ColumnType)> =
        header.columns().into_iter().flatten().map(|c| (c.name().to_owned(), c.type_())).collect();
    let mut features = open()?.select_all_seq().map_err(broken)?;
    let mut areas = Vec::new();
    while let Some(feature) = features.next().map_err(broken)? {
        let feature = feature.fbs_feature();
        let place = |e: Error| e.at(format!("feature {}", areas.len() + 1));
        let mut polygons = Vec::new();
        if let Some(shape) = feature.geometry() {
            geometry(&shape, kind, &mut polygons, 0).map_err(place)?;
        }
        areas.push(Area { name: String::new(), properties: properties(&feature, &columns), polygons });
    }
    if count > 0 && areas.len() as u64 != count {
        return Err(cut_off());
    }
    Ok(Areas { areas, crs, notes: Vec::new() })
}

fn broken(error: flatgeobuf::Error) -> Error {
    Error::new(ErrorKind::Format, "the FlatGeobuf file cannot be read")
        .source(error.to_string())
        .remedy("check that the file is complete")
}

fn cut_off() -> Error {
    Error::new(ErrorKind::Format, "the FlatGeobuf file ends too early").remedy("check that the file is complete")
}

/// Goes through the lengths of the features, which the crate would take memory by.
fn check_lengths(path: &Path, header: &Header) -> Result<()> {
    let (count, node) = (header.features_count(), header.index_node_size());
    if count > MAX_FEATURES || node == 1 {
        return Err(Error::new(ErrorKind::Format, format!("an index of {count} features, {node} in a node")));
    }
    let index = if node > 0 && count > 0 { PackedRTree::index_size(count as usize, node) as u64 } else { 0 };
    let mut file = BufReader::new(File::open(path)?);
    let length = file.get_ref().metadata()?.len();
    let mut bytes = [0; 4];
    file.seek(SeekFrom::Start(8))?;
    file.read_exact(&mut bytes)?;
    let mut at = 12 + u64::from(u32::from_le_bytes(bytes)) + index;
    if at > length {
        return Err(cut_off());
    }
    while at < length {
        file.seek(SeekFrom::Start(at))?;
        file.read_exact(&mut bytes)?;
        at += 4 + u64::from(u32::from_le_bytes(bytes));
    }
    if at == length { Ok(()) } else { Err(cut_off()) }
}

fn system(header: &Header) -> Result<Crs> {
    let unknown = |what: &str| {
        Error::new(ErrorKind::Unsupported, format!("its coordinate reference system is {what}"))
            .remedy("assign one: ogr2ogr -a_srs EPSG:CODE OUT IN")
    };
    let crs = header.crs().ok_or_else(|| unknown("not said"))?;
    if crs.code() > 0 && crs.org().is_none_or(|org| org.eq_ignore_ascii_case("EPSG")) {
        return Ok(Crs::from_epsg(crs.code() as u32));
    }
    let found = crs.wkt().map(Crs::from_wkt).unwrap_or_default();
    if found == Crs::default() { Err(unknown("not known")) } else { Ok(found) }
}

fn geometry(shape: &Geometry, of_file: GeometryType, out: &mut Vec<Vec<Ring>>, depth: usize) -> Result<()> {
    let kind = if shape.type_() == GeometryType::Unknown { of_file } else { shape.type_() };
    match kind {
        GeometryType::Polygon => {
            out.push(rings(shape)?);
            Ok(())
        }
        GeometryType::MultiPolygon | GeometryType::GeometryCollection if depth < 8 => {
            let inner = if kind == GeometryType::MultiPolygon { GeometryType::Polygon } else { GeometryType::Unknown };
            shape.parts().into_iter().flatten().try_for_each(|part| geometry(&part, inner, out, depth + 1))
        }
        GeometryType::Point | GeometryType::MultiPoint => Err(no_area("points")),
        GeometryType::LineString | GeometryType::MultiLineString => Err(no_area("lines")),
        other => Err(Error::new(ErrorKind::Unsupported, format!("geometries of the kind {other:?} are not read"))
            .remedy("convert curves to polygons: ogr2ogr -nlt CONVERT_TO_LINEAR OUT IN")),
    }
}

fn rings(shape: &Geometry) -> Result<Vec<Ring>> {
    let bad = || Error::new(ErrorKind::Format, "a polygon's rings do not fit its points");
    let Some(numbers) = shape.xy() else { return Ok(Vec::new()) };
    let points: Ring = (0..numbers.len() / 2).map(|i| [numbers.get(2 * i), numbers.get(2 * i + 1)]).collect();
    let Some(ends) = shape.ends().filter(|ends| !ends.is_empty()) else { return Ok(vec![points]) };
    let mut start = 0;
    let mut out = Vec::new();
    for end in ends {
        let end = end as usize;
        out.push(points.get(start..end).ok_or_else(bad)?.to_vec());
        start = end;
    }
    Ok(out)
}

/// A feature's properties as texts; what follows one that cannot be read is left out, as names are all they are for.
fn properties(feature: &Feature, columns: &[(String, ColumnType)]) -> Vec<(String, String)> {
    fn take<'a, const N: usize>(rest: &mut &'a [u8]) -> Option<&'a [u8; N]> {
        let (now, later) = rest.split_first_chunk()?;
        *rest = later;
        Some(now)
    }
    fn one(rest: &mut &[u8], columns: &[(String, ColumnType)]) -> Option<(usize, Option<String>)> {
        let column = usize::from(u16::from_le_bytes(*take(rest)?));
        let text = match columns.get(column)?.1 {
            ColumnType::Byte => i8::from_le_bytes(*take(rest)?).to_string(),
            ColumnType::UByte => u8::from_le_bytes(*take(rest)?).to_string(),
            ColumnType::Bool => (u8::from_le_bytes(*take(rest)?) != 0).to_string(),
            ColumnType::Short => i16::from_le_bytes(*take(rest)?).to_string(),
            ColumnType::UShort => u16::from_le_bytes(*take(rest)?).to_string(),
            ColumnType::Int => i32::from_le_bytes(*take(rest)?).to_string(),
            ColumnType::UInt => u32::from_le_bytes(*take(rest)?).to_string(),
            ColumnType::Long => i64::from_le_bytes(*take(rest)?).to_string(),
            ColumnType::ULong => u64::from_le_bytes(*take(rest)?).to_string(),
            ColumnType::Float => f32::from_le_bytes(*take(rest)?).to_string(),
            ColumnType::Double => f64::from_le_bytes(*take(rest)?).to_string(),
            kind => {
                let length = u32::from_le_bytes(*take(rest)?) as usize;
                let (now, later) = rest.split_at_checked(length)?;
                *rest = later;
                let text = (kind != ColumnType::Binary).then(|| String::from_utf8_lossy(now).into_owned());
                return Some((column, text));
            }
        };
        Some((column, Some(text)))
    }
    let bytes = feature.properties().map(|p| p.bytes()).unwrap_or_default();
    let mut rest = bytes;
    let mut out = Vec::new();
    while let Some((column, text)) = one(&mut rest, columns) {
        if let (Some(text), Some((name, _))) = (text, columns.get(column)) {
            out.push((name.clone(), text));
        }
    }
    out
}
