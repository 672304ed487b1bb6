//! Which part of a watch's `splay` is this host's.

use std::time::Duration;

/// The part of `splay` by which `host` delays the changes of `watch`: the same at every start, evenly spread over hosts. The hash is
/// written out because that of the standard library may change with the compiler.
pub(super) fn share(host: &str, watch: &str, splay: Duration) -> Duration {
    // FNV-1a, with a byte between the names that neither can have, and a final mix that spreads the last bytes over all bits.
    let bytes = host.bytes().chain([0]).chain(watch.bytes());
    let mut hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^= hash >> 33;
    let nanos = (splay.as_nanos() * u128::from(hash)) >> 64;
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}
