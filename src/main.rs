//! The switch: parse the command line, run the verb, exit with its code.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    yumen::cli::main().into()
}
