//! Maps of sparse files: which parts of the file are in the archive; the rest is holes.

use super::header::{self, Block};
use super::pax;

/// Where a piece of data belongs in the extracted file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) offset: u64,
    pub(super) length: u64,
}

/// Checks that pieces are in order, do not overlap, stay within the file and are exactly what the archive has.
pub(super) fn check(map: Vec<Segment>, real_size: u64, stored: u64) -> Result<Vec<Segment>, &'static str> {
    let (mut end, mut sum) = (0, 0_u64);
    for segment in &map {
        let next = segment.offset.checked_add(segment.length).ok_or("sparse map out of range")?;
        if segment.offset < end || next > real_size {
            return Err("sparse map out of order or out of range");
        }
        end = next;
        sum = sum.checked_add(segment.length).ok_or("sparse map out of range")?;
    }
    if sum != stored {
        return Err("sparse map does not add up to the stored size");
    }
    Ok(map.into_iter().filter(|segment| segment.length > 0).collect())
}

/// Reads pairs of 12-byte numbers, until an empty one.
pub(super) fn gnu_pairs(raw: &[u8], map: &mut Vec<Segment>) -> Result<(), &'static str> {
    for pair in raw.chunks_exact(24) {
        let (offset, length) = pair.split_at(12);
        if length.first() == Some(&0) {
            break;
        }
        let number = |raw| header::number(raw).and_then(|value| u64::try_from(value).ok());
        let (Some(offset), Some(length)) = (number(offset), number(length)) else {
            return Err("bad sparse map");
        };
        map.push(Segment { offset, length });
    }
    Ok(())
}

/// Tells whether more pairs follow in a block of their own.
pub(super) fn gnu_more(block: &Block, at: usize) -> bool {
    block.get(at).is_some_and(|&flag| flag != 0)
}

/// Reads `offset,length,offset,length` (PAX format 0.1; 0.0 is brought to this form by the reader).
pub(super) fn list(text: &[u8]) -> Result<Vec<Segment>, &'static str> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    pairs(text.split(|&b| b == b',').map(pax::decimal))
}

/// Makes segments of numbers that alternate between offset and length.
pub(super) fn pairs(numbers: impl Iterator<Item = Option<u64>>) -> Result<Vec<Segment>, &'static str> {
    let mut numbers = numbers.map(|number| number.ok_or("bad number in a sparse map"));
    let mut map = Vec::new();
    while let Some(offset) = numbers.next() {
        let length = numbers.next().ok_or("sparse map with an odd number of numbers")??;
        map.push(Segment { offset: offset?, length });
    }
    Ok(map)
}
