//! Decisions that the kernel takes itself and writes into its ring as lines of `key=value`.

/// How such a line begins.
const MARK: &str = "QOS-AUDIT ";

/// A decision of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelDecision<'a> {
    /// The service id of who asked.
    pub subject: u64,
    /// Whether it was allowed.
    pub is_allowed: bool,
    /// What was asked for.
    pub action: &'static str,
    /// Whom it was asked for: a process's number.
    pub target: &'a str,
    /// Why it was decided so.
    pub reason: &'a str,
}

/// The decision that a line of the kernel tells of, if it does.
pub fn decision(line: &str) -> Option<KernelDecision<'_>> {
    let words = line.strip_prefix(MARK)?;
    let value = |key: &str| {
        let mut pairs = words.split_ascii_whitespace().filter_map(|word| word.split_once('='));
        pairs.find(|(name, _)| *name == key).map(|(_, value)| value)
    };
    let subject = u64::from_str_radix(value("caller_sid")?.strip_prefix("0x")?, 16).ok()?;
    let is_allowed = value("decision")? == "allow";
    let (target, reason) = (value("target_pid")?, value("reason")?);
    Some(KernelDecision { subject, is_allowed, action: "thread.qos", target, reason })
}
