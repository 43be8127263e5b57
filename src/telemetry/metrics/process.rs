//! What the kernel knows of this process; what it hides is left off the page.

use std::fs;

use super::list::Families;

/// `USER_HZ`: what the kernel counts CPU time in towards programs, on every architecture that Rust's Linux targets run on.
const TICKS_PER_SECOND: f64 = 100.0;

/// Brings the process metrics up to date.
pub(super) fn refresh(families: &Families) {
    if let Some(bytes) = fs::read_to_string("/proc/self/status").ok().as_deref().and_then(resident) {
        families.memory.fixed(&[]).set(bytes);
    }
    if let Some(seconds) = fs::read_to_string("/proc/self/stat").ok().as_deref().and_then(cpu_seconds) {
        let counter = families.cpu.fixed(&[]);
        counter.inc_by((seconds - counter.get()).max(0.0));
    }
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        // One of them is this directory, open for reading.
        families.open_fds.fixed(&[]).set(i64::try_from(open.count()).unwrap_or(i64::MAX).saturating_sub(1));
    }
    if let Some(most) = fs::read_to_string("/proc/self/limits").ok().as_deref().and_then(most_fds) {
        families.max_fds.fixed(&[]).set(most);
    }
}

fn resident(status: &str) -> Option<i64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse::<i64>().ok()?.checked_mul(1024)
}

/// Fields 14 and 15, counted after the program's name, which may hold spaces and parentheses.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / TICKS_PER_SECOND)
}

fn most_fds(limits: &str) -> Option<i64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_kernel_writes() {
        assert_eq!(resident("VmPeak:\t 9 kB\nVmRSS:\t    2048 kB\n"), Some(2_097_152));
        assert_eq!(cpu_seconds("7 (a) b) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0"), Some(2.0));
        assert_eq!(most_fds("Max open files            1024                 4096                 files\n"), Some(1024));
    }

    #[test]
    fn copes_with_nothing_at_all() {
        assert_eq!((resident(""), cpu_seconds(""), most_fds("")), (None, None, None));
        assert_eq!(most_fds("Max open files            unlimited            unlimited            files"), None);
    }
}
