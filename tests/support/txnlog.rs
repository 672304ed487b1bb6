//! The transaction log of a ZooKeeper server, as its files have it: every write that was committed, in the order that all clients saw.
//!
//! Debian's own tool prints it, too (`zkTxnLogToolkit.sh`), but as text for people in which data is not told from what surrounds it, and
//! only after a second in which Java starts. The format is small, and each record has a checksum.
//!
//! It must not know what the znodes mean.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// `ZKLG`.
const MAGIC: &[u8] = b"ZKLG";
const VERSION: i32 = 2;
/// Ends a record.
const END: u8 = b'B';

/// One committed transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transaction {
    /// Its place in the order of all: the epoch of the leader, and a number.
    pub zxid: i64,
    /// Whose it is.
    pub session: i64,
    /// Milliseconds since 1970, by the leader's clock.
    pub time: i64,
    /// What it does. Nothing, if it failed: failures are logged, too.
    pub ops: Vec<Op>,
}

/// One step of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    Create {
        path: String,
        data: Vec<u8>,
        ephemeral: bool,
    },
    Set {
        path: String,
        data: Vec<u8>,
        /// The one that the znode has then.
        version: i32,
    },
    Delete {
        path: String,
    },
    /// The znode had the version that was asked for, or any, if any was.
    Check {
        path: String,
    },
    SetAcl {
        path: String,
    },
    BeginSession {
        /// In milliseconds.
        timeout: i32,
    },
    /// All that is ephemeral and the session's goes with it.
    EndSession,
}

/// Why a log cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("{0}: {1}")]
    Io(PathBuf, io::Error),
    #[error("{0} is no transaction log: expected ZKLG and version {VERSION}")]
    Header(PathBuf),
    #[error("transaction {0:#x}: {1}")]
    Record(i64, String),
    #[error("between transactions {0:#x} and {1:#x} there is one that the log does not have")]
    Hole(i64, i64),
    #[error("servers have different transactions {0:#x}")]
    Differ(i64),
}

/// The transactions of a server that has its data in this directory; also while it runs.
pub fn read(data: &Path) -> Result<Vec<Transaction>, LogError> {
    read_ensemble(&[data.to_owned()])
}

/// The transactions of an ensemble: those that most of its servers have logged. A server that was away for long has got a snapshot instead
/// of what it missed, so that there may be too few of them: what is missing then is an error.
pub fn read_ensemble(servers: &[PathBuf]) -> Result<Vec<Transaction>, LogError> {
    let mut all: BTreeMap<i64, (Transaction, usize)> = BTreeMap::new();
    for data in servers {
        for transaction in read_directory(&data.join("version-2"))?.into_values() {
            let (known, logs) = all.entry(transaction.zxid).or_insert_with(|| (transaction.clone(), 0));
            if *known != transaction {
                return Err(LogError::Differ(transaction.zxid));
            }
            *logs += 1;
        }
    }
    let committed = all.into_values().filter(|(_, logs)| logs * 2 > servers.len());
    let committed: Vec<Transaction> = committed.map(|(transaction, _)| transaction).collect();
    let epoch = |zxid: i64| zxid >> 32;
    let mut before = 0;
    for Transaction { zxid, .. } in &committed {
        // With a new leader the numbers begin anew.
        let first = if epoch(*zxid) == epoch(before) {
            before
        } else {
            epoch(*zxid) << 32
        };
        if *zxid != first + 1 {
            return Err(LogError::Hole(before, *zxid));
        }
        before = *zxid;
    }
    Ok(committed)
}

/// The transactions of all log files of a directory, by number. What a killed server wrote in part is not there, nor is what it wrote after
/// the file was begun anew.
fn read_directory(directory: &Path) -> Result<BTreeMap<i64, Transaction>, LogError> {
    let io = |error| LogError::Io(directory.to_owned(), error);
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).map_err(io)? {
        let path = entry.map_err(io)?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let first = name.and_then(|name| i64::from_str_radix(name.strip_prefix("log.")?, 16).ok());
        files.extend(first.map(|first| (first, path)));
    }
    files.sort();
    let mut all = BTreeMap::new();
    for (_, path) in files {
        let bytes = fs::read(&path).map_err(|error| LogError::Io(path.clone(), error))?;
        for transaction in parse(&bytes).ok_or(LogError::Header(path))? {
            let transaction = transaction?;
            all.insert(transaction.zxid, transaction);
        }
    }
    Ok(all)
}

/// The transactions of one file, as far as it was written; none if it is no log. A file that was made a moment ago is empty.
fn parse(file: &[u8]) -> Option<impl Iterator<Item = Result<Transaction, LogError>>> {
    let mut file = Reader(file);
    if !file.0.is_empty() {
        let is_log = file.take(4)? == MAGIC && file.int()? == VERSION;
        file.long().filter(|_| is_log)?;
    }
    Some(std::iter::from_fn(move || {
        let checksum = file.long()?;
        // The rest of what was allocated is zeros.
        let record = file.buffer().filter(|record| !record.is_empty())?;
        let is_whole = file.take(1)? == [END] && i64::from(adler32(record)) == checksum;
        is_whole.then(|| transaction(record))
    }))
}

/// The checksum that records have.
fn adler32(bytes: &[u8]) -> u32 {
    const MODULUS: u32 = 65_521;
    let (a, b) = bytes.iter().fold((1, 0), |(a, b), byte| {
        let a = (a + u32::from(*byte)) % MODULUS;
        (a, (b + a) % MODULUS)
    });
    (b << 16) | a
}

fn transaction(record: &[u8]) -> Result<Transaction, LogError> {
    let mut reader = Reader(record);
    let mut header = || {
        Some((
            reader.long()?,
            reader.int()?,
            reader.long()?,
            reader.long()?,
            reader.int()?,
        ))
    };
    let Some((session, _, zxid, time, kind)) = header() else {
        return Err(LogError::Record(0, "its header is cut off".to_owned()));
    };
    let mut ops = Vec::new();
    let read = match kind {
        14 => multi(&mut reader, &mut ops),
        kind => op(kind, &mut reader).map(|op| ops.extend(op)),
    };
    read.map_err(|why| LogError::Record(zxid, why))?;
    Ok(Transaction {
        zxid,
        session,
        time,
        ops,
    })
}

fn multi(reader: &mut Reader<'_>, ops: &mut Vec<Op>) -> Result<(), String> {
    let cut = || "its steps are cut off".to_owned();
    for _ in 0..reader.int().ok_or_else(cut)? {
        let kind = reader.int().ok_or_else(cut)?;
        let step = reader.buffer().ok_or_else(cut)?;
        ops.extend(op(kind, &mut Reader(step))?);
    }
    Ok(())
}

/// What a transaction of a kind does; none if it failed.
fn op(kind: i32, reader: &mut Reader<'_>) -> Result<Option<Op>, String> {
    let mut read = || {
        Some(match kind {
            // With or without a stat in the answer, as a container, with a time to live.
            1 | 15 | 19 | 21 => Op::Create {
                path: reader.string()?,
                data: reader.buffer()?.to_vec(),
                ephemeral: reader
                    .acl()
                    .and_then(|()| Some(matches!(kind, 1 | 15) && reader.take(1)? == [1]))?,
            },
            2 | 20 => Op::Delete { path: reader.string()? },
            5 | 16 => Op::Set {
                path: reader.string()?,
                data: reader.buffer()?.to_vec(),
                version: reader.int()?,
            },
            7 => Op::SetAcl { path: reader.string()? },
            13 => Op::Check { path: reader.string()? },
            -10 => Op::BeginSession { timeout: reader.int()? },
            -11 => Op::EndSession,
            _ => return None,
        })
    };
    match kind {
        -1 => Ok(None),
        1 | 2 | 5 | 7 | 13 | 15 | 16 | 19 | 20 | 21 | -10 | -11 => {
            read().map(Some).ok_or_else(|| format!("one of kind {kind} is cut off"))
        }
        kind => Err(format!("it is of the kind {kind}, which is not known")),
    }
}

/// What is left of a record, in the encoding of ZooKeeper's protocol: big-endian, and lengths before what has no fixed one.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn int(&mut self) -> Option<i32> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(i32::from_be_bytes(*taken))
    }

    fn long(&mut self) -> Option<i64> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(i64::from_be_bytes(*taken))
    }

    /// Bytes; none at all are as good as null.
    fn buffer(&mut self) -> Option<&'a [u8]> {
        let length = self.int()?.max(0);
        self.take(usize::try_from(length).ok()?)
    }

    fn string(&mut self) -> Option<String> {
        String::from_utf8(self.buffer()?.to_vec()).ok()
    }

    /// Reads past a list of who may do what.
    fn acl(&mut self) -> Option<()> {
        for _ in 0..self.int()?.max(0) {
            self.int()?;
            self.buffer()?;
            self.buffer()?;
        }
        Some(())
    }
}

impl fmt::Display for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x} of session {:#x}:", self.zxid, self.session)?;
        for op in &self.ops {
            match op {
                Op::Create { path, data, .. } => write!(f, " create {path} {}", String::from_utf8_lossy(data))?,
                Op::Set { path, data, version } => {
                    write!(
                        f,
                        " set {path} to {} as version {version}",
                        String::from_utf8_lossy(data)
                    )?;
                }
                Op::Delete { path } => write!(f, " delete {path}")?,
                Op::Check { path } => write!(f, " check {path}")?,
                other => write!(f, " {other:?}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(bytes: &[u8]) -> Vec<u8> {
        [&(bytes.len() as i32).to_be_bytes(), bytes].concat()
    }

    fn record(zxid: i64, kind: i32, body: &[u8]) -> Vec<u8> {
        let header = [
            &7i64.to_be_bytes()[..],
            &1i32.to_be_bytes(),
            &zxid.to_be_bytes(),
            &5i64.to_be_bytes(),
            &kind.to_be_bytes(),
        ];
        let record = [&header.concat(), body].concat();
        let checksum = i64::from(adler32(&record)).to_be_bytes();
        [&checksum[..], &bytes(&record), &[END]].concat()
    }

    fn set(path: &str, version: i32) -> Vec<u8> {
        [&bytes(path.as_bytes()), &bytes(b"x"), &version.to_be_bytes()[..]].concat()
    }

    fn file(records: &[Vec<u8>]) -> Vec<u8> {
        [MAGIC, &VERSION.to_be_bytes(), &0i64.to_be_bytes(), &records.concat()].concat()
    }

    fn ops(file: &[u8]) -> Vec<Op> {
        let all = parse(file).unwrap();
        all.flat_map(|transaction| transaction.unwrap().ops).collect()
    }

    fn write(dir: &Path, name: &str, file: &[u8]) {
        fs::create_dir_all(dir.join("version-2")).unwrap();
        fs::write(dir.join("version-2").join(name), file).unwrap();
    }

    #[test]
    fn a_record_is_read_as_zookeeper_writes_it() {
        assert_eq!(adler32(b"Wikipedia"), 0x11e6_0398);
        let acl = [
            &1i32.to_be_bytes()[..],
            &31i32.to_be_bytes(),
            &bytes(b"world"),
            &bytes(b"anyone"),
        ]
        .concat();
        let create = [&bytes(b"/a"), &bytes(b"data"), &acl[..], &[1], &0i32.to_be_bytes()].concat();
        let step = |kind: i32, body: &[u8]| [&kind.to_be_bytes()[..], &bytes(body)].concat();
        let multi = [
            &2i32.to_be_bytes()[..],
            &step(13, &[&bytes(b"/a"), &1i32.to_be_bytes()[..]].concat()),
            &step(5, &set("/b", 3)),
        ];
        let failed = [&1i32.to_be_bytes()[..], &step(-1, &(-103i32).to_be_bytes())];
        let file = file(&[
            record(1, -10, &4000i32.to_be_bytes()),
            // A digest of all znodes may come after what a transaction has.
            record(2, 15, &[&create[..], &[9; 12]].concat()),
            record(3, 14, &multi.concat()),
            record(4, 14, &failed.concat()),
            record(5, -1, &(-101i32).to_be_bytes()),
            record(6, 2, &bytes(b"/a")),
            record(7, -11, &[]),
            vec![0; 300],
        ]);
        let expected = [
            Op::BeginSession { timeout: 4000 },
            Op::Create {
                path: "/a".to_owned(),
                data: b"data".to_vec(),
                ephemeral: true,
            },
            Op::Check { path: "/a".to_owned() },
            Op::Set {
                path: "/b".to_owned(),
                data: b"x".to_vec(),
                version: 3,
            },
            Op::Delete { path: "/a".to_owned() },
            Op::EndSession,
        ];
        assert_eq!(ops(&file), expected);
        assert!(parse(b"ZKSN\0\0\0\x02\0\0\0\0\0\0\0\0").is_none());
        assert_eq!(ops(b""), []);
    }

    #[test]
    fn what_was_written_in_part_is_not_there() {
        let whole = file(&[record(1, 5, &set("/a", 1)), record(2, 5, &set("/a", 2))]);
        for length in 16..whole.len() {
            let count = ops(&whole[..length]).len();
            assert!(count <= 1, "{count} of {length} bytes");
        }
        let mut torn = whole.clone();
        *torn.last_mut().unwrap() = 0;
        assert_eq!(ops(&torn).len(), 1);
        let at = torn.len() - 5;
        (torn[at], *torn.last_mut().unwrap()) = (b'y', END);
        assert_eq!(ops(&torn).len(), 1, "the checksum is another one");
        let unknown = file(&[record(1, 99, &[])]);
        assert!(parse(&unknown).unwrap().next().unwrap().is_err());
    }

    #[test]
    fn what_most_servers_have_counts_and_nothing_may_be_missing() {
        let dir = tempfile::tempdir().unwrap();
        let servers: Vec<PathBuf> = ["a", "b", "c"].iter().map(|name| dir.path().join(name)).collect();
        let epoch = 1 << 32;
        let log = |zxids: &[i64]| {
            let records: Vec<_> = zxids.iter().map(|zxid| record(*zxid, 5, &set("/a", 1))).collect();
            file(&records)
        };
        write(&servers[0], "log.100000001", &log(&[epoch + 1, epoch + 2]));
        write(&servers[0], "log.200000001", &log(&[2 * epoch + 1]));
        write(&servers[1], "log.100000001", &log(&[epoch + 1, epoch + 2, epoch + 3]));
        write(&servers[2], "log.100000001", &log(&[epoch + 1]));
        write(&servers[2], "log.200000001", &log(&[2 * epoch + 1]));
        let zxids = |servers: &[PathBuf]| {
            let read = read_ensemble(servers);
            read.map(|all| all.iter().map(|it| it.zxid).collect::<Vec<_>>())
        };
        assert_eq!(zxids(&servers).unwrap(), [epoch + 1, epoch + 2, 2 * epoch + 1]);
        write(&servers[2], "log.100000001", &log(&[epoch + 1, epoch + 3]));
        assert_eq!(zxids(&servers).unwrap()[2], epoch + 3);
        write(&servers[0], "log.100000001", &log(&[epoch + 1]));
        assert!(matches!(zxids(&servers), Err(LogError::Hole(..))));
        let other = file(&[record(epoch + 1, 5, &set("/b", 1))]);
        write(&servers[2], "log.100000001", &other);
        assert!(matches!(zxids(&servers), Err(LogError::Differ(_))));
    }
}
