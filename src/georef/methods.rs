//! Map projections that GeoTIFF keys and well-known text define by their parameters, as PROJ.4 strings.
//!
//! Only those stand here that proj4rs computes as PROJ does (tests/place.rs compares every one of them).

/// A projection method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    TransverseMercator,
    Mercator,
    WebMercator,
    LambertConic,
    Albers,
    LambertAzimuthal,
    PolarStereographic,
    Stereographic,
    ObliqueStereographic,
    /// Hotine's oblique Mercator, false origin where the central line meets the equator of the aposphere.
    ObliqueMercatorNatural,
    /// The same, false origin at the projection's centre.
    ObliqueMercatorCentre,
    EquidistantConic,
    AzimuthalEquidistant,
    Equirectangular,
    Cassini,
    CylindricalEqualArea,
    Sinusoidal,
    Mollweide,
    Robinson,
    Polyconic,
    Orthographic,
    Gnomonic,
}

/// Its parameters: degrees, and eastings and northings in the system's own unit.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct ProjectionParameters {
    pub longitude: f64,
    pub latitude: f64,
    /// Standard parallels.
    pub parallels: [Option<f64>; 2],
    pub scale: Option<f64>,
    pub azimuth: Option<f64>,
    /// The angle from the rectified to the oblique grid.
    pub rectified: Option<f64>,
    pub easting: f64,
    pub northing: f64,
}

impl Method {
    /// The method of GeoTIFF's ProjCoordTransGeoKey.
    pub fn from_geotiff(code: u16) -> Option<Self> {
        Some(match code {
            1 => Self::TransverseMercator,
            3 => Self::ObliqueMercatorNatural,
            7 => Self::Mercator,
            8 | 9 => Self::LambertConic,
            10 => Self::LambertAzimuthal,
            11 => Self::Albers,
            12 => Self::AzimuthalEquidistant,
            13 => Self::EquidistantConic,
            14 => Self::Stereographic,
            15 => Self::PolarStereographic,
            16 => Self::ObliqueStereographic,
            17 => Self::Equirectangular,
            18 => Self::Cassini,
            19 => Self::Gnomonic,
            21 => Self::Orthographic,
            22 => Self::Polyconic,
            23 => Self::Robinson,
            24 => Self::Sinusoidal,
            28 => Self::CylindricalEqualArea,
            // An EPSG method, which GDAL writes for want of a GeoTIFF code.
            9815 => Self::ObliqueMercatorCentre,
            _ => return None,
        })
    }

    /// The method of a PROJECTION in well-known text, as OGC (version 1) or Esri name it.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name.to_ascii_lowercase().as_str() {
            "transverse_mercator" | "gauss_kruger" => Self::TransverseMercator,
            "mercator" | "mercator_1sp" | "mercator_2sp" => Self::Mercator,
            "mercator_auxiliary_sphere" => Self::WebMercator,
            "lambert_conformal_conic" | "lambert_conformal_conic_1sp" | "lambert_conformal_conic_2sp" => {
                Self::LambertConic
            }
            "albers" | "albers_conic_equal_area" => Self::Albers,
            "lambert_azimuthal_equal_area" => Self::LambertAzimuthal,
            "polar_stereographic" | "stereographic_north_pole" | "stereographic_south_pole" => Self::PolarStereographic,
            "stereographic" => Self::Stereographic,
            "oblique_stereographic" | "double_stereographic" => Self::ObliqueStereographic,
            "hotine_oblique_mercator" | "hotine_oblique_mercator_azimuth_natural_origin" => {
                Self::ObliqueMercatorNatural
            }
            "hotine_oblique_mercator_azimuth_center" => Self::ObliqueMercatorCentre,
            "equidistant_conic" => Self::EquidistantConic,
            "azimuthal_equidistant" => Self::AzimuthalEquidistant,
            "equirectangular" | "equidistant_cylindrical" | "plate_carree" => Self::Equirectangular,
            "cassini" | "cassini_soldner" => Self::Cassini,
            "cylindrical_equal_area" => Self::CylindricalEqualArea,
            "sinusoidal" => Self::Sinusoidal,
            "mollweide" => Self::Mollweide,
            "robinson" => Self::Robinson,
            "polyconic" => Self::Polyconic,
            "orthographic" => Self::Orthographic,
            "gnomonic" => Self::Gnomonic,
            _ => return None,
        })
    }

    /// The projection as a PROJ.4 string without ellipsoid, false origin and unit; `None` if a parameter is missing or
    /// means something that this program does not know.
    pub fn proj4(self, p: &ProjectionParameters) -> Option<String> {
        let &ProjectionParameters {
            longitude: lon,
            latitude: lat,
            parallels: [first, second],
            scale,
            azimuth,
            rectified,
            ..
        } = p;
        let k = scale.unwrap_or(1.0);
        let plain = k == 1.0;
        Some(match self {
            Self::TransverseMercator => format!("+proj=tmerc +lat_0={lat} +lon_0={lon} +k={k}"),
            Self::Mercator if lat == 0.0 => match first {
                Some(parallel) if plain => format!("+proj=merc +lon_0={lon} +lat_ts={parallel}"),
                None => format!("+proj=merc +lon_0={lon} +k={k}"),
                Some(_) => return None,
            },
            Self::LambertConic => {
                let first = first.unwrap_or(lat);
                let second = second.unwrap_or(first);
                format!("+proj=lcc +lat_1={first} +lat_2={second} +lat_0={lat} +lon_0={lon} +k_0={k}")
            }
            Self::Albers if plain => {
                let first = first?;
                let second = second.unwrap_or(first);
                format!("+proj=aea +lat_1={first} +lat_2={second} +lat_0={lat} +lon_0={lon}")
            }
            Self::EquidistantConic if plain => {
                let first = first?;
                let second = second.unwrap_or(first);
                format!("+proj=eqdc +lat_1={first} +lat_2={second} +lat_0={lat} +lon_0={lon}")
            }
            Self::LambertAzimuthal if plain => format!("+proj=laea +lat_0={lat} +lon_0={lon}"),
            Self::AzimuthalEquidistant if plain => format!("+proj=aeqd +lat_0={lat} +lon_0={lon}"),
            Self::PolarStereographic => {
                // Either a latitude of true scale or, at the pole, a scale.
                let true_scale = first.unwrap_or(lat);
                let pole = 90f64.copysign(true_scale);
                if true_scale == 0.0 {
                    return None;
                } else if true_scale.abs() == 90.0 {
                    format!("+proj=stere +lat_0={pole} +lon_0={lon} +k={k}")
                } else if plain {
                    format!("+proj=stere +lat_0={pole} +lat_ts={true_scale} +lon_0={lon}")
                } else {
                    return None;
                }
            }
            Self::Stereographic => format!("+proj=stere +lat_0={lat} +lon_0={lon} +k={k}"),
            Self::ObliqueStereographic => format!("+proj=sterea +lat_0={lat} +lon_0={lon} +k={k}"),
            Self::ObliqueMercatorNatural | Self::ObliqueMercatorCentre => {
                let azimuth = azimuth?;
                let rectified = rectified.unwrap_or(azimuth);
                let origin = if self == Self::ObliqueMercatorNatural { " +no_uoff" } else { "" };
                format!("+proj=omerc +lat_0={lat} +lonc={lon} +alpha={azimuth} +gamma={rectified} +k={k}{origin}")
            }
            Self::Equirectangular if plain => {
                format!("+proj=eqc +lat_ts={} +lat_0={lat} +lon_0={lon}", first.unwrap_or(0.0))
            }
            Self::CylindricalEqualArea if plain && lat == 0.0 => {
                format!("+proj=cea +lat_ts={} +lon_0={lon}", first.unwrap_or(0.0))
            }
            Self::Cassini if plain => format!("+proj=cass +lat_0={lat} +lon_0={lon}"),
            Self::Polyconic if plain => format!("+proj=poly +lat_0={lat} +lon_0={lon}"),
            Self::Orthographic if plain => format!("+proj=ortho +lat_0={lat} +lon_0={lon}"),
            Self::Gnomonic if plain => format!("+proj=gnom +lat_0={lat} +lon_0={lon}"),
            Self::Sinusoidal if plain && lat == 0.0 => format!("+proj=sinu +lon_0={lon}"),
            Self::Mollweide if plain && lat == 0.0 => format!("+proj=moll +lon_0={lon}"),
            Self::Robinson if plain && lat == 0.0 => format!("+proj=robin +lon_0={lon}"),
            _ => return None,
        })
    }
}
