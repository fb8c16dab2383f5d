//! The data types of SSH (RFC 4251, section 5).

/// Reads a message from its start.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    pub(super) fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    pub(super) fn number(&mut self) -> Option<u32> {
        Some(u32::from_be_bytes(self.take(4)?.try_into().ok()?))
    }

    pub(super) fn string(&mut self) -> Option<&'a [u8]> {
        let length = self.number()?;
        self.take(usize::try_from(length).ok()?)
    }

    /// Reads a number of any size that is not negative, without the zeros before it.
    pub(super) fn big(&mut self) -> Option<&'a [u8]> {
        self.string().map(trim)
    }
}

/// Appends a string.
pub(super) fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    // No key and no request has 4 GiB.
    out.extend((bytes.len() as u32).to_be_bytes());
    out.extend_from_slice(bytes);
}

/// Appends a number that is not negative.
pub(super) fn put_big(out: &mut Vec<u8>, number: &[u8]) {
    let number = trim(number);
    let mut bytes = Vec::with_capacity(number.len() + 1);
    if number.first().is_some_and(|first| first & 0x80 != 0) {
        bytes.push(0);
    }
    bytes.extend_from_slice(number);
    put(out, &bytes);
}

fn trim(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    number.get(zeros..).unwrap_or_default()
}

/// Returns the remainder of a division of big-endian numbers, with the divisor's length; `None` for zero.
pub(super) fn remainder(number: &[u8], divisor: &[u8]) -> Option<Vec<u8>> {
    let divisor = trim(divisor);
    if divisor.is_empty() {
        return None;
    }
    // One byte more, for the doubling.
    let mut rest = vec![0_u8; divisor.len() + 1];
    for bit in number.iter().flat_map(|byte| (0..8).rev().map(move |at| byte >> at & 1)) {
        let mut carry = bit;
        for byte in rest.iter_mut().rev() {
            let high = *byte >> 7;
            *byte = *byte << 1 | carry;
            carry = high;
        }
        let (head, tail) = rest.split_first_mut()?;
        if *head != 0 || &*tail >= divisor {
            let mut borrow = 0_i16;
            for (byte, less) in tail.iter_mut().zip(divisor).rev() {
                let value = i16::from(*byte) - i16::from(*less) - borrow;
                borrow = i16::from(value < 0);
                *byte = value.rem_euclid(256) as u8;
            }
            *head = head.wrapping_sub(borrow as u8);
        }
    }
    rest.remove(0);
    Some(rest)
}
