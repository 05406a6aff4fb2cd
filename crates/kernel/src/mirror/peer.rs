//! The return program: it gives back what crossed the private veth.
//!
//! It runs at the ingress of the peer, in the private namespace. Asked to go on at the peer of the peer, a
//! packet arrives at the host end's ingress, in the host's namespace, without another queue.

use Register::{R1, R2};
use filter::ebpf::{Alu, Assembler, Bits, Code, Error, Helper, Register};

/// Makes the return program; `interface` is the number, in the private namespace, of the device whose
/// other end packets go to: the peer itself, or one that leads to yet another namespace.
///
/// # Errors
/// None, as long as an assembler takes four instructions.
pub fn peer(interface: u32) -> Result<Code, Error> {
    let mut asm = Assembler::new();
    asm.alu(Bits::B32, Alu::Move, R1, interface.cast_signed());
    asm.alu(Bits::B32, Alu::Move, R2, 0);
    asm.call(Helper::REDIRECT_PEER);
    asm.exit();
    asm.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_names_the_interface() {
        let listing = peer(7).expect("four instructions").to_string();
        assert!(listing.contains("bpf_redirect_peer"), "{listing}");
        assert_eq!(listing.lines().count(), 4, "{listing}");
    }
}
