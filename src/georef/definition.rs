//! Systems that a file defines itself, by GeoTIFF keys or well-known text, as PROJ.4 strings.

use super::epsg;
use super::keys::{GeoKeys, key};
use super::methods::{Method, ProjectionParameters};
use super::wkt::WktNode;

/// How far semi-axes may differ, metres, and still be one ellipsoid: their figures are rounded in files.
const SAME_AXIS: f64 = 1e-3;
const WGS84_AXES: [f64; 2] = [6_378_137.0, 6_356_752.314_245];
const DEGREE: f64 = std::f64::consts::PI / 180.0;

/// Why a system cannot be converted.
type Reason = String;

/// What a file says about its datum.
#[derive(Debug, Default)]
struct Datum {
    /// EPSG code of the geographic system.
    code: Option<u32>,
    /// Semi-axes, metres.
    axes: Option<[f64; 2]>,
    /// Three or seven parameters to WGS 84.
    shift: Vec<f64>,
    /// Degrees east of Greenwich.
    meridian: f64,
}

impl Datum {
    /// Ellipsoid, shift to WGS 84 and prime meridian as a PROJ.4 string.
    fn proj4(&self) -> Result<String, Reason> {
        let sphere = self.axes.is_some_and(|[a, b]| a == b);
        // A code of a sphere says no more than its radius.
        let known = self.code.map(|code| (code, epsg::definition(code))).filter(|(_, known)| known.is_ok() || !sphere);
        if let Some((code, known)) = known {
            let text = epsg::datum(known.map_err(|why| format!("of its geographic system EPSG:{code}, {why}"))?);
            let here = axes(&text).ok_or("its ellipsoid is not known")?;
            let same = |a: [f64; 2]| (a[0] - here[0]).abs() < SAME_AXIS && (a[1] - here[1]).abs() < SAME_AXIS;
            let meridian = if self.meridian == 0.0 || text.contains("+pm=") {
                String::new()
            } else {
                format!(" +pm={}", self.meridian)
            };
            return match self.axes {
                // A file may round WGS 84's ellipsoid to its liking: its projection is computed on what it says.
                Some([a, b]) if !same([a, b]) && is_near_wgs84(here) && is_unshifted(&text) => {
                    Ok(format!("+a={a} +b={b}{meridian}"))
                }
                Some(axes) if !same(axes) => Err("its ellipsoid is not that of its datum".into()),
                _ => Ok(text + &meridian),
            };
        }
        let [a, b] = self.axes.ok_or("its ellipsoid is not known")?;
        let meridian = if self.meridian == 0.0 { String::new() } else { format!(" +pm={}", self.meridian) };
        if matches!(self.shift.len(), 3 | 7) {
            let shift: Vec<String> = self.shift.iter().map(f64::to_string).collect();
            return Ok(format!("+a={a} +b={b} +towgs84={}{meridian}", shift.join(",")));
        }
        // As PROJ does: latitudes on a sphere are taken as they are, as are datums of WGS 84's ellipsoid or GRS 80.
        if is_near_wgs84([a, b]) || a == b {
            return Ok(format!("+a={a} +b={b}{meridian}"));
        }
        Err("its datum shift to WGS 84 is not known".into())
    }
}

fn axes(datum: &str) -> Option<[f64; 2]> {
    let proj = proj4rs::Proj::from_proj_string(&format!("+proj=longlat {datum} +no_defs")).ok()?;
    let (a, b) = proj.ellipse_parameters();
    Some([a, b])
}

/// Whether semi-axes are those of WGS 84 or GRS 80, which differ by 0.1 mm.
fn is_near_wgs84([a, b]: [f64; 2]) -> bool {
    (a - WGS84_AXES[0]).abs() < SAME_AXIS && (b - WGS84_AXES[1]).abs() < SAME_AXIS
}

fn is_unshifted(datum: &str) -> bool {
    match datum.split("+towgs84=").nth(1) {
        Some(shift) => shift.split_whitespace().next().is_some_and(|s| s.split(',').all(|n| n.parse() == Ok(0.0))),
        None => true,
    }
}

/// Semi-axes by the major one and the inverse flattening, 0 for a sphere.
fn flattened(a: f64, inverse: f64) -> [f64; 2] {
    [a, if inverse == 0.0 { a } else { a * (1.0 - 1.0 / inverse) }]
}

/// Checks that keys beside an EPSG code do not contradict its definition.
pub(super) fn check_code(keys: &GeoKeys, text: &str) -> Result<(), &'static str> {
    let geographic = text.contains("+proj=longlat");
    if keys.code(key::PROJECTED_CRS).is_some() && geographic {
        return Err("its code is of longitude and latitude, its GeoTIFF keys say a projection");
    }
    if keys.code(key::PROJECTED_CRS).is_none() && keys.code(key::GEODETIC_CRS).is_some() && !geographic {
        return Err("its code is of a projection, its GeoTIFF keys say longitude and latitude");
    }
    let unit = keys_unit(keys).map_err(|_| "its unit of length is not known")?;
    let says = proj4rs::Proj::from_proj_string(text).map_or(1.0, |proj| proj.to_meter());
    if !geographic && keys.short(3076).is_some() && (unit / says - 1.0).abs() > 1e-9 {
        return Err("its GeoTIFF keys give another unit of length than its code");
    }
    Ok(())
}

/// The PROJ.4 string of a system that GeoTIFF keys define.
///
/// # Errors
/// Why they do not define it.
pub(super) fn from_keys(keys: &GeoKeys) -> Result<String, Reason> {
    if let Some(text) = keys.well_known_text() {
        return from_wkt(&WktNode::parse(text).ok_or("its well-known text cannot be read")?);
    }
    let datum = keys_datum(keys)?;
    match keys.short(key::MODEL_TYPE) {
        Some(2) => return Ok(format!("+proj=longlat {} +no_defs", datum.proj4()?)),
        Some(1) => {}
        _ => return Err("its GeoTIFF keys name no kind of system".into()),
    }
    let unit = keys_unit(keys)?;
    let projection = match keys.code(3074) {
        // UTM zones by the EPSG codes of their projections, north and south.
        Some(code @ (16_001..=16_060 | 16_101..=16_160)) => {
            let south = if code > 16_100 { " +south" } else { "" };
            format!("+proj=utm +zone={}{south}", code % 100)
        }
        _ => {
            let code = keys.code(3075).ok_or("its GeoTIFF keys name no projection")?;
            let method = Method::from_geotiff(code)
                .ok_or_else(|| format!("its projection (GeoTIFF method {code}) is not one that this program has"))?;
            projected(method, &keys_parameters(method, keys), unit)?
        }
    };
    Ok(format!("{projection} {} +to_meter={unit} +no_defs", datum.proj4()?))
}

fn keys_datum(keys: &GeoKeys) -> Result<Datum, Reason> {
    let degree = match keys.short(2054) {
        None | Some(9102 | 9122 | 0) => true,
        _ => keys.double(2055).is_some_and(|size| (size / DEGREE - 1.0).abs() < 1e-9),
    };
    if !degree {
        return Err("its angles are not in degrees".into());
    }
    // A datum's code is its geographic system's plus 2000, but for few.
    let datum = keys.code(2050).filter(|code| (6000..7000).contains(code)).map(|code| u32::from(code) - 2000);
    let (a, b, inverse) = (keys.double(2057), keys.double(2058), keys.double(2059));
    let axes = match (a, b, inverse) {
        (Some(a), Some(b), _) => Some([a, b]),
        (Some(a), None, Some(inverse)) => Some(flattened(a, inverse)),
        // The datum's own ellipsoid; without one it stays unknown.
        _ => None,
    };
    let meridian = match (keys.double(2061), keys.code(2051)) {
        (Some(degrees), _) => degrees,
        (None, None | Some(8901)) => 0.0,
        (None, Some(code)) => return Err(format!("its prime meridian (EPSG:{code}) is not Greenwich")),
    };
    let code = keys.code(key::GEODETIC_CRS).map(u32::from).or(datum);
    Ok(Datum { code, axes, shift: keys.doubles(2062).to_vec(), meridian })
}

/// Metres in a unit of length.
fn keys_unit(keys: &GeoKeys) -> Result<f64, Reason> {
    match keys.short(3076) {
        None | Some(9001 | 0) => Ok(1.0),
        Some(9002) => Ok(0.3048),
        Some(9003) => Ok(1200.0 / 3937.0),
        Some(9036) => Ok(1000.0),
        Some(code) => keys
            .double(3077)
            .filter(|m| *m > 0.0)
            .ok_or_else(|| format!("its unit of length (EPSG:{code}) is not known")),
    }
}

/// The parameters of a projection. Where a key is missing, software puts the value into its neighbours (as libgeotiff
/// reads them).
fn keys_parameters(method: Method, keys: &GeoKeys) -> ProjectionParameters {
    let first = |list: &[u16]| list.iter().find_map(|&key| keys.double(key));
    let longitude: &[u16] = match method {
        Method::PolarStereographic => &[3095, 3080, 3084, 3088],
        _ => &[3080, 3084, 3088],
    };
    ProjectionParameters {
        longitude: first(longitude).unwrap_or(0.0),
        latitude: first(&[3081, 3085, 3089]).unwrap_or(0.0),
        parallels: [keys.double(3078), keys.double(3079)],
        scale: first(&[3092, 3093]),
        azimuth: keys.double(3094),
        rectified: keys.double(3096),
        easting: first(&[3082, 3086, 3090]).unwrap_or(0.0),
        northing: first(&[3083, 3087, 3091]).unwrap_or(0.0),
    }
}

fn projected(method: Method, parameters: &ProjectionParameters, unit: f64) -> Result<String, Reason> {
    let projection = method.proj4(parameters).ok_or("its projection's parameters are not understood")?;
    let (x, y) = (parameters.easting * unit, parameters.northing * unit);
    Ok(format!("{projection} +x_0={x} +y_0={y}"))
}

/// The PROJ.4 string of a system that well-known text defines.
///
/// # Errors
/// Why it does not define it.
pub(super) fn from_wkt(node: &WktNode) -> Result<String, Reason> {
    let (projected_node, geographic) = match node.keyword.as_str() {
        "PROJCS" => (Some(node), node.child("GEOGCS")),
        "GEOGCS" => (None, Some(node)),
        "COMPD_CS" => return from_wkt(node.children.first().ok_or("its well-known text is empty")?),
        _ => return Err(format!("well-known text of the kind {} is not read", node.keyword)),
    };
    let geographic = geographic.ok_or("its well-known text has no geographic system")?;
    let datum = wkt_datum(geographic)?;
    let Some(node) = projected_node else {
        return Ok(format!("+proj=longlat {} +no_defs", datum.proj4()?));
    };
    let name = node.child("PROJECTION").map_or("", WktNode::name);
    let method =
        Method::from_name(name).ok_or_else(|| format!("its projection ({name}) is not one that this program has"))?;
    let unit = node.child("UNIT").and_then(|u| u.numbers.first().copied()).filter(|m| *m > 0.0);
    let unit = unit.ok_or("its unit of length is not known")?;
    let number = |names: &[&str]| node.parameter(names);
    let parameters = ProjectionParameters {
        longitude: number(&["central_meridian", "longitude_of_center", "longitude_of_origin"]).unwrap_or(0.0),
        latitude: number(&["latitude_of_origin", "latitude_of_center", "central_parallel"]).unwrap_or(0.0),
        parallels: [number(&["standard_parallel_1"]), number(&["standard_parallel_2"])],
        scale: number(&["scale_factor"]),
        azimuth: number(&["azimuth"]),
        rectified: number(&["rectified_grid_angle"]),
        easting: number(&["false_easting"]).unwrap_or(0.0),
        northing: number(&["false_northing"]).unwrap_or(0.0),
    };
    if method == Method::WebMercator {
        // On the sphere of WGS 84's major semi-axis, its latitudes taken as they are.
        let plain =
            parameters == ProjectionParameters { parallels: parameters.parallels, ..ProjectionParameters::default() };
        let plain = plain && unit == 1.0 && datum.axes.is_some_and(|[a, _]| a == WGS84_AXES[0]);
        return if plain {
            Ok(WEB_MERCATOR_TEXT.into())
        } else {
            Err("its projection's parameters are not understood".into())
        };
    }
    Ok(format!("{} {} +to_meter={unit} +no_defs", projected(method, &parameters, unit)?, datum.proj4()?))
}

/// Web Mercator as a PROJ.4 string: its latitudes are taken as they are.
const WEB_MERCATOR_TEXT: &str = "+proj=merc +lon_0=0 +k=1 +x_0=0 +y_0=0 +a=6378137 +b=6378137 +to_meter=1 +no_defs";

fn wkt_datum(geographic: &WktNode) -> Result<Datum, Reason> {
    let unit = geographic.child("UNIT").and_then(|u| u.numbers.first().copied()).ok_or("its angles have no unit")?;
    // Files give 0.0174532925199433 and fewer digits.
    if (unit / DEGREE - 1.0).abs() > 1e-8 {
        return Err("its angles are not in degrees".into());
    }
    let datum = geographic.child("DATUM").ok_or("its datum is not known")?;
    let ellipsoid = datum.child("SPHEROID").or_else(|| datum.child("ELLIPSOID"));
    let axes = ellipsoid.and_then(|e| Some(flattened(*e.numbers.first()?, *e.numbers.get(1)?)));
    let shift = datum.child("TOWGS84").map(|t| t.numbers.clone()).unwrap_or_default();
    let meridian = geographic.child("PRIMEM").and_then(|p| p.numbers.first().copied()).unwrap_or(0.0);
    let by_datum = || datum.epsg().filter(|code| (6000..7000).contains(code)).map(|code| code - 2000);
    let code = geographic.epsg().or_else(by_datum).or_else(|| named_datum(datum.name()));
    Ok(Datum { code, axes, shift, meridian })
}

/// The geographic system of a datum by Esri's name, for those whose ellipsoid does not tell.
fn named_datum(name: &str) -> Option<u32> {
    let name = name.strip_prefix("D_").unwrap_or(name).to_ascii_lowercase();
    Some(match name.as_str() {
        "wgs_1984" => 4326,
        "north_american_1983" | "north_american_datum_1983" => 4269,
        "north_american_1927" | "north_american_datum_1927" => 4267,
        "osgb_1936" => 4277,
        "ch1903" => 4149,
        "ch1903+" | "ch1903_plus" => 4150,
        "belge_1972" | "reseau_national_belge_1972" => 4313,
        "amersfoort" => 4289,
        "deutsches_hauptdreiecksnetz" => 4314,
        "mgi" | "militar_geographische_institut" => 4312,
        "s_jtsk" => 4156,
        "hungarian_datum_1972" => 4237,
        "ntf" | "nouvelle_triangulation_francaise" => 4275,
        "rt_1990" => 4124,
        "tm65" => 4299,
        _ => return None,
    })
}
