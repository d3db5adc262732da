//! What one message costs. Run with `cargo bench -p longhaul-codec`.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use longhaul_codec::{Encoder, Fix, Message, MessageRef, Position, decode, decode_fix, json};

fn fixes(count: u32) -> Vec<Fix> {
    let fix = |vehicle| Fix {
        time_ms: 1_700_000_000_000,
        vehicle,
        lat_e7: 525_200_000,
        lon_e7: 134_050_000,
        speed_cm_s: 1_389,
        heading_cdeg: 9_000,
    };
    (0..count).map(fix).collect()
}

fn position(c: &mut Criterion) {
    let mut group = c.benchmark_group("position");
    let fix = fixes(1)[0];
    let mut encoder = Encoder::new();
    group.bench_function("encode", |b| {
        b.iter(|| black_box(encoder.position(black_box(&fix)).payload().len()));
    });
    let named = Message::from(Position {
        fix,
        vehicle_id: Some("bus-1234".into()),
    });
    group.bench_function("encode with an id", |b| {
        b.iter(|| black_box(encoder.message(black_box(&named)).payload().len()));
    });

    let read = |bytes: &[u8]| match decode(bytes) {
        Ok(MessageRef::Position(view)) => Fix::from(view.fix()),
        other => panic!("{other:?}"),
    };
    let bytes = encoder.position(&fix).payload().to_vec();
    group.bench_function(format!("decode {} B", bytes.len()), |b| {
        b.iter(|| black_box(read(black_box(&bytes))));
    });
    group.bench_function("decode_fix", |b| {
        b.iter(|| black_box(decode_fix(black_box(&bytes))));
    });
    let bytes = encoder.message(&named).payload().to_vec();
    group.bench_function(format!("decode with an id, {} B", bytes.len()), |b| {
        b.iter(|| black_box(read(black_box(&bytes))));
    });
    group.finish();
}

fn positions(c: &mut Criterion) {
    let mut group = c.benchmark_group("positions");
    for count in [1, 20, 1000] {
        let fixes = fixes(count);
        let mut encoder = Encoder::new();
        group.throughput(Throughput::Elements(count.into()));
        group.bench_with_input(BenchmarkId::new("encode", count), &fixes, |b, fixes| {
            b.iter(|| {
                let encoded = encoder.positions(1, black_box(fixes).iter().copied());
                black_box(encoded.payload().len())
            });
        });
        let bytes = encoder
            .positions(1, fixes.iter().copied())
            .payload()
            .to_vec();
        group.bench_with_input(BenchmarkId::new("memcpy", count), &bytes, |b, bytes| {
            let mut copy = vec![0; bytes.len()];
            b.iter(|| {
                copy.copy_from_slice(black_box(bytes));
                black_box(copy.as_mut_ptr());
            });
        });
        group.bench_with_input(BenchmarkId::new("decode", count), &bytes, |b, bytes| {
            b.iter(|| match decode(black_box(bytes)) {
                Ok(MessageRef::Positions(view)) => view
                    .fixes()
                    .iter()
                    .fold(0_i32, |sum, fix| sum.wrapping_add(fix.lat_e7())),
                other => panic!("{other:?}"),
            });
        });
    }
    group.finish();
}

fn names(c: &mut Criterion) {
    let ids: Vec<String> = (0..1000).map(|n| format!("vehicle-{n:05}")).collect();
    let mut encoder = Encoder::new();
    c.bench_function("names/encode 1000", |b| {
        b.iter(|| {
            let entries = ids.iter().enumerate();
            let encoded = encoder.names(entries.map(|(n, id)| (n as u32, id.as_str())));
            black_box(encoded.payload().len())
        });
    });
    let bytes = encoder
        .names(ids.iter().map(|id| (1, id.as_str())))
        .payload()
        .to_vec();
    c.bench_function("names/decode 1000", |b| {
        b.iter(|| black_box(decode(black_box(&bytes)).is_ok()));
    });
}

fn json(c: &mut Criterion) {
    let mut group = c.benchmark_group("json");
    let mut encoder = Encoder::new();
    let bytes = encoder.position(&fixes(1)[0]).payload().to_vec();
    let text = json::from_wire(decode(&bytes).expect("it was encoded just now"));
    group.bench_function("position to wire", |b| {
        b.iter(|| {
            let encoded = json::to_wire(black_box(&text), &mut encoder).expect("it is a message");
            black_box(encoded.payload().len())
        });
    });
    let bytes = encoder.positions(1, fixes(20)).payload().to_vec();
    group.bench_function("20 positions from wire", |b| {
        b.iter(|| {
            let message = decode(black_box(&bytes)).expect("it was encoded just now");
            black_box(json::from_wire(message).len())
        });
    });
    group.finish();
}

criterion_group!(benches, position, positions, names, json);
criterion_main!(benches);
