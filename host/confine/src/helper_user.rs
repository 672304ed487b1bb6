//! Who a helper is: a user that nobody else is, so that nobody else can signal it, follow it or read what it has.
//!
//! The package makes one. Where there is none, a number does that belongs to nobody.

use std::ops::RangeInclusive;

/// The name of the user that the package makes for helpers. No watch may run as this user.
pub const HELPER_USER: &str = "twitcher-helper";

/// Numbers that distributions give to nobody: not to users, not to services while they run, not to containers. They are below 2^16, or
/// containers would not have them.
const UNUSED: RangeInclusive<u32> = 60_706..=61_183;
/// What every system calls `nobody`, and gives to whatever has no user.
const NOBODY: u32 = 65_534;

/// The user and the group of helpers, by what the databases hold. `None` if every number is taken.
pub(crate) fn choose(users: &str, groups: &str) -> Option<(u32, u32)> {
    let entries: Vec<_> = users.lines().filter_map(user).collect();
    let own = entries.iter().find(|(name, ..)| *name == HELPER_USER);
    if let Some((_, uid, gid)) = own {
        let is_shared = entries.iter().filter(|(_, other, _)| other == uid).count() > 1;
        let is_somebody = [0, NOBODY].contains(uid) || [0, NOBODY].contains(gid);
        if !is_shared && !is_somebody {
            return Some((*uid, *gid));
        }
    }
    let groups: Vec<u32> = groups.lines().filter_map(group).collect();
    let is_free = |number: &u32| {
        let of_user = |(_, uid, gid): &(&str, u32, u32)| uid == number || gid == number;
        !entries.iter().any(of_user) && !groups.contains(number)
    };
    UNUSED.into_iter().find(is_free).map(|number| (number, number))
}

/// Name, user and group of a line of `/etc/passwd`.
fn user(line: &str) -> Option<(&str, u32, u32)> {
    let mut fields = line.split(':');
    let name = fields.next()?;
    let (uid, gid) = (fields.nth(1)?, fields.next()?);
    Some((name, uid.parse().ok()?, gid.parse().ok()?))
}

/// The number in a line of `/etc/group`.
fn group(line: &str) -> Option<u32> {
    line.split(':').nth(2)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const USERS: &str =
        "root:x:0:0:root:/root:/bin/sh\n# a comment\nnobody:x:65534:65534::/:/sbin/nologin\n\nbroken:x\n";

    #[test]
    fn the_user_of_the_package_is_taken() {
        let users = format!("{USERS}twitcher-helper:x:998:997::/nonexistent:/usr/sbin/nologin\n");
        assert_eq!(choose(&users, ""), Some((998, 997)));
    }

    #[test]
    fn a_user_that_is_somebody_else_s_is_not() {
        for line in [
            "twitcher-helper:x:0:997::/:/bin/sh",
            "twitcher-helper:x:998:0::/:/bin/sh",
            "twitcher-helper:x:65534:997::/:/bin/sh",
            "twitcher-helper:x:998:997::/:/bin/sh\nother:x:998:1::/:/bin/sh",
            "twitcher-helper:x:-1:997::/:/bin/sh",
        ] {
            assert_eq!(
                choose(&format!("{USERS}{line}\n"), ""),
                Some((60_706, 60_706)),
                "{line}"
            );
        }
    }

    #[test]
    fn without_one_a_number_does_that_no_user_and_no_group_has() {
        assert_eq!(choose("", ""), Some((60_706, 60_706)));
        let users = format!("{USERS}a:x:60706:1::/:/bin/sh\nb:x:7:60707::/:/bin/sh\n");
        assert_eq!(choose(&users, "g:x:60708:a,b\n+::::\n"), Some((60_709, 60_709)));
        let all: String = UNUSED.map(|number| format!("g:x:{number}:\n")).collect();
        assert_eq!(choose(USERS, &all), None);
    }
}
