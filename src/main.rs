//! The `tskv` program: the command line of the library.

/// In builds for tests, memory that was given back is watched for writes.
#[cfg(all(any(debug_assertions, tskv_teeth), not(tskv_sanitizer)))]
#[global_allocator]
static ALLOCATOR: tskv::buffer::quarantine::CanaryAllocator = tskv::buffer::quarantine::CanaryAllocator;

fn main() -> std::process::ExitCode {
    tskv::cli::main()
}
