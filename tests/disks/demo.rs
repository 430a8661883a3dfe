//! `scripts/demo.sh`: what a newcomer sees first must work, and leave nothing behind.

use super::support::skipped;
use super::volume::{Workspace, run};
use std::process::Command;

#[test]
fn the_demonstration_shows_what_it_says() {
    // A tour that breaks, or that loses a sample, is the worst advertisement.
    let Some(workspace) = Workspace::new() else { return };
    let is_root = run(Command::new("id").arg("-u")).trim() == "0";
    let directory = workspace.directory("demo");
    let mut command = Command::new("scripts/demo.sh");
    command.current_dir(env!("CARGO_MANIFEST_DIR")).arg("--fast").env("TMPDIR", &directory);
    let shown = run(command.env("TSKV", env!("CARGO_BIN_EXE_tskv")));
    assert!(shown.contains("Nothing is lost."), "{shown}");
    if is_root {
        assert!(shown.contains("the disk is full, writes are refused"), "{shown}");
        assert!(shown.contains("writes are taken again after"), "{shown}");
    } else {
        skipped("root", "the demonstration's full disk needs a mount");
        assert!(shown.contains("SKIPPED: a small disk"), "{shown}");
    }
    let left: Vec<_> = std::fs::read_dir(&directory).unwrap().collect();
    assert!(left.is_empty(), "left behind: {left:?}");
}
