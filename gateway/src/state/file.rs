//! The file that state is kept in: what a process knew of its vehicles, for the next one.
//!
//! ```text
//! magic (8 bytes) | version (u16) | frame ... frame | CRC-32 of everything before (u32)
//! frame: length (u16) | postcard: Header first, then Fleet and Vehicle, End last
//! ```
//!
//! Integers outside of frames are little-endian. A vehicle belongs to the fleet that was named last. `End` has the count
//! of vehicles, and nothing follows the checksum. A reader goes through the whole file once before it gives out anything
//! ([`Checked`]), a frame at a time, so that a torn file changes nothing and a large one needs no memory.

use std::io::{self, BufReader, ErrorKind, Read, Seek, Write};

use longhaul_codec::{Fix, PresenceState};
use serde::{Deserialize, Serialize};

use crate::{
    fleet::Presence,
    limits::{FLEET_ID_BYTES_HARD_MAX, VEHICLE_ID_BYTES_HARD_MAX, VEHICLES_HARD_MAX},
};

const MAGIC: [u8; 8] = *b"LONGHAUL";
/// Grows with every change of what follows it. A file of another version is refused.
const VERSION: u16 = 1;
/// The longest frame: an id and a few numbers.
const FRAME_BYTES_MAX: usize = 512;

const _: () = assert!(VEHICLE_ID_BYTES_HARD_MAX as usize + 128 <= FRAME_BYTES_MAX);
const _: () = assert!(FLEET_ID_BYTES_HARD_MAX as usize + 16 <= FRAME_BYTES_MAX);

/// What a file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// Everything, for the same node's next start.
    Snapshot,
    /// From a process that drains to the one that takes its place.
    Handover,
}

/// Who wrote a file, when and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// What it is for.
    pub kind: Kind,
    /// The process that wrote it; random.
    pub instance: u64,
    /// When: milliseconds since the Unix epoch.
    pub written_ms: u64,
    /// Until when the vehicles that were connected there may be expected here: milliseconds since the Unix epoch. 0: the
    /// file says nothing of who is connected.
    pub expect_until_ms: u64,
}

/// What a file says of one vehicle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// The vehicle's id within its fleet.
    pub vehicle: &'a str,
    /// Its last position, and when the gateway took it. The fix's vehicle index means nothing in another process: 0.
    pub position: Option<(Fix, u64)>,
    /// Whether it was there. `None`: the file says nothing about it.
    pub presence: Option<Presence>,
}

/// A part of a file, as [`Checked::read`] gives it out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry<'a> {
    /// The fleet that the following vehicles belong to.
    Fleet(&'a str),
    /// A vehicle.
    Vehicle(Record<'a>),
}

/// Why a file is not read.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// Not such a file.
    #[error("it is no state file of Longhaul")]
    Foreign,
    /// Written by another version of Longhaul.
    #[error("it has format version {0}, and this version of Longhaul reads {VERSION}")]
    Version(u16),
    /// The end is missing.
    #[error("it ends too early: its writer or the disk failed")]
    Truncated,
    /// The content is not what was written.
    #[error("it is damaged: {0}")]
    Damaged(&'static str),
    /// The file cannot be read.
    #[error("it cannot be read: {0}")]
    Io(io::Error),
}

impl From<io::Error> for FileError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::UnexpectedEof => FileError::Truncated,
            _ => FileError::Io(error),
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
enum Frame<'a> {
    Header(Header),
    Fleet(&'a str),
    Vehicle {
        id: &'a str,
        position: Option<StoredPosition>,
        presence: Option<StoredPresence>,
    },
    End {
        vehicles: u64,
    },
}

/// A position as it is in the file, so that a change of the wire protocol's struct does not change the file.
#[derive(Debug, Serialize, Deserialize)]
struct StoredPosition {
    time_ms: u64,
    received_ms: u64,
    lat_e7: i32,
    lon_e7: i32,
    speed_cm_s: u16,
    heading_cdeg: u16,
}

#[derive(Debug, Serialize, Deserialize)]
struct StoredPresence {
    state: StoredState,
    since_ms: u64,
}

#[derive(Debug, Serialize, Deserialize)]
enum StoredState {
    Offline,
    Online,
    Stale,
}

/// Writes a file.
#[derive(Debug)]
pub struct Writer<W> {
    to: W,
    checksum: crc32fast::Hasher,
    vehicles: u64,
}

impl<W: Write> Writer<W> {
    /// Begins a file. `to` should be buffered.
    ///
    /// # Errors
    /// When writing fails; so it is for the other functions.
    pub fn begin(to: W, header: &Header) -> io::Result<Writer<W>> {
        let mut writer = Writer {
            to,
            checksum: crc32fast::Hasher::new(),
            vehicles: 0,
        };
        writer.put(&MAGIC)?;
        writer.put(&VERSION.to_le_bytes())?;
        writer.frame(&Frame::Header(*header))?;
        Ok(writer)
    }

    /// Names the fleet that the following vehicles belong to.
    pub fn fleet(&mut self, name: &str) -> io::Result<()> {
        self.frame(&Frame::Fleet(name))
    }

    /// Adds a vehicle.
    pub fn vehicle(&mut self, record: &Record<'_>) -> io::Result<()> {
        self.vehicles += 1;
        self.frame(&Frame::Vehicle {
            id: record.vehicle,
            position: record.position.map(|(fix, received_ms)| StoredPosition {
                time_ms: fix.time_ms,
                received_ms,
                lat_e7: fix.lat_e7,
                lon_e7: fix.lon_e7,
                speed_cm_s: fix.speed_cm_s,
                heading_cdeg: fix.heading_cdeg,
            }),
            presence: record.presence.map(|presence| StoredPresence {
                state: match presence.state {
                    PresenceState::Offline => StoredState::Offline,
                    PresenceState::Online => StoredState::Online,
                    PresenceState::Stale => StoredState::Stale,
                },
                since_ms: presence.since_ms,
            }),
        })
    }

    /// Ends the file. Returns what it was written to, and the count of vehicles.
    pub fn finish(mut self) -> io::Result<(W, u64)> {
        let vehicles = self.vehicles;
        self.frame(&Frame::End { vehicles })?;
        let checksum = self.checksum.clone().finalize();
        self.put(&checksum.to_le_bytes())?;
        self.to.flush()?;
        Ok((self.to, vehicles))
    }

    fn frame(&mut self, frame: &Frame<'_>) -> io::Result<()> {
        let mut buffer = [0; 2 + FRAME_BYTES_MAX];
        // The bounds on ids make every frame fit.
        let length = postcard::to_slice(frame, &mut buffer[2..])
            .map_err(io::Error::other)?
            .len();
        buffer[..2].copy_from_slice(&(length as u16).to_le_bytes());
        self.put(&buffer[..2 + length])
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.checksum.update(bytes);
        self.to.write_all(bytes)
    }
}

/// A file that is whole: it was read to its end, and its checksum is right.
#[derive(Debug)]
pub struct Checked<R> {
    from: R,
    /// Who wrote it.
    pub header: Header,
    /// How many vehicles it has.
    pub vehicles: u64,
}

impl<R: Read + Seek> Checked<R> {
    /// Goes through a file and gives out nothing yet.
    ///
    /// # Errors
    /// It is not whole, or not such a file.
    pub fn check(mut from: R) -> Result<Checked<R>, FileError> {
        from.rewind()?;
        let (header, vehicles) = go_through(&mut from, |_| {})?;
        Ok(Checked {
            from,
            header,
            vehicles,
        })
    }

    /// Calls `each` for every fleet and vehicle in the file.
    ///
    /// # Errors
    /// When the file has changed since it was checked, or can no longer be read. Everything before was given out.
    pub fn read(mut self, each: impl FnMut(Entry<'_>)) -> Result<(), FileError> {
        self.from.rewind()?;
        go_through(&mut self.from, each).map(drop)
    }
}

/// Who wrote a file, without a look at the rest of it.
///
/// # Errors
/// It does not begin as such a file does.
pub fn read_header(from: impl Read) -> Result<Header, FileError> {
    Source::open(from).map(|(_, header)| header)
}

fn go_through(
    from: impl Read,
    mut each: impl FnMut(Entry<'_>),
) -> Result<(Header, u64), FileError> {
    let (mut source, header) = Source::open(BufReader::with_capacity(1 << 16, from))?;
    let (mut in_fleet, mut vehicles) = (false, 0);
    loop {
        match source.frame()? {
            Frame::Header(_) => return Err(FileError::Damaged("it has two headers")),
            Frame::Fleet(name) => {
                check_name(name, FLEET_ID_BYTES_HARD_MAX)?;
                in_fleet = true;
                each(Entry::Fleet(name));
            }
            Frame::Vehicle {
                id,
                position,
                presence,
            } => {
                check_name(id, VEHICLE_ID_BYTES_HARD_MAX)?;
                vehicles += 1;
                if !in_fleet {
                    return Err(FileError::Damaged("a vehicle is of no fleet"));
                }
                if vehicles > VEHICLES_HARD_MAX {
                    return Err(FileError::Damaged("it has too many vehicles"));
                }
                each(Entry::Vehicle(Record {
                    vehicle: id,
                    position: position.map(StoredPosition::restore),
                    presence: presence.map(StoredPresence::restore),
                }));
            }
            Frame::End { vehicles: written } => {
                source.end()?;
                return if written == vehicles {
                    Ok((header, vehicles))
                } else {
                    Err(FileError::Damaged("vehicles are missing"))
                };
            }
        }
    }
}

fn check_name(name: &str, bytes_max: u64) -> Result<(), FileError> {
    if name.is_empty() || name.len() as u64 > bytes_max {
        return Err(FileError::Damaged("a name has an impossible length"));
    }
    Ok(())
}

impl StoredPosition {
    fn restore(self) -> (Fix, u64) {
        let fix = Fix {
            time_ms: self.time_ms,
            vehicle: 0,
            lat_e7: self.lat_e7,
            lon_e7: self.lon_e7,
            speed_cm_s: self.speed_cm_s,
            heading_cdeg: self.heading_cdeg,
        };
        (fix, self.received_ms)
    }
}

impl StoredPresence {
    fn restore(self) -> Presence {
        Presence {
            state: match self.state {
                StoredState::Offline => PresenceState::Offline,
                StoredState::Online => PresenceState::Online,
                StoredState::Stale => PresenceState::Stale,
            },
            since_ms: self.since_ms,
        }
    }
}

/// The bytes of a file, of which a checksum is kept while they are read.
struct Source<R> {
    from: R,
    checksum: crc32fast::Hasher,
    buffer: [u8; FRAME_BYTES_MAX],
}

impl<R: Read> Source<R> {
    fn open(from: R) -> Result<(Source<R>, Header), FileError> {
        let mut source = Source {
            from,
            checksum: crc32fast::Hasher::new(),
            buffer: [0; FRAME_BYTES_MAX],
        };
        if source.take::<8>()? != MAGIC {
            return Err(FileError::Foreign);
        }
        match u16::from_le_bytes(source.take()?) {
            VERSION => {}
            other => return Err(FileError::Version(other)),
        }
        match source.frame()? {
            Frame::Header(header) => Ok((source, header)),
            _ => Err(FileError::Damaged("it has no header")),
        }
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], FileError> {
        let mut bytes = [0; N];
        self.from.read_exact(&mut bytes)?;
        self.checksum.update(&bytes);
        Ok(bytes)
    }

    fn frame(&mut self) -> Result<Frame<'_>, FileError> {
        let length = usize::from(u16::from_le_bytes(self.take()?));
        let Some(bytes) = self.buffer.get_mut(..length) else {
            return Err(FileError::Damaged("a frame is too long"));
        };
        self.from.read_exact(bytes)?;
        self.checksum.update(bytes);
        match postcard::take_from_bytes(bytes) {
            Ok((frame, [])) => Ok(frame),
            _ => Err(FileError::Damaged("a frame has another form")),
        }
    }

    /// Checks what follows the last frame.
    fn end(mut self) -> Result<(), FileError> {
        let counted = self.checksum.clone().finalize();
        if u32::from_le_bytes(self.take()?) != counted {
            return Err(FileError::Damaged("its checksum is wrong"));
        }
        match self.from.read(&mut [0])? {
            0 => Ok(()),
            _ => Err(FileError::Damaged("something follows its end")),
        }
    }
}

#[cfg(test)]
mod tests;
