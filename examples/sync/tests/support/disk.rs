//! A disk that can fill up.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// Where a service keeps its folder: a small file system of its own where the test may mount one;
/// elsewhere a limit on the size of files stands for the full disk.
pub(super) struct Disk {
    pub(super) at: PathBuf,
    mounted: bool,
    full: bool,
}

impl Disk {
    pub(super) fn small(at: PathBuf) -> Self {
        fs::create_dir_all(&at).unwrap();
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=512k", "tmpfs"]).arg(&at).output();
        let mounted = mount.is_ok_and(|done| done.status.success());
        Self { at, mounted, full: false }
    }

    pub(super) fn fill(&mut self, process: u32) {
        self.full = true;
        if self.mounted {
            let filled = fs::write(self.at.join("filling"), vec![0; 1024 * 1024]);
            assert!(filled.is_err(), "a small disk takes no more");
        }
        self.limit(process);
    }

    /// For a process that was started after the disk was full, too.
    pub(super) fn limit(&self, process: u32) {
        if self.full && !self.mounted {
            let process = process.to_string();
            let done = Command::new("prlimit").args(["--pid", &process, "--fsize=0"]).status();
            assert!(done.is_ok_and(|status| status.success()), "prlimit, of util-linux");
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.mounted {
            let _ = Command::new("umount").arg("-l").arg(&self.at).status();
        }
    }
}
