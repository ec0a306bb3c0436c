//! What a JPEG's bytes say beside its pixels: whether they are complete, and GDAL's mask behind them.

use std::io::Read;

use flate2::read::ZlibDecoder;

/// Whether a JPEG reaches its end marker.
pub(super) fn is_complete(bytes: &[u8]) -> bool {
    let mut at = 2; // behind the start marker
    loop {
        // The next marker: 0xff and a byte that is neither stuffing nor a restart. Compressed data holds no other.
        let marker = loop {
            match bytes.get(at..at + 2) {
                Some([0xff, 0 | 0xff | 0xd0..=0xd7]) | Some([0..=0xfe, _]) => at += 1,
                Some([_, marker]) => break *marker,
                _ => return false,
            }
        };
        if marker == 0xd9 {
            return true;
        }
        let Some(&[high, low]) = bytes.get(at + 2..at + 4) else { return false };
        at += 2 + usize::from(u16::from_be_bytes([high, low]));
    }
}

/// Which pixels hold data, by the mask that GDAL appends to a JPEG of `pixels` pixels: one bit a pixel, least significant
/// first, deflated; behind it stands where it begins. None if there is no such mask.
pub(super) fn appended_mask(bytes: &[u8], pixels: usize) -> Option<Vec<bool>> {
    let (rest, last) = bytes.split_last_chunk::<4>()?;
    let start = u32::from_le_bytes(*last) as usize;
    let (picture, mask) = rest.split_at_checked(start)?;
    if start < bytes.len() / 2 || mask.is_empty() || !picture.ends_with(&[0xff, 0xd9]) {
        return None;
    }
    let mut bits = Vec::with_capacity(pixels.div_ceil(8));
    ZlibDecoder::new(mask).take(pixels.div_ceil(8) as u64).read_to_end(&mut bits).ok()?;
    (bits.len() == pixels.div_ceil(8)).then(|| (0..pixels).map(|i| bits[i / 8] >> (i % 8) & 1 == 1).collect())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn masks_behind_pictures() {
        let picture = [&[0xff, 0xd8][..], &[7; 60], &[0xff, 0xd9]].concat();
        assert!(appended_mask(&picture, 10).is_none());
        let mut deflated = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        deflated.write_all(&[0b1111_0010, 0b01]).expect("written");
        let deflated = deflated.finish().expect("deflated");
        let whole = [&picture[..], &deflated, &(picture.len() as u32).to_le_bytes()].concat();
        let mask = appended_mask(&whole, 10).expect("a mask");
        assert_eq!(mask, [false, true, false, false, true, true, true, true, true, false]);
        // Too short for so many pixels, or not where it says.
        assert!(appended_mask(&whole, 17).is_none() && appended_mask(&whole[..whole.len() - 1], 10).is_none());
    }
}
