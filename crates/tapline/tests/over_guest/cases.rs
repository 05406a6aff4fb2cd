//! The tunnels that are tried: what the guest's kernel is told, and what tapline is told.

use std::fmt;

/// The addresses of the link between this host and the guest.
pub const HOST: [&str; 2] = ["10.71.0.1", "fd71::1"];
pub const GUEST: [&str; 2] = ["10.71.0.2", "fd71::2"];

/// One tunnel.
pub struct Case {
    /// What makes the device `t0` in the guest.
    pub guest: String,
    /// The endpoint at which the guest receives.
    pub to: String,
    /// The endpoint at which this host receives.
    pub listen: String,
    /// Whether frames with an Ethernet header pass, or IP packets.
    pub is_ethernet: bool,
}

impl Case {
    /// What removes the device again.
    pub fn unmake(&self) -> String {
        match self.guest.starts_with("ip l2tp") {
            true => "ip l2tp del tunnel tunnel_id 1".into(),
            false => "ip link del t0".into(),
        }
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} <-> {}", self.guest, self.to)
    }
}

/// Every tunnel over IPv4, then over IPv6.
pub fn cases() -> Vec<Case> {
    [4, 6].into_iter().flat_map(cases_over).collect()
}

fn cases_over(ip: u8) -> Vec<Case> {
    let index = usize::from(ip == 6);
    let (host, guest) = (HOST[index], GUEST[index]);
    let bracketed = |address: &str| if ip == 6 { format!("[{address}]") } else { address.into() };
    let ends = format!("local {guest} remote {host}");
    let case = |is_ethernet, words: String, scheme: &str, query: &str| {
        let endpoint = |address| format!("{scheme}://{}{query}", bracketed(address));
        let (to, listen) = (endpoint(guest), endpoint(host));
        Case { guest: format!("ip link add t0 {words}"), to, listen, is_ethernet }
    };
    vec![case(true, format!("type vxlan id 71 {ends} dstport 4789"), "vxlan", "?vni=71")]
}
