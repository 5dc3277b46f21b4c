//! seccomp: which calls to the kernel may be made.
//!
//! Takes: what the source needs. Gives: [`restrict`]: a filter for all threads; [`allowed`]: the list, which `docs/threat-model.md` shows and a
//! test compares. Holds: what is not on the list fails with EPERM, which every caller in here knows how to bear; a call whose
//! harm lies in its arguments is allowed with those arguments only; arguments behind pointers can't be seen by a filter, so calls that
//! hide their harm there are not on the list at all.

use std::collections::BTreeMap;

use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule, TargetArch, apply_filter_all_threads,
};

use crate::sandbox::Calls;

/// A call: its name and its number here.
type Call = (&'static str, i64);

macro_rules! calls {
    ($($name:ident)*) => { &[$((stringify!($name), libc::$name)),*] };
}

/// Harmless with whatever arguments: they work on what is open already, on the process's own memory and threads, or on paths, which
/// Landlock judges.
#[rustfmt::skip]
const PLAIN: &[Call] = calls![
    // descriptors that are open
    SYS_read SYS_readv SYS_pread64 SYS_write SYS_writev SYS_pwrite64 SYS_pwritev SYS_lseek SYS_close SYS_close_range SYS_dup SYS_dup3
    SYS_fsync SYS_fdatasync SYS_syncfs SYS_sync_file_range SYS_ftruncate SYS_fallocate SYS_fadvise64 SYS_flock SYS_fstat SYS_fstatfs SYS_getdents64
    // paths
    SYS_openat SYS_newfstatat SYS_statx SYS_statfs SYS_faccessat SYS_faccessat2 SYS_readlinkat SYS_mkdirat SYS_unlinkat SYS_linkat
    SYS_renameat SYS_renameat2 SYS_getcwd
    // memory
    SYS_brk SYS_munmap SYS_mremap SYS_madvise
    // threads and their signals
    SYS_futex SYS_set_robust_list SYS_rseq SYS_sched_yield SYS_sched_getaffinity SYS_gettid SYS_exit SYS_exit_group SYS_rt_sigaction
    SYS_rt_sigprocmask SYS_rt_sigreturn SYS_sigaltstack SYS_restart_syscall SYS_wait4 SYS_waitid
    // time
    SYS_clock_gettime SYS_clock_getres SYS_clock_nanosleep SYS_nanosleep SYS_gettimeofday
    // waiting
    SYS_ppoll SYS_epoll_create1 SYS_epoll_ctl SYS_epoll_pwait SYS_epoll_pwait2 SYS_eventfd2 SYS_pipe2
    // sockets that are open
    SYS_accept4 SYS_recvfrom SYS_recvmsg SYS_recvmmsg SYS_getsockname SYS_getpeername SYS_getsockopt SYS_shutdown
    // who and what
    SYS_getpid SYS_getppid SYS_getuid SYS_geteuid SYS_getgid SYS_getegid SYS_getrandom SYS_getrusage SYS_sysinfo SYS_uname
];

/// The older forms of some of them, which this architecture has too.
#[cfg(target_arch = "x86_64")]
#[rustfmt::skip]
const OLDER: &[Call] = calls![
    SYS_open SYS_stat SYS_lstat SYS_access SYS_readlink SYS_mkdir SYS_rmdir SYS_unlink SYS_link SYS_rename SYS_poll SYS_epoll_wait
    SYS_dup2 SYS_getrlimit
];
#[cfg(not(target_arch = "x86_64"))]
const OLDER: &[Call] = &[];

/// A call that is allowed with some arguments only.
#[derive(Clone, Debug)]
pub struct Conditional {
    /// Its name.
    pub name: &'static str,
    /// Its number here.
    number: i64,
    /// Of each list all have to hold; one list is enough.
    any: Vec<Vec<Test>>,
}

/// What is asked of an argument: its place, which bits, and their value.
type Test = (u8, u64, u64);

const ALL: u64 = u64::MAX;
const WORD: u64 = u32::MAX as u64;

/// linux/bpf.h, `BPF_MAP_DELETE_ELEM`.
const DELETE_ELEMENT: u64 = 3;
/// linux/prctl.h, `PR_SET_VMA`: names for memory, which newer C libraries give.
const NAME_MEMORY: u64 = 0x5356_4d41;
/// Threads of this process, in no namespace of their own.
const THREAD: u64 = (libc::CLONE_VM | libc::CLONE_THREAD | libc::CLONE_SIGHAND) as u64;
const NAMESPACES: u64 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWCGROUP) as u64;

/// Calls that are allowed with some arguments only.
fn conditional() -> Vec<Conditional> {
    let exec = libc::PROT_EXEC as u64;
    let own = u64::from(std::process::id());
    let one = |name, number, tests: &[Test]| Conditional {
        name,
        number,
        any: vec![tests.to_vec()],
    };
    vec![
        one(
            "clone",
            libc::SYS_clone,
            &[(0, THREAD | NAMESPACES, THREAD)],
        ),
        one("mmap", libc::SYS_mmap, &[(2, exec, 0)]),
        one("mprotect", libc::SYS_mprotect, &[(2, exec, 0)]),
        // to nobody in particular, and opening no connection
        one(
            "sendto",
            libc::SYS_sendto,
            &[(4, ALL, 0), (3, libc::MSG_FASTOPEN as u64, 0)],
        ),
        one(
            "socketpair",
            libc::SYS_socketpair,
            &[(0, WORD, libc::AF_UNIX as u64)],
        ),
        one("prlimit64", libc::SYS_prlimit64, &[(2, ALL, 0)]),
        one("tgkill", libc::SYS_tgkill, &[(0, WORD, own)]),
        one(
            "sched_setaffinity",
            libc::SYS_sched_setaffinity,
            &[(0, WORD, 0)],
        ),
        Conditional {
            name: "prctl",
            number: libc::SYS_prctl,
            any: values(0, &[libc::PR_SET_NAME as u64, NAME_MEMORY]),
        },
        options(),
        Conditional {
            name: "fcntl",
            number: libc::SYS_fcntl,
            any: values(1, &FCNTL.map(|command| command as u64)),
        },
        Conditional {
            name: "ioctl",
            number: libc::SYS_ioctl,
            any: values(1, &IOCTL),
        },
    ]
}

/// What the runtime asks of sockets, files and a terminal.
const IOCTL: [u64; 5] = [
    libc::FIONBIO,
    libc::FIONREAD,
    libc::FIOCLEX,
    libc::TCGETS,
    libc::TIOCGWINSZ,
];

/// To refuse what comes after the stop, and how long to wait. None that outlives the process in a socket that was passed or is kept, but for
/// the filter, which whoever gets it next takes off.
const OPTIONS: [libc::c_int; 3] = [libc::SO_ATTACH_FILTER, libc::SO_RCVTIMEO, libc::SO_SNDTIMEO];

/// Options of sockets.
fn options() -> Conditional {
    let with = |option| {
        let of_sockets = (1, WORD, libc::SOL_SOCKET as u64);
        vec![of_sockets, (2, WORD, option as u64)]
    };
    Conditional {
        name: "setsockopt",
        number: libc::SYS_setsockopt,
        any: OPTIONS.map(with).to_vec(),
    }
}

/// Of TCP and UDP sockets that speak with servers: how long they wait, and that they are told why nobody answers.
const TALKING: [(libc::c_int, libc::c_int); 8] = [
    (libc::SOL_SOCKET, libc::SO_KEEPALIVE),
    (libc::IPPROTO_TCP, libc::TCP_NODELAY),
    (libc::IPPROTO_TCP, libc::TCP_KEEPIDLE),
    (libc::IPPROTO_TCP, libc::TCP_KEEPINTVL),
    (libc::IPPROTO_TCP, libc::TCP_KEEPCNT),
    (libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT),
    (libc::IPPROTO_IP, libc::IP_RECVERR),
    (libc::IPPROTO_IPV6, libc::IPV6_RECVERR),
];

/// To make a connection, and to ask for names as the C library does. Not through AF_UNIX: programs of this machine listen there.
fn connecting() -> Vec<Conditional> {
    let kinds = [libc::SOCK_STREAM, libc::SOCK_DGRAM];
    let families = [libc::AF_INET, libc::AF_INET6];
    let kind = 0xf;
    let sockets = families
        .into_iter()
        .flat_map(|family| kinds.map(|of| vec![(0, WORD, family as u64), (1, kind, of as u64)]));
    let options =
        TALKING.map(|(level, option)| vec![(1, WORD, level as u64), (2, WORD, option as u64)]);
    let with = |name, number, any| Conditional { name, number, any };
    vec![
        with("socket", libc::SYS_socket, sockets.collect()),
        with("setsockopt", libc::SYS_setsockopt, options.to_vec()),
        with("connect", libc::SYS_connect, Vec::new()),
        with("sendmmsg", libc::SYS_sendmmsg, Vec::new()),
    ]
}

/// Descriptors and locks; none that has signals sent.
const FCNTL: [libc::c_int; 11] = [
    libc::F_DUPFD,
    libc::F_DUPFD_CLOEXEC,
    libc::F_GETFD,
    libc::F_SETFD,
    libc::F_GETFL,
    libc::F_SETFL,
    libc::F_SETLK,
    libc::F_SETLKW,
    libc::F_OFD_SETLK,
    libc::F_OFD_SETLKW,
    libc::F_GETLK,
];

/// An argument that is one of some values.
fn values(argument: u8, values: &[u64]) -> Vec<Vec<Test>> {
    values.iter().map(|v| vec![(argument, WORD, *v)]).collect()
}

impl Calls {
    /// What a kind of source needs beside the others.
    fn more(self) -> Vec<Conditional> {
        let mut more = Vec::new();
        if self == Self::Connect {
            more.extend(connecting());
        }
        if self == Self::Ring {
            // if_indextoname(3) asks through a socket that is good for nothing else in here: it can be neither bound nor connected
            let kind = |family: libc::c_int| {
                let datagram = 0xf;
                vec![
                    (0, WORD, family as u64),
                    (1, datagram, libc::SOCK_DGRAM as u64),
                    // another protocol would have the kernel load its module
                    (2, WORD, 0),
                ]
            };
            more.push(Conditional {
                name: "socket",
                number: libc::SYS_socket,
                any: vec![kind(libc::AF_UNIX), kind(libc::AF_INET)],
            });
            more.push(Conditional {
                name: "ioctl",
                number: libc::SYS_ioctl,
                any: values(1, &[libc::SIOCGIFNAME]),
            });
        }
        if self == Self::Xdp {
            more.push(Conditional {
                name: "bpf",
                number: libc::SYS_bpf,
                any: values(0, &[DELETE_ELEMENT]),
            });
            for (name, number) in [
                ("adjtimex", libc::SYS_adjtimex),
                ("clock_adjtime", libc::SYS_clock_adjtime),
            ] {
                more.push(Conditional {
                    name,
                    number,
                    any: Vec::new(),
                });
            }
        }
        more
    }
}

/// Every call that is allowed here, and those of some sources: names, sorted, and whether its arguments are looked at.
pub fn allowed(source: Calls) -> Vec<(String, bool)> {
    let bare = |name: &str| name.trim_start_matches("SYS_").to_owned();
    let plain = PLAIN.iter().chain(OLDER);
    let mut all: Vec<_> = plain.map(|(name, _)| (bare(name), false)).collect();
    let conditional = conditional().into_iter().chain(source.more());
    all.extend(conditional.map(|c| (c.name.to_owned(), !c.any.is_empty())));
    all.sort_unstable();
    all.dedup();
    all
}

/// Installs the filter for all threads; says why it could not.
pub(super) fn restrict(source: Calls) -> Result<(), String> {
    let told = |error: seccompiler::Error| error.to_string();
    let compiled = compile(source).map_err(|error| error.to_string())?;
    for program in &compiled {
        apply_filter_all_threads(program).map_err(told)?;
    }
    Ok(())
}

/// Two filters, of which the stricter answer counts. The first only says that there is no clone3(2), whose flags lie behind a pointer: the C
/// library then takes clone(2). It comes first because the second forbids to install another.
fn compile(source: Calls) -> Result<[BpfProgram; 2], BackendError> {
    let arch: TargetArch = std::env::consts::ARCH.try_into()?;
    let missing = SeccompFilter::new(
        [(libc::SYS_clone3, Vec::new())].into(),
        SeccompAction::Allow,
        SeccompAction::Errno(libc::ENOSYS as u32),
        arch,
    )?;
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    for (_, number) in PLAIN.iter().chain(OLDER) {
        rules.insert(*number, Vec::new());
    }
    rules.insert(libc::SYS_clone3, Vec::new());
    for call in conditional().into_iter().chain(source.more()) {
        let tests = call.any.iter().map(|all| rule(all));
        let known = rules.entry(call.number).or_default();
        known.extend(tests.collect::<Result<Vec<_>, _>>()?);
    }
    let refused = SeccompAction::Errno(libc::EPERM as u32);
    let list = SeccompFilter::new(rules, refused, SeccompAction::Allow, arch)?;
    Ok([missing.try_into()?, list.try_into()?])
}

fn rule(all: &[Test]) -> Result<SeccompRule, BackendError> {
    let test = |(argument, bits, value): &Test| {
        // the upper half of what the kernel takes for an int is not looked at by it, nor here
        let len = match *bits > WORD {
            true => SeccompCmpArgLen::Qword,
            false => SeccompCmpArgLen::Dword,
        };
        SeccompCondition::new(*argument, len, SeccompCmpOp::MaskedEq(*bits), *value)
    };
    SeccompRule::new(all.iter().map(test).collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filters_of_every_source_can_be_compiled_and_are_short_enough_for_the_kernel() {
        for source in [Calls::Plain, Calls::Ring, Calls::Xdp, Calls::Connect] {
            for program in compile(source).unwrap() {
                assert!(program.len() < 4096, "{}", program.len());
            }
        }
    }

    #[test]
    fn nothing_that_starts_a_program_or_opens_a_door_is_on_the_list() {
        let all = allowed(Calls::Ring).into_iter().chain(allowed(Calls::Xdp));
        let names: Vec<String> = all.map(|(name, _)| name).collect();
        for name in [
            "execve",
            "execveat",
            "fork",
            "vfork",
            "ptrace",
            "connect",
            "bind",
            "listen",
            "sendmsg",
            "sendmmsg",
            "kill",
            "tkill",
            "open_by_handle_at",
            "chmod",
            "fchmod",
            "fchmodat",
            "chown",
            "fchown",
            "fchownat",
            "mount",
            "unshare",
            "setns",
            "keyctl",
            "io_uring_setup",
            "process_vm_writev",
            "memfd_create",
            "symlink",
            "symlinkat",
            "mknod",
            "mknodat",
            "setuid",
            "init_module",
        ] {
            assert!(names.iter().all(|n| n != name), "{name}");
        }
    }
}
