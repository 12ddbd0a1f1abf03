//! `docs/abi.md`, from the tables of `nexus-abi`.

use crate::project::Project;
use anyhow::{Context, Result};
use nexus_abi::calls::{Argument, SYSTEM_CALLS, Specification};
use nexus_abi::capability::Rights;
use nexus_abi::{Error, Kind};
use std::fmt::Write;

/// The file whose head draws the registers of a message.
const MESSAGE_FILE: &str = "source/libs/nexus-abi/src/message.rs";

const OPENING: &str = "\
# The contract between kernel and programs

Generated from `source/libs/nexus-abi` by `nx abi`; it cannot say anything else than the code.

A system call has its number in `a7` and its arguments in `a0` to `a6`. It comes back with 0 or the number
of an error in `a0` and its value in `a1`. What is not listed under a call cannot come from it.
";

pub(super) fn page(project: &Project) -> Result<String> {
    let mut page = String::from(OPENING);
    overview(&mut page)?;
    let registers = head_of(&project.read(MESSAGE_FILE)?);
    write!(page, "\n## Messages\n\n{}\n", registers.with_context(|| format!("{MESSAGE_FILE} has no head"))?)?;
    page.push_str("\n## The calls one by one\n");
    for call in SYSTEM_CALLS {
        section(&mut page, call)?;
    }
    errors(&mut page)?;
    capabilities(&mut page)?;
    Ok(page)
}

fn overview(page: &mut String) -> Result<()> {
    page.push_str("\n## System calls\n\n| number | call | meaning |\n| --- | --- | --- |\n");
    for call in SYSTEM_CALLS {
        let name = call.name;
        writeln!(page, "| {} | [`{name}`](#{name}) | {} |", call.call as u64, call.meaning.trim())?;
    }
    Ok(())
}

fn section(page: &mut String, call: &Specification) -> Result<()> {
    write!(page, "\n### {}\n\n{}", call.name, call.meaning.trim())?;
    if call.message {
        page.push_str(" It uses the registers of a message.");
    }
    writeln!(page, "\n\nNumber {}. Value: {}.", call.call as u64, call.value)?;
    if !call.arguments.is_empty() {
        page.push_str("\n| argument | form |\n| --- | --- |\n");
        for (name, argument) in call.arguments {
            writeln!(page, "| `{name}` | {} |", form(*argument))?;
        }
    }
    if !call.errors.is_empty() {
        page.push_str("\n| error | cause |\n| --- | --- |\n");
        for (error, cause) in call.errors {
            writeln!(page, "| {} | {cause} |", error.name())?;
        }
    }
    Ok(())
}

fn form(argument: Argument) -> String {
    match argument {
        Argument::Capability(kind, rights) => format!("{} {}", kind.name(), needed(rights)),
        Argument::ProcessOrSelf(rights) => format!("Process {}, or 0 for the caller's own", needed(rights)),
        Argument::ThreadOrSelf(rights) => format!("Thread {}, or 0 for the calling thread", needed(rights)),
        Argument::QosAuthorityOrNone => "QosAuthority with MANAGE, or 0 for none".to_string(),
        Argument::AnyCapability => "a capability of any kind".to_string(),
        Argument::In(bytes) => format!("address of {bytes} readable bytes"),
        Argument::Out(bytes) => format!("address of {bytes} writable bytes"),
        Argument::InBytes => "address of readable bytes; the next argument is their number".to_string(),
        Argument::OutBytes => "address of writable bytes; the next argument is their number".to_string(),
        Argument::Bytes => "a number of bytes".to_string(),
        Argument::Address => "an address, a multiple of the page size".to_string(),
        Argument::RightsBits => "bits of rights".to_string(),
        Argument::Deadline => "a time in ticks of the clock, or FOREVER".to_string(),
        Argument::Number => "a number".to_string(),
    }
}

fn needed(rights: Rights) -> String {
    if rights.is_empty() { "capability".to_string() } else { format!("with {}", names(rights)) }
}

fn names(rights: Rights) -> String {
    rights.iter_names().map(|(name, _)| name).collect::<Vec<_>>().join(", ")
}

fn errors(page: &mut String) -> Result<()> {
    page.push_str("\n## Errors\n\n| number | error | meaning |\n| --- | --- | --- |\n");
    for error in Error::ALL {
        writeln!(page, "| {} | {} | {} |", *error as u8, error.name(), error.meaning().trim())?;
    }
    Ok(())
}

fn capabilities(page: &mut String) -> Result<()> {
    page.push_str(
        "\n## Capabilities\n\n| number | kind | what it is | rights |\n| --- | --- | --- | --- |\n",
    );
    for kind in Kind::ALL {
        let rights = names(kind.rights());
        writeln!(page, "| {} | {} | {} | {rights} |", *kind as u8, kind.name(), kind.meaning().trim())?;
    }
    page.push_str("\n| right | bit |\n| --- | --- |\n");
    for (name, right) in Rights::all().iter_names() {
        writeln!(page, "| {name} | {} |", right.bits().trailing_zeros())?;
    }
    Ok(())
}

/// The `//!` lines that a file begins with, as text. Links to items become plain code.
fn head_of(source: &str) -> Option<String> {
    let lines: Vec<&str> = source.lines().map_while(|line| line.strip_prefix("//!")).collect();
    let text = lines.iter().map(|line| line.strip_prefix(' ').unwrap_or(line)).collect::<Vec<_>>().join("\n");
    (!text.is_empty()).then(|| text.replace("[`", "`").replace("`]", "`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_has_a_section_with_its_arguments_and_errors() {
        let mut page = String::new();
        let call = SYSTEM_CALLS.iter().find(|call| call.name == "cap_query").unwrap();
        section(&mut page, call).unwrap();
        assert!(page.contains("### cap_query"));
        assert!(page.contains("| `capability` | a capability of any kind |"));
        assert!(page.contains("| Fault | `info` is not in writable memory of the caller |"));
    }

    #[test]
    fn the_head_of_a_file_is_its_leading_doc_lines() {
        assert_eq!(head_of("//! One.\n//!\n//! [`Two`].\n\nuse x;\n//! no").unwrap(), "One.\n\n`Two`.");
        assert_eq!(head_of("use x;"), None);
    }
}
