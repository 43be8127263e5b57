//! The switch: parse the command line, run the verb, exit with its code.

#[global_allocator]
static ALLOCATOR: yumen::allocator::Allocator = yumen::allocator::Allocator;

fn main() -> std::process::ExitCode {
    yumen::allocator::settle();
    yumen::cli::main().into()
}
