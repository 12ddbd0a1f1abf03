//! The program; all of it is the library.
#![cfg_attr(target_os = "none", no_std, no_main)]

nexus_rt::main!(keystored::run);
