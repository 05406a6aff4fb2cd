//! Random capture filter rules and packets, and a plain reading of what the rules mean.
//!
//! ```
//! use filter::Direction;
//! use rig::rules::{Random, verdict};
//! use wire::LinkType;
//!
//! let mut random = Random::new(1);
//! let rules = random.rules(20);
//! let program = rules.compile(LinkType::ETHERNET, Direction::In).unwrap();
//! for _ in 0..100 {
//!     let frame = random.frame(LinkType::ETHERNET);
//!     let expected = verdict(&rules, LinkType::ETHERNET, Direction::In, &frame);
//!     assert_eq!(program.run(&frame, frame.len() as u32), expected);
//! }
//! ```

mod apart;
mod frames;
mod random;
mod reference;
mod tally;

pub use apart::{apart, frame_for};
pub use random::Random;
pub use reference::verdict;
pub use tally::Tally;
