//! Whom actions run as: users and groups, looked up in the system's database.
//!
//! This runs in the daemon, not in the helper that evaluates files: the database may be a network service, and the helper has no
//! rights. This module must not know watches.

use std::collections::HashMap;
use std::ffi::CString;

use nix::errno::Errno;
use nix::unistd::{Gid, Group, Uid, User, getgrouplist, getuid};

use super::error::did_you_mean;
use super::fields::process::Account;
use super::value::quoted;
use twitcher_confine::HELPER_USER;
use twitcher_model::Identity;

/// What a watch says about whom it runs as.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(super) struct Who {
    pub(super) uid: Option<Account>,
    pub(super) gid: Option<Account>,
}

/// Why there is no such identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AccountProblem {
    /// The field that is to blame: `uid` or `gid`.
    pub(super) field: &'static str,
    pub(super) message: String,
    pub(super) hint: Option<String>,
}

impl AccountProblem {
    fn new(field: &'static str, message: String) -> Self {
        let hint = None;
        Self { field, message, hint }
    }

    fn lookup(field: &'static str, what: &str, errno: Errno) -> Self {
        Self::new(field, format!("cannot look up {what}: {}", errno.desc()))
    }
}

/// The user database as it was during one load: ten thousand watches of one user cost one look-up.
#[derive(Debug, Default)]
pub(super) struct Accounts {
    known: HashMap<Who, Result<Identity, AccountProblem>>,
}

impl Accounts {
    /// The identity for what a watch says.
    pub(super) fn resolve(&mut self, who: &Who) -> Result<Identity, AccountProblem> {
        if let Some(known) = self.known.get(who) {
            return known.clone();
        }
        let identity = identity(who);
        self.known.insert(who.clone(), identity.clone());
        identity
    }
}

fn identity(who: &Who) -> Result<Identity, AccountProblem> {
    let gid = who.gid.as_ref().map(group).transpose()?;
    let Some(account) = &who.uid else {
        let me = current_user()?;
        let groups = gid.map(|gid| groups_of(&me.user, gid)).transpose()?;
        return Ok(Identity {
            gid: gid.map(Gid::as_raw),
            groups,
            ..me
        });
    };
    match user(account)? {
        Ok(user) if user.name == HELPER_USER => Err(AccountProblem::new(
            "uid",
            format!("{HELPER_USER} is the user of Twitcher's own helpers, which no action may be"),
        )),
        Ok(user) => {
            let gid = gid.unwrap_or(user.gid);
            let groups = groups_of(&user.name, gid)?;
            Ok(Identity {
                groups: Some(groups),
                gid: Some(gid.as_raw()),
                ..described(user)
            })
        }
        Err(uid) => {
            let Some(gid) = gid else {
                return Err(AccountProblem {
                    hint: Some("give a gid as well".to_owned()),
                    ..AccountProblem::new(
                        "uid",
                        format!("user {uid} is not in the user database, so its group is not known"),
                    )
                });
            };
            Ok(Identity {
                uid: Some(uid.as_raw()),
                gid: Some(gid.as_raw()),
                groups: Some(vec![gid.as_raw()]),
                ..unlisted(uid)
            })
        }
    }
}

/// The identity of the daemon itself, with no ids to change to.
fn current_user() -> Result<Identity, AccountProblem> {
    let me = getuid();
    let user = User::from_uid(me).map_err(|errno| AccountProblem::lookup("uid", "the daemon's own user", errno))?;
    Ok(match user {
        Some(user) => Identity {
            uid: None,
            ..described(user)
        },
        None => unlisted(me),
    })
}

fn described(user: User) -> Identity {
    let text = |path: std::path::PathBuf, default: &str| match path.into_os_string().into_string() {
        Ok(path) if !path.is_empty() => path,
        _ => default.to_owned(),
    };
    Identity {
        uid: Some(user.uid.as_raw()),
        gid: None,
        groups: None,
        user: user.name,
        home: text(user.dir, "/"),
        shell: text(user.shell, "/bin/sh"),
    }
}

/// An identity without an entry in the user database.
fn unlisted(uid: Uid) -> Identity {
    Identity {
        user: uid.to_string(),
        home: "/".to_owned(),
        shell: "/bin/sh".to_owned(),
        ..Identity::default()
    }
}

/// A user of the database, or else a bare number.
fn user(account: &Account) -> Result<Result<User, Uid>, AccountProblem> {
    let by_id = |id: u32| match User::from_uid(Uid::from_raw(id)) {
        Ok(user) => Ok(user.ok_or(Uid::from_raw(id))),
        Err(errno) => Err(AccountProblem::lookup("uid", &format!("user {id}"), errno)),
    };
    match account {
        Account::Id(id) => by_id(*id),
        Account::Name(name) => match User::from_name(name) {
            Ok(Some(user)) => Ok(Ok(user)),
            Ok(None) => match number(name) {
                Some(id) => by_id(id),
                None => Err(AccountProblem {
                    hint: nearest_account(name, "/etc/passwd"),
                    ..AccountProblem::new("uid", format!("there is no user {}", quoted(name)))
                }),
            },
            Err(errno) => Err(AccountProblem::lookup("uid", &format!("user {}", quoted(name)), errno)),
        },
    }
}

fn group(account: &Account) -> Result<Gid, AccountProblem> {
    match account {
        Account::Id(id) => Ok(Gid::from_raw(*id)),
        Account::Name(name) => match Group::from_name(name) {
            Ok(Some(group)) => Ok(group.gid),
            Ok(None) => match number(name) {
                Some(id) => Ok(Gid::from_raw(id)),
                None => Err(AccountProblem {
                    hint: nearest_account(name, "/etc/group"),
                    ..AccountProblem::new("gid", format!("there is no group {}", quoted(name)))
                }),
            },
            Err(errno) => Err(AccountProblem::lookup("gid", &format!("group {}", quoted(name)), errno)),
        },
    }
}

/// The number in a string of digits. The highest one means "no change" to the system calls that set ids.
fn number(name: &str) -> Option<u32> {
    name.bytes()
        .all(|b| b.is_ascii_digit())
        .then(|| name.parse().ok())?
        .filter(|id| *id != u32::MAX)
}

fn groups_of(user: &str, gid: Gid) -> Result<Vec<u32>, AccountProblem> {
    let failed = |errno| AccountProblem::lookup("uid", &format!("the groups of user {}", quoted(user)), errno);
    let name = CString::new(user).map_err(|_| failed(Errno::EINVAL))?;
    let groups = getgrouplist(&name, gid).map_err(failed)?;
    Ok(groups.into_iter().map(Gid::as_raw).collect())
}

/// A similar name in the local database. Only a suggestion: accounts of network databases are not listed.
fn nearest_account(name: &str, database: &str) -> Option<String> {
    let text = std::fs::read_to_string(database).ok()?;
    did_you_mean(name, text.lines().filter_map(|line| line.split(':').next()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn who(uid: Option<Account>, gid: Option<Account>) -> Result<Identity, AccountProblem> {
        Accounts::default().resolve(&Who { uid, gid })
    }

    fn name(name: &str) -> Option<Account> {
        Some(Account::Name(name.to_owned()))
    }

    #[test]
    fn nothing_said_changes_nothing() {
        let identity = who(None, None).unwrap();
        assert_eq!((identity.uid, identity.gid, identity.groups), (None, None, None));
        assert!(!identity.user.is_empty() && identity.home.starts_with('/') && identity.shell.starts_with('/'));
    }

    #[test]
    fn a_user_brings_its_group_and_home() {
        let daemon = User::from_name("daemon").unwrap().unwrap();
        for account in [
            name("daemon"),
            Some(Account::Id(daemon.uid.as_raw())),
            name(&daemon.uid.to_string()),
        ] {
            let identity = who(account, None).unwrap();
            assert_eq!(identity.uid, Some(daemon.uid.as_raw()));
            assert_eq!(identity.gid, Some(daemon.gid.as_raw()));
            assert!(identity.groups.unwrap().contains(&daemon.gid.as_raw()));
            assert_eq!(
                (identity.user.as_str(), identity.home.as_str()),
                ("daemon", daemon.dir.to_str().unwrap())
            );
        }
    }

    #[test]
    fn a_number_without_a_user_needs_a_group() {
        let problem = who(Some(Account::Id(3_999_999_999)), None).unwrap_err();
        assert_eq!(problem.field, "uid");
        assert_eq!(problem.hint.as_deref(), Some("give a gid as well"));
        let identity = who(Some(Account::Id(3_999_999_999)), Some(Account::Id(77))).unwrap();
        assert_eq!((identity.uid, identity.gid), (Some(3_999_999_999), Some(77)));
        assert_eq!((identity.groups, identity.home.as_str()), (Some(vec![77]), "/"));
    }

    #[test]
    fn a_group_alone_keeps_the_user() {
        let identity = who(None, name("daemon")).unwrap();
        assert_eq!(identity.uid, None);
        let gid = Group::from_name("daemon").unwrap().unwrap().gid.as_raw();
        assert_eq!(identity.gid, Some(gid));
        assert!(identity.groups.unwrap().contains(&gid));
    }

    #[test]
    fn unknown_names_are_refused_with_the_nearest_one() {
        let problem = who(name("nobdy"), None).unwrap_err();
        assert_eq!(problem.message, "there is no user \"nobdy\"");
        assert_eq!(problem.hint.as_deref(), Some("did you mean \"nobody\"?"));
        assert_eq!(who(None, name("no such group")).unwrap_err().field, "gid");
        assert!(
            who(name("4294967295"), Some(Account::Id(1))).is_err(),
            "-1 means no change"
        );
    }
}
