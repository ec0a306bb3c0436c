//! How much ground each class covers, in whole and by area, with how sure that is.
//!
//! Areas are true areas on the ellipsoid: those of blocks of 64 x 64 pixels, spread evenly over their pixels. The uncertainty is
//! that of counting pixels: a pixel at a border, which has a neighbour (of four) of another class, may be half one and half the
//! other, so the area of a class is given within half a pixel for each of its border pixels. It says nothing of the model's errors.

use std::fmt::Write;

use super::clip::{Clip, Span};
use crate::config::Class;
use crate::error::{Error, ErrorKind, Result};
use crate::georef::{Georef, ToLonLat, ring_area};
use crate::mask::NO_DATA;

/// Columns and rows of a block whose pixels count as equally large.
const BLOCK: usize = 64;

/// What is known of a class within an area.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Cover {
    /// Pixels.
    pub pixels: u64,
    /// Their area in square metres; 0 where the place is not known.
    pub area_m2: f64,
    /// Those at a border to another class.
    pub border_pixels: u64,
    /// Their area in square metres.
    pub border_m2: f64,
    /// Sum of confidence, 0 to 255 a pixel.
    confidence: u64,
}

/// A line of the table: a class within an area.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// The area's name; empty for the whole image.
    pub area: String,
    /// The class index; [`NO_DATA`] for pixels without data.
    pub class: u8,
    /// The class's name; `no data`.
    pub name: String,
    /// Pixels.
    pub pixels: u64,
    /// Hectares, where the place is known.
    pub hectares: Option<f64>,
    /// Share of what holds data in the area, by ground where the place is known, else by pixels; of pixels without data, their share of
    /// everything. 0 to 1.
    pub share: f64,
    /// By how much hectares may be off as pixels are counted.
    pub uncertainty_hectares: Option<f64>,
    /// Mean confidence, 0 to 1; 0 where there is no pixel.
    pub confidence: f64,
}

/// Adds up classes row by row.
pub struct Statistics<'a> {
    georef: Option<(&'a Georef, ToLonLat)>,
    size: (usize, usize),
    /// By area, then by class.
    covers: Vec<Vec<Cover>>,
    /// The last two rows: classes and confidence.
    rows: [(Vec<u8>, Vec<u8>); 2],
    /// Rows that have come in.
    received: usize,
    /// Square metres of a pixel in each block of the band of rows that begins here.
    pixel_areas: (usize, Vec<f64>),
}

impl<'a> Statistics<'a> {
    /// For an image of `width` x `height` pixels, by the areas of a clip if it has any, else in whole.
    pub fn new(georef: Option<&'a Georef>, size: (usize, usize), clip: Option<&Clip>) -> Self {
        let areas = clip.map_or(1, |clip| clip.names().len());
        let georef = georef.and_then(|g| Some((g, g.to_lon_lat(size.0, size.1).ok()?)));
        let (rows, pixel_areas) = (Default::default(), (usize::MAX, Vec::new()));
        Self { georef, size, covers: vec![vec![Cover::default(); 256]; areas], rows, received: 0, pixel_areas }
    }

    /// Takes the next whole rows.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for parts of rows or rows beyond the image, or if a pixel lies outside the map projection.
    pub fn rows(&mut self, classes: &[u8], confidence: &[u8], clip: Option<&Clip>) -> Result<()> {
        let width = self.size.0;
        let rows = classes.len() / width;
        if classes.len() != confidence.len() || rows * width != classes.len() || self.received + rows > self.size.1 {
            return Err(Error::new(ErrorKind::Invalid, "the rows given do not fill the image exactly"));
        }
        for (row, sure) in classes.chunks_exact(width).zip(confidence.chunks_exact(width)) {
            // Each row waits for the one below it.
            if self.received > 0 {
                self.count(Some(row), clip)?;
            }
            self.rows.swap(0, 1);
            self.rows[1] = (row.to_vec(), sure.to_vec());
            self.received += 1;
        }
        Ok(())
    }

    /// Counts the row that came last, whose neighbour below is known now.
    fn count(&mut self, below: Option<&[u8]>, clip: Option<&Clip>) -> Result<()> {
        let y = self.received - 1;
        self.measure(y)?;
        let whole = [Span { start: 0, end: self.size.0, area: 0 }];
        let spans = clip.map(|clip| clip.row(y));
        let [(above, _), (row, sure)] = &self.rows;
        let above = (y > 0).then_some(above.as_slice());
        for span in spans.as_deref().unwrap_or(&whole) {
            let covers = &mut self.covers[span.area];
            for x in span.start..span.end {
                let class = row[x];
                let differs = |other: Option<u8>| other.is_some_and(|other| other != class && other != NO_DATA);
                let side = |dx: usize| row.get(x.wrapping_add(dx)).copied();
                let border = class != NO_DATA
                    && (differs(side(1))
                        || differs(side(usize::MAX))
                        || differs(above.map(|r| r[x]))
                        || differs(below.map(|r| r[x])));
                let area = self.pixel_areas.1.get(x / BLOCK).copied().unwrap_or(0.0);
                let cover = &mut covers[usize::from(class)];
                cover.pixels += 1;
                cover.area_m2 += area;
                cover.confidence += u64::from(sure[x]);
                if border {
                    cover.border_pixels += 1;
                    cover.border_m2 += area;
                }
            }
        }
        Ok(())
    }

    /// Measures the pixels of a row's blocks.
    fn measure(&mut self, row: usize) -> Result<()> {
        let Some((georef, to)) = &self.georef else { return Ok(()) };
        let top = row / BLOCK * BLOCK;
        if self.pixel_areas.0 == top {
            return Ok(());
        }
        let (width, height) = self.size;
        let bottom = (top + BLOCK).min(height);
        let mut areas = Vec::with_capacity(width.div_ceil(BLOCK));
        for left in (0..width).step_by(BLOCK) {
            let right = (left + BLOCK).min(width);
            // Around the block, with points between its corners.
            let mut ring: Vec<[f64; 2]> = Vec::new();
            let corners = [[left, top], [right, top], [right, bottom], [left, bottom], [left, top]];
            for side in corners.windows(2) {
                for step in 0..4 {
                    let at =
                        |i: usize| side[0][i] as f64 + (side[1][i] as f64 - side[0][i] as f64) * f64::from(step) / 4.0;
                    let [lon, lat] = georef.lon_lat(to, [at(0), at(1)])?;
                    let near = ring.last().map_or(lon, |p| p[0]);
                    ring.push([lon + 360.0 * ((near - lon) / 360.0).round(), lat]);
                }
            }
            let first = ring[0];
            let last = ring[ring.len() - 1][0];
            ring.push([first[0] + 360.0 * ((last - first[0]) / 360.0).round(), first[1]]);
            areas.push(ring_area(&ring) / ((right - left) * (bottom - top)) as f64);
        }
        self.pixel_areas = (top, areas);
        Ok(())
    }

    /// The table: for each area the classes in the order given, then what holds no data.
    ///
    /// # Errors
    /// As [`Statistics::rows`]; [`ErrorKind::Invalid`] if rows are missing.
    pub fn finish(mut self, classes: &[Class], clip: Option<&Clip>) -> Result<Vec<Line>> {
        if self.received != self.size.1 {
            return Err(Error::new(ErrorKind::Invalid, "the rows given do not fill the image exactly"));
        }
        self.count(None, clip)?;
        let known = self.georef.is_some();
        let measure = |cover: &Cover| if known { cover.area_m2 } else { cover.pixels as f64 };
        let mut lines = Vec::new();
        for (i, covers) in self.covers.iter().enumerate() {
            let area = clip.and_then(|c| c.names().get(i).cloned()).unwrap_or_default();
            let everything: f64 = covers.iter().map(measure).sum();
            let without = covers[usize::from(NO_DATA)];
            let with = everything - measure(&without);
            let line = |class: u8, name: &str, of: f64| {
                let cover = covers[usize::from(class)];
                Line {
                    area: area.clone(),
                    class,
                    name: name.to_owned(),
                    pixels: cover.pixels,
                    hectares: known.then_some(cover.area_m2 / 1e4),
                    share: if of > 0.0 { measure(&cover) / of } else { 0.0 },
                    uncertainty_hectares: known.then_some(cover.border_m2 / 2e4),
                    confidence: cover.confidence as f64 / (255.0 * cover.pixels.max(1) as f64),
                }
            };
            lines.extend(classes.iter().map(|class| line(class.index, &class.name, with)));
            lines.push(line(NO_DATA, "no data", everything));
        }
        Ok(lines)
    }
}

/// The table's columns.
pub const COLUMNS: [(&str, &str); 8] = [
    ("area", "TEXT"),
    ("class", "INTEGER"),
    ("name", "TEXT"),
    ("pixels", "INTEGER"),
    ("hectares", "REAL"),
    ("share", "REAL"),
    ("uncertainty_hectares", "REAL"),
    ("confidence", "REAL"),
];

/// The table as text (RFC 4180), with a first line of names. Numbers that are not known are empty.
pub fn csv(lines: &[Line]) -> String {
    let quoted = |text: &str| {
        let plain = !text.contains(['"', ',', '\n', '\r']);
        if plain { text.to_owned() } else { format!("\"{}\"", text.replace('"', "\"\"")) }
    };
    let number = |value: Option<f64>| value.map_or_else(String::new, |v| format!("{v:.6}"));
    let mut out = COLUMNS.map(|(name, _)| name).join(",") + "\r\n";
    for line in lines {
        // Writing to a text cannot fail.
        let _ = write!(
            out,
            "{},{},{},{},{},{:.6},{},{:.4}\r\n",
            quoted(&line.area),
            line.class,
            quoted(&line.name),
            line.pixels,
            number(line.hectares),
            line.share,
            number(line.uncertainty_hectares),
            line.confidence
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::georef::Crs;

    #[test]
    fn hectares_shares_and_borders() {
        let class = |index, name: &str| Class { index, name: name.into(), color: [0; 3], threshold: None };
        let classes = [class(0, "back"), class(1, "a, \"b\"")];
        #[rustfmt::skip]
        let mask = [
            0, 0, 0, 0,
            0, 1, 1, NO_DATA,
            0, 1, 1, 1,
        ];
        // Ten metres a pixel; UTM's scale on its central meridian is 0.9996.
        let georef = Georef { transform: [10.0, 0.0, 500_000.0, 0.0, -10.0, 5_000_000.0], crs: Crs::from_epsg(32_631) };
        for portion in [1, 2, 3] {
            let mut statistics = Statistics::new(Some(&georef), (4, 3), None);
            for rows in mask.chunks(4 * portion) {
                statistics.rows(rows, &vec![51; rows.len()], None).expect("rows");
            }
            let lines = statistics.finish(&classes, None).expect("complete");
            assert_eq!(lines.iter().map(|l| l.pixels).collect::<Vec<_>>(), [6, 5, 1]);
            let hectare = 100.0 / (0.9996 * 0.9996) / 1e4;
            let near = |a: Option<f64>, b: f64| (a.expect("known") - b).abs() < 1e-6;
            assert!(near(lines[1].hectares, 5.0 * hectare), "{lines:?}");
            // Two of the five have no neighbour of another class: one in the lower row, and the one beside what is no data.
            assert!(near(lines[1].uncertainty_hectares, 1.5 * hectare), "{lines:?}");
            assert!((lines[0].share - 6.0 / 11.0).abs() < 1e-6 && (lines[2].share - 1.0 / 12.0).abs() < 1e-6);
            assert!((lines[1].confidence - 0.2).abs() < 1e-9);
            let text = csv(&lines);
            assert!(text.starts_with("area,class,name,") && text.contains(",1,\"a, \"\"b\"\"\",5,0.05"), "{text}");
        }
        assert!(Statistics::new(None, (4, 3), None).finish(&classes, None).is_err());
    }
}
