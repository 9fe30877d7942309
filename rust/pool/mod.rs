//! The process-wide thread pool; it survives `fork`.
//!
//! The calling thread of [`Call::for_each_chunk`] always works too and can finish alone; workers only help. So small
//! jobs, machines that cannot start another thread and freshly forked children need no special case.
#![allow(unsafe_code, reason = "threads write to disjoint chunks of memory that the caller has reserved")]

mod watch;
mod workers;

use std::sync::atomic::{AtomicBool, Ordering};

use watch::CHECK_EVERY;
pub use watch::Watch;
pub(crate) use workers::survive_forks;
use workers::{catch_panic, forks};

use crate::error::{Error, Result, reserve};

/// The maximum number of threads of a call.
pub const MAX_THREADS: usize = 1024;

/// The number of threads: `requested`, else the environment variable `NEURALCF_NUM_THREADS`, else what the process may
/// use by its affinity mask and its cgroup's quota (v1 and v2).
///
/// # Errors
/// [`Error::Argument`] for a number outside 1 to [`MAX_THREADS`], and if the environment variable is not a number.
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

/// How a call runs: its threads and its interrupt check.
#[derive(Clone, Copy)]
pub struct Call<'a> {
    /// The maximum number of threads, including the calling thread; 1 to [`MAX_THREADS`].
    pub threads: usize,
    /// The interrupt check: the calling thread runs it about fifty times a second; `true` stops the call.
    pub interrupted: &'a (dyn Fn() -> bool + Sync),
}

impl std::fmt::Debug for Call<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Call").field("threads", &self.threads).finish_non_exhaustive()
    }
}

impl Call<'static> {
    /// On the calling thread alone, without interrupts.
    pub const ALONE: Call<'static> = Call { threads: 1, interrupted: &|| false };
}

impl Call<'_> {
    /// Calls `task(n, chunk, watch)` for each chunk of `chunk_len` elements of `out` (the last may be shorter), on up
    /// to `threads` threads. What a task writes to its chunk must depend on `n` alone: after a fork during the call,
    /// the child runs every task again.
    ///
    /// # Errors
    /// [`Error::Interrupted`], the error of a failed task, and [`Error::Internal`] if one panicked. All leave `out`
    /// partly written.
    pub fn for_each_chunk<T: Copy + Send>(
        &self,
        out: &mut [T],
        chunk_len: usize,
        task: impl Fn(usize, &mut [T], &Watch<'_>) -> Result<()> + Sync,
    ) -> Result<()> {
        let chunk_len = chunk_len.max(1);
        let tasks = out.len().div_ceil(chunk_len);
        let shared = SharedSlice { start: out.as_mut_ptr(), len: out.len() };
        let run = |n: usize, watch: &Watch<'_>| {
            let from = n * chunk_len;
            let len = chunk_len.min(shared.len - from);
            let start = shared.start().wrapping_add(from);
            // SAFETY: `n < tasks`, so the chunk lies within `out`; `Job::next` hands out each `n` once, so no two
            // chunks overlap; `out` stays borrowed until `run_tasks` returns, which is after the last task.
            let chunk = unsafe { std::slice::from_raw_parts_mut(start, len) };
            task(n, chunk, watch)
        };
        loop {
            let before = forks();
            let outcome = self.run_tasks(tasks, &run);
            if before == forks() {
                return outcome;
            }
            // The interrupt check forked and this is the child: the workers are gone, and with them the tasks they had
            // claimed.
        }
    }

    /// Appends `len` elements to `all`, within its capacity: chunks are filled with copies of `blank`, then passed to
    /// `task` as in [`Call::for_each_chunk`]. So the threads that fill new memory are the first to touch it.
    ///
    /// # Errors
    /// As for [`Call::for_each_chunk`]; nothing is appended then.
    pub fn extend_in_chunks<T: Copy + Send + Sync>(
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
        // SAFETY: the capacity suffices; the call succeeded, so every task has run, and each first wrote its whole
        // chunk.
        unsafe { all.set_len(all.len() + len) };
        Ok(())
    }

    /// A vector of `len` elements, filled as by [`Call::extend_in_chunks`].
    ///
    /// # Errors
    /// As there, and [`Error::Memory`] naming `what` they were for.
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

    /// Calls `piece(0, watch)`, `piece(1, watch)`, ... on the calling thread: interruptible work that cannot be
    /// parallelised. A piece reports its work to `watch`.
    ///
    /// # Errors
    /// [`Error::Interrupted`], and the error of a failed piece.
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

    /// `len` copies of `value`, interruptible: touching a few gigabytes takes a second.
    ///
    /// # Errors
    /// [`Error::Memory`] naming `what` they were for; [`Error::Interrupted`].
    pub(crate) fn filled<T: Clone>(&self, what: &str, len: usize, value: T) -> Result<Vec<T>> {
        const PIECE: usize = 1 << 16;
        let mut all = reserve(what, len)?;
        self.one_by_one(len.div_ceil(PIECE), |n, watch| {
            all.resize(len.min((n + 1) * PIECE), value.clone());
            watch.stopped(CHECK_EVERY);
            Ok(())
        })?;
        Ok(all)
    }

    fn run_tasks(&self, tasks: usize, run: &(dyn Fn(usize, &Watch<'_>) -> Result<()> + Sync)) -> Result<()> {
        if self.threads.min(tasks) <= 1 {
            return catch_panic(|| self.one_by_one(tasks, run));
        }
        workers::run(self.threads, self.interrupted, tasks, run)
    }
}

/// A slice that several threads write to, each to its own chunks.
struct SharedSlice<T> {
    start: *mut T,
    len: usize,
}

impl<T> SharedSlice<T> {
    fn start(&self) -> *mut T {
        self.start
    }
}

// SAFETY: the threads access disjoint chunks, and `T: Send`.
unsafe impl<T: Send> Sync for SharedSlice<T> {}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn every_chunk_is_processed_once_with_any_number_of_threads() {
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
    fn the_pool_survives_a_panic_and_reports_an_internal_error() {
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
    fn the_error_of_a_failed_task_is_returned() {
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
    fn extending_in_chunks_appends_everything_or_nothing() {
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
    fn an_interrupt_stops_serial_work() {
        let checks = AtomicUsize::new(0);
        let interrupted = || checks.fetch_add(1, Ordering::Relaxed) == 1;
        let call = Call { threads: 2, interrupted: &interrupted };
        let mut pieces = 0;
        let outcome = call.one_by_one(usize::MAX, |_, watch| {
            pieces += 1;
            watch.stopped(CHECK_EVERY / 2);
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
        let started = Instant::now();
        let outcome = call.for_each_chunk(&mut [0; 4], 1, |_, _, watch| {
            while !watch.stopped(CHECK_EVERY) && started.elapsed() < Duration::from_secs(20) {}
            Ok(())
        });
        assert!(matches!(outcome, Err(Error::Interrupted)));
        assert!(started.elapsed() < Duration::from_secs(10));
    }
}
