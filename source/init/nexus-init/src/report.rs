//! How a process ended, in words and in the lines of a fault report.

use crate::program::Program;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;
use nexus_abi::records::{FaultCause, FaultReport, ProcessStatus, STATE_EXITED, STATE_FAULTED};
use nexus_abi::{Rights, records};

const REGISTER_NAMES: [&str; 31] = [
    "ra", "sp", "gp", "tp", "t0", "t1", "t2", "s0", "s1", "a0", "a1", "a2", "a3", "a4", "a5", "a6", "a7",
    "s2", "s3", "s4", "s5", "s6", "s7", "s8", "s9", "s10", "s11", "t3", "t4", "t5", "t6",
];
/// Registers in one line of a report.
const REGISTERS_A_LINE: usize = 4;

/// How a process ended, in a few words.
pub fn ending(status: &ProcessStatus, report: Option<&FaultReport>) -> String {
    match (status.state, report) {
        (STATE_FAULTED, Some(report)) => {
            format!("{} at {:#x}, pc {:#x}", cause(report), report.address, report.program_counter)
        }
        (STATE_FAULTED, None) => String::from("a fault"),
        (STATE_EXITED, _) => format!("exit code {}", status.exit_code),
        (records::STATE_KILLED, _) if status.exit_code == crate::KILLED_ON_REQUEST => {
            "killed on request".into()
        }
        (records::STATE_KILLED, _) if status.exit_code == crate::KILLED_AS_LATE => {
            "killed: not ready in time".into()
        }
        (records::STATE_KILLED, _) if status.exit_code == crate::KILLED_AS_SILENT => {
            "killed: no sign of life".into()
        }
        _ => format!("killed with {:#x}", status.exit_code),
    }
}

/// The lines of a fault report: cause, address, region, registers, backtrace with offsets into the ELF file's
/// memory. Each begins with `fault: <service> `.
pub fn fault_lines(service: &str, report: &FaultReport, program: Option<&Program<'_>>) -> Vec<String> {
    let mut lines = Vec::new();
    let place = |address: u64| place(service, program, address);
    lines.push(format!(
        "fault: {service} (pid {}) {} at {:#x}, pc {}",
        report.process_id,
        cause(report),
        report.address,
        place(report.program_counter)
    ));
    lines.push(format!("fault: {service} region {}", region(report)));
    for (index, values) in report.registers.chunks(REGISTERS_A_LINE).enumerate() {
        let mut line = format!("fault: {service}");
        let names = REGISTER_NAMES.iter().skip(index * REGISTERS_A_LINE);
        for (name, value) in names.zip(values) {
            // Writing to a string cannot fail.
            let _ = write!(line, " {name}={value:016x}");
        }
        lines.push(line);
    }
    let frames = report.backtrace.get(..report.backtrace_length as usize).unwrap_or(&report.backtrace);
    let mut number = 0;
    for same in frames.chunk_by(|one, next| one == next) {
        let Some(&frame) = same.first() else { continue };
        // A recursion that overflowed its stack shows one frame over and over.
        let times = if same.len() > 1 { format!(", {} times", same.len()) } else { String::new() };
        lines.push(format!("fault: {service} #{number} {}{times}", place(frame)));
        number += same.len();
    }
    lines
}

fn cause(report: &FaultReport) -> String {
    match FaultCause::from_number(report.cause) {
        Some(FaultCause::Other) => format!("exception {}", report.detail),
        Some(cause) => cause.name().into(),
        None => format!("unknown cause {}", report.cause),
    }
}

/// An address, and where it lies in the program when it is code.
fn place(service: &str, program: Option<&Program<'_>>, address: u64) -> String {
    let code = program.filter(|program| {
        program.segment_at(address).is_some_and(|segment| segment.protection.contains(Rights::EXECUTE))
    });
    match code {
        Some(program) => format!("{address:#x} ({service}+{:#x})", address - program.base()),
        None => format!("{address:#x}"),
    }
}

fn region(report: &FaultReport) -> String {
    if report.region_bytes == 0 {
        return "none at or above the address".into();
    }
    let rights = Rights::from_bits_truncate(report.region_protection);
    let letter = |right, letter| if rights.contains(right) { letter } else { '-' };
    let end = report.region_base.saturating_add(report.region_bytes);
    let inside = (report.region_base..end).contains(&report.address);
    format!(
        "{:#x}..{end:#x} {}{}{} {}",
        report.region_base,
        letter(Rights::READ, 'r'),
        letter(Rights::WRITE, 'w'),
        letter(Rights::EXECUTE, 'x'),
        if inside { "holds the address" } else { "is the next above the address" }
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> FaultReport {
        let mut report = FaultReport { process_id: 9, cause: 2, address: 0x2000, ..FaultReport::default() };
        report.program_counter = 0x11000;
        report.region_base = 0x4000;
        report.region_bytes = 0x1000;
        report.region_protection = (Rights::READ | Rights::WRITE).bits();
        report.backtrace[0] = 0x11010;
        report.backtrace_length = 1;
        report
    }

    #[test]
    fn a_report_names_cause_address_region_registers_and_frames() {
        let lines = fault_lines("faulty", &report(), None);
        assert_eq!(lines[0], "fault: faulty (pid 9) write fault at 0x2000, pc 0x11000");
        assert_eq!(lines[1], "fault: faulty region 0x4000..0x5000 rw- is the next above the address");
        assert_eq!(lines.len(), 2 + 8 + 1);
        assert!(lines[9].contains("t6="));
        assert_eq!(lines[10], "fault: faulty #0 0x11010");
    }

    #[test]
    fn a_report_that_claims_too_many_frames_is_bounded_by_its_room() {
        let mut wrong = report();
        wrong.backtrace_length = u32::MAX;
        let lines = fault_lines("faulty", &wrong, None);
        assert_eq!(lines.len(), 2 + 8 + 2);
        assert_eq!(lines[11], "fault: faulty #1 0x0, 31 times");
    }

    #[test]
    fn endings_are_told_apart() {
        let status = |state, exit_code| ProcessStatus { state, exit_code, ..ProcessStatus::default() };
        assert_eq!(ending(&status(STATE_EXITED, 3), None), "exit code 3");
        assert_eq!(ending(&status(STATE_FAULTED, 0), Some(&report())), "write fault at 0x2000, pc 0x11000");
        let killed = status(records::STATE_KILLED, crate::KILLED_ON_REQUEST);
        assert_eq!(ending(&killed, None), "killed on request");
    }
}
