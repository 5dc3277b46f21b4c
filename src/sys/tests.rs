//! From inside the sandbox, as somebody would who has taken the process over: each forbidden call is made, by its number, and
//! refused; what the sensor needs goes on. Each test closes the sandbox in a child of its own.

use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::mem::zeroed;
use std::net::{TcpListener, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use crate::sandbox::{self, Calls, Config, Mode, Needs, Part};

type Long = libc::c_long;

/// Runs `attempts` in a child and gives the lines that it wrote.
fn in_a_child(attempts: impl FnOnce(&mut File)) -> String {
    let mut ends: [RawFd; 2] = [0; 2];
    // SAFETY: pipe2(2): "pipefd is used to return two file descriptors"; the array is live and has room for two.
    let made = unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) };
    assert_eq!(made, 0);
    // SAFETY: both were made just now and belong to nobody else.
    let (mut reader, mut writer) =
        unsafe { (File::from_raw_fd(ends[0]), File::from_raw_fd(ends[1])) };
    // SAFETY: fork(2): "the child process is created with a single thread". The child only calls what takes no lock that another
    // thread may hold (glibc's malloc is made for it), and leaves by _exit.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "fork");
    if child == 0 {
        // a panic must not end as a thread does that is the last one: well
        let ended = catch_unwind(AssertUnwindSafe(|| attempts(&mut writer)));
        // SAFETY: _exit(2) terminates the calling process immediately.
        unsafe { libc::_exit(i32::from(ended.is_err())) };
    }
    drop(writer);
    let mut said = String::new();
    reader.read_to_string(&mut said).unwrap();
    let mut status = 0;
    // SAFETY: waitpid(2): stores status information in the int that it points to, which is live.
    let ended = unsafe { libc::waitpid(child, &raw mut status, 0) };
    assert_eq!(ended, child);
    assert_eq!(status, 0, "the child ended badly, having said: {said}");
    said
}

#[test]
#[should_panic(expected = "the child ended badly")]
fn a_child_that_panics_is_no_child_that_found_nothing() {
    in_a_child(|_| panic!("made to"));
}

/// Makes a call and gives its error, 0 where it went well.
fn call(number: Long, a: [Long; 6]) -> i32 {
    // SAFETY: syscall(2). The tests pass live memory or none; inside the sandbox the calls are refused before they look at it, and where
    // one is not, the child is about to end.
    let result = unsafe { libc::syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]) };
    match result {
        -1 => std::io::Error::last_os_error().raw_os_error().unwrap_or(-1),
        _ => 0,
    }
}

fn address(text: &CString) -> Long {
    text.as_ptr() as Long
}

/// Somewhere that may be written to, and somewhere that may not.
struct Place {
    inside: tempfile::TempDir,
    outside: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let folder = || tempfile::tempdir().unwrap();
        let this = Self {
            inside: folder(),
            outside: folder(),
        };
        fs::write(this.outside.path().join("secret"), "secret").unwrap();
        this
    }

    fn needs(&self, source: Calls) -> Needs {
        Needs {
            write: vec![self.inside.path().to_owned()],
            source,
            ..Needs::default()
        }
    }

    fn close(&self, source: Calls) -> sandbox::Enforced {
        sandbox::close(&Config::default(), &self.needs(source)).unwrap()
    }
}

/// Whether this kernel has all that the sandbox wants; ours has.
fn is_whole(enforced: &sandbox::Enforced) -> bool {
    Part::ALL.into_iter().all(|part| enforced.has(part))
}

/// What is tried, with its number and arguments.
type Attempt = (&'static str, Long, [Long; 6]);

/// Starting something, or becoming something.
#[rustfmt::skip]
fn attempts_on_processes(parent: Long, text: Long) -> Vec<Attempt> {
    let fork = libc::SIGCHLD as Long;
    vec![
        ("execve", libc::SYS_execve, [text, 0, 0, 0, 0, 0]),
        ("execveat", libc::SYS_execveat, [libc::AT_FDCWD as Long, text, 0, 0, 0, 0]),
        ("clone, to fork", libc::SYS_clone, [fork, 0, 0, 0, 0, 0]),
        ("clone, into a namespace", libc::SYS_clone, [fork | libc::CLONE_NEWUSER as Long, 0, 0, 0, 0, 0]),
        ("ptrace", libc::SYS_ptrace, [libc::PTRACE_ATTACH as Long, parent, 0, 0, 0, 0]),
        ("kill", libc::SYS_kill, [parent, 0, 0, 0, 0, 0]),
        ("tkill", libc::SYS_tkill, [parent, 0, 0, 0, 0, 0]),
        ("tgkill", libc::SYS_tgkill, [parent, parent, 0, 0, 0, 0]),
        ("pidfd_open", libc::SYS_pidfd_open, [parent, 0, 0, 0, 0, 0]),
        ("process_vm_readv", libc::SYS_process_vm_readv, [parent, 0, 0, 0, 0, 0]),
        ("process_vm_writev", libc::SYS_process_vm_writev, [parent, 0, 0, 0, 0, 0]),
        ("setuid", libc::SYS_setuid, [0; 6]),
        ("setresgid", libc::SYS_setresgid, [0; 6]),
        ("unshare", libc::SYS_unshare, [libc::CLONE_NEWUSER as Long, 0, 0, 0, 0, 0]),
        ("setns", libc::SYS_setns, [0; 6]),
        ("personality", libc::SYS_personality, [0; 6]),
        ("prctl, to be dumpable", libc::SYS_prctl, [libc::PR_SET_DUMPABLE as Long, 1, 0, 0, 0, 0]),
        ("prlimit64, to raise", libc::SYS_prlimit64, [0, 7, text, 0, 0, 0]),
        ("setpriority", libc::SYS_setpriority, [0; 6]),
        ("seccomp", libc::SYS_seccomp, [0; 6]),
        ("memfd_create", libc::SYS_memfd_create, [text, 0, 0, 0, 0, 0]),
        ("mmap, to run it", libc::SYS_mmap, [0, 4096, libc::PROT_EXEC as Long, (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as Long, -1, 0]),
        ("mprotect, to run it", libc::SYS_mprotect, [0, 4096, libc::PROT_EXEC as Long, 0, 0, 0]),
    ]
}

/// The machine and its kernel.
#[rustfmt::skip]
fn attempts_on_the_machine(text: Long) -> Vec<Attempt> {
    vec![
        ("mount", libc::SYS_mount, [text, text, text, 0, 0, 0]),
        ("umount2", libc::SYS_umount2, [text, 0, 0, 0, 0, 0]),
        ("pivot_root", libc::SYS_pivot_root, [text, text, 0, 0, 0, 0]),
        ("chroot", libc::SYS_chroot, [text, 0, 0, 0, 0, 0]),
        ("keyctl", libc::SYS_keyctl, [0; 6]),
        ("add_key", libc::SYS_add_key, [text, text, 0, 0, 0, 0]),
        ("bpf, to make a map", libc::SYS_bpf, [0; 6]),
        ("io_uring_setup", libc::SYS_io_uring_setup, [8, 0, 0, 0, 0, 0]),
        ("userfaultfd", libc::SYS_userfaultfd, [0; 6]),
        ("perf_event_open", libc::SYS_perf_event_open, [0; 6]),
        ("init_module", libc::SYS_init_module, [0; 6]),
        ("clock_settime", libc::SYS_clock_settime, [0; 6]),
        ("sethostname", libc::SYS_sethostname, [text, 1, 0, 0, 0, 0]),
        ("swapoff", libc::SYS_swapoff, [text, 0, 0, 0, 0, 0]),
        ("syslog", libc::SYS_syslog, [3, 0, 0, 0, 0, 0]),
        ("ioctl, to type on the terminal", libc::SYS_ioctl, [0, libc::TIOCSTI as Long, text, 0, 0, 0]),
    ]
}

/// Files by ways that Landlock does not judge.
#[rustfmt::skip]
fn attempts_on_files(text: Long, open: Long) -> Vec<Attempt> {
    let here = libc::AT_FDCWD as Long;
    vec![
        ("fchmod", libc::SYS_fchmod, [open, 0o777, 0, 0, 0, 0]),
        ("fchmodat", libc::SYS_fchmodat, [here, text, 0o4777, 0, 0, 0]),
        ("fchown", libc::SYS_fchown, [open, 0, 0, 0, 0, 0]),
        ("fchownat", libc::SYS_fchownat, [here, text, 0, 0, 0, 0]),
        ("utimensat", libc::SYS_utimensat, [here, text, 0, 0, 0, 0]),
        ("setxattr", libc::SYS_setxattr, [text, text, text, 0, 0, 0]),
        ("truncate", libc::SYS_truncate, [text, 0, 0, 0, 0, 0]),
        ("symlinkat", libc::SYS_symlinkat, [text, here, text, 0, 0, 0]),
        ("mknodat", libc::SYS_mknodat, [here, text, 0o666, 0, 0, 0]),
        ("open_by_handle_at", libc::SYS_open_by_handle_at, [open, 0, 0, 0, 0, 0]),
        ("name_to_handle_at", libc::SYS_name_to_handle_at, [here, text, 0, 0, 0, 0]),
        ("chdir", libc::SYS_chdir, [text, 0, 0, 0, 0, 0]),
        ("fcntl, to have signals sent", libc::SYS_fcntl, [open, libc::F_SETOWN as Long, 1, 0, 0, 0]),
    ]
}

fn refused(attempts: &[Attempt], out: &mut File) {
    for (name, number, arguments) in attempts {
        let error = call(*number, *arguments);
        if error != libc::EPERM {
            let _ = writeln!(out, "{name}: {error}");
        }
    }
}

#[test]
fn nothing_can_be_started_taken_over_or_changed_from_inside() {
    let place = Place::new();
    let secret = place.outside.path().join("secret");
    let path = CString::new(secret.to_str().unwrap()).unwrap();
    let open = File::open(&secret).unwrap();
    let parent = Long::from(std::process::id());
    let said = in_a_child(|out| {
        let whole = is_whole(&place.close(Calls::Plain));
        let _ = write!(out, "{}", if whole { "" } else { "not whole\n" });
        let text = address(&path);
        refused(&attempts_on_processes(parent, text), out);
        refused(&attempts_on_the_machine(text), out);
        refused(&attempts_on_files(text, Long::from(open.as_raw_fd())), out);
    });
    assert_eq!(said, "");
    assert_eq!(fs::read_to_string(secret).unwrap(), "secret");
}

#[test]
#[rustfmt::skip]
fn nobody_can_be_spoken_to_from_inside() {
    let place = Place::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let tcp = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let to: socket2::SockAddr = listener.local_addr().unwrap().into();
    let said = in_a_child(|out| {
        place.close(Calls::Plain);
        let (to, len) = (to.as_ptr() as Long, Long::from(to.len()));
        let (tcp, udp) = (Long::from(tcp.as_raw_fd()), Long::from(udp.as_raw_fd()));
        // SAFETY: msghdr holds integers and pointers, for which zeros are a value.
        let message: libc::msghdr = unsafe { zeroed() };
        let message = (&raw const message) as Long;
        let open = Long::from(libc::MSG_FASTOPEN);
        let level = Long::from(libc::SOL_SOCKET);
        let mut attempts: Vec<Attempt> = vec![
            ("connect", libc::SYS_connect, [tcp, to, len, 0, 0, 0]),
            ("connect, a datagram socket", libc::SYS_connect, [udp, to, len, 0, 0, 0]),
            ("bind", libc::SYS_bind, [tcp, to, len, 0, 0, 0]),
            ("listen", libc::SYS_listen, [tcp, 1, 0, 0, 0, 0]),
            ("sendto with an address", libc::SYS_sendto, [udp, to, 1, 0, to, len]),
            ("sendto, opening a connection", libc::SYS_sendto, [tcp, to, 1, open, to, len]),
            ("sendto, opening one to nobody", libc::SYS_sendto, [tcp, to, 1, open, 0, 0]),
            ("setsockopt, to close a kept socket for good", libc::SYS_setsockopt, [udp, level, Long::from(libc::SO_LOCK_FILTER), to, 4, 0]),
            ("setsockopt, to take it off the network", libc::SYS_setsockopt, [udp, level, Long::from(libc::SO_BINDTODEVICE), to, 4, 0]),
            ("setsockopt, of IP", libc::SYS_setsockopt, [udp, 0, Long::from(libc::IP_MINTTL), to, 4, 0]),
            ("sendmsg", libc::SYS_sendmsg, [udp, message, 0, 0, 0, 0]),
            ("sendmmsg", libc::SYS_sendmmsg, [udp, message, 1, 0, 0, 0]),
        ];
        let kinds = [libc::SOCK_STREAM, libc::SOCK_DGRAM, libc::SOCK_RAW];
        for family in [
            libc::AF_UNIX,
            libc::AF_INET,
            libc::AF_INET6,
            libc::AF_NETLINK,
            libc::AF_PACKET,
            libc::AF_ALG,
            libc::AF_VSOCK,
        ] {
            let socket = |kind| {
                (
                    "socket",
                    libc::SYS_socket,
                    [Long::from(family), Long::from(kind), 0, 0, 0, 0],
                )
            };
            attempts.extend(kinds.map(socket));
        }
        refused(&attempts, out);
    });
    assert_eq!(said, "");
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err(), "nobody has come");
}

#[test]
fn a_ring_gets_a_socket_to_ask_about_interfaces_and_can_do_nothing_else_with_it() {
    let place = Place::new();
    let said = in_a_child(|out| {
        place.close(Calls::Ring);
        let index = super::interface::index("lo");
        let is_there = super::interface::is_there(1);
        let raw = call(
            libc::SYS_socket,
            [
                Long::from(libc::AF_PACKET),
                Long::from(libc::SOCK_RAW),
                0,
                0,
                0,
                0,
            ],
        );
        let stream = call(
            libc::SYS_socket,
            [
                Long::from(libc::AF_INET),
                Long::from(libc::SOCK_STREAM),
                0,
                0,
                0,
                0,
            ],
        );
        let l2tp = call(
            libc::SYS_socket,
            [
                Long::from(libc::AF_INET),
                Long::from(libc::SOCK_DGRAM),
                115,
                0,
                0,
                0,
            ],
        );
        let _ = write!(out, "{is_there} {} {raw} {stream} {l2tp}", index.is_err());
    });
    // SIOCGIFINDEX is not what it asks
    assert_eq!(said, format!("true true {0} {0} {0}", libc::EPERM));
}

#[test]
#[rustfmt::skip]
fn who_speaks_with_servers_can_connect_and_can_neither_serve_nor_speak_with_programs_of_this_machine() {
    let place = Place::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = listener.local_addr().unwrap();
    let address: socket2::SockAddr = to.into();
    let secret = place.outside.path().join("secret");
    let said = in_a_child(|out| {
        place.close(Calls::Connect);
        let connected = std::net::TcpStream::connect(to);
        let _ = write!(out, "{} ", connected.and_then(|c| c.set_nodelay(true)).is_ok());
        let _ = write!(out, "{} ", File::open(&secret).is_err());
        let (to, len) = (address.as_ptr() as Long, Long::from(address.len()));
        let [stream, datagram, raw] = [libc::SOCK_STREAM, libc::SOCK_DGRAM, libc::SOCK_RAW].map(Long::from);
        let [inet, unix, netlink] = [libc::AF_INET, libc::AF_UNIX, libc::AF_NETLINK].map(Long::from);
        refused(&[
            ("socket of this machine", libc::SYS_socket, [unix, stream, 0, 0, 0, 0]),
            ("datagrams of this machine", libc::SYS_socket, [unix, datagram, 0, 0, 0, 0]),
            ("socket of the kernel", libc::SYS_socket, [netlink, raw, 0, 0, 0, 0]),
            ("raw socket", libc::SYS_socket, [inet, raw, 0, 0, 0, 0]),
            ("bind", libc::SYS_bind, [0, to, len, 0, 0, 0]),
            ("listen", libc::SYS_listen, [0, 1, 0, 0, 0, 0]),
            ("sendto with an address", libc::SYS_sendto, [0, to, 1, 0, to, len]),
            ("execve", libc::SYS_execve, [to, 0, 0, 0, 0, 0]),
        ], out);
    });
    assert_eq!(said, "true true ");
    assert!(listener.accept().is_ok());
}

/// What becomes of an attempt: `ok`, or the kind of error.
fn told<T>(result: std::io::Result<T>) -> String {
    result.map_or_else(|e| format!("{:?}", e.kind()), |_| "ok".to_owned())
}

fn write_to(path: &Path) -> std::io::Result<()> {
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    file.write_all(b"more")
}

#[test]
fn files_are_read_and_written_where_they_should_be_and_nowhere_else() {
    let place = Place::new();
    let (inside, outside) = (place.inside.path(), place.outside.path());
    let said = in_a_child(|out| {
        place.close(Calls::Plain);
        let secret = outside.join("secret");
        for result in [
            told(File::open("/etc/shadow")),
            told(File::open(&secret)),
            told(write_to(&secret)),
            told(write_to(&outside.join("new"))),
            told(fs::remove_file(&secret)),
            told(fs::create_dir(outside.join("folder"))),
            told(fs::rename(&secret, inside.join("mine"))),
            told(fs::hard_link(&secret, inside.join("mine"))),
            told(fs::read_dir(outside)),
        ] {
            let _ = write!(out, "{result} ");
        }
    });
    // a link to elsewhere is one across devices, in Landlock's eyes
    let refused = said.matches("PermissionDenied").count() + said.matches("CrossesDevices").count();
    assert_eq!(refused, 9, "{said}");
    let said = in_a_child(|out| {
        place.close(Calls::Plain);
        let (one, two) = (inside.join("session/one"), inside.join("two"));
        for result in [
            told(fs::create_dir_all(inside.join("session"))),
            told(write_to(&one)),
            told(File::open(&one).and_then(|f| f.sync_all())),
            told(
                OpenOptions::new()
                    .write(true)
                    .open(&one)
                    .and_then(|f| f.set_len(1)),
            ),
            told(fs::hard_link(&one, inside.join("session/other"))),
            told(fs::rename(&one, &two)),
            told(fs::read_dir(inside)),
            told(fs::remove_file(&two)),
            told(fs::read("/proc/net/snmp")),
            told(fs::read("/proc/self/limits")),
            told(
                std::thread::Builder::new()
                    .name("inside".into())
                    .spawn(|| ())
                    .map(|t| t.join().is_ok()),
            ),
        ] {
            let _ = write!(out, "{result} ");
        }
    });
    assert_eq!(said.matches("ok").count(), 11, "{said}");
}

/// Makes calls fail as on a kernel that has never heard of them.
fn without(calls: &[Long]) {
    use seccompiler::{SeccompAction, SeccompFilter, apply_filter};
    let rules = calls.iter().map(|number| (*number, Vec::new())).collect();
    let missing = SeccompAction::Errno(libc::ENOSYS as u32);
    let arch = std::env::consts::ARCH.try_into().unwrap();
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, missing, arch).unwrap();
    let program: seccompiler::BpfProgram = filter.try_into().unwrap();
    apply_filter(&program).unwrap();
}

#[test]
fn on_an_old_kernel_the_rest_of_the_walls_stand_and_what_is_missing_is_known() {
    let place = Place::new();
    let required = Config {
        mode: Mode::Required,
        ..Config::default()
    };
    for (missing, parts) in [
        (libc::SYS_landlock_create_ruleset, "privileges,calls"),
        (libc::SYS_seccomp, "privileges,files,network,signals"),
    ] {
        let said = in_a_child(|out| {
            without(&[missing]);
            let enforced = place.close(Calls::Plain);
            let standing = Part::ALL.into_iter().filter(|part| enforced.has(*part));
            let _ = write!(
                out,
                "{}",
                standing.map(Part::name).collect::<Vec<_>>().join(",")
            );
        });
        assert_eq!(said, parts);
        let said = in_a_child(|out| {
            without(&[missing]);
            let error = sandbox::close(&required, &place.needs(Calls::Plain)).unwrap_err();
            let _ = write!(out, "{error}");
        });
        assert!(said.contains("sandbox.mode = \"required\""), "{said}");
    }
}

#[test]
fn the_sandbox_is_not_closed_around_a_part_of_the_threads() {
    let said = in_a_child(|out| {
        let (_tell, told) = std::sync::mpsc::channel::<()>();
        let other = std::thread::spawn(move || told.recv());
        let error = sandbox::close(&Config::default(), &Needs::default());
        let _ = write!(out, "{} {}", error.is_err(), other.is_finished());
    });
    assert_eq!(said, "true false");
}
