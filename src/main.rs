//! Starts the command line; everything else is in the library.

fn main() -> std::process::ExitCode {
    aliyun_acr_exporter::cli::main()
}
