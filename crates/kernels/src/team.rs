//! Threads that wait for short tasks without sleeping, for as long as a graph runs.
//!
//! Waking a sleeping thread takes longer than many a layer of a small network. Inside of [`scope`] the threads of the team wait
//! actively; a thread that isn't there in time is not waited for, since the calling thread takes whatever is left.
#![allow(unsafe_code)]

use std::cell::{Cell, UnsafeCell};
use std::hint::spin_loop;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, TryLockError};
use std::thread::{self, Thread};

/// Set in [`Team::state`] while a job takes threads.
const OPEN: u64 = 1 << 31;
/// The number of a job is above this bit.
const NUMBER: u32 = 32;
/// Turns that a thread waits actively: after the last scope has ended, some tens of microseconds, and inside of one before it lets
/// others have the processor between its turns.
const PATIENCE: usize = 2_000;

/// Calls a task with a number.
type Call = unsafe fn(*const (), usize);

#[derive(Clone, Copy)]
struct Job {
    task: *const (),
    call: Call,
    count: usize,
}

struct Team {
    /// The number of the current job, whether it takes threads, and how many work on it.
    state: AtomicU64,
    job: UnsafeCell<Job>,
    /// The next task of the job.
    next: AtomicUsize,
    panicked: AtomicBool,
    /// Whether a scope is open.
    active: AtomicBool,
    /// Threads, the calling one aside, that may work on jobs of the current scope.
    most: AtomicUsize,
    /// Taken by the scope that the threads work for.
    owner: Mutex<Vec<Thread>>,
    /// Sleeping threads.
    asleep: AtomicUsize,
}

// SAFETY: the job is written only by the owner of the scope, while no thread works on one and none can join.
unsafe impl Sync for Team {}
// SAFETY: as above; the pointers in it are used only while the job is open.
unsafe impl Send for Team {}

fn team() -> &'static Team {
    static TEAM: OnceLock<Team> = OnceLock::new();
    TEAM.get_or_init(|| Team {
        state: AtomicU64::new(0),
        job: UnsafeCell::new(Job { task: std::ptr::null(), call: nothing, count: 0 }),
        next: AtomicUsize::new(0),
        panicked: AtomicBool::new(false),
        active: AtomicBool::new(false),
        most: AtomicUsize::new(0),
        owner: Mutex::default(),
        asleep: AtomicUsize::new(0),
    })
}

unsafe fn nothing(_: *const (), _: usize) {}

thread_local! {
    /// Threads of the scope that this thread has opened, itself included; zero outside, and one in a task.
    static SCOPE: Cell<usize> = const { Cell::new(0) };
}

/// Threads of the scope that this thread is in, itself included; one in a task, zero outside of a scope.
pub(crate) fn threads() -> usize {
    SCOPE.get()
}

/// Runs `work`; tasks inside of it are shared with threads that wait for them actively. Where another thread has a scope open already,
/// or this one, or there is one thread only, tasks are shared as they are otherwise.
pub fn scope<R>(work: impl FnOnce() -> R) -> R {
    let threads = rayon::current_num_threads();
    if threads < 2 || SCOPE.get() > 0 {
        return work();
    }
    let team = team();
    let owner = match team.owner.try_lock() {
        Ok(owner) => owner,
        Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
        Err(TryLockError::WouldBlock) => return work(),
    };
    let _open = Open::new(team, owner, threads);
    work()
}

/// A scope while it is open.
struct Open {
    team: &'static Team,
    _owner: MutexGuard<'static, Vec<Thread>>,
}

impl Open {
    fn new(team: &'static Team, mut owner: MutexGuard<'static, Vec<Thread>>, threads: usize) -> Self {
        while owner.len() + 1 < threads {
            let index = owner.len();
            let name = format!("kernels {index}");
            match thread::Builder::new().name(name).spawn(move || wait(team, index)) {
                Ok(handle) => owner.push(handle.thread().clone()),
                // Fewer threads do the same work.
                Err(_) => break,
            }
        }
        let most = (threads - 1).min(owner.len());
        team.most.store(most, Ordering::Relaxed);
        team.active.store(true, Ordering::SeqCst);
        if team.asleep.load(Ordering::SeqCst) > 0 {
            owner.iter().take(most).for_each(Thread::unpark);
        }
        SCOPE.set(most + 1);
        Self { team, _owner: owner }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        SCOPE.set(0);
        self.team.active.store(false, Ordering::SeqCst);
    }
}

/// What a thread of the team does.
fn wait(team: &'static Team, index: usize) {
    SCOPE.set(1);
    let (mut last, mut idle) = (0, 0);
    loop {
        let state = team.state.load(Ordering::Acquire);
        if state & OPEN != 0 && state >> NUMBER != last && index < team.most.load(Ordering::Relaxed) {
            if team.state.compare_exchange(state, state + 1, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                last = state >> NUMBER;
                idle = 0;
                // SAFETY: this thread is counted, so that the owner neither changes the job nor ends its borrow.
                let job = unsafe { *team.job.get() };
                let done = catch_unwind(AssertUnwindSafe(|| work(team, job)));
                if done.is_err() {
                    team.panicked.store(true, Ordering::Relaxed);
                }
                team.state.fetch_sub(1, Ordering::Release);
            }
            continue;
        }
        idle += 1;
        if idle <= PATIENCE {
            spin_loop();
        } else if team.active.load(Ordering::Relaxed) && index < team.most.load(Ordering::Relaxed) {
            // Whoever opened the scope does something else, perhaps on threads that need this processor.
            thread::yield_now();
        } else {
            team.asleep.fetch_add(1, Ordering::SeqCst);
            while !team.active.load(Ordering::SeqCst) || index >= team.most.load(Ordering::Relaxed) {
                thread::park();
            }
            team.asleep.fetch_sub(1, Ordering::SeqCst);
            idle = 0;
        }
    }
}

fn work(team: &Team, job: Job) {
    loop {
        let at = team.next.fetch_add(1, Ordering::Relaxed);
        if at >= job.count {
            return;
        }
        // SAFETY: the owner keeps the task borrowed until nobody works on the job.
        unsafe { (job.call)(job.task, at) };
    }
}

/// Calls `task` with `0..count`, shared among the threads of the scope that this thread has opened.
pub(crate) fn each<F: Fn(usize) + Sync>(count: usize, task: &F) {
    unsafe fn call<F: Fn(usize)>(task: *const (), at: usize) {
        // SAFETY: `each` passes a pointer to an `F` that is borrowed as long as its job is worked on.
        unsafe { (*task.cast::<F>())(at) }
    }
    let team = team();
    // Tasks have no threads of their own.
    let threads = SCOPE.replace(1);
    debug_assert!(threads > 0, "a scope is open");
    // SAFETY: this thread owns the scope, and the last job is closed and done.
    unsafe { *team.job.get() = Job { task: std::ptr::from_ref(task).cast(), call: call::<F>, count } };
    team.next.store(0, Ordering::Relaxed);
    let number = (team.state.load(Ordering::Relaxed) >> NUMBER).wrapping_add(1) & u64::from(u32::MAX);
    team.state.store(number << NUMBER | OPEN, Ordering::Release);
    // SAFETY: the job was just set.
    let job = unsafe { *team.job.get() };
    let done = catch_unwind(AssertUnwindSafe(|| work(team, job)));
    if done.is_err() {
        team.next.store(count, Ordering::Relaxed);
    }
    team.state.fetch_and(!OPEN, Ordering::AcqRel);
    let mut turns = 0;
    while team.state.load(Ordering::Acquire) & (OPEN - 1) != 0 {
        turns += 1;
        // A thread that is still at work may have lost its processor to someone.
        if turns <= PATIENCE { spin_loop() } else { thread::yield_now() }
    }
    SCOPE.set(threads);
    if let Err(panic) = done {
        resume_unwind(panic);
    }
    assert!(!team.panicked.swap(false, Ordering::Relaxed), "a task panicked");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_task_runs_once() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        pool.install(|| {
            for round in 0..200 {
                scope(|| {
                    let counts: Vec<AtomicUsize> = (0..round).map(|_| AtomicUsize::new(0)).collect();
                    for _ in 0..3 {
                        crate::parallel::each(round, usize::MAX / 2, |at| {
                            counts[at].fetch_add(1, Ordering::Relaxed);
                        });
                    }
                    assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == 3));
                });
            }
        });
    }

    #[test]
    fn a_panic_reaches_the_caller() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
        let failed = catch_unwind(AssertUnwindSafe(|| {
            pool.install(|| scope(|| crate::parallel::each(50, usize::MAX / 2, |at| assert!(at != 31))));
        }));
        assert!(failed.is_err());
        pool.install(|| scope(|| crate::parallel::each(50, usize::MAX / 2, |_| ())));
    }
}
