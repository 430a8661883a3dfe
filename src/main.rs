//! The `tskv` program: the command line of the library.

fn main() -> std::process::ExitCode {
    tskv::cli::main()
}
