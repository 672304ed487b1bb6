//! What actions write down about themselves: one file for each daemon and watch, one line for each thing that happened, appended in
//! one write. It is all that the oracle knows of what a daemon did.
//!
//! A line is `KIND<TAB>FIELD...`; data has its tabs and newlines replaced, so that lines stay lines.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// An action began.
    Start(Start),
    /// It came to its end by itself.
    End { at: u64, run: String },
    /// It is about to, and has failed.
    Failed { at: u64, run: String },
    /// It stays, and has been told of newer data.
    Told { at: u64, run: String, data: String },
    /// Something of it is there that has left its group, its session and its environment.
    Still { at: u64, run: String },
    /// It found as many others of its watch at work as there may be, or more.
    Crowd { at: u64, run: String, others: String },
    /// Not a line as they should be.
    Garbage(String),
}

/// What an action knew when it began.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Start {
    /// Milliseconds since 1970.
    pub at: u64,
    pub run: String,
    /// 0 where it cannot know.
    pub pid: i32,
    /// The process that started it: the daemon. 0 where it cannot know.
    pub parent: i32,
    /// `TWITCHER_EVENT`.
    pub event: String,
    pub attempt: u32,
    pub mzxid: i64,
    /// Of what the action itself is: of its configuration or of its component.
    pub revision: String,
    /// The data; a space for each newline and tab in it.
    pub stdin: String,
}

impl Line {
    pub fn parse(line: &str) -> Self {
        parse(line).unwrap_or_else(|| Line::Garbage(line.to_owned()))
    }

    /// The line with its newline.
    pub fn text(&self) -> String {
        match self {
            Line::Start(s) => format!(
                "start\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\n",
                s.at, s.run, s.pid, s.parent, s.event, s.attempt, s.mzxid, s.revision, s.stdin
            ),
            Line::End { at, run } => format!("end\t{at}\t{run}\n"),
            Line::Failed { at, run } => format!("failed\t{at}\t{run}\n"),
            Line::Told { at, run, data } => format!("told\t{at}\t{run}\t{data}\n"),
            Line::Still { at, run } => format!("still\t{at}\t{run}\n"),
            Line::Crowd { at, run, others } => format!("crowd\t{at}\t{run}\t{others}\n"),
            Line::Garbage(text) => format!("{text}\n"),
        }
    }
}

fn parse(line: &str) -> Option<Line> {
    let mut fields = line.split('\t');
    let kind = fields.next()?;
    let at = fields.next()?.parse().ok()?;
    let run = fields.next()?.to_owned();
    Some(match kind {
        "start" => Line::Start(Start {
            at,
            run,
            pid: fields.next()?.parse().ok()?,
            parent: fields.next()?.parse().ok()?,
            event: fields.next()?.to_owned(),
            attempt: fields.next()?.parse().ok()?,
            mzxid: fields.next()?.parse().ok()?,
            revision: fields.next()?.to_owned(),
            stdin: fields.next()?.to_owned(),
        }),
        "end" => Line::End { at, run },
        "failed" => Line::Failed { at, run },
        "told" => Line::Told {
            at,
            run,
            data: fields.next()?.to_owned(),
        },
        "still" => Line::Still { at, run },
        "crowd" => Line::Crowd {
            at,
            run,
            others: fields.next()?.to_owned(),
        },
        _ => return None,
    })
}

/// Data as it stands in a line.
pub fn flat(data: &str) -> String {
    data.trim_end_matches('\n').replace(['\n', '\t'], " ")
}

/// A journal that is read as it grows.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    read: u64,
    /// Oldest first.
    pub lines: Vec<Line>,
}

impl Journal {
    pub fn new(path: PathBuf) -> Self {
        Self {
            path,
            read: 0,
            lines: Vec::new(),
        }
    }

    /// Reads what has been added.
    pub fn refresh(&mut self) {
        // No action has run yet.
        let Ok(mut file) = File::open(&self.path) else { return };
        let mut text = String::new();
        file.seek(SeekFrom::Start(self.read)).unwrap();
        file.read_to_string(&mut text).unwrap();
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        self.read += whole as u64;
        self.lines.extend(text[..whole].lines().map(Line::parse));
    }

    pub fn starts(&self) -> impl DoubleEndedIterator<Item = &Start> {
        starts(&self.lines)
    }
}

/// The starts among these lines.
pub fn starts(lines: &[Line]) -> impl DoubleEndedIterator<Item = &Start> {
    lines.iter().filter_map(|line| match line {
        Line::Start(start) => Some(start),
        _ => None,
    })
}
