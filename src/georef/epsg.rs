//! Which definitions of the EPSG register can be relied on.
//!
//! `crs-definitions` gives PROJ.4 strings, which say less than the register: no grid shifts, no units of geographic
//! systems other than degrees, no order of axes, and one datum shift for the whole area of use where the register has
//! several. What such a string lacks would move every coordinate in silence, so these systems count as not convertible.

use super::refused::REFUSED;

/// The PROJ.4 string of a code.
///
/// # Errors
/// Why it cannot be relied on.
pub(super) fn definition(epsg: u32) -> Result<&'static str, &'static str> {
    let code = u16::try_from(epsg).map_err(|_| "it has no EPSG code")?;
    let text = crs_definitions::from_code(code).ok_or("its definition is not known here")?.proj4;
    if text.contains("+vunits") || text.contains("+geoidgrids") || text.contains("+proj=geocent") {
        return Err("it is not a horizontal system");
    }
    shift(text)?;
    if REFUSED.iter().any(|&(first, last)| (first..=last).contains(&code)) {
        return Err("its definition here is not the register's (unit, axes or datum shift)");
    }
    Ok(text)
}

/// Whether a PROJ.4 string says how its datum lies to WGS 84.
fn shift(text: &str) -> Result<(), &'static str> {
    if text.contains("+nadgrids") || text.contains("+datum=NAD27") {
        return Err("its datum shift needs grids, which this program does not have");
    }
    // Datums of these two ellipsoids lie within metres of WGS 84: NAD83, ETRS89, GDA94 and their like.
    let near = text.contains("+ellps=GRS80") || text.contains("+ellps=WGS84");
    if near || text.contains("+towgs84=") || text.contains("+datum=") {
        return Ok(());
    }
    Err("its datum shift to WGS 84 is not known")
}

/// The part of a PROJ.4 string that says which datum it has: ellipsoid, shift and prime meridian.
pub(super) fn datum(text: &str) -> String {
    const DATUM: [&str; 8] = ["+ellps", "+datum", "+towgs84", "+a", "+b", "+rf", "+pm", "+R"];
    let words = text.split_whitespace().filter(|word| DATUM.contains(&word.split('=').next().unwrap_or_default()));
    words.collect::<Vec<_>>().join(" ")
}
