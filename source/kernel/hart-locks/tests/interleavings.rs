//! Every order in which harts can take the locks, within the model checker's bounds.
#![cfg(loom)]

use hart_locks::{Claim, Entrance, LockWord};
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

/// A value that the model checker watches: access without exclusion fails the test.
struct Watched(UnsafeCell<u32>);

// SAFETY: every access goes through the checker's cell; that they never overlap is what is tested.
unsafe impl Sync for Watched {}
// SAFETY: as above.
unsafe impl Send for Watched {}

impl Watched {
    fn add(&self) {
        // SAFETY: the checker fails the test unless this access is the only one.
        self.0.with_mut(|value| unsafe { *value += 1 });
    }

    fn read(&self) -> u32 {
        // SAFETY: as in `add`.
        self.0.with(|value| unsafe { *value })
    }
}

fn watched() -> Watched {
    Watched(UnsafeCell::new(0))
}

#[test]
fn a_lock_word_is_held_by_one_hart_at_a_time() {
    loom::model(|| {
        let shared = Arc::new((LockWord::default(), watched()));
        let other = Arc::clone(&shared);
        let hart = thread::spawn(move || change(&other.0, &other.1));
        change(&shared.0, &shared.1);
        hart.join().unwrap();
        assert_eq!(shared.1.read(), 2);
    });
}

fn change(lock: &LockWord, value: &Watched) {
    lock.acquire();
    value.add();
    lock.release();
}

#[test]
fn who_is_alone_meets_nobody_who_came_in_beside() {
    loom::model(|| {
        let shared = Arc::new((Entrance::new(), watched()));
        shared.0.admit();
        shared.0.admit();
        let other = Arc::clone(&shared);
        let hart = thread::spawn(move || {
            if let Some(_inside) = other.0.door(1).beside() {
                other.1.add();
            }
        });
        shared.0.enter_alone();
        shared.1.add();
        shared.0.leave_alone();
        hart.join().unwrap();
        assert!((1..=2).contains(&shared.1.read()));
    });
}

#[test]
fn two_harts_that_want_to_be_alone_are_so_one_after_the_other() {
    loom::model(|| {
        let shared = Arc::new((Entrance::new(), watched()));
        shared.0.admit();
        let other = Arc::clone(&shared);
        let hart = thread::spawn(move || {
            other.0.enter_alone();
            other.1.add();
            other.0.leave_alone();
        });
        shared.0.enter_alone();
        shared.1.add();
        shared.0.leave_alone();
        hart.join().unwrap();
        assert!(!shared.0.is_awaited());
        assert_eq!(shared.1.read(), 2);
    });
}

#[test]
fn harts_beside_each_other_share_what_an_objects_lock_guards() {
    loom::model(|| {
        let shared = Arc::new((Entrance::new(), LockWord::default(), watched()));
        shared.0.admit();
        shared.0.admit();
        let other = Arc::clone(&shared);
        let hart = thread::spawn(move || {
            let _inside = other.0.door(1).beside().expect("nobody is alone");
            change(&other.1, &other.2);
        });
        {
            let _inside = shared.0.door(0).beside().expect("nobody is alone");
            change(&shared.1, &shared.2);
        }
        hart.join().unwrap();
        assert_eq!(shared.2.read(), 2);
    });
}

/// A hart that comes later takes part from its admission on.
#[test]
fn a_hart_is_admitted_while_another_is_alone() {
    loom::model(|| {
        let shared = Arc::new((Entrance::new(), watched()));
        shared.0.admit();
        let other = Arc::clone(&shared);
        let hart = thread::spawn(move || {
            other.0.admit();
            if let Some(_inside) = other.0.door(1).beside() {
                other.1.add();
            }
        });
        shared.0.enter_alone();
        shared.1.add();
        shared.0.leave_alone();
        hart.join().unwrap();
        assert!((1..=2).contains(&shared.1.read()));
    });
}

/// Two answers to one call, as a Reply that two threads of a server have in their registers: one is given.
#[test]
fn what_waits_to_be_taken_is_taken_once_with_all_that_goes_along() {
    loom::model(|| {
        let shared = Arc::new((Claim::default(), watched(), watched()));
        let take = |shared: &(Claim, Watched, Watched)| {
            if shared.0.take(5) {
                shared.1.add();
                shared.2.add();
            }
        };
        let harts = [Arc::clone(&shared), Arc::clone(&shared)];
        let harts = harts.map(|shared| thread::spawn(move || take(&shared)));
        // The caller's last words before it waits.
        shared.1.add();
        shared.0.put(5);
        for hart in harts {
            hart.join().unwrap();
        }
        assert_eq!(shared.1.read(), 1 + shared.2.read());
        assert_eq!(shared.0.take(5), shared.2.read() == 0);
    });
}

/// Who has the answer to a call that is over meets another call of the same thread.
#[test]
fn what_was_taken_back_and_put_there_anew_is_not_taken_for_the_old() {
    loom::model(|| {
        let shared = Arc::new((Claim::default(), watched()));
        shared.0.put(5);
        shared.0.clear();
        let other = Arc::clone(&shared);
        let hart = thread::spawn(move || assert!(!other.0.take(5)));
        shared.1.add();
        shared.0.put(7);
        hart.join().unwrap();
        assert!(shared.0.take(7));
    });
}
