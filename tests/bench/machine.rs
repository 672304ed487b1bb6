//! What this machine's own primitives cost: what a run is made of whoever starts it, and what makes ratios differ between machines.

use std::fs;
use std::io::{Read, Write, pipe};
use std::num::NonZeroUsize;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::ptr;
use std::thread;
use std::time::{Duration, Instant};

use nix::libc;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, fork};

use crate::launching::command_true;
use crate::table::Table;

const ROUNDS: usize = 300;
/// Pages that are touched for one sample.
const PAGES: usize = 512;
const PAGE: usize = 4096;

pub fn measure(table: &mut Table) {
    let each = |samples: Vec<Duration>| samples.into_iter().map(|sample| sample / PAGES as u32).collect();
    table.samples("machine: a page fault, of memory that is new", each(repeat(touch)));
    table.samples(
        format!("machine: fork + _exit + wait of a process with {} MiB", resident_mib()),
        repeat(fork_exit),
    );
    table.samples(
        "machine: a process that was forked before: told → waited for",
        repeat(forked_before),
    );
    match wakes() {
        Some(samples) => table.samples("machine: a thread on another CPU is woken", samples),
        None => table.row("machine: a thread on another CPU: there is none", "", ""),
    }
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("exits");
    fs::write(&program, STATIC_PROGRAM).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let spawn = || {
        let mut command = Command::new(&program);
        command.env_clear();
        let begin = Instant::now();
        assert!(command.status().unwrap().success());
        begin.elapsed()
    };
    table.samples("machine: posix_spawn of a static program that exits", repeat(spawn));
    table.samples(
        "machine: the same of /bin/true, which is loaded dynamically",
        repeat(command_true),
    );
}

fn repeat(mut once: impl FnMut() -> Duration) -> Vec<Duration> {
    (0..ROUNDS + 20).map(|_| once()).skip(20).collect()
}

fn resident_mib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<u64>().unwrap() / 1024
}

#[allow(unsafe_code)]
fn touch() -> Duration {
    // SAFETY: the kernel chooses where, so nothing that exists is mapped over; what is written and unmapped is this mapping, which nothing
    // else knows.
    unsafe {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let memory = libc::mmap(
            ptr::null_mut(),
            PAGES * PAGE,
            libc::PROT_READ | libc::PROT_WRITE,
            flags,
            -1,
            0,
        );
        assert_ne!(memory, libc::MAP_FAILED);
        let begin = Instant::now();
        for page in 0..PAGES {
            ptr::write_volatile(memory.cast::<u8>().add(page * PAGE), 1);
        }
        let time = begin.elapsed();
        assert_eq!(libc::munmap(memory, PAGES * PAGE), 0);
        time
    }
}

#[allow(unsafe_code)]
pub fn fork_exit() -> Duration {
    let begin = Instant::now();
    // SAFETY: the child makes one system call, which ends it.
    match unsafe { fork() }.unwrap() {
        // SAFETY: _exit takes any code and does not return.
        ForkResult::Child => unsafe { libc::_exit(0) },
        ForkResult::Parent { child } => waitpid(child, None).unwrap(),
    };
    begin.elapsed()
}

#[allow(unsafe_code)]
fn forked_before() -> Duration {
    let (mut told, mut tells) = pipe().unwrap();
    let (mut ready, mut says_ready) = pipe().unwrap();
    // SAFETY: the child makes system calls alone, on what it has a copy of.
    match unsafe { fork() }.unwrap() {
        ForkResult::Child => {
            let _ = says_ready.write(b"r");
            let _ = told.read(&mut [0]);
            // SAFETY: _exit takes any code and does not return.
            unsafe { libc::_exit(0) }
        }
        ForkResult::Parent { child } => {
            ready.read_exact(&mut [0]).unwrap();
            let begin = Instant::now();
            tells.write_all(b"g").unwrap();
            waitpid(child, None).unwrap();
            begin.elapsed()
        }
    }
}

/// Half of what a byte takes to a thread on another CPU and back.
fn wakes() -> Option<Vec<Duration>> {
    if thread::available_parallelism().map_or(1, NonZeroUsize::get) < 2 {
        return None;
    }
    let (mut there_in, mut there) = pipe().unwrap();
    let (mut back_in, mut back) = pipe().unwrap();
    let other = thread::spawn(move || {
        stay_on(1)?;
        let mut byte = [0];
        while there_in.read_exact(&mut byte).is_ok() && back.write_all(&byte).is_ok() {}
        Some(())
    });
    let here = thread::spawn(move || {
        stay_on(0)?;
        let round = || {
            // Long enough for the other one to sleep.
            thread::sleep(Duration::from_micros(200));
            let begin = Instant::now();
            there.write_all(b"w").ok()?;
            back_in.read_exact(&mut [0]).ok()?;
            Some(begin.elapsed() / 2)
        };
        std::iter::repeat_with(round).take(ROUNDS).collect::<Option<Vec<_>>>()
    });
    let samples = here.join().unwrap();
    other.join().unwrap().and(samples)
}

/// Has this thread run on one of the CPUs that this process may use.
fn stay_on(index: usize) -> Option<()> {
    let allowed = nix::sched::sched_getaffinity(Pid::from_raw(0)).ok()?;
    let cpu = (0..CpuSet::count())
        .filter(|cpu| allowed.is_set(*cpu).unwrap_or(false))
        .nth(index)?;
    let mut one = CpuSet::new();
    one.set(cpu).ok()?;
    sched_setaffinity(Pid::from_raw(0), &one).ok()
}

/// An ELF file of one page that is executable, with the two system-call instructions of `_exit(0)`.
#[cfg(target_arch = "x86_64")]
const STATIC_PROGRAM: &[u8] = &elf(62, &[0xb8, 60, 0, 0, 0, 0x31, 0xff, 0x0f, 0x05, 0, 0, 0]);
#[cfg(target_arch = "aarch64")]
const STATIC_PROGRAM: &[u8] = &elf(
    183,
    &[0x00, 0x00, 0x80, 0xd2, 0xa8, 0x0b, 0x80, 0xd2, 0x01, 0x00, 0x00, 0xd4],
);

const HEADERS: usize = 64 + 56;
const BASE: u64 = 0x40_0000;

const fn elf(machine: u16, code: &[u8; 12]) -> [u8; HEADERS + 12] {
    let mut file = [0; HEADERS + 12];
    put(&mut file, 0, &[0x7f, b'E', b'L', b'F', 2, 1, 1, 0]);
    put(&mut file, 16, &2_u16.to_le_bytes());
    put(&mut file, 18, &machine.to_le_bytes());
    put(&mut file, 20, &1_u32.to_le_bytes());
    put(&mut file, 24, &(BASE + HEADERS as u64).to_le_bytes());
    put(&mut file, 32, &64_u64.to_le_bytes());
    put(&mut file, 52, &64_u16.to_le_bytes());
    put(&mut file, 54, &56_u16.to_le_bytes());
    put(&mut file, 56, &1_u16.to_le_bytes());
    // One segment to load, readable and executable.
    put(&mut file, 64, &1_u32.to_le_bytes());
    put(&mut file, 68, &5_u32.to_le_bytes());
    put(&mut file, 80, &BASE.to_le_bytes());
    put(&mut file, 88, &BASE.to_le_bytes());
    let length = (HEADERS + 12) as u64;
    put(&mut file, 96, &length.to_le_bytes());
    put(&mut file, 104, &length.to_le_bytes());
    put(&mut file, 112, &0x1000_u64.to_le_bytes());
    put(&mut file, HEADERS, code);
    file
}

const fn put(file: &mut [u8], at: usize, bytes: &[u8]) {
    let mut index = 0;
    while index < bytes.len() {
        file[at + index] = bytes[index];
        index += 1;
    }
}
