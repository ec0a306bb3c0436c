//! Codes of coordinate reference systems: what the EPSG register says about them, and which of those sayings can be
//! relied on.

/// EPSG code of longitude and latitude on WGS 84.
pub const WGS84: u32 = 4326;
/// EPSG code of Web Mercator.
pub const WEB_MERCATOR: u32 = 3857;
/// Codes under which older software writes Web Mercator.
pub(super) const WEB_MERCATOR_ALIASES: [u32; 4] = [900_913, 102_100, 102_113, 3785];

/// Whether a code is of longitude and latitude rather than of a projection.
pub(super) fn is_geographic(epsg: u32) -> bool {
    #[cfg(not(target_arch = "wasm32"))]
    if let Some(definition) = u16::try_from(epsg).ok().and_then(crs_definitions::from_code) {
        return definition.proj4.contains("+proj=longlat");
    }
    // EPSG keeps 4000 to 4999 for geographic systems, with few exceptions.
    (4000..5000).contains(&epsg)
}
