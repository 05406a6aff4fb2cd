//! VNI: the 24-bit segment id of VXLAN (RFC 7348) and GENEVE (RFC 8926).

use core::fmt;
use core::num::ParseIntError;
use core::str::FromStr;

/// A VXLAN or GENEVE network identifier, `0..=0xff_ffff`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Vni(u32);

impl Vni {
    /// The largest identifier.
    pub const MAX: u32 = 0xff_ffff;

    /// Takes a number, or `None` above [`Self::MAX`].
    pub const fn new(n: u32) -> Option<Vni> {
        if n <= Self::MAX { Some(Vni(n)) } else { None }
    }

    /// The number.
    pub const fn get(self) -> u32 {
        self.0
    }

    /// Reads the three bytes of the wire.
    pub const fn from_be_bytes(b: [u8; 3]) -> Vni {
        Vni(u32::from_be_bytes([0, b[0], b[1], b[2]]))
    }

    /// The three bytes of the wire.
    pub const fn to_be_bytes(self) -> [u8; 3] {
        let [_, a, b, c] = self.0.to_be_bytes();
        [a, b, c]
    }
}

impl fmt::Display for Vni {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Why a text is not a [`Vni`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseVniError {
    /// Not a decimal number of 32 bits.
    #[error("a VNI is a number from 0 to {max}: {0}", max = Vni::MAX)]
    Number(#[from] ParseIntError),
    /// Does not fit 24 bits.
    #[error("VNI {0} is above {max}, the largest of 24 bits", max = Vni::MAX)]
    Range(u32),
}

impl FromStr for Vni {
    type Err = ParseVniError;

    fn from_str(s: &str) -> Result<Vni, ParseVniError> {
        let n = s.parse()?;
        Vni::new(n).ok_or(ParseVniError::Range(n))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_text() {
        let vni: Vni = "71".parse().unwrap();
        assert_eq!(vni.to_be_bytes(), [0, 0, 71]);
        assert_eq!(Vni::from_be_bytes([0xff, 0xff, 0xff]).get(), Vni::MAX);
        assert_eq!(vni.to_string(), "71");
        assert_eq!("16777216".parse::<Vni>(), Err(ParseVniError::Range(0x100_0000)));
        assert!(matches!("x".parse::<Vni>(), Err(ParseVniError::Number(_))));
        assert_eq!(
            "16777216".parse::<Vni>().unwrap_err().to_string(),
            "VNI 16777216 is above 16777215, the largest of 24 bits"
        );
    }
}
