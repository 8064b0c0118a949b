//! Inputs made of others: bits turned, pieces taken out, doubled, put in or taken from elsewhere. The same ones each time.

/// Makes inputs out of seeds.
pub(crate) struct Spoiler<'a> {
    seeds: &'a [Vec<u8>],
    state: u64,
}

impl<'a> Spoiler<'a> {
    pub(crate) const fn new(seeds: &'a [Vec<u8>]) -> Self {
        Self {
            seeds,
            state: 20_251_107,
        }
    }

    /// The next input: a seed to which up to six things were done.
    pub(crate) fn next(&mut self) -> Vec<u8> {
        let mut input = self.seed().to_vec();
        for _ in 0..=self.below(6) {
            self.spoil(&mut input);
        }
        input
    }

    fn spoil(&mut self, input: &mut Vec<u8>) {
        let (from, to) = self.range(input.len());
        match self.below(7) {
            0 if from < input.len() => input[from] ^= 1 << self.below(8),
            1 if from < input.len() => input[from] = self.byte(),
            2 => {
                input.drain(from..to);
            }
            3 => {
                let piece = input[from..to].to_vec();
                let at = self.below(input.len() + 1);
                input.splice(at..at, piece);
            }
            4 => {
                let other = self.seed();
                let (first, last) = self.range(other.len());
                input.splice(from..to, other[first..last].iter().copied());
            }
            5 => {
                let piece = PIECES[self.below(PIECES.len())];
                input.splice(from..from, piece.iter().copied());
            }
            _ => input.insert(from, self.byte()),
        }
    }

    fn seed(&mut self) -> &'a [u8] {
        let at = self.below(self.seeds.len());
        &self.seeds[at]
    }

    /// A piece of something of that length, mostly a short one.
    fn range(&mut self, length: usize) -> (usize, usize) {
        let from = self.below(length + 1);
        let most = if self.below(4) == 0 { length } else { 8 };
        (from, length.min(from + self.below(most + 1)))
    }

    fn byte(&mut self) -> u8 {
        u8::try_from(self.below(256)).expect("below 256")
    }

    fn below(&mut self, bound: usize) -> usize {
        // SplitMix64.
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ mixed >> 31) % bound as u64).expect("below the bound")
    }
}

/// What means something to one of the targets.
const PIECES: &[&[u8]] = &[
    b"\r\n",
    b"\n",
    b"\r",
    b" ",
    b"\t",
    b":",
    b";",
    b",",
    b"=",
    b"\"",
    b"\\",
    b"%",
    b"#",
    b"_",
    b"-",
    b"0",
    b"\0",
    b"\xff",
    b"\r\n\r\n",
    b"0\r\n\r\n",
    b"Content-Length: 1\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Connection: ",
    b"close",
    b"Upgrade: h2c\r\n",
    b"Host: h\r\n",
    b"TE: trailers\r\n",
    b"HTTP/1.0",
    b"HTTP/2.0",
    b"ffffffffffffffff",
    b"18446744073709551616",
    b"-1",
    b"null",
    b"{}",
    b"[]",
    b"\"\"",
    b"1e999",
    b"PROXY ",
    b"UNKNOWN",
    b"TCP6 ",
    b"::ffff:1.2.3.4",
];
