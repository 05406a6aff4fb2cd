//! What this crate does with bytes that lie: one fuzz target for each parser.
//!
//! As plain tests, the targets replay their corpora (`__fuzz__/<name>/corpus`, what coverage-guided
//! runs have found, minimised) and some random inputs; [`every_lie_and_every_cut`] gives them valid
//! packets of which each byte lies and which end at each byte. CONTRIBUTING.md has the command that
//! lets libFuzzer look for more. A target asserts more than that nothing panics: that parsing and
//! emitting are inverses, and that offsets stay inside and move on, which bounds the work.

mod frames;
mod headers;
mod seeds;
mod tunnels;

use std::time::Duration;
use wire::LinkType;
use wire::decap::Rules;

/// A target: what a parser has to hold for any bytes.
type Target = fn(&[u8]);

// Random inputs in a plain test run. They find little: the corpus does the work.
const ITERATIONS: usize = 2_000;
// Enough for the whole corpus on a machine that does much else.
const TIME_MAX: Duration = Duration::from_secs(120);

macro_rules! targets {
    ($($name:ident => $target:path,)*) => {
        $(
            #[test]
            fn $name() {
                let check = bolero::check!().with_iterations(ITERATIONS).with_test_time(TIME_MAX);
                check.for_each(|bytes: &[u8]| $target(bytes));
            }
        )*

        const TARGETS: &[(&str, Target)] = &[$((stringify!($name), $target),)*];
    };
}

targets! {
    fuzz_vxlan => headers::vxlan,
    fuzz_geneve => headers::geneve,
    fuzz_metadata => headers::metadata,
    fuzz_gre => headers::gre,
    fuzz_erspan => headers::erspan,
    fuzz_l2tp => headers::l2tp,
    fuzz_udp => headers::udp,
    fuzz_walk => frames::walk,
    fuzz_flow => frames::flow,
    fuzz_segment => frames::segment,
    fuzz_recognise => frames::recognise,
    fuzz_checksum => frames::checksum,
    fuzz_encap => tunnels::encap,
    fuzz_decap => tunnels::decap,
}

/// Values that fields like least.
const LIES: [u8; 9] = [0x00, 0x01, 0x04, 0x0f, 0x40, 0x7f, 0x80, 0xf0, 0xff];

#[test]
fn every_lie_and_every_cut() {
    for (name, target) in TARGETS {
        for seed in seeds::of(name) {
            for len in 0..=seed.len() {
                target(&seed[..len]);
            }
            for at in 0..seed.len() {
                let mut lying = seed.clone();
                for lie in LIES {
                    lying[at] = lie;
                    target(&lying);
                }
                // Both bytes of a length or an offset.
                if let Some(next) = lying.get_mut(at + 1) {
                    *next = 0xff;
                    target(&lying);
                }
            }
        }
    }
}

/// Nests as deep as a packet can be long: the work stays bounded, and so does the stack.
#[test]
fn deep_nests_have_an_end() {
    // Tags, IPv6 extensions, MPLS labels, GENEVE options, and tags in a frame.
    let units: [&[u8]; 5] = [
        &[0x81, 0x00, 0, 1],
        &[60, 0, 1, 4, 0, 0, 0, 0],
        &[0, 0, 0x10, 64],
        &[0xff, 0x7a, 1, 0],
        &[2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 0x81, 0x00],
    ];
    let mut packets: Vec<Vec<u8>> = units.map(|unit| unit.repeat(4_000)).to_vec();
    packets.extend([seeds::nest(4, &[]), seeds::nest(47, &[0, 0, 0x08, 0x00])]);
    for (_, target) in TARGETS {
        for packet in &packets {
            for prefix in [&[][..], &[0], &[1], &[0, 0], &[1, 0], &[4, 9, 20, 16]] {
                target(&[prefix, packet].concat());
            }
        }
    }
    let gre_in_ip = packets.last().expect("there is one");
    assert!(tunnels::layers(&Rules::default(), LinkType::RAW, gre_in_ip) > 1_000);
}
