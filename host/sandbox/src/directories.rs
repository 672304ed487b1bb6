//! Says which grant of a directory was missing, where that can be known: WASI tells a component of it alone, and not which.
//!
//! It must not change what files do: each function here asks the library's, and looks at the answer. A path that is in no granted
//! directory never arrives: the component's own C library looks through the granted ones, and finds none. So what can be said is that it
//! looked for any, should none be granted and the call fail; but of a read-only one what would make it writable.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::sys::stat::fstat;
use wasmtime::component::{Linker, Resource};
use wasmtime::{Caller, StoreContextMut};
use wasmtime_wasi::WasiView;
use wasmtime_wasi::filesystem::{Descriptor, WasiFilesystemView};
use wasmtime_wasi::p1::wasi_snapshot_preview1 as p1;
use wasmtime_wasi::p2::FsResult;
use wasmtime_wasi::p2::bindings::filesystem::types::{
    DescriptorFlags, ErrorCode, HostDescriptor, NewTimestamp, OpenFlags, PathFlags,
};

use super::channel::{Denied, FromAction};
use super::host::Host;
use super::preview1::{self, PREVIEW1};
use twitcher_model::DirGrant;

/// The interfaces as the library names them; components that import an older 0.2 get the same.
const TYPES: &str = "wasi:filesystem/types@0.2.12";
const PREOPENS: &str = "wasi:filesystem/preopens@0.2.12";
/// `perm` of preview 1: what the library answers when a read-only directory is to be changed.
const PERM: i32 = 63;
/// The descriptor of the first directory that a preview-1 program is given.
const FIRST_PREOPEN: i32 = 3;

/// What is known of the granted directories while a call lasts.
#[derive(Debug)]
pub struct Directories {
    /// Each, in the order of the grants.
    pub(super) opened: Vec<OwnedFd>,
    /// Device and inode of each.
    identities: Vec<Option<(u64, u64)>>,
    /// Whether it was said of each that it is read-only. Once is enough: many a program goes on to the next file.
    told: Vec<bool>,
    /// Whether the component looked for directories.
    sought: bool,
}

impl Directories {
    /// Of these, which are open.
    pub fn new(opened: &[OwnedFd]) -> io::Result<Self> {
        Ok(Self {
            opened: opened.iter().map(OwnedFd::try_clone).collect::<Result<_, _>>()?,
            identities: opened.iter().map(identity).collect(),
            told: vec![false; opened.len()],
            sought: false,
        })
    }
}

impl Directories {
    /// Device and inode of each; of those only that have any.
    pub fn identities(&self) -> Vec<(u64, u64)> {
        self.identities.iter().flatten().copied().collect()
    }
}

fn identity(dir: impl AsFd) -> Option<(u64, u64)> {
    fstat(dir).ok().map(|stat| (stat.st_dev, stat.st_ino))
}

impl Host {
    /// What may have been missing, of a call that failed: any directory at all.
    pub(super) fn missing_directory(&self) -> Option<Denied> {
        (self.directories.sought && self.grants().dirs.is_empty()).then_some(Denied::Directory)
    }

    /// Says of a directory that it was not changed because it is read-only. A subdirectory is that of the only one there is, if so.
    fn say_read_only(&mut self, granted: Option<usize>) -> wasmtime::Result<()> {
        let is_read_only = |dir: &DirGrant| !dir.writable;
        let dirs = &self.action.grants.dirs;
        let index = match granted {
            Some(index) => dirs.get(index).is_some_and(is_read_only).then_some(index),
            None => {
                let mut read_only = (0..dirs.len()).filter(|index| is_read_only(&dirs[*index]));
                read_only.next().filter(|_| read_only.next().is_none())
            }
        };
        if let Some(index) = index
            && !std::mem::replace(&mut self.directories.told[index], true)
        {
            let denied = Denied::ReadOnly(dirs[index].guest.clone());
            self.channel.say(&FromAction::Denied(denied))?;
        }
        Ok(())
    }

    /// The same, if it is one of these descriptors of a component that led to the answer.
    fn look_at<T>(&mut self, answer: &Result<T, ErrorCode>, of: &[u32]) -> wasmtime::Result<()> {
        if !matches!(answer, Err(ErrorCode::NotPermitted)) {
            return Ok(());
        }
        for descriptor in of {
            let Ok(Descriptor::Dir(dir)) = self.ctx().table.get(&Resource::<Descriptor>::new_borrow(*descriptor))
            else {
                continue;
            };
            if dir.perms.write_not_permitted() {
                let found = identity(&dir.dir);
                let mut known = self.directories.identities.iter().zip(&self.action.grants.dirs);
                let granted = known.position(|(identity, dir)| !dir.writable && found.is_some() && *identity == found);
                self.say_read_only(granted)?;
            }
        }
        Ok(())
    }

    /// The same, of a preview-1 program, whose first descriptors are the granted directories.
    fn look_at_numbers(&mut self, errno: i32, of: &[i32]) -> wasmtime::Result<()> {
        if errno != PERM {
            return Ok(());
        }
        for number in of {
            let index = number
                .checked_sub(FIRST_PREOPEN)
                .and_then(|index| usize::try_from(index).ok());
            let is_granted = |index: &usize| *index < self.action.grants.dirs.len();
            self.say_read_only(index.filter(is_granted))?;
        }
        Ok(())
    }
}

/// An error of the file system is a value for the component; any other ends its call.
fn answer<T>(result: FsResult<T>) -> wasmtime::Result<Result<T, ErrorCode>> {
    match result {
        Ok(value) => Ok(Ok(value)),
        Err(error) => Ok(Err(error.downcast()?)),
    }
}

/// Functions of a component that change a directory: its name, its parameters, and which of them are the directories.
macro_rules! changes {
    ($types:ident: $($wit:literal, $name:ident($($arg:ident: $type:ty),*) of $($dir:ident),+;)*) => {$(
        $types.func_wrap_async(
            concat!("[method]descriptor.", $wit),
            |mut store: StoreContextMut<'_, Host>, ($($arg,)*): ($($type,)*)| {
                Box::new(async move {
                    let dirs = [$($dir.rep()),+];
                    let host = store.data_mut();
                    let answer = answer(host.filesystem().$name($($arg),*).await)?;
                    host.look_at(&answer, &dirs)?;
                    Ok((answer,))
                })
            },
        )?;
    )*};
}

type Dir = Resource<Descriptor>;

/// Looks at what components do with directories. The linker must have WASI already.
pub fn add_to_linker(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    let mut types = linker.instance(TYPES)?;
    changes! { types:
        "create-directory-at", create_directory_at(dir: Dir, path: String) of dir;
        "link-at", link_at(dir: Dir, flags: PathFlags, path: String, to: Dir, name: String) of dir, to;
        "open-at", open_at(dir: Dir, follow: PathFlags, path: String, how: OpenFlags, flags: DescriptorFlags) of dir;
        "remove-directory-at", remove_directory_at(dir: Dir, path: String) of dir;
        "rename-at", rename_at(dir: Dir, path: String, to: Dir, name: String) of dir, to;
        "set-times-at",
            set_times_at(dir: Dir, flags: PathFlags, path: String, read: NewTimestamp, set: NewTimestamp) of dir;
        "symlink-at", symlink_at(dir: Dir, target: String, path: String) of dir;
        "unlink-file-at", unlink_file_at(dir: Dir, path: String) of dir;
    }
    linker
        .instance(PREOPENS)?
        .func_wrap("get-directories", |mut store: StoreContextMut<'_, Host>, (): ()| {
            let host = store.data_mut();
            host.directories.sought = true;
            use wasmtime_wasi::p2::bindings::filesystem::preopens::Host as _;
            Ok((host.filesystem().get_directories()?,))
        })?;
    linker.allow_shadowing(false);
    Ok(())
}

/// The same, of preview 1.
macro_rules! preview1_changes {
    ($linker:ident: $($name:ident($($arg:ident: $type:ty),*) of $($dir:ident),+;)*) => {$(
        $linker.func_wrap_async(
            PREVIEW1,
            stringify!($name),
            |mut caller: Caller<'_, Host>, ($($arg,)*): ($($type,)*)| {
                Box::new(async move {
                    let (mut memory, host) = preview1::parts(&mut caller)?;
                    let errno = p1::$name(&mut host.wasi, &mut memory, $($arg),*).await?;
                    host.look_at_numbers(errno, &[$($dir),+])?;
                    Ok(errno)
                })
            },
        )?;
    )*};
}

/// Looks at what preview-1 programs do with directories. The linker must have the interface already, and let it be shadowed.
pub fn add_to_preview1_linker(linker: &mut wasmtime::Linker<Host>) -> wasmtime::Result<()> {
    preview1_changes! { linker:
        path_create_directory(dir: i32, path: i32, length: i32) of dir;
        path_filestat_set_times(dir: i32, flags: i32, path: i32, length: i32, read: i64, set: i64, which: i32) of dir;
        path_link(dir: i32, flags: i32, path: i32, length: i32, to: i32, name: i32, name_length: i32) of dir, to;
        path_open(dir: i32, follow: i32, path: i32, length: i32, how: i32, rights: i64, inherited: i64, flags: i32, opened: i32) of dir;
        path_remove_directory(dir: i32, path: i32, length: i32) of dir;
        path_rename(dir: i32, path: i32, length: i32, to: i32, name: i32, name_length: i32) of dir, to;
        path_symlink(target: i32, target_length: i32, dir: i32, path: i32, length: i32) of dir;
        path_unlink_file(dir: i32, path: i32, length: i32) of dir;
    }
    linker.func_wrap(
        PREVIEW1,
        "fd_prestat_get",
        |mut caller: Caller<'_, Host>, number: i32, found: i32| {
            let (mut memory, host) = preview1::parts(&mut caller)?;
            host.directories.sought = true;
            p1::fd_prestat_get(&mut host.wasi, &mut memory, number, found)
        },
    )?;
    Ok(())
}
