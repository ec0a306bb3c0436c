//! Addresses of tiles.

use super::wms::{self, Corners};
use crate::error::{Error, ErrorKind, Result};
use crate::source::xyz::turned;
use crate::tile::TileId;

/// An address of tiles with places for their numbers.
///
/// | place | becomes |
/// |---|---|
/// | `{z}`, `{x}`, `{y}` | zoom level, column, row from the north |
/// | `{-y}` | row from the south (TMS) |
/// | `{q}`, `{quadkey}` | Bing's quadkey |
/// | `{TileMatrix}`, `{TileCol}`, `{TileRow}` | as `{z}`, `{x}`, `{y}`: WMTS on the grid of web maps |
/// | `{s}` | `a`, `b` or `c`; `{s:1,2,3}` or `{switch:1,2,3}` one of its own |
/// | `{r}` | nothing; write `@2x` for tiles of 512 pixels |
/// | `{bbox-epsg-3857}` | west, south, east, north in metres: WMS |
///
/// An address with `request=GetMap` is a WMS's, to which missing parameters are added: version (1.3.0), system (EPSG:3857), corners in
/// the order that version and system want, size and format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
    /// Whether `{y}` counts from the south.
    tms: bool,
    is_wms: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Zoom,
    Column,
    Row,
    RowFromSouth,
    QuadKey,
    Subdomain(Vec<String>),
    Corners(Corners),
}

impl Template {
    /// Whether an address is one of tiles and not of a file.
    pub fn is_one(url: &str) -> bool {
        wms::is_get_map(url) || url.contains('{')
    }

    /// Reads an address; `tms` says that `{y}` counts from the south.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for places that are not known or missing, and for a WMS's what stands there;
    /// [`ErrorKind::Unsupported`] for other grids than that of web maps.
    pub fn parse(url: &str, tms: bool) -> Result<Self> {
        let is_wms = wms::is_get_map(url);
        let (text, corners) = if is_wms { wms::complete(url)? } else { (url.to_owned(), Corners::Metres) };
        let grid = wms::parameter(url, "tilematrixset").unwrap_or_default().to_ascii_lowercase();
        if ["4326", "crs84", "geodetic", "wgs84"].iter().any(|other| grid.contains(other)) {
            return Err(Error::new(ErrorKind::Unsupported, format!("the grid of tiles {grid:?}"))
                .remedy("take the service's grid of web maps (GoogleMapsCompatible, EPSG:3857)"));
        }
        let mut parts = Vec::new();
        let mut rest = text.as_str();
        while let Some((before, after)) = rest.split_once('{') {
            let Some((name, after)) = after.split_once('}') else {
                return Err(
                    Error::new(ErrorKind::Invalid, "a { without its }").remedy("write places as {z}, {x} and {y}")
                );
            };
            parts.push(Part::Text(before.to_owned()));
            let lower = name.to_ascii_lowercase();
            let subdomains = |list: &str| Part::Subdomain(list.split(',').map(str::to_owned).collect());
            parts.push(match lower.as_str() {
                "z" | "zoom" | "tilematrix" => Part::Zoom,
                "x" | "tilecol" => Part::Column,
                "y" | "tilerow" => Part::Row,
                "-y" => Part::RowFromSouth,
                "q" | "quadkey" => Part::QuadKey,
                "s" => subdomains("a,b,c"),
                "r" => Part::Text(String::new()),
                "bbox" if is_wms => Part::Corners(corners),
                "bbox-epsg-3857" => Part::Corners(Corners::Metres),
                _ => match name.split_once(':') {
                    Some(("s" | "switch", list)) if !list.is_empty() => subdomains(list),
                    _ => {
                        return Err(Error::new(ErrorKind::Invalid, format!("{{{name}}} is no place that is known"))
                            .remedy(
                                "known are {z} {x} {y} {-y} {q} {s} {TileMatrix} {TileCol} {TileRow} {bbox-epsg-3857}",
                            ));
                    }
                },
            });
            rest = after;
        }
        parts.push(Part::Text(rest.to_owned()));
        let has = |part: &[Part]| part.iter().all(|p| parts.contains(p));
        let full = has(&[Part::Zoom, Part::Column, Part::Row])
            || has(&[Part::Zoom, Part::Column, Part::RowFromSouth])
            || has(&[Part::QuadKey])
            || parts.iter().any(|p| matches!(p, Part::Corners(_)));
        if !full {
            return Err(Error::new(ErrorKind::Invalid, "an address of tiles that names no tile")
                .remedy("write {z}, {x} and {y} (or {q}, or {bbox-epsg-3857}) where the numbers stand"));
        }
        if tms && (has(&[Part::RowFromSouth]) || !has(&[Part::Row])) {
            return Err(Error::new(ErrorKind::Invalid, "is for addresses with {y}").at("--tms").remedy("leave it out"));
        }
        Ok(Self { parts, tms, is_wms })
    }

    /// Whether it is a WMS's.
    pub fn is_wms(&self) -> bool {
        self.is_wms || self.parts.iter().any(|p| matches!(p, Part::Corners(_)))
    }

    /// Whether `{y}` counts from the south.
    pub fn is_tms(&self) -> bool {
        self.tms || self.parts.contains(&Part::RowFromSouth)
    }

    /// The address of a tile.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for a WMS that is asked in degrees at zoom levels below 12.
    pub fn url(&self, tile: TileId) -> Result<String> {
        let mut url = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => url.push_str(text),
                Part::Zoom => url.push_str(&tile.z.to_string()),
                Part::Column => url.push_str(&tile.x.to_string()),
                Part::Row if self.tms => url.push_str(&turned(tile.z, tile.y).to_string()),
                Part::Row => url.push_str(&tile.y.to_string()),
                Part::RowFromSouth => url.push_str(&turned(tile.z, tile.y).to_string()),
                Part::QuadKey => url.push_str(&quadkey(tile)),
                // A tile always comes from the same, which caches like.
                Part::Subdomain(list) => {
                    let index = (u64::from(tile.x) + u64::from(tile.y)) % list.len() as u64;
                    url.push_str(list.get(index as usize).map_or("", String::as_str));
                }
                Part::Corners(corners) => url.push_str(&corners.of(tile)?),
            }
        }
        Ok(url)
    }
}

/// Bing's name of a tile: of each zoom level which quarter holds it.
fn quadkey(tile: TileId) -> String {
    let digit = |level: u8| {
        let bit = |n: u32| n >> level & 1;
        char::from(b'0' + (bit(tile.x) + 2 * bit(tile.y)) as u8)
    };
    (0..tile.z).rev().map(digit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(template: &str, tile: (u8, u32, u32)) -> String {
        let tile = TileId::new(tile.0, tile.1, tile.2).expect("a tile");
        Template::parse(template, false).and_then(|t| t.url(tile)).unwrap_or_else(|e| panic!("{template}: {e}"))
    }

    #[test]
    fn tiles_by_number() {
        for (template, found) in [
            ("http://h/{z}/{x}/{y}.png", "http://h/3/5/2.png"),
            ("http://h/{z}/{x}/{-y}@2x.png", "http://h/3/5/5@2x.png"),
            // Microsoft's documentation of its tile system: tile (3, 5) of level 3 is 213; turned here.
            ("http://{s}.h/{q}.jpg?g=1", "http://b.h/121.jpg?g=1"),
            ("http://{switch:t0,t1,t2}.h/{z}/{x}/{y}", "http://t1.h/3/5/2"),
            (
                "http://h?service=WMTS&tilematrixset=GoogleMapsCompatible&tilematrix={TileMatrix}&tilerow={TileRow}&tilecol={TileCol}",
                "http://h?service=WMTS&tilematrixset=GoogleMapsCompatible&tilematrix=3&tilerow=2&tilecol=5",
            ),
        ] {
            assert_eq!(url(template, (3, 5, 2)), found);
        }
        assert_eq!(url("http://h/{q}", (3, 3, 5)), "http://h/213");
        let south = Template::parse("http://h/{z}/{x}/{y}", true).expect("a template");
        assert_eq!(south.url(TileId { z: 3, x: 5, y: 2 }).expect("an address"), "http://h/3/5/5");
        for template in [
            "http://h/{z}/{x}.png",
            "http://h/{z}/{x}/{y",
            "http://h/{z}/{x}/{y}/{style}",
            "http://h?request=GetMap",
            "http://h?request=GetMap&layers=a&version=1.1.1&crs=EPSG:3857",
            "http://h?request=GetMap&layers=a&crs=EPSG:25832",
            "http://h?request=GetMap&layers=a&width=256&height=512",
            "http://h?request=GetMap&layers=a&bbox=1,2,3,4",
            "http://h?request=GetMap&layers=a&crs=EPSG:4326&bbox={bbox-epsg-3857}",
            "http://h?request=GetMap&layers=a&version=2.0.0",
            "http://h?tilematrixset=EPSG:4326&tilematrix={TileMatrix}&tilerow={TileRow}&tilecol={TileCol}",
        ] {
            assert!(Template::parse(template, false).is_err(), "{template}");
        }
    }

    #[test]
    fn corners_in_the_order_of_version_and_system() {
        let tile = (14, 8192, 8191);
        let get = |more: &str| url(&format!("http://h/wms?layers=a&request=GetMap{more}"), tile);
        // East and north of the origin, one tile of 2.4 km.
        let (metres, degrees) = ("0,0,2445.984905", "0.0219726562");
        let with = |text: &str, name: &str| wms::parameter(text, name).expect("there").to_owned();
        let found = get("");
        assert!(with(&found, "bbox").starts_with(metres) && with(&found, "crs") == "EPSG:3857", "{found}");
        assert_eq!(
            (with(&found, "version"), with(&found, "width"), with(&found, "styles")),
            ("1.3.0".into(), "256".into(), String::new())
        );
        let found = get("&version=1.1.1&WIDTH=512&HEIGHT=512&format=image/png");
        assert!(with(&found, "bbox").starts_with(metres) && with(&found, "srs") == "EPSG:3857", "{found}");
        assert_eq!((with(&found, "width"), with(&found, "format")), ("512".into(), "image/png".into()));
        let numbers =
            |text: &str| with(text, "bbox").split(',').map(|n| n.parse::<f64>().expect("a number")).collect::<Vec<_>>();
        let tile = url("http://h?layers=a&request=GetMap&version=1.3.0&crs=EPSG:4326", (14, 16000, 8191));
        let (lat_lon, lon_lat) = (
            numbers(&tile),
            numbers(&url("http://h?layers=a&request=GetMap&version=1.1.1&srs=EPSG:4326", (14, 16000, 8191))),
        );
        assert_eq!([lat_lon[1], lat_lon[0], lat_lon[3], lat_lon[2]], lon_lat[..]);
        assert!(lat_lon[1] > 170.0 && lat_lon[2].to_string().starts_with("0.02197"), "{lat_lon:?} {degrees}");
        assert_eq!(numbers(&url("http://h?layers=a&request=GetMap&crs=CRS:84", (14, 16000, 8191))), lon_lat);
        let low = Template::parse("http://h?layers=a&request=GetMap&crs=EPSG:4326", false).expect("a template");
        assert!(low.url(TileId { z: 5, x: 1, y: 1 }).is_err());
    }
}
