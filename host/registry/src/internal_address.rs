//! Which addresses a registry elsewhere must not lead to: those of this machine, of its link, and those at which clouds tell machines
//! their secrets.
//!
//! Private networks are not among them: many a company's registry leads to a store beside it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What clouds answer at, outside of the networks that are refused as a whole: Azure, Alibaba; then Amazon, Google, Oracle, Scaleway.
const METADATA: [IpAddr; 6] = [
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xc1, 0, 0, 0, 0, 0xa9fe, 0xa9fe)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42)),
];

/// Whether an address is one of those.
pub(super) fn is_inner(address: IpAddr) -> bool {
    METADATA.contains(&address)
        || match address {
            IpAddr::V4(address) => is_inner_v4(address),
            IpAddr::V6(address) => {
                let special = address.is_loopback()
                    || address.is_unspecified()
                    || address.is_multicast()
                    || address.is_unicast_link_local();
                special || embedded(address).is_some_and(|inner| is_inner(inner.into()))
            }
        }
}

fn is_inner_v4(address: Ipv4Addr) -> bool {
    // 0.0.0.0/8 is this host to Linux; 192.0.0.0/24 is for protocols, one of which is Oracle's metadata.
    let [first, second, third, _] = address.octets();
    first == 0
        || (first, second, third) == (192, 0, 0)
        || address.is_loopback()
        || address.is_link_local()
        || address.is_multicast()
        || address.is_broadcast()
}

/// The IPv4 address that an IPv6 address stands for: mapped, compatible, NAT64 or 6to4.
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let joined = |high: u16, low: u16| Ipv4Addr::from(u32::from(high) << 16 | u32::from(low));
    match address.segments() {
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => Some(joined(high, low)),
        [0x2002, high, low, ..] => Some(joined(high, low)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_its_link_and_metadata_are_inner_and_other_networks_are_not() {
        for inner in [
            "127.0.0.1",
            "127.8.9.1",
            "0.0.0.0",
            "169.254.169.254",
            "192.0.0.192",
            "100.100.100.200",
            "168.63.129.16",
            "255.255.255.255",
            "224.0.0.1",
            "::1",
            "::",
            "fe80::1",
            "ff02::1",
            "fd00:ec2::254",
            "::ffff:127.0.0.1",
            "::127.0.0.1",
            "64:ff9b::a9fe:a9fe",
            "2002:7f00:1::",
        ] {
            assert!(is_inner(inner.parse().unwrap()), "{inner}");
        }
        for outer in [
            "10.0.0.1",
            "192.168.1.1",
            "172.16.0.1",
            "1.1.1.1",
            "100.64.0.1",
            "2001:db8::1",
            "fd12::1",
            "::ffff:1.1.1.1",
            "64:ff9b::101:101",
        ] {
            assert!(!is_inner(outer.parse().unwrap()), "{outer}");
        }
    }
}
