//! What is advised after a denial, whatever was denied: pasted into a `.twc` file it is accepted, and grants what was denied.

use std::cell::RefCell;
use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;

use super::components::resolve;
use crate::accounts::Accounts;
use crate::component_resolver::Components;
use crate::error::SourceText;
use crate::interner::Interner;
use crate::starlark::{self, Host, ScriptError};
use crate::validate::{Parsed, Surroundings, watches};
use crate::value::Registration;
use crate::{ConfigError, Resolver};
use twitcher_model::grant_syntax::{MemorySize, check_name, host_port, http_origin};
use twitcher_model::{Action, DirGrant, Grants, MissingGrant, ZnodePath, sanitize};

/// What a component can be denied, and something allows.
#[derive(Debug, Clone)]
enum Denied {
    Net(String),
    Name(String),
    Socket,
    Http(String),
    Memory { asked: u64, granted: u64 },
    Command(String),
    Read(ZnodePath),
    Change(ZnodePath),
    Delete(ZnodePath),
    Bucket(String),
    Directory,
    ReadOnly(DirGrant),
}

impl Denied {
    fn missing(&self) -> Option<MissingGrant> {
        match self {
            Self::Net(address) => MissingGrant::net(address),
            Self::Name(name) => MissingGrant::name(name),
            Self::Socket => Some(MissingGrant::socket()),
            Self::Http(origin) => MissingGrant::http(origin),
            Self::Memory { asked, granted } => MissingGrant::memory(*asked, *granted),
            Self::Command(name) => MissingGrant::command(name),
            Self::Read(path) => MissingGrant::znode(path, "r"),
            Self::Change(path) => MissingGrant::znode(path, "rw"),
            Self::Delete(path) => MissingGrant::below(&path.parent()?, "rw"),
            Self::Bucket(name) => MissingGrant::bucket(name),
            Self::Directory => Some(MissingGrant::any_directory()),
            Self::ReadOnly(dir) => Some(MissingGrant::to_change(dir)),
        }
    }

    /// Whether it is allowed now.
    fn is_granted(&self, grants: &Grants) -> bool {
        let znodes = || grants.znodes.iter();
        match self {
            Self::Net(address) => host_port(address).is_ok_and(|at| grants.net.contains(&at)),
            Self::Name(name) => {
                let host = host_port(&format!("{name}:1")).map(|at| at.host);
                grants.net.iter().any(|at| host.as_ref() == Ok(&at.host))
            }
            Self::Socket => !grants.net.is_empty(),
            Self::Http(origin) => http_origin(origin).is_ok_and(|origin| grants.http.contains(&origin)),
            Self::Memory { asked, granted } => grants.memory >= *asked && grants.memory > *granted,
            Self::Command(name) => grants.commands.iter().any(|command| command.name == *name),
            Self::Read(path) => znodes().any(|grant| grant.covers(path)),
            Self::Change(path) => znodes().any(|grant| grant.permits_change(path)),
            Self::Delete(path) => znodes().any(|grant| grant.permits_delete(path)),
            Self::Bucket(name) => {
                let path = ZnodePath::new(format!("/{}", name.trim_start_matches('/'))).unwrap();
                znodes().any(|grant| grant.covers(&path) && grant.below)
            }
            Self::Directory => !grants.dirs.is_empty(),
            Self::ReadOnly(dir) => grants
                .dirs
                .iter()
                .any(|granted| granted.writable && granted.guest == dir.guest && granted.host == dir.host),
        }
    }

    /// Whether nothing can allow it: it cannot be written as a grant, or only by one of everything.
    fn is_hopeless(&self) -> bool {
        let odd = |path: &ZnodePath| path.as_str().split('/').nth(1).is_some_and(|name| name.contains('*'));
        match self {
            Self::Net(address) => host_port(address).is_err(),
            Self::Name(name) => host_port(&format!("{name}:1")).is_err(),
            Self::Http(origin) => http_origin(origin).is_err(),
            Self::Memory { asked, granted } => *asked > MemorySize::MAX || *granted >= MemorySize::MAX,
            Self::Command(name) => check_name(name).is_err(),
            Self::Read(path) | Self::Change(path) => odd(path),
            Self::Delete(path) => *path == ZnodePath::root() || path.parent().is_some_and(|parent| odd(&parent)),
            Self::Bucket(name) => match ZnodePath::new(format!("/{}", name.trim_start_matches('/'))) {
                Ok(path) => name.is_empty() || name.starts_with("//") || odd(&path),
                Err(_) => true,
            },
            Self::Socket | Self::Directory | Self::ReadOnly(_) => false,
        }
    }
}

/// A file with one component, evaluated in this very process.
struct OneFile(RefCell<Vec<Registration>>);

impl Host for OneFile {
    fn text(&self, _: &Path) -> Result<Arc<str>, String> {
        Err("there is no other file".to_owned())
    }

    fn registered(&self, registration: Registration) -> Result<(), ScriptError> {
        self.0.borrow_mut().push(registration);
        Ok(())
    }

    fn print(&self, _: Option<(&str, u32)>, _: &str) -> Result<(), ScriptError> {
        Ok(())
    }
}

/// What a component is granted with this argument.
fn granted(argument: &str) -> Result<Grants, Vec<ConfigError>> {
    let component = tempfile::NamedTempFile::new().unwrap();
    let place = component.path().display();
    let text = format!("RegisterWatch(\"/a\", Wasm(\"{place}\", {argument}))\n");
    let file = Path::new("/a.twc");
    let host = OneFile(RefCell::default());
    starlark::evaluate(file, &text, &host, None, None)?;
    let mut parsed = Parsed {
        source: SourceText::new(file.into(), text.into()),
        loads: Vec::new(),
        registrations: host.0.into_inner(),
        errors: Vec::new(),
    };
    let mut around = Surroundings {
        accounts: &mut Accounts::default(),
        interner: &mut Interner::default(),
        components: &mut Components::new(Resolver::of_files(resolve)),
        controllers: None,
        host: "host",
        notes: &mut Vec::new(),
    };
    let built = watches(&mut parsed, &mut around)?;
    match &built.entries[0].watch.action {
        Action::Wasm(action) => Ok(action.grants.clone()),
        other => panic!("{other:?}"),
    }
}

/// What a log shows of the advice is what is pasted; the capitals are for the operator to fill in.
fn filled_in(missing: &MissingGrant) -> String {
    let shown = sanitize::escaped(missing.argument());
    assert_eq!(shown, missing.argument(), "a terminal must not change it");
    match shown.starts_with("net = ") {
        true => shown.replace("HOST", "host.example").replace(":PORT\"", ":5432\""),
        false => shown,
    }
}

fn names() -> impl Strategy<Value = String> {
    prop_oneof![
        // Hosts of every kind.
        "[a-zA-Z0-9_-]{1,6}(\\.[a-z0-9-]{1,6}){0,3}\\.?",
        "[a-zü漢]{1,4}\\.example",
        "xn--[a-z0-9-]{1,8}\\.example",
        any::<std::net::Ipv4Addr>().prop_map(|address| address.to_string()),
        any::<std::net::Ipv6Addr>().prop_map(|address| format!("[{address}]")),
        any::<std::net::Ipv6Addr>().prop_map(|address| address.to_string()),
        // Whatever a component says.
        ".{0,20}",
        "[a\"'\\\\{}$#\u{202e}\u{200b}\u{e0041}\u{85}\u{301}\n\t /*-]{0,12}",
    ]
}

fn paths() -> impl Strategy<Value = ZnodePath> {
    let text = prop_oneof![
        "(/[a-z*\"\\\\ ü\u{202e}$-]{1,5}){1,4}",
        "/",
        "/[^/]{1,10}",
        "(/[a-z]{1,3}){1,3}/\\*\\*"
    ];
    text.prop_filter_map("ZooKeeper has no such path", |text| ZnodePath::new(text).ok())
}

fn dirs() -> impl Strategy<Value = DirGrant> {
    let path = || "(/[a-zA-Z0-9:\"'\\\\ ü\u{202e}\u{e0041}-]{1,6}){1,3}";
    (path(), path()).prop_map(|(guest, host)| DirGrant {
        guest,
        host: Path::new(&host).into(),
        writable: false,
    })
}

fn denials() -> impl Strategy<Value = Denied> {
    let most = 5_u64 << 30;
    prop_oneof![
        (names(), any::<u16>()).prop_map(|(name, port)| Denied::Net(format!("{name}:{port}"))),
        names().prop_map(Denied::Name),
        Just(Denied::Socket),
        (any::<bool>(), names(), proptest::option::of(1_u16..)).prop_map(|(tls, name, port)| {
            let scheme = if tls { "https" } else { "http" };
            let port = port.map(|port| format!(":{port}")).unwrap_or_default();
            Denied::Http(format!("{scheme}://{name}{port}"))
        }),
        (0..most, MemorySize::MIN..=MemorySize::MAX).prop_map(|(more, granted)| Denied::Memory {
            asked: granted.saturating_add(more / 4 + 1),
            granted,
        }),
        names().prop_map(Denied::Command),
        paths().prop_map(Denied::Read),
        paths().prop_map(Denied::Change),
        paths().prop_map(Denied::Delete),
        names().prop_map(Denied::Bucket),
        Just(Denied::Directory),
        dirs().prop_map(Denied::ReadOnly),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn what_is_advised_is_accepted_and_grants_what_was_denied(denied in denials()) {
        match denied.missing() {
            None => prop_assert!(denied.is_hopeless(), "nothing is advised"),
            Some(missing) => {
                prop_assert!(!denied.is_hopeless(), "{missing:?}");
                let argument = filled_in(&missing);
                let grants = granted(&argument);
                let grants = grants.map_err(|errors| TestCaseError::fail(format!("{argument} is refused: {errors:?}")))?;
                prop_assert!(denied.is_granted(&grants), "{argument} grants {grants:?}");
            }
        }
    }
}
