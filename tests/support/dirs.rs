//! Temporary folders: one root per test process, kept when a test failed.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

static ROOT: OnceLock<PathBuf> = OnceLock::new();

/// The root of this process. The first call removes what earlier processes left behind, except what they kept because of
/// a failure less than a day ago.
pub fn root() -> &'static Path {
    ROOT.get_or_init(|| {
        let all = std::env::temp_dir().join("barnabas-tests");
        fs::create_dir_all(&all).expect("a temporary folder");
        sweep(&all);
        let root = all.join(std::process::id().to_string());
        let _ = fs::remove_dir_all(&root);
        fs::create_dir_all(&root).expect("a temporary folder");
        let default_hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            mark_failed();
            default_hook(info);
        }));
        // SAFETY: the handler is a plain function that lives as long as the process.
        unsafe { libc::atexit(remove_root) };
        root
    })
}

/// Keeps the folders of this process for someone to look at.
fn mark_failed() {
    if let Some(root) = ROOT.get()
        && fs::write(root.join("FAILED"), "").is_ok()
    {
        eprintln!("files are kept in {}", root.display());
    }
}

extern "C" fn remove_root() {
    if let Some(root) = ROOT.get()
        && !root.join("FAILED").exists()
    {
        let _ = fs::remove_dir_all(root);
    }
}

fn sweep(all: &Path) {
    for entry in fs::read_dir(all).into_iter().flatten().flatten() {
        let alive = Path::new("/proc").join(entry.file_name()).exists();
        let kept = entry.path().join("FAILED").metadata().and_then(|m| m.modified()).ok();
        let recent = kept.is_some_and(|at| at.elapsed().is_ok_and(|age| age.as_secs() < 86_400));
        if !alive && !recent {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// A folder of one test, removed at its end unless the test failed.
#[derive(Debug)]
pub struct TestDir(PathBuf);

impl TestDir {
    pub fn new(name: &str) -> TestDir {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let path = root().join(format!("{name}-{}", NEXT.fetch_add(1, Ordering::Relaxed)));
        fs::create_dir_all(&path).expect("a temporary folder");
        TestDir(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for TestDir {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}
