//! Each bearer tries each thing.

use std::collections::{BTreeMap, BTreeSet};

use longhaul_codec::{
    Command, CommandResult, ErrorCode, Event, Message, Position, PositionBatch, Subscribe,
};

use crate::{
    World,
    common::{
        client::{Client, fix},
        eventually,
    },
};

/// What is tried.
#[derive(Debug, Clone, Copy)]
enum Try {
    /// Subscribe to positions of a vehicle, a group or the whole fleet.
    Watch(&'static str),
    Group(&'static str),
    Fleet,
    /// Subscribe to a topic of the whole fleet.
    Topic(&'static str),
    /// A command for a vehicle.
    Order(&'static str),
    /// Report a position, alone, in a batch, or as somebody else.
    Report,
    Reports,
    ReportAs(&'static str),
    /// Publish an event on a topic.
    Publish(&'static str, u8),
    /// What the other role says.
    Answer,
}

/// What comes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Outcome {
    /// It is taken, and these vehicles' positions are heard.
    Hears(Vec<String>),
    /// It is taken.
    Taken,
    /// It is refused.
    Refused(ErrorCode),
}

fn hears(ids: &[&str]) -> Outcome {
    Outcome::Hears(ids.iter().map(|id| (*id).to_owned()).collect())
}

const NO: Outcome = Outcome::Refused(ErrorCode::NotAllowed);

impl World {
    /// Tries it as this bearer, on a connection of its own.
    fn attempt(&mut self, who: &str, what: Try) -> Outcome {
        let token = self.bearer(who);
        let mut client = Client::connect(&self.gateway, &token);
        let subscribe = Subscribe {
            request: 7,
            ..Subscribe::default()
        };
        let ids = |id: &str| vec![id.to_owned()];
        let message: Message = match what {
            Try::Watch(id) => Subscribe {
                vehicles: ids(id),
                ..subscribe
            }
            .into(),
            Try::Group(name) => Subscribe {
                groups: ids(name),
                ..subscribe
            }
            .into(),
            Try::Fleet => Subscribe {
                whole_fleet: true,
                ..subscribe
            }
            .into(),
            Try::Topic(name) => Subscribe {
                whole_fleet: true,
                topics: ids(name),
                ..subscribe
            }
            .into(),
            Try::Order(id) => Command {
                command_id: self.number(),
                vehicle_id: Some(id.to_owned()),
                name: "honk".to_owned(),
                ttl_ms: 60_000,
                ..Command::default()
            }
            .into(),
            Try::Report => Position {
                fix: fix(1),
                vehicle_id: None,
            }
            .into(),
            Try::Reports => PositionBatch {
                fixes: vec![fix(2), fix(3)],
                vehicle_id: None,
            }
            .into(),
            Try::ReportAs(id) => Position {
                fix: fix(4),
                vehicle_id: Some(id.to_owned()),
            }
            .into(),
            Try::Publish(topic, qos) => Event {
                topic: topic.to_owned(),
                qos,
                message_id: u64::from(qos),
                time_ms: 1,
                ..Event::default()
            }
            .into(),
            Try::Answer => CommandResult {
                command_id: 1,
                ..CommandResult::default()
            }
            .into(),
        };
        client.send(&message);
        let answers = self.answers(&mut client, what);
        let refused = answers.iter().find_map(|answer| match answer {
            Message::Error(error) => Some(error.code),
            _ => None,
        });
        let watches = matches!(
            what,
            Try::Watch(_) | Try::Group(_) | Try::Fleet | Try::Topic(_)
        );
        let heard = if watches {
            self.heard(&mut client, answers)
        } else {
            BTreeSet::new()
        };
        match refused {
            Some(code) => {
                assert!(
                    heard.is_empty(),
                    "{who} {what:?}: refused, and yet it hears {heard:?}"
                );
                Outcome::Refused(code)
            }
            None if watches => Outcome::Hears(heard.into_iter().collect()),
            None => Outcome::Taken,
        }
    }

    /// What comes back at once. An event or a command that must last is answered when it does.
    fn answers(&mut self, client: &mut Client, what: Try) -> Vec<Message> {
        let mut answers = client.drain();
        let is_answered = |answers: &[Message]| {
            answers
                .iter()
                .any(|answer| matches!(answer, Message::Ack(_) | Message::Error(_)))
        };
        if matches!(what, Try::Publish(_, 1) | Try::Order(_)) {
            eventually("it is answered", || {
                answers.extend(client.drain());
                is_answered(&answers)
            });
        }
        answers
    }

    /// Whose positions reach it while everybody reports.
    fn heard(&mut self, client: &mut Client, answers: Vec<Message>) -> BTreeSet<String> {
        let mut said = answers;
        // One that may hear everything of each fleet: what it has heard has been everywhere.
        let mut all = Client::connect(&self.gateway, &self.bearer("desk"));
        all.subscribe(Subscribe {
            request: 1,
            whole_fleet: true,
            ..Subscribe::default()
        });
        for _ in 0..3 {
            self.report();
            let time_ms = fix(self.clock).time_ms;
            let mut seen = BTreeSet::new();
            while seen.len() < 2 {
                let fixes = all.positions();
                seen.extend(
                    fixes
                        .into_iter()
                        .filter(|(_, fix)| fix.time_ms == time_ms)
                        .map(|(id, _)| id)
                        .filter(|id| id == "v1" || id == "v2"),
                );
            }
            said.extend(client.drain());
        }
        let mut names = BTreeMap::new();
        let mut heard = BTreeSet::new();
        for message in &said {
            match message {
                Message::Names(all) => names.extend(all.vehicles.iter().zip(&all.ids)),
                Message::Positions(positions) => {
                    heard.extend(positions.fixes.iter().map(|fix| {
                        let name = names.get(&fix.vehicle);
                        (*name.expect("names come before positions")).clone()
                    }));
                }
                _ => {}
            }
        }
        // Those of other rows that have reported, too.
        heard.retain(|id| ["v1", "v2", "v3"].contains(&id.as_str()));
        heard
    }
}

#[test]
fn every_bearer_hears_and_does_what_it_may_and_nothing_else() {
    use Try::{Answer, Fleet, Group, Order, Publish, Report, ReportAs, Reports, Topic, Watch};
    let mut world = World::new();
    world.report();
    let both = || hears(&["v1", "v2"]);
    let wrong = || Outcome::Refused(ErrorCode::WrongIdentity);
    let unknown = || Outcome::Refused(ErrorCode::UnknownVehicle);
    #[rustfmt::skip]
    let table: Vec<(&str, Vec<(Try, Outcome)>)> = vec![
        // Ahead of those who ask for v3: whom a dashboard has asked for may come one day, and be sent what waits.
        ("dispatcher", vec![
            (Fleet, both()), (Order("v1"), Outcome::Taken), (Order("v2"), Outcome::Taken), (Order("v3"), unknown()),
        ]),
        ("desk", vec![
            (Fleet, both()), (Watch("v1"), hears(&["v1"])), (Watch("v2"), hears(&["v2"])),
            (Group("night"), hears(&["v1"])), (Group("no such group"), hears(&[])),
            // A vehicle of another fleet is one that this fleet does not have.
            (Watch("v3"), hears(&[])),
            (Topic("positions"), both()), (Topic("presence"), hears(&[])), (Topic("events"), hears(&[])),
            (Order("v1"), NO), (Report, NO), (Reports, NO), (Publish("door", 0), NO), (Publish("door", 1), NO), (Answer, NO),
        ]),
        ("customer", vec![
            (Fleet, hears(&["v1"])), (Watch("v1"), hears(&["v1"])), (Watch("v2"), NO), (Watch("v3"), NO),
            (Group("night"), NO), (Order("v1"), NO), (Order("v2"), NO), (Report, NO),
        ]),
        ("team", vec![
            (Fleet, hears(&["v1"])), (Group("night"), hears(&["v1"])), (Group("day"), NO), (Watch("v2"), NO),
            (Order("v1"), NO),
        ]),
        ("team lead", vec![
            (Fleet, hears(&["v1"])), (Order("v1"), Outcome::Taken), (Order("v2"), NO), (Order("v3"), NO),
        ]),
        ("counter", vec![
            (Topic("presence"), hears(&[])), (Topic("positions"), NO), (Topic("events"), NO), (Fleet, NO), (Order("v1"), NO),
        ]),
        ("orders only", vec![
            (Fleet, NO), (Watch("v1"), NO), (Order("v1"), Outcome::Taken), (Order("v2"), NO),
        ]),
        ("nobody", vec![(Fleet, NO), (Watch("v1"), NO), (Group("night"), NO), (Topic("presence"), NO), (Order("v1"), NO)]),
        ("neighbour", vec![
            // Before anybody there has asked for it: whom a dashboard has asked for may come one day.
            (Order("v2"), unknown()), (Fleet, hears(&["v1", "v3"])), (Group("night"), hears(&["v1"])), (Watch("v2"), hears(&[])),
        ]),
        ("vehicle", vec![
            (Report, Outcome::Taken), (Reports, Outcome::Taken), (ReportAs("v9"), Outcome::Taken), (ReportAs("v1"), wrong()),
            (Publish("door", 0), Outcome::Taken), (Publish("door", 1), Outcome::Taken),
            (Fleet, NO), (Watch("v9"), NO), (Order("v9"), NO),
        ]),
        ("quiet vehicle", vec![
            (Report, Outcome::Taken), (Reports, Outcome::Taken), (Publish("door", 0), NO), (Publish("door", 1), NO),
            (Publish("temperature", 1), NO), (Fleet, NO),
        ]),
        ("thermometer", vec![
            (Report, NO), (Reports, NO), (Publish("temperature", 0), Outcome::Taken), (Publish("temperature", 1), Outcome::Taken),
            (Publish("door", 1), NO),
        ]),
    ];
    let mut wrong = Vec::new();
    for (who, row) in table {
        for (what, expected) in row {
            let came = world.attempt(who, what);
            if came != expected {
                wrong.push(format!("{who} {what:?}: {came:?}, not {expected:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
