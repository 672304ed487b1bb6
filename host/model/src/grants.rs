//! Grants as they are written in a configuration: what a denial tells the operator to add, and what `twitcher check` shows.
//!
//! What each type shows is an entry of its argument of `Wasm(…)`, and the same in `.twc` and `.json` files but for a command with a
//! user of its own. This module must not know how a configuration is read.

use std::fmt;

use super::{CommandGrant, DirGrant, ZnodeGrant};

/// A text in quotes that both Starlark and JSON read as this text. A grant's text can come from a component that was denied
/// something, so nothing in it may end the quotes.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"")?;
        for c in self.0.chars() {
            match c {
                '"' | '\\' => write!(f, "\\{c}")?,
                // All control characters are in the first plane, and four digits are the only form that both know.
                c if c.is_control() => write!(f, "\\u{:04x}", c as u32)?,
                c => write!(f, "{c}")?,
            }
        }
        f.write_str("\"")
    }
}

impl DirGrant {
    /// What is granted at [`DirGrant::guest`]: `/srv/out:rw`.
    pub fn target(&self) -> String {
        let access = if self.writable { "rw" } else { "ro" };
        format!("{}:{access}", self.host.display())
    }
}

impl fmt::Display for DirGrant {
    /// An entry of `dirs`: `"/out": "/srv/out:rw"`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", Quoted(&self.guest), Quoted(&self.target()))
    }
}

impl CommandGrant {
    /// The command's list, with the `*` that allows the component's own arguments.
    pub fn list(&self) -> impl Iterator<Item = &str> {
        self.argv
            .iter()
            .map(String::as_str)
            .chain(self.arguments.then_some("*"))
    }
}

impl fmt::Display for CommandGrant {
    /// An entry of `commands`: `"reload": ["systemctl", "reload", "app"]`, or `"reload": Exec([…], uid = "root")`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", Quoted(&self.name))?;
        if self.identity.is_some() {
            f.write_str("Exec(")?;
        }
        f.write_str("[")?;
        for (index, argument) in self.list().enumerate() {
            let comma = if index > 0 { ", " } else { "" };
            write!(f, "{comma}{}", Quoted(argument))?;
        }
        f.write_str("]")?;
        match &self.identity {
            Some(identity) => write!(f, ", uid = {})", Quoted(&identity.user)),
            None => Ok(()),
        }
    }
}

impl ZnodeGrant {
    /// The node, or the node and all below it: `/app` or `/app/**`.
    pub fn pattern(&self) -> String {
        match (self.below, self.path.as_str()) {
            (false, path) => path.to_owned(),
            (true, "/") => "/**".to_owned(),
            (true, path) => format!("{path}/**"),
        }
    }

    /// `r` or `rw`.
    pub fn access(&self) -> &'static str {
        if self.writable { "rw" } else { "r" }
    }
}

impl fmt::Display for ZnodeGrant {
    /// An entry of `znodes`: `"/app/**": "rw"`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", Quoted(&self.pattern()), Quoted(self.access()))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::{Hardening, Identity, ZnodePath};

    #[test]
    fn grants_show_as_they_are_written() {
        let mut dir = DirGrant {
            guest: "/out".into(),
            host: Path::new("/srv/out").into(),
            writable: true,
        };
        assert_eq!(dir.to_string(), r#""/out": "/srv/out:rw""#);
        dir.writable = false;
        assert_eq!(dir.to_string(), r#""/out": "/srv/out:ro""#);

        let mut command = CommandGrant {
            name: "reload".into(),
            argv: vec!["systemctl".into(), "reload".into()],
            arguments: false,
            identity: None,
            hardening: Hardening::default(),
        };
        assert_eq!(command.to_string(), r#""reload": ["systemctl", "reload"]"#);
        command.arguments = true;
        assert_eq!(command.to_string(), r#""reload": ["systemctl", "reload", "*"]"#);
        command.identity = Some(Identity {
            user: "root".into(),
            ..Identity::default()
        });
        let shown = r#""reload": Exec(["systemctl", "reload", "*"], uid = "root")"#;
        assert_eq!(command.to_string(), shown);

        let znode = |path: &str, below, writable| {
            let path = ZnodePath::new(path).unwrap();
            ZnodeGrant { path, below, writable }.to_string()
        };
        assert_eq!(znode("/app", false, false), r#""/app": "r""#);
        assert_eq!(znode("/app", true, true), r#""/app/**": "rw""#);
        assert_eq!(znode("/", true, false), r#""/**": "r""#);
    }

    #[test]
    fn only_a_path_in_the_directory_is_one_of_this_host() {
        let dir = |guest: &str| DirGrant {
            guest: guest.into(),
            host: Path::new("/etc/app").into(),
            writable: true,
        };
        let out = dir("/out");
        assert_eq!(
            out.on_host("/out/a.conf").as_deref(),
            Some(Path::new("/etc/app/a.conf"))
        );
        assert_eq!(out.on_host("/out/d/a").as_deref(), Some(Path::new("/etc/app/d/a")));
        assert_eq!(dir("/").on_host("/a").as_deref(), Some(Path::new("/etc/app/a")));
        for path in [
            "/out",
            "/out/",
            "/outer/a",
            "out/a",
            "/out//a",
            "/out//etc/passwd",
            "/out/./a",
            "/out/../shadow",
            "/out/d/..",
            "/out/a/",
            "/out/a\0b",
            "a",
            "",
        ] {
            assert_eq!(out.on_host(path), None, "{path:?}");
        }
    }

    #[test]
    fn a_text_cannot_leave_its_quotes() {
        let command = CommandGrant {
            name: "a\"]\n\u{9b}\\".into(),
            argv: vec![],
            arguments: false,
            identity: None,
            hardening: Hardening::default(),
        };
        let text = command.to_string();
        assert_eq!(text, r#""a\"]\u000a\u009b\\": []"#);
        assert!(serde_json::from_str::<serde_json::Value>(&format!("{{{text}}}")).is_ok());
    }
}
