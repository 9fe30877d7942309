//! The threads of the process: one pool, kept, that survives `fork`.
//!
//! The caller of [`Call::for_each_chunk`] always takes part and could finish alone; workers only help. So a small job, a machine
//! that has no thread to give and a freshly forked child all work the same way. A `fork` copies the pool's memory but not its
//! threads: the child forgets the copied pool, whatever state its locks were copied in, and builds its own on its first large call.
#![allow(
    unsafe_code,
    reason = "pthread_atfork; tasks that borrow from the caller's stack and write to memory that it has reserved"
)]

use std::any::Any;
use std::cell::Cell;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::error::{Error, Result, reserve};

/// The most threads a call may ask for.
pub const MAX_THREADS: usize = 1024;

/// How often the caller looks whether it should stop.
const POLL_EVERY: Duration = Duration::from_millis(20);

/// Multiply-adds between two looks at the clock: some ten microseconds.
const LOOK_EVERY: usize = 1 << 18;

/// `requested`, else the environment variable `NEURALCF_NUM_THREADS`, else what the process may really use: its affinity mask and
/// its cgroup's quota (v1 and v2).
///
/// # Errors
/// [`Error::Argument`] for a number outside 1 to [`MAX_THREADS`], and for an environment variable that is no number.
pub fn choose_threads(requested: Option<usize>) -> Result<usize> {
    let (what, threads) = match (requested, std::env::var("NEURALCF_NUM_THREADS")) {
        (Some(threads), _) => ("threads", threads),
        (None, Ok(text)) if !text.is_empty() => {
            let what = "environment variable NEURALCF_NUM_THREADS";
            let threads = text.trim().parse().map_err(|_| {
                Error::Argument(format!("{what}: expected a whole number from 1 to {MAX_THREADS}, got {text:?}"))
            })?;
            (what, threads)
        }
        _ => return Ok(std::thread::available_parallelism().map_or(1, |n| n.get().min(MAX_THREADS))),
    };
    if (1..=MAX_THREADS).contains(&threads) {
        Ok(threads)
    } else {
        Err(Error::Argument(format!("{what}: expected a whole number from 1 to {MAX_THREADS}, got {threads}")))
    }
}

/// How a call is carried out.
#[derive(Clone, Copy)]
pub struct Call<'a> {
    /// Threads that may work on it, the caller's among them; 1 to [`MAX_THREADS`].
    pub threads: usize,
    /// Asked by the calling thread some fifty times a second; `true` stops the call.
    pub interrupted: &'a (dyn Fn() -> bool + Sync),
}

impl std::fmt::Debug for Call<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Call").field("threads", &self.threads).finish_non_exhaustive()
    }
}

impl Call<'static> {
    /// On the calling thread alone, to the end.
    pub const ALONE: Call<'static> = Call { threads: 1, interrupted: &|| false };
}

/// Tells a task whether to give up. Tasks that run long ask at least every few milliseconds.
pub(crate) struct Watch<'a> {
    stop: &'a AtomicBool,
    /// Only the caller's own watch asks; a worker sees the flag.
    interrupted: Option<&'a (dyn Fn() -> bool + Sync)>,
    /// When it asked last, or first could have: most calls are too short to look at the clock.
    asked: Cell<Option<Instant>>,
    work: Cell<usize>,
}

impl<'a> Watch<'a> {
    fn new(stop: &'a AtomicBool, interrupted: Option<&'a (dyn Fn() -> bool + Sync)>) -> Self {
        Watch { stop, interrupted, asked: Cell::new(None), work: Cell::new(0) }
    }

    /// Whether to give up, after another `multiply_adds` of work.
    #[inline]
    pub(crate) fn stopped(&self, multiply_adds: usize) -> bool {
        let work = self.work.get() + multiply_adds;
        if work < LOOK_EVERY {
            self.work.set(work);
            return false;
        }
        let stopped = self.ask();
        self.work.set(if stopped { LOOK_EVERY } else { 0 }); // once stopped, every further question is answered at once
        stopped
    }

    #[cold]
    fn ask(&self) -> bool {
        if let Some(interrupted) = self.interrupted {
            let mut asked = self.asked.get().unwrap_or_else(Instant::now);
            if asked.elapsed() >= POLL_EVERY {
                // A check that panics must not unwind past workers that still use the caller's stack.
                if catch_unwind(AssertUnwindSafe(interrupted)).unwrap_or(true) {
                    self.stop.store(true, Ordering::Relaxed);
                }
                asked = Instant::now();
            }
            self.asked.set(Some(asked));
        }
        self.stop.load(Ordering::Relaxed)
    }
}

impl Call<'_> {
    /// Calls `task(n, chunk, watch)` for each chunk of `chunk_len` elements of `out` (the last may be shorter), on up to `threads`
    /// threads. What a task leaves in its chunk may depend on nothing but `n`: after a fork inside the call the child runs every
    /// task again.
    ///
    /// # Errors
    /// [`Error::Interrupted`], what a task failed with, and [`Error::Internal`] where one panicked. All leave `out` half done.
    pub(crate) fn for_each_chunk<T: Copy + Send>(
        &self,
        out: &mut [T],
        chunk_len: usize,
        task: impl Fn(usize, &mut [T], &Watch<'_>) -> Result<()> + Sync,
    ) -> Result<()> {
        let chunk_len = chunk_len.max(1);
        let tasks = out.len().div_ceil(chunk_len);
        let shared = Shared { start: out.as_mut_ptr(), len: out.len() };
        let run = |n: usize, watch: &Watch<'_>| {
            let from = n * chunk_len;
            let len = chunk_len.min(shared.len - from);
            let start = shared.start().wrapping_add(from);
            // SAFETY: `n < tasks`, so the chunk lies within `out`; `Job::next` gives each `n` out once, so no two chunks overlap;
            // `out` stays borrowed until `run_tasks` has returned, which is after the last task.
            let chunk = unsafe { std::slice::from_raw_parts_mut(start, len) };
            task(n, chunk, watch)
        };
        loop {
            let forks = FORKS.load(Ordering::Relaxed);
            let outcome = self.run_tasks(tasks, &run);
            if forks == FORKS.load(Ordering::Relaxed) {
                return outcome;
            }
            // The interrupt check forked and this is the child: its workers, and what they had claimed, are gone.
        }
    }

    /// Appends `len` elements, for which there must be room, to `all`: chunks that begin as copies of `blank` and are then given to
    /// `task`, as in [`Call::for_each_chunk`]. So new memory is first touched by the threads that fill it, not by one before them.
    ///
    /// # Errors
    /// As [`Call::for_each_chunk`]; nothing is appended then.
    pub(crate) fn extend_in_chunks<T: Copy + Send + Sync>(
        &self,
        all: &mut Vec<T>,
        len: usize,
        chunk_len: usize,
        blank: T,
        task: impl Fn(usize, &mut [T], &Watch<'_>) -> Result<()> + Sync,
    ) -> Result<()> {
        self.for_each_chunk(&mut all.spare_capacity_mut()[..len], chunk_len, |n, chunk, watch| {
            chunk.iter_mut().for_each(|place| _ = place.write(blank));
            // SAFETY: `MaybeUninit<T>` has the layout of `T`, and every element of the chunk has just been written.
            let chunk = unsafe { std::slice::from_raw_parts_mut(chunk.as_mut_ptr().cast::<T>(), chunk.len()) };
            task(n, chunk, watch)
        })?;
        // SAFETY: the capacity holds them; the call has succeeded, so every task has run, and has written its whole chunk first.
        unsafe { all.set_len(all.len() + len) };
        Ok(())
    }

    /// `len` elements, made as by [`Call::extend_in_chunks`].
    ///
    /// # Errors
    /// As there, and [`Error::Memory`] that names `what` they were for.
    pub(crate) fn in_chunks<T: Copy + Send + Sync>(
        &self,
        what: &str,
        len: usize,
        chunk_len: usize,
        blank: T,
        task: impl Fn(usize, &mut [T], &Watch<'_>) -> Result<()> + Sync,
    ) -> Result<Vec<T>> {
        let mut all = reserve(what, len)?;
        self.extend_in_chunks(&mut all, len, chunk_len, blank, task)?;
        Ok(all)
    }

    /// Calls `piece(0, watch)`, `piece(1, watch)`, ... on the calling thread: what cannot be divided, and yet takes long. A piece
    /// tells its watch how much it does.
    ///
    /// # Errors
    /// [`Error::Interrupted`], and what a piece failed with.
    pub(crate) fn one_by_one(
        &self,
        pieces: usize,
        mut piece: impl FnMut(usize, &Watch<'_>) -> Result<()>,
    ) -> Result<()> {
        let stop = AtomicBool::new(false);
        let watch = Watch::new(&stop, Some(self.interrupted));
        for n in 0..pieces {
            piece(n, &watch)?;
            if stop.load(Ordering::Relaxed) {
                return Err(Error::Interrupted);
            }
        }
        Ok(())
    }

    /// `len` copies of `value`. (The memory is touched, which takes a second for some gigabytes.)
    ///
    /// # Errors
    /// [`Error::Memory`] that names `what` they were for; [`Error::Interrupted`].
    pub(crate) fn filled<T: Clone>(&self, what: &str, len: usize, value: T) -> Result<Vec<T>> {
        const PIECE: usize = 1 << 16;
        let mut all = reserve(what, len)?;
        self.one_by_one(len.div_ceil(PIECE), |n, watch| {
            all.resize(len.min((n + 1) * PIECE), value.clone());
            watch.stopped(LOOK_EVERY);
            Ok(())
        })?;
        Ok(all)
    }

    fn run_tasks(&self, tasks: usize, run: &(dyn Fn(usize, &Watch<'_>) -> Result<()> + Sync)) -> Result<()> {
        if self.threads.min(tasks) <= 1 {
            return caught(|| self.one_by_one(tasks, run));
        }
        // SAFETY: only the lifetime changes. The reference is used by this function, and by workers between joining the job and
        // leaving it; `Helpers::dismiss`, which runs before this function returns or unwinds, waits until all have left and no
        // other can join. (After a fork there are no workers.)
        let run = unsafe { std::mem::transmute::<&(dyn Fn(usize, &Watch<'_>) -> Result<()> + Sync), Run>(run) };
        let job = Arc::new(Job {
            run,
            tasks,
            next: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            places: AtomicUsize::new(self.threads.min(tasks) - 1),
            inside: AtomicUsize::new(0),
            failure: Mutex::new(None),
        });
        let watch = Watch::new(&job.stop, Some(self.interrupted));
        let helpers = Helpers::call(&job);
        job.work(&watch);
        helpers.dismiss(&watch);
        if FORKS.load(Ordering::Relaxed) != helpers.forks {
            return Ok(()); // run again by the caller; the job's locks belong to another process
        }
        if let Some(error) = lock(&job.failure).take() {
            return Err(error);
        }
        if job.stop.load(Ordering::Relaxed) { Err(Error::Interrupted) } else { Ok(()) }
    }
}

type Run = &'static (dyn Fn(usize, &Watch<'_>) -> Result<()> + Sync);

/// A slice that several threads write to, each its own chunks.
struct Shared<T> {
    start: *mut T,
    len: usize,
}

impl<T> Shared<T> {
    fn start(&self) -> *mut T {
        self.start
    }
}

// SAFETY: the threads touch disjoint chunks, and `T: Send` where the value is made.
unsafe impl<T: Send> Sync for Shared<T> {}

struct Job {
    run: Run,
    tasks: usize,
    /// The first task that nobody has claimed.
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
fn caught(work: impl FnOnce() -> Result<()>) -> Result<()> {
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
        let forks = FORKS.load(Ordering::Relaxed);
        let wanted = job.places.load(Ordering::Relaxed);
        let pool = Pool::of_this_process();
        pool.offer(job, wanted);
        Helpers { job, pool, forks }
    }

    /// Lets nobody join any more and waits for those inside. Meanwhile the interrupt check goes on.
    fn dismiss(&self, watch: &Watch<'_>) {
        let forked = || FORKS.load(Ordering::Relaxed) != self.forks;
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
            watch.ask();
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
/// How many forks lie between this process and the first one that loaded the library.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_chunk_is_done_once_whatever_the_threads() {
        for threads in [1, 2, 7] {
            for len in [0, 1, 15, 1000] {
                let call = Call { threads, ..Call::ALONE };
                let mut out = vec![0usize; len];
                call.for_each_chunk(&mut out, 7, |n, chunk, _| {
                    for (i, x) in chunk.iter_mut().enumerate() {
                        *x += n * 7 + i + 1;
                    }
                    Ok(())
                })
                .unwrap();
                assert!(out.iter().enumerate().all(|(i, &x)| x == i + 1));
            }
        }
    }

    #[test]
    fn a_panic_is_an_internal_error_and_the_pool_lives_on() {
        let call = Call { threads: 3, ..Call::ALONE };
        for _ in 0..20 {
            let panicking = |n: usize, _: &mut [i32], _: &Watch<'_>| {
                assert!(n != 40, "task {n}");
                Ok(())
            };
            let error = call.for_each_chunk(&mut [0; 64], 1, panicking).unwrap_err();
            assert!(matches!(&error, Error::Internal(text) if text.contains("task 40")), "{error}");
            call.for_each_chunk(&mut [0; 64], 1, |_, _, _| Ok(())).unwrap();
        }
    }

    #[test]
    fn what_a_task_fails_with_comes_out() {
        for threads in [1, 3] {
            let call = Call { threads, ..Call::ALONE };
            let failing = |n: usize, _: &mut [i32], _: &Watch<'_>| {
                if n == 40 { Err(Error::Memory("task 40".into())) } else { Ok(()) }
            };
            let error = call.for_each_chunk(&mut [0; 64], 1, failing).unwrap_err();
            assert!(matches!(&error, Error::Memory(text) if text == "task 40"), "{error}");
        }
    }

    #[test]
    fn what_is_made_in_chunks_is_whole_or_not_there() {
        for threads in [1, 3] {
            let (call, mut all) = (Call { threads, ..Call::ALONE }, vec![1u32; 3]);
            all.reserve(100);
            let count = |n: usize, chunk: &mut [u32], _: &Watch<'_>| {
                assert!(chunk.iter().all(|&x| x == 7), "a chunk begins as copies of the blank");
                chunk.iter_mut().zip(8 * n as u32..).for_each(|(to, x)| *to = x);
                Ok(())
            };
            call.extend_in_chunks(&mut all, 100, 8, 7, count).unwrap();
            assert!(all[..3] == [1; 3] && all[3..].iter().copied().eq(0..100));
            let failing = |n: usize, _: &mut [u32], _: &Watch<'_>| {
                assert!(n != 5, "task 5 panics");
                if n == 9 { Err(Error::Memory("task 9".into())) } else { Ok(()) }
            };
            all.truncate(3);
            call.extend_in_chunks(&mut all, 100, 8, 7, failing).unwrap_err();
            assert_eq!(all, [1; 3]);
            assert!(call.in_chunks("nothing", 0, 8, 7u32, count).unwrap().is_empty());
        }
    }

    #[test]
    fn an_interrupt_stops_what_cannot_be_divided() {
        let asked = AtomicUsize::new(0);
        let interrupted = || asked.fetch_add(1, Ordering::Relaxed) == 1;
        let call = Call { threads: 2, interrupted: &interrupted };
        let mut pieces = 0;
        let outcome = call.one_by_one(usize::MAX, |_, watch| {
            pieces += 1;
            watch.stopped(LOOK_EVERY / 2);
            Ok(())
        });
        assert!(matches!(outcome, Err(Error::Interrupted)));
        assert!(pieces > 0);
        assert!(matches!(
            Call { threads: 1, interrupted: &|| true }.filled("a large array", 1 << 30, 0u8),
            Err(Error::Interrupted)
        ));
        assert_eq!(Call::ALONE.filled("an array", 100_000, 7u32).unwrap(), vec![7; 100_000]);
    }

    #[test]
    fn an_interrupt_stops_every_thread() {
        let call = Call { threads: 2, interrupted: &|| true };
        let begun = Instant::now();
        let outcome = call.for_each_chunk(&mut [0; 4], 1, |_, _, watch| {
            while !watch.stopped(LOOK_EVERY) && begun.elapsed() < Duration::from_secs(20) {}
            Ok(())
        });
        assert!(matches!(outcome, Err(Error::Interrupted)));
        assert!(begun.elapsed() < Duration::from_secs(10));
    }
}
