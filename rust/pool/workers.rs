//! The pool's threads, and what a `fork` does to them.
//!
//! A `fork` copies the pool's memory but not its threads: the child forgets the copied pool, whatever state its locks were copied in, and
//! builds its own on its first large call.
#![allow(unsafe_code, reason = "pthread_atfork; tasks that borrow from the caller's stack")]

use std::any::Any;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::watch::{POLL_EVERY, Watch};
use crate::error::{Error, Result};

/// What a call does: task `n`, with the watch of the thread that runs it.
type Task<'a> = &'a (dyn Fn(usize, &Watch<'_>) -> Result<()> + Sync);

/// Runs tasks `0..tasks`, at least two, on the calling thread and up to `threads - 1` workers; the calling thread runs the interrupt check.
///
/// # Errors
/// As [`Call::for_each_chunk`](super::Call::for_each_chunk). After a fork inside the call, the child gets `Ok` with tasks undone: compare [`forks`] before and after.
pub(super) fn run(threads: usize, interrupted: &(dyn Fn() -> bool + Sync), tasks: usize, run: Task<'_>) -> Result<()> {
    // SAFETY: only the lifetime changes. The reference is used by this function, and by workers between joining the job and
    // leaving it; `Helpers::dismiss`, which runs before this function returns or unwinds, waits until all have left and no
    // other can join. (After a fork there are no workers.)
    let run = unsafe { std::mem::transmute::<Task<'_>, Task<'static>>(run) };
    let job = Arc::new(Job {
        run,
        tasks,
        next: AtomicUsize::new(0),
        stop: AtomicBool::new(false),
        places: AtomicUsize::new(threads.min(tasks) - 1),
        inside: AtomicUsize::new(0),
        failure: Mutex::new(None),
    });
    let watch = Watch::new(&job.stop, Some(interrupted));
    let helpers = Helpers::call(&job);
    job.work(&watch);
    helpers.dismiss(&watch);
    if forks() != helpers.forks {
        return Ok(()); // run again by the caller; the job's locks belong to another process
    }
    if let Some(error) = lock(&job.failure).take() {
        return Err(error);
    }
    if job.stop.load(Ordering::Relaxed) { Err(Error::Interrupted) } else { Ok(()) }
}

/// How many forks lie between this process and the first one that loaded the library.
pub(super) fn forks() -> u64 {
    FORKS.load(Ordering::Relaxed)
}

struct Job {
    run: Task<'static>,
    tasks: usize,
    /// The first unclaimed task.
    next: AtomicUsize,
    stop: AtomicBool,
    /// How many more workers may join; changed under the pool's lock alone.
    places: AtomicUsize,
    /// How many workers have joined and not left; raised under the pool's lock alone.
    inside: AtomicUsize,
    /// What the first task to fail failed with.
    failure: Mutex<Option<Error>>,
}

impl Job {
    /// Claims and runs tasks until there are none, or until the call is to stop.
    fn work(&self, watch: &Watch<'_>) {
        let outcome = caught(|| {
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

/// What `work` returns; a panic becomes [`Error::Internal`].
pub(super) fn caught(work: impl FnOnce() -> Result<()>) -> Result<()> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|payload| Err(Error::Internal(panic_text(&*payload))))
}

/// What a panic said.
pub(crate) fn panic_text(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied().or(payload.downcast_ref::<String>().map(String::as_str));
    format!("a bug in neuralcf: {}", text.unwrap_or("a panic without a message"))
}

/// The workers called to a job.
struct Helpers<'a> {
    job: &'a Arc<Job>,
    pool: &'static Pool,
    forks: u64,
}

impl<'a> Helpers<'a> {
    fn call(job: &'a Arc<Job>) -> Self {
        let forks = forks();
        let wanted = job.places.load(Ordering::Relaxed);
        let pool = Pool::of_this_process();
        pool.offer(job, wanted);
        Helpers { job, pool, forks }
    }

    /// Lets nobody join any more and waits for those inside. Meanwhile the interrupt check goes on.
    fn dismiss(&self, watch: &Watch<'_>) {
        let forked = || forks() != self.forks;
        if forked() {
            return;
        }
        let pool = self.pool;
        pool.withdraw(self.job);
        let inside = || self.job.inside.load(Ordering::Acquire) > 0;
        for _ in 0..2_000 {
            if !inside() {
                return;
            }
            std::hint::spin_loop();
        }
        while inside() && !forked() {
            watch.poll();
            if !forked() {
                pool.wait_for_leaver(self.job);
            }
        }
    }
}

struct Pool {
    state: Mutex<State>,
    /// There is a job to join.
    offered: Condvar,
    /// A worker has left a job.
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
static WATCHING_FORKS: AtomicBool = AtomicBool::new(false);

/// Makes forked children forget the pool. To be called before the first call that may need the pool; calling it again is harmless.
pub(crate) fn survive_forks() {
    extern "C" fn in_child() {
        POOL.store(std::ptr::null_mut(), Ordering::Relaxed);
        FORKS.fetch_add(1, Ordering::Relaxed);
    }
    if !WATCHING_FORKS.load(Ordering::Acquire) {
        #[cfg(unix)]
        // SAFETY: the handler only stores to atomics, which is allowed in the child of a process with threads.
        let status = unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
        #[cfg(not(unix))]
        let status = 0;
        // (It fails for lack of memory alone. Two threads may both register: the handler runs twice, to the same effect.)
        WATCHING_FORKS.store(status == 0, Ordering::Release);
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
                    // SAFETY: made by `Box::into_raw` above, and published nowhere.
                    drop(unsafe { Box::from_raw(pool) });
                    current = other;
                }
            }
        }
        // SAFETY: `POOL` holds null or a leaked box, which lives as long as the process.
        unsafe { &*current }
    }

    /// Puts `job` where workers look, and sees to it that `wanted` workers exist.
    fn offer(&'static self, job: &Arc<Job>, wanted: usize) {
        let mut state = lock(&self.state);
        while state.workers < wanted {
            let builder = std::thread::Builder::new().name("neuralcf".into());
            if builder.spawn(move || self.work_for_ever()).is_err() {
                break; // no thread to be had: the caller does more itself
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

    /// Sleeps until some worker has left `job`, at most for the time between two interrupt checks.
    fn wait_for_leaver(&self, job: &Job) {
        let state = lock(&self.state);
        if job.inside.load(Ordering::Acquire) > 0 {
            drop(self.left.wait_timeout(state, POLL_EVERY).unwrap_or_else(PoisonError::into_inner));
        }
    }

    fn work_for_ever(&self) {
        loop {
            let job = self.join_a_job();
            job.work(&Watch::new(&job.stop, None));
            let last = job.inside.fetch_sub(1, Ordering::Release) == 1;
            if last {
                drop(lock(&self.state)); // whoever was about to sleep sleeps now, and hears it
                self.left.notify_all();
            }
        }
    }

    fn join_a_job(&self) -> Arc<Job> {
        let mut state = lock(&self.state);
        loop {
            if let Some(at) = state.jobs.iter().position(|job| job.places.load(Ordering::Relaxed) > 0) {
                let job = Arc::clone(&state.jobs[at]);
                job.inside.fetch_add(1, Ordering::Relaxed);
                if job.places.fetch_sub(1, Ordering::Relaxed) == 1 {
                    state.jobs.remove(at);
                }
                return job;
            }
            state = self.offered.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// A lock whose holder panicked still guards data that is whole: no critical section here can panic half-way.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
