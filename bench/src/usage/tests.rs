use super::*;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

#[test]
fn cpu_time_is_found_behind_any_command_name() {
    let stat = "7 (a) b) c) S 1 2 3 4 5 6 7 8 9 10 120 30 0 0 20 0 1 0 100";
    assert_eq!(ticks(stat, 2), Some(vec![120, 30]));
    assert_eq!(ticks("nonsense", 2), None);
    let stat = "7 (a) S 1 2 3 4 5 6 7 8 9 10 120 30 5 6 20 0 1 0 100";
    assert_eq!(ticks(stat, 4), Some(vec![120, 30, 5, 6]));
    assert_eq!(ticks("7 (a) S 1 2 3 4 5 6 7 8 9 10 120 30 5", 4), None);
}

/// A shell whose child burns time.
#[test]
fn children_are_counted_with_their_parent() {
    // Should this test fail, the limit ends them.
    let script = "ulimit -t 20; ( while :; do :; done ) & read ready";
    let mut shell = std::process::Command::new("sh")
        .args(["-c", script])
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let pid = shell.id();
    while family_cpu_us(pid).unwrap() < 50_000 {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert!(cpu_us(pid).unwrap() < 50_000);
    let child = children(pid)[0];
    let held = family_memory(pid).unwrap();
    assert!(held.rss > family_memory(child).unwrap().rss && held.rss >= held.pss);
    let child = Pid::from_raw(i32::try_from(child).unwrap());
    kill(child, Signal::SIGKILL).unwrap();
    shell.kill().unwrap();
    shell.wait().unwrap();
}

#[test]
fn this_process_is_resident() {
    let resident = resident(std::process::id()).unwrap();
    assert!(resident.total >= resident.anonymous && resident.anonymous > 0);
    let slab = slab().unwrap();
    assert!(slab.total > slab.unreclaimable && slab.unreclaimable > 0);
    let split = cpu_time(std::process::id()).unwrap();
    assert!(cpu_us(std::process::id()).unwrap() >= split.user_us + split.system_us);
    assert!(written_bytes(std::process::id()).is_ok());
}

#[test]
fn a_core_is_busy_with_all_but_waiting() {
    let stat =
        "cpu  9 9 9 9 9 9 9 9 0 0\ncpu0 1 2 4 100 200 8 16 32 7 7\ncpu10 1 1 1 1 1 1 1 1 0 0\n";
    assert_eq!(parse_busy_ticks(stat, 0), Some(63));
    assert_eq!(parse_busy_ticks(stat, 10), Some(6));
    assert_eq!(parse_busy_ticks(stat, 1), None);
    assert!(core_busy_us(0).unwrap() > 0);
}

#[test]
fn kilobytes_are_read_by_name() {
    let text = "VmRSS:\t    12 kB\nRssAnon:\t 3 kB\n";
    assert_eq!(kilobytes(text, "RssAnon:"), Some(3 << 10));
    assert_eq!(kilobytes(text, "Slab:"), None);
}

#[test]
fn shared_memory_is_divided() {
    let rollup = "\
5633f5970000-7ffdf35ab000 ---p 00000000 00:00 0                          [rollup]
Rss:                1644 kB
Pss:                 475 kB
Pss_Dirty:           116 kB
Pss_Anon:            116 kB
Shared_Clean:       1456 kB
";
    let expected = Held {
        rss: 1_644 << 10,
        pss: 475 << 10,
    };
    assert_eq!(parse_rollup(rollup), Some(expected));
    assert_eq!(parse_rollup("Rss:   1 kB\nPss_Dirty:  1 kB\n"), None);
    let own = proportional(std::process::id()).unwrap();
    assert!(own > 0);
}
