//! The pool's worker threads, and how they survive a `fork`.
//!
//! A `fork` copies the pool's memory but not its threads. The child drops its reference to the copied pool, whose locks
//! may be held, and builds its own on its first large call.
#![allow(unsafe_code, reason = "pthread_atfork; tasks that borrow from the caller's stack")]

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::watch::{POLL_EVERY, Watch};
use crate::error::{Error, Result};

/// Runs task `n` with the watch of the current thread.
type Task<'a> = &'a (dyn Fn(usize, &Watch<'_>) -> Result<()> + Sync);

/// Runs tasks `0..tasks`, at least two, on the calling thread and up to `threads - 1` workers; the calling thread runs
/// the interrupt check.
///
/// # Errors
/// As for [`Call::for_each_chunk`](super::Call::for_each_chunk). After a fork during the call, the child gets `Ok` with
/// tasks not run: compare [`forks`] before and after.
pub(super) fn run(threads: usize, interrupted: &(dyn Fn() -> bool + Sync), tasks: usize, run: Task<'_>) -> Result<()> {
    // SAFETY: only the lifetime changes. The reference is used by this function, and by workers between joining the job
    // and leaving it; `Helpers::wait`, which runs before this function returns or unwinds, waits until all have left
    // and no other can join. (After a fork there are no workers.)
    let run = unsafe { std::mem::transmute::<Task<'_>, Task<'static>>(run) };
    let job = Arc::new(Job {
        run,
        tasks,
        next: AtomicUsize::new(0),
        stop: AtomicBool::new(false),
        vacancies: AtomicUsize::new(threads.min(tasks) - 1),
        active: AtomicUsize::new(0),
        failure: Mutex::new(None),
    });
    let watch = Watch::new(&job.stop, Some(interrupted));
    let helpers = Helpers::invite(&job);
    job.work(&watch);
    helpers.wait(&watch);
    if forks() != helpers.forks {
        return Ok(()); // `for_each_chunk` runs the tasks again; the job's locks belong to another process
    }
    if let Some(error) = lock(&job.failure).take() {
        return Err(error);
    }
    if job.stop.load(Ordering::Relaxed) { Err(Error::Interrupted) } else { Ok(()) }
}

/// The number of forks between the process that loaded the library and this one.
pub(super) fn forks() -> u64 {
    FORKS.load(Ordering::Relaxed)
}

struct Job {
    run: Task<'static>,
    tasks: usize,
    /// The first unclaimed task.
    next: AtomicUsize,
    stop: AtomicBool,
    /// How many more workers may join; changed only under the pool's lock.
    vacancies: AtomicUsize,
    /// How many workers have joined and not left; incremented only under the pool's lock.
    active: AtomicUsize,
    /// The error of the first task that failed.
    failure: Mutex<Option<Error>>,
}

impl Job {
    /// Claims and runs tasks until none are left or the call must stop.
    fn work(&self, watch: &Watch<'_>) {
        let outcome = catch_panic(|| {
            while !self.stop.load(Ordering::Relaxed) {
                let n = self.next.fetch_add(1, Ordering::Relaxed);
                if n >= self.tasks {
                    break;
                }
                (self.run)(n, watch)?;
            }
            Ok(())
        });
        if let Err(error) = outcome {
            lock(&self.failure).get_or_insert(error);
            self.stop.store(true, Ordering::Relaxed);
        }
    }
}

/// Runs `work`; a panic becomes [`Error::Internal`].
pub(super) fn catch_panic(work: impl FnOnce() -> Result<()>) -> Result<()> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|payload| Err(Error::from_panic(&*payload)))
}

/// The workers invited to a job.
struct Helpers<'a> {
    job: &'a Arc<Job>,
    pool: &'static Pool,
    forks: u64,
}

impl<'a> Helpers<'a> {
    fn invite(job: &'a Arc<Job>) -> Self {
        let forks = forks();
        let wanted = job.vacancies.load(Ordering::Relaxed);
        let pool = Pool::of_this_process();
        pool.offer(job, wanted);
        Helpers { job, pool, forks }
    }

    /// Withdraws the job, so that no more workers join, and waits until all have left; meanwhile runs the interrupt
    /// check.
    fn wait(&self, watch: &Watch<'_>) {
        let forked = || forks() != self.forks;
        if forked() {
            return;
        }
        let pool = self.pool;
        pool.withdraw(self.job);
        let active = || self.job.active.load(Ordering::Acquire) > 0;
        for _ in 0..2_000 {
            if !active() {
                return;
            }
            std::hint::spin_loop();
        }
        while active() && !forked() {
            watch.poll();
            if !forked() {
                pool.wait_for_workers(self.job);
            }
        }
    }
}

struct Pool {
    state: Mutex<State>,
    /// Signalled when there is a job to join.
    offered: Condvar,
    /// Signalled when the last worker has left a job.
    left: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Arc<Job>>,
    workers: usize,
}

/// The pool of this process, or null.
static POOL: AtomicPtr<Pool> = AtomicPtr::new(std::ptr::null_mut());
static FORKS: AtomicU64 = AtomicU64::new(0);
static FORK_HANDLER_REGISTERED: AtomicBool = AtomicBool::new(false);

/// Registers the handler that makes forked children build a new pool. Must be called before the pool is first used;
/// further calls have no effect.
pub(crate) fn survive_forks() {
    #[cfg(unix)]
    extern "C" fn in_child() {
        POOL.store(std::ptr::null_mut(), Ordering::Relaxed);
        FORKS.fetch_add(1, Ordering::Relaxed);
    }
    if !FORK_HANDLER_REGISTERED.load(Ordering::Acquire) {
        #[cfg(unix)]
        // SAFETY: the handler only stores to atomics, which is allowed in the child of a process with threads.
        let status = unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
        #[cfg(not(unix))]
        let status = 0;
        // (It can fail only for lack of memory. Two threads may both register: the handler then runs twice, to the same
        // effect.)
        FORK_HANDLER_REGISTERED.store(status == 0, Ordering::Release);
    }
}

impl Pool {
    fn of_this_process() -> &'static Pool {
        survive_forks();
        let mut current = POOL.load(Ordering::Acquire);
        if current.is_null() {
            let pool = Box::into_raw(Box::new(Pool {
                state: Mutex::default(),
                offered: Condvar::new(),
                left: Condvar::new(),
            }));
            match POOL.compare_exchange(current, pool, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => current = pool,
                Err(other) => {
                    // SAFETY: `pool` comes from `Box::into_raw` above and was not published.
                    drop(unsafe { Box::from_raw(pool) });
                    current = other;
                }
            }
        }
        // SAFETY: `current` is not null here, and `POOL` holds null or a leaked box, which lives as long as the
        // process.
        unsafe { &*current }
    }

    /// Queues `job`, starts workers until there are `wanted`, and wakes that many.
    fn offer(&'static self, job: &Arc<Job>, wanted: usize) {
        let mut state = lock(&self.state);
        while state.workers < wanted {
            let builder = std::thread::Builder::new().name("neuralcf".into());
            if builder.spawn(move || self.worker_loop()).is_err() {
                break; // no more threads: the calling thread does more of the work
            }
            state.workers += 1;
        }
        state.jobs.push_back(Arc::clone(job));
        drop(state);
        for _ in 0..wanted {
            self.offered.notify_one();
        }
    }

    fn withdraw(&self, job: &Arc<Job>) {
        lock(&self.state).jobs.retain(|other| !Arc::ptr_eq(other, job));
    }

    /// Sleeps until the last worker has left `job`, but not past the next interrupt check.
    fn wait_for_workers(&self, job: &Job) {
        let state = lock(&self.state);
        if job.active.load(Ordering::Acquire) > 0 {
            drop(self.left.wait_timeout(state, POLL_EVERY).unwrap_or_else(PoisonError::into_inner));
        }
    }

    fn worker_loop(&self) {
        loop {
            let job = self.next_job();
            job.work(&Watch::new(&job.stop, None));
            let last = job.active.fetch_sub(1, Ordering::Release) == 1;
            if last {
                drop(lock(&self.state)); // a thread in `wait_for_workers` is now asleep, so it cannot miss the signal
                self.left.notify_all();
            }
        }
    }

    fn next_job(&self) -> Arc<Job> {
        let mut state = lock(&self.state);
        loop {
            if let Some(at) = state.jobs.iter().position(|job| job.vacancies.load(Ordering::Relaxed) > 0) {
                let job = Arc::clone(&state.jobs[at]);
                job.active.fetch_add(1, Ordering::Relaxed);
                if job.vacancies.fetch_sub(1, Ordering::Relaxed) == 1 {
                    state.jobs.remove(at);
                }
                return job;
            }
            state = self.offered.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Locks, ignoring poisoning: no critical section here can panic halfway, so the data is consistent.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
