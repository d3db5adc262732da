//! Where a result is from: the machine, the binaries, the command line and the date, which every result file says.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::SystemTime;

use aws_lc_rs::digest::{Context, SHA256};
use serde::Serialize;

use crate::usage;

/// The gateway that this process started, the first if there were several: one command measures one binary.
static GATEWAY: OnceLock<Binary> = OnceLock::new();

/// Where a result is from.
#[derive(Debug, Serialize)]
pub struct Provenance {
    /// RFC 3339, UTC, when the result was written.
    pub date: String,
    /// As it was typed, the program first.
    pub command_line: Vec<String>,
    /// This program's version.
    pub bench_version: &'static str,
    /// The gateway, if it was started here.
    pub gateway: Option<Binary>,
    /// What it ran on.
    pub machine: Machine,
}

impl Provenance {
    /// Of a result that is written now.
    pub fn now() -> Self {
        Self {
            date: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
            command_line: std::env::args_os()
                .map(|argument| argument.to_string_lossy().into_owned())
                .collect(),
            bench_version: env!("CARGO_PKG_VERSION"),
            gateway: GATEWAY.get().cloned(),
            machine: Machine::this(),
        }
    }
}

/// A program, so that two results can be seen to be of the same.
#[derive(Clone, Debug, Serialize)]
pub struct Binary {
    /// What `--version` says; none if it does not.
    pub version: Option<String>,
    /// Of the file, in hexadecimal: two builds of one version differ in it.
    pub sha256: Option<String>,
}

impl Binary {
    fn of(path: &Path) -> Self {
        Self {
            version: version(path),
            sha256: sha256(path).ok(),
        }
    }
}

/// Remembers what `path` is, for [`Provenance::now`]. To be called before it runs, since it may be replaced meanwhile.
pub fn gateway_is(path: &Path) {
    GATEWAY.get_or_init(|| Binary::of(path));
}

fn version(path: &Path) -> Option<String> {
    let output = Command::new(path)
        .arg("--version")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let line = text.lines().next()?.trim();
    (output.status.success() && !line.is_empty()).then(|| line.to_owned())
}

fn sha256(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut digest = Context::new(&SHA256);
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            read => digest.update(&buffer[..read]),
        }
    }
    let bytes = digest.finish();
    Ok(bytes.as_ref().iter().map(|b| format!("{b:02x}")).collect())
}

/// A machine. What cannot be read is none.
#[derive(Debug, Serialize)]
pub struct Machine {
    /// The first core's model.
    pub cpu: Option<String>,
    /// Cores that this process may use.
    pub cores: usize,
    /// All of it, in bytes.
    pub memory_bytes: Option<u64>,
    /// As `uname -sr` says.
    pub kernel: String,
    /// As `uname -m` says.
    pub architecture: String,
    /// The first core's frequency governor.
    pub governor: Option<String>,
}

impl Machine {
    /// The one that this process runs on.
    pub fn this() -> Self {
        let uname = rustix::system::uname();
        let text = |part: &std::ffi::CStr| part.to_string_lossy().into_owned();
        Self {
            cpu: fs::read_to_string("/proc/cpuinfo")
                .ok()
                .and_then(|cpuinfo| model(&cpuinfo)),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_bytes: usage::memory_bytes().ok(),
            kernel: format!("{} {}", text(uname.sysname()), text(uname.release())),
            architecture: text(uname.machine()),
            governor: fs::read_to_string("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
                .ok()
                .map(|governor| governor.trim().to_owned()),
        }
    }
}

/// x86 has "model name"; Arm kernels name only numbers, of which implementer and part say the core.
fn model(cpuinfo: &str) -> Option<String> {
    let field = |name: &str| {
        cpuinfo
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(key, _)| key.trim() == name)
            .map(|(_, value)| value.trim().to_owned())
    };
    field("model name").or_else(|| {
        let (implementer, part) = (field("CPU implementer")?, field("CPU part")?);
        Some(format!("implementer {implementer} part {part}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_core_is_named_on_either_architecture() {
        let x86 = "processor\t: 0\nmodel name\t: Some CPU @ 2: fast\nprocessor\t: 1\nmodel name\t: other\n";
        assert_eq!(model(x86).as_deref(), Some("Some CPU @ 2: fast"));
        let arm = "processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd0c\n";
        assert_eq!(model(arm).as_deref(), Some("implementer 0x41 part 0xd0c"));
        assert_eq!(model("processor\t: 0\n"), None);
    }

    #[test]
    fn a_file_has_its_digest() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("abc");
        fs::write(&path, "abc").unwrap();
        // FIPS 180-4, the first example.
        assert_eq!(
            sha256(&path).unwrap(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert!(sha256(&folder.path().join("none")).is_err());
        assert_eq!(version(&path), None);
    }

    #[test]
    fn this_machine_is_described() {
        let provenance = Provenance::now();
        assert!(provenance.date.ends_with('Z'));
        assert!(!provenance.command_line.is_empty());
        assert!(provenance.machine.cores > 0 && provenance.machine.memory_bytes > Some(1 << 20));
        assert!(provenance.machine.kernel.starts_with("Linux "));
    }
}
