//! SipHash (Aumasson, Bernstein 2012): a hash by a key, for what clients choose themselves. Two hosts that share a key
//! have to hash alike whatever programs they run, so the one of the standard library, which promises nothing, will not do.

/// SipHash-1-3, the one for tables.
pub(super) fn sip13(key: [u64; 2], bytes: &[u8]) -> u64 {
    sip::<1, 3>(key, bytes)
}

fn sip<const ROUNDS: u32, const LAST: u32>([k0, k1]: [u64; 2], bytes: &[u8]) -> u64 {
    let mut state = [
        k0 ^ 0x736f_6d65_7073_6575,
        k1 ^ 0x646f_7261_6e64_6f6d,
        k0 ^ 0x6c79_6765_6e65_7261,
        k1 ^ 0x7465_6462_7974_6573,
    ];
    let mut take_in = |word: u64| {
        state[3] ^= word;
        for _ in 0..ROUNDS {
            round(&mut state);
        }
        state[0] ^= word;
    };
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        take_in(u64::from_le_bytes(*word));
    }
    // The last word has the lowest byte of the length on top.
    let mut last = [0; 8];
    for (to, from) in last.iter_mut().zip(rest) {
        *to = *from;
    }
    let [length, ..] = bytes.len().to_le_bytes();
    last[7] = length;
    take_in(u64::from_le_bytes(last));
    state[2] ^= 0xff;
    for _ in 0..LAST {
        round(&mut state);
    }
    state[0] ^ state[1] ^ state[2] ^ state[3]
}

const fn round([a, b, c, d]: &mut [u64; 4]) {
    *a = a.wrapping_add(*b);
    *c = c.wrapping_add(*d);
    *b = b.rotate_left(13) ^ *a;
    *d = d.rotate_left(16) ^ *c;
    *a = a.rotate_left(32);
    *c = c.wrapping_add(*b);
    *a = a.wrapping_add(*d);
    *b = b.rotate_left(17) ^ *c;
    *d = d.rotate_left(21) ^ *a;
    *c = c.rotate_left(32);
}

#[cfg(test)]
mod tests {
    use std::{
        hash::{DefaultHasher, Hasher},
        vec::Vec,
    };

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn it_is_the_one_of_the_paper() {
        // Appendix A of "SipHash: a fast short-input PRF": SipHash-2-4.
        let bytes: Vec<u8> = (0..15).collect();
        let key = [0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908];
        assert_eq!(sip::<2, 4>(key, &bytes), 0xa129_ca61_49be_45e5);
    }

    proptest! {
        #[test]
        fn the_one_for_tables_is_that_of_the_standard_library(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut oracle = DefaultHasher::new();
            oracle.write(&bytes);
            prop_assert_eq!(sip13([0, 0], &bytes), oracle.finish());
        }
    }
}
