//! `bpf(2)`: maps, programs and links as owned descriptors.
//!
//! Every command takes a structure of its own (linux/bpf.h, `union bpf_attr`); each is written out here as far as it is used,
//! with its size told to the kernel, which takes what is behind for zero.

use std::fmt;
use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::sys::bpf::Instruction;

const MAP_CREATE: libc::c_long = 0;
const MAP_LOOKUP_ELEM: libc::c_long = 1;
const MAP_UPDATE_ELEM: libc::c_long = 2;
const MAP_DELETE_ELEM: libc::c_long = 3;
const PROG_LOAD: libc::c_long = 5;
const LINK_CREATE: libc::c_long = 28;

/// Room for what the verifier says of a program that it refuses.
const LOG: usize = 256 << 10;
/// How much of it is worth telling.
const LAST_LINES: usize = 6;

/// A step that the kernel refused.
#[derive(Debug)]
pub struct Error {
    /// What was being done.
    pub step: &'static str,
    /// What the system said.
    pub error: io::Error,
    /// The verifier's last words, where it had any.
    pub log: String,
}

impl Error {
    fn new(step: &'static str, error: io::Error) -> Self {
        let log = String::new();
        Self { step, error, log }
    }

    /// The error number.
    pub fn number(&self) -> Option<i32> {
        self.error.raw_os_error()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.step, self.error)?;
        if self.log.is_empty() {
            return Ok(());
        }
        write!(f, "; the verifier says: {}", self.log)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

/// Calls bpf(2).
///
/// # Safety
/// `attributes` must be the structure of the command, and the addresses in it those of live memory of the sizes that the
/// command expects, writable where it writes.
unsafe fn bpf<T>(command: libc::c_long, attributes: &mut T) -> io::Result<libc::c_long> {
    // SAFETY: bpf(2): "the attr argument is a pointer to a union of type bpf_attr"; "The size argument is the size of the
    // union pointed to by attr". The caller vouches for what it holds.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_mut(attributes),
            size_of::<T>(),
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result)
}

/// Owns a descriptor that a command just gave.
fn own(descriptor: libc::c_long) -> OwnedFd {
    // SAFETY: bpf(2): MAP_CREATE, PROG_LOAD and LINK_CREATE return "a new file descriptor", which nobody else knows.
    unsafe { OwnedFd::from_raw_fd(descriptor as libc::c_int) }
}

/// Kinds of maps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum MapKind {
    /// Values of any size, by number.
    Array = 2,
    /// AF_XDP sockets, by number.
    Xsk = 17,
}

/// A map with 32-bit keys.
#[derive(Debug)]
pub struct Map {
    descriptor: OwnedFd,
    value_size: u32,
}

#[repr(C)]
struct CreateMap {
    kind: u32,
    key_size: u32,
    value_size: u32,
    entries: u32,
}

#[repr(C)]
struct Element {
    map: u32,
    pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

impl Map {
    /// Makes a map of `entries` values of `value_size` bytes.
    ///
    /// # Errors
    /// EPERM without CAP_BPF, and those of bpf(2).
    pub fn create(kind: MapKind, value_size: u32, entries: u32) -> Result<Self, Error> {
        let mut attributes = CreateMap {
            kind: kind as u32,
            key_size: 4,
            value_size,
            entries,
        };
        // SAFETY: the structure of the command, without addresses.
        let made = unsafe { bpf(MAP_CREATE, &mut attributes) };
        let descriptor = made.map(own).map_err(|e| Error::new("make a BPF map", e))?;
        Ok(Self {
            descriptor,
            value_size,
        })
    }

    /// Its descriptor, for instructions.
    pub fn descriptor(&self) -> i32 {
        self.descriptor.as_raw_fd()
    }

    /// Puts a socket into a map of sockets.
    ///
    /// # Errors
    /// Those of bpf(2).
    pub fn put_socket(&self, key: u32, socket: BorrowedFd<'_>) -> Result<(), Error> {
        let mut value = socket.as_raw_fd().to_ne_bytes();
        let put = self.element(MAP_UPDATE_ELEM, key, &mut value);
        put.map_err(|e| Error::new("put a socket into the BPF map", e))
    }

    /// Takes a key out of a map of sockets.
    ///
    /// # Errors
    /// ENOENT, and those of bpf(2).
    pub fn remove(&self, key: u32) -> Result<(), Error> {
        let mut attributes = Element {
            map: self.descriptor.as_raw_fd().cast_unsigned(),
            pad: 0,
            key: (&raw const key) as u64,
            // the kernel wants zeros in all that a command has no use for
            value: 0,
            flags: 0,
        };
        // SAFETY: bpf(2): "key" points to memory of the size that the map was made with: 4 bytes for every map made here. It
        // outlives the call.
        let removed = unsafe { bpf(MAP_DELETE_ELEM, &mut attributes) };
        removed
            .map(drop)
            .map_err(|e| Error::new("take a socket out of the BPF map", e))
    }

    /// Reads the value of a key.
    ///
    /// # Errors
    /// ENOENT, and those of bpf(2).
    pub fn get(&self, key: u32) -> Result<Vec<u8>, Error> {
        let mut value = vec![0; self.value_size as usize];
        let got = self.element(MAP_LOOKUP_ELEM, key, &mut value);
        got.map_err(|e| Error::new("read a BPF map", e))?;
        Ok(value)
    }

    fn element(&self, command: libc::c_long, key: u32, value: &mut [u8]) -> io::Result<()> {
        if value.len() != self.value_size as usize {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut attributes = Element {
            map: self.descriptor.as_raw_fd().cast_unsigned(),
            pad: 0,
            key: (&raw const key) as u64,
            value: value.as_mut_ptr() as u64,
            flags: 0,
        };
        // SAFETY: bpf(2): "key" and "value" point to memory of the sizes that the map was made with: `key` is the 4 bytes
        // of every map made here, and the length of `value` was checked. Both outlive the call.
        unsafe { bpf(command, &mut attributes) }.map(drop)
    }
}

/// Kinds of programs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Kind {
    /// At a tc or tcx hook.
    Classifier = 3,
    /// At the driver.
    Xdp = 6,
}

/// Where a program is attached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Attach {
    /// The driver's receive path.
    Xdp = 37,
    /// Behind the packet taps, before the network stack (Linux 6.6).
    TcxIngress = 46,
}

/// How to load a program.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Load {
    /// Its kind.
    pub kind: Kind,
    /// Where it will be attached.
    pub attach: Attach,
    /// Flags of linux/bpf.h, `BPF_F_*`.
    pub flags: u32,
    /// The interface it is bound to, with [`Load::DEVICE_BOUND`].
    pub interface: u32,
    /// Its name in `bpftool prog`; at most 15 letters, digits and underscores count.
    pub name: &'static str,
}

impl Load {
    /// `BPF_F_XDP_HAS_FRAGS`: packets may lie in several buffers.
    pub const FRAGS: u32 = 1 << 5;
    /// `BPF_F_XDP_DEV_BOUND_ONLY`: for one interface only, whose metadata it may ask for.
    pub const DEVICE_BOUND: u32 = 1 << 6;
}

/// A program in the kernel.
#[derive(Debug)]
pub struct Program(OwnedFd);

#[repr(C)]
struct LoadProgram {
    kind: u32,
    instructions_len: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
    interface: u32,
    attach: u32,
}

/// What the kernel is told of the programs' licence: some of its functions are for programs that may be had under the GPL.
const LICENSE: &std::ffi::CStr = c"Dual MIT/GPL";

impl Program {
    /// Loads a program.
    ///
    /// # Errors
    /// EPERM without CAP_BPF (and CAP_NET_ADMIN), with the verifier's words where it refused.
    pub fn load(code: &[Instruction], how: Load) -> Result<Self, Error> {
        let first = Self::try_load(code, how, &mut []);
        first.or_else(|error| {
            if error.number() == Some(libc::EPERM) {
                return Err(error);
            }
            // once more for the verifier's words, which cost time and are rarely wanted
            let mut log = vec![0; LOG];
            Self::try_load(code, how, &mut log).map_err(|_| Error {
                log: last_words(&log),
                ..error
            })
        })
    }

    fn try_load(code: &[Instruction], how: Load, log: &mut [u8]) -> Result<Self, Error> {
        let mut name = [0; 16];
        for (to, from) in name.iter_mut().take(15).zip(how.name.bytes()) {
            *to = from;
        }
        let mut attributes = LoadProgram {
            kind: how.kind as u32,
            instructions_len: code.len() as u32,
            instructions: code.as_ptr() as u64,
            license: LICENSE.as_ptr() as u64,
            log_level: u32::from(!log.is_empty()),
            log_size: log.len() as u32,
            log: if log.is_empty() {
                0
            } else {
                log.as_mut_ptr() as u64
            },
            kernel_version: 0,
            flags: how.flags,
            name,
            interface: how.interface,
            attach: how.attach as u32,
        };
        // SAFETY: bpf(2): "insns is an array of struct bpf_insn instructions" of `insn_cnt` elements, "license is a license
        // string", and "log_buf is a pointer to a caller-allocated buffer" of `log_size` bytes: all of them live, with their
        // true lengths.
        let loaded = unsafe { bpf(PROG_LOAD, &mut attributes) };
        loaded
            .map(|descriptor| Self(own(descriptor)))
            .map_err(|e| Error::new("load a BPF program", e))
    }

    /// Attaches it to an interface for as long as the link lives. `flags` are those of the kind of link.
    ///
    /// # Errors
    /// EPERM without CAP_NET_ADMIN; EINVAL where the kernel is too old; EBUSY or EEXIST where another is in the way.
    pub fn attach(&self, interface: u32, attach: Attach, flags: u32) -> Result<Link, Error> {
        #[repr(C)]
        struct CreateLink {
            program: u32,
            interface: u32,
            attach: u32,
            flags: u32,
        }
        let mut attributes = CreateLink {
            program: self.0.as_raw_fd().cast_unsigned(),
            interface,
            attach: attach as u32,
            flags,
        };
        // SAFETY: the structure of the command, without addresses.
        let made = unsafe { bpf(LINK_CREATE, &mut attributes) };
        made.map(|descriptor| Link(own(descriptor)))
            .map_err(|e| Error::new("attach a BPF program", e))
    }
}

#[cfg(test)]
impl Program {
    /// What the program says of a frame (BPF_PROG_TEST_RUN), for tests of programs without an interface.
    pub(crate) fn verdict(&self, frame: &[u8]) -> io::Result<u32> {
        #[repr(C)]
        struct TestRun {
            program: u32,
            verdict: u32,
            size_in: u32,
            size_out: u32,
            data_in: u64,
            data_out: u64,
            repeat: u32,
            duration: u32,
        }
        const PROG_TEST_RUN: libc::c_long = 10;
        let mut attributes = TestRun {
            program: self.0.as_raw_fd().cast_unsigned(),
            verdict: 0,
            size_in: frame.len() as u32,
            size_out: 0,
            data_in: frame.as_ptr() as u64,
            data_out: 0,
            repeat: 1,
            duration: 0,
        };
        // SAFETY: bpf(2): the frame is read only, with its true length, and no output is asked for.
        unsafe { bpf(PROG_TEST_RUN, &mut attributes) }?;
        Ok(attributes.verdict)
    }
}

/// A program's place at an interface; it leaves when this is dropped. bpf(2) gives links a descriptor, and the kernel
/// detaches the program with the last one of it, however the process ended.
#[derive(Debug)]
pub struct Link(#[allow(dead_code, reason = "held to be closed")] OwnedFd);

/// The last lines of a verifier's log, in one.
fn last_words(log: &[u8]) -> String {
    let text = String::from_utf8_lossy(log.split(|b| *b == 0).next().unwrap_or_default());
    let lines: Vec<&str> = text.lines().filter(|line| !line.is_empty()).collect();
    let from = lines.len().saturating_sub(LAST_LINES);
    lines.get(from..).unwrap_or_default().join(" | ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::bpf::{Assembler, Reg};

    #[test]
    fn the_last_lines_of_a_log_are_told_in_one() {
        let log = b"0: r0 = 1\n1: exit\n2: a\n3: b\n4: c\n5: d\n\nprocessed 2 insns\n\0\0\0";
        let words = "1: exit | 2: a | 3: b | 4: c | 5: d | processed 2 insns";
        assert_eq!(last_words(log), words);
        assert_eq!(last_words(&[0; 8]), "");
    }

    /// Needs CAP_BPF, else it shows only that the refusal is told.
    #[test]
    fn a_program_that_the_verifier_refuses_says_why() {
        let mut a = Assembler::new();
        a.copy(Reg::R0, Reg::R5);
        a.exit();
        let how = Load {
            kind: Kind::Classifier,
            attach: Attach::TcxIngress,
            flags: 0,
            interface: 0,
            name: "refused",
        };
        let error = Program::load(&a.finish().unwrap(), how).unwrap_err();
        if error.number() == Some(libc::EPERM) {
            eprintln!("skipped: needs CAP_BPF");
            return assert!(!is_ci(), "CI runs as root");
        }
        assert!(error.to_string().contains("R5 !read_ok"), "{error}");
    }

    fn is_ci() -> bool {
        std::env::var("CI").is_ok_and(|ci| ci == "true")
    }
}
