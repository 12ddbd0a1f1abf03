//! Links the kernel by its own script when it is built for the machine.

fn main() {
    println!("cargo::rerun-if-changed=neuron.ld");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("none") {
        let folder = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
        println!("cargo::rustc-link-arg-bins=-T{folder}/neuron.ld");
        println!("cargo::rustc-link-arg-bins=--no-relax");
    }
}
