//! What a vehicle may publish, where its token does not let it publish everything: one flag on a connection, and the
//! entries beside it for those who have it set.

use longhaul_codec::{ErrorCode, wire};

use super::{Core, clock::Now, ring::Key};
use crate::session::{
    grants::{Grant, TopicSet},
    rejection::Rejection,
    token::Identity,
};

impl Core {
    /// A vehicle's token says what it may publish.
    pub(super) fn bound_publishing(&mut self, key: Key, identity: &Identity) {
        let is_free = |grant: &Grant| {
            grant.publish && grant.topics == TopicSet::All && grant.until_unix.is_none()
        };
        let bounds = identity
            .grants
            .as_ref()
            .filter(|grants| !grants.0.iter().any(is_free));
        if let Some(connection) = self.connections.get_mut(key) {
            connection.bounded = bounds.is_some();
        }
        match bounds {
            Some(grants) => drop(self.publish_bounds.insert(key, grants.clone())),
            None => drop(self.publish_bounds.remove(&key)),
        }
    }

    /// Whether a vehicle may publish positions.
    #[inline]
    pub(super) fn check_positions(&mut self, key: Key, now: Now) -> Result<(), Rejection> {
        match self.connections.get_mut(key) {
            Some(connection) if connection.bounded => {
                self.check_publish(key, 0, "positions", now, TopicSet::positions)
            }
            _ => Ok(()),
        }
    }

    /// Whether it may publish this event.
    pub(super) fn check_event_topic(
        &mut self,
        key: Key,
        event: wire::Event<'_>,
        now: Now,
    ) -> Result<(), Rejection> {
        match self.connections.get_mut(key) {
            Some(connection) if connection.bounded => {
                let (id, topic) = (event.message_id(), event.topic());
                self.check_publish(key, id, topic, now, |topics| topics.event(topic))
            }
            _ => Ok(()),
        }
    }

    #[cold]
    fn check_publish(
        &self,
        key: Key,
        id: u64,
        what: &str,
        now: Now,
        has: impl Fn(&TopicSet) -> bool,
    ) -> Result<(), Rejection> {
        let unix_s = now.unix_ms / 1_000;
        let grants = self.publish_bounds.get(&key);
        let mut grants = grants.iter().flat_map(|grants| &grants.0);
        let may = grants.any(|grant| {
            let in_force = grant.until_unix.is_none_or(|until| until > unix_s);
            grant.publish && in_force && has(&grant.topics)
        });
        if may {
            return Ok(());
        }
        self.metrics.beyond_grant_publish.inc();
        let says = format!(
            "your token does not let you publish {what:?}: no entry of its claim `grants` with \"publish\" has it"
        );
        Err(Rejection::new(ErrorCode::NotAllowed, id, says))
    }
}
