//! Long lists of rules, and the packet that each of them matches.

use filter::{Action, PortRange, Rule, Rules, Transport};

/// As many rules as wanted, none of which matches what another does: a source network and a port.
///
/// # Panics
/// Above 40,000.
pub fn apart(count: usize) -> Rules {
    let rule = |number: usize| Rule {
        source: Some(
            format!("10.{}.{}.0/24", number / 200 % 200, number % 200).parse().expect("a net"),
        ),
        protocol: Some(6),
        transport: Transport::Ports {
            source: None,
            destination: Some(PortRange::one((1 + number) as u16)),
        },
        ..Rule::new(if number.is_multiple_of(3) { Action::Exclude } else { Action::Include })
    };
    Rules::new((0..count).map(rule).collect()).expect("they are sound")
}

/// A TCP packet that the rule of that index in [`apart`] matches.
pub fn frame_for(number: usize) -> Vec<u8> {
    let mut frame = vec![0; 60];
    frame[12..24].copy_from_slice(&[8, 0, 0x45, 0, 0, 46, 0, 0, 0, 0, 64, 6]);
    let source = [10, (number / 200 % 200) as u8, (number % 200) as u8, 7];
    frame[26..30].copy_from_slice(&source);
    frame[36..38].copy_from_slice(&((1 + number) as u16).to_be_bytes());
    frame
}
