//! What of Python does not carry over from configurations of the first Twitcher, and what to write instead.
//!
//! Starlark's parser stops at the first word that it does not know, and a configuration that was Python has many. So when a file
//! cannot be parsed, or names what there is not, this looks through its words for all that is Python's. It never runs on a file that loads,
//! so a wrong guess costs nobody a working file. It must not know what a watch is.

mod advice;
mod tokens;

use std::collections::{HashMap, HashSet};

use self::tokens::{Kind, Token};
use crate::error::{ConfigError, SourceText};

/// Most findings in one file. Whoever has more is better served by a script.
const FINDINGS_MAX: usize = 50;

/// Everything in a file that is Python's and not Starlark's, in the order of the text.
pub(super) fn findings(source: &SourceText) -> Vec<ConfigError> {
    let tokens: Vec<Token<'_>> = tokens::of(&source.text).collect();
    let names = Names::of(&tokens);
    let mut search = Search {
        source,
        tokens,
        names,
        brackets: Vec::new(),
        assigned: false,
        importing: false,
        found: Vec::new(),
    };
    search.indentation();
    let mut begins = true;
    for at in 0..search.tokens.len() {
        if search.found.len() > FINDINGS_MAX {
            break;
        }
        begins = search.look(at, begins);
    }
    let mut found = search.found;
    found.sort_by_key(|error| error.position);
    // Once in a line is enough.
    found.dedup_by_key(|error| (error.position.map(|position| position.line), error.message.clone()));
    if found.len() > FINDINGS_MAX {
        found.truncate(FINDINGS_MAX);
        let more = ConfigError::of_file(&*source.file, format!("more than {FINDINGS_MAX} places are Python's"));
        found.push(more.with_hint(format!("it may be easier to keep the Python: {}", advice::KEEP)));
    }
    found
}

/// A text while it is looked through.
struct Search<'a> {
    source: &'a SourceText,
    tokens: Vec<Token<'a>>,
    names: Names<'a>,
    /// The brackets that are open.
    brackets: Vec<&'a str>,
    /// Whether the statement has assigned something already.
    assigned: bool,
    /// Whether the statement is an import, which has been told as a whole.
    importing: bool,
    found: Vec<ConfigError>,
}

impl<'a> Search<'a> {
    fn kind(&self, at: usize) -> Kind {
        self.tokens.get(at).map_or(Kind::End, |token| token.kind)
    }

    fn text(&self, at: usize) -> &'a str {
        self.tokens.get(at).map_or("", |token| token.text)
    }

    fn note(&mut self, at: usize, message: impl std::fmt::Display, hint: impl Into<String>) {
        let offset = self.tokens.get(at).map_or(0, |token| token.at);
        self.found
            .push(self.source.error(offset, message).with_hint(hint.into()));
    }

    /// Starlark's lines begin with blanks; of Python's that begin with tabs only the first is told.
    fn indentation(&mut self) {
        let mut offset = 0;
        for line in self.source.text.split_inclusive('\n') {
            let words = line.trim_start_matches([' ', '\t']);
            if line[..line.len() - words.len()].contains('\t') && !words.trim().is_empty() && !words.starts_with('#') {
                let error = self
                    .source
                    .error(offset, "lines are indented by blanks here, not by tabs");
                let hint = "in all lines: sed -i 's/\\t/        /g' FILE".to_owned();
                self.found.push(error.with_hint(hint));
                return;
            }
            offset += line.len();
        }
    }

    /// Looks at a token; `begins` says whether a statement begins there. Gives the same for the next.
    fn look(&mut self, at: usize, begins: bool) -> bool {
        let Token { kind, text, .. } = self.tokens[at];
        if begins {
            self.assigned = false;
            self.importing = matches!(text, "import" | "from");
            self.statement(at);
        }
        match kind {
            Kind::Name => self.name(at, begins),
            Kind::Text => self.string(at),
            Kind::Number => self.number(at),
            Kind::Symbol => self.symbol(at, begins),
            Kind::Line | Kind::End => {}
        }
        match kind {
            Kind::Line => self.brackets.is_empty(),
            Kind::Symbol if self.brackets.is_empty() => match text {
                ";" => true,
                // `if x: import y`; what follows the colon of a lambda is no statement, and begins like none.
                ":" => self.kind(at + 1) == Kind::Name,
                _ => false,
            },
            _ => false,
        }
    }

    fn statement(&mut self, at: usize) {
        let (word, next) = (self.text(at), self.kind(at + 1));
        match word {
            "import" | "from" => self.import(at),
            "print" if matches!(next, Kind::Text | Kind::Number | Kind::Name) || self.text(at + 1) == ">>" => {
                let given = match next {
                    Kind::Symbol => "text",
                    _ => self.text(at + 1),
                };
                let hint = format!("write print({}), with everything in the brackets", shortened(given));
                self.note(at, "`print` is a function here", hint);
            }
            "exec" if next == Kind::Text => self.note(at, "`exec` does not carry over", advice::keep()),
            _ => {
                // `with` and the like can be nothing else where a statement begins.
                if let Some((message, hint)) = advice::statement(word) {
                    self.note(at, message, hint);
                }
            }
        }
    }

    fn import(&mut self, at: usize) {
        let from = self.text(at) == "from";
        let names = self.tokens[at + 1..]
            .iter()
            .take_while(|token| token.kind != Kind::Line && token.text != ";");
        let names: Vec<&str> = names
            .take_while(|token| token.text != "#")
            .filter(|token| token.kind == Kind::Name)
            .map(|token| token.text)
            .collect();
        let module = names.first().copied().unwrap_or_default();
        let statement = match from {
            true => format!("`from {module} import …`"),
            false => format!("`import {module}`"),
        };
        let hint = match from {
            true => {
                let imported = names.iter().skip_while(|name| **name != "import").skip(1);
                let mut each = imported.filter_map(|name| Some(format!("{name}: {}", advice::member(module, name)?)));
                let each: Vec<String> = each.by_ref().take(3).collect();
                match each.is_empty() {
                    true => advice::module(module),
                    false => format!("write instead of {}", each.join("; of ")),
                }
            }
            false if advice::is_known(module) && self.names.used.contains(module) => {
                "remove it; what to write instead is said at each use".to_owned()
            }
            false => advice::module(module),
        };
        self.note(
            at,
            format!("{statement} does not carry over: there are no modules here"),
            hint,
        );
    }

    fn name(&mut self, at: usize, begins: bool) {
        let word = self.text(at);
        let before = at.checked_sub(1).map_or("", |before| self.text(before));
        if before == "." {
            return;
        }
        if word == "is" && !begins {
            let equal = if self.text(at + 1) == "not" { "!=" } else { "==" };
            self.note(at, "`is` does not carry over", format!("write {equal}"));
        } else if word == "yield" && !begins {
            self.note(at, "`yield` does not carry over", "collect a list, and return it");
        } else if word == "for" && self.brackets.last() == Some(&"(") {
            self.note(
                at,
                "there are no generators here",
                "write a list: f([x for x in y]) rather than f(x for x in y)",
            );
        } else if let Some(module) = self.names.modules.get(word).copied()
            && self.text(at + 1) == "."
            && !self.importing
        {
            self.member(at, module);
        } else if let Some(hint) = advice::function(word)
            && (self.text(at + 1) == "(" || word == "__name__")
            && before != "def"
            && !self.names.own.contains(word)
        {
            self.note(at, format!("there is no `{word}` here"), hint);
        }
    }

    /// Something of a module: `os.path.join`.
    fn member(&mut self, at: usize, module: &str) {
        let (first, second) = (self.text(at + 2), self.text(at + 4));
        let longer = (self.text(at + 3) == ".").then(|| format!("{first}.{second}"));
        let longer = longer.and_then(|name| Some((advice::member(module, &name)?, name)));
        let known = longer.or_else(|| Some((advice::member(module, first)?, first.to_owned())));
        if let Some((hint, name)) = known {
            let hint = match hint.strip_prefix("SAME") {
                Some(more) => format!("write {first}{more}"),
                None => format!("write {hint}"),
            };
            self.note(at, format!("there is no `{module}.{name}` here"), hint);
        } else if advice::is_known(module) && !advice::is_there(module, first) {
            self.note(
                at,
                format!("there is no `{module}.{first}` here"),
                advice::module(module),
            );
        }
    }

    fn string(&mut self, at: usize) {
        let text = self.text(at);
        let prefix = text.split(['"', '\'']).next().unwrap_or_default();
        if prefix.contains(['u', 'U']) {
            let message = format!("there are no {prefix}\"…\" strings here");
            self.note(at, message, "write \"…\": every string is Unicode");
        } else if self.kind(at + 1) == Kind::Text {
            self.note(
                at + 1,
                "strings beside each other are not joined here",
                "put a + between them",
            );
        }
    }

    fn number(&mut self, at: usize) {
        let text = self.text(at);
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if let Some(octal) = text
            .strip_prefix('0')
            .filter(|octal| digits(octal) && octal.contains(|c| c != '0'))
        {
            self.note(
                at,
                format!("there are no numbers like {}", shortened(text)),
                format!("write 0o{}", shortened(octal)),
            );
        } else if let Some(long) = text.strip_suffix(['L', 'l']).filter(|long| digits(long)) {
            let message = format!("there are no numbers like {}", shortened(text));
            self.note(at, message, format!("write {}", shortened(long)));
        }
    }

    fn symbol(&mut self, at: usize, begins: bool) {
        let text = self.text(at);
        match text {
            "(" | "[" | "{" => self.brackets.push(text),
            ")" | "]" | "}" => {
                self.brackets.pop();
            }
            "@" if begins => self.note(
                at,
                "there are no decorators here",
                "write f = decorator(f) below the function",
            ),
            "`" => self.note(at, "backquotes do not carry over", "write repr(x)"),
            "<>" => self.note(at, "`<>` does not carry over", "write !="),
            "**" if self.is_value(at) => self.note(
                at,
                "there is no operator `**` here",
                "multiply, or 1 << n for powers of two",
            ),
            "=" if self.brackets.is_empty() => {
                if self.assigned {
                    self.note(
                        at,
                        "a statement assigns once here",
                        "write a statement for each: b = x, then a = b",
                    );
                }
                self.assigned = true;
            }
            _ => {}
        }
    }

    /// Whether a value ends before the token, so that the token stands between two.
    fn is_value(&self, at: usize) -> bool {
        at.checked_sub(1).is_some_and(|before| match self.kind(before) {
            Kind::Name => !matches!(
                self.text(before),
                "lambda" | "return" | "in" | "and" | "or" | "not" | "if" | "else"
            ),
            Kind::Number => true,
            Kind::Symbol => matches!(self.text(before), ")" | "]"),
            Kind::Text | Kind::Line | Kind::End => false,
        })
    }
}

/// What the names in a file stand for.
#[derive(Debug, Default)]
struct Names<'a> {
    /// Those that the file gives a meaning of its own.
    own: HashSet<&'a str>,
    /// Those of Python's modules, and what the modules are called there.
    modules: HashMap<&'a str, &'a str>,
    /// Modules of which something is used.
    used: HashSet<&'a str>,
}

impl<'a> Names<'a> {
    fn of(tokens: &[Token<'a>]) -> Self {
        let mut names = Self::default();
        for line in tokens.split(|token| token.kind == Kind::Line || matches!(token.text, ";" | ":")) {
            if line.first().is_some_and(|token| token.text == "import") {
                names.imported(&line[1..]);
            }
        }
        for two in tokens.windows(2) {
            match (two[0].text, two[1].text) {
                ("def", name) | (name, "=") => {
                    names.own.insert(name);
                }
                // Files that were half carried over name modules which they no longer import.
                (name, ".") if two[0].kind == Kind::Name => {
                    if advice::is_known(name) {
                        names.modules.entry(name).or_insert(name);
                    }
                    names.used.extend(names.modules.get(name));
                }
                _ => {}
            }
        }
        names.modules.retain(|name, _| !names.own.contains(name));
        names
    }

    /// `a, b.c, d as e`
    fn imported(&mut self, list: &[Token<'a>]) {
        for one in list.split(|token| token.text == ",") {
            let Some(module) = one.first() else {
                continue;
            };
            let name = one.iter().skip_while(|token| token.text != "as").nth(1);
            self.modules.insert(name.unwrap_or(module).text, module.text);
        }
    }
}

/// As much of a token as is quoted.
fn shortened(text: &str) -> String {
    const SHOWN: usize = 30;
    match text.char_indices().nth(SHOWN) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests;
