//! x
use nexus_sim::image::build;
use nexus_sim::system::{Setup, System, Turn};

#[test]
fn boots() {
    let recipe =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../recipes/system.toml")).unwrap();
    let built = build(&recipe, "recipes/system.toml").unwrap();
    for round in 0..3 {
        let began = std::time::Instant::now();
        let mut system = System::boot(&built, &Setup::default()).unwrap();
        let mut n = 0;
        let mut typed = false;
        for _ in 0..200000 {
            n += 1;
            match system.step().unwrap() {
                Turn::Went => {}
                Turn::Sleeps(Some(_)) => system.sleep(),
            Turn::Sleeps(None) if !typed => {
                    println!("idle at {} {}", system.now(), n);
                    typed = true;
                    system.type_text("ping\rps\r");
                }
                other => {
                    println!("{other:?} after {n} at {}", system.now());
                    break;
                }
            }
        }
        if round == 0 {
            println!("{}", system.console());
        }
        println!("{n} {:?}", began.elapsed());
        drop(system);
        println!("{n} {:?}", began.elapsed());
    }
}
