//! The penalty box: addresses whose connections misbehave are kept out for a while. One per node, shared by its shards,
//! because the kernel spreads the connections of one address over all of them.
//!
//! Each offence has a weight in points. Points leak away; an address that gathers too many is put into the box, each
//! time for twice as long as the time before. A mobile network puts thousands of vehicles behind one address (carrier-grade
//! NAT), so what counts is how an address behaves *for its size*: each connection that came in properly there in the last
//! days, up to [`GOODWILL_MAX`], lets it have as many points more and leaks them as much faster. A bad vehicle among fifty
//! good ones keeps nobody out.
//!
//! Memory is fixed ([`Sets`]): a flood from millions of addresses replaces the entries that matter least. Addresses are
//! known by a keyed hash, so that nobody outside can make two of them meet.
//!
//! It is asked when a connection comes, and only while the box is not empty; told when a peer offends, and when one has
//! come in. Pure: time is passed in, in milliseconds of a clock that never goes back and that all shards share.

mod sets;

use std::{
    hash::{BuildHasher, RandomState},
    net::IpAddr,
    sync::atomic::{AtomicU64, Ordering},
};

use ipnet::IpNet;

use self::sets::{Entry, Sets};
use super::census::network;
use crate::{config::Abuse, limits::PENALTY_ADDRESSES_MAX};

/// Connections that came in properly which count in an address's favour, at most.
pub const GOODWILL_MAX: u16 = 64;
/// After so long, half of them are forgotten, in milliseconds: a day.
const GOODWILL_HALF_LIFE_MS: u64 = 86_400_000;
/// An address without new offences has lost all of its points after this long, in milliseconds.
const FORGIVEN_AFTER_MS: u64 = 60_000;
/// Points are counted in thousandths.
const POINT: u64 = 1_000;
/// How often a stay is doubled at most; the setting ends it long before.
const STRIKES_MAX: u8 = 31;

/// What the box weighs, in bytes, whoever is in it.
pub const PENALTY_BYTES: usize =
    PENALTY_ADDRESSES_MAX * (Sets::<Offender>::ENTRY_BYTES + Sets::<Goodwill>::ENTRY_BYTES);

/// What a peer can do wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offence {
    /// An upgrade without a good token.
    Token,
    /// Bytes that are no upgrade request to a path that exists.
    Request,
    /// An upgrade request that is too long.
    TooLong,
    /// An upgrade request that did not come in time: silence, or trickling.
    Timeout,
    /// A TLS handshake that failed.
    Tls,
    /// No PROXY protocol header, or a broken one, from a load balancer.
    Proxy,
    /// Frames that break RFC 6455, or a message over its limits.
    Frames,
    /// A message that is none of the protocol's.
    Malformed,
    /// A message that was begun and not ended.
    Unfinished,
    /// Closed for sending far too much, or for asking far more than it reads the answers of.
    Rate,
}

impl Offence {
    /// In logs, and as the label of its metric.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Offence::Token => "token",
            Offence::Request => "request",
            Offence::TooLong => "too_long",
            Offence::Timeout => "timeout",
            Offence::Tls => "tls",
            Offence::Proxy => "proxy",
            Offence::Frames => "frames",
            Offence::Malformed => "malformed",
            Offence::Unfinished => "unfinished",
            Offence::Rate => "rate",
        }
    }

    /// Points. What no honest client does weighs more than what a wrong clock or a lost packet does.
    fn points(self) -> u64 {
        match self {
            Offence::Malformed => 4,
            Offence::Token | Offence::Request | Offence::Timeout | Offence::Tls => 5,
            Offence::TooLong | Offence::Frames | Offence::Unfinished | Offence::Rate => 10,
            // The balancer's fault, not its clients'.
            Offence::Proxy => 0,
        }
    }

    /// Whether it is a connection's that came in properly: it does not speak for its address any more.
    fn spends_goodwill(self) -> bool {
        matches!(
            self,
            Offence::Frames | Offence::Malformed | Offence::Unfinished | Offence::Rate
        )
    }
}

/// Somebody's points, and their stay in the box.
#[derive(Debug, Clone, Copy, Default)]
struct Offender {
    tag: u64,
    /// In the box until then.
    until_ms: u64,
    /// When `score` was right.
    at_ms: u64,
    /// In thousandths of a point.
    score: u32,
    /// How often it was in the box.
    strikes: u8,
}

impl Entry for Offender {
    fn new(tag: u64) -> Offender {
        Offender {
            tag,
            ..Offender::default()
        }
    }

    fn tag(&self) -> u64 {
        self.tag
    }

    /// Those in the box come first, by how long they stay; then those who were there; then by points.
    fn worth(&self, now_ms: u64) -> u64 {
        const IN_THE_BOX: u64 = 1 << 48;
        let stays_ms = self.until_ms.saturating_sub(now_ms);
        if stays_ms > 0 {
            return IN_THE_BOX + stays_ms;
        }
        let quiet_ms = now_ms.saturating_sub(self.at_ms);
        let left = u64::from(self.score) * FORGIVEN_AFTER_MS.saturating_sub(quiet_ms);
        left / FORGIVEN_AFTER_MS + (u64::from(self.strikes) << 32)
    }
}

/// Somebody's proper connections.
#[derive(Debug, Clone, Copy, Default)]
struct Goodwill {
    tag: u64,
    /// When half of them were last forgotten, in half-lives.
    halved: u16,
    count: u16,
}

impl Goodwill {
    fn settle(&mut self, now_ms: u64) {
        let halved = (now_ms / GOODWILL_HALF_LIFE_MS) as u16;
        let times = halved.saturating_sub(self.halved);
        self.count = self.count.checked_shr(u32::from(times)).unwrap_or(0);
        self.halved = self.halved.max(halved);
    }
}

impl Entry for Goodwill {
    fn new(tag: u64) -> Goodwill {
        Goodwill {
            tag,
            ..Goodwill::default()
        }
    }

    fn tag(&self) -> u64 {
        self.tag
    }

    fn worth(&self, now_ms: u64) -> u64 {
        let mut then = *self;
        then.settle(now_ms);
        u64::from(then.count)
    }
}

/// The box of a node.
#[derive(Debug)]
pub struct PenaltyBox {
    offenders: Sets<Offender>,
    goodwill: Sets<Goodwill>,
    hasher: RandomState,
    exempt: Box<[IpNet]>,
    /// Points that an address without goodwill may have. 0: there is no box.
    points_max: u64,
    stay_ms_min: u64,
    stay_ms_max: u64,
    /// Nobody is in it after this moment.
    empty_at_ms: AtomicU64,
}

impl PenaltyBox {
    /// An empty one. `trusted`: addresses that are exempt whatever the setting says.
    #[must_use]
    pub fn new(abuse: &Abuse, trusted: &[IpNet]) -> PenaltyBox {
        let addresses = if abuse.points_max == 0 {
            0
        } else {
            PENALTY_ADDRESSES_MAX
        };
        PenaltyBox {
            offenders: Sets::new(addresses),
            goodwill: Sets::new(addresses),
            hasher: RandomState::new(),
            exempt: abuse.exempt.iter().chain(trusted).copied().collect(),
            points_max: u64::from(abuse.points_max),
            stay_ms_min: abuse.stay_ms_min,
            stay_ms_max: abuse.stay_ms_max,
            empty_at_ms: AtomicU64::new(0),
        }
    }

    /// Whether there is a box at all: if not, nobody needs to ask the kernel for addresses.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.points_max > 0
    }

    /// Whether nobody is in it: one load, for every connection that comes.
    #[must_use]
    pub fn is_empty(&self, now_ms: u64) -> bool {
        self.empty_at_ms.load(Ordering::Relaxed) <= now_ms
    }

    /// For how many milliseconds more an address is kept out, if it is.
    #[must_use]
    pub fn keeps_out(&self, address: IpAddr, now_ms: u64) -> Option<u64> {
        if self.is_empty(now_ms) || self.is_exempt(address) {
            return None;
        }
        let until_ms = self
            .offenders
            .find(self.tag(address), |offender| offender.until_ms)?;
        until_ms.checked_sub(now_ms).filter(|left_ms| *left_ms > 0)
    }

    /// An address has sent a connection that came in properly.
    pub fn came_in(&self, address: IpAddr, now_ms: u64) {
        if self.is_on() && !self.is_exempt(address) {
            self.goodwill.with(self.tag(address), now_ms, |goodwill| {
                goodwill.settle(now_ms);
                goodwill.count = (goodwill.count + 1).min(GOODWILL_MAX);
            });
        }
    }

    /// Counts an offence. If the address is put into the box for it: for how many milliseconds.
    pub fn offend(&self, address: IpAddr, offence: Offence, now_ms: u64) -> Option<u64> {
        if !self.is_on() || offence.points() == 0 || self.is_exempt(address) {
            return None;
        }
        let tag = self.tag(address);
        let size = 1 + self.goodwill_of(tag, offence.spends_goodwill(), now_ms);
        let stay_ms = self.offenders.with(tag, now_ms, |offender| {
            self.judge(offender, offence, size, now_ms)
        })?;
        self.empty_at_ms
            .fetch_max(now_ms.saturating_add(stay_ms), Ordering::Relaxed);
        Some(stay_ms)
    }

    fn goodwill_of(&self, tag: u64, spend: bool, now_ms: u64) -> u64 {
        let count = self.goodwill.find(tag, |goodwill| {
            goodwill.settle(now_ms);
            let count = goodwill.count;
            goodwill.count = count.saturating_sub(u16::from(spend));
            count
        });
        u64::from(count.unwrap_or(0))
    }

    fn judge(
        &self,
        offender: &mut Offender,
        offence: Offence,
        size: u64,
        now_ms: u64,
    ) -> Option<u64> {
        if offender.until_ms > now_ms {
            // Of a connection that it had open before.
            return None;
        }
        let allowed = self.points_max * POINT * size;
        let passed_ms = now_ms.saturating_sub(offender.at_ms).min(FORGIVEN_AFTER_MS);
        let leaked = allowed * passed_ms / FORGIVEN_AFTER_MS;
        let score = u64::from(offender.score).saturating_sub(leaked) + offence.points() * POINT;
        offender.at_ms = offender.at_ms.max(now_ms);
        if score <= allowed {
            offender.score = u32::try_from(score).unwrap_or(u32::MAX);
            return None;
        }
        if now_ms.saturating_sub(offender.until_ms) > self.stay_ms_max {
            // It has behaved for long enough to begin anew.
            offender.strikes = 0;
        }
        let stay_ms = self
            .stay_ms_min
            .saturating_mul(1 << offender.strikes)
            .min(self.stay_ms_max);
        offender.strikes = (offender.strikes + 1).min(STRIKES_MAX);
        offender.score = 0;
        offender.until_ms = now_ms.saturating_add(stay_ms);
        Some(stay_ms)
    }

    /// How many addresses are in it. Looks at all of them, so it is for a scrape.
    #[must_use]
    pub fn count(&self, now_ms: u64) -> u64 {
        if self.is_empty(now_ms) {
            return 0;
        }
        self.offenders.count(|offender| offender.until_ms > now_ms)
    }

    fn is_exempt(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.exempt.iter().any(|net| net.contains(&address))
    }

    fn tag(&self, address: IpAddr) -> u64 {
        self.hasher.hash_one(network(address)).max(1)
    }
}

#[cfg(test)]
mod tests;
