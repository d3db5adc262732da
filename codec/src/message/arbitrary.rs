//! Any message, for property tests.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::fix::Fix;
use crate::values::{
    AckKind, CommandStatus, Delivery, ErrorCode, PresenceState, Role, SubscribeMode,
};

pub(crate) fn fix() -> impl Strategy<Value = Fix> {
    any::<(u64, u32, i32, i32, u16, u16)>().prop_map(
        |(time_ms, vehicle, lat_e7, lon_e7, speed_cm_s, heading_cdeg)| Fix {
            time_ms,
            vehicle,
            lat_e7,
            lon_e7,
            speed_cm_s,
            heading_cdeg,
        },
    )
}

fn fixes() -> impl Strategy<Value = Vec<Fix>> {
    vec(fix(), 0..40)
}

/// Any Unicode, control characters and quotes included.
fn text() -> impl Strategy<Value = String> {
    vec(any::<char>(), 0..20).prop_map(String::from_iter)
}

fn maybe() -> impl Strategy<Value = Option<String>> {
    option::of(text())
}

fn texts() -> impl Strategy<Value = Vec<String>> {
    vec(text(), 0..6)
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..100)
}

fn viewport() -> impl Strategy<Value = Viewport> {
    any::<[i32; 4]>().prop_map(|[south_e7, west_e7, north_e7, east_e7]| Viewport {
        south_e7,
        west_e7,
        north_e7,
        east_e7,
    })
}

fn resume() -> impl Strategy<Value = ResumePoint> {
    any::<(u64, u64)>().prop_map(|(epoch, sequence)| ResumePoint { epoch, sequence })
}

fn missing() -> impl Strategy<Value = EventRange> {
    any::<[u64; 3]>().prop_map(|[epoch, first, last]| EventRange { epoch, first, last })
}

fn last_known() -> impl Strategy<Value = LastKnown> {
    (select(PresenceState::ALL), any::<u32>())
        .prop_map(|(state, age_ms)| LastKnown { age_ms, state })
}

fn change() -> impl Strategy<Value = PresenceChange> {
    (any::<(u64, u32)>(), select(PresenceState::ALL)).prop_map(|((since_ms, vehicle), state)| {
        PresenceChange {
            since_ms,
            vehicle,
            state,
        }
    })
}

fn from_vehicle() -> impl Strategy<Value = Message> {
    prop_oneof![
        (fix(), maybe()).prop_map(|(fix, vehicle_id)| Position { fix, vehicle_id }.into()),
        (fixes(), maybe())
            .prop_map(|(fixes, vehicle_id)| PositionBatch { fixes, vehicle_id }.into()),
        (
            text(),
            0..=1u8,
            (maybe(), maybe()),
            bytes(),
            any::<([u64; 4], u32, bool)>()
        )
            .prop_map(|(topic, qos, (content_type, vehicle_id), payload, plain)| {
                let (numbers, vehicle, redelivered) = plain;
                let [message_id, time_ms, sequence, epoch] = numbers;
                Event {
                    topic,
                    qos,
                    message_id,
                    time_ms,
                    content_type,
                    payload,
                    vehicle,
                    sequence,
                    epoch,
                    redelivered,
                    vehicle_id,
                }
                .into()
            }),
        (
            any::<(u64, u32)>(),
            select(CommandStatus::ALL),
            maybe(),
            bytes()
        )
            .prop_map(|((command_id, vehicle), status, content_type, payload)| {
                CommandResult {
                    command_id,
                    status,
                    content_type,
                    payload,
                    vehicle,
                }
                .into()
            }),
    ]
}

fn from_dashboard() -> impl Strategy<Value = Message> {
    let wishes = (texts(), texts(), texts(), maybe());
    let modes = (select(SubscribeMode::ALL), select(Delivery::ALL));
    let places = (option::of(viewport()), option::of(resume()));
    prop_oneof![
        (any::<(u64, bool, u32, u8)>(), modes, wishes, places).prop_map(
            |(plain, modes, wishes, places)| {
                let (request, whole_fleet, min_interval_ms, qos) = plain;
                let (vehicles, groups, topics, consumer) = wishes;
                Subscribe {
                    request,
                    mode: modes.0,
                    whole_fleet,
                    vehicles,
                    groups,
                    viewport: places.0,
                    topics,
                    delivery: modes.1,
                    min_interval_ms,
                    resume: places.1,
                    consumer,
                    qos,
                }
                .into()
            }
        ),
        (any::<(u64, bool, bool)>(), texts(), texts(), texts()).prop_map(
            |((request, everything, whole_fleet), vehicles, groups, topics)| {
                Unsubscribe {
                    request,
                    everything,
                    whole_fleet,
                    vehicles,
                    groups,
                    topics,
                }
                .into()
            }
        ),
        any::<(u64, u64)>().prop_map(|(epoch, sequence)| EventAck { epoch, sequence }.into()),
        (any::<u64>(), text()).prop_map(|(request, token)| Authenticate { request, token }.into()),
        (
            any::<(u64, u32, u64, bool)>(),
            maybe(),
            text(),
            maybe(),
            bytes()
        )
            .prop_map(|(plain, vehicle_id, name, content_type, payload)| {
                let (command_id, ttl_ms, accepted_ms, redelivered) = plain;
                Command {
                    command_id,
                    vehicle_id,
                    name,
                    ttl_ms,
                    content_type,
                    payload,
                    accepted_ms,
                    redelivered,
                }
                .into()
            }),
    ]
}

fn from_gateway() -> impl Strategy<Value = Message> {
    prop_oneof![
        (
            select(Role::ALL),
            text(),
            text(),
            maybe(),
            any::<([u32; 4], [u64; 3])>()
        )
            .prop_map(|(role, fleet, subject, node, (short, long))| {
                let [vehicle, heartbeat_ms, message_bytes_max, event_window] = short;
                let [gateway_time_ms, expires_ms, epoch] = long;
                Welcome {
                    role,
                    fleet,
                    subject,
                    vehicle,
                    gateway_time_ms,
                    heartbeat_ms,
                    message_bytes_max,
                    expires_ms,
                    node,
                    epoch,
                    event_window,
                }
                .into()
            }),
        vec((any::<u32>(), text()), 0..10).prop_map(|pairs| {
            let (vehicles, ids) = pairs.into_iter().unzip();
            Names { vehicles, ids }.into()
        }),
        (fixes(), any::<u64>(), vec(last_known(), 0..5)).prop_map(
            |(fixes, gateway_time_ms, last_known)| {
                Positions {
                    fixes,
                    gateway_time_ms,
                    last_known,
                }
                .into()
            }
        ),
        (select(AckKind::ALL), any::<(u64, u32)>()).prop_map(|(kind, (id, watching))| Ack {
            kind,
            id,
            watching
        }
        .into()),
        vec(change(), 0..10).prop_map(|changes| Presence { changes }.into()),
        any::<u64>().prop_map(|expires_ms| TokenExpiring { expires_ms }.into()),
        (any::<u32>(), maybe(), maybe()).prop_map(|(reconnect_after_ms, alternative, reason)| {
            Drain {
                reconnect_after_ms,
                alternative,
                reason,
            }
            .into()
        }),
        (
            select(ErrorCode::ALL),
            text(),
            any::<u64>(),
            option::of(missing())
        )
            .prop_map(|(code, message, id, missing)| Error {
                code,
                message,
                id,
                missing,
            }
            .into()),
    ]
}

/// Any message of the protocol.
pub(crate) fn message() -> impl Strategy<Value = Message> {
    prop_oneof![4 => from_vehicle(), 5 => from_dashboard(), 8 => from_gateway()]
}
