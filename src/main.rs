//! The one binary: `barnabas TOOL ...`, where TOOL is a line of the table in `cli`. The scripts in `bin/` call it so.

use std::process::ExitCode;

fn main() -> ExitCode {
    barnabas::cli::main(std::env::args().skip(1).collect())
}
