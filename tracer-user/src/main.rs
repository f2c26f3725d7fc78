//! golife
use clap::Parser;
fn main() {
    match golife::cli::Cli::parse().command {
        golife::cli::Command::Doctor => {
            golife::doctor::run(&mut anstream::stdout()).unwrap();
        }
        golife::cli::Command::SelftestTarget => golife::selftest::run_target().unwrap(),
        _ => {}
    }
}
