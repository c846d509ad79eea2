//! A loss of power amid a cleaning: what was not brought to the disk may be gone, in part or whole. At each change of files a
//! state is drawn that may survive there, the log is recovered from it, and the model says what must be in it.
//!
//! As on ext4 and XFS, the entries of a folder are journaled: of what changed in it since its last sync some first part
//! survives, whatever became of the files' contents. Of those the part that was not synced may be cut off or read as zeros.

use std::cell::RefCell;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::rc::Rc;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;

/// A change of a folder's entries; files go by their inodes.
#[derive(Debug, Clone)]
enum Change {
    Put(String, u64),
    Gone(String),
    Renamed(String, String),
}

/// A file, whose descriptor is held so that no other gets its inode.
#[derive(Debug)]
struct Contents {
    file: File,
    synced: Vec<u8>,
    now: Vec<u8>,
}

type Names = BTreeMap<String, u64>;

/// The files that are there after a loss of power.
type Survivors = BTreeMap<String, Vec<u8>>;

/// A folder, and what of it is on the disk.
struct Recorder {
    dir: PathBuf,
    files: BTreeMap<u64, Contents>,
    /// The entries as they were at the last sync.
    synced: Names,
    /// What has changed since then, in order.
    changes: Vec<Change>,
    names: Names,
    rng: StdRng,
    /// What may survive, drawn before each change; `None` while that is not wanted.
    drawn: Option<Vec<Survivors>>,
}

impl Recorder {
    /// Watches what this thread does to a folder.
    fn watch(dir: PathBuf, seed: u64) -> Rc<RefCell<Self>> {
        let rng = StdRng::seed_from_u64(seed);
        let (files, synced, names) = (BTreeMap::new(), Names::new(), Names::new());
        let recorder = Self { dir, files, synced, changes: Vec::new(), names, rng, drawn: None };
        let recorder = Rc::new(RefCell::new(recorder));
        let told = Rc::clone(&recorder);
        faults::watch(Some(Box::new(move |path| told.borrow_mut().on(path))));
        recorder
    }

    fn on(&mut self, synced: Option<&Path>) {
        self.look();
        match synced {
            None => {
                let survivors = self.drawn.is_some().then(|| self.survivors());
                self.drawn.iter_mut().zip(survivors).for_each(|(drawn, survivors)| drawn.push(survivors));
            }
            Some(path) if path == self.dir => {
                self.synced.clone_from(&self.names);
                self.changes.clear();
            }
            Some(path) => {
                let name = path.file_name().unwrap().to_str().unwrap();
                if let Some(inode) = self.names.get(name).filter(|_| path.parent() == Some(&self.dir)) {
                    let contents = self.files.get_mut(inode).unwrap();
                    contents.synced.clone_from(&contents.now);
                }
            }
        }
    }

    /// Finds what has changed.
    fn look(&mut self) {
        let mut names = Names::new();
        for entry in fs::read_dir(&self.dir).unwrap() {
            let entry = entry.unwrap();
            let inode = entry.metadata().unwrap().ino();
            let open = || Contents { file: File::open(entry.path()).unwrap(), synced: Vec::new(), now: Vec::new() };
            self.files.entry(inode).or_insert_with(open);
            names.insert(entry.file_name().into_string().unwrap(), inode);
        }
        let before = std::mem::replace(&mut self.names, names);
        for (name, inode) in self.names.iter().filter(|(name, inode)| before.get(*name) != Some(inode)) {
            let from = before.iter().find(|(old, other)| *other == inode && !self.names.contains_key(*old));
            self.changes.push(match from {
                Some((old, _)) => Change::Renamed(old.clone(), name.clone()),
                None => Change::Put(name.clone(), *inode),
            });
        }
        for (name, inode) in before.iter().filter(|(name, _)| !self.names.contains_key(*name)) {
            if !self.names.values().any(|other| other == inode) {
                self.changes.push(Change::Gone(name.clone()));
            }
        }
        for inode in self.names.values() {
            let contents = self.files.get_mut(inode).unwrap();
            let len = usize::try_from(contents.file.metadata().unwrap().len()).unwrap();
            contents.now.resize(len, 0);
            std::os::unix::fs::FileExt::read_exact_at(&contents.file, &mut contents.now, 0).unwrap();
        }
    }

    /// Draws what survives if the power goes now.
    fn survivors(&mut self) -> Survivors {
        let all = self.changes.len();
        let count = match self.rng.random_range(0..4) {
            0 => 0,
            1 => all,
            _ => self.rng.random_range(0..=all),
        };
        let mut names = self.synced.clone();
        for change in &self.changes[..count] {
            match change {
                Change::Put(name, inode) => drop(names.insert(name.clone(), *inode)),
                Change::Gone(name) => drop(names.remove(name)),
                Change::Renamed(from, to) => {
                    let inode = names.remove(from).unwrap();
                    names.insert(to.clone(), inode);
                }
            }
        }
        names.into_iter().map(|(name, inode)| (name, self.files[&inode].draw(&mut self.rng))).collect()
    }
}

impl Contents {
    /// What of a file survives.
    fn draw(&self, rng: &mut StdRng) -> Vec<u8> {
        if !self.now.starts_with(&self.synced) {
            return if rng.random_bool(0.5) { self.synced.clone() } else { self.now.clone() };
        }
        let mut bytes = self.now.clone();
        let kept = rng.random_range(self.synced.len()..=self.now.len());
        match rng.random_range(0..4) {
            0 => {}
            1 => bytes.truncate(self.synced.len()),
            2 => bytes.truncate(kept),
            _ => bytes[kept..].fill(0),
        }
        bytes
    }
}

/// A folder in memory where there is such a file system: each state is flushed many times.
fn memory() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory).unwrap() } else { tempfile::tempdir().unwrap() }
}

/// What comes behind the part that is cleaned.
fn tail() -> impl Strategy<Value = Vec<Op>> {
    prop::collection::vec(op().prop_filter("only appends", |op| matches!(op, Op::Append(..) | Op::End(..))), 0..10)
}

proptest! {
    // Each case tries every place there is.
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn the_power_may_go_anywhere(
        ops in prop::collection::vec(op(), 5..30),
        tail in tail(),
        meanwhile in tail(),
        segment_bytes in 300_i32..1500,
        seed in any::<u64>(),
    ) {
        let dir = memory();
        let mut rig = Rig::new(dir.path(), LogConfig { segment_bytes, ..config() });
        let recorder = Recorder::watch(dir.path().join("t-0"), seed);
        ops.iter().chain(&[Op::Roll]).chain(&tail).for_each(|op| rig.run(op));
        rig.now_ms += RETENTION;
        let before = rig.log.cleaned_offset();
        let range = range_of(&rig.log, rig.now_ms);
        rig.log.flush_for_cleaning().unwrap();
        meanwhile.iter().for_each(|op| rig.run(op));
        recorder.borrow_mut().drawn = Some(Vec::new());
        if range.is_due(&AT_ONCE) {
            cleaner(MUCH).clean(&rig.log, &range, rig.now_ms).unwrap();
        }
        faults::watch(None);
        let (end, flushed, after) = (rig.log.log_end_offset(), rig.log.recovery_point(), rig.log.cleaned_offset());
        let mut recorder = recorder.borrow_mut();
        let drawn = recorder.drawn.take().unwrap();
        recorder.look();
        // What was cleaned is written down last of all.
        let last: Vec<Survivors> = (0..4).map(|_| recorder.survivors()).collect();
        let all = drawn.into_iter().map(|files| (files, before)).chain(last.into_iter().map(|files| (files, after)));
        for (files, cleaned) in all {
            rig.recover_from(&files, flushed, cleaned, end);
        }
    }
}

#[test]
fn the_folder_is_flushed_after_a_kill() {
    let dir = memory();
    let mut rig = Rig::new(dir.path(), config());
    rig.append(0, false, 0, &[(1, Some(1))]);
    rig.log.flush().unwrap();
    rig.log.roll(rig.now_ms).unwrap();
    let recorder = Recorder::watch(dir.path().join("t-0"), 1);
    rig.reopen(false);
    rig.append(0, false, 0, &[(1, Some(2))]);
    rig.log.flush().unwrap();
    faults::watch(None);
    let recorder = recorder.borrow();
    let name = "00000000000000000001.log";
    assert!(recorder.synced.contains_key(name), "{:?}", recorder.synced);
}

impl Rig {
    /// Recovers the log from what is left of it, and cleans it to the end.
    fn recover_from(&mut self, files: &Survivors, flushed: Offset, cleaned: Option<Offset>, end: Offset) {
        let copy = memory();
        let dir = copy.path().join("t-0");
        fs::create_dir(&dir).unwrap();
        files.iter().for_each(|(name, bytes)| fs::write(dir.join(name), bytes).unwrap());
        let log_dir = Arc::new(crate::log::log_dir::LogDir::new(copy.path()));
        let (dir, recovery_point) = (Arc::from(dir), flushed);
        self.open_again(&OpenParams { dir, log_dir, cleaned, recovery_point, clean: false, ..self.params.clone() });
        let recovered = self.log.log_end_offset();
        assert!(flushed <= recovered && recovered <= end, "it ends at {recovered}, not from {flushed} to {end}");
        self.check();
        // And once more, to the end.
        if let Some(summary) = clean(&self.log, MUCH, self.now_ms) {
            self.check_cleaned(summary.unwrap().cleaned_to);
        }
        self.check();
    }
}
