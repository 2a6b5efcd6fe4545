use std::collections::BTreeMap;

use libc::c_long;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, apply_filter_all_threads,
};

/// Which system calls the process may still make once it serves, beside those it cannot do
/// without.
#[derive(Debug, Clone, Copy, Default)]
pub struct Calls {
    /// Connections to Unix sockets of other programs.
    pub unix: bool,
    /// Connections over TCP and look-ups of names; which ports is [`super::Files::connect`].
    pub tcp: bool,
}

/// What the serving process needs: files that Landlock lets it open, accepted connections,
/// memory, threads, time, randomness. No new program, no new listener, no tracing, no
/// namespace, no module, no key ring, no other process's memory.
const NEEDED: &[c_long] = &[
    // Files.
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_openat,
    libc::SYS_close,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_lseek,
    libc::SYS_fcntl,
    libc::SYS_flock,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_unlinkat,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_mkdirat,
    libc::SYS_getdents64,
    libc::SYS_readlinkat,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_fchmod,
    libc::SYS_fchown,
    libc::SYS_getcwd,
    // Connections that were accepted.
    libc::SYS_accept4,
    libc::SYS_recvfrom,
    libc::SYS_sendto,
    libc::SYS_recvmsg,
    libc::SYS_sendmsg,
    libc::SYS_shutdown,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_eventfd2,
    libc::SYS_ppoll,
    // Memory; without making any of it executable, see below.
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_membarrier,
    // Threads; `clone` with conditions, see below.
    libc::SYS_clone3,
    libc::SYS_futex,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_geteuid,
    libc::SYS_getuid,
    libc::SYS_tgkill,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    // Time, randomness, and what the C library asks of the machine.
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_getrandom,
    libc::SYS_getrusage,
    libc::SYS_sysinfo,
    libc::SYS_uname,
];

/// What the C library calls on x86-64, where the older calls exist as well.
#[cfg(target_arch = "x86_64")]
const OLDER: &[c_long] = &[
    libc::SYS_open,
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_access,
    libc::SYS_unlink,
    libc::SYS_rename,
    libc::SYS_mkdir,
    libc::SYS_readlink,
    libc::SYS_poll,
    libc::SYS_epoll_wait,
    libc::SYS_time,
];
#[cfg(not(target_arch = "x86_64"))]
const OLDER: &[c_long] = &[];

/// Adds a connection of a kind to be made: sockets of other families stay denied.
const CONNECTING: &[c_long] = &[libc::SYS_connect];
/// Names are looked up over UDP, several packets at once.
const LOOKING_UP: &[c_long] = &[libc::SYS_sendmmsg, libc::SYS_recvmmsg, libc::SYS_bind];

pub(super) fn restrict(calls: Calls) -> Result<String, String> {
    let architecture = TargetArch::try_from(std::env::consts::ARCH)
        .map_err(|_| format!("no filter for {}", std::env::consts::ARCH))?;
    let rules = rules(calls).map_err(|error| error.to_string())?;
    let count = rules.len();
    // What `clone3` is asked for lies in memory, where a filter cannot look: it is answered as by a
    // kernel without it, and the C library takes `clone`, of which the filter sees the flags.
    let absent = SeccompAction::Errno(libc::ENOSYS.unsigned_abs());
    let clone3 = [(libc::SYS_clone3, Vec::new())].into_iter().collect();
    apply(SeccompFilter::new(clone3, SeccompAction::Allow, absent, architecture))?;
    apply(SeccompFilter::new(rules, SeccompAction::KillProcess, SeccompAction::Allow, architecture))?;
    Ok(format!("seccomp, {count} allowed"))
}

fn apply(filter: Result<SeccompFilter, seccompiler::BackendError>) -> Result<(), String> {
    let program: BpfProgram =
        filter.and_then(TryInto::try_into).map_err(|error: seccompiler::BackendError| error.to_string())?;
    apply_filter_all_threads(&program).map_err(|error| error.to_string())
}

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

fn rules(calls: Calls) -> Result<Rules, seccompiler::BackendError> {
    let mut rules: Rules = NEEDED.iter().chain(OLDER).map(|call| (*call, Vec::new())).collect();
    let one = |argument, op, value| {
        SeccompCondition::new(argument, SeccompCmpArgLen::Dword, op, value)
            .and_then(|condition| SeccompRule::new(vec![condition]))
    };
    let number = |value: libc::c_int| u64::from(value.unsigned_abs());
    // No memory becomes executable.
    let executable = number(libc::PROT_EXEC);
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        rules.insert(call, vec![one(2, SeccompCmpOp::MaskedEq(executable), 0)?]);
    }
    // A new thread, never a new process.
    let thread = number(libc::CLONE_THREAD);
    rules.insert(libc::SYS_clone, vec![one(0, SeccompCmpOp::MaskedEq(thread), thread)?]);
    // Threads get names.
    rules.insert(libc::SYS_prctl, vec![one(0, SeccompCmpOp::Eq, number(libc::PR_SET_NAME))?]);
    // Limits are asked for, of the process itself.
    rules.insert(libc::SYS_prlimit64, vec![one(0, SeccompCmpOp::Eq, 0)?]);
    let mut families = Vec::new();
    if calls.unix {
        families.push(libc::AF_UNIX);
    }
    if calls.tcp {
        families.extend([libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK]);
        rules.extend(LOOKING_UP.iter().map(|call| (*call, Vec::new())));
    }
    if !families.is_empty() {
        let allowed: Result<_, _> =
            families.into_iter().map(|family| one(0, SeccompCmpOp::Eq, number(family))).collect();
        rules.insert(libc::SYS_socket, allowed?);
        rules.extend(CONNECTING.iter().map(|call| (*call, Vec::new())));
    }
    // Sockets of the standard library are set not to block.
    rules.insert(
        libc::SYS_ioctl,
        vec![one(1, SeccompCmpOp::Eq, libc::FIONBIO)?, one(1, SeccompCmpOp::Eq, libc::FIOCLEX)?],
    );
    Ok(rules)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_runs_a_program_or_looks_into_another_is_allowed() {
        for calls in [Calls::default(), Calls { unix: true, tcp: true }] {
            let rules = rules(calls).unwrap();
            for denied in [
                libc::SYS_execve,
                libc::SYS_execveat,
                libc::SYS_ptrace,
                libc::SYS_process_vm_readv,
                libc::SYS_listen,
                libc::SYS_mount,
                libc::SYS_unshare,
                libc::SYS_setns,
                libc::SYS_bpf,
                libc::SYS_io_uring_setup,
                libc::SYS_memfd_create,
            ] {
                assert!(!rules.contains_key(&denied), "{denied}");
            }
            assert_eq!(rules.contains_key(&libc::SYS_socket), calls.unix);
        }
        assert!(!rules(Calls { unix: true, tcp: false }).unwrap().contains_key(&libc::SYS_bind));
    }
}
