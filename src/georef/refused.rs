//! Systems whose definition in `crs-definitions` disagrees with the EPSG register.

/// First and last codes.
pub(super) const REFUSED: &[(u16, u16)] = &[];
