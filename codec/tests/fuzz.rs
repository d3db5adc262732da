//! Any byte string decodes or gives a typed error, and what decodes can be written again.
//!
//! `cargo test` runs the committed inputs in `__fuzz__` and a second of random ones per target. To look longer,
//! `BOLERO_RANDOM_TEST_TIME_MS=60000 cargo test -p longhaul-codec --test fuzz`; to let coverage lead, `scripts/fuzz`.

mod samples;

use bolero::check;
use longhaul_codec::{Encoder, Fix, Message, MessageRef, decode, decode_fix, json};

/// Holds what is promised of every byte string.
fn check_bytes(bytes: &[u8]) {
    let decoded = decode(bytes);
    let bare_fix = match decoded {
        Ok(MessageRef::Position(view)) if view.vehicle_id().is_none() => {
            Some(Fix::from(view.fix()))
        }
        _ => None,
    };
    assert_eq!(decode_fix(bytes), bare_fix);
    match decoded {
        Ok(view) => {
            // Reads every field in both ways that there are.
            assert!(!format!("{view:?}").is_empty());
            check_message(&Message::from_ref(view));
        }
        Err(error) => assert!(!error.to_string().contains('\n')),
    }
}

/// A message survives the wire, and the text.
fn check_message(message: &Message) {
    let mut encoder = Encoder::new();
    let encoded = encoder.message(message);
    let view = decode(encoded.payload()).expect("what was encoded decodes");
    assert_eq!(&Message::from_ref(view), message);
    let text = json::from_wire(view);
    assert_eq!(
        &json::parse(&text).expect("what was written parses"),
        message
    );
}

#[test]
fn any_bytes() {
    check!().for_each(check_bytes);
}

#[test]
fn any_text() {
    check!().for_each(|bytes| {
        if let Ok(text) = std::str::from_utf8(bytes) {
            match json::parse(text) {
                Ok(message) => check_message(&message),
                Err(error) => assert!(!error.to_string().is_empty()),
            }
        }
    });
}

/// Which message, where it is changed and to what, and where it is cut.
type Damage = (u8, Vec<(u16, u8)>, Option<u16>);

fn damaged(mut bytes: Vec<u8>, changes: &[(u16, u8)], cut: Option<u16>) -> Vec<u8> {
    for &(at, value) in changes {
        let at = usize::from(at) % bytes.len();
        bytes[at] = value;
    }
    if let Some(cut) = cut {
        bytes.truncate(usize::from(cut) % bytes.len());
    }
    bytes
}

/// Random bytes hardly get past the first offset. Messages with a few wrong bytes get everywhere.
#[test]
fn damaged_messages() {
    let mut encoder = Encoder::new();
    let encode = |message: &Message| encoder.message(message).into_payload().to_vec();
    let messages: Vec<Vec<u8>> = samples::messages().iter().map(encode).collect();
    check!()
        .with_type::<Damage>()
        .for_each(|(which, changes, cut)| {
            let bytes = messages[usize::from(*which) % messages.len()].clone();
            check_bytes(&damaged(bytes, changes, *cut));
        });
}

#[test]
fn damaged_texts() {
    let texts: Vec<String> = samples::messages().iter().map(json::write).collect();
    check!()
        .with_type::<Damage>()
        .for_each(|(which, changes, cut)| {
            let text = &texts[usize::from(*which) % texts.len()];
            let bytes = damaged(text.clone().into_bytes(), changes, *cut);
            if let Ok(Ok(message)) = std::str::from_utf8(&bytes).map(json::parse) {
                check_message(&message);
            }
        });
}

/// Writes the inputs that the two targets above start from. Run by hand when a message is added to the schema.
#[test]
#[ignore = "it writes files into the source folder"]
fn write_the_first_inputs() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/__fuzz__");
    let mut encoder = Encoder::new();
    for (n, message) in samples::messages().iter().enumerate() {
        let write = |target: &str, bytes: &[u8]| {
            let corpus = folder.join(target).join("corpus");
            std::fs::create_dir_all(&corpus).expect("the source folder is writable");
            let file = corpus.join(format!("{n:02}-{}", message.name()));
            std::fs::write(file, bytes).expect("the folder is writable");
        };
        write("any_bytes", encoder.message(message).payload());
        write("any_text", json::write(message).as_bytes());
    }
}
