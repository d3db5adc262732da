//! A disk that fails, and one that loses its power, for tests.

use std::{
    io,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// The unit that a disk writes whole or not at all.
const SECTOR: usize = 512;

#[derive(Debug, Default)]
pub struct Faults(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// After so many operations each one fails with this error number.
    fails: Option<(u64, i32)>,
    /// How many operations there were.
    operations: u64,
    /// Set: what is certainly on the disk.
    image: Option<Vec<u8>>,
    /// What was written since the last sync.
    pending: Vec<Change>,
}

#[derive(Debug, Clone)]
enum Change {
    Length(u64),
    Bytes(u64, Vec<u8>),
}

impl Faults {
    /// Keeps what a power cut would leave.
    pub fn remember(&self) {
        self.state().image = Some(Vec::new());
    }

    /// The next `operations` succeed, and no other until [`Faults::heal`].
    pub fn fail_after(&self, operations: u64, errno: i32) {
        self.state().fails = Some((operations, errno));
    }

    pub fn heal(&self) {
        self.state().fails = None;
    }

    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    pub fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.change(|| Change::Bytes(offset, data.to_vec()))
    }

    pub fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(|| Change::Length(len))
    }

    pub fn sync(&self) -> io::Result<()> {
        let mut state = self.state();
        let stepped = state.step();
        // A sync that fails leaves what was written in the cache, marked as clean: no later one writes it.
        let pending = std::mem::take(&mut state.pending);
        stepped?;
        if let Some(image) = &mut state.image {
            for change in pending {
                apply(image, &change, usize::MAX);
            }
        }
        Ok(())
    }

    /// What is on the disk when the power fails now: all that was synced, and of the rest what `random` says, whole
    /// or in part.
    pub fn cut_power(&self, random: &mut fastrand::Rng) -> Vec<u8> {
        let state = self.state();
        let mut image = state.image.clone().unwrap_or_default();
        for change in &state.pending {
            match random.u8(0..4) {
                0 => {}
                1 => apply(&mut image, change, random.usize(0..8) * SECTOR),
                _ => apply(&mut image, change, usize::MAX),
            }
        }
        image
    }

    fn change(&self, change: impl FnOnce() -> Change) -> io::Result<()> {
        let mut state = self.state();
        state.step()?;
        if state.image.is_some() {
            state.pending.push(change());
        }
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn step(&mut self) -> io::Result<()> {
        self.operations += 1;
        match &mut self.fails {
            Some((0, errno)) => Err(io::Error::from_raw_os_error(*errno)),
            Some((left, _)) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

fn apply(image: &mut Vec<u8>, change: &Change, bytes_max: usize) {
    match change {
        Change::Length(length) => {
            image.resize(usize::try_from(*length).unwrap(), 0);
        }
        Change::Bytes(offset, bytes) => {
            let start = usize::try_from(*offset).unwrap();
            let bytes = &bytes[..bytes.len().min(bytes_max)];
            if image.len() < start + bytes.len() {
                image.resize(start + bytes.len(), 0);
            }
            image[start..start + bytes.len()].copy_from_slice(bytes);
        }
    }
}
