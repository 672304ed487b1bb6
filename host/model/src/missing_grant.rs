//! What would allow what a component was denied, in the words of the operator: an argument of `Wasm(...)`, and for a component of a
//! bundle, what the bundle must request besides.

use super::grant_syntax::{self, MemorySize};
use super::sanitize::{is_harmful, shell_word};
use super::{Component, DirGrant, ZnodePath};

/// A grant that is missing. Only one that a configuration accepts can be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingGrant {
    /// The argument, such as `net = ["db:5432"]`.
    argument: String,
    /// What makes a bundle request it, as a flag of `bundle build`.
    flag: String,
}

impl MissingGrant {
    /// To connect to an address, `host:port`.
    pub fn net(address: &str) -> Option<Self> {
        grant_syntax::host_port(address).ok()?;
        Some(Self::new(
            format!("net = [{}]", literal(address)),
            format!("--net {}", shell_word(address)),
        ))
    }

    /// To resolve a name. To which port a component will connect nobody knows yet.
    pub fn name(name: &str) -> Option<Self> {
        grant_syntax::host_port(&format!("{name}:1")).ok()?;
        Some(Self::any_port(name))
    }

    /// To make a socket. To which address a component will connect nobody knows yet.
    pub fn socket() -> Self {
        Self::any_port("HOST")
    }

    fn any_port(host: &str) -> Self {
        Self::new(format!("net = [\"{host}:PORT\"]"), format!("--net {host}:PORT"))
    }

    /// To send requests to an origin.
    pub fn http(origin: &str) -> Option<Self> {
        grant_syntax::http_origin(origin).ok()?;
        Some(Self::new(
            format!("http = [{}]", literal(origin)),
            format!("--http {}", shell_word(origin)),
        ))
    }

    /// To have more memory than `granted`, and at least `asked`, in bytes.
    pub fn memory(asked: u64, granted: u64) -> Option<Self> {
        let enough = asked.max(granted.saturating_mul(2)).div_ceil(1 << 20) << 20;
        // As much as there is, where twice as much is more than that.
        let size = MemorySize::of_bytes(enough.min(MemorySize::MAX)).filter(|size| size.bytes() > granted)?;
        (asked <= size.bytes()).then(|| {
            let size = format!("{}MiB", size.bytes() >> 20);
            Self::new(format!("memory = \"{size}\""), format!("--memory {size}"))
        })
    }

    /// To have a command run.
    pub fn command(name: &str) -> Option<Self> {
        grant_syntax::check_name(name).ok()?;
        Some(Self::new(
            format!("commands = {{{}: [\"/path/of/program\"]}}", literal(name)),
            format!("--command {}", shell_word(name)),
        ))
    }

    /// To use a znode; `access` is `r` or `rw`.
    pub fn znode(path: &ZnodePath, access: &str) -> Option<Self> {
        Self::pattern(path.clone(), false, access)
    }

    /// To use all that is below a znode; `access` is `r` or `rw`.
    pub fn below(path: &ZnodePath, access: &str) -> Option<Self> {
        Self::pattern(path.clone(), true, access)
    }

    /// A path with `*` cannot be written: then it is all that is below the last name without one. Should that be everything, it is not advised.
    fn pattern(mut path: ZnodePath, mut below: bool, access: &str) -> Option<Self> {
        while path.as_str().contains('*') {
            path = path.parent().filter(|parent| *parent != ZnodePath::root())?;
            below = true;
        }
        let pattern = match below {
            true => format!("{}/**", path.as_str().trim_end_matches('/')),
            false => path.as_str().to_owned(),
        };
        grant_syntax::znode_pattern(&pattern).ok()?;
        Some(Self::new(
            format!("znodes = {{{}: \"{access}\"}}", literal(&pattern)),
            format!("--znode {}={access}", shell_word(&pattern)),
        ))
    }

    /// To open a bucket. It is the znode of this path; a bucket without one is that of a granted path which ends so.
    pub fn bucket(name: &str) -> Option<Self> {
        let path = match name {
            "" => return None,
            path if path.starts_with('/') => ZnodePath::new(path),
            name => ZnodePath::new(format!("/{name}")),
        };
        Self::below(&path.ok()?, "r")
    }

    /// To find a directory. Which one a component looks for nobody knows: its own C library found none.
    pub fn any_directory() -> Self {
        Self::new(
            "dirs = {\"/data\": \"/path/of/directory\"}".to_owned(),
            "--dir /data=ro".to_owned(),
        )
    }

    /// To change what is in a directory that is granted read-only.
    pub fn to_change(dir: &DirGrant) -> Self {
        let dir = DirGrant {
            writable: true,
            ..dir.clone()
        };
        Self::new(
            format!("dirs = {{{}: {}}}", literal(&dir.guest), literal(&dir.target())),
            format!("--dir {}=rw", shell_word(&dir.guest)),
        )
    }

    fn new(argument: String, flag: String) -> Self {
        Self { argument, flag }
    }

    /// The argument of `Wasm(...)`.
    pub fn argument(&self) -> &str {
        &self.argument
    }

    /// What to do, for this component: the end of a sentence.
    pub fn to_allow(&self, component: &Component) -> String {
        let Self { argument, flag } = self;
        match &component.bundle {
            None => format!("to allow it, add {argument} to its Wasm(...)"),
            Some(bundle) => format!(
                "to allow it, add {argument} to its Wasm(...), if it is not there; and the bundle {} {} must request it: \
                 `twitcher bundle build` has {flag} for that",
                bundle.name, bundle.version
            ),
        }
    }
}

/// A string in the language of configurations, such that a log and a terminal show all of it as it is.
fn literal(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        let escape = match (character, u32::from(character)) {
            ('"' | '\\', _) => format!("\\{character}"),
            (harmful, code @ ..=0xffff) if is_harmful(harmful) => format!("\\u{code:04x}"),
            (harmful, code) if is_harmful(harmful) => format!("\\U{code:08x}"),
            _ => character.to_string(),
        };
        quoted.push_str(&escape);
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_configuration_refuses_is_never_advised() {
        let path = |path: &str| ZnodePath::new(path).unwrap();
        assert_eq!(MissingGrant::net("localhost.:80"), None);
        assert_eq!(MissingGrant::net("bücher.example:80"), None);
        assert_eq!(MissingGrant::name("a b"), None);
        assert_eq!(MissingGrant::http("http://127.1"), None);
        assert_eq!(MissingGrant::znode(&path("/a*"), "r"), None, "everything");
        assert_eq!(MissingGrant::command(""), None);
        assert_eq!(MissingGrant::bucket(""), None);
        assert_eq!(MissingGrant::bucket("a//b"), None);
        let argument = |missing: Option<MissingGrant>| missing.unwrap().argument;
        assert_eq!(argument(MissingGrant::net("db:1")), r#"net = ["db:1"]"#);
        assert_eq!(
            argument(MissingGrant::bucket("default")),
            r#"znodes = {"/default/**": "r"}"#
        );
        assert_eq!(argument(MissingGrant::bucket("/")), r#"znodes = {"/**": "r"}"#);
        assert_eq!(
            argument(MissingGrant::znode(&path("/a\"b"), "rw")),
            r#"znodes = {"/a\"b": "rw"}"#
        );
        assert_eq!(
            argument(MissingGrant::znode(&path("/a/b*/c"), "rw")),
            r#"znodes = {"/a/**": "rw"}"#
        );
        assert_eq!(
            argument(MissingGrant::command("a\u{202e}b\u{e0041}")),
            r#"commands = {"a\u202eb\U000e0041": ["/path/of/program"]}"#
        );
    }

    #[test]
    fn what_is_advised_for_a_command_line_is_one_word_there() {
        let flag = |missing: Option<MissingGrant>| missing.unwrap().flag;
        assert_eq!(flag(MissingGrant::net("db:1")), "--net db:1");
        assert_eq!(flag(MissingGrant::net("[::1]:1")), "--net '[::1]:1'");
        assert_eq!(
            flag(MissingGrant::command("$(reboot)'`id`")),
            r"--command '$(reboot)'\''`id`'"
        );
        let path = ZnodePath::new("/a;b").unwrap();
        assert_eq!(flag(MissingGrant::below(&path, "rw")), "--znode '/a;b/**'=rw");
    }

    #[test]
    fn advised_memory_is_enough_and_can_be_granted() {
        let of = |asked: u64, granted: u64| MissingGrant::memory(asked, granted).map(|missing| missing.argument);
        let mib = |mib: u64| mib << 20;
        assert_eq!(of(mib(64) + 1, mib(64)).as_deref(), Some("memory = \"128MiB\""));
        assert_eq!(of(mib(200) + 1, mib(64)).as_deref(), Some("memory = \"201MiB\""));
        assert_eq!(of(mib(3000) + 1, mib(3000)).as_deref(), Some("memory = \"4096MiB\""));
        assert_eq!(of(mib(4097), mib(64)), None, "more than a component can have");
        assert_eq!(of(mib(4096) + 1, mib(4096)), None);
    }
}
