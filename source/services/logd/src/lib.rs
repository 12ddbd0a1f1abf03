//! The log journal: drains every ring, keeps records and decisions, answers who asks for them.
//!
//! What it keeps and what it refuses is decided in `journal`; here that meets rings, messages, the store and the clock.
//! Who wrote a record is the ring that it came through; who sent one is the kernel's word. Decisions and errors are kept
//! in the store ([`archive`]), which a second thread calls ([`courier`]).
//!
//! Where to start reading: [`serve`].
#![cfg_attr(target_os = "none", no_std)]

extern crate alloc;

mod archive;
mod audits;
mod board;
mod courier;
mod sources;

use alloc::vec::Vec;
use archive::Archive;
use board::Board;
use core::convert::Infallible;
use core::time::Duration;
use courier::Courier;
use journal::{Admission, Journal, QUESTION_TEXT_BYTES_MAX, Question, Record, Reject, Sent};
use nexus_abi::{Kind, system};
use nexus_ipc::{Answer, Caller, Deadline, Event};
use nexus_proto::log::{
    Append, ENTRY_OVERHEAD, Entry, LEVEL_MAX, LogError, MAX_BYTES, PAGE_BYTES_MAX, Page, Query, REFERENCE,
    Server, Stats, dispatch,
};
use nexus_rt::{Environment, SetupError, error, info, warning};
use sources::Sources;

/// Bytes of a page for its records; the rest is its own.
const PAGE_ROOM: usize = PAGE_BYTES_MAX - ENTRY_OVERHEAD;
/// Time that what was kept has to be read before this answers without it.
const OPENING: Duration = Duration::from_secs(1);
/// Who may wait for new records at a time.
const FOLLOWERS_MAX: usize = 8;

const _: () = assert!(LEVEL_MAX == journal::LEVEL_MAX);

/// The program; its value is the exit code.
pub fn run(environment: &Environment) -> u64 {
    let Err(reason) = serve(environment);
    error!("logd: {reason}");
    1
}

fn serve(environment: &Environment) -> Result<Infallible, SetupError> {
    let mut receiver = environment.to_serve(REFERENCE.endpoint, MAX_BYTES)?;
    let doorbell = environment.needed("journal-doorbell", Kind::Notification)?;
    system::notification_bind(doorbell)?;
    let sources = Sources::open(environment)?;
    let (decisions, refused) = sources.audits.before();
    let board = Board::open(environment)?;
    let mut journal = Journal::new(environment.page().service_id, board.before(decisions));
    journal.count_refused(refused);
    let archive = Archive::new(Courier::open(environment, doorbell)?, environment.clock());
    let mut keeper = Keeper {
        journal,
        sources,
        archive,
        board,
        admission: Admission::new(environment.page().ticks_per_second),
        followers: Vec::new(),
    };
    let opening = environment.deadline(OPENING);
    let mut is_ready = false;
    loop {
        let mut until = keeper.turn();
        if !is_ready && !keeper.archive.is_settled() && !opening.has_passed() {
            until = until.min(opening);
        } else if !core::mem::replace(&mut is_ready, true) {
            info!("logd: ready");
            environment.ready();
        }
        // Bits and calls alike: whatever woke it, the rings are looked at before anybody is answered.
        if let Event::Call(call) = receiver.next(until)? {
            keeper.drain();
            dispatch(&mut keeper, call);
        }
    }
}

/// Somebody who waits for a record.
struct Follower {
    service_id: u64,
    query: Query,
    answer: Answer<Page, LogError>,
}

/// The journal, and what it is filled from and asked by.
struct Keeper {
    journal: Journal,
    sources: Sources,
    archive: Archive,
    board: Board,
    admission: Admission,
    followers: Vec<Follower>,
}

impl Keeper {
    /// Hears of the store, takes in what there is, and has written what is due; yields until when there is nothing to do.
    fn turn(&mut self) -> Deadline {
        self.archive.hear(&mut self.journal, &mut self.sources);
        let has_more = self.drain();
        let due = self.archive.go_on(&self.journal, &self.sources);
        self.board.update(&self.journal, self.sources.audits.held());
        // What is left rings for nobody: then this looks again as soon as whoever waits was answered.
        if has_more { Deadline::at(0) } else { due }
    }

    /// Takes in what there is, and tells those who wait for it; yields whether something is left.
    fn drain(&mut self) -> bool {
        let drained = self.sources.drain(&mut self.journal);
        if drained.had_any {
            self.tell();
        }
        drained.has_more
    }

    fn tell(&mut self) {
        for follower in core::mem::take(&mut self.followers) {
            let page = page(&self.journal, &follower.query);
            if page.entries.is_empty() {
                self.followers.push(follower);
            } else {
                // Who waited may have given up meanwhile.
                let _ = follower.answer.send(Ok(page));
            }
        }
    }

    /// Counts a refusal, and tells of it once in a while.
    fn refuse(&mut self, reject: Reject) -> LogError {
        if self.admission.reject(reject, system::ticks()) {
            warning!("logd: reject {}", reject.name());
        }
        match reject {
            Reject::InvalidArgs => LogError::InvalidArgs,
            Reject::OverLimit => LogError::OverLimit,
            Reject::RateLimited => LogError::RateLimited,
        }
    }

    fn check(&mut self, query: &Query) -> Result<(), LogError> {
        if query.text.len() > QUESTION_TEXT_BYTES_MAX {
            return Err(self.refuse(Reject::OverLimit));
        }
        if query.level > LEVEL_MAX {
            return Err(self.refuse(Reject::InvalidArgs));
        }
        Ok(())
    }
}

fn page(journal: &Journal, query: &Query) -> Page {
    let question = Question {
        after: query.after,
        last: query.last as usize,
        level: query.level,
        service_id: query.service_id,
        since: query.since,
        text: &query.text,
        audit: query.audit,
        earlier: query.earlier,
    };
    let (records, has_more) = journal.answer(&question, PAGE_ROOM, ENTRY_OVERHEAD);
    let end = match records.last() {
        Some(last) if has_more => last.id,
        _ => journal.last(),
    };
    Page { entries: records.into_iter().map(entry).collect(), end, has_more }
}

fn entry(record: &Record) -> Entry {
    let Record { id, boot, ticks, level, service_id, subject, scope, message, fields } = record.clone();
    Entry { id, boot, ticks, level, service_id, subject, scope, message, fields }
}

impl Server for Keeper {
    fn append(&mut self, caller: Caller, request: Append) -> Result<(), LogError> {
        let Append { level, scope, message, fields } = request;
        let sent = Sent { level, scope: &scope, message: &message, fields: &fields };
        let ticks = system::ticks();
        self.admission.admit(caller.service_id, ticks, &sent).map_err(|reject| self.refuse(reject))?;
        let service_id = caller.service_id;
        self.journal.push(Record { ticks, level, service_id, scope, message, fields, ..Record::default() });
        self.tell();
        Ok(())
    }

    fn query(&mut self, _caller: Caller, query: Query) -> Result<Page, LogError> {
        self.check(&query)?;
        Ok(page(&self.journal, &query))
    }

    fn stats(&mut self, _caller: Caller, (): ()) -> Result<Stats, LogError> {
        let figures = self.journal.figures();
        let (kept, kept_bytes) = self.journal.kept();
        let [invalid_args, over_limit, rate_limited] = self.admission.rejected();
        Ok(Stats {
            total: figures.total,
            evicted: figures.evicted,
            lost: figures.lost,
            kept: kept as u64,
            kept_bytes: kept_bytes as u64,
            capacity: journal::RECORDS_MAX as u64,
            capacity_bytes: journal::BYTES_MAX as u64,
            decisions: figures.decisions,
            decisions_evicted: figures.decisions_evicted,
            decisions_refused: figures.refused,
            decisions_before: figures.before,
            boot: self.journal.boot(),
            unwritten: self.journal.unwritten(),
            never_written: figures.never_written,
            kept_evicted: self.journal.made_room(),
            segments_refused: figures.segments_refused,
            invalid_args,
            over_limit,
            rate_limited,
        })
    }

    fn follow(&mut self, caller: Caller, query: Query, answer: Answer<Page, LogError>) {
        // A service has one live process, and that one thread here: what it waited for before, it gave up.
        self.followers.retain(|follower| follower.service_id != caller.service_id);
        let outcome = self.check(&query).and_then(|()| {
            let page = page(&self.journal, &query);
            match page.entries.is_empty() && self.followers.len() >= FOLLOWERS_MAX {
                true => Err(self.refuse(Reject::OverLimit)),
                false => Ok(page),
            }
        });
        if outcome.as_ref().is_ok_and(|page| page.entries.is_empty()) {
            self.followers.push(Follower { service_id: caller.service_id, query, answer });
        } else {
            // Whoever asked may have given up meanwhile.
            let _ = answer.send(outcome);
        }
    }
}
