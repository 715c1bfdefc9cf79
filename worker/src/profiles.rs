//! Profiles of the fragments that a worker ever held, kept on disk beside them.
//!
//! A fragment is named by what it computes, so its name is the key, with the machine beside it: times of other
//! hardware, or of another share of it, are in other files.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::Mutex;
use prost::Message as _;
use sha2::{Digest as _, Sha256};
use splitplace_plan::FragmentId;
use splitplace_proto::control;

use crate::{
    cache::{self, PROFILES},
    profile::Profile,
};

/// Most fragments of which something is kept; the one needed longest ago makes room.
const FRAGMENTS: usize = 4096;
/// A file of more bytes is none of ours.
const MOST_BYTES: u64 = 64 << 20;

/// Every profile, in memory and on disk.
#[derive(Debug)]
pub(crate) struct Profiles {
    hardware: String,
    path: Option<PathBuf>,
    kept: Mutex<Kept>,
}

/// One fragment's profile: whoever runs the fragment holds it too, and nobody waits for the rest of the book.
pub(crate) type Handle = Arc<Mutex<Profile>>;

#[derive(Debug, Default)]
struct Kept {
    /// With the count at which each was asked for last.
    by_fragment: BTreeMap<FragmentId, (u64, Handle)>,
    ticks: u64,
}

impl Kept {
    /// The profile of a fragment, which is needed now.
    fn of(&mut self, id: FragmentId) -> &Handle {
        self.ticks += 1;
        if self.by_fragment.len() >= FRAGMENTS && !self.by_fragment.contains_key(&id) {
            // One that is loaded would be measured for nothing.
            let is_held = |handle: &Handle| Arc::strong_count(handle) > 1;
            let entries = self.by_fragment.iter();
            let oldest = entries.min_by_key(|(_, (needed, handle))| (is_held(handle), *needed));
            if let Some((&oldest, _)) = oldest {
                self.by_fragment.remove(&oldest);
            }
        }
        let (needed, profile) = self.by_fragment.entry(id).or_default();
        *needed = self.ticks;
        profile
    }
}

impl Profiles {
    /// What was kept in this folder for this hardware; nothing without a folder.
    pub(crate) fn open(folder: Option<&Path>, hardware: String) -> Self {
        let path = folder.map(|folder| {
            let name = FragmentId(Sha256::digest(&hardware).into()).hex();
            folder.join(format!("{}.{PROFILES}", &name[..16]))
        });
        let mut kept = Kept::default();
        match path.as_deref().map(|path| read(path, &hardware)) {
            None => {}
            Some(Ok(file)) => {
                for one in file.fragments.iter().take(FRAGMENTS) {
                    if let Some(id) = FragmentId::from_slice(&one.id) {
                        *kept.of(id).lock() = Profile::restore(one);
                    }
                }
            }
            Some(Err(why)) => {
                tracing::warn!(code = "SP113", why, "what was measured before is not used");
            }
        }
        Self {
            hardware,
            path,
            kept: Mutex::new(kept),
        }
    }

    /// The profile of a fragment, to add to and to look at.
    pub(crate) fn of(&self, id: FragmentId) -> Handle {
        Arc::clone(self.kept.lock().of(id))
    }

    /// Writes the file, if there is something new. Blocks.
    pub(crate) fn save(&self) {
        let Some(path) = &self.path else { return };
        let mut all: Vec<(u64, FragmentId, Handle)> = {
            let kept = self.kept.lock();
            let each = kept.by_fragment.iter();
            each.map(|(id, (needed, handle))| (*needed, *id, Arc::clone(handle)))
                .collect()
        };
        all.sort_by_key(|(needed, ..)| *needed);
        let mut is_changed = false;
        let fragments = all.iter().map(|(_, id, handle)| {
            let mut profile = handle.lock();
            is_changed |= profile.take_unsaved();
            profile.kept(*id)
        });
        let fragments = fragments.collect();
        if !is_changed {
            return;
        }
        let file = control::Profiles {
            hardware: self.hardware.clone(),
            fragments,
        };
        if let Err(error) = cache::write(path, &file.encode_to_vec()) {
            tracing::warn!(code = "SP112", %error, "what was measured is not kept on disk");
        }
    }
}

fn read(path: &Path, hardware: &str) -> Result<control::Profiles, String> {
    let about = |error: std::io::Error| format!("{}: {error}", path.display());
    let size = match fs::metadata(path) {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Ok(control::Profiles::default());
        }
        Err(error) => return Err(about(error)),
    };
    if size > MOST_BYTES {
        return Err(format!("{}: {size} bytes are too many", path.display()));
    }
    let bytes = fs::read(path).map_err(about)?;
    let file = control::Profiles::decode(bytes.as_slice())
        .map_err(|error| format!("{}: {error}", path.display()))?;
    if file.hardware != hardware {
        return Err(format!(
            "{}: it holds for '{}', this is '{hardware}'",
            path.display(),
            file.hardware
        ));
    }
    Ok(file)
}

/// What times of a fragment depend on beside the fragment: the processor, how many cores the node uses and which share
/// of their speed, and the engine.
pub(crate) fn hardware(cores: u32, speed_share: f64) -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    format!(
        "{} {}, {cores} cores, share {speed_share}, worker {}",
        std::env::consts::ARCH,
        processor(&text),
        env!("CARGO_PKG_VERSION"),
    )
}

/// The processor's name, or the numbers that an ARM one has in its place.
fn processor(cpuinfo: &str) -> String {
    let field = |name: &str| {
        cpuinfo.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            (key.trim() == name).then(|| value.trim().to_owned())
        })
    };
    field("model name").unwrap_or_else(|| {
        let numbers = ["CPU implementer", "CPU part", "CPU revision"].map(field);
        let numbers: Vec<String> = numbers.into_iter().flatten().collect();
        if numbers.is_empty() {
            "unknown".to_owned()
        } else {
            numbers.join(" ")
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::Setting;

    fn add(profiles: &Profiles, id: FragmentId, seconds: f64) {
        profiles.of(id).lock().add(Setting::ONE, seconds);
    }

    fn knows(profiles: &Profiles, id: FragmentId) -> bool {
        profiles.of(id).lock().knows(Setting::ONE)
    }

    #[test]
    fn a_restart_on_the_same_hardware_knows_what_was_measured() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (FragmentId([1; 32]), FragmentId([2; 32]));
        let profiles = Profiles::open(Some(folder.path()), "one".into());
        add(&profiles, a, 0.25);
        profiles.save();
        let again = Profiles::open(Some(folder.path()), "one".into());
        assert!(knows(&again, a) && !knows(&again, b));
        assert_eq!(again.of(a).lock().points(), profiles.of(a).lock().points());
        let other = Profiles::open(Some(folder.path()), "another".into());
        assert!(!knows(&other, a));
    }

    #[test]
    fn a_damaged_file_costs_what_was_measured_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let a = FragmentId([1; 32]);
        let profiles = Profiles::open(Some(folder.path()), "one".into());
        add(&profiles, a, 0.25);
        profiles.save();
        let file = fs::read_dir(folder.path()).unwrap().next().unwrap();
        let path = file.unwrap().path();
        let mut bytes = fs::read(&path).unwrap();
        bytes[0] ^= 0xff;
        fs::write(&path, bytes).unwrap();
        let again = Profiles::open(Some(folder.path()), "one".into());
        assert!(!knows(&again, a));
        add(&again, a, 0.5);
        again.save();
        let third = Profiles::open(Some(folder.path()), "one".into());
        assert!(knows(&third, a));
    }

    #[test]
    fn the_fragment_needed_longest_ago_makes_room() {
        let profiles = Profiles::open(None, "one".into());
        let id = |number: usize| {
            let mut id = [0; 32];
            id[..8].copy_from_slice(&number.to_be_bytes());
            FragmentId(id)
        };
        for number in 0..FRAGMENTS {
            add(&profiles, id(number), 1.0);
        }
        add(&profiles, id(0), 1.0);
        add(&profiles, id(FRAGMENTS), 1.0);
        let is_there = |number: usize| {
            let kept = profiles.kept.lock();
            kept.by_fragment.contains_key(&id(number))
        };
        assert!(is_there(0) && !is_there(1) && is_there(2));
        // One that is loaded stays.
        let loaded = profiles.of(id(2));
        for number in FRAGMENTS..2 * FRAGMENTS {
            add(&profiles, id(number), 1.0);
        }
        assert!(is_there(2) && !is_there(0) && loaded.lock().knows(Setting::ONE));
        assert_eq!(profiles.kept.lock().by_fragment.len(), FRAGMENTS);
    }

    #[test]
    fn processors_are_told_apart() {
        let amd64 = "processor : 0\nmodel name\t: A Fine One @ 2 GHz\n";
        assert_eq!(processor(amd64), "A Fine One @ 2 GHz");
        let arm = "CPU implementer\t: 0x41\nCPU part\t: 0xd08\nCPU revision\t: 3\n";
        assert_eq!(processor(arm), "0x41 0xd08 3");
        assert_eq!(processor(""), "unknown");
    }
}
