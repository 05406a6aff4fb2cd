//! What an endpoint says of its part in a group: `weight`, `health` and its times, `hash`,
//! `fail_open`.

use super::fail;
use crate::{Check, Error, FlowKey, Health, parse_duration};
use std::ops::RangeInclusive;
use std::time::Duration;

/// Names of the keys.
pub(super) const KEYS: &str = "weight, health, interval, timeout, rise, fall, hash and fail_open";

const WEIGHTS: RangeInclusive<u16> = 1..=1000;
const TRIES: RangeInclusive<u32> = 1..=100;
const INTERVALS: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(3600);
const TIMEOUTS: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(60);

/// What an endpoint says of its part in a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    /// The share of the group's load, relative to the other members. 1 to 1000.
    pub weight: u16,
    /// How it is known that it is alive; `None`: it is taken for that.
    pub health: Option<Health>,
    /// What makes two packets ones of a flow: said of the group by one of its members, or by several
    /// alike.
    pub hash: Option<FlowKey>,
    /// Whether all members are used when none of them is healthy; likewise.
    pub fail_open: Option<bool>,
}

impl Default for Membership {
    fn default() -> Membership {
        Membership { weight: 1, health: None, hash: None, fail_open: None }
    }
}

/// Which checks there are for an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// A host that answers by IP.
    Host,
    /// An interface.
    Interface,
    /// A device of tapline's own.
    Device,
}

impl Place {
    /// Refuses a check that there is not for such an endpoint.
    pub fn admit(self, text: &str, check: &Check) -> Result<(), Error> {
        let mend = match (self, check) {
            (Place::Host, Check::Tcp { .. } | Check::Http { .. } | Check::Sink { .. })
            | (Place::Interface, Check::Link | Check::Neighbour { .. }) => return Ok(()),
            (Place::Host, _) => "it is for interfaces; write tcp:PORT, http:PORT/PATH or sink:PORT",
            (Place::Interface, _) => {
                "an interface has no address to ask; write link or neighbour:ADDRESS"
            }
            (Place::Device, _) => "the device is tapline's own and always there; leave it out",
        };
        Err(fail(text, &format!("health `{check}`: {mend}")))
    }
}

/// Gathers what an endpoint's keys say.
#[derive(Default)]
pub(super) struct Reader {
    membership: Membership,
    check: Option<Check>,
    interval: Option<Duration>,
    timeout: Option<Duration>,
    rise: Option<u32>,
    fall: Option<u32>,
}

impl Reader {
    /// Takes a key; returns whether it is one of these.
    pub fn take(&mut self, text: &str, key: &str, value: &str) -> Result<bool, Error> {
        let bad = |wanted: &str| fail(text, &format!("{key} `{value}` is not {wanted}"));
        let tries = || {
            let tries = value.parse().ok().filter(|tries| TRIES.contains(tries));
            tries.map(Some).ok_or_else(|| bad("a number from 1 to 100"))
        };
        let time = |range: RangeInclusive<Duration>, wanted: &str| {
            let time = parse_duration(value).ok().filter(|time| range.contains(time));
            time.map(Some).ok_or_else(|| bad(wanted))
        };
        match key {
            "weight" => {
                let weight = value.parse().ok().filter(|weight| WEIGHTS.contains(weight));
                self.membership.weight = weight.ok_or_else(|| bad("a number from 1 to 1000"))?;
            }
            "health" => {
                let check = value.parse().map_err(|e: Error| fail(text, &e.to_string()))?;
                self.check = Some(check);
            }
            "interval" => self.interval = time(INTERVALS, "a time from 10ms to 1h")?,
            "timeout" => self.timeout = time(TIMEOUTS, "a time from 1ms to 60s")?,
            "rise" => self.rise = tries()?,
            "fall" => self.fall = tries()?,
            "hash" => {
                let names = FlowKey::NAMES.map(|(name, _)| name).join(", ");
                let key = value.parse().map_err(|_| bad(&format!("one of {names}")))?;
                self.membership.hash = Some(key);
            }
            "fail_open" => {
                self.membership.fail_open = Some(match value {
                    "on" => true,
                    "off" => false,
                    _ => return Err(bad("on or off")),
                });
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// What all keys say together.
    pub fn finish(self, text: &str, place: Place) -> Result<Membership, Error> {
        let Reader { mut membership, check, interval, timeout, rise, fall } = self;
        let Some(check) = check else {
            let named = [
                ("interval", interval.is_some()),
                ("timeout", timeout.is_some()),
                ("rise", rise.is_some()),
                ("fall", fall.is_some()),
            ];
            return match named.iter().find(|(_, is_there)| *is_there) {
                Some((key, _)) => Err(fail(
                    text,
                    &format!("`{key}` belongs to a health check; add `health=…`, or leave it out"),
                )),
                None => Ok(membership),
            };
        };
        place.admit(text, &check)?;
        let usual = Health::of(check);
        let interval = interval.unwrap_or(usual.interval);
        membership.health = Some(Health {
            interval,
            timeout: timeout.unwrap_or(interval.min(*TIMEOUTS.end())),
            rise: rise.unwrap_or(usual.rise),
            fall: fall.unwrap_or(usual.fall),
            check: usual.check,
        });
        Ok(membership)
    }
}

#[cfg(test)]
mod tests {
    use crate::{Balance, Check, Endpoint, FlowKey, Group, Health};
    use std::time::Duration;

    fn health(text: &str) -> Health {
        Endpoint::target(text).unwrap().membership().health.clone().unwrap()
    }

    #[test]
    fn keys_of_a_health_check_stand_in_any_order() {
        let ms = Duration::from_millis;
        assert_eq!(
            health("vxlan://h?fall=3&rise=5&timeout=2s&interval=250ms&health=http:80/up&vni=1"),
            Health {
                check: Check::Http { port: 80, path: "/up".into() },
                interval: ms(250),
                timeout: ms(2000),
                rise: 5,
                fall: 3,
            }
        );
        assert_eq!(health("gre://h?health=tcp:80"), Health::of(Check::Tcp { port: 80 }));
        // One try may take as long as it is to the next.
        assert_eq!(health("gre://h?health=sink:80&interval=100ms").timeout, ms(100));
        assert_eq!(health("nic:eth1?health=link"), Health::of(Check::Link));
        let address = "fd00::1".parse().unwrap();
        assert_eq!(
            health("nic:eth1?weight=2&health=neighbour:fd00::1").check,
            Check::Neighbour { address }
        );
        let endpoint = Endpoint::target("nic:eth1?weight=2&health=link").unwrap();
        assert_eq!((endpoint.weight(), endpoint.canonical().as_str()), (2, "nic:eth1"));
        assert_eq!(Endpoint::target("tap:t?mtu=1500&weight=9").unwrap().weight(), 9);
    }

    #[test]
    fn a_group_is_balanced_as_its_members_say() {
        let balance = |text: &str| text.parse::<Group>().unwrap().balance();
        assert_eq!(balance("gre://a,gre://b"), Balance::default());
        assert_eq!(
            balance("gre://a?hash=inner,gre://b?health=tcp:80&fail_open=off&hash=inner"),
            Balance { key: FlowKey::Inner, fail_open: false }
        );
        for (text, mend) in [
            ("gre://a?hash=inner,gre://b?hash=2-tuple", "hash=inner and hash=2-tuple"),
            (
                "gre://a?health=tcp:1&fail_open=on,gre://b?fail_open=off",
                "fail_open=on and fail_open=off",
            ),
            ("gre://a?fail_open=off,gre://b", "no member has a health check"),
        ] {
            let error = text.parse::<Group>().unwrap_err().to_string();
            assert!(error.contains(mend) && error.contains(text), "{text}: {error}");
        }
    }

    #[test]
    fn a_check_for_all_is_for_those_without_their_own() {
        let tcp = "tcp:80".parse().unwrap();
        let mut endpoint = Endpoint::target("gre://a").unwrap();
        endpoint.check_by_default(&tcp).unwrap();
        assert_eq!(endpoint.membership().health.as_ref(), Some(&tcp));
        let mut own = Endpoint::target("gre://a?health=sink:81").unwrap();
        own.check_by_default(&tcp).unwrap();
        assert_eq!(own.membership().health, Some("sink:81".parse().unwrap()));
        let error = Endpoint::target("nic:eth1").unwrap().check_by_default(&tcp).unwrap_err();
        assert!(error.to_string().contains("link or neighbour"), "{error}");
        let error = Endpoint::Null.check_by_default(&tcp).unwrap_err();
        assert!(error.to_string().contains("cannot be checked"), "{error}");
    }

    #[test]
    fn each_mistake_says_its_mend() {
        for (text, mend) in [
            ("gre://h?weight=0", "1 to 1000"),
            ("nic:e?weight=1001", "1 to 1000"),
            ("gre://h?health=ping", "tcp:PORT"),
            ("gre://h?health=link", "for interfaces"),
            ("nic:e?health=tcp:80", "link or neighbour"),
            ("tap:t?health=link", "leave it out"),
            ("gre://h?rise=2", "add `health="),
            ("gre://h?health=tcp:80&rise=0", "1 to 100"),
            ("gre://h?health=tcp:80&fall=x", "1 to 100"),
            ("gre://h?health=tcp:80&interval=1ms", "10ms to 1h"),
            ("gre://h?health=tcp:80&timeout=2m", "1ms to 60s"),
            ("gre://h?hash=outer", "5-tuple, 3-tuple"),
            ("gre://h?health=tcp:80&fail_open=1", "on or off"),
            ("nic:e?mtu=1500", "it has weight, health"),
            ("nic:e?weight=1&weight=2", "given twice"),
        ] {
            let error = Endpoint::target(text).unwrap_err().to_string();
            assert!(error.contains(mend) && error.contains(text), "{text}: {error}");
        }
        let error = Endpoint::listener("gre://h?health=tcp:80").unwrap_err().to_string();
        assert!(error.contains("leave `health` out"), "{error}");
    }
}
