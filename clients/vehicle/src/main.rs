//! The vehicle client as a program: JSON lines on standard input become positions and events, and what the gateway says
//! becomes JSON lines on standard output. For vehicles whose own software is in another language, and for tests.
#![forbid(unsafe_code)]

mod program;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    program::main(program::cli::Cli::parse())
}
