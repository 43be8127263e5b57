//! How much memory is used of what there is: near its end new requests are refused, before the kernel ends the process.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::snapshot::{Live, Memory, MemoryLimit};

/// How often it is looked at: what comes in faster than a tenth of the memory in that time is too much at once.
const EVERY: Duration = Duration::from_millis(100);
/// How many points less than where it began end it.
const RELIEF: u64 = 5;
/// The kernel writes more than this where there is no limit.
const NO_LIMIT: u64 = 1 << 60;

/// Watches for ever.
pub(super) async fn watch(live: Arc<Live>) {
    let cgroup = Cgroup::find(Path::new("/proc/self/cgroup"), Path::new("/sys/fs/cgroup"));
    loop {
        look(&live, cgroup.as_ref());
        tokio::time::sleep(EVERY).await;
    }
}

fn look(live: &Live, cgroup: Option<&Cgroup>) {
    let memory = live.load().memory;
    let known = match memory.limit {
        MemoryLimit::Off => None,
        MemoryLimit::Of(size) => resident().map(|used| (size.bytes(), used)),
        MemoryLimit::Auto => cgroup.and_then(Cgroup::figures),
    };
    let (limit, used) = known.unwrap_or((0, resident().unwrap_or_default()));
    let short = known.is_some() && is_short(memory, limit, used, live.is_short());
    live.tools.metrics.memory(limit, used, short);
    if live.run_short(short) {
        let (used, limit) = (used >> 20, limit >> 20);
        if short {
            log::warn!("memory runs short, {used} MiB of {limit} MiB are used: new requests are refused");
        } else {
            log::info!("memory is there again, {used} MiB of {limit} MiB are used");
        }
    }
}

/// Whether so much is too much, where it was too much before or not.
fn is_short(memory: Memory, limit: u64, used: u64, before: bool) -> bool {
    let percent = u64::from(memory.shed_at.percent());
    let percent = if before { percent.saturating_sub(RELIEF) } else { percent };
    u128::from(used) * 100 >= u128::from(limit) * u128::from(percent.max(1))
}

/// What this process holds in memory.
fn resident() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

/// The groups of processes that this one belongs to, and by which the kernel counts its memory: its own first, then those
/// around it.
struct Cgroup {
    groups: Vec<PathBuf>,
    files: Files,
}

/// What the kernel calls its numbers.
struct Files {
    limits: &'static [&'static str],
    used: &'static str,
    /// In `memory.stat`: what the kernel takes back before it ends anyone.
    spare: &'static str,
}

const V2: Files = Files { limits: &["memory.max", "memory.high"], used: "memory.current", spare: "inactive_file" };
const V1: Files =
    Files { limits: &["memory.limit_in_bytes"], used: "memory.usage_in_bytes", spare: "total_inactive_file" };

impl Cgroup {
    /// `said` is where the kernel says it, `top` is where its files are.
    fn find(said: &Path, top: &Path) -> Option<Self> {
        let said = fs::read_to_string(said).ok()?;
        // Each line is `number:controllers:path`.
        let lines: Vec<_> = said.lines().filter_map(|line| line.split_once(':')?.1.split_once(':')).collect();
        let v1 = lines.iter().find(|(controllers, _)| controllers.split(',').any(|one| one == "memory"));
        let (path, top, files) = match v1 {
            Some((_, path)) => (path, top.join("memory"), V1),
            None => (&lines.iter().find(|(controllers, _)| controllers.is_empty())?.1, top.to_owned(), V2),
        };
        // In a container the path can be one that is seen from outside only; then its own group lies at the top.
        let own = top.join(path.trim_start_matches('/'));
        let groups = own.ancestors().take_while(|group| group.starts_with(&top)).map(Path::to_owned);
        Some(Self { groups: groups.filter(|group| group.join(files.used).exists()).collect(), files })
    }

    /// The least that any of them may have, and what is in use there without what can be taken back.
    fn figures(&self) -> Option<(u64, u64)> {
        let limited = |group: &'_ PathBuf| {
            let limits = self.files.limits.iter().filter_map(|name| number(&group.join(name)));
            limits.filter(|limit| *limit < NO_LIMIT).min()
        };
        let least =
            self.groups.iter().filter_map(|group| Some((limited(group)?, group))).min_by_key(|(limit, _)| *limit);
        let (limit, group) = least?;
        let stat = fs::read_to_string(group.join("memory.stat")).unwrap_or_default();
        let spare = stat.lines().find_map(|line| line.strip_prefix(self.files.spare)?.strip_prefix(' '));
        let spare = spare.and_then(|number| number.parse().ok()).unwrap_or(0);
        Some((limit, number(&group.join(self.files.used))?.saturating_sub(spare)))
    }
}

fn number(file: &Path) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_ends_five_points_lower_than_it_begins() {
        let short = |used, before| is_short(Memory::default(), 1000, used, before);
        assert_eq!(
            [short(899, false), short(900, false), short(850, true), short(849, true)],
            [false, true, true, false]
        );
    }

    fn write(group: &Path, files: &[(&str, &str)]) {
        fs::create_dir_all(group).unwrap();
        for (name, text) in files {
            fs::write(group.join(name), text).unwrap();
        }
    }

    #[test]
    fn the_smallest_limit_of_all_groups_around_counts() {
        let dir = tempfile::tempdir().unwrap();
        let (said, top) = (dir.path().join("said"), dir.path().join("fs"));
        write(dir.path(), &[("said", "0::/system.slice/yumen.service\n")]);
        assert!(Cgroup::find(&said, &top).unwrap().figures().is_none());
        let (own, slice) = (top.join("system.slice/yumen.service"), top.join("system.slice"));
        let stat = ("memory.stat", "anon 1\ninactive_file 300\nfile 400\n");
        write(&own, &[("memory.current", "900\n"), ("memory.max", "max\n"), ("memory.high", "2000\n"), stat]);
        assert_eq!(Cgroup::find(&said, &top).unwrap().figures(), Some((2000, 600)));
        write(&slice, &[("memory.current", "950"), ("memory.max", "1000"), ("memory.stat", "inactive_file 50")]);
        assert_eq!(Cgroup::find(&said, &top).unwrap().figures(), Some((1000, 900)));
    }

    #[test]
    fn the_older_files_are_read_too_and_a_container_sees_its_group_at_the_top() {
        let dir = tempfile::tempdir().unwrap();
        let (said, top) = (dir.path().join("said"), dir.path().join("fs"));
        write(dir.path(), &[("said", "3:cpu:/x\n2:memory:/docker/abc\n0::/\n")]);
        let stat = ("memory.stat", "inactive_file 1\ntotal_inactive_file 200");
        write(&top.join("memory"), &[("memory.usage_in_bytes", "700"), ("memory.limit_in_bytes", "1000"), stat]);
        let found = Cgroup::find(&said, &top).unwrap();
        assert_eq!(found.figures(), Some((1000, 500)));
        write(&top.join("memory"), &[("memory.limit_in_bytes", "9223372036854771712")]);
        assert_eq!(found.figures(), None);
        assert!(Cgroup::find(Path::new("/no/such/file"), &top).is_none());
    }
}
