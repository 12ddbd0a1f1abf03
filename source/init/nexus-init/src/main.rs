//! The first process.
#![cfg_attr(target_os = "none", no_std, no_main)]

use core::time::Duration;
use nexus_rt::Environment;

nexus_rt::main!(run);

fn run(environment: &Environment) -> u64 {
    nexus_rt::info!("init: start");
    loop {
        environment.sleep(Duration::from_secs(3600));
    }
}
