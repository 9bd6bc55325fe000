//! The fork-join pool: a fixed set of threads that share out numbered tasks.
//!
//! Why not rayon here: its injector allocates a block every few dozen calls from outside (a run must not allocate), and
//! a fork-join costs microseconds where a program of small kernels has some hundred of them a step. A task is the same
//! work whoever runs it, so results do not depend on the number of threads.

use std::cell::UnsafeCell;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};

pub use crate::pieces::{ByRow, ByTask, Output, Tile};

pub(crate) use crate::pieces::Pieces;

/// What the threads run: a borrowed closure, its lifetime erased while `Pool::run` waits for every user of it.
type Job = *const (dyn Fn(usize) + Sync);

struct Shared {
    job: UnsafeCell<Option<(Job, usize)>>,
    /// Incremented when a job is ready; a worker joins each generation once.
    generation: AtomicUsize,
    /// The next task to take.
    next: AtomicUsize,
    /// Workers that have finished the current generation.
    finished: AtomicUsize,
    panicked: AtomicBool,
    quit: AtomicBool,
    asleep: Mutex<usize>,
    wake: Condvar,
}

// SAFETY: `job` is written only by the thread inside `Pool::run` (which holds `Pool::turn`) while every worker waits for
// the next generation, and read by workers after they acquire that generation.
unsafe impl Sync for Shared {}
// SAFETY: the pointer in `job` is to a `Sync` closure that outlives its generation (`Pool::run`).
unsafe impl Send for Shared {}

/// Spins before a waiting worker sleeps: about 50 microseconds, longer than the gap between two kernels.
/// Under Miri every one is interpreted.
const SPINS: u32 = if cfg!(miri) { 10 } else { 20_000 };

/// Spins before the caller lets other programs run while it waits for a worker.
const YIELD: u32 = 4_000;

/// A fixed number of threads, the caller among them.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<std::thread::JoinHandle<()>>,
    turn: Mutex<()>,
}

impl Pool {
    /// A pool of `threads` threads (at least one: the caller's).
    pub fn new(threads: usize) -> Self {
        let shared = Arc::new(Shared {
            job: UnsafeCell::new(None),
            generation: AtomicUsize::new(0),
            next: AtomicUsize::new(0),
            finished: AtomicUsize::new(0),
            panicked: AtomicBool::new(false),
            quit: AtomicBool::new(false),
            asleep: Mutex::new(0),
            wake: Condvar::new(),
        });
        let workers = (1..threads.max(1))
            .map(|_| {
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || work(&shared))
            })
            .collect();
        Self { shared, workers, turn: Mutex::new(()) }
    }

    /// The number of threads, the caller included.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Runs `task(0) .. task(tasks - 1)`, each once, in any order, and returns when all are done.
    ///
    /// # Panics
    /// If a task panics, after every task has ended.
    pub fn run(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        if tasks <= 1 || self.workers.is_empty() {
            (0..tasks).for_each(task);
            return;
        }
        let turn = self.turn.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let shared = &*self.shared;
        // SAFETY: only the lifetime changes; `wait` below keeps `task` borrowed until no worker can hold it.
        let job = unsafe { std::mem::transmute::<*const (dyn Fn(usize) + Sync + '_), Job>(task) };
        // SAFETY: every worker has finished the previous generation (`wait` of the previous run) and `turn` excludes others.
        unsafe { *shared.job.get() = Some((job, tasks)) };
        shared.next.store(0, Ordering::Relaxed);
        shared.finished.store(0, Ordering::Relaxed);
        shared.generation.fetch_add(1, Ordering::SeqCst);
        if *shared.asleep.lock().unwrap_or_else(std::sync::PoisonError::into_inner) > 0 {
            shared.wake.notify_all();
        }
        let mine = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| take(shared, task, tasks)));
        let mut spins = 0u32;
        while shared.finished.load(Ordering::Acquire) < self.workers.len() {
            spins += 1;
            if spins < YIELD {
                std::hint::spin_loop();
            } else {
                // Another program has the core that a worker needs.
                std::thread::yield_now();
            }
        }
        drop(turn);
        if let Err(payload) = mine {
            std::panic::resume_unwind(payload);
        }
        assert!(!shared.panicked.swap(false, Ordering::AcqRel), "a kernel task panicked on another thread");
    }

    /// Cuts `y` into pieces of `grain` rows of `width` and runs `task(first_row, piece)` for each.
    pub fn rows<T: Send + Sync>(&self, y: &mut [T], width: usize, grain: usize, task: impl Fn(usize, &mut [T]) + Sync) {
        let rows = y.len() / width;
        self.cut(rows, grain, ByRow::new(y, width), task);
    }

    /// As [`Pool::rows`] with a second output of `width_2` elements a row.
    pub fn rows2<T: Send + Sync, U: Send + Sync>(
        &self,
        y: &mut [T],
        width: usize,
        z: &mut [U],
        width_2: usize,
        grain: usize,
        task: impl Fn(usize, &mut [T], &mut [U]) + Sync,
    ) {
        let rows = y.len() / width;
        self.cut(rows, grain, (ByRow::new(y, width), ByRow::new(z, width_2)), |row, (y, z)| task(row, y, z));
    }

    /// As [`Pool::rows`] with two more outputs.
    #[expect(clippy::too_many_arguments, reason = "three outputs with their widths")]
    pub fn rows3<T: Send + Sync, U: Send + Sync, W: Send + Sync>(
        &self,
        y: &mut [T],
        width: usize,
        z: &mut [U],
        width_2: usize,
        w: &mut [W],
        width_3: usize,
        grain: usize,
        task: impl Fn(usize, &mut [T], &mut [U], &mut [W]) + Sync,
    ) {
        let rows = y.len() / width;
        let outputs = (ByRow::new(y, width), ByRow::new(z, width_2), ByRow::new(w, width_3));
        self.cut(rows, grain, outputs, |row, (y, z, w)| task(row, y, z, w));
    }

    /// Cuts `rows` into pieces of `grain` and runs `task(first_row, pieces)` with that piece of every output: one
    /// [`Output`], a tuple of them, or an option of one.
    ///
    /// # Panics
    /// If an output has another number of rows (or of tasks).
    pub fn cut<O: Output>(&self, rows: usize, grain: usize, outputs: O, task: impl Fn(usize, O::Piece) + Sync) {
        let grain = grain.max(1);
        let tasks = rows.div_ceil(grain);
        outputs.check(rows, tasks);
        self.run(tasks, &|i| {
            let (from, to) = (i * grain, ((i + 1) * grain).min(rows));
            // SAFETY: the row ranges of distinct tasks are disjoint and inside the outputs (checked above); each task runs
            // once.
            let pieces = unsafe { outputs.piece(i, from, to) };
            task(from, pieces);
        });
    }

    /// Runs `task(group, columns, y, z)` for every group of `height` rows of `y` (`height_2` of `z`) and every run of
    /// `span` of their `width` columns: the task owns these columns of the group's rows.
    #[expect(clippy::too_many_arguments, reason = "two outputs with their heights")]
    pub fn tiles<T: Send + Sync, U: Send + Sync>(
        &self,
        width: usize,
        span: usize,
        y: &mut [T],
        height: usize,
        z: &mut [U],
        height_2: usize,
        task: impl Fn(usize, Range<usize>, Tile<'_, T>, Tile<'_, U>) + Sync,
    ) {
        let groups = y.len() / (height * width);
        assert_eq!(
            y.len(),
            groups * height * width,
            "an output that is not {groups} groups of {height} rows of {width}"
        );
        assert_eq!(
            z.len(),
            groups * height_2 * width,
            "a second output that is not groups of {height_2} rows of {width}"
        );
        let across = width.div_ceil(span);
        let (y, z) = (Pieces::new(y), Pieces::new(z));
        self.run(groups * across, &|i| {
            let (group, from) = (i / across, i % across * span);
            let columns = from..(from + span).min(width);
            // SAFETY: groups and runs of columns of distinct tasks are disjoint, and each task runs once.
            let (y, z) = unsafe {
                (
                    Tile::new(&y, width, group * height, height, columns.clone()),
                    Tile::new(&z, width, group * height_2, height_2, columns.clone()),
                )
            };
            task(group, columns, y, z);
        });
    }
}

fn take(shared: &Shared, task: &(dyn Fn(usize) + Sync), tasks: usize) {
    loop {
        let i = shared.next.fetch_add(1, Ordering::Relaxed);
        if i >= tasks {
            return;
        }
        task(i);
    }
}

fn work(shared: &Shared) {
    let mut seen = 0;
    loop {
        let mut spins = 0;
        while shared.generation.load(Ordering::Acquire) == seen {
            spins += 1;
            if spins < SPINS {
                std::hint::spin_loop();
                continue;
            }
            let mut asleep = shared.asleep.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            *asleep += 1;
            while shared.generation.load(Ordering::SeqCst) == seen {
                asleep = shared.wake.wait(asleep).unwrap_or_else(std::sync::PoisonError::into_inner);
            }
            *asleep -= 1;
        }
        seen += 1;
        if shared.quit.load(Ordering::Acquire) {
            return;
        }
        // SAFETY: written before this generation was published, not changed until this worker counts itself finished.
        let (job, tasks) = unsafe { (*shared.job.get()).expect("a generation has a job") };
        let run = std::panic::AssertUnwindSafe(|| {
            // SAFETY: `Pool::run` keeps the closure alive until `finished` counts this worker.
            take(shared, unsafe { &*job }, tasks);
        });
        if std::panic::catch_unwind(run).is_err() {
            shared.panicked.store(true, Ordering::Release);
        }
        shared.finished.fetch_add(1, Ordering::Release);
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.quit.store(true, Ordering::Release);
        self.shared.generation.fetch_add(1, Ordering::SeqCst);
        drop(self.shared.asleep.lock());
        self.shared.wake.notify_all();
        for worker in self.workers.drain(..) {
            let _ = worker.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_runs_once_for_any_number_of_threads() {
        for threads in [1, 2, 3, 5] {
            let pool = Pool::new(threads);
            for round in 0..200 {
                let counts: Vec<AtomicUsize> = (0..round % 37).map(|_| AtomicUsize::new(0)).collect();
                pool.run(counts.len(), &|i| {
                    counts[i].fetch_add(1, Ordering::Relaxed);
                });
                assert!(counts.iter().all(|c| c.load(Ordering::Relaxed) == 1));
            }
        }
    }

    #[test]
    fn rows_reach_every_element_with_their_row_number() {
        let pool = Pool::new(2);
        let (mut y, mut z) = (vec![0usize; 7 * 3], vec![0u32; 7]);
        pool.rows2(&mut y, 3, &mut z, 1, 2, |first, y, z| {
            for (r, (y, z)) in y.chunks_mut(3).zip(z).enumerate() {
                y.fill(first + r);
                *z = (first + r) as u32;
            }
        });
        assert_eq!(y, (0..21).map(|i| i / 3).collect::<Vec<_>>());
        assert_eq!(z, (0..7).collect::<Vec<_>>());
    }

    #[test]
    fn pieces_by_row_and_by_task_are_cut_together() {
        let pool = Pool::new(3);
        let (mut y, mut sums) = (vec![0u32; 7 * 2], vec![0u32; 3]);
        let outputs = (ByRow::new(&mut y, 2), ByTask::new(&mut sums, 1), None::<ByRow<'_, f32>>);
        pool.cut(7, 3, outputs, |first, (y, sums, none)| {
            assert!(none.is_none());
            y.iter_mut().enumerate().for_each(|(i, y)| *y = (2 * first + i) as u32);
            sums[0] = y.iter().sum();
        });
        assert_eq!(y, (0..14).collect::<Vec<_>>());
        assert_eq!(sums, [15, 51, 25]);
    }

    #[test]
    fn tiles_cover_every_element_once() {
        let pool = Pool::new(3);
        let (mut y, mut z) = (vec![0u32; 2 * 3 * 5], vec![0u32; 2 * 5]);
        pool.tiles(5, 2, &mut y, 3, &mut z, 1, |group, columns, mut y, mut z| {
            for n in 0..y.height() {
                for (c, (y, z)) in columns.clone().zip(y.row(n).iter_mut().zip(z.row(0))) {
                    *y += ((group * 3 + n) * 5 + c) as u32;
                    *z += *y;
                }
            }
        });
        assert_eq!(y, (0..30).collect::<Vec<_>>());
        assert_eq!(z, (0..10).map(|i| 3 * (i / 5 * 15 + i % 5) + 15).collect::<Vec<_>>());
    }

    #[test]
    fn sleeping_workers_wake() {
        let pool = Pool::new(2);
        for _ in 0..3 {
            std::thread::sleep(std::time::Duration::from_millis(5));
            let sum = AtomicUsize::new(0);
            pool.run(10, &|i| {
                sum.fetch_add(i, Ordering::Relaxed);
            });
            assert_eq!(sum.into_inner(), 45);
        }
    }

    #[test]
    fn a_panicking_task_panics_the_caller_and_leaves_the_pool_usable() {
        let pool = Pool::new(2);
        let run = std::panic::AssertUnwindSafe(|| pool.run(8, &|i| assert_ne!(i, 5)));
        assert!(std::panic::catch_unwind(run).is_err());
        let sum = AtomicUsize::new(0);
        pool.run(4, &|i| {
            sum.fetch_add(i, Ordering::Relaxed);
        });
        assert_eq!(sum.into_inner(), 6);
    }
}
