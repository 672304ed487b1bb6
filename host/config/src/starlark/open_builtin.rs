//! The files that `open()` gives to a function action.

use std::fmt;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

use allocative::Allocative;
use starlark::environment::{Methods, MethodsBuilder};
use starlark::starlark_module;
use starlark::starlark_simple_value;
use starlark::values::none::NoneType;
use starlark::values::{
    Heap, NoSerialize, ProvidesStaticType, StarlarkPagablePanic, StarlarkValue, Value, starlark_value,
};

use super::ScriptError;
use super::live::{TEXT_MAX, read_text};

/// An open text file.
#[derive(Debug, ProvidesStaticType, NoSerialize, StarlarkPagablePanic, Allocative)]
pub(super) struct TextFile {
    path: String,
    /// Values must be shareable between threads, though an action has only one.
    #[allocative(skip)]
    state: Mutex<State>,
}

starlark_simple_value!(TextFile);

#[derive(Debug)]
enum State {
    Reading(BufReader<File>),
    /// Unbuffered: what was written must be there although nobody closes the file.
    Writing(File),
    Closed,
}

impl fmt::Display for TextFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<file {:?}>", self.path)
    }
}

impl TextFile {
    pub(super) fn new(path: &str, file: File, reading: bool) -> Self {
        let state = if reading {
            State::Reading(BufReader::new(file))
        } else {
            State::Writing(file)
        };
        Self {
            path: path.to_owned(),
            state: Mutex::new(state),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reading<T>(&self, read: impl FnOnce(&mut BufReader<File>) -> Result<T, ScriptError>) -> Result<T, ScriptError> {
        match &mut *self.state() {
            State::Reading(file) => read(file),
            State::Writing(_) => Err(ScriptError::WrongMode("reading")),
            State::Closed => Err(ScriptError::Closed),
        }
    }

    fn failed(&self, what: &str, error: std::io::Error) -> ScriptError {
        ScriptError::Io {
            what: format!("cannot {what} {:?}", self.path),
            error,
        }
    }

    /// The next line with its end, or an empty text at the end of the file.
    fn line(&self, file: &mut BufReader<File>) -> Result<String, ScriptError> {
        let mut bytes = Vec::new();
        let mut limited = std::io::Read::take(file, TEXT_MAX as u64 + 1);
        limited
            .read_until(b'\n', &mut bytes)
            .map_err(|error| self.failed("read", error))?;
        if bytes.len() > TEXT_MAX {
            return Err(ScriptError::TooMuch(
                format!("a line of {:?}", self.path),
                TEXT_MAX >> 20,
            ));
        }
        String::from_utf8(bytes).map_err(|_| ScriptError::NotText(format!("{:?}", self.path)))
    }

    fn lines(&self) -> Result<Vec<String>, ScriptError> {
        self.reading(|file| {
            let mut lines = Vec::new();
            loop {
                match self.line(file)? {
                    end if end.is_empty() => return Ok(lines),
                    line => lines.push(line),
                }
            }
        })
    }

    /// Up to `count` characters.
    fn characters(&self, file: &mut BufReader<File>, count: usize) -> Result<String, ScriptError> {
        let mut text = Vec::new();
        let mut characters = 0;
        while text.len() <= TEXT_MAX {
            let available = file.fill_buf().map_err(|error| self.failed("read", error))?;
            let Some(byte) = available.first().copied() else {
                break;
            };
            // A character ends where the next byte is not a continuation.
            let begins = byte & 0b1100_0000 != 0b1000_0000;
            if begins && characters == count {
                break;
            }
            characters += usize::from(begins);
            text.push(byte);
            file.consume(1);
        }
        String::from_utf8(text).map_err(|_| ScriptError::NotText(format!("{:?}", self.path)))
    }
}

#[starlark_value(type = "file")]
impl<'v> StarlarkValue<'v> for TextFile {
    fn get_methods() -> Option<&'static Methods> {
        Some(METHODS.methods())
    }

    fn iterate_collect(&self, heap: Heap<'v>) -> starlark::Result<Vec<Value<'v>>> {
        Ok(self.lines()?.into_iter().map(|line| heap.alloc(line)).collect())
    }
}

starlark::methods_static!(METHODS = file_methods);

#[starlark_module]
fn file_methods(builder: &mut MethodsBuilder) {
    /// The rest of the file, or at most so many characters of it.
    fn read(this: &TextFile, #[starlark(default = -1)] count: i32) -> starlark::Result<String> {
        Ok(this.reading(|file| match usize::try_from(count) {
            Ok(count) => this.characters(file, count),
            Err(_) => read_text(&format!("{:?}", this.path), file),
        })?)
    }

    /// The next line with its line end; empty at the end of the file.
    fn readline(this: &TextFile) -> starlark::Result<String> {
        Ok(this.reading(|file| this.line(file))?)
    }

    /// All lines that are left, each with its line end.
    fn readlines(this: &TextFile) -> starlark::Result<Vec<String>> {
        Ok(this.lines()?)
    }

    /// Writes a text, and gives its number of characters.
    fn write(this: &TextFile, text: &str) -> starlark::Result<i32> {
        match &mut *this.state() {
            State::Writing(file) => file
                .write_all(text.as_bytes())
                .map_err(|error| this.failed("write to", error))?,
            State::Reading(_) => return Err(ScriptError::WrongMode("writing").into()),
            State::Closed => return Err(ScriptError::Closed.into()),
        }
        Ok(i32::try_from(text.chars().count()).unwrap_or(i32::MAX))
    }

    /// Closes the file.
    fn close(this: &TextFile) -> starlark::Result<NoneType> {
        *this.state() = State::Closed;
        Ok(NoneType)
    }
}
