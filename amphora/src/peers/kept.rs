//! What is known of sessions, on disk between two processes of one amphora: in the very words in which others are told.
//!
//! It is written by a process that ends or has a successor, and read by the next one, once. Who finds none, or one that
//! cannot be used, begins anew, and is told by others what they know.

use std::{
    fs::{self, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use krater_amphora_core::{
    affinity::Memory,
    peers::{HEADER_BYTES, Message, read_header},
};

use crate::{clock::wall_seconds, limits::SESSIONS_FILE_BYTES_MAX, world::World};

/// What `world` knows, as it is written down. Pools for which there is no room begin anew.
fn gather(world: &World) -> Vec<u8> {
    let mut bytes = wall_seconds().to_be_bytes().to_vec();
    for state in world.pools.values() {
        let Some(learned) = state.learned() else {
            continue;
        };
        let offer = learned.offer();
        if !offer.knows_somebody {
            continue;
        }
        let start = bytes.len();
        Message::Offer(state.pool.id, offer).write(&mut bytes);
        for part in 0..Memory::PARTS {
            for told in learned.part(part, false) {
                Message::Told(told).write(&mut bytes);
            }
        }
        if bytes.len() > SESSIONS_FILE_BYTES_MAX {
            bytes.truncate(start);
        }
    }
    bytes
}

/// Writes what `world` knows to the state folder, for the process's own user alone: it tells the keys of pools.
pub(super) fn note(state_dir: &Path, world: &World) -> io::Result<()> {
    let bytes = gather(world);
    let path = path_in(state_dir);
    let fresh = path.with_extension("new");
    // One that was left over may have another mode.
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&fresh)?;
    file.write_all(&bytes)?;
    fs::rename(&fresh, &path)
}

/// Takes what the process before wrote down, so that nobody reads it twice; `None` if it wrote nothing.
pub(super) fn take(state_dir: &Path) -> io::Result<Option<Vec<u8>>> {
    let path = path_in(state_dir);
    let file = match fs::File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    fs::remove_file(&path)?;
    let mut bytes = Vec::new();
    let limit = u64::try_from(SESSIONS_FILE_BYTES_MAX).unwrap_or(u64::MAX);
    file.take(limit).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

/// Has `world` know what was written down, as far as it has the same pools and members. How many clients that are.
pub(super) fn restore(world: &World, bytes: &[u8]) -> u64 {
    let Some((written, mut rest)) = bytes.split_first_chunk() else {
        return 0;
    };
    let later = wall_seconds().saturating_sub(i64::from_be_bytes(*written));
    // By a clock that was set back nothing has become younger.
    let later = u32::try_from(later.max(0)).unwrap_or(u32::MAX);
    let mut known = 0;
    while let Some((message, next)) = next(rest) {
        rest = next;
        match message {
            Message::Offer(pool, offer) => {
                let state = world.pools.get(&pool);
                if let Some(learned) = state.and_then(|state| state.learned())
                    && learned.likeness() == offer.likeness
                {
                    learned.adopt(offer.key, offer.age.saturating_add(later));
                }
            }
            Message::Told(told) => {
                let state = world.pools.get(&told.pool);
                if let Some(learned) = state.and_then(|state| state.learned())
                    && learned.key().check() == told.check
                {
                    known += learned.take(&told, false, later).taken;
                }
            }
            _ => {}
        }
    }
    known
}

/// The first message, and what follows it; `None` at the end, or where nothing can be read any more.
fn next(bytes: &[u8]) -> Option<(Message, &[u8])> {
    let (header, rest) = bytes.split_first_chunk::<HEADER_BYTES>()?;
    let (kind, length) = read_header(*header).ok()?;
    let (body, rest) = rest.split_at_checked(length)?;
    Some((Message::read(kind, body).ok()?, rest))
}

fn path_in(state_dir: &Path) -> PathBuf {
    state_dir.join("sessions")
}
