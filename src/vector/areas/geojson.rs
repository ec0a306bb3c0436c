//! GeoJSON (RFC 7946), and its older version's `crs`.

use std::path::Path;

use serde_json::Value;

use super::{Area, Areas, Ring, no_area};
use crate::error::{Error, ErrorKind, Result};
use crate::georef::{Crs, WGS84};

/// The longest file that is read, as its values take several times its length in memory.
const MAX_BYTES: u64 = 512 << 20;

pub(super) fn read(path: &Path) -> Result<Areas> {
    let length = std::fs::metadata(path)?.len();
    if length > MAX_BYTES {
        return Err(Error::new(ErrorKind::Limit, format!("{length} bytes of GeoJSON"))
            .remedy("convert it: ogr2ogr area.gpkg FILE"));
    }
    let text = std::fs::read(path)?;
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&text);
    let root: Value = serde_json::from_slice(text).map_err(|e| {
        Error::new(ErrorKind::Format, "is no GeoJSON").source(e).remedy("check that the file is complete")
    })?;
    let crs = system(&root)?;
    let mut areas = Vec::new();
    match kind(&root)? {
        "FeatureCollection" => {
            let features = root["features"].as_array().ok_or_else(|| broken("a FeatureCollection without features"))?;
            for (i, one) in features.iter().enumerate() {
                areas.push(feature(one).map_err(|e| e.at(format!("feature {}", i + 1)))?);
            }
        }
        "Feature" => areas.push(feature(&root)?),
        _ => areas.push(Area { polygons: geometry(&root, 0)?, ..Area::default() }),
    }
    Ok(Areas { areas, crs, notes: Vec::new() })
}

fn broken(what: &str) -> Error {
    Error::new(ErrorKind::Format, format!("is no GeoJSON: {what}"))
}

fn kind(value: &Value) -> Result<&str> {
    value["type"].as_str().ok_or_else(|| broken("an object without a type"))
}

/// The system: longitude and latitude on WGS 84, unless the older version's member says another.
fn system(root: &Value) -> Result<Crs> {
    let unknown = |what: String| {
        Error::new(ErrorKind::Unsupported, format!("its crs is {what}"))
            .remedy("name one by its EPSG code, or convert it: ogr2ogr -t_srs EPSG:4326 area.geojson FILE")
    };
    let Some(member) = root.get("crs") else { return Ok(Crs::from_epsg(WGS84)) };
    let Some(name) = member["properties"]["name"].as_str() else { return Err(unknown(member.to_string())) };
    if name.ends_with(":CRS84") || name == "CRS84" {
        return Ok(Crs::from_epsg(WGS84));
    }
    let code = name.to_ascii_uppercase();
    let code = code.contains("EPSG").then(|| code.rsplit([':', '/']).next().and_then(|c| c.parse().ok())).flatten();
    code.map(Crs::from_epsg).ok_or_else(|| unknown(format!("{name:?}")))
}

fn feature(value: &Value) -> Result<Area> {
    if kind(value)? != "Feature" {
        return Err(broken("a collection of something other than features"));
    }
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let given = value["properties"].as_object().into_iter().flatten();
    let mut properties: Vec<(String, String)> =
        given.filter(|(_, v)| !v.is_null()).map(|(key, value)| (key.clone(), text(value))).collect();
    if let Some(id) = value.get("id") {
        properties.push(("id".into(), text(id)));
    }
    let polygons = match &value["geometry"] {
        Value::Null => Vec::new(),
        shape => geometry(shape, 0)?,
    };
    Ok(Area { name: String::new(), properties, polygons })
}

fn geometry(value: &Value, depth: usize) -> Result<Vec<Vec<Ring>>> {
    let coordinates = || value["coordinates"].as_array().ok_or_else(|| broken("a geometry without coordinates"));
    match kind(value)? {
        "Polygon" => Ok(vec![polygon(coordinates()?)?]),
        "MultiPolygon" => {
            let part = |part: &Value| polygon(part.as_array().ok_or_else(|| broken("a polygon that is no list"))?);
            coordinates()?.iter().map(part).collect()
        }
        "GeometryCollection" if depth < 8 => {
            let members = value["geometries"].as_array().ok_or_else(|| broken("a collection without geometries"))?;
            let found: Vec<_> = members.iter().map(|member| geometry(member, depth + 1)).collect::<Result<_>>()?;
            Ok(found.into_iter().flatten().collect())
        }
        "Point" | "MultiPoint" => Err(no_area("points")),
        "LineString" | "MultiLineString" => Err(no_area("lines")),
        other => Err(broken(&format!("a geometry of type {other:?}"))),
    }
}

fn polygon(rings: &[Value]) -> Result<Vec<Ring>> {
    let point = |point: &Value| {
        let number =
            |i: usize| point.get(i).and_then(Value::as_f64).ok_or_else(|| broken("a position without two numbers"));
        Ok([number(0)?, number(1)?])
    };
    let ring = |ring: &Value| {
        ring.as_array().ok_or_else(|| broken("a ring that is no list"))?.iter().map(point).collect::<Result<Ring>>()
    };
    rings.iter().map(ring).collect()
}
