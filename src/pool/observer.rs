//! Who is told how targets are.

use super::breaker::Stage;

/// Who wants to know of the targets' health.
pub trait Observer: Send + Sync {
    /// A target is up or down, told at each change.
    fn target_up(&self, pool: &str, target: &str, up: bool);
    /// The breaker of a target is in this stage, told at each change; nothing where it has none.
    fn breaker(&self, pool: &str, target: &str, stage: Option<Stage>);
    /// A target is ejected or not, told at each change; nothing where nobody is ejected.
    fn ejected(&self, pool: &str, target: &str, out: Option<bool>);
    /// A pool uses all its targets because too few are well, told at each change; nothing where it never does.
    fn panics(&self, pool: &str, panics: Option<bool>);
    /// A target is no longer used by anyone.
    fn target_gone(&self, pool: &str, target: &str);
}

/// Nobody.
impl Observer for () {
    fn target_up(&self, _: &str, _: &str, _: bool) {}
    fn breaker(&self, _: &str, _: &str, _: Option<Stage>) {}
    fn ejected(&self, _: &str, _: &str, _: Option<bool>) {}
    fn panics(&self, _: &str, _: Option<bool>) {}
    fn target_gone(&self, _: &str, _: &str) {}
}
