//! The Huffman code of header fields (RFC 7541 appendix B).
//!
//! It is canonical: codes of one length follow each other in the order of what they stand for, and those of the next
//! length follow them. So the lengths tell all of it.

use super::hpack::Malformed;

/// Writes what `coded` stands for behind what is in `text`.
pub(super) fn decode(coded: &[u8], text: &mut Vec<u8>) -> Result<(), Malformed> {
    // The shortest code has five bits.
    text.reserve(coded.len() * 8 / 5);
    // Bits that are not decoded yet, the first of them at the top, and how many there are.
    let (mut bits, mut count) = (0_u64, 0_u32);
    let mut rest = coded.iter();
    loop {
        while count <= u64::BITS - 8 {
            let Some(byte) = rest.next() else { break };
            bits |= u64::from(*byte) << (u64::BITS - 8 - count);
            count += 8;
        }
        let Some((symbol, length)) = first(bits).filter(|(_, length)| *length <= count) else {
            break;
        };
        text.push(symbol);
        bits <<= length;
        count -= length;
    }
    // What is left is the beginning of a code that stands for nothing, of less than a byte (RFC 7541 section 5.2).
    let is_padding = count < 8 && bits.leading_ones() >= count;
    is_padding.then_some(()).ok_or(Malformed)
}

/// What the code stands for that `bits` begin with, and how long it is.
fn first(bits: u64) -> Option<(u8, u32)> {
    let at = usize::try_from(bits >> (u64::BITS - SHORT_BITS)).unwrap_or_default();
    let [symbol, length] = *SHORT.get(at)?;
    if length > 0 {
        return Some((symbol, u32::from(length)));
    }
    LONG.iter().find_map(|long| {
        let code = bits >> (u64::BITS - long.length);
        let at = usize::try_from(code.checked_sub(long.first)?).ok()?;
        let symbol = SYMBOLS.get(long.at..long.at + long.count)?.get(at)?;
        Some((*symbol, long.length))
    })
}

/// Codes of one length.
#[derive(Clone, Copy)]
struct Codes {
    length: u32,
    /// The first of them.
    first: u64,
    /// What it stands for is here in [`SYMBOLS`], and what the others stand for behind it.
    at: usize,
    count: usize,
}

/// Codes up to so many bits are looked up at once: those of nearly all that occurs.
const SHORT_BITS: u32 = 10;
const LONGEST: u8 = 30;
const LENGTHS_LONG: usize = LONGEST as usize - SHORT_BITS as usize;

/// What a code of up to [`SHORT_BITS`] bits stands for, and its length, by what begins with it; no length: it is longer.
static SHORT: [[u8; 2]; 1 << SHORT_BITS] = short();
/// Longer codes, by their length.
static LONG: [Codes; LENGTHS_LONG] = long();
/// What codes stand for, in their order.
static SYMBOLS: [u8; 256] = symbols();

#[expect(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "done by the compiler, which refuses what does not fit"
)]
const fn symbols() -> [u8; 256] {
    let mut symbols = [0; 256];
    let (mut at, mut length) = (0, 0);
    while length <= LONGEST {
        let mut symbol = 0;
        while symbol < 256 {
            if LENGTHS[symbol] == length {
                symbols[at] = symbol as u8;
                at += 1;
            }
            symbol += 1;
        }
        length += 1;
    }
    symbols
}

#[expect(
    clippy::indexing_slicing,
    reason = "done by the compiler, which refuses what does not fit"
)]
const fn short() -> [[u8; 2]; 1 << SHORT_BITS] {
    let symbols = symbols();
    let mut short = [[0; 2]; 1 << SHORT_BITS];
    let (mut at, mut place) = (0, 0);
    while at < symbols.len() && LENGTHS[symbols[at] as usize] as u32 <= SHORT_BITS {
        let length = LENGTHS[symbols[at] as usize];
        let mut same = 0;
        while same < 1 << (SHORT_BITS - length as u32) {
            short[place] = [symbols[at], length];
            place += 1;
            same += 1;
        }
        at += 1;
    }
    short
}

#[expect(
    clippy::indexing_slicing,
    reason = "done by the compiler, which refuses what does not fit"
)]
const fn long() -> [Codes; LENGTHS_LONG] {
    let mut long = [Codes {
        length: 0,
        first: 0,
        at: 0,
        count: 0,
    }; LENGTHS_LONG];
    let (mut first, mut at, mut length) = (0_u64, 0, 1_u8);
    while length <= LONGEST {
        first <<= 1;
        let (mut count, mut symbol) = (0, 0);
        while symbol < 256 {
            if LENGTHS[symbol] == length {
                count += 1;
            }
            symbol += 1;
        }
        if length as u32 > SHORT_BITS {
            long[length as usize - SHORT_BITS as usize - 1] = Codes {
                length: length as u32,
                first,
                at,
                count,
            };
        }
        first += count as u64;
        at += count;
        length += 1;
    }
    long
}

/// How long the code of each byte is.
#[rustfmt::skip]
const LENGTHS: [u8; 256] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
     6, 10, 10, 12, 13,  6,  8, 11, 10, 10,  8, 11,  8,  6,  6,  6,
     5,  5,  5,  6,  6,  6,  6,  6,  6,  6,  7,  8, 15,  6, 12, 10,
    13,  6,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,
     7,  7,  7,  7,  7,  7,  7,  7,  8,  7,  8, 13, 19, 13, 14,  6,
    15,  5,  6,  5,  6,  5,  6,  6,  6,  5,  7,  7,  6,  6,  6,  5,
     6,  7,  6,  5,  5,  6,  7,  7,  7,  7,  7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// By the lengths alone, one bit after the other.
    fn encode(text: &[u8]) -> Vec<u8> {
        let mut codes = [(0_u32, 0_u8); 256];
        let (mut code, mut before) = (0_u32, 0);
        for symbol in SYMBOLS {
            let length = LENGTHS[usize::from(symbol)];
            code <<= length - before;
            before = length;
            codes[usize::from(symbol)] = (code, length);
            code += 1;
        }
        let mut bits = Vec::new();
        for byte in text {
            let (code, length) = codes[usize::from(*byte)];
            bits.extend((0..length).rev().map(|at| code >> at & 1 == 1));
        }
        let byte = |bits: &[bool]| {
            let all = bits.iter().copied().chain(std::iter::repeat(true));
            all.take(8).fold(0, |byte, bit| byte << 1 | u8::from(bit))
        };
        bits.chunks(8).map(byte).collect()
    }

    fn decoded(coded: &[u8]) -> Result<Vec<u8>, Malformed> {
        let mut text = Vec::new();
        decode(coded, &mut text).map(|()| text)
    }

    #[test]
    fn the_examples_of_the_standard_are_read() {
        // RFC 7541 appendix C.4 and C.6.
        for (coded, text) in [
            (
                &[
                    0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff,
                ][..],
                "www.example.com",
            ),
            (&[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf], "no-cache"),
            (&[0x64, 0x02], "302"),
            (
                &[
                    0xd0, 0x7a, 0xbe, 0x94, 0x10, 0x54, 0xd4, 0x44, 0xa8, 0x20, 0x05, 0x95, 0x04,
                    0x0b, 0x81, 0x66, 0xe0, 0x82, 0xa6, 0x2d, 0x1b, 0xff,
                ],
                "Mon, 21 Oct 2013 20:13:21 GMT",
            ),
        ] {
            assert_eq!(decoded(coded).unwrap(), text.as_bytes());
            assert_eq!(encode(text.as_bytes()), coded);
        }
    }

    #[test]
    fn padding_is_less_than_a_byte_of_ones() {
        for coded in [
            &[0xff][..],
            &[0xff; 4],
            &[0xff; 8],
            // `0` and zeros, and `0` with a byte too much.
            &[0x00],
            &[0x07, 0xff],
        ] {
            let text = decoded(coded);
            let right = text.as_ref().is_ok_and(|text| encode(text) == coded);
            assert!(text.is_err() || right, "{coded:?} is {text:?}");
        }
        assert_eq!(decoded(&[0x07]).unwrap(), b"0");
        assert!(decoded(&[0x06]).is_err() && decoded(&[0x07, 0xff]).is_err());
        assert!(decoded(&[]).unwrap().is_empty());
    }

    proptest! {
        #[test]
        fn what_is_coded_is_read_as_the_same(text in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(decoded(&encode(&text)).unwrap(), text);
        }

        #[test]
        fn whatever_is_read_has_one_code(coded in prop::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(text) = decoded(&coded) {
                prop_assert_eq!(encode(&text), coded);
            }
        }
    }
}
