//! What packets carry.

use super::random::Random;

/// Longer than any window of a compressor's, so that what comes twice is not found.
const POOL_BYTES: usize = 16 << 20;
const WORDS: u64 = 4_000;

/// What a flow's packets are filled with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filling {
    /// As random bytes.
    Encrypted,
    /// Lines of words and numbers.
    Text,
}

/// Bytes to cut payloads out of.
pub struct Payloads {
    encrypted: Vec<u8>,
    text: Vec<u8>,
}

impl Payloads {
    pub fn new(random: &mut Random) -> Payloads {
        let mut encrypted = Vec::with_capacity(POOL_BYTES);
        while encrypted.len() < POOL_BYTES {
            encrypted.extend_from_slice(&random.next().to_le_bytes());
        }
        Payloads { encrypted, text: text(random) }
    }

    /// Appends so many bytes, from a random place on.
    pub fn fill(&self, random: &mut Random, filling: Filling, bytes: usize, frame: &mut Vec<u8>) {
        let pool = match filling {
            Filling::Encrypted => &self.encrypted,
            Filling::Text => &self.text,
        };
        let at = random.below((pool.len() - bytes) as u64) as usize;
        frame.extend_from_slice(&pool[at..at + bytes]);
    }
}

fn text(random: &mut Random) -> Vec<u8> {
    const SYLLABLES: [&str; 16] = [
        "con", "ter", "pa", "li", "no", "ment", "ser", "vi", "ta", "ro", "ing", "de", "ab", "el",
        "us", "qui",
    ];
    const MARKS: [&str; 8] = [" ", " ", " ", " ", "=\"", "\": ", "</", ", "];
    let words: Vec<String> = (0..WORDS)
        .map(|_| {
            let syllables = 1 + random.below(4);
            (0..syllables).map(|_| SYLLABLES[random.below(16) as usize]).collect()
        })
        .collect();
    let mut text = String::with_capacity(POOL_BYTES + 64);
    while text.len() < POOL_BYTES {
        text += &words[random.popular(WORDS) as usize];
        match random.below(12) {
            0 => text += "\r\n",
            1 | 2 => text += &format!(" {} ", random.below(1_000_000)),
            3 => text += &format!("{:016x}", random.next()),
            mark => text += MARKS[mark as usize % MARKS.len()],
        }
    }
    text.into_bytes()
}
