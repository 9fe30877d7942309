//! How much memory this process may still take, and the refusal of what would take more.
//!
//! Linux grants memory that it does not have and later kills a process. So what is large is compared with what is free
//! before it is built.

use std::{fs, path::Path};

use crate::error::{Error, Result};

/// Less than this is not compared with what is free: finding that out takes some 50 us.
const SMALL: u64 = 64 << 20;

/// Bytes that this process may still take, by the machine's free memory and the limits of its cgroup (v1 and v2) and of
/// those above; `None` where the system does not say.
fn free() -> Option<u64> {
    let machine = field(&fs::read_to_string("/proc/meminfo").ok()?, "MemAvailable:")? * 1024;
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let limits = groups.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        match (parts.next()?, parts.next()?) {
            ("", group) => least_of_ancestors("/sys/fs/cgroup", group, ["memory.max", "memory.current", "file"]),
            (controllers, group) if controllers.split(',').any(|name| name == "memory") => {
                let files = ["memory.limit_in_bytes", "memory.usage_in_bytes", "total_cache"];
                least_of_ancestors("/sys/fs/cgroup/memory", group, files)
            }
            _ => None,
        }
    });
    limits.chain([machine]).min()
}

/// The least that `group` or a group above it leaves. In a container the paths may be those of the host: then the
/// groups that do not exist are passed over.
fn least_of_ancestors(root: &str, group: &str, [limit, used, cache]: [&str; 3]) -> Option<u64> {
    let left = |group: &Path| {
        let read = |name: &str| fs::read_to_string(group.join(name)).ok();
        let number = |name: &str| read(name)?.trim().parse::<u64>().ok();
        // Cached files count as used, but give way.
        let cached = field(&read("memory.stat")?, cache).unwrap_or(0);
        Some(number(limit)?.saturating_sub(number(used)?.saturating_sub(cached)))
    };
    let below = Path::new(group.trim_start_matches('/'));
    below.ancestors().filter_map(|group| left(&Path::new(root).join(group))).min()
}

/// The number after `name` in lines of names and numbers.
fn field(text: &str, name: &str) -> Option<u64> {
    let mut words =
        text.lines().map(str::split_whitespace).find_map(|mut words| (words.next()? == name).then_some(words))?;
    words.next()?.parse().ok()
}

/// Rejects `what` if it takes more than `limit` bytes, or, without a limit, more than are free.
///
/// # Errors
/// [`Error::Memory`] with both numbers.
pub fn check(what: &str, bytes: u64, limit: Option<u64>) -> Result<()> {
    let (most, whose) = match limit {
        Some(limit) => (limit, "max_bytes allows"),
        None if bytes < SMALL => return Ok(()),
        None => (free().unwrap_or(u64::MAX), "are free"),
    };
    match bytes <= most {
        true => Ok(()),
        false => Err(Error::Memory(format!("{what}: takes {bytes} bytes, but {most} {whose}"))),
    }
}
