//! One of each message, with every field set, so that damaging them reaches every part of the decoder.

use longhaul_codec::{
    Ack, AckKind, Authenticate, Command, CommandResult, CommandStatus, Delivery, Drain, Error,
    ErrorCode, Event, EventAck, EventRange, Fix, Message, Names, Position, PositionBatch,
    Positions, Presence, PresenceChange, PresenceState, ResumePoint, Role, Subscribe,
    SubscribeMode, TokenExpiring, Unsubscribe, Viewport, Welcome,
};

fn fix(vehicle: u32) -> Fix {
    Fix {
        time_ms: 1_700_000_000_000,
        vehicle,
        lat_e7: 525_200_000,
        lon_e7: 134_050_000,
        speed_cm_s: 1_389,
        heading_cdeg: 9_000,
    }
}

fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

/// One of each.
pub fn messages() -> Vec<Message> {
    let mut all = from_vehicle();
    all.extend(from_dashboard());
    all.extend(from_gateway());
    all
}

fn from_vehicle() -> Vec<Message> {
    vec![
        Position {
            fix: fix(1),
            vehicle_id: text("bus-1"),
        }
        .into(),
        Position {
            fix: fix(0),
            vehicle_id: None,
        }
        .into(),
        PositionBatch {
            fixes: vec![fix(1), fix(1)],
            vehicle_id: text("bus-1"),
        }
        .into(),
        Event {
            topic: "door".into(),
            qos: 1,
            message_id: 7,
            time_ms: 1_700_000_000_000,
            content_type: text("text/plain"),
            payload: b"open".to_vec(),
            vehicle: 1,
            sequence: 41,
            epoch: 3,
            redelivered: true,
            vehicle_id: text("bus-1"),
        }
        .into(),
        CommandResult {
            command_id: 5,
            status: CommandStatus::Failed,
            content_type: text("text/plain"),
            payload: b"stuck".to_vec(),
            vehicle: 1,
        }
        .into(),
    ]
}

fn from_dashboard() -> Vec<Message> {
    let ids = || vec!["bus-1".to_owned(), "tram-ü".to_owned()];
    vec![
        Subscribe {
            request: 9,
            mode: SubscribeMode::Replace,
            whole_fleet: true,
            vehicles: ids(),
            groups: ids(),
            viewport: Some(Viewport {
                south_e7: -1,
                west_e7: -2,
                north_e7: 3,
                east_e7: 4,
            }),
            topics: ids(),
            delivery: Delivery::Every,
            min_interval_ms: 250,
            resume: Some(ResumePoint {
                epoch: 3,
                sequence: 41,
            }),
            consumer: text("desk"),
            qos: 1,
        }
        .into(),
        Unsubscribe {
            request: 10,
            everything: true,
            whole_fleet: true,
            vehicles: ids(),
            groups: ids(),
            topics: ids(),
        }
        .into(),
        EventAck {
            epoch: 3,
            sequence: 41,
        }
        .into(),
        Authenticate {
            request: 11,
            token: "a.b.c".into(),
        }
        .into(),
        Command {
            command_id: 5,
            vehicle_id: text("bus-1"),
            name: "close".into(),
            ttl_ms: 5_000,
            content_type: text("text/plain"),
            payload: b"door".to_vec(),
            accepted_ms: 1_700_000_000_000,
            redelivered: true,
        }
        .into(),
    ]
}

fn from_gateway() -> Vec<Message> {
    vec![
        Welcome {
            role: Role::Dashboard,
            fleet: "berlin".into(),
            subject: "desk".into(),
            vehicle: 1,
            gateway_time_ms: 1_700_000_000_000,
            heartbeat_ms: 30_000,
            message_bytes_max: 65_536,
            expires_ms: 1_700_000_600_000,
            node: text("node-1"),
            epoch: 3,
            event_window: 64,
        }
        .into(),
        Names {
            vehicles: vec![1, 2],
            ids: vec!["bus-1".into(), "tram-ü".into()],
        }
        .into(),
        Positions {
            fixes: vec![fix(1), fix(2)],
            gateway_time_ms: 1_700_000_000_250,
            last_known: vec![],
        }
        .into(),
        Ack {
            kind: AckKind::Subscribe,
            id: 9,
            watching: 2,
        }
        .into(),
        Presence {
            changes: vec![PresenceChange {
                since_ms: 1_700_000_000_000,
                vehicle: 1,
                state: PresenceState::Stale,
            }],
        }
        .into(),
        TokenExpiring {
            expires_ms: 1_700_000_600_000,
        }
        .into(),
        Drain {
            reconnect_after_ms: 1_000,
            alternative: text("wss://node-2.example"),
            reason: text("upgrade"),
        }
        .into(),
        Error {
            code: ErrorCode::WrongIdentity,
            message: "vehicle_id is not the token's subject".into(),
            id: 9,
            missing: Some(EventRange {
                epoch: 3,
                first: 1,
                last: u64::MAX,
            }),
        }
        .into(),
    ]
}
