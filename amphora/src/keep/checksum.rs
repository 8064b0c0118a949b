//! A checksum that every reader of JSON passes over (D54): a line of blanks and tabs behind the document.

/// What is written behind a document.
pub(super) fn trailer(document: &[u8]) -> [u8; TRAILER_BYTES] {
    let sum = crc32c(document);
    let mut line = [b'\n'; TRAILER_BYTES];
    for (bit, place) in (0..32).zip(line.iter_mut().skip(1)) {
        *place = if sum >> bit & 1 == 1 { b'\t' } else { b' ' };
    }
    line
}

/// The document of a file, if its checksum says that it is the one that was written. One without a checksum was written by
/// an earlier release, or by a person: it is taken for what it is.
pub(super) fn verified(file: &[u8]) -> Result<&[u8], &'static str> {
    let document = file.trim_ascii_end();
    let rest = file.get(document.len()..).unwrap_or_default();
    let is_without = rest.iter().all(|byte| matches!(byte, b'\n' | b'\r'));
    if is_without || rest == trailer(document) {
        Ok(document)
    } else if rest.len() == TRAILER_BYTES {
        Err("its checksum does not fit: it is not what was written")
    } else {
        Err("its checksum is not whole: it is not what was written")
    }
}

/// CRC-32C (Castagnoli).
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |sum, byte| {
        let [low, ..] = sum.to_le_bytes();
        let step = TABLE.get(usize::from(low ^ byte)).copied();
        sum >> 8 ^ step.unwrap_or_default()
    })
}

/// What each byte comes to.
#[expect(
    clippy::indexing_slicing,
    reason = "a constant: what is out of bounds does not compile"
)]
const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0_u32;
    while byte < 256 {
        let (mut sum, mut bit) = (byte, 0);
        while bit < 8 {
            sum = sum >> 1 ^ if sum & 1 == 1 { POLYNOMIAL } else { 0 };
            bit += 1;
        }
        table[byte as usize] = sum;
        byte += 1;
    }
    table
};

/// The polynomial, its bits in the order of the wire.
const POLYNOMIAL: u32 = 0x82f6_3b78;
/// 32 bits between the ends of two lines.
pub(super) const TRAILER_BYTES: usize = 34;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_is_that_of_the_standard() {
        // RFC 3720, B.4, and the usual check value.
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn whatever_bit_is_turned_and_wherever_it_is_cut_is_noticed() {
        let document = br#"{"name": "a", "weight": 3}"#;
        let whole = [document.as_slice(), &trailer(document)].concat();
        assert_eq!(verified(&whole), Ok(document.as_slice()));
        // What is taken for a document without a checksum is no JSON then.
        let read = |file: &[u8]| {
            let document = verified(file).ok()?;
            serde_json::from_slice::<serde_json::Value>(document).ok()
        };
        assert!(read(&whole).is_some());
        for bit in 0..whole.len() * 8 {
            let mut turned = whole.clone();
            turned[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(read(&turned), None, "bit {bit}");
        }
        for length in document.len() + 2..whole.len() {
            assert!(verified(&whole[..length]).is_err(), "{length} bytes");
        }
    }

    #[test]
    fn a_document_without_a_sum_is_taken_and_one_with_a_sum_is_json() {
        assert_eq!(verified(b"{}\n"), Ok(b"{}".as_slice()));
        assert_eq!(verified(b"{}"), Ok(b"{}".as_slice()));
        let whole = [b"{}".as_slice(), &trailer(b"{}")].concat();
        // As a release reads it that knows of no sums.
        serde_json::from_slice::<serde_json::Value>(&whole).unwrap();
    }
}
