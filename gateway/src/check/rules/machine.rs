//! Kernel, user, memory, descriptors, cores, clock.

use crate::check::facts::Facts;
use crate::check::finding::Finding;
use crate::config::Config;
use crate::server::EXECUTOR_IO_MEMORY;

/// The oldest kernel that has what the ring needs.
const KERNEL: (u32, u32) = (6, 1);
/// Below this, glommio starts no executor.
const LOCKED_BYTES_MIN: u64 = 512 << 10;
/// Where nothing was changed, `fs.nr_open` allows this many, and so does the unit.
const DESCRIPTORS: u64 = 1 << 20;
/// `CAP_NET_BIND_SERVICE` (capabilities(7)), the one that a gateway may have a use for.
const BIND_SERVICE: u64 = 1 << 10;

pub fn kernel(facts: &Facts) -> Finding {
    let release = &facts.release;
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    let mut next = || numbers.next()?.parse::<u32>().ok();
    match (next(), next()) {
        (Some(major), Some(minor)) if (major, minor) < KERNEL => Finding::missing(
            "kernel",
            format!("Linux {release}, and io_uring lacks what is needed before 6.1"),
            "upgrade the kernel to 6.1 or newer (Debian 12 has it)",
        ),
        _ => Finding::ok("kernel", format!("Linux {release}")),
    }
}

pub fn ring(facts: &Facts) -> Finding {
    let Err(error) = &facts.ring else {
        return Finding::ok("io_uring", "a trial ring was set up");
    };
    let remedy = match facts.io_uring_disabled {
        Some(2) => {
            "sysctl -w kernel.io_uring_disabled=0, or 1 with kernel.io_uring_group set to the gateway's group"
        }
        Some(1) => {
            "put the gateway's user into the group kernel.io_uring_group, or sysctl -w kernel.io_uring_disabled=0"
        }
        _ if facts.seccomp == Some(true) => {
            "a seccomp profile is in the way: start the container with tuning/seccomp.json"
        }
        _ => "run Linux 6.1 or newer, with CONFIG_IO_URING",
    };
    Finding::missing("io_uring", error, remedy)
}

pub fn own_table(facts: &Facts) -> Finding {
    match &facts.own_table {
        Ok(()) => Finding::ok("descriptor table", "a thread can have one of its own"),
        Err(error) => Finding::missing(
            "descriptor table",
            format!("unshare(CLONE_FILES) is refused: {error}"),
            "a seccomp profile is in the way: start the container with tuning/seccomp.json",
        ),
    }
}

pub fn seccomp(facts: &Facts) -> Finding {
    match facts.seccomp {
        Some(true) => Finding::ok("seccomp", "a filter is on"),
        _ => Finding::warn(
            "seccomp",
            "no filter is on: this process may make any system call",
            "start it with tuning/longhaul@.service, or in a container with tuning/seccomp.json",
        ),
    }
}

pub fn user(facts: &Facts) -> Finding {
    let spare = facts.capabilities.unwrap_or(0) & !BIND_SERVICE;
    if facts.uid == 0 {
        Finding::warn(
            "user",
            "runs as root, and needs nothing of what root may do",
            "run it as a user of its own; tuning/longhaul@.service does",
        )
    } else if spare != 0 {
        Finding::warn(
            "user",
            format!("has capabilities that it has no use for (0x{spare:x})"),
            "drop them: CapabilityBoundingSet in systemd, --cap-drop=ALL for containers",
        )
    } else {
        Finding::ok("user", format!("an ordinary one (uid {})", facts.uid))
    }
}

pub fn locked_memory(facts: &Facts, shards: u64) -> Finding {
    let has = facts.locked_bytes_max;
    let wanted = shards.saturating_mul(EXECUTOR_IO_MEMORY as u64);
    let remedy = "LimitMEMLOCK=256M in the unit, --ulimit memlock=268435456 for containers";
    if has < LOCKED_BYTES_MIN {
        Finding::missing(
            "locked memory",
            format!(
                "{has} bytes (RLIMIT_MEMLOCK), and a shard does not start with less than {LOCKED_BYTES_MIN}"
            ),
            remedy,
        )
    } else if has < wanted {
        Finding::warn(
            "locked memory",
            format!("{has} bytes (RLIMIT_MEMLOCK) for {shards} shards, which take up to {wanted}"),
            remedy,
        )
    } else {
        let says = match has {
            u64::MAX => "unlimited".to_owned(),
            has => format!("{has} bytes for {shards} shards"),
        };
        Finding::ok("locked memory", says)
    }
}

pub fn descriptors(config: &Config, facts: &Facts, shards: u64) -> Finding {
    let has = facts.descriptors;
    let per_shard = config.limits.connections_per_shard(has) as u64;
    let says = format!(
        "{has} per shard, so {shards} shards take {} connections",
        per_shard.saturating_mul(shards)
    );
    let settings_are_the_bound = per_shard == config.limits.connections_per_shard_max as u64;
    if settings_are_the_bound || has >= DESCRIPTORS {
        return Finding::ok("descriptors", says);
    }
    let raise = match facts.nr_open {
        Some(nr_open) if nr_open < DESCRIPTORS => {
            format!("sysctl -w fs.nr_open={DESCRIPTORS}, and then ")
        }
        _ => String::new(),
    };
    Finding::warn(
        "descriptors",
        says,
        format!(
            "{raise}LimitNOFILE={DESCRIPTORS} in the unit, --ulimit nofile={DESCRIPTORS} for containers"
        ),
    )
}

pub fn cores(config: &Config, facts: &Facts, shards: u64) -> Finding {
    if shards > facts.cores && config.server.pin_cores {
        return Finding::warn(
            "cores",
            format!("{shards} shards are pinned to {} cores", facts.cores),
            "lower server.shards, or set server.pin_cores = false",
        );
    }
    Finding::ok("cores", format!("{} for {shards} shards", facts.cores))
}

pub fn clock(facts: &Facts) -> Finding {
    match &facts.clock_kept_by {
        Some(daemon) => Finding::ok("clock", format!("kept by {daemon}")),
        None => Finding::warn(
            "clock",
            "nothing is seen to keep it right, and tokens end by it",
            "run systemd-timesyncd or chrony here, or make sure that the host does",
        ),
    }
}
