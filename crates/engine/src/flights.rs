//! One runner a key between processes: what a run does before and after, and how one waits for another's.
//!
//! The protocol is the store's ([`cooper_store::Flight`]); `docs/design/solver-and-cache.md` has its reasons.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use cooper_executor::groups::{self, Cleared};
use cooper_llb::{Op, Vertex, pb};
use cooper_oci::{Digest, Hasher};
use cooper_solver::{Failure, Key, Out, Ran};
use cooper_store::{Attempt, DeadAttempt, Flight, Store};
use serde::{Deserialize, Serialize};

use crate::drive::{Fault, Run};
use crate::error::StepError;
use crate::work::Work;

/// How often a waiting process looks: often enough that a build of quick steps loses little, rarely enough that a
/// hundred waiting ones cost nothing that can be measured. Each pause is drawn anew, so that they do not all come at once.
const PAUSE: (u64, u64) = (20, 50);

/// Processes of a dead builder's step die with it. If they do not, for a stopped supervisor, say, the step is run beside
/// them after this time: they write where nobody will look.
const PATIENCE: Duration = Duration::from_secs(5);

/// Space on the store's disk below which a failure may be the disk's.
const FULL: u64 = 16 << 20;

/// Runs that are under way or wait, by key.
#[derive(Debug, Default)]
pub(crate) struct Flights(Mutex<HashMap<Name, Arc<Wish>>>);

/// A key, and whether records are ignored: such a run is apart from others of its key.
type Name = (Key, bool);

/// A run that this process wants to make.
#[derive(Debug)]
pub(crate) struct Wish {
    flight: Flight,
    /// When a dead builder's processes were first seen under the key.
    orphaned: Mutex<Option<Instant>>,
}

/// A failure as it is published.
#[derive(Debug, Serialize, Deserialize)]
struct Published {
    code: i32,
    command: String,
    /// What the step had around it that is not in its key.
    around: Digest,
}

/// What there is to do about a run.
pub(crate) enum Turn {
    /// It is this process's, and nobody else makes it.
    Mine(Arc<Wish>),
    /// Another process has made it.
    Found(Vec<Out>),
    /// Another process has failed at it since this one asked.
    Failed(StepError),
    /// Another process is at it.
    Busy,
}

impl Flights {
    fn get(&self, key: Key, forced: bool) -> Option<Arc<Wish>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&(key, forced)).cloned()
    }

    /// Lets go of a run: published, failed or given up. Whoever waits may go on.
    pub(crate) fn land(&self, key: Key, forced: bool) {
        let landed = self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&(key, forced));
        if let Some(wish) = landed {
            // Dropping unlocks too, but somebody may still look.
            let _ = wish.flight.unlock();
        }
    }

    /// Finds the wish that stands for a run, from its first try to its landing.
    fn wish(&self, store: &Store, key: Key, forced: bool) -> Result<Arc<Wish>, StepError> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(wish) = all.get(&(key, forced)) {
            return Ok(wish.clone());
        }
        let mut name = Digest::from_bytes(key.0);
        if forced {
            // Nobody else makes the same: it has a nonce. One key could be forced by two processes at once.
            let mut hash = Hasher::new();
            hash.field(name.as_bytes());
            hash.field(crate::nonce());
            name = hash.finish();
        }
        let flight = store.flight(&name)?;
        let wish = Arc::new(Wish { flight, orphaned: Mutex::default() });
        all.insert((key, forced), wish.clone());
        Ok(wish)
    }
}

impl Wish {
    pub(crate) fn begin(&self) -> Result<Attempt, StepError> {
        Ok(self.flight.begin(&groups::place())?)
    }

    /// Publishes a failure to those who wait, if it would have been theirs too.
    pub(crate) fn fail(&self, store: &Store, vertex: &Vertex, attempt: Attempt, error: &StepError) {
        let StepError::Exit { code, command } = error else { return };
        let Op::Exec(exec) = &vertex.op else { return };
        // 137: killed, for want of memory as often as not.
        if *code == 137 || !is_public(exec) || is_full(store) {
            return;
        }
        let published = Published { code: *code, command: command.clone(), around: around(exec) };
        if let Ok(what) = serde_json::to_vec(&published) {
            // Unpublished, it costs the others a run each.
            let _ = self.flight.fail(attempt, &what);
        }
    }

    /// Returns a failure that another process published, if it counts here, with the attempt that had it.
    fn failure(&self, vertex: &Vertex) -> Result<Option<(u64, StepError)>, StepError> {
        let Op::Exec(exec) = &vertex.op else { return Ok(None) };
        if !is_public(exec) {
            return Ok(None);
        }
        for failure in self.flight.failures()? {
            // One that a later version wrote in another form is none.
            let Ok(published) = serde_json::from_slice::<Published>(&failure.what) else { continue };
            // With other proxies another process may have failed since: that says nothing here.
            if published.around == around(exec) {
                let Published { code, command, .. } = published;
                return Ok(Some((failure.attempt, StepError::Exit { code, command })));
            }
        }
        Ok(None)
    }

    /// Clears up after dead builders of the same step. Returns whether nothing of theirs runs any more, or has had its time.
    fn predecessors(&self, store: &Store) -> Result<bool, StepError> {
        let left = clear(store, self.flight.predecessors()?)?;
        let mut orphaned = self.orphaned.lock().unwrap_or_else(PoisonError::into_inner);
        if left == 0 {
            *orphaned = None;
            return Ok(true);
        }
        Ok(orphaned.get_or_insert_with(Instant::now).elapsed() > PATIENCE)
    }
}

/// Kills and clears away what dead builders left outside of the store; returns how many attempts still run.
pub(crate) fn clear(store: &Store, attempts: Vec<DeadAttempt>) -> Result<usize, cooper_store::Error> {
    let mut left = 0;
    for attempt in attempts {
        let cleared = groups::clear(&attempt.place, &run_name(attempt.name));
        if attempt.running && cleared != Cleared::Gone {
            left += 1;
        } else {
            store.forget_attempt(attempt.name)?;
        }
    }
    Ok(left)
}

/// Returns what the executor calls an attempt.
pub(crate) fn run_name(attempt: u64) -> String {
    format!("{attempt:016x}")
}

/// Tells whether what a step does depends on nothing that only its builder has.
fn is_public(exec: &pb::ExecOp) -> bool {
    let private = |mount: &pb::Mount| {
        matches!(pb::MountType::try_from(mount.mount_type), Ok(pb::MountType::Secret | pb::MountType::Ssh))
    };
    exec.secretenv.is_empty() && !exec.mounts.iter().any(private)
}

/// Names what a step has around it that is not in its key: proxies, addresses of hosts.
fn around(exec: &pb::ExecOp) -> Digest {
    let mut hash = Hasher::new();
    let meta = exec.meta.clone().unwrap_or_default();
    let proxy = meta.proxy_env.unwrap_or_default();
    for value in [&proxy.http_proxy, &proxy.https_proxy, &proxy.ftp_proxy, &proxy.no_proxy, &proxy.all_proxy]
    {
        hash.field(value);
    }
    for host in &meta.extra_hosts {
        hash.field(&host.host);
        hash.field(&host.ip);
    }
    hash.finish()
}

fn is_full(store: &Store) -> bool {
    let space = rustix::fs::statvfs(store.root());
    space.is_ok_and(|space| space.f_bavail.saturating_mul(space.f_frsize) < FULL)
}

impl Work {
    /// Tells whether another process is at a run already, before anything is fetched for it.
    pub(crate) async fn is_taken(self: &Arc<Self>, run: &Run) -> Result<bool, StepError> {
        if run.forced {
            return Ok(false);
        }
        let (work, key) = (self.clone(), run.key);
        blocking(move || {
            let wish = work.flights.wish(&work.store, key, false)?;
            Ok(!wish.flight.is_free()?)
        })
        .await
    }

    /// Finds out whose turn it is. Never waits.
    ///
    /// Forced runs are one a build by their nonce: no other process makes the same.
    pub(crate) async fn turn(self: &Arc<Self>, run: &Run, vertex: &Arc<Vertex>) -> Result<Turn, StepError> {
        let (work, run, vertex) = (self.clone(), run.clone(), vertex.clone());
        blocking(move || {
            let wish = work.flights.wish(&work.store, run.key, run.forced)?;
            if run.forced {
                return Ok(Turn::Mine(wish));
            }
            if !wish.flight.try_lock()? {
                return Ok(Turn::Busy);
            }
            // It may have been made between the last look and the lock.
            if let Some(outs) = work.look(run.vertex, run.key, true) {
                return Ok(Turn::Found(outs));
            }
            // Who waits for a slot after one builder's death may find that the next has failed meanwhile.
            if let Some((attempt, error)) = wish.failure(&vertex)? {
                let mut show = |bytes: &[u8]| work.events.log(vertex.digest, false, bytes);
                Follow::default().read(&wish.flight, attempt, &mut show)?;
                return Ok(Turn::Failed(error));
            }
            if !wish.predecessors(&work.store)? {
                wish.flight.unlock()?;
                return Ok(Turn::Busy);
            }
            Ok(Turn::Mine(wish))
        })
        .await
    }

    /// Waits until no other process is at a run, showing what that prints. Returns what came of it if it counts here.
    pub(crate) async fn wait_for_other(
        self: &Arc<Self>,
        run: &Run,
        vertex: &Arc<Vertex>,
    ) -> Option<Ran<Fault>> {
        let wish = self.flights.get(run.key, run.forced)?;
        self.events.reason(vertex.digest, "another process is at the same step; what it prints:");
        let mut follow = Some(Follow::default());
        loop {
            let (low, high) = PAUSE;
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(low + random() % (high - low))) => {}
                () = run.cancel.cancelled() => return None,
            }
            let (work, wish, run, shown) = (self.clone(), wish.clone(), run.clone(), vertex.clone());
            let mut following = follow.take().unwrap_or_default();
            let looked = blocking(move || {
                let seen = work.look_at_other(&wish, &run, &shown, &mut following)?;
                Ok((seen, following))
            })
            .await;
            match looked {
                Ok((Seen::Busy, following)) => follow = Some(following),
                Ok((Seen::Free, _)) => {
                    self.events
                        .reason(vertex.digest, "the other process ended without a result: begins here");
                    return None;
                }
                Ok((Seen::Ran(ran), _)) => return Some(ran),
                // Whatever it is, beginning again will meet it with a slot, and tell.
                Err(_) => return None,
            }
        }
    }

    fn look_at_other(
        &self,
        wish: &Wish,
        run: &Run,
        vertex: &Vertex,
        follow: &mut Follow,
    ) -> Result<Seen, StepError> {
        // In this order: what was published before the lock was given back is seen after it is seen free.
        let free = wish.flight.is_free()?;
        let mut show = |bytes: &[u8]| self.events.log(vertex.digest, false, bytes);
        if !free {
            if let Some(attempt) = wish.flight.running()? {
                follow.read(&wish.flight, attempt, &mut show)?;
            }
            return Ok(Seen::Busy);
        }
        if let Some((attempt, error)) = wish.failure(vertex)? {
            follow.read(&wish.flight, attempt, &mut show)?;
            return Ok(Seen::Ran(Ran::Failed(Failure { error: Arc::new(error), adoptable: true })));
        }
        follow.rest(&mut show)?;
        if let Some(outs) = self.look(run.vertex, run.key, true) {
            return Ok(Seen::Ran(Ran::Found(outs)));
        }
        Ok(if wish.predecessors(&self.store)? { Seen::Free } else { Seen::Busy })
    }
}

enum Seen {
    Busy,
    Free,
    Ran(Ran<Fault>),
}

/// Reads the log of another process's attempt as it grows.
#[derive(Default)]
struct Follow {
    attempt: u64,
    log: Option<File>,
}

impl Follow {
    fn read(&mut self, flight: &Flight, attempt: u64, show: &mut impl FnMut(&[u8])) -> Result<(), StepError> {
        if self.log.is_none() || self.attempt != attempt {
            self.rest(show)?;
            self.log = flight.log(attempt)?;
            self.attempt = attempt;
        }
        self.rest(show)
    }

    /// Shows what has come since the last time. The file stays readable when its writer has deleted it.
    fn rest(&mut self, show: &mut impl FnMut(&[u8])) -> Result<(), StepError> {
        let Some(log) = &mut self.log else { return Ok(()) };
        let mut buffer = [0; 16 << 10];
        loop {
            match log.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(count) => show(buffer.get(..count).unwrap_or_default()),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                // It is only for show.
                Err(_) => {
                    self.log = None;
                    return Ok(());
                }
            }
        }
    }
}

/// Draws a number; how well does not matter.
fn random() -> u64 {
    use std::hash::{BuildHasher as _, RandomState};
    RandomState::new().hash_one(())
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StepError> + Send + 'static,
) -> Result<T, StepError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| StepError::Panicked)?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exec(change: impl FnOnce(&mut pb::ExecOp)) -> pb::ExecOp {
        let mut exec = pb::ExecOp { meta: Some(pb::Meta::default()), ..pb::ExecOp::default() };
        change(&mut exec);
        exec
    }

    #[test]
    fn what_is_around_a_step() {
        let proxy = |http: &str| {
            exec(|exec| {
                let proxy = pb::ProxyEnv { http_proxy: http.to_owned(), ..pb::ProxyEnv::default() };
                exec.meta.as_mut().unwrap().proxy_env = Some(proxy);
            })
        };
        assert_eq!(around(&exec(|_| {})), around(&proxy("")));
        assert_ne!(around(&proxy("a")), around(&proxy("b")));
        let host = exec(|exec| {
            let host = pb::HostIp { host: "h".to_owned(), ip: "10.0.0.1".to_owned() };
            exec.meta.as_mut().unwrap().extra_hosts = vec![host];
        });
        assert_ne!(around(&exec(|_| {})), around(&host));
    }

    #[test]
    fn what_only_its_builder_has() {
        assert!(is_public(&exec(|_| {})));
        for kind in [pb::MountType::Secret, pb::MountType::Ssh] {
            let mount = pb::Mount { mount_type: kind as i32, ..pb::Mount::default() };
            assert!(!is_public(&exec(|exec| exec.mounts.push(mount))));
        }
        assert!(!is_public(&exec(|exec| exec.secretenv.push(pb::SecretEnv::default()))));
    }

    #[test]
    fn failures_count_where_the_same_would_have_happened() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let vertex = |exec| Vertex {
            digest: Digest::of("v"),
            op: Op::Exec(Box::new(exec)),
            inputs: Vec::new(),
            outputs: 1,
            platform: None,
            meta: Default::default(),
            locations: Vec::new(),
        };
        let plain = vertex(exec(|_| {}));
        let flights = Flights::default();
        let key = Key([7; 32]);
        let waiter = flights.wish(&store, key, false).unwrap();
        let runner = Flights::default().wish(&store, key, false).unwrap();
        let exit = |code| StepError::Exit { code, command: "make".to_owned() };
        let published = |vertex: &Vertex, error: &StepError| {
            let attempt = runner.begin().unwrap();
            let name = attempt.name();
            runner.fail(&store, vertex, attempt, error);
            waiter.failure(vertex).unwrap().map(|(attempt, error)| (attempt == name, error))
        };
        assert!(published(&plain, &StepError::Cancelled).is_none());
        assert!(published(&plain, &exit(137)).is_none(), "killed");
        let mount = pb::Mount { mount_type: pb::MountType::Secret as i32, ..pb::Mount::default() };
        let secret = vertex(exec(|exec| exec.mounts.push(mount)));
        assert!(published(&secret, &exit(1)).is_none());
        let (same, error) = published(&plain, &exit(2)).unwrap();
        assert!(same && matches!(&error, StepError::Exit { code: 2, command } if command == "make"));
        let proxy = pb::ProxyEnv { http_proxy: "p".to_owned(), ..pb::ProxyEnv::default() };
        let other = vertex(exec(|exec| exec.meta.as_mut().unwrap().proxy_env = Some(proxy)));
        assert!(waiter.failure(&other).unwrap().is_none(), "with another proxy it may work");
        assert!(matches!(published(&other, &exit(3)), Some((true, StepError::Exit { code: 3, .. }))));
        let (_, error) = waiter.failure(&plain).unwrap().unwrap();
        assert!(matches!(error, StepError::Exit { code: 2, .. }), "a later one of others hides none");
        let late = Flights::default().wish(&store, key, false).unwrap();
        assert!(late.failure(&plain).unwrap().is_none());
    }
}
