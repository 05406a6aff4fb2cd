//! A stock kernel's tunnel devices and ours understand each other, both ways, over IPv4 and IPv6.
//!
//! ```text
//!  this host, a namespace                                         guest: Debian's kernel
//!  ┌─────────────────────────────────────────────────────┐       ┌──────────────────────┐
//!  │ ping ── "inner" ──── mirror ───► tunnel ─┐          │       │   ┌─► t0 ── ping     │
//!  │            ▲                             ├─ "guest" ├───────┤ eth0                 │
//!  │            └──────── receive ◄── tunnel ─┘          │       │   └── t0             │
//!  └─────────────────────────────────────────────────────┘       └──────────────────────┘
//!   inner: 10.72.0.1, guest: 10.71.0.1, fd71::1                   t0: 10.72.0.2, eth0: …2
//! ```
//!
//! Both ends ping each other through it, 100 of 100; `ping` compares what comes back, byte for byte.
//! Then the frames that came out of the kernel's device are sent into the same tunnel by us: what
//! stands behind the outer IP (and UDP) header must be what the kernel sent.

mod over_guest;

use over_guest::*;
use rig::{Guest, guest_or_skip, tool_or_skip};
use std::panic::{AssertUnwindSafe, catch_unwind};

#[test]
fn the_kernel_s_tunnels_are_ours() {
    let Some(image) = guest_or_skip() else { return };
    if !tool_or_skip("ping") || !tool_or_skip("tcpdump") {
        return;
    }
    let scene = Scene::new();
    let mut guest = Guest::boot(&image, scene.netns());
    scene.address(&mut guest);
    let mut failed = Vec::new();
    // A part of what names it, or its end with a `$`, to try only some.
    let wanted = std::env::var("TAPLINE_CASE").unwrap_or_default();
    for case in cases().iter().filter(|case| format!("{case}$").contains(&wanted)) {
        // Each case stands alone: one that fails hides no other.
        let checked = catch_unwind(AssertUnwindSafe(|| scene.check(&mut guest, case)));
        match checked {
            Ok(()) => eprintln!("ok: {case}"),
            Err(_) => failed.push(case.to_string()),
        }
    }
    assert!(failed.is_empty(), "the kernel and tapline differ in:\n{}", failed.join("\n"));
}
