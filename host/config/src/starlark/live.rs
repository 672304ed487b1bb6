//! What a function can do while it runs as an action: files, stdin, programs, the environment.
//!
//! It all happens in the action's own process, as the action's user and within its limits, so nothing here restricts what is
//! opened or run. While a file is being loaded, each is a located error.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use allocative::Allocative;
use nix::sys::memfd::{MFdFlags, memfd_create};
use starlark::environment::{GlobalsBuilder, Methods, MethodsBuilder};
use starlark::eval::Evaluator;
use starlark::starlark_module;
use starlark::starlark_simple_value;
use starlark::values::none::NoneType;
use starlark::values::structs::AllocStruct;
use starlark::values::tuple::UnpackTuple;
use starlark::values::{
    Heap, NoSerialize, ProvidesStaticType, StarlarkPagablePanic, StarlarkValue, Value, starlark_value,
};

use super::builtins::session;
use super::open_builtin::TextFile;
use super::{ScriptError, convert};
use crate::value::{Inner, Scalar};

/// Most that `stdin()`, `read()` and the output of `run()` give, in bytes.
pub(super) const TEXT_MAX: usize = 16 << 20;

/// Refuses `what` while a file is being loaded.
fn acting(eval: &Evaluator<'_, '_, '_>, what: &'static str) -> Result<(), ScriptError> {
    match session(eval)?.acting.load(Ordering::Relaxed) {
        true => Ok(()),
        false => Err(ScriptError::OnlyWhileActing(what)),
    }
}

#[starlark_module]
pub(super) fn functions(builder: &mut GlobalsBuilder) {
    /// Opens a file for reading ("r"), writing ("w") or appending ("a").
    fn open<'v>(
        path: &str,
        #[starlark(default = "r")] mode: &str,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<TextFile> {
        acting(eval, "open()")?;
        let mut options = OpenOptions::new();
        let known = match mode.trim_end_matches(['b', 't']) {
            "r" => options.read(true),
            "w" => options.write(true).create(true).truncate(true),
            "a" => options.append(true).create(true),
            _ => return Err(ScriptError::UnknownMode(mode.to_owned()).into()),
        };
        let what = || format!("cannot open {path:?}");
        let file = known
            .open(path)
            .map_err(|error| ScriptError::Io { what: what(), error })?;
        Ok(TextFile::new(path, file, mode.starts_with('r')))
    }

    /// Everything on stdin, as text.
    fn stdin<'v>(eval: &mut Evaluator<'v, '_, '_>) -> starlark::Result<String> {
        acting(eval, "stdin()")?;
        Ok(read_text("stdin", io::stdin().lock())?)
    }

    /// What is on stdin with `payload = JSON`, as a dict; the same each time.
    fn change<'v>(eval: &mut Evaluator<'v, '_, '_>) -> starlark::Result<Value<'v>> {
        acting(eval, "change()")?;
        let session = session(eval)?;
        let document = match session.change.get() {
            Some(document) => document,
            None => {
                let text = read_text("stdin", io::stdin().lock())?;
                let document = serde_json::from_str(&text).ok();
                let described = document.filter(|document: &serde_json::Value| document["version"].is_u64());
                let document = described.ok_or(ScriptError::NoChange)?;
                session.change.get_or_init(|| document)
            }
        };
        Ok(eval.heap().alloc(document))
    }

    /// Prints a line.
    fn print<'v>(
        #[starlark(args)] args: UnpackTuple<Value<'v>>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<NoneType> {
        let line = args
            .items
            .iter()
            .map(|value| value.to_str())
            .collect::<Vec<_>>()
            .join(" ");
        let session = session(eval)?;
        if session.acting.load(Ordering::Relaxed) {
            let mut out = io::stdout().lock();
            let written = writeln!(out, "{line}").and_then(|()| out.flush());
            let what = "print".to_owned();
            written.map_err(|error| ScriptError::Io { what, error })?;
        } else if session.wanted.is_none() {
            let call = eval.call_stack_top_location();
            let at = call.as_ref().map(|call| (call.filename(), call.span.begin().get()));
            session.host.print(at, &line)?;
        }
        Ok(NoneType)
    }

    /// Runs a program to its end. The result has `code` (minus the signal's number if it died by one) and `stdout`.
    fn run<'v>(
        argv: Value<'v>,
        #[starlark(default = NoneType)] stdin: Value<'v>,
        #[starlark(require = named, default = false)] check: bool,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<Value<'v>> {
        acting(eval, "run()")?;
        let argv = strings(argv)?;
        let stdin = match (stdin.is_none(), stdin.unpack_str()) {
            (true, _) => None,
            (false, Some(text)) => Some(text),
            (false, None) => {
                return Err(ScriptError::Type {
                    what: "stdin",
                    expected: "a string",
                    given: convert::value(stdin).to_string(),
                }
                .into());
            }
        };
        let (code, stdout) = run_program(&argv, stdin)?;
        if check && code != 0 {
            let program = argv.into_iter().next().unwrap_or_default();
            return Err(ScriptError::RunFailed { program, code }.into());
        }
        let heap = eval.heap();
        Ok(heap.alloc(AllocStruct([
            ("code", heap.alloc(code)),
            ("stdout", heap.alloc(stdout)),
        ])))
    }
}

fn strings(argv: Value<'_>) -> Result<Vec<String>, ScriptError> {
    let refused = |given: String| ScriptError::Type {
        what: "the command",
        expected: "a list of strings",
        given,
    };
    let Inner::List(items) = convert::inner(argv) else {
        return Err(refused(convert::value(argv).to_string()));
    };
    let text = |item| match item {
        Scalar::Str(text) => Ok(text),
        other => Err(refused(format!("one with {other}"))),
    };
    let argv: Vec<String> = items.into_iter().map(text).collect::<Result<_, _>>()?;
    if argv.is_empty() {
        return Err(refused("an empty one".to_owned()));
    }
    Ok(argv)
}

/// Runs a program, and gives its exit code and what it printed.
fn run_program(argv: &[String], stdin: Option<&str>) -> Result<(i32, String), ScriptError> {
    let failed = |error: io::Error| ScriptError::Io {
        what: format!("cannot run {:?}", argv[0]),
        error,
    };
    let stdin = match stdin {
        None => Stdio::null(),
        Some(text) => Stdio::from(whole(text).map_err(failed)?),
    };
    let mut child = Command::new(&argv[0])
        .args(&argv[1..])
        .stdin(stdin)
        .stdout(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let printed = match child.stdout.take() {
        Some(pipe) => read_text(&format!("the output of {:?}", argv[0]), pipe),
        None => Ok(String::new()),
    };
    // With the pipe closed, a program that prints for ever ends by SIGPIPE; one that ignores that is left to the action's timeout.
    let status = child.wait().map_err(failed)?;
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| -signal))
        .unwrap_or(-1);
    Ok((code, printed?))
}

/// A file that holds `text`. Not a pipe: a program that prints before it reads would wait for us while we wait for it.
fn whole(text: &str) -> io::Result<File> {
    let mut file = File::from(memfd_create(c"stdin", MFdFlags::MFD_CLOEXEC)?);
    file.write_all(text.as_bytes())?;
    file.rewind()?;
    Ok(file)
}

/// Everything in `from`, as text.
pub(super) fn read_text(what: &str, from: impl Read) -> Result<String, ScriptError> {
    let mut bytes = Vec::new();
    from.take(TEXT_MAX as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| ScriptError::Io {
            what: format!("cannot read {what}"),
            error,
        })?;
    if bytes.len() > TEXT_MAX {
        return Err(ScriptError::TooMuch(what.to_owned(), TEXT_MAX >> 20));
    }
    String::from_utf8(bytes).map_err(|_| ScriptError::NotText(what.to_owned()))
}

/// The environment: `env["HOME"]`, `env.get("LANG", "C")`, `"HOME" in env`.
#[derive(Debug, ProvidesStaticType, NoSerialize, StarlarkPagablePanic, Allocative)]
pub(super) struct Env {
    /// Whether an action runs. The operators of a value are not told who calls them, so they cannot ask the session.
    #[allocative(skip)]
    pub(super) acting: Arc<AtomicBool>,
}

starlark_simple_value!(Env);

impl fmt::Display for Env {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("env")
    }
}

impl Env {
    fn variable(&self, name: Value<'_>) -> Result<Option<String>, ScriptError> {
        if !self.acting.load(Ordering::Relaxed) {
            return Err(ScriptError::OnlyWhileActing("env"));
        }
        let Some(name) = name.unpack_str() else {
            let given = convert::value(name).to_string();
            return Err(ScriptError::Type {
                what: "the name of a variable",
                expected: "a string",
                given,
            });
        };
        // Asking for such a name would panic.
        if name.is_empty() || name.contains(['=', '\0']) {
            return Ok(None);
        }
        match std::env::var_os(name).map(std::ffi::OsString::into_string) {
            None => Ok(None),
            Some(Ok(text)) => Ok(Some(text)),
            Some(Err(_)) => Err(ScriptError::NotText(format!("environment variable {name:?}"))),
        }
    }
}

#[starlark_value(type = "env")]
impl<'v> StarlarkValue<'v> for Env {
    fn get_methods() -> Option<&'static Methods> {
        Some(METHODS.methods())
    }

    fn at(&self, name: Value<'v>, heap: Heap<'v>) -> starlark::Result<Value<'v>> {
        match self.variable(name)? {
            Some(text) => Ok(heap.alloc(text)),
            None => Err(ScriptError::NoVariable(name.to_str()).into()),
        }
    }

    fn is_in(&self, name: Value<'v>) -> starlark::Result<bool> {
        Ok(self.variable(name)?.is_some())
    }
}

starlark::methods_static!(METHODS = env_methods);

#[starlark_module]
fn env_methods(builder: &mut MethodsBuilder) {
    /// The variable's value, or else the default.
    fn get<'v>(
        this: &Env,
        name: Value<'v>,
        #[starlark(default = NoneType)] default: Value<'v>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<Value<'v>> {
        Ok(match this.variable(name)? {
            Some(text) => eval.heap().alloc(text),
            None => default,
        })
    }
}
