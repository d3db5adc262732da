//! Recorded traffic: CSV, plain or gzip, `t_ms,vehicle,lat,lon,speed_mps,heading_deg`, times never falling.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use flate2::read::MultiGzDecoder;

/// One report of one vehicle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// Milliseconds since the trace began.
    pub t_ms: u64,
    /// Index into [`Trace::ids`].
    pub vehicle: u32,
    /// 1e-7 degree.
    pub lat_e7: i32,
    /// 1e-7 degree.
    pub lon_e7: i32,
    /// Centimetres per second; 65535: unknown.
    pub speed_cm_s: u16,
    /// 1/100 degree; 65535: unknown.
    pub heading_cdeg: u16,
}

/// A whole trace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    /// Vehicle ids in the order of their first report.
    pub ids: Vec<String>,
    /// Ascending in time.
    pub rows: Vec<Row>,
}

/// Why a file is no trace. Lines count from 1, the header included.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// The file cannot be read or unpacked.
    #[error("line {line}: {error}")]
    Read {
        /// Where reading stopped.
        line: u64,
        /// What the system said.
        #[source]
        error: std::io::Error,
    },
    /// The first line is another one.
    #[error("line 1: expected the header \"{HEADER}\", found \"{0}\"")]
    Header(String),
    /// Too few or too many fields.
    #[error("line {line}: {found} fields, expected 6")]
    Fields {
        /// Where.
        line: u64,
        /// How many.
        found: usize,
    },
    /// A field that is no number in its range.
    #[error("line {line}: {field} is \"{value}\", expected {expected}")]
    Value {
        /// Where.
        line: u64,
        /// Column.
        field: &'static str,
        /// What was found.
        value: String,
        /// What is allowed.
        expected: &'static str,
    },
    /// A row from before the one above it.
    #[error("line {line}: t_ms {now} comes after {before}, times must not fall")]
    Order {
        /// Where.
        line: u64,
        /// The row above.
        before: u64,
        /// This row.
        now: u64,
    },
    /// More than this tool replays.
    #[error("line {line}: more than {ROWS_MAX} rows or {LINE_BYTES_MAX} bytes in a line")]
    TooLong {
        /// Where.
        line: u64,
    },
    /// A header and nothing else.
    #[error("the trace has no rows")]
    Empty,
}

const HEADER: &str = "t_ms,vehicle,lat,lon,speed_mps,heading_deg";
const ROWS_MAX: usize = 50_000_000;
const LINE_BYTES_MAX: u64 = 1_024;
/// `t_ms` of a century.
const T_MS_MAX: u64 = 3_200_000_000_000;

/// Reads a trace from a file.
///
/// # Errors
/// The file is unreadable or no trace; the error names the line.
pub fn load(path: &Path) -> Result<Trace, TraceError> {
    let unreadable = |error| TraceError::Read { line: 0, error };
    let mut file = BufReader::new(File::open(path).map_err(unreadable)?);
    let packed = file
        .fill_buf()
        .map_err(unreadable)?
        .starts_with(&[0x1f, 0x8b]);
    if packed {
        parse(BufReader::new(MultiGzDecoder::new(file)))
    } else {
        parse(file)
    }
}

/// Reads a trace from unpacked text.
///
/// # Errors
/// The text is no trace; the error names the line.
pub fn parse(mut text: impl BufRead) -> Result<Trace, TraceError> {
    let mut trace = Trace::default();
    let mut numbers: HashMap<String, u32> = HashMap::new();
    let mut buffer = String::new();
    for line in 1_u64.. {
        buffer.clear();
        let read = text
            .by_ref()
            .take(LINE_BYTES_MAX + 1)
            .read_line(&mut buffer)
            .map_err(|error| TraceError::Read { line, error })?;
        if read as u64 > LINE_BYTES_MAX || trace.rows.len() >= ROWS_MAX {
            return Err(TraceError::TooLong { line });
        }
        let content = buffer.trim_end_matches(['\n', '\r']);
        if line == 1 {
            if content != HEADER {
                return Err(TraceError::Header(content.chars().take(80).collect()));
            }
        } else if read == 0 {
            break;
        } else {
            let (id, mut row) = parse_row(content, line)?;
            let before = trace.rows.last().map_or(0, |last| last.t_ms);
            if row.t_ms < before {
                return Err(TraceError::Order {
                    line,
                    before,
                    now: row.t_ms,
                });
            }
            row.vehicle = match numbers.get(id) {
                Some(&number) => number,
                None => {
                    let number = trace.ids.len() as u32;
                    numbers.insert(id.to_owned(), number);
                    trace.ids.push(id.to_owned());
                    number
                }
            };
            trace.rows.push(row);
        }
    }
    if trace.rows.is_empty() {
        Err(TraceError::Empty)
    } else {
        Ok(trace)
    }
}

fn parse_row(content: &str, line: u64) -> Result<(&str, Row), TraceError> {
    let mut fields = content.split(',');
    let mut columns = [""; 6];
    for column in &mut columns {
        *column = fields.next().unwrap_or("\n");
    }
    let missing = columns.iter().filter(|column| **column == "\n").count();
    let found = 6 - missing + fields.count();
    if found != 6 {
        return Err(TraceError::Fields { line, found });
    }
    let [t_ms, id, lat, lon, speed, heading] = columns;
    let wrong = |field, value: &str, expected| TraceError::Value {
        line,
        field,
        value: value.to_owned(),
        expected,
    };
    let time = t_ms
        .parse()
        .ok()
        .filter(|&time: &u64| time <= T_MS_MAX)
        .ok_or_else(|| wrong("t_ms", t_ms, "whole milliseconds"))?;
    if id.is_empty() {
        return Err(wrong("vehicle", id, "an id"));
    }
    let lat_e7 = scaled(lat, -90.0, 90.0, 1e7)
        .ok_or_else(|| wrong("lat", lat, "degrees from -90 to 90"))? as i32;
    let lon_e7 = scaled(lon, -180.0, 180.0, 1e7)
        .ok_or_else(|| wrong("lon", lon, "degrees from -180 to 180"))? as i32;
    let speed_cm_s = unless_empty(speed, || scaled(speed, 0.0, 655.34, 100.0))
        .ok_or_else(|| wrong("speed_mps", speed, "0 to 655.34, or nothing"))?;
    let heading_cdeg = unless_empty(heading, || {
        scaled(heading, 0.0, 360.0, 100.0).map(|centidegrees| centidegrees % 36_000)
    })
    .ok_or_else(|| wrong("heading_deg", heading, "0 to 360, or nothing"))?;
    Ok((
        id,
        Row {
            t_ms: time,
            vehicle: 0,
            lat_e7,
            lon_e7,
            speed_cm_s,
            heading_cdeg,
        },
    ))
}

/// `text` as a number from `min` to `max`, times `factor`.
fn scaled(text: &str, min: f64, max: f64, factor: f64) -> Option<i64> {
    let value: f64 = text.parse().ok()?;
    (min..=max)
        .contains(&value)
        .then(|| (value * factor).round() as i64)
}

/// An empty field means "unknown", which travels as 65535.
fn unless_empty(text: &str, value: impl FnOnce() -> Option<i64>) -> Option<u16> {
    if text.is_empty() {
        Some(u16::MAX)
    } else {
        value().and_then(|v| u16::try_from(v).ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn parsed(rows: &str) -> Result<Trace, TraceError> {
        parse(format!("{HEADER}\n{rows}").as_bytes())
    }

    #[test]
    fn rows_become_fixed_point() {
        let trace = parsed(
            "1000,v1,52.427096,-13.537652,13.9,229\r\n1000,v0,-90,180,,\n2000,v1,0,0,0.0,360\n",
        )
        .unwrap();
        assert_eq!(trace.ids, ["v1", "v0"]);
        let row = trace.rows[0];
        assert_eq!(
            (row.t_ms, row.lat_e7, row.lon_e7),
            (1_000, 524_270_960, -135_376_520)
        );
        assert_eq!((row.speed_cm_s, row.heading_cdeg), (1_390, 22_900));
        let row = trace.rows[1];
        assert_eq!((row.lat_e7, row.lon_e7), (-900_000_000, 1_800_000_000));
        assert_eq!(
            (row.speed_cm_s, row.heading_cdeg, row.vehicle),
            (u16::MAX, u16::MAX, 1)
        );
        assert_eq!((trace.rows[2].heading_cdeg, trace.rows[2].vehicle), (0, 0));
    }

    #[test]
    fn bad_rows_are_refused_with_their_line() {
        let good = "1000,v0,52.4,13.5,1.0,2\n";
        let cases = [
            ("1000,v0,52.4,13.5,1.0", "line 3: 5 fields, expected 6"),
            ("1000,v0,52.4,13.5,1.0,2,", "line 3: 7 fields, expected 6"),
            ("", "line 3: 1 fields, expected 6"),
            (
                "x,v0,52.4,13.5,1.0,2",
                "line 3: t_ms is \"x\", expected whole milliseconds",
            ),
            (
                "-1,v0,52.4,13.5,1.0,2",
                "line 3: t_ms is \"-1\", expected whole milliseconds",
            ),
            (
                "1000,,52.4,13.5,1.0,2",
                "line 3: vehicle is \"\", expected an id",
            ),
            (
                "1000,v0,90.1,13.5,1.0,2",
                "line 3: lat is \"90.1\", expected degrees from -90 to 90",
            ),
            (
                "1000,v0,NaN,13.5,1.0,2",
                "line 3: lat is \"NaN\", expected degrees from -90 to 90",
            ),
            (
                "1000,v0,52,east,1.0,2",
                "line 3: lon is \"east\", expected degrees from -180 to 180",
            ),
            (
                "1000,v0,52,13.5,-1,2",
                "line 3: speed_mps is \"-1\", expected 0 to 655.34, or nothing",
            ),
            (
                "1000,v0,52,13.5,1,361",
                "line 3: heading_deg is \"361\", expected 0 to 360, or nothing",
            ),
            (
                "999,v0,52.4,13.5,1.0,2",
                "line 3: t_ms 999 comes after 1000, times must not fall",
            ),
        ];
        for (row, expected) in cases {
            let error = parsed(&format!("{good}{row}\n")).unwrap_err();
            assert_eq!(error.to_string(), expected);
        }
        let long = format!("{good}{}", "7".repeat(2_000));
        assert!(matches!(
            parsed(&long),
            Err(TraceError::TooLong { line: 3 })
        ));
        assert!(matches!(parsed(""), Err(TraceError::Empty)));
        assert!(matches!(
            parse(&b"t,vehicle\n"[..]),
            Err(TraceError::Header(_))
        ));
        assert!(matches!(
            parse(&b"\xff\xfe\n"[..]),
            Err(TraceError::Read { line: 1, .. })
        ));
    }

    #[test]
    fn gzip_is_recognised_by_its_content() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        writeln!(packer, "{HEADER}\n1000,v0,52.4,13.5,1.0,2").unwrap();
        file.write_all(&packer.finish().unwrap()).unwrap();
        assert_eq!(load(file.path()).unwrap().rows.len(), 1);
    }
}
