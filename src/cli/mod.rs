//! The command line: one file per verb, one exit code for every end.

mod breaker;
mod cache;
mod certs;
mod check;
mod completions;
mod connections;
mod deciding;
mod demo;
mod diff;
mod door;
mod explain;
mod history;
mod key;
mod limits;
mod log_level;
mod openapi;
mod password;
mod pools;
mod reload;
mod routes;
mod run;
mod schema;
mod show;
mod status;
mod table;
mod target;
mod test;
mod upgrade;
mod why;

use std::path::PathBuf;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};

/// How a verb ended (sysexits.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    Fine = 0,
    /// The answer is no: two documents differ, or what was asked for is not there.
    No = 1,
    Usage = 64,
    FileMissing = 66,
    NotRunning = 69,
    Internal = 70,
    CannotBind = 71,
    TakeOverFailed = 75,
    NotPermitted = 77,
    Invalid = 78,
}

impl Exit {
    /// The exit that a code stands for; an unknown one is ours to explain.
    fn of(code: u8) -> Self {
        let all = [
            Self::Fine,
            Self::No,
            Self::Usage,
            Self::FileMissing,
            Self::NotRunning,
            Self::CannotBind,
            Self::TakeOverFailed,
            Self::NotPermitted,
            Self::Invalid,
        ];
        all.into_iter().find(|exit| *exit as u8 == code).unwrap_or(Self::Internal)
    }
}

/// An API gateway that you can trust at the edge.
#[derive(Parser)]
#[command(name = "yumen", version, disable_help_subcommand = true, max_term_width = 100)]
struct Yumen {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Serve: read the document, listen, forward, reload when the file changes.
    Run(run::Options),
    /// Try it: two small origins and a gateway before them, with the curl lines to type.
    Demo(demo::Options),
    /// Say everything that is wrong with a document, with its place, and change nothing.
    Check(check::Options),
    /// Run the tests that stand in a document, without sending anything; exit 78 where one fails.
    Test(test::Options),
    /// Say where a request would go and why, without sending it.
    Explain(explain::Options),
    /// Print every effective value and where it came from.
    Show(show::Options),
    /// Say what differs in effect between two documents; exit 0 where nothing does, 1 where something does.
    Diff(diff::Options),
    /// Print the JSON schema of the document.
    Schema,
    /// Print one `OpenAPI` document of all routes that have one, as clients see them.
    Openapi(openapi::Options),
    /// Ask the running gateway to read its document again; with `--wait` the exit code is the verdict.
    Reload(reload::Options),
    /// Hand the running gateway over to a new process, without losing a request; the exit code is the verdict.
    Upgrade(upgrade::Options),
    /// Print what served before: the last generations, who asked for them, and what they changed.
    History(history::Options),
    /// Bring back what served before, until its files change; the exit code is the verdict.
    Rollback(history::Back),
    /// Print what runs, whether it is what lies on disk, and what is held by hand.
    Status(door::View),
    /// Print which requests the running gateway takes, and where each route leads.
    Routes(door::View),
    /// Print the certificates that the running gateway shows, and when they end.
    Certs(door::View),
    /// Print who is connected to the running gateway, and how it is connected to its targets.
    Connections(door::View),
    /// Print how the limits of the running gateway are used.
    Limits(limits::Options),
    /// Print how the pools of the running gateway are, and who of their targets takes requests.
    Pools(pools::Options),
    /// Say why a request was refused or failed, by its id; without one, list the last of them.
    Why(why::Options),
    /// Hold the breakers of a pool open or closed for a while, or let them decide again.
    Breaker(breaker::Options),
    /// Drain a target or give it another weight for a while, or let go of it.
    Target(target::Options),
    /// Purge answers that the running gateway keeps.
    Cache {
        /// What to do.
        #[command(subcommand)]
        deed: cache::Deed,
    },
    /// Let the running gateway say more or less of itself for a while.
    LogLevel(log_level::Options),
    /// Make keys for consumers.
    Key {
        /// What to do.
        #[command(subcommand)]
        deed: key::Deed,
    },
    /// Ask for a password and print the line with its hash for the file of a `basic`.
    Password {
        /// The name of the user.
        name: String,
    },
    /// Print a completion script for a shell.
    Completions {
        /// The shell to complete in.
        shell: clap_complete::Shell,
    },
    /// Print the manual page.
    Man,
}

/// Which document.
#[derive(Args, Clone, Debug)]
pub struct Document {
    /// The document.
    #[arg(short, long, value_name = "FILE", env = "YUMEN_CONFIG", default_value = "/etc/yumen/yumen.yaml")]
    pub config: PathBuf,
}

/// For whom to print.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Human,
    Json,
}

/// How what the running gateway says is printed.
#[derive(Args, Clone, Copy, Debug)]
pub struct Output {
    /// For people, or for programs.
    #[arg(short, long, alias = "format", value_enum, default_value_t = Format::Human)]
    output: Format,
}

/// Runs what the command line asks for and returns the exit code of the process.
pub fn main() -> u8 {
    let exit = match Yumen::try_parse() {
        Ok(yumen) => yumen.verb.run(),
        Err(help) => {
            let _ = help.print();
            if help.use_stderr() { Exit::Usage } else { Exit::Fine }
        }
    };
    exit as u8
}

impl Verb {
    fn run(self) -> Exit {
        match self {
            Self::Run(options) => run::run(&options),
            Self::Demo(options) => demo::run(&options),
            Self::Check(options) => check::run(&options),
            Self::Test(options) => test::run(&options),
            Self::Explain(options) => explain::run(&options),
            Self::Show(options) => show::run(&options),
            Self::Diff(options) => diff::run(&options),
            Self::Schema => schema::run(),
            Self::Openapi(options) => openapi::run(&options),
            Self::Reload(options) => reload::run(&options),
            Self::Upgrade(options) => upgrade::run(&options),
            Self::History(options) => history::run(&options),
            Self::Rollback(options) => history::roll_back(&options),
            Self::Status(options) => status::run(&options),
            Self::Routes(options) => routes::run(&options),
            Self::Certs(options) => certs::run(&options),
            Self::Connections(options) => connections::run(&options),
            Self::Target(options) => target::run(&options),
            Self::Cache { deed } => cache::run(&deed),
            Self::LogLevel(options) => log_level::run(&options),
            Self::Limits(options) => limits::run(&options),
            Self::Pools(options) => pools::run(&options),
            Self::Why(options) => why::run(&options),
            Self::Breaker(options) => breaker::run(&options),
            Self::Key { deed } => key::run(&deed),
            Self::Password { name } => password::run(&name),
            Self::Completions { shell } => completions::script(shell, &mut Yumen::command()),
            Self::Man => completions::manual(Yumen::command()),
        }
    }
}

/// Says one sentence on stderr and ends with `exit`.
fn fail(exit: Exit, sentence: &str) -> Exit {
    eprintln!("yumen: {sentence}");
    exit
}

/// Prints to stdout; a reader that has left (`| head`) is no error.
fn print(text: &str) -> Exit {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(why) if why.kind() != std::io::ErrorKind::BrokenPipe => {
            fail(Exit::Internal, &format!("cannot print: {why}"))
        }
        _ => Exit::Fine,
    }
}
