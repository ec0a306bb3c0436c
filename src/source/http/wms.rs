//! The parameters of a WMS GetMap request for a tile.

use crate::error::{Error, ErrorKind, Result};
use crate::tile::TileId;

/// The smallest zoom level of tiles that are asked for in degrees: the server makes them even in latitude, which from here on
/// differs from Mercator's by less than a tenth of a pixel.
const LEAST_ZOOM_IN_DEGREES: u8 = 12;
/// Side of the tiles, if the address does not say.
const SIDE: u32 = 256;

/// In which order and units a service takes the corners of a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Corners {
    /// West, south, east, north in metres of EPSG:3857.
    Metres,
    /// West, south, east, north in degrees: WMS 1.1.1, and CRS:84.
    LonLat,
    /// South, west, north, east in degrees: EPSG:4326 in WMS 1.3.0.
    LatLon,
}

impl Corners {
    /// The corners of a tile.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for degrees at small zoom levels.
    pub(super) fn of(self, tile: TileId) -> Result<String> {
        if self != Self::Metres && tile.z < LEAST_ZOOM_IN_DEGREES {
            let message = format!("tiles of zoom level {} cannot be asked for in degrees", tile.z);
            return Err(Error::new(ErrorKind::Unsupported, message)
                .remedy(format!("ask for EPSG:3857, or for zoom levels from {LEAST_ZOOM_IN_DEGREES} on")));
        }
        let (metres, degrees) = (tile.bounds_mercator(), tile.bounds_lon_lat());
        let numbers = match self {
            Self::Metres => [metres.west, metres.south, metres.east, metres.north],
            Self::LonLat => [degrees.west, degrees.south, degrees.east, degrees.north],
            Self::LatLon => [degrees.south, degrees.west, degrees.north, degrees.east],
        };
        // 0 is added for -0, which no service need know.
        Ok(numbers.map(|n| (n + 0.0).to_string()).join(","))
    }
}

/// Whether an address is that of a WMS.
pub(super) fn is_get_map(url: &str) -> bool {
    parameter(url, "request").is_some_and(|r| r.eq_ignore_ascii_case("getmap"))
}

/// The value of a parameter of an address, whatever the case of its name.
pub(super) fn parameter<'a>(url: &'a str, name: &str) -> Option<&'a str> {
    let query = url.split_once('?')?.1;
    let mut parameters = query.split('&').map(|p| p.split_once('=').unwrap_or((p, "")));
    parameters.find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

/// An address of GetMap with what is missing filled in, and how it takes corners (`{bbox}` stands for them).
///
/// # Errors
/// [`ErrorKind::Invalid`] without layers or for tiles that are not square, [`ErrorKind::Unsupported`] for other versions and
/// systems.
pub(super) fn complete(url: &str) -> Result<(String, Corners)> {
    let invalid = |message: String, remedy: &str| Err(Error::new(ErrorKind::Invalid, message).remedy(remedy));
    let value = |name: &str| parameter(url, name).filter(|v| !v.is_empty());
    if value("layers").is_none() {
        return invalid("a WMS address without layers".into(), "add &layers=NAME; GetCapabilities lists them");
    }
    let version = value("version").unwrap_or("1.3.0");
    let (is_1_3, crs_name) = match version {
        "1.3.0" => (true, "crs"),
        "1.1.1" | "1.1.0" | "1.0.0" => (false, "srs"),
        other => {
            return Err(Error::new(ErrorKind::Unsupported, format!("version {other} of WMS"))
                .remedy("versions 1.3.0 and 1.1.1 are asked for"));
        }
    };
    let other = if is_1_3 { "srs" } else { "crs" };
    if value(other).is_some() && value(crs_name).is_none() {
        return invalid(
            format!("WMS {version} names its system {crs_name:?}, not {other:?}"),
            "write the parameter so, or another version",
        );
    }
    let crs = value(crs_name).unwrap_or("EPSG:3857").replace("%3A", ":").replace("%3a", ":").to_ascii_uppercase();
    let corners = match (crs.as_str(), is_1_3) {
        ("EPSG:3857" | "EPSG:900913" | "EPSG:102100", _) => Corners::Metres,
        ("EPSG:4326", true) => Corners::LatLon,
        ("EPSG:4326", false) | ("CRS:84", _) => Corners::LonLat,
        _ => {
            return Err(Error::new(ErrorKind::Unsupported, format!("maps in {crs}"))
                .remedy("ask for EPSG:3857 or EPSG:4326, which services have"));
        }
    };
    let side = |name: &str| value(name).map_or(Ok(SIDE), |v| v.parse::<u32>().map_err(|_| v.to_owned()));
    match (side("width"), side("height")) {
        (Ok(width), Ok(height)) if width == height && (1..=8192).contains(&width) => {}
        _ => return invalid("width and height of the maps".into(), "give the same number for both, at most 8192"),
    }
    let mut full = url.to_owned();
    if value("bbox").is_some_and(|b| !b.contains("{bbox")) {
        return invalid("a WMS address of one place".into(), "leave bbox out, or write &bbox={bbox-epsg-3857}");
    }
    let format = value("format").unwrap_or("image/jpeg");
    let side = SIDE.to_string();
    for (name, default) in [
        ("service", "WMS"),
        ("version", version),
        (crs_name, "EPSG:3857"),
        ("bbox", "{bbox}"),
        ("width", &side),
        ("height", &side),
        ("format", format),
    ] {
        if value(name).is_none() {
            full.push_str(&format!("&{name}={default}"));
        }
    }
    if parameter(url, "styles").is_none() {
        full.push_str("&styles=");
    }
    if full.contains("{bbox-epsg-3857}") {
        if corners != Corners::Metres {
            return invalid(
                format!("{{bbox-epsg-3857}} in an address that asks for {crs}"),
                "ask for EPSG:3857, or leave bbox out",
            );
        }
        full = full.replace("{bbox-epsg-3857}", "{bbox}");
    }
    Ok((full, corners))
}
