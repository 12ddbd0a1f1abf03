//! The one table of system calls: number, name, arguments, rights, errors with their causes. Long because
//! it is one table.
//!
//! The kernel dispatches by [`SystemCall`], the functions of [`crate::system`] take their numbers from
//! it, `docs/abi.md` is printed from [`SYSTEM_CALLS`], and the fuzzer draws its grammar from there.
//! The number goes in `a7` and the arguments in `a0` to `a6`; `a0` comes back as 0 or the number of an
//! [`Error`], `a1` as the value. Calls marked `message` use the registers of [`crate::message`].

use crate::capability::{Kind, Rights};
use crate::error::Error;

/// What the fuzzer, and a reader, must know of an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Argument {
    /// A capability of this kind with these rights.
    Capability(Kind, Rights),
    /// As `Capability`, or 0 for the caller's own process.
    ProcessOrSelf(Rights),
    /// A thread's capability with these rights, or 0 for the calling thread.
    ThreadOrSelf(Rights),
    /// A `QosAuthority`, or 0 for none.
    QosAuthorityOrNone,
    /// A capability of any kind.
    AnyCapability,
    /// The caller's address of this many readable bytes.
    In(usize),
    /// The caller's address of this many writable bytes.
    Out(usize),
    /// The caller's address of readable bytes; the next argument is their number.
    InBytes,
    /// The caller's address of writable bytes; the next argument is their number.
    OutBytes,
    /// A number of bytes.
    Bytes,
    /// An address in a process's memory, a multiple of the page size.
    Address,
    /// Bits of [`Rights`].
    RightsBits,
    /// A time in ticks of the clock, or [`crate::limits::FOREVER`].
    Deadline,
    /// Any other number.
    Number,
}

/// One system call.
#[derive(Debug)]
pub struct Specification {
    /// The call.
    pub call: SystemCall,
    /// Its name, `object_verb`.
    pub name: &'static str,
    /// One line of meaning.
    pub meaning: &'static str,
    /// Whether it uses the registers of [`crate::message`].
    pub message: bool,
    /// Name and form of each argument, in the order of the registers.
    pub arguments: &'static [(&'static str, Argument)],
    /// What `a1` holds on success.
    pub value: &'static str,
    /// Every error that it can answer, and what causes it.
    pub errors: &'static [(Error, &'static str)],
}

macro_rules! system_calls {
    ($( $(#[doc = $doc:literal])+ $variant:ident = $number:literal, $name:literal $(, $message:ident)?;
        ($( $argument:literal: $form:expr ),* $(,)?) -> $value:literal;
        { $( $error:ident: $cause:literal ),* $(,)? } )+) => {
        /// The number of each system call.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u64)]
        pub enum SystemCall {
            $( $(#[doc = $doc])+ $variant = $number, )+
        }

        impl SystemCall {
            /// The call with this number.
            #[inline]
            pub const fn from_number(number: u64) -> Option<SystemCall> {
                match number {
                    $( $number => Some(SystemCall::$variant), )+
                    _ => None,
                }
            }
        }

        /// The table, in the order of the numbers.
        pub const SYSTEM_CALLS: &[Specification] = &[
            $( Specification {
                call: SystemCall::$variant,
                name: $name,
                meaning: concat!($($doc,)+),
                message: system_calls!(@message $($message)?),
                arguments: &[$( ($argument, $form) ),*],
                value: $value,
                errors: &[$( (Error::$error, $cause) ),*],
            }, )+
        ];
    };
    (@message message) => { true };
    (@message) => { false };
}

use Argument::*;

system_calls! {
    /// Sends a message to an endpoint and waits for the one answer.
    Call = 1, "call", message;
    ("endpoint": Capability(Kind::Endpoint, Rights::CALL), "header": Number, "reply": Number,
     "buffers": Number) -> "header of the answer";
    {
        InvalidHandle: "`endpoint`, a sent capability or the Reply of a lease names no entry",
        StaleHandle: "`endpoint`, a sent capability or the Reply of a lease was closed or moved",
        WrongKind: "`endpoint` is not an endpoint, or a lease names something else than a Reply",
        NotPermitted: "the endpoint capability lacks CALL, a sent one lacks a right that is asked for, or a lease is to allow more than the one that it lends on",
        InvalidArgument: "the header names more capabilities or leases than a message can carry, an unknown mode is asked for, one capability is sent twice, a Reply is copied, or a lease has other rights than READ and WRITE or lends on what was not lent",
        Fault: "the buffers, the payload or a lease are not in memory that the caller can have",
        OutOfRange: "a lease reaches beyond the one that it lends on",
        TooLarge: "the payload or the number of capabilities exceeds what the endpoint accepts",
        Busy: "a sent capability is moved through which other calls wait to be received",
        WouldDeadlock: "the endpoint's rank is not strictly below the caller's",
        Sealed: "the endpoint was sealed",
        Revoked: "the capability, or one that is sent, was or is being revoked before the call was received",
        NoSlots: "a sent capability that is copied derives from as many as one may",
        TimedOut: "the deadline passed before the answer came",
        PeerGone: "the receiver died or dropped the call, the endpoint was destroyed meanwhile, the badged session is of an older generation, or the call that a lease lends on has ended",
    }
    /// Waits for a call, a post, bits of the bound notification or the end of a badge.
    Receive = 2, "recv", message;
    ("endpoint": Capability(Kind::Endpoint, Rights::RECEIVE), "header": Number, "reply": Number,
     "buffers": Number) -> "header of what came";
    {
        InvalidHandle: "`endpoint` names no entry",
        StaleHandle: "`endpoint` was closed or its object is gone",
        WrongKind: "`endpoint` is not an endpoint",
        NotPermitted: "the capability lacks RECEIVE",
        WouldDeadlock: "the caller's rank is above the endpoint's",
        BufferTooSmall: "the buffers are smaller than what the endpoint may deliver",
        NoSlots: "the caller's table has no room for the capabilities that the endpoint may deliver, or for the Reply of a call",
        Fault: "the buffers are not in writable memory of the caller",
        Sealed: "the endpoint was sealed",
        TimedOut: "the deadline passed and nothing had come",
        PeerGone: "the endpoint was destroyed meanwhile",
    }
    /// Answers a call that was received.
    Reply = 3, "reply", message;
    ("unused": Number, "header": Number, "reply": Capability(Kind::Reply, Rights::empty()),
     "buffers": Number) -> "0";
    {
        InvalidHandle: "`reply` or a sent capability names no entry",
        StaleHandle: "`reply` was used, or a sent capability was closed or moved",
        WrongKind: "`reply` is not a Reply",
        NotPermitted: "a sent capability lacks a right that is asked for",
        InvalidArgument: "the header names leases or more capabilities than a message can carry, an unknown mode is asked for, one capability is sent twice, or a Reply is copied or sent with itself",
        Busy: "a sent capability is moved through which other calls wait to be received",
        WouldDeadlock: "a Reply is sent to a process whose rank is not strictly below that of the Reply's caller",
        Fault: "the buffers or the payload are not in readable memory of the caller",
        TooLarge: "the answer does not fit what the caller gave room for; the call stays open",
        NoSlots: "the caller's table has no room for the capabilities, or a copied one derives from as many as one may; the call stays open",
        Revoked: "a sent capability that is copied is being revoked; the call stays open",
        PeerGone: "the caller is gone or gave up; the capabilities stay with the sender",
    }
    /// Answers a call and waits for the next arrival, as one step.
    ReplyReceive = 4, "reply_recv", message;
    ("endpoint": Capability(Kind::Endpoint, Rights::RECEIVE), "header": Number,
     "reply": Capability(Kind::Reply, Rights::empty()), "buffers": Number) -> "header of what came";
    {
        InvalidHandle: "`endpoint`, `reply` or a sent capability names no entry",
        StaleHandle: "`reply` was used, or another handle was closed or moved",
        WrongKind: "`endpoint` is not an endpoint or `reply` is not a Reply",
        NotPermitted: "a capability lacks a right that is asked for",
        InvalidArgument: "the header names leases or more capabilities than a message can carry, an unknown mode is asked for, one capability is sent twice, or a Reply is copied or sent with itself",
        Busy: "a sent capability is moved through which other calls wait to be received",
        WouldDeadlock: "the caller's rank is above the endpoint's, or a Reply is sent to a process whose rank is not strictly below that of the Reply's caller",
        BufferTooSmall: "the buffers are smaller than what the endpoint may deliver",
        NoSlots: "a table has no room for the capabilities, or a copied one derives from as many as one may",
        Revoked: "a sent capability that is copied is being revoked; the call stays open",
        TooLarge: "the answer does not fit what the caller gave room for; the call stays open",
        Fault: "the buffers or the payload are not in the caller's memory",
        Sealed: "the endpoint was sealed; the answer was given",
        TimedOut: "the deadline passed and nothing had come; the answer was given",
        PeerGone: "the caller is gone or gave up, nothing was received, and the capabilities stay with the sender; or the endpoint was destroyed meanwhile",
    }
    /// Leaves a message of register size at an endpoint, without waiting for anybody.
    Post = 5, "post", message;
    ("endpoint": Capability(Kind::Endpoint, Rights::POST), "header": Number) -> "0";
    {
        InvalidHandle: "`endpoint` names no entry",
        StaleHandle: "`endpoint` was closed or its object is gone",
        WrongKind: "`endpoint` is not an endpoint",
        NotPermitted: "the capability lacks POST",
        InvalidArgument: "the header names leases: only a call lends",
        TooLarge: "the payload exceeds 64 bytes or carries capabilities",
        NoCredit: "as many posts of this capability as its credit allows wait to be received",
        NoMemory: "the caller's quota has no page for a waiting post",
        Sealed: "the endpoint was sealed",
        PeerGone: "the badged session is of an older generation",
    }
    /// Creates an endpoint whose receiver must not rank above `rank`.
    EndpointCreate = 6, "endpoint_create";
    ("rank": Number, "max_bytes": Bytes, "max_caps": Number) -> "the endpoint, with every right";
    {
        InvalidArgument: "`rank` is above the caller's or the highest rank, or `max_caps` is above 4",
        TooLarge: "`max_bytes` is above 64 KiB",
        NoMemory: "the caller's quota is used up",
        NoSlots: "the caller's table is full",
    }
    /// Makes a copy of an endpoint capability that carries a badge; its end is reported to the receiver.
    EndpointMint = 7, "endpoint_mint";
    ("endpoint": Capability(Kind::Endpoint, Rights::MINT), "badge": Number, "rights": RightsBits)
        -> "the badged capability";
    {
        InvalidHandle: "`endpoint` names no entry",
        StaleHandle: "`endpoint` was closed or its object is gone",
        WrongKind: "`endpoint` is not an endpoint",
        NotPermitted: "the capability lacks MINT or one of `rights`",
        InvalidArgument: "`badge` is 0, or the capability is badged already, or `rights` holds more than CALL and POST",
        NoMemory: "the caller's quota is used up",
        NoSlots: "the caller's table is full, or the capability derives from as many as one may",
        Revoked: "the capability is being revoked",
    }
    /// Ends an endpoint for good: every waiting and every later call fails at once.
    EndpointSeal = 8, "endpoint_seal";
    ("endpoint": Capability(Kind::Endpoint, Rights::MANAGE)) -> "0";
    {
        InvalidHandle: "`endpoint` names no entry",
        StaleHandle: "`endpoint` was closed or its object is gone",
        WrongKind: "`endpoint` is not an endpoint",
        NotPermitted: "the capability lacks MANAGE",
    }
    /// Creates a notification.
    NotificationCreate = 9, "notification_create";
    () -> "the notification, with every right";
    {
        NoMemory: "the caller's quota is used up",
        NoSlots: "the caller's table is full",
    }
    /// Sets bits and wakes who waits for one of them.
    NotificationSignal = 10, "notification_signal";
    ("notification": Capability(Kind::Notification, Rights::SIGNAL), "bits": Number) -> "0";
    {
        InvalidHandle: "`notification` names no entry",
        StaleHandle: "`notification` was closed or its object is gone",
        WrongKind: "`notification` is not a notification",
        NotPermitted: "the capability lacks SIGNAL",
    }
    /// Waits until one of the bits in `mask` is set, takes those that are, and clears them.
    NotificationWait = 11, "notification_wait";
    ("notification": Capability(Kind::Notification, Rights::WAIT), "mask": Number,
     "deadline": Deadline) -> "the bits that were taken";
    {
        InvalidHandle: "`notification` names no entry",
        StaleHandle: "`notification` was closed or its object is gone",
        WrongKind: "`notification` is not a notification",
        NotPermitted: "the capability lacks WAIT",
        InvalidArgument: "`mask` is 0",
        Busy: "another thread waits for it or is bound to it",
        TimedOut: "the deadline passed first",
        PeerGone: "the notification was destroyed meanwhile",
    }
    /// Takes the bits in `mask` that are set, without waiting.
    NotificationPoll = 12, "notification_poll";
    ("notification": Capability(Kind::Notification, Rights::WAIT), "mask": Number) -> "the bits that were taken";
    {
        InvalidHandle: "`notification` names no entry",
        StaleHandle: "`notification` was closed or its object is gone",
        WrongKind: "`notification` is not a notification",
        NotPermitted: "the capability lacks WAIT",
        WouldBlock: "none of them is set",
    }
    /// Binds a notification to the calling thread: its bits end that thread's `recv`. 0 unbinds.
    NotificationBind = 13, "notification_bind";
    ("notification": Capability(Kind::Notification, Rights::WAIT)) -> "0";
    {
        InvalidHandle: "`notification` names no entry",
        StaleHandle: "`notification` was closed or its object is gone",
        WrongKind: "`notification` is not a notification",
        NotPermitted: "the capability lacks WAIT",
        Busy: "another thread waits for it or is bound to it",
    }
    /// Makes a copy of a capability with at most its rights.
    CapDup = 14, "cap_dup";
    ("capability": AnyCapability, "rights": RightsBits) -> "the copy";
    {
        InvalidHandle: "`capability` names no entry",
        StaleHandle: "`capability` was closed or its object is gone",
        NotPermitted: "`rights` holds a right that the capability lacks",
        InvalidArgument: "a Reply cannot be copied",
        NoMemory: "the caller's quota has no page for its table",
        NoSlots: "the caller's table is full, or the capability derives from as many as one may",
        Revoked: "the capability is being revoked",
    }
    /// Puts a copy of a capability into the table of a process that one manages.
    CapTransferTo = 15, "cap_transfer_to";
    ("process": Capability(Kind::Process, Rights::MANAGE), "capability": AnyCapability,
     "rights": RightsBits) -> "the handle in that process";
    {
        InvalidHandle: "`process` or `capability` names no entry",
        StaleHandle: "`process` or `capability` was closed or its object is gone",
        WrongKind: "`process` is not a process",
        NotPermitted: "the process capability lacks MANAGE, or `rights` holds a right that the capability lacks",
        InvalidArgument: "a Reply cannot be copied",
        PeerGone: "the process has ended",
        NoMemory: "that process's quota has no page for its table",
        NoSlots: "that process's table is full, or the capability derives from as many as one may",
        Revoked: "the capability is being revoked",
    }
    /// Tells kind, rights and extent of a capability.
    CapQuery = 16, "cap_query";
    ("capability": AnyCapability, "info": Out(size_of::<crate::records::CapabilityInfo>())) -> "0";
    {
        InvalidHandle: "`capability` names no entry",
        StaleHandle: "`capability` was closed or its object is gone",
        Fault: "`info` is not in writable memory of the caller",
    }
    /// Drops a capability. Dropping a Reply answers its caller with PeerGone.
    CapClose = 17, "cap_close";
    ("capability": AnyCapability) -> "0";
    {
        InvalidHandle: "`capability` names no entry",
        StaleHandle: "`capability` was closed before",
        Busy: "the capability is frozen in a message that waits to be delivered",
    }
    /// Takes back everything that derives from a capability, and unmaps what it mapped.
    CapRevoke = 18, "cap_revoke";
    ("capability": AnyCapability) -> "0";
    {
        InvalidHandle: "`capability` names no entry",
        StaleHandle: "`capability` was closed or its object is gone",
    }
    /// Creates zeroed memory that belongs to a process (0: the caller).
    VmoCreate = 19, "vmo_create";
    ("process": ProcessOrSelf(Rights::MANAGE), "bytes": Bytes) -> "the memory, with every right but PHYSICAL";
    {
        InvalidHandle: "`process` names no entry",
        StaleHandle: "`process` was closed or its object is gone",
        WrongKind: "`process` is not a process",
        NotPermitted: "the process capability lacks MANAGE",
        InvalidArgument: "`bytes` is 0",
        TooLarge: "`bytes` is above the largest memory object",
        PeerGone: "the process has ended",
        NoMemory: "the quota of the process that will own it is used up",
        NoSlots: "the caller's table is full",
    }
    /// Copies bytes out of memory without mapping it.
    VmoRead = 20, "vmo_read";
    ("vmo": Capability(Kind::Vmo, Rights::READ), "offset": Bytes, "to": OutBytes, "bytes": Bytes) -> "0";
    {
        InvalidHandle: "`vmo` names no entry",
        StaleHandle: "`vmo` was closed or its object is gone",
        WrongKind: "`vmo` is not memory",
        NotPermitted: "the capability lacks READ",
        OutOfRange: "the range reaches beyond its end; should it shrink meanwhile, pages before that were copied",
        TooLarge: "`bytes` is above 64 KiB",
        Fault: "`to` is not in writable memory of the caller; pages before it were copied",
    }
    /// Copies bytes into memory without mapping it.
    VmoWrite = 21, "vmo_write";
    ("vmo": Capability(Kind::Vmo, Rights::WRITE), "offset": Bytes, "from": InBytes, "bytes": Bytes) -> "0";
    {
        InvalidHandle: "`vmo` names no entry",
        StaleHandle: "`vmo` was closed or its object is gone",
        WrongKind: "`vmo` is not memory",
        NotPermitted: "the capability lacks WRITE",
        OutOfRange: "the range reaches beyond its end; should it shrink meanwhile, pages before that were copied",
        TooLarge: "`bytes` is above 64 KiB",
        Fault: "`from` is not in readable memory of the caller; pages before it were copied",
    }
    /// Maps memory into a process (0: the caller). `protection` is of READ, WRITE, EXECUTE.
    VmoMap = 22, "vmo_map";
    ("process": ProcessOrSelf(Rights::MAP_INTO), "vmo": Capability(Kind::Vmo, Rights::empty()),
     "address": Address, "offset": Bytes, "bytes": Bytes, "protection": RightsBits) -> "0";
    {
        InvalidHandle: "`process` or `vmo` names no entry",
        StaleHandle: "`process` or `vmo` was closed or its object is gone",
        WrongKind: "`process` is not a process or `vmo` is not memory",
        NotPermitted: "a capability lacks MAP_INTO or one of `protection`",
        InvalidArgument: "`bytes` is 0, or `protection` is empty or holds other rights",
        Unaligned: "`address`, `offset` or `bytes` is not a multiple of the page size",
        OutOfRange: "the range reaches beyond the memory's end or leaves user addresses",
        WriteExecute: "`protection` is writable and executable",
        Overlap: "a page of the range is mapped already",
        Revoked: "the capability is being revoked",
        PeerGone: "the process has ended",
        NoMemory: "the process's quota has no page for its tables",
    }
    /// Removes whole mappings from a process (0: the caller).
    VmoUnmap = 23, "vmo_unmap";
    ("process": ProcessOrSelf(Rights::MAP_INTO), "address": Address) -> "0";
    {
        InvalidHandle: "`process` names no entry",
        StaleHandle: "`process` was closed or its object is gone",
        WrongKind: "`process` is not a process",
        NotPermitted: "the capability lacks MAP_INTO",
        InvalidArgument: "no mapping begins at `address`",
        PeerGone: "the process has ended",
    }
    /// Changes the protection of one mapping of a process (0: the caller).
    VmoProtect = 24, "vmo_protect";
    ("process": ProcessOrSelf(Rights::MAP_INTO), "address": Address, "protection": RightsBits) -> "0";
    {
        InvalidHandle: "`process` names no entry",
        StaleHandle: "`process` was closed or its object is gone",
        WrongKind: "`process` is not a process",
        NotPermitted: "the capability lacks MAP_INTO, or the memory was mapped with fewer rights",
        InvalidArgument: "no mapping of memory begins at `address`, or `protection` is empty or holds other rights",
        WriteExecute: "`protection` is writable and executable",
        PeerGone: "the process has ended",
    }
    /// Creates a process without threads.
    ProcessCreate = 25, "process_create";
    ("authority": Capability(Kind::ProcessAuthority, Rights::CREATE),
     "parameters": In(size_of::<crate::records::ProcessParameters>())) -> "the process, with every right";
    {
        InvalidHandle: "`authority` or the supervisor names no entry",
        StaleHandle: "`authority` or the supervisor was closed or its object is gone",
        WrongKind: "`authority` is not a ProcessAuthority or the supervisor is not a notification",
        NotPermitted: "the service id is outside the authority's range, or the supervisor lacks SIGNAL",
        InvalidArgument: "the rank, the class, the table's or the open calls' maximum is above its limit, or the service id is 0",
        IdentityInUse: "the service id is live in another process",
        Fault: "`parameters` is not in readable memory of the caller",
        NoMemory: "the creator's quota does not hold `quota_pages`, or they are too few for a process",
        NoSlots: "the creator's table is full",
        TableFull: "no address space number is free",
    }
    /// Starts a thread in a process (0: the caller), with `argument` in `a0`.
    ThreadCreate = 26, "thread_create";
    ("process": ProcessOrSelf(Rights::MANAGE), "entry": Number, "stack": Number, "argument": Number,
     "qos": Number) -> "the thread, with every right";
    {
        InvalidHandle: "`process` names no entry",
        StaleHandle: "`process` was closed or its object is gone",
        WrongKind: "`process` is not a process",
        NotPermitted: "the capability lacks MANAGE, or the class is above what the process may have",
        InvalidArgument: "the class is unknown, `entry` is not in user memory, or `stack` is not a multiple of 16",
        PeerGone: "the process has ended",
        NoMemory: "the process's quota is used up",
        NoSlots: "the caller's table is full",
        TableFull: "the system has as many threads as it can",
    }
    /// Ends the calling thread.
    ThreadExit = 27, "thread_exit";
    () -> "does not return"; {}
    /// Gives the rest of its turn to other threads of its class.
    ThreadYield = 28, "thread_yield";
    () -> "0"; {}
    /// Waits until the deadline has passed.
    ThreadSleep = 29, "thread_sleep";
    ("deadline": Deadline) -> "0"; {}
    /// Ends the calling process, with a code for its supervisor.
    ProcessExit = 30, "process_exit";
    ("code": Number) -> "does not return"; {}
    /// Ends a process.
    ProcessKill = 31, "process_kill";
    ("process": Capability(Kind::Process, Rights::MANAGE), "code": Number) -> "0";
    {
        InvalidHandle: "`process` names no entry",
        StaleHandle: "`process` was closed or its object is gone",
        WrongKind: "`process` is not a process",
        NotPermitted: "the capability lacks MANAGE",
        PeerGone: "the process has ended already",
    }
    /// Tells the state and the figures of a process.
    ProcessStatus = 32, "process_status";
    ("process": Capability(Kind::Process, Rights::INSPECT),
     "status": Out(size_of::<crate::records::ProcessStatus>())) -> "0";
    {
        InvalidHandle: "`process` names no entry",
        StaleHandle: "`process` was closed or its object is gone",
        WrongKind: "`process` is not a process",
        NotPermitted: "the capability lacks INSPECT",
        Fault: "`status` is not in writable memory of the caller",
    }
    /// Tells how a process faulted.
    ProcessReport = 33, "process_report";
    ("process": Capability(Kind::Process, Rights::INSPECT),
     "report": Out(size_of::<crate::records::FaultReport>())) -> "0";
    {
        InvalidHandle: "`process` names no entry",
        StaleHandle: "`process` was closed or its object is gone",
        WrongKind: "`process` is not a process",
        NotPermitted: "the capability lacks INSPECT",
        WouldBlock: "it did not fault",
        Fault: "`report` is not in writable memory of the caller",
    }
    /// Creates a capability for one device's register window, with so many pages for memory that the device reaches by itself. `DEVICE_CAP_CREATE` of the contract.
    DeviceCapCreate = 34, "device_cap_create";
    ("authority": Capability(Kind::DeviceAuthority, Rights::CREATE), "base": Address, "bytes": Bytes,
     "dma_pages": Number) -> "the DeviceMmio, with every right";
    {
        InvalidHandle: "`authority` names no entry",
        StaleHandle: "`authority` was closed",
        WrongKind: "`authority` is not a DeviceAuthority",
        NotPermitted: "the capability lacks CREATE, or the window touches RAM or the kernel's own devices",
        InvalidArgument: "`bytes` is 0",
        Unaligned: "`base` or `bytes` is not a multiple of the page size",
        OutOfRange: "the window leaves the physical address space",
        Overlap: "the window overlaps one that exists; one that was retired, or whose device may still use memory, exists as long as who created it",
        NoMemory: "the caller's quota is used up, or does not hold `dma_pages`",
        NoSlots: "the caller's table is full",
    }
    /// Creates a capability for one interrupt line.
    IrqCapCreate = 35, "irq_cap_create";
    ("authority": Capability(Kind::DeviceAuthority, Rights::CREATE), "line": Number)
        -> "the Irq, with every right";
    {
        InvalidHandle: "`authority` names no entry",
        StaleHandle: "`authority` was closed",
        WrongKind: "`authority` is not a DeviceAuthority",
        NotPermitted: "the capability lacks CREATE",
        InvalidArgument: "the machine has no such line",
        Busy: "a capability for the line exists",
        NoMemory: "the caller's quota is used up",
        NoSlots: "the caller's table is full",
    }
    /// Maps a device's window (or whole pages of it), readable and writable. `SYSCALL_MMIO_MAP` of the contract.
    MmioMap = 36, "mmio_map";
    ("device": Capability(Kind::DeviceMmio, Rights::MAP), "address": Address, "offset": Bytes,
     "bytes": Bytes, "protection": RightsBits) -> "0";
    {
        InvalidHandle: "`device` names no entry",
        StaleHandle: "`device` was closed or its object is gone",
        WrongKind: "`device` is not a DeviceMmio",
        NotPermitted: "the capability lacks MAP",
        Sealed: "the device was retired",
        InvalidArgument: "`bytes` is 0, or `protection` is not of READ and WRITE",
        WriteExecute: "`protection` holds EXECUTE",
        Unaligned: "`address`, `offset` or `bytes` is not a multiple of the page size",
        OutOfRange: "the range reaches beyond the window or leaves user addresses",
        Revoked: "the capability is being revoked",
        Overlap: "a page of the range is mapped already",
        NoMemory: "the caller's quota has no page for its tables",
    }
    /// Binds an interrupt to bits of a notification, resets its line and enables it.
    IrqBind = 37, "irq_bind";
    ("irq": Capability(Kind::Irq, Rights::BIND),
     "notification": Capability(Kind::Notification, Rights::SIGNAL), "bits": Number) -> "0";
    {
        InvalidHandle: "`irq` or `notification` names no entry",
        StaleHandle: "`irq` or `notification` was closed or its object is gone",
        WrongKind: "`irq` is not an Irq or `notification` is not a notification",
        NotPermitted: "a capability lacks BIND or SIGNAL",
        InvalidArgument: "`bits` is 0",
    }
    /// Lets a line interrupt again.
    IrqAck = 38, "irq_ack";
    ("irq": Capability(Kind::Irq, Rights::ACKNOWLEDGE)) -> "0";
    {
        InvalidHandle: "`irq` names no entry",
        StaleHandle: "`irq` was closed or its object is gone",
        WrongKind: "`irq` is not an Irq",
        NotPermitted: "the capability lacks ACKNOWLEDGE",
    }
    /// Creates a timer that signals bits of a notification.
    TimerCreate = 39, "timer_create";
    ("notification": Capability(Kind::Notification, Rights::SIGNAL), "bits": Number) -> "the timer, with every right";
    {
        InvalidHandle: "`notification` names no entry",
        StaleHandle: "`notification` was closed or its object is gone",
        WrongKind: "`notification` is not a notification",
        NotPermitted: "the capability lacks SIGNAL",
        InvalidArgument: "`bits` is 0",
        NoMemory: "the caller's quota is used up",
        NoSlots: "the caller's table is full",
        TableFull: "the system has as many timers as it can",
    }
    /// Sets a timer's deadline; FOREVER disarms it.
    TimerArm = 40, "timer_arm";
    ("timer": Capability(Kind::Timer, Rights::ARM), "deadline": Deadline) -> "0";
    {
        InvalidHandle: "`timer` names no entry",
        StaleHandle: "`timer` was closed or its object is gone",
        WrongKind: "`timer` is not a timer",
        NotPermitted: "the capability lacks ARM",
    }
    /// Takes records out of the kernel's ring, oldest first, as many as fit or as are copied before an interrupt. From `ring_bind` on until the death of who called it, the kernel prints nothing itself; others may read too, each from its own place.
    RingRead = 41, "ring_read";
    ("control": Capability(Kind::SystemControl, Rights::LOG), "after": Number, "to": OutBytes, "bytes": Bytes)
        -> "bytes that were written";
    {
        InvalidHandle: "`control` names no entry",
        StaleHandle: "`control` was closed",
        WrongKind: "`control` is not a SystemControl",
        NotPermitted: "the capability lacks LOG",
        TooLarge: "`bytes` is above 64 KiB",
        BufferTooSmall: "the next record does not fit",
        WouldBlock: "no record is newer than `after`",
        Fault: "`to` is not in writable memory of the caller",
    }
    /// Writes one record of text into the kernel's ring, tagged with the caller's service id.
    RingWrite = 42, "ring_write";
    ("control": Capability(Kind::SystemControl, Rights::LOG), "level": Number, "from": InBytes, "bytes": Bytes) -> "0";
    {
        InvalidHandle: "`control` names no entry",
        StaleHandle: "`control` was closed",
        WrongKind: "`control` is not a SystemControl",
        NotPermitted: "the capability lacks LOG",
        InvalidArgument: "the level is unknown",
        TooLarge: "the text is longer than one record holds",
        Fault: "`from` is not in readable memory of the caller",
    }
    /// Names the one notification that is signalled when the kernel's ring gets a record, and makes the caller its reader: the kernel prints no more.
    RingBind = 43, "ring_bind";
    ("control": Capability(Kind::SystemControl, Rights::LOG),
     "notification": Capability(Kind::Notification, Rights::SIGNAL), "bits": Number) -> "the sequence of the last record that the kernel has printed, or that another reader has got";
    {
        InvalidHandle: "`control` or `notification` names no entry",
        StaleHandle: "`control` or `notification` was closed or its object is gone",
        WrongKind: "`control` is not a SystemControl or `notification` is not a notification",
        NotPermitted: "a capability lacks LOG or SIGNAL",
        InvalidArgument: "`bits` is 0",
    }
    /// Tells the machine's figures.
    SystemInfo = 44, "system_info";
    ("control": Capability(Kind::SystemControl, Rights::INSPECT),
     "info": Out(size_of::<crate::records::SystemInfo>())) -> "0";
    {
        InvalidHandle: "`control` names no entry",
        StaleHandle: "`control` was closed",
        WrongKind: "`control` is not a SystemControl",
        NotPermitted: "the capability lacks INSPECT",
        Fault: "`info` is not in writable memory of the caller",
    }
    /// Tells the figures of the process with the lowest number above `after`.
    ProcessList = 45, "process_list";
    ("control": Capability(Kind::SystemControl, Rights::INSPECT), "after": Number,
     "status": Out(size_of::<crate::records::ProcessStatus>())) -> "0";
    {
        InvalidHandle: "`control` names no entry",
        StaleHandle: "`control` was closed",
        WrongKind: "`control` is not a SystemControl",
        NotPermitted: "the capability lacks INSPECT",
        WouldBlock: "no process has a number above `after`",
        Fault: "`status` is not in writable memory of the caller",
    }
    /// Tells the first capability at or above `index` in the table of the process with this number.
    CapList = 46, "cap_list";
    ("control": Capability(Kind::SystemControl, Rights::INSPECT), "process_id": Number, "index": Number,
     "info": Out(size_of::<crate::records::CapabilityInfo>())) -> "0";
    {
        InvalidHandle: "`control` names no entry",
        StaleHandle: "`control` was closed",
        WrongKind: "`control` is not a SystemControl",
        NotPermitted: "the capability lacks INSPECT",
        InvalidArgument: "no process has this number",
        WouldBlock: "the table has no entry at or above `index`",
        Fault: "`info` is not in writable memory of the caller",
    }
    /// Powers the machine off (`mode` 0) or resets it (`mode` 1).
    SystemReset = 47, "system_reset";
    ("control": Capability(Kind::SystemControl, Rights::RESET), "mode": Number) -> "does not return";
    {
        InvalidHandle: "`control` names no entry",
        StaleHandle: "`control` was closed",
        WrongKind: "`control` is not a SystemControl",
        NotPermitted: "the capability lacks RESET",
        InvalidArgument: "`mode` is neither 0 nor 1",
        Unsupported: "the firmware cannot",
    }
    /// Copies out of (`into` 0) or into (1) memory that the caller of a received call lends, with that caller's present mappings.
    LeaseCopy = 48, "lease_copy";
    ("reply": Capability(Kind::Reply, Rights::empty()), "index": Number, "offset": Bytes, "address": OutBytes,
     "bytes": Bytes, "into": Number) -> "0";
    {
        InvalidHandle: "`reply` names no entry",
        StaleHandle: "`reply` was used or moved",
        WrongKind: "`reply` is not a Reply",
        NotPermitted: "the lease does not allow to read, or to write",
        InvalidArgument: "the call has no lease `index`, or `into` is neither 0 nor 1",
        OutOfRange: "the range reaches beyond the lease's end",
        TooLarge: "`bytes` is above 64 KiB",
        Fault: "`address` is not in memory of the caller that allows it, or a page of the lease is missing or forbids it now; the call stays open, and pages before it were copied",
        PeerGone: "the call, or the one that lent, has ended",
    }
    /// Tells how many bytes a caller lends; bit 63 is set when they may be written, bit 62 when they may be read.
    LeaseQuery = 49, "lease_query";
    ("reply": Capability(Kind::Reply, Rights::empty()), "index": Number) -> "the bytes";
    {
        InvalidHandle: "`reply` names no entry",
        StaleHandle: "`reply` was used or moved",
        WrongKind: "`reply` is not a Reply",
        InvalidArgument: "the call has no lease `index`",
        PeerGone: "the call, or the one that lent, has ended",
    }
    /// Makes memory larger or smaller. Smaller goes in steps, from the end.
    VmoResize = 50, "vmo_resize";
    ("vmo": Capability(Kind::Vmo, Rights::RESIZE), "bytes": Bytes) -> "0";
    {
        InvalidHandle: "`vmo` names no entry",
        StaleHandle: "`vmo` was closed or its object is gone",
        WrongKind: "`vmo` is not memory",
        NotPermitted: "the capability lacks RESIZE, as every one to memory for a device does",
        InvalidArgument: "`bytes` is 0",
        TooLarge: "`bytes` is above the largest memory object",
        NoMemory: "the quota of the process that owns it is used up",
        Busy: "it is to shrink and is mapped outside its owner, or a mapping shows what would go",
    }
    /// Creates zeroed, contiguous memory that a device may read and write by itself. It belongs to the device, and derives from its capability.
    DmaCreate = 51, "dma_create";
    ("device": Capability(Kind::DeviceMmio, Rights::MAP), "bytes": Bytes)
        -> "the memory, with READ, WRITE and PHYSICAL";
    {
        InvalidHandle: "`device` names no entry",
        StaleHandle: "`device` was closed or its object is gone",
        WrongKind: "`device` is not a DeviceMmio",
        NotPermitted: "the capability lacks MAP",
        InvalidArgument: "`bytes` is 0",
        TooLarge: "`bytes` is above the largest memory object for a device",
        Sealed: "the device was retired",
        NoMemory: "what the device has left of its pages, or the quota of who created its window, is too little, or no so many free frames are neighbours",
        NoSlots: "the caller's table is full, or the capability derives from as many as one may",
        Revoked: "the capability is being revoked",
    }
    /// Tells where memory for a device is.
    DmaAddress = 52, "dma_address";
    ("vmo": Capability(Kind::Vmo, Rights::PHYSICAL)) -> "the physical address of its first byte";
    {
        InvalidHandle: "`vmo` names no entry",
        StaleHandle: "`vmo` was closed or its object is gone",
        WrongKind: "`vmo` is not memory",
        NotPermitted: "the capability lacks PHYSICAL, as every one to memory that is not for a device does",
    }
    /// Takes a device's word back: after it was reset and read back as reset (`outcome` 0) its quarantined memory goes to the pool; one that cannot be reset (1) is retired and keeps it.
    DmaRelease = 53, "dma_release";
    ("device": Capability(Kind::DeviceMmio, Rights::MANAGE), "outcome": Number) -> "0";
    {
        InvalidHandle: "`device` names no entry",
        StaleHandle: "`device` was closed or its object is gone",
        WrongKind: "`device` is not a DeviceMmio",
        NotPermitted: "the capability lacks MANAGE",
        InvalidArgument: "`outcome` is neither 0 nor 1",
        Sealed: "the device was retired before",
    }
    /// Tells the next capability, of process `holder` from entry `first` on and of those with higher numbers, to the object that capability `handle` of process `process_id` names.
    CapHolders = 54, "cap_holders";
    ("control": Capability(Kind::SystemControl, Rights::INSPECT), "process_id": Number, "handle": Number,
     "holder": Number, "first": Number, "info": Out(size_of::<crate::records::CapabilityInfo>()))
        -> "the number of the process that holds it";
    {
        InvalidHandle: "`control` or `handle` names no entry",
        StaleHandle: "`control` or `handle` was closed",
        WrongKind: "`control` is not a SystemControl",
        NotPermitted: "the capability lacks INSPECT",
        InvalidArgument: "no process has the number `process_id`",
        WouldBlock: "there is no further one",
        Fault: "`info` is not in writable memory of the caller",
    }
    /// Tells the class of a thread (0: the caller's own), without what was lent to it.
    ThreadQos = 55, "thread_qos";
    ("thread": ThreadOrSelf(Rights::MANAGE)) -> "the class";
    {
        InvalidHandle: "`thread` names no entry",
        StaleHandle: "`thread` was closed or is gone",
        WrongKind: "`thread` is not a thread",
        NotPermitted: "the capability lacks MANAGE",
    }
    /// Changes the class of a thread (0: the caller's own). Lowering those of the own process is free.
    ThreadSetQos = 56, "thread_set_qos";
    ("thread": ThreadOrSelf(Rights::MANAGE), "class": Number, "authority": QosAuthorityOrNone) -> "0";
    {
        InvalidHandle: "`thread` or `authority` names no entry",
        StaleHandle: "`thread` or `authority` was closed or is gone",
        WrongKind: "`thread` is not a thread or `authority` is not a QosAuthority",
        NotPermitted: "a capability lacks MANAGE; or the class would rise, or the thread is another process's, and `authority` does not cover the class",
        InvalidArgument: "`class` is none of the four",
    }
    /// Bounds the time that a process is charged: `ticks` of every `period`; beyond it its threads run as Idle until the next. 0 and 0: no bound.
    ProcessSetBudget = 57, "process_set_budget";
    ("process": Capability(Kind::Process, Rights::MANAGE), "ticks": Number, "period": Number) -> "0";
    {
        InvalidHandle: "`process` names no entry",
        StaleHandle: "`process` was closed or its object is gone",
        WrongKind: "`process` is not a process",
        NotPermitted: "the capability lacks MANAGE",
        InvalidArgument: "`ticks` is 0 or above `period`, or `period` is not between a millisecond and ten seconds",
        PeerGone: "the process has ended",
    }
    /// Makes a copy of an authority that covers less: a `ProcessAuthority` over the service ids `first` to `last`, or a `QosAuthority` (`first` is 0) up to the class `last`.
    AuthorityNarrow = 58, "authority_narrow";
    ("authority": AnyCapability, "first": Number, "last": Number) -> "the copy, with the same rights";
    {
        InvalidHandle: "`authority` names no entry",
        StaleHandle: "`authority` was closed or is under way",
        WrongKind: "`authority` is neither a ProcessAuthority nor a QosAuthority",
        NotPermitted: "the range reaches beyond that of `authority`",
        InvalidArgument: "`first` is above `last`, is not 0 for a QosAuthority, or `last` is no class",
        NoMemory: "the caller's quota has no page for its table",
        NoSlots: "the caller's table is full, or the capability derives from as many as one may",
        Revoked: "the capability is being revoked",
    }
    /// Changes on which harts a thread (0: the caller's own) may run: one bit each. Threads that it creates in its process inherit it.
    ThreadSetAffinity = 59, "thread_set_affinity";
    ("thread": ThreadOrSelf(Rights::MANAGE), "harts": Number) -> "0";
    {
        InvalidHandle: "`thread` names no entry",
        StaleHandle: "`thread` was closed or is gone",
        WrongKind: "`thread` is not a thread",
        NotPermitted: "the capability lacks MANAGE",
        InvalidArgument: "no hart of `harts` is online",
    }
}
