//! A model on a thread of its own: requests wait in a bounded queue, those that arrive within a window are computed together.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use rekindle_state::Tensor;

use super::engine::{Description, Engine, Loaded, Source};
use super::metrics::Metrics;

/// How requests are joined.
#[derive(Debug, Clone, Copy)]
pub struct Batching {
    /// The most items in a batch.
    pub most: usize,
    /// How long the first request of a batch waits for others.
    pub window: Duration,
    /// How many requests may wait; more are refused.
    pub queue: usize,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The request does not fit the model.
    Wrong(String),
    /// Too many wait already.
    Busy,
    /// The server stops.
    Stopping,
    /// The answer was not there in time.
    Late,
    /// The client has gone away.
    Gone,
}

/// How long somebody waits for an answer.
pub struct Patience<'c> {
    /// Until when.
    pub deadline: Instant,
    /// Whether the client has gone away; asked now and then.
    pub is_gone: &'c dyn Fn() -> bool,
}

/// How often a client that waits is looked at.
const WATCH: Duration = Duration::from_millis(50);

/// A request on its way.
struct Job {
    inputs: Vec<Tensor>,
    reply: SyncSender<Result<Vec<Tensor>, String>>,
    /// Nobody waits any more.
    abandoned: Arc<AtomicBool>,
    arrived: Instant,
}

impl Job {
    fn items(&self) -> usize {
        self.inputs.first().and_then(|input| input.shape().first()).map_or(1, |items| *items as usize)
    }

    /// Whether both can be one batch: the same types and shapes but for the first axis.
    fn fits(&self, other: &Self) -> bool {
        self.inputs.iter().zip(&other.inputs).all(|(a, b)| {
            let rest = |tensor: &Tensor| tensor.shape().get(1..).map(<[u64]>::to_vec);
            a.dtype() == b.dtype() && rest(a).is_some() && rest(a) == rest(b)
        })
    }
}

enum Message {
    Job(Job),
    /// A newer version of the model.
    Replace(Box<dyn Engine>, bool),
}

/// A model that is served.
pub struct Served {
    /// Its name in addresses.
    pub name: String,
    description: RwLock<Arc<Description>>,
    sender: SyncSender<Message>,
    metrics: Arc<Metrics>,
}

impl Served {
    /// Starts the thread of a model.
    ///
    /// # Errors
    /// When the system has no thread left.
    pub fn start(
        name: String,
        loaded: Loaded,
        batching: Batching,
        metrics: Arc<Metrics>,
    ) -> std::io::Result<Arc<Self>> {
        let (sender, receiver) = sync_channel(batching.queue);
        let Loaded { description, engine } = loaded;
        let joins = description.batches;
        let served = Arc::new(Self {
            name: name.clone(),
            description: RwLock::new(Arc::new(description)),
            sender,
            metrics: metrics.clone(),
        });
        let worker = Worker { name: name.clone(), engine, joins, batching, metrics, receiver, aside: VecDeque::new() };
        std::thread::Builder::new().name(format!("model {name}")).spawn(move || worker.run())?;
        Ok(served)
    }

    /// The model as clients see it.
    pub fn description(&self) -> Arc<Description> {
        self.description.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Computes a request.
    ///
    /// # Errors
    /// When it does not fit, cannot be taken now, or nobody waits for it any more.
    pub fn infer(&self, inputs: Vec<Tensor>, patience: &Patience<'_>) -> Result<Vec<Tensor>, Refusal> {
        self.description().check(&inputs).map_err(Refusal::Wrong)?;
        let (reply, answer) = sync_channel(1);
        let abandoned = Arc::new(AtomicBool::new(false));
        let job = Job { inputs, reply, abandoned: abandoned.clone(), arrived: Instant::now() };
        self.metrics.waiting(&self.name, 1);
        self.sender.try_send(Message::Job(job)).map_err(|error| {
            self.metrics.waiting(&self.name, -1);
            match error {
                TrySendError::Full(_) => Refusal::Busy,
                TrySendError::Disconnected(_) => Refusal::Stopping,
            }
        })?;
        let refusal = loop {
            let left = patience.deadline.saturating_duration_since(Instant::now());
            match answer.recv_timeout(left.min(WATCH)) {
                Ok(answer) => return answer.map_err(Refusal::Wrong),
                Err(RecvTimeoutError::Disconnected) => break Refusal::Stopping,
                Err(RecvTimeoutError::Timeout) if left <= WATCH => break Refusal::Late,
                Err(RecvTimeoutError::Timeout) if (patience.is_gone)() => break Refusal::Gone,
                Err(RecvTimeoutError::Timeout) => {}
            }
        };
        abandoned.store(true, Ordering::Relaxed);
        Err(refusal)
    }

    /// Loads a source whenever it has something else than what is known. An error is said once and the model stays as it was.
    pub fn follow(
        self: &Arc<Self>,
        source: Arc<dyn Source>,
        mut known: String,
        every: Duration,
        say: impl Fn(String) + Send + 'static,
    ) {
        let served = Arc::downgrade(self);
        let watch = move || {
            loop {
                std::thread::sleep(every);
                let Some(served) = served.upgrade() else { return };
                let now = source.current();
                if now == known {
                    continue;
                }
                known = now;
                match source.load() {
                    Ok(Loaded { description, engine }) => {
                        let (joins, version) = (description.batches, description.version.clone());
                        // Waits for room in the queue: requests that were taken before are answered by the old one.
                        if served.sender.send(Message::Replace(engine, joins)).is_err() {
                            return;
                        }
                        *served.description.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(description);
                        served.metrics.reloaded(&served.name);
                        say(format!("{}: now {version}", served.name));
                    }
                    Err(error) => {
                        say(format!("{}: what is new cannot be loaded, and the old one stays: {error}", served.name))
                    }
                }
            }
        };
        // Without a thread for it, the model is served as it is.
        let _ = std::thread::Builder::new().name(format!("watch {}", self.name)).spawn(watch);
    }
}

struct Worker {
    name: String,
    engine: Box<dyn Engine>,
    joins: bool,
    batching: Batching,
    metrics: Arc<Metrics>,
    receiver: Receiver<Message>,
    /// Requests that did not fit the batch under way.
    aside: VecDeque<Message>,
}

impl Worker {
    fn run(mut self) {
        while let Some(message) = self.next(None) {
            match message {
                Message::Replace(engine, joins) => (self.engine, self.joins) = (engine, joins),
                Message::Job(job) => {
                    let batch = self.collect(job);
                    self.answer(batch);
                }
            }
        }
    }

    /// The next message, those set aside first. None when there are no more, or none within the time.
    fn next(&mut self, until: Option<Instant>) -> Option<Message> {
        if until.is_none()
            && let Some(message) = self.aside.pop_front()
        {
            return Some(message);
        }
        let message = match until {
            None => self.receiver.recv().ok(),
            Some(until) => self.receiver.recv_timeout(until.saturating_duration_since(Instant::now())).ok(),
        }?;
        if matches!(message, Message::Job(_)) {
            self.metrics.waiting(&self.name, -1);
        }
        Some(message)
    }

    /// The requests that are computed together with the first one.
    fn collect(&mut self, first: Job) -> Vec<Job> {
        let mut items = first.items();
        let mut batch = vec![first];
        if !self.joins {
            return batch;
        }
        let until = batch[0].arrived + self.batching.window;
        // Those set aside earlier come first, in order, up to a change of the model.
        let mut kept = VecDeque::new();
        let mut may_take = true;
        while let Some(message) = self.aside.pop_front() {
            match message {
                Message::Job(job) if may_take && self.may_join(&batch[0], &job, items) => {
                    items += job.items();
                    batch.push(job);
                }
                other => {
                    may_take &= !matches!(other, Message::Replace(..));
                    kept.push_back(other);
                }
            }
        }
        self.aside = kept;
        while may_take && items < self.batching.most {
            match self.next(Some(until)) {
                Some(Message::Job(job)) if self.may_join(&batch[0], &job, items) => {
                    items += job.items();
                    batch.push(job);
                }
                Some(other) => {
                    may_take = !matches!(other, Message::Replace(..));
                    self.aside.push_back(other);
                    // A queue in which nothing fits is not drained into memory.
                    may_take &= self.aside.len() < self.batching.most;
                }
                None => break,
            }
        }
        batch
    }

    fn may_join(&self, first: &Job, job: &Job, items: usize) -> bool {
        items + job.items() <= self.batching.most && first.fits(job)
    }

    fn answer(&mut self, mut batch: Vec<Job>) {
        // Whoever has gone away needs no answer.
        batch.retain(|job| !job.abandoned.load(Ordering::Relaxed));
        let items: usize = batch.iter().map(Job::items).sum();
        if batch.len() > 1
            && let Some(outputs) = self.together(&batch, items)
        {
            self.metrics.batch(&self.name, items);
            for (job, outputs) in batch.into_iter().zip(outputs) {
                let _ = job.reply.send(Ok(outputs));
            }
            return;
        }
        for job in batch {
            self.metrics.batch(&self.name, job.items());
            let answer = self.compute(job.inputs);
            let _ = job.reply.send(answer);
        }
    }

    /// One computation for all; nothing where that fails or its outputs cannot be told apart, and each is computed alone.
    fn together(&mut self, batch: &[Job], items: usize) -> Option<Vec<Vec<Tensor>>> {
        let counts: Vec<usize> = batch.iter().map(Job::items).collect();
        let inputs = (0..batch[0].inputs.len()).map(|port| {
            let parts: Vec<&Tensor> = batch.iter().map(|job| &job.inputs[port]).collect();
            join(&parts)
        });
        let outputs = self.compute(inputs.collect::<Option<Vec<_>>>()?).ok()?;
        let mut answers: Vec<Vec<Tensor>> = batch.iter().map(|_| Vec::new()).collect();
        for output in outputs {
            if output.shape().first() != Some(&(items as u64)) {
                self.joins = false;
                return None;
            }
            for (answer, part) in answers.iter_mut().zip(split(&output, &counts)?) {
                answer.push(part);
            }
        }
        Some(answers)
    }

    fn compute(&mut self, inputs: Vec<Tensor>) -> Result<Vec<Tensor>, String> {
        let started = Instant::now();
        let engine = &mut self.engine;
        let run = || std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| engine.run(inputs)));
        let answer =
            crate::error::without_panic_output(run).unwrap_or_else(|panic| Err(crate::error::failure(&*panic)));
        self.metrics.computed(&self.name, started.elapsed());
        answer
    }
}

/// Tensors joined along the first axis.
fn join(parts: &[&Tensor]) -> Option<Tensor> {
    let mut shape = parts[0].shape().to_vec();
    *shape.first_mut()? = parts.iter().filter_map(|part| part.shape().first()).sum();
    let mut bytes = Vec::new();
    for part in parts {
        bytes.extend_from_slice(&part.bytes().ok()?);
    }
    Tensor::from_bytes(parts[0].dtype(), &shape, bytes).ok()
}

/// A tensor cut along the first axis.
fn split(whole: &Tensor, counts: &[usize]) -> Option<Vec<Tensor>> {
    let bytes = whole.bytes().ok()?;
    let items: usize = counts.iter().sum();
    let each = bytes.len() / items.max(1);
    let mut at = 0;
    let mut parts = Vec::new();
    for count in counts {
        let mut shape = whole.shape().to_vec();
        *shape.first_mut()? = *count as u64;
        let end = at + count * each;
        parts.push(Tensor::from_bytes(whole.dtype(), &shape, bytes.get(at..end)?.to_vec()).ok()?);
        at = end;
    }
    Some(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_joined_is_cut_again() {
        let (a, b) = (
            Tensor::from_f32(&[1, 2], &[1.0, 2.0]).unwrap(),
            Tensor::from_f32(&[2, 2], &[3.0, 4.0, 5.0, 6.0]).unwrap(),
        );
        let whole = join(&[&a, &b]).unwrap();
        assert_eq!(whole.shape(), [3, 2]);
        let parts = split(&whole, &[1, 2]).unwrap();
        assert_eq!(
            (parts[0].to_f32().unwrap(), parts[1].to_f32().unwrap()),
            (a.to_f32().unwrap(), b.to_f32().unwrap())
        );
    }
}
