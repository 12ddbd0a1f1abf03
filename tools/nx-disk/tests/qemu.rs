//! QEMU as the client: its own block layer writes, flushes and reads through the server, as a machine's disk does.

use nx_disk::{Cut, Disk, Ended, Flush, Plan, serve};
use std::io::Write;
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};

const LENGTH: usize = 1 << 20;

/// Has QEMU do these commands of `qemu-io` on the disk; what it says, or `None` where there is no QEMU.
fn qemu(commands: &[&str], plan: Plan) -> Option<(String, Ended, Vec<u8>)> {
    let program = "qemu-system-riscv64";
    if Command::new(program).arg("--version").stdout(Stdio::null()).status().is_err() {
        println!("no {program} here: nothing was tried");
        return None;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let (image, socket) = (folder.path().join("image"), folder.path().join("socket"));
    std::fs::write(&image, vec![0; LENGTH]).expect("an image");
    let mut disk = Disk::open(&image, 4096, Flush::Honest).expect("the image opens");
    let listener = UnixListener::bind(&socket).expect("a socket");
    let (said, ended) = std::thread::scope(|scope| {
        let server = scope.spawn(|| serve(&listener, &mut disk, &plan).expect("the server"));
        let blockdev = format!("driver=nbd,node-name=disk,server.type=unix,server.path={}", socket.display());
        let mut machine = Command::new("timeout")
            .args(["60", program, "-machine", "none", "-nodefaults", "-display", "none"])
            .args(["-monitor", "stdio", "-blockdev", &blockdev])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("QEMU starts");
        let mut monitor = machine.stdin.take().expect("a pipe");
        for command in commands {
            writeln!(monitor, "qemu-io disk \"{command}\"").expect("QEMU listens");
        }
        writeln!(monitor, "quit").expect("QEMU listens");
        let output = machine.wait_with_output().expect("QEMU ends");
        (String::from_utf8_lossy(&output.stdout).into_owned(), server.join().expect("no panic"))
    });
    Some((said, ended, std::fs::read(&image).expect("the image")))
}

#[test]
fn qemu_writes_flushes_and_reads_back() {
    let commands = ["write -P 0xa5 4096 64k", "flush", "read -P 0xa5 4096 64k", "write -P 0x11 0 512"];
    let Some((said, ended, image)) = qemu(&commands, Plan { clients: Some(1), ..Plan::default() }) else {
        return;
    };
    assert!(said.contains("wrote 65536/65536") && said.contains("read 65536/65536"), "{said}");
    assert!(!said.contains("verification failed"), "{said}");
    assert_eq!(ended, Ended::ClientsGone);
    assert!(image[4096..4096 + 65_536].iter().all(|byte| *byte == 0xA5), "what was flushed is there");
}

#[test]
fn a_cut_under_qemu_keeps_what_was_flushed() {
    let commands = ["write -P 0xa5 4096 64k", "flush", "write -P 0x5a 128k 64k", "flush"];
    let plan = Plan { cut: Some(Cut::AtFlush(2)), seed: 3, clients: Some(1) };
    let Some((said, ended, image)) = qemu(&commands, plan) else { return };
    assert!(matches!(ended, Ended::Cut(_)), "{ended:?}: {said}");
    assert!(image[4096..4096 + 65_536].iter().all(|byte| *byte == 0xA5), "what was flushed is there");
    let unflushed = &image[128 << 10..192 << 10];
    assert!(unflushed.iter().all(|byte| [0, 0x5A].contains(byte)), "old or new");
}
