//! Resource limits by name.

use oci_spec::runtime::{PosixRlimit, PosixRlimitType as Type};

use crate::error::Error;

/// A limit: its number for the kernel, soft, hard.
pub(crate) type Limit = (u32, u64, u64);

pub(super) fn plan(asked: &[PosixRlimit]) -> Result<Vec<Limit>, Error> {
    let mut limits: Vec<Limit> = Vec::new();
    for limit in asked {
        let number = number(limit.typ());
        if limit.soft() > limit.hard() {
            return Err(Error::config(format!("`{:?}`: the soft limit is above the hard one", limit.typ())));
        }
        if limits.iter().any(|(known, ..)| *known == number) {
            return Err(Error::config(format!("`{:?}` is there twice", limit.typ())));
        }
        limits.push((number, limit.soft(), limit.hard()));
    }
    Ok(limits)
}

fn number(of: Type) -> u32 {
    match of {
        Type::RlimitCpu => libc::RLIMIT_CPU,
        Type::RlimitFsize => libc::RLIMIT_FSIZE,
        Type::RlimitData => libc::RLIMIT_DATA,
        Type::RlimitStack => libc::RLIMIT_STACK,
        Type::RlimitCore => libc::RLIMIT_CORE,
        Type::RlimitRss => libc::RLIMIT_RSS,
        Type::RlimitNproc => libc::RLIMIT_NPROC,
        Type::RlimitNofile => libc::RLIMIT_NOFILE,
        Type::RlimitMemlock => libc::RLIMIT_MEMLOCK,
        Type::RlimitAs => libc::RLIMIT_AS,
        Type::RlimitLocks => libc::RLIMIT_LOCKS,
        Type::RlimitSigpending => libc::RLIMIT_SIGPENDING,
        Type::RlimitMsgqueue => libc::RLIMIT_MSGQUEUE,
        Type::RlimitNice => libc::RLIMIT_NICE,
        Type::RlimitRtprio => libc::RLIMIT_RTPRIO,
        Type::RlimitRttime => libc::RLIMIT_RTTIME,
    }
}
