//! A network namespace of the test's own, for what must not touch the machine's network. It takes root and `ip`.

use std::process::Command;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// A namespace with one end of a link; the other end is here. Both go with this value.
pub struct Elsewhere {
    name: String,
    link: String,
    here: String,
}

impl Elsewhere {
    /// Makes one, or says why the test is skipped. In CI it may not be.
    pub fn or_skip() -> Option<Elsewhere> {
        match Elsewhere::make() {
            Ok(elsewhere) => Some(elsewhere),
            Err(why) => {
                assert!(
                    std::env::var_os("CI").is_none(),
                    "no network namespace, and this must run in CI: {why}"
                );
                eprintln!("SKIPPED: no network namespace can be made here: {why}");
                None
            }
        }
    }

    fn make() -> Result<Elsewhere, String> {
        let id = std::process::id();
        // A network of the test's own out of 198.18.0.0/15, which is for tests (RFC 2544).
        let net = format!("198.18.{}.{}", (id / 64) % 256, (id % 64) * 4);
        let base: std::net::Ipv4Addr = net.parse().map_err(|error| format!("{error}"))?;
        let at = |n: u32| std::net::Ipv4Addr::from_bits(base.to_bits() + n);
        let elsewhere = Elsewhere {
            name: format!("longhaul-test-{id}"),
            link: format!("lh{id}"),
            here: at(1).to_string(),
        };
        let Elsewhere { name, link, here } = &elsewhere;
        ip(&format!("netns add {name}"))?;
        ip(&format!(
            "link add {link} type veth peer name peer0 netns {name}"
        ))?;
        ip(&format!("addr add {here}/30 dev {link}"))?;
        ip(&format!("link set {link} up"))?;
        ip(&format!("-n {name} addr add {}/30 dev peer0", at(2)))?;
        ip(&format!("-n {name} link set peer0 up"))?;
        ip(&format!("-n {name} link set lo up"))?;
        Ok(elsewhere)
    }

    /// This end's address.
    pub fn here(&self) -> &str {
        &self.here
    }

    /// Does something over there, sockets, threads and processes included.
    pub fn inside<R: Send>(&self, what: impl FnOnce() -> R + Send) -> R {
        let handle = std::fs::File::open(format!("/run/netns/{}", self.name)).expect("it is there");
        std::thread::scope(|scope| {
            let thread = scope.spawn(move || {
                use std::os::fd::AsFd;
                let network = Some(LinkNameSpaceType::Network);
                move_into_link_name_space(handle.as_fd(), network).expect("root may");
                what()
            });
            thread.join().expect("it is done there")
        })
    }

    /// Takes the link down: whoever is over there vanishes without a word.
    pub fn cut(&self) {
        ip(&format!("link set {} down", self.link)).expect("it is there");
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        let _ = ip(&format!("link del {}", self.link));
        let _ = ip(&format!("netns del {}", self.name));
    }
}

fn ip(arguments: &str) -> Result<(), String> {
    // It is in a folder that not every user's PATH has.
    let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let output = Command::new("ip")
        .env("PATH", path)
        .args(arguments.split(' '))
        .output()
        .map_err(|error| format!("ip: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("ip {arguments}: {}", said.trim()))
}
