//! A coordinate reference system as a file names or defines it.

use super::codes::{WEB_MERCATOR, WEB_MERCATOR_ALIASES, WGS84, is_geographic};
use super::keys::{GeoKeys, USER_DEFINED, key};
use super::wkt::WktNode;

/// A coordinate reference system, as far as the file names it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Crs {
    /// Its EPSG code, if it has one.
    pub epsg: Option<u32>,
    /// The GeoTIFF keys it came with, to be copied to outputs; for a system without a code, its definition.
    pub keys: Option<GeoKeys>,
}

impl Crs {
    /// The system with an EPSG code; the old codes of Web Mercator become 3857.
    pub fn from_epsg(epsg: u32) -> Self {
        let epsg = if WEB_MERCATOR_ALIASES.contains(&epsg) { WEB_MERCATOR } else { epsg };
        Self { epsg: Some(epsg), keys: None }
    }

    /// The system that GeoTIFF keys describe; without an EPSG code if they define their own.
    pub fn from_keys(keys: GeoKeys) -> Self {
        let code = |key| keys.code(key).map(u32::from);
        let epsg = match keys.short(key::MODEL_TYPE) {
            Some(2) => code(key::GEODETIC_CRS),
            // Geocentric: no longitudes and latitudes, and no plane.
            Some(3) => None,
            // Files that leave the kind out name one or the other.
            Some(1 | USER_DEFINED) => code(key::PROJECTED_CRS),
            _ => code(key::PROJECTED_CRS).or_else(|| code(key::GEODETIC_CRS)),
        };
        let text = || keys.well_known_text().and_then(WktNode::parse).and_then(|node| named(&node));
        let citation = || keys.ascii.contains("Pseudo-Mercator") || keys.ascii.contains("Mercator_Auxiliary_Sphere");
        let epsg = epsg.or_else(text).or_else(|| citation().then_some(WEB_MERCATOR));
        Self {
            epsg: epsg.map(|code| if WEB_MERCATOR_ALIASES.contains(&code) { WEB_MERCATOR } else { code }),
            keys: Some(keys),
        }
    }

    /// The system that the well-known text of a `.prj` file names, by its EPSG authority or as Esri's Web Mercator,
    /// WGS 84 or WGS 84 / UTM, or defines by its parameters. Text that is none leaves it unknown.
    pub fn from_wkt(wkt: &str) -> Self {
        let Some(node) = WktNode::parse(wkt) else { return Self::default() };
        match named(&node) {
            Some(epsg) => Self::from_epsg(epsg),
            None => Self { epsg: None, keys: GeoKeys::from_well_known_text(wkt) },
        }
    }

    /// Keys to write into a GeoTIFF: the file's own, else made from the EPSG code; pixels are areas in either case.
    pub fn keys_to_write(&self) -> Option<GeoKeys> {
        self.keys.clone().map(GeoKeys::pixel_is_area).or_else(|| GeoKeys::from_epsg(self.epsg?))
    }

    /// Its well-known text (version 1), for `.prj` files and the like: the file's own, else by its code.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn well_known_text(&self) -> Option<String> {
        let own = self.keys.as_ref().and_then(GeoKeys::well_known_text);
        let by_code = || Some(crs_definitions::from_code(u16::try_from(self.epsg?).ok()?)?.wkt.to_owned());
        own.map(str::to_owned).or_else(by_code)
    }

    /// Whether x and y are longitude and latitude, on whatever datum and in whatever unit of angle.
    pub fn is_geographic(&self) -> bool {
        match (self.epsg, self.keys.as_ref()) {
            (Some(code), _) => is_geographic(code),
            (None, Some(keys)) => {
                keys.short(key::MODEL_TYPE) == Some(2)
                    || keys.well_known_text().is_some_and(|t| t.starts_with("GEOGCS"))
            }
            (None, None) => false,
        }
    }

    /// What to call the system in a message: its code, else its own name, else `an unknown system`.
    pub fn name(&self) -> String {
        match (self.epsg, self.keys.as_ref()) {
            (Some(code), _) => format!("EPSG:{code}"),
            (None, Some(keys)) => {
                let text = || keys.well_known_text().and_then(WktNode::parse).map(|node| node.name().to_owned());
                let name = keys.name().map(str::to_owned).or_else(text).filter(|name| name.len() <= 100);
                name.map_or_else(|| "a system of its own definition".into(), |name| format!("\"{name}\""))
            }
            (None, None) => "an unknown system".into(),
        }
    }
}

/// The EPSG code that well-known text names for the whole system.
fn named(node: &WktNode) -> Option<u32> {
    if let Some(code) = node.epsg() {
        return Some(code);
    }
    let name = node.name();
    let utm = || {
        let zone = name.strip_prefix("WGS_1984_UTM_Zone_")?;
        node.child("UNIT").is_none_or(|unit| unit.numbers == [1.0]).then_some(())?;
        let (number, south) = match zone.strip_suffix('S') {
            Some(number) => (number, true),
            None => (zone.strip_suffix('N').unwrap_or(zone), false),
        };
        let code = number.parse::<u32>().ok().filter(|n| (1..=60).contains(n))?;
        Some(if south { 32_700 + code } else { 32_600 + code })
    };
    match name {
        "WGS_1984_Web_Mercator_Auxiliary_Sphere" => Some(WEB_MERCATOR),
        "GCS_WGS_1984" => Some(WGS84),
        _ => utm(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn well_known_text_names_systems() {
        let cases = [
            (r#"PROJCS["WGS_1984_UTM_Zone_43N",GEOGCS["GCS_WGS_1984"]]"#, Some(32643)),
            (r#"PROJCS["WGS_1984_UTM_Zone_7S",GEOGCS["x"]]"#, Some(32707)),
            (r#"GEOGCS["WGS 84",DATUM["x",AUTHORITY["EPSG","6326"]],AUTHORITY["EPSG","4326"]]"#, Some(4326)),
            (r#"GEOGCS["mine",DATUM["x",AUTHORITY["EPSG","6326"]],UNIT["degree",1]]"#, None),
            (r#"PROJCS["mine",GEOGCS["x",AUTHORITY["EPSG","4326"]],AUTHORITY["ESRI","102003"]]"#, None),
            (r#"PROJCS["WGS_1984_Web_Mercator_Auxiliary_Sphere"]"#, Some(3857)),
            (r#"PROJCRS["WGS 84 / UTM zone 43N",ID["EPSG",32643]]"#, Some(32643)),
            ("", None),
        ];
        for (wkt, epsg) in cases {
            assert_eq!(Crs::from_wkt(wkt).epsg, epsg, "{wkt}");
        }
    }

    #[test]
    fn names_for_people() {
        assert_eq!(Crs::from_epsg(102_100).name(), "EPSG:3857");
        assert_eq!(Crs::default().name(), "an unknown system");
        assert_eq!(Crs::from_wkt(r#"PROJCS["My_Grid",GEOGCS["x"]]"#).name(), "\"My_Grid\"");
    }
}
