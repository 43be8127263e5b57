//! What shells and `man` are told, generated from the command line's own description.

use super::Exit;

/// Prints the completion script of `shell`.
pub(super) fn script(shell: clap_complete::Shell, command: &mut clap::Command) -> Exit {
    let mut text = Vec::new();
    clap_complete::generate(shell, command, "yumen", &mut text);
    super::print(&String::from_utf8_lossy(&text))
}

/// Prints the manual page: the program, then each verb.
pub(super) fn manual(command: clap::Command) -> Exit {
    let mut text = Vec::new();
    let verbs: Vec<_> = command.get_subcommands().cloned().collect();
    let mut pages = vec![command];
    pages.extend(verbs.into_iter().map(|verb| {
        let name: &'static str = format!("yumen-{}", verb.get_name()).leak();
        verb.name(name)
    }));
    for page in pages {
        if let Err(why) = clap_mangen::Man::new(page).render(&mut text) {
            return super::fail(Exit::Internal, &format!("cannot write the manual: {why}"));
        }
    }
    super::print(&String::from_utf8_lossy(&text))
}
