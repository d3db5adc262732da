//! Masking (RFC 6455 §5.3), the same operation in both directions.

/// XORs `bytes` with the repeated `mask`, eight bytes at a time.
#[inline]
pub(super) fn unmask(bytes: &mut [u8], mask: [u8; 4]) {
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, tail) = bytes.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, mask) in tail.iter_mut().zip([a, b, c, d, a, b, c]) {
        *byte ^= mask;
    }
}

/// The mask as the byte after the next `count` bytes meets it.
#[inline]
pub(super) fn advance(mask: [u8; 4], count: usize) -> [u8; 4] {
    // `count % 4` fits any integer.
    let bits = 8 * (count % 4) as u32;
    u32::from_le_bytes(mask).rotate_right(bits).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MASK: [u8; 4] = [0x6d, 0xb6, 0xb2, 0x80];

    fn naive(bytes: &[u8]) -> Vec<u8> {
        bytes
            .iter()
            .enumerate()
            .map(|(index, byte)| byte ^ MASK[index % 4])
            .collect()
    }

    #[test]
    fn unmask_is_the_rfc_formula_for_every_length() {
        let bytes: Vec<u8> = (0..=255).collect();
        for len in 0..=bytes.len() {
            let mut got = bytes[..len].to_vec();
            unmask(&mut got, MASK);
            assert_eq!(got, naive(&bytes[..len]), "length {len}");
        }
    }

    #[test]
    fn a_payload_cut_anywhere_unmasks_alike() {
        let bytes: Vec<u8> = (0..40).collect();
        for cut in 0..=bytes.len() {
            let mut got = bytes.clone();
            let (head, tail) = got.split_at_mut(cut);
            unmask(head, MASK);
            unmask(tail, advance(MASK, cut));
            assert_eq!(got, naive(&bytes), "cut at {cut}");
        }
    }
}
