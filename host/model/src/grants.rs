//! Grants as they are written in a configuration: what a denial tells the operator to add, and what `twitcher check` shows.
//!
//! What each type shows is an entry of its argument of `Wasm(…)`, and the same in `.twc` and `.json` files. This module must not
//! know how a configuration is read.

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
    /// An entry of `commands`: `"reload": ["systemctl", "reload", "app"]`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: [", Quoted(&self.name))?;
        for (index, argument) in self.list().enumerate() {
            let comma = if index > 0 { ", " } else { "" };
            write!(f, "{comma}{}", Quoted(argument))?;
        }
        f.write_str("]")
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
    use crate::ZnodePath;

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
        };
        assert_eq!(command.to_string(), r#""reload": ["systemctl", "reload"]"#);
        command.arguments = true;
        assert_eq!(command.to_string(), r#""reload": ["systemctl", "reload", "*"]"#);

        let znode = |path: &str, below, writable| {
            let path = ZnodePath::new(path).unwrap();
            ZnodeGrant { path, below, writable }.to_string()
        };
        assert_eq!(znode("/app", false, false), r#""/app": "r""#);
        assert_eq!(znode("/app", true, true), r#""/app/**": "rw""#);
        assert_eq!(znode("/", true, false), r#""/**": "r""#);
    }

    #[test]
    fn a_text_cannot_leave_its_quotes() {
        let command = CommandGrant {
            name: "a\"]\n\u{9b}\\".into(),
            argv: vec![],
            arguments: false,
        };
        let text = command.to_string();
        assert_eq!(text, r#""a\"]\u000a\u009b\\": []"#);
        assert!(serde_json::from_str::<serde_json::Value>(&format!("{{{text}}}")).is_ok());
    }
}
