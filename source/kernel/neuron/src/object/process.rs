//! A process: address space, capability table, account, service id, rank.
//!
//! States: alive, then ended (exited, faulted or killed) while `teardown` reclaims what it had in bounded
//! steps, then ended and empty, until the last capability to it is closed. Held by: its creator's account.
//! Invariants: a service id is live in at most one process; process ids are never reused in a boot; after
//! teardown the account's `reserved` is 0 and its pages are the parent's again.

use super::account::Account;
use super::capability::Table;
use super::mapping::{InProcess, Mapping};
use super::notification::Notification;
use super::thread::{Listening, Thread};
use crate::arch::AddressSpace;
use crate::memory::list::LinksOf;
use crate::memory::page_table::PageTable;
use crate::memory::{FrameNumber, Id, Links, List, Memory, Object};
use crate::sync;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use nexus_abi::Rights;
use nexus_abi::records::FaultReport;

/// What a process is made of.
pub struct Process {
    /// What it may use, and what it uses.
    pub account: Account,
    /// Its capabilities.
    pub table: Table,
    /// Who created it and gets its pages back.
    pub parent: Option<Id<Process>>,
    /// Its address space.
    pub page_table: PageTable,
    /// Its mappings, by address.
    pub regions: List<Mapping, InProcess>,
    /// How many there are.
    pub region_count: u32,
    /// Live threads.
    pub threads: u32,
    /// Those of them that wait for something else than a call, because no open call is free.
    pub listeners: List<Thread, Listening>,
    /// How much of the time it may be charged.
    pub budget: Budget,
    /// The most urgent class that its threads may have.
    pub qos_max: u32,
    /// One of the `STATE_` constants of the contract.
    pub state: u32,
    /// What it, or its killer, gave as its last word.
    pub exit_code: u64,
    /// How it faulted.
    pub report: Option<FaultReport>,
    /// Who is told of its end.
    pub supervisor: Option<Id<Notification>>,
    /// By which bits.
    pub death_bits: u64,
    /// How far the teardown of an ended process has come.
    pub teardown: Teardown,
}

/// The process has no budget.
pub const BUDGET_NONE: u32 = 0;
/// Some of its budget is left.
pub const BUDGET_LEFT: u32 = 1;
/// Its budget is used up until the next period.
pub const BUDGET_USED_UP: u32 = 2;

/// Time that a process may be charged: so many ticks of every period. What its servers do for it counts, and
/// what it used beyond its budget is owed in the next period.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Budget {
    /// Ticks of each period.
    pub ticks: u64,
    /// Ticks from one period to the next; 0: no bound.
    pub period: u64,
    /// Ticks charged in this period, and owed from those before.
    pub used: u64,
    /// When this period began.
    pub began: u64,
}

impl Budget {
    /// Charges ticks; yields whether the budget is used up.
    pub fn charge(&mut self, ticks: u64, now: u64) -> bool {
        if self.period == 0 {
            return false;
        }
        self.used = self.used.saturating_add(ticks);
        self.begin_period(now);
        self.used >= self.ticks
    }

    /// Begins the period in which `now` lies; yields whether there is time again.
    pub fn begin_period(&mut self, now: u64) -> bool {
        let periods = now.saturating_sub(self.began).checked_div(self.period).unwrap_or(0);
        self.began += periods * self.period;
        self.used = self.used.saturating_sub(periods.saturating_mul(self.ticks));
        self.used < self.ticks || self.period == 0
    }

    /// Ticks that are left in this period.
    pub fn left(&self) -> u64 {
        self.ticks.saturating_sub(self.used)
    }
}

/// Stages of a teardown, in order; each ends before the next begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Teardown {
    /// The process is alive.
    Alive,
    /// Threads are ended one by one.
    Threads,
    /// Calls that it had received fail, one entry a step; then the rest of its capabilities go.
    Capabilities {
        /// The next entry to close.
        next: u32,
    },
    /// Objects that it created are ended one by one.
    Objects,
    /// The table's own pages go.
    Table,
    /// Page tables and the address space's number go.
    AddressSpace,
    /// Nothing is left but the process object.
    Done,
}

/// What is reached without the lock.
#[derive(Default)]
pub struct ProcessShared {
    all: Links,
    reclaim: Links,
    /// Its service id.
    pub service_id: AtomicU64,
    /// Its number.
    pub process_id: AtomicU64,
    /// Its place in the call order.
    pub rank: AtomicU32,
    /// 1 once it has ended, [`WITHOUT_THREADS`] once none of its threads is left.
    pub ended: AtomicU32,
    /// [`BUDGET_NONE`], [`BUDGET_LEFT`] or [`BUDGET_USED_UP`].
    pub budget: AtomicU32,
    /// Ticks that its threads have run.
    pub cpu_ticks: AtomicU64,
    /// Frame of the page table's root.
    pub root: AtomicU32,
    /// Number of the address space.
    pub asid: AtomicU32,
    /// The address space as the machine is told of it.
    pub space: AtomicU64,
    /// The harts that may know translations of the space, one bit each.
    pub harts: AtomicU32,
    /// Frame of the capability table's index.
    pub table_index: AtomicU32,
    /// Pages of the capability table.
    pub table_pages: AtomicU32,
    /// The granule at which the first of them begins; before there is one, the index page stands here.
    pub table_first: AtomicU32,
}

/// What `ended` says of a process none of whose threads is left.
const WITHOUT_THREADS: u32 = 2;

impl ProcessShared {
    /// Whether it has ended.
    pub fn has_ended(&self) -> bool {
        self.ended.load(Relaxed) != 0
    }

    /// None of its threads is left, on any hart.
    pub fn lose_its_threads(&self) {
        self.ended.store(WITHOUT_THREADS, Relaxed);
    }

    /// Whether it has ended and none of its threads is left: until then a hart may run one.
    pub fn is_without_threads(&self) -> bool {
        self.ended.load(Relaxed) == WITHOUT_THREADS
    }

    /// From here on no handle of its names anything.
    pub(crate) fn forget_table(&self) {
        self.table_pages.store(0, Relaxed);
        self.table_first.store(Memory::first_granule(self.table_index.load(Relaxed)), Relaxed);
    }

    /// Its address space.
    #[inline]
    pub fn space(&self) -> AddressSpace {
        AddressSpace(self.space.load(Relaxed))
    }

    /// Its page table.
    pub fn page_table(&self) -> PageTable {
        PageTable { root: self.root.load(Relaxed) as FrameNumber }
    }
}

/// The links of the list of all processes.
pub struct All;
impl LinksOf<Process> for All {
    fn links(shared: &ProcessShared) -> &Links {
        &shared.all
    }
}

/// The links of the list of processes that are being reclaimed.
pub struct Reclaim;
impl LinksOf<Process> for Reclaim {
    fn links(shared: &ProcessShared) -> &Links {
        &shared.reclaim
    }
}

impl Object for Process {
    const SLAB: u8 = 0;
    const NAME: &'static str = "process";
    type Level = sync::Process;
    type Shared = ProcessShared;

    fn reset(shared: &ProcessShared) {
        shared.all.reset();
        shared.reclaim.reset();
        for word in [&shared.service_id, &shared.process_id, &shared.cpu_ticks, &shared.space] {
            word.store(0, Relaxed);
        }
        for word in [
            &shared.rank,
            &shared.ended,
            &shared.budget,
            &shared.root,
            &shared.asid,
            &shared.harts,
            &shared.table_index,
            &shared.table_pages,
            &shared.table_first,
        ] {
            word.store(0, Relaxed);
        }
    }
}

impl Process {
    /// A process that is alive and has nothing yet.
    pub fn new(account: Account, table: Table, parent: Option<Id<Process>>, page_table: PageTable) -> Self {
        Process {
            account,
            table,
            parent,
            page_table,
            regions: List::new(),
            region_count: 0,
            threads: 0,
            listeners: List::new(),
            budget: Budget::default(),
            qos_max: 0,
            state: nexus_abi::records::STATE_ALIVE,
            exit_code: 0,
            report: None,
            supervisor: None,
            death_bits: 0,
            teardown: Teardown::Alive,
        }
    }
}

/// Every right of a process capability.
pub const RIGHTS: Rights = nexus_abi::Kind::Process.rights();
