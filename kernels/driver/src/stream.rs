//! Streams: work that is done when somebody waits for it, or put into a graph.

use crate::{Device, Driver, INVALID_VALUE, LAUNCH_FAILED, NOT_READY, Status};
use std::collections::{BTreeMap, VecDeque};
use std::ffi::c_void;

/// One piece of work.
#[derive(Clone)]
pub(crate) enum Work {
    /// Bytes of pinned memory, read when the copy is done.
    In {
        to: usize,
        from: usize,
        bytes: usize,
    },
    /// Bytes of other memory, read when the copy was started.
    Staged {
        to: usize,
        bytes: Vec<u8>,
    },
    Out {
        to: usize,
        from: usize,
        bytes: usize,
    },
    Fill {
        to: usize,
        value: u8,
        bytes: usize,
    },
    Launch(Launch),
}

/// A kernel with its arguments.
#[derive(Clone)]
pub(crate) struct Launch {
    pub(crate) entry: String,
    pub(crate) grid: [u32; 3],
    pub(crate) block: [u32; 3],
    pub(crate) shared: u32,
    pub(crate) args: Vec<Vec<u8>>,
}

#[derive(Default)]
struct Stream {
    queue: VecDeque<Work>,
    /// What is recorded instead of done.
    recording: Option<Vec<Work>>,
}

/// Streams, events and graphs by handle.
#[derive(Default)]
pub(crate) struct Streams {
    next: usize,
    streams: BTreeMap<usize, Stream>,
    /// The stream in which an event was recorded last, if one was.
    events: BTreeMap<usize, Option<usize>>,
    graphs: BTreeMap<usize, Vec<Work>>,
}

impl Streams {
    fn handle(&mut self) -> usize {
        self.next += 1;
        self.next
    }

    pub(crate) fn create(&mut self) -> usize {
        let handle = self.handle();
        self.streams.insert(handle, Stream::default());
        handle
    }

    pub(crate) fn event(&mut self) -> usize {
        let handle = self.handle();
        self.events.insert(handle, None);
        handle
    }

    pub(crate) fn record(&mut self, event: usize, stream: usize) -> Result<(), Status> {
        *self.events.get_mut(&event).ok_or(INVALID_VALUE)? = Some(stream);
        Ok(())
    }

    /// Milliseconds between two events: there is no clock here, so one, where both are over.
    pub(crate) fn elapsed(&self, events: [usize; 2]) -> Result<f32, Status> {
        for event in events {
            let stream = self.events.get(&event).copied().flatten().ok_or(INVALID_VALUE)?;
            if !self.streams.get(&stream).ok_or(INVALID_VALUE)?.queue.is_empty() {
                return Err(NOT_READY);
            }
        }
        Ok(1.0)
    }

    pub(crate) fn push(&mut self, stream: usize, work: Work) -> Result<(), Status> {
        let stream = self.streams.get_mut(&stream).ok_or(INVALID_VALUE)?;
        match &mut stream.recording {
            Some(recorded) => recorded.push(work),
            None => stream.queue.push_back(work),
        }
        Ok(())
    }

    pub(crate) fn begin(&mut self, stream: usize) -> Result<(), Status> {
        self.streams.get_mut(&stream).ok_or(INVALID_VALUE)?.recording = Some(Vec::new());
        Ok(())
    }

    /// Ends a recording: a graph, or zero where nothing was recorded.
    pub(crate) fn end(&mut self, stream: usize) -> Result<usize, Status> {
        let recorded = self.streams.get_mut(&stream).ok_or(INVALID_VALUE)?.recording.take().ok_or(INVALID_VALUE)?;
        let handle = self.handle();
        self.graphs.insert(handle, recorded);
        Ok(handle)
    }

    /// A graph ready to run.
    pub(crate) fn instantiate(&mut self, graph: usize) -> Result<usize, Status> {
        let work = self.graphs.get(&graph).ok_or(INVALID_VALUE)?.clone();
        let handle = self.handle();
        self.graphs.insert(handle, work);
        Ok(handle)
    }

    pub(crate) fn start(&mut self, graph: usize, stream: usize) -> Result<(), Status> {
        let work = self.graphs.get(&graph).ok_or(INVALID_VALUE)?.clone();
        self.streams.get_mut(&stream).ok_or(INVALID_VALUE)?.queue.extend(work);
        Ok(())
    }

    pub(crate) fn forget(&mut self, graph: usize) {
        self.graphs.remove(&graph);
    }
}

impl Driver {
    /// Does what waits in a stream.
    pub(crate) fn drain(&mut self, stream: usize) -> Result<(), Status> {
        while let Some(work) = self.streams.streams.get_mut(&stream).ok_or(INVALID_VALUE)?.queue.pop_front() {
            if let Err(status) = self.work(work) {
                self.device.sticky = Some(status);
                return Err(status);
            }
        }
        Ok(())
    }

    /// Does what waits before an event.
    pub(crate) fn wait(&mut self, event: usize) -> Result<(), Status> {
        match *self.streams.events.get(&event).ok_or(INVALID_VALUE)? {
            Some(stream) => self.drain(stream),
            None => Ok(()),
        }
    }

    fn work(&mut self, work: Work) -> Result<(), Status> {
        match work {
            Work::In { to, from, bytes } => {
                self.memory.check(to, bytes)?;
                // SAFETY: in a block of the device (checked); pinned when the copy was started, and whoever frees it waits.
                unsafe { (to as *mut u8).copy_from(from as *const u8, bytes) };
            }
            Work::Staged { to, bytes } => {
                self.memory.check(to, bytes.len())?;
                // SAFETY: in a block of the device (checked).
                unsafe { (to as *mut u8).copy_from(bytes.as_ptr(), bytes.len()) };
            }
            Work::Out { to, from, bytes } => {
                self.memory.check(from, bytes)?;
                // SAFETY: from a block of the device (checked) to memory that the caller keeps until it has waited.
                unsafe { (to as *mut u8).copy_from(from as *const u8, bytes) };
            }
            Work::Fill { to, value, bytes } => {
                self.memory.check(to, bytes)?;
                // SAFETY: in a block of the device (checked).
                unsafe { (to as *mut u8).write_bytes(value, bytes) };
            }
            Work::Launch(launch) => launch.run(&mut self.device)?,
        }
        Ok(())
    }
}

impl Launch {
    fn run(mut self, device: &mut Device) -> Result<(), Status> {
        if device.launches >= device.lost_after {
            return Err(LAUNCH_FAILED);
        }
        device.launches += 1;
        let sizes: Vec<usize> = self.args.iter().map(Vec::len).collect();
        // Arguments are as aligned as the driver keeps them: to the 64 bytes of a tensor map.
        let mut values: Vec<Aligned> = self.args.iter_mut().map(|bytes| Aligned::of(bytes)).collect();
        let mut args: Vec<*mut c_void> = values.iter_mut().map(|value| value.0.as_mut_ptr().cast()).collect();
        // SAFETY: the sizes are those of the kernel's parameters in its machine code; the pointers among them are the caller's.
        let ran = unsafe {
            galatea_interpreter::launch(
                &self.entry,
                self.grid,
                self.block,
                self.shared,
                &mut args,
                &sizes,
                device.schedule,
            )
        };
        ran.map_err(|failure| {
            device.failure = failure.to_string();
            LAUNCH_FAILED
        })
    }
}

#[repr(align(64))]
struct Aligned([u8; 128]);

impl Aligned {
    fn of(bytes: &[u8]) -> Self {
        let mut value = [0; 128];
        value[..bytes.len()].copy_from_slice(bytes);
        Self(value)
    }
}
