use super::*;
use crate::frames::{self, Opcode};

/// What a client's frame carries; the mask must be zero.
fn body(frame: &[u8]) -> Vec<u8> {
    let header = match frame[1] & 0x7f {
        126 => 4,
        127 => 10,
        _ => 2,
    };
    assert_eq!(frame[header..header + 4], [0; 4]);
    frame[header + 4..].to_vec()
}

fn hello(speech: &mut dyn Speech, client: usize, who: &Who) -> Vec<u8> {
    let mut out = Vec::new();
    speech.hello(client, who, &mut out);
    body(&out)
}

#[derive(Debug, PartialEq, Eq)]
enum Said {
    Ready,
    Report(Vec<u8>),
    Fault(String),
}

/// What `client` hears of `received`, and what it answers.
fn hear(speech: &mut dyn Speech, client: usize, received: &[u8]) -> (Vec<Said>, Vec<u8>) {
    let (mut said, mut answer) = (Vec::new(), Vec::new());
    speech.hear(client, received, &mut answer, &mut |heard| {
        said.push(match heard {
            Heard::Ready => Said::Ready,
            Heard::Report(message) => Said::Report(message.to_vec()),
            Heard::Fault(why) => Said::Fault(why),
        });
    });
    (said, answer)
}

fn report(speech: &mut dyn Speech, message: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    speech.report("v0000007", message, &mut body);
    body
}

fn some() -> Who {
    let ids = vec!["v0000001".to_owned(), "v0000007".to_owned()];
    Who::Dashboard(3, Wish::Some(ids))
}

#[test]
fn plain_says_what_it_is_and_forwards_messages_as_they_are() {
    let mut plain = plain::Plain;
    let vehicle = Who::Vehicle("v0000001".to_owned());
    assert_eq!(hello(&mut plain, 0, &vehicle), br#"{"vehicle":"v0000001"}"#);
    assert_eq!(
        hello(&mut plain, 0, &some()),
        br#"{"watch":["v0000001","v0000007"]}"#
    );
    let all = Who::Dashboard(0, Wish::All);
    assert_eq!(hello(&mut plain, 0, &all), br#"{"watch":"all"}"#);
    assert_eq!(report(&mut plain, b"12"), b"12");
    assert_eq!(hear(&mut plain, 0, b"ready").0, [Said::Ready]);
    assert_eq!(hear(&mut plain, 0, b"12").0, [Said::Report(b"12".to_vec())]);
}

#[test]
fn nats_is_as_its_client_protocol_says() {
    let mut nats = nats::Nats::new(2);
    let lines = String::from_utf8(hello(&mut nats, 1, &some())).unwrap();
    let (connect, rest) = lines.split_once("\r\n").unwrap();
    assert!(connect.starts_with("CONNECT {"));
    assert_eq!(rest, "SUB p.v0000001 1\r\nSUB p.v0000007 2\r\nPING\r\n");
    let all = hello(&mut nats, 1, &Who::Dashboard(0, Wish::All));
    assert!(all.ends_with(b"SUB p.* 1\r\nPING\r\n"));
    assert_eq!(
        report(&mut nats, b"a\r\nb"),
        b"PUB p.v0000007 4\r\na\r\nb\r\n"
    );

    let (said, answer) = hear(&mut nats, 0, b"INFO {\"a\":1}\r\nPONG\r\nPING\r\n");
    assert_eq!(said, [Said::Ready]);
    let mut pong = Vec::new();
    frames::write(&mut pong, Opcode::Binary, b"PONG\r\n", [0; 4]);
    assert_eq!(answer, pong);
    let (said, _) = hear(&mut nats, 0, b"-ERR 'Slow Consumer'\r\n");
    assert_eq!(said, [Said::Fault("NATS: -ERR 'Slow Consumer'".to_owned())]);
    for strange in [
        &b"MSG p.v1 1 x\r\n"[..],
        b"HELLO\r\n",
        b"MSG p.v1 1 1\r\nabc",
    ] {
        let (said, _) = hear(&mut nats, 0, strange);
        assert!(matches!(said[..], [Said::Fault(_)]), "{said:?}");
    }
}

/// Servers may cut their stream into messages where they like.
#[test]
fn packets_are_found_wherever_the_stream_is_cut() {
    let mut mqtt = mqtt::Mqtt::new(1);
    let published = report(&mut mqtt, &[7; 200]);
    let of_nats: &[u8] = b"MSG p.v0000007 1 4\r\na\r\nb\r\nMSG p.v0000007 1 2\r\nxy\r\n";
    let cases: [(Dialect, Vec<u8>, Vec<Vec<u8>>); 2] = [
        (
            Dialect::Nats,
            of_nats.to_vec(),
            vec![b"a\r\nb".to_vec(), b"xy".to_vec()],
        ),
        (
            Dialect::Mqtt,
            [&published[..], &published].concat(),
            vec![vec![7; 200]; 2],
        ),
    ];
    for (dialect, stream, messages) in cases {
        for cut in 0..=stream.len() {
            let mut speech = dialect.speech(2).unwrap();
            let mut said = hear(&mut *speech, 1, &stream[..cut]).0;
            said.extend(hear(&mut *speech, 1, &stream[cut..]).0);
            let expected: Vec<Said> = messages.iter().cloned().map(Said::Report).collect();
            assert_eq!(said, expected, "{dialect:?} cut at {cut}");
        }
        let mut speech = dialect.speech(1).unwrap();
        let mut bytewise = Vec::new();
        for byte in &stream {
            bytewise.extend(hear(&mut *speech, 0, &[*byte]).0);
        }
        assert_eq!(bytewise.len(), messages.len());
    }
}

#[test]
fn mqtt_is_as_its_standard_says() {
    let mut mqtt = mqtt::Mqtt::new(2);
    let vehicle = hello(&mut mqtt, 0, &Who::Vehicle("v0000001".to_owned()));
    assert_eq!(
        vehicle,
        b"\x10\x14\x00\x04MQTT\x04\x02\x00\x00\x00\x08v0000001"
    );
    let dashboard = hello(&mut mqtt, 1, &some());
    assert!(dashboard.starts_with(b"\x10\x17\x00\x04MQTT\x04\x02\x00\x00\x00\x0bdashboard-3"));
    assert!(dashboard.ends_with(b"\x82\x1c\x00\x01\x00\x0ap/v0000001\x00\x00\x0ap/v0000007\x00"));
    assert_eq!(report(&mut mqtt, b"12"), b"\x30\x0e\x00\x0ap/v000000712");

    // Who subscribes to nothing is ready once connected; others once all subscriptions are granted.
    assert_eq!(hear(&mut mqtt, 0, b"\x20\x02\x00\x00").0, [Said::Ready]);
    assert_eq!(hear(&mut mqtt, 1, b"\x20\x02\x00\x00").0, []);
    assert_eq!(
        hear(&mut mqtt, 1, b"\x90\x04\x00\x01\x00\x00").0,
        [Said::Ready]
    );
    for wrong in [
        &b"\x20\x02\x00\x05"[..],
        b"\x90\x04\x00\x01\x00\x80",
        b"\x30\x01\x00",
        b"\x30\xff\xff\xff\xff",
        b"\x30\xff\xff\xff\x7f",
    ] {
        let (said, _) = hear(&mut mqtt, 1, wrong);
        assert!(
            matches!(said[..], [Said::Fault(_)]),
            "{wrong:02x?}: {said:?}"
        );
    }
}
