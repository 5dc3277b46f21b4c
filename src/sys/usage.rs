//! What the threads of this process have cost.
//!
//! Measurements ask for CPU time, not for time that passes: on a machine that others use too it is the one that means
//! something. The kernel accounts for a running thread at each tick, so windows should be a second or so.

use std::fs;
use std::io;
use std::time::Duration;

use crate::sys::check;

/// CPU time of one thread since it began.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Used {
    /// Its id.
    pub id: u32,
    /// Its name, cut to 15 bytes.
    pub name: String,
    /// Time on a core, in the kernel or not.
    pub cpu: Duration,
}

/// Every thread of this process that is alive.
///
/// # Errors
/// Where `/proc` is not mounted, or the kernel was built without scheduler statistics.
pub fn threads() -> io::Result<Vec<Used>> {
    let mut all = Vec::new();
    for entry in fs::read_dir("/proc/self/task")? {
        let folder = entry?.path();
        // one that has ended since is none
        let Ok(name) = fs::read_to_string(folder.join("comm")) else {
            continue;
        };
        let spent = fs::read_to_string(folder.join("schedstat"))?;
        let id = folder.file_name().and_then(|n| n.to_str()?.parse().ok());
        all.push(Used {
            id: id.unwrap_or(0),
            name: name.trim_end().to_owned(),
            cpu: on_core(&spent),
        });
    }
    Ok(all)
}

/// The first number of `schedstat`: "time spent on the cpu (in nanoseconds)" (Documentation/scheduler/sched-stats.rst).
fn on_core(schedstat: &str) -> Duration {
    let first = schedstat.split_whitespace().next();
    Duration::from_nanos(first.and_then(|n| n.parse().ok()).unwrap_or(0))
}

/// CPU time of the calling thread, in the kernel or not.
///
/// # Errors
/// Those of getrusage(2); none on Linux.
pub fn this_thread() -> io::Result<Duration> {
    // SAFETY: `rusage` is made of integers, for which all zeros is a valid value.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: getrusage(2): "The resource usages are returned in the structure pointed to by usage", which is live;
    // RUSAGE_THREAD returns "resource usage statistics for the calling thread".
    check(unsafe { libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage) })?;
    Ok(span(usage.ru_utime) + span(usage.ru_stime))
}

fn span(time: libc::timeval) -> Duration {
    Duration::from_secs(time.tv_sec as u64) + Duration::from_micros(time.tv_usec as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_works_is_seen_by_name_and_its_time_grows() {
        let thread = std::thread::Builder::new().name("busy-bee".into());
        let before = this_thread().unwrap();
        let seen = thread
            .spawn(|| {
                while this_thread().unwrap() < Duration::from_millis(30) {}
                threads().unwrap()
            })
            .unwrap()
            .join()
            .unwrap();
        let bee = seen.iter().find(|t| t.name == "busy-bee").unwrap();
        assert!(
            bee.id > 0 && bee.cpu >= Duration::from_millis(15),
            "{bee:?}"
        );
        assert!(this_thread().unwrap() >= before);
    }
}
