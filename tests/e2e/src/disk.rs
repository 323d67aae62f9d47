//! A disk that is slow for one process.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Has a process wait for its disk, from a moment on that the test chooses.
///
/// Nothing is done to a disk. A library that is loaded into the process before the C library (`LD_PRELOAD`) waits in `pwrite`, `fsync`
/// and `fdatasync`, which is what databases write with, before it goes on to the real ones. The process cannot tell that from a
/// disk whose queue is long: the thread that writes stands still, and whoever holds a lock meanwhile keeps it. What is not
/// like a slow disk: reads are as fast as ever, and so is what is written without a position, such as logs.
///
/// A file system in user space, a device mapper or a control group's `io.max` would be nearer to it; each needs a kernel and
/// rights that the machines which run these tests do not have for certain.
#[derive(Debug)]
pub struct SlowDisk {
    library: PathBuf,
    control: PathBuf,
}

impl SlowDisk {
    /// Builds the library with the machine's C compiler.
    ///
    /// # Errors
    /// Why there is none here: the test is to be skipped and to say so.
    pub fn build(directory: &Path) -> Result<Self, String> {
        if !cfg!(all(target_os = "linux", target_env = "gnu")) {
            return Err("it needs glibc's dynamic linker".into());
        }
        let (source, library) = (directory.join("slow_disk.c"), directory.join("slow_disk.so"));
        std::fs::write(&source, include_str!("slow_disk.c")).unwrap();
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(&source).arg("-ldl");
        match compiler.output() {
            Err(error) => Err(format!("there is no C compiler: cc: {error}")),
            Ok(done) if !done.status.success() => {
                Err(format!("cc does not build it: {}", String::from_utf8_lossy(&done.stderr)))
            }
            Ok(_) => Ok(Self { library, control: directory.join("slow_disk.millis") }),
        }
    }

    /// What a process needs in its environment.
    pub fn environment(&self) -> Vec<(String, String)> {
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        vec![("LD_PRELOAD".into(), text(&self.library)), ("SLOW_DISK".into(), text(&self.control))]
    }

    /// From now on each write takes so much longer; nothing with zero.
    pub fn set(&self, delay: Duration) {
        // Nobody is to read half a number.
        let new = self.control.with_extension("new");
        std::fs::write(&new, delay.as_millis().to_string()).unwrap();
        std::fs::rename(new, &self.control).unwrap();
    }
}
