//! Polygons of well-known binary (OGC 06-103r4), with the codes of heights and measures of both ISO and PostGIS.

use super::{Ring, no_area};
use crate::error::{Error, ErrorKind, Result};

/// How deep collections may lie in each other.
const MAX_DEPTH: usize = 8;

struct Reader<'a> {
    rest: &'a [u8],
    little: bool,
}

/// The polygons of one geometry.
pub(super) fn polygons(bytes: &[u8]) -> Result<Vec<Vec<Ring>>> {
    let mut out = Vec::new();
    Reader { rest: bytes, little: true }.geometry(&mut out, 0)?;
    Ok(out)
}

fn cut_off() -> Error {
    Error::new(ErrorKind::Format, "a geometry ends too early").remedy("check that the file is complete")
}

impl Reader<'_> {
    fn bytes<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (now, rest) = self.rest.split_first_chunk().ok_or_else(cut_off)?;
        self.rest = rest;
        Ok(*now)
    }

    fn number(&mut self) -> Result<u32> {
        let bytes = self.bytes()?;
        Ok(if self.little { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) })
    }

    fn coordinate(&mut self) -> Result<f64> {
        let bytes = self.bytes()?;
        Ok(if self.little { f64::from_le_bytes(bytes) } else { f64::from_be_bytes(bytes) })
    }

    fn geometry(&mut self, out: &mut Vec<Vec<Ring>>, depth: usize) -> Result<()> {
        let [order] = self.bytes()?;
        self.little = match order {
            0 => false,
            1 => true,
            _ => return Err(Error::new(ErrorKind::Format, format!("a geometry begins with the byte {order}"))),
        };
        let code = self.number()?;
        let flags = code >> 28;
        if flags & 2 != 0 {
            // A system's number, as PostGIS writes it; the layer's counts.
            self.number()?;
        }
        let plain = code & 0x0fff_ffff;
        let iso = plain / 1000;
        let dimensions = 2
            + usize::from(flags & 8 != 0 || matches!(iso, 1 | 3))
            + usize::from(flags & 4 != 0 || matches!(iso, 2 | 3));
        match plain % 1000 {
            3 => {
                let polygon = self.polygon(dimensions)?;
                out.push(polygon);
                Ok(())
            }
            6 | 7 if depth < MAX_DEPTH => {
                for _ in 0..self.number()? {
                    self.geometry(out, depth + 1)?;
                }
                Ok(())
            }
            1 | 4 => Err(no_area("points")),
            2 | 5 => Err(no_area("lines")),
            other => Err(Error::new(ErrorKind::Unsupported, format!("geometries of the kind {other} are not read"))
                .remedy("convert curves to polygons: ogr2ogr -nlt CONVERT_TO_LINEAR OUT IN")),
        }
    }

    fn polygon(&mut self, dimensions: usize) -> Result<Vec<Ring>> {
        let rings = self.number()?;
        let mut polygon = Vec::new();
        for _ in 0..rings {
            let points = self.number()? as usize;
            // Not believed before it is there.
            if points.checked_mul(8 * dimensions).is_none_or(|bytes| bytes > self.rest.len()) {
                return Err(cut_off());
            }
            let mut ring = Ring::with_capacity(points);
            for _ in 0..points {
                ring.push([self.coordinate()?, self.coordinate()?]);
                for _ in 2..dimensions {
                    self.coordinate()?;
                }
            }
            polygon.push(ring);
        }
        Ok(polygon)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn square(code: u32, extra: usize) -> Vec<u8> {
        let mut out = vec![1];
        out.extend(code.to_le_bytes());
        out.extend(1u32.to_le_bytes());
        out.extend(4u32.to_le_bytes());
        for point in [[0.0f64, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 0.0]] {
            out.extend(point.iter().flat_map(|v| v.to_le_bytes()));
            out.extend(vec![7; 8 * extra]);
        }
        out
    }

    #[test]
    fn heights_and_measures_are_left_out() {
        let plain = polygons(&square(3, 0)).expect("a polygon");
        assert_eq!(plain[0][0][2], [1.0, 1.0]);
        for (code, extra) in [(1003, 1), (2003, 1), (3003, 2), (3 | 8 << 28, 1), (3 | 4 << 28, 1), (3 | 12 << 28, 2)] {
            assert_eq!(polygons(&square(code, extra)).expect("a polygon"), plain, "{code}");
        }
    }

    #[test]
    fn cut_and_hostile_bytes_are_errors() {
        let whole = square(3, 0);
        for end in 0..whole.len() {
            assert!(polygons(&whole[..end]).is_err(), "{end}");
        }
        let mut huge = whole.clone();
        huge[9..13].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(polygons(&huge).is_err());
        let nested: Vec<u8> = [1, 7, 0, 0, 0, 1, 0, 0, 0].repeat(100_000);
        assert!(polygons(&nested).is_err());
        assert!(polygons(&[1, 1, 0, 0, 0]).expect_err("a point").to_string().contains("points"));
    }
}
