//! What a line on standard input means.

use data_encoding::BASE64;
use longhaul_vehicle::{CommandResult, CommandStatus, Event, Fix};
use serde::Deserialize;
use serde_json::value::RawValue;
use thiserror::Error;

/// What the program is told to do.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Input {
    Position(Fix),
    /// At least once.
    Publish(Event),
    /// At most once.
    Send(Event),
    Result(CommandResult),
}

/// What is wrong with a line.
#[derive(Debug, Error)]
pub(super) enum InputError {
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    #[error("a line has one of position, event and result, and this one has {0} of them")]
    NotOne(usize),
    #[error("{name} is {value}, which is outside of {range}")]
    Range {
        name: &'static str,
        value: f64,
        range: &'static str,
    },
    #[error("qos is {0}; 0 and 1 exist")]
    Qos(u8),
    #[error("give one of text, json and payload_base64, or none")]
    Payloads,
    #[error("payload_base64: {0}")]
    Base64(#[from] data_encoding::DecodeError),
    #[error("status is {0}; a vehicle answers Done, Refused or Failed")]
    Status(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    position: Option<Position>,
    event: Option<Happened>,
    result: Option<Answer>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Position {
    lat: f64,
    lon: f64,
    speed_m_s: Option<f64>,
    heading_deg: Option<f64>,
    #[serde(default)]
    time_ms: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Happened {
    topic: String,
    #[serde(default = "at_least_once")]
    qos: u8,
    #[serde(default)]
    time_ms: u64,
    content_type: Option<String>,
    text: Option<String>,
    json: Option<Box<RawValue>>,
    payload_base64: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Answer {
    command_id: u64,
    status: String,
    content_type: Option<String>,
    text: Option<String>,
    json: Option<Box<RawValue>>,
    payload_base64: Option<String>,
}

fn at_least_once() -> u8 {
    1
}

/// Reads one line.
pub(super) fn parse(line: &[u8]) -> Result<Input, InputError> {
    let line: Line = serde_json::from_slice(line)?;
    match (line.position, line.event, line.result) {
        (Some(position), None, None) => position.fix().map(Input::Position),
        (None, Some(event), None) => event.input(),
        (None, None, Some(result)) => result.result().map(Input::Result),
        (position, event, result) => Err(InputError::NotOne(
            usize::from(position.is_some())
                + usize::from(event.is_some())
                + usize::from(result.is_some()),
        )),
    }
}

impl Position {
    fn fix(self) -> Result<Fix, InputError> {
        let lat = within("lat", self.lat, 90.0, "-90 to 90 degrees")?;
        let lon = within("lon", self.lon, 180.0, "-180 to 180 degrees")?;
        let speed_cm_s = match self.speed_m_s {
            None => Fix::SPEED_UNKNOWN,
            Some(speed) if (0.0..=655.34).contains(&speed) => (speed * 100.0).round() as u16,
            Some(value) => return out("speed_m_s", value, "0 to 655.34 metres a second"),
        };
        let heading_cdeg = match self.heading_deg {
            None => Fix::HEADING_UNKNOWN,
            Some(heading) if (0.0..=360.0).contains(&heading) => {
                ((heading * 100.0).round() as u32 % 36_000) as u16
            }
            Some(value) => return out("heading_deg", value, "0 to 360 degrees"),
        };
        Ok(Fix {
            time_ms: self.time_ms,
            vehicle: 0,
            // Rounded, not cut: 1 step is about a centimetre.
            lat_e7: (lat * 1e7).round() as i32,
            lon_e7: (lon * 1e7).round() as i32,
            speed_cm_s,
            heading_cdeg,
        })
    }
}

impl Happened {
    fn input(self) -> Result<Input, InputError> {
        let (content_type, payload) =
            payload(self.content_type, self.text, self.json, self.payload_base64)?;
        let event = Event {
            topic: self.topic,
            time_ms: self.time_ms,
            content_type,
            payload,
        };
        match self.qos {
            0 => Ok(Input::Send(event)),
            1 => Ok(Input::Publish(event)),
            other => Err(InputError::Qos(other)),
        }
    }
}

impl Answer {
    fn result(self) -> Result<CommandResult, InputError> {
        let status = match self.status.as_str() {
            "Done" => CommandStatus::Done,
            "Refused" => CommandStatus::Refused,
            "Failed" => CommandStatus::Failed,
            _ => return Err(InputError::Status(self.status)),
        };
        let (content_type, payload) =
            payload(self.content_type, self.text, self.json, self.payload_base64)?;
        Ok(CommandResult {
            command_id: self.command_id,
            status,
            content_type,
            payload,
            vehicle: 0,
        })
    }
}

/// Content type and bytes. The way in which a payload is given says what it is, unless that is given as well.
fn payload(
    content_type: Option<String>,
    text: Option<String>,
    json: Option<Box<RawValue>>,
    base64: Option<String>,
) -> Result<(Option<String>, Vec<u8>), InputError> {
    let (usual, bytes) = match (text, json, base64) {
        (None, None, None) => (None, Vec::new()),
        (Some(text), None, None) => (Some("text/plain"), text.into_bytes()),
        (None, Some(json), None) => (Some("application/json"), json.get().as_bytes().to_vec()),
        (None, None, Some(base64)) => (None, BASE64.decode(base64.as_bytes())?),
        _ => return Err(InputError::Payloads),
    };
    Ok((content_type.or(usual.map(str::to_owned)), bytes))
}

fn within(
    name: &'static str,
    value: f64,
    most: f64,
    range: &'static str,
) -> Result<f64, InputError> {
    if (-most..=most).contains(&value) {
        Ok(value)
    } else {
        out(name, value, range)
    }
}

fn out<T>(name: &'static str, value: f64, range: &'static str) -> Result<T, InputError> {
    Err(InputError::Range { name, value, range })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_say_what_to_do() {
        let line = br#"{"position":{"lat":52.52,"lon":-13.405,"speed_m_s":11.115,"heading_deg":359.999,"time_ms":7}}"#;
        let fix = Fix {
            time_ms: 7,
            vehicle: 0,
            lat_e7: 525_200_000,
            lon_e7: -134_050_000,
            speed_cm_s: 1_112,
            heading_cdeg: 0,
        };
        assert_eq!(parse(line).unwrap(), Input::Position(fix));
        let unknown = parse(br#"{"position":{"lat":0,"lon":0}}"#).unwrap();
        assert_eq!(unknown, Input::Position(Fix::default()));

        let event = Event::new("a").at(3);
        for (rest, expected) in [
            (r#""text":"b""#, Input::Publish(event.clone().text("b"))),
            (
                r#""qos":0,"json":{"c": 1}"#,
                Input::Send(event.clone().json(r#"{"c": 1}"#)),
            ),
            (
                r#""payload_base64":"AAE=","content_type":"x/y""#,
                Input::Publish(event.clone().payload("x/y", [0, 1])),
            ),
        ] {
            let line = format!(r#"{{"event":{{"topic":"a","time_ms":3,{rest}}}}}"#);
            assert_eq!(parse(line.as_bytes()).unwrap(), expected, "{line}");
        }
        let result = CommandResult {
            command_id: 5,
            status: CommandStatus::Failed,
            ..CommandResult::default()
        };
        let line = br#"{"result":{"command_id":5,"status":"Failed"}}"#;
        assert_eq!(parse(line).unwrap(), Input::Result(result));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (line, says) in [
            ("", "EOF"),
            ("[]", "expected"),
            ("{}", "0 of them"),
            (r#"{"position":{"lat":91,"lon":0}}"#, "lat is 91"),
            (
                r#"{"position":{"lat":1,"lon":0,"speed_m_s":-1}}"#,
                "speed_m_s is -1",
            ),
            (
                r#"{"position":{"lat":1,"lon":0,"heading":3}}"#,
                "unknown field",
            ),
            (r#"{"event":{"topic":"a","qos":2}}"#, "qos is 2"),
            (
                r#"{"event":{"topic":"a","text":"b","json":1}}"#,
                "one of text",
            ),
            (
                r#"{"event":{"topic":"a","payload_base64":"?"}}"#,
                "payload_base64",
            ),
            (
                r#"{"result":{"command_id":5,"status":"Expired"}}"#,
                "Expired",
            ),
            (
                r#"{"event":{"topic":"a"},"position":{"lat":1,"lon":1}}"#,
                "2 of them",
            ),
        ] {
            let error = parse(line.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(says), "{line}: {error}");
        }
    }
}
