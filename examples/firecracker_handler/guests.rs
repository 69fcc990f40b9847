//! All microVMs. One thread talks to them, and it or others serve their page faults.

use super::Result;
use super::args::Args;
use super::guard::Guard;
use super::handshake::{Handshake, Said};
use super::report;
use super::requests::Requests;
use super::snapshot::Snapshot;
use super::team::Team;
use super::{say, system, warn};
use std::collections::VecDeque;
use std::io::ErrorKind;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::time::{Duration, Instant};
use zsalloc::{Guest, GuestOptions, GuestStats, WatchId};

/// Time between two checks for guests that have ended and for silent connections.
const LOOK: Duration = Duration::from_millis(200);
/// Maximum number of unfinished connections: each has descriptors, which microVMs need too.
const MOST_HANDSHAKES: usize = 64;
/// Time until a guest that could not be served is tried again.
const SOON: Duration = Duration::from_millis(1);

/// A running microVM.
struct Running {
    number: u64,
    guest: Arc<Guest>,
    /// The guardian's name for it.
    watched: Option<WatchId>,
    /// Its connection, which mostly ends with its process.
    stream: Option<UnixStream>,
    /// Its requests for pages, if it has a bitmap. Other microVMs send nothing more.
    requests: Option<Requests>,
    /// Whether to serve it again although its descriptor may have nothing to read.
    again: bool,
    /// The system's last refusal, so that it is reported once.
    refused: Option<zsalloc::Error>,
}

/// All microVMs and connections.
pub struct Guests {
    snapshot: Snapshot,
    listener: UnixListener,
    stop: OwnedFd,
    guard: Guard,
    /// Other threads that serve, if there are any.
    team: Option<Team>,
    options: GuestOptions,
    /// Unfinished connections, the oldest first.
    handshakes: VecDeque<Handshake>,
    /// When connections are accepted again, after the system had no room for one.
    full: Option<Instant>,
    running: Vec<Running>,
    total: report::Total,
}

impl Guests {
    /// Prepares to serve; there are no guests yet.
    pub fn new(snapshot: Snapshot, listener: UnixListener, stop: OwnedFd, guard: Guard, args: &Args) -> Result<Self> {
        let options = GuestOptions { pages_at_once: args.ahead, protect: args.protect };
        let (handshakes, full, running, total) = (VecDeque::new(), None, Vec::new(), report::Total::default());
        let team = args.threads.filter(|&threads| threads > 1).map(Team::start).transpose()?;
        Ok(Self { snapshot, listener, stop, guard, team, options, handshakes, full, running, total })
    }

    /// Serves until a signal asks to stop.
    pub fn serve(&mut self) -> Result<()> {
        let mut looked = Instant::now();
        loop {
            let (listener, handshakes) = (2, 2 + self.handshakes.len());
            let ready = self.wait(looked);
            if ready[0] {
                return Ok(());
            }
            let streams = handshakes + self.running.len();
            for index in 0..self.running.len() {
                if ready[handshakes + index] || self.running[index].again {
                    match &self.team {
                        // Touches that were read while a request was answered.
                        Some(team) => team.serve_soon(&self.running[index].guest),
                        None => self.running[index].serve(),
                    }
                    self.running[index].again &= self.team.is_none();
                }
            }
            self.hear_streams(&ready[streams..]);
            self.hear(&ready[listener..handshakes]);
            if ready[1] {
                self.accept();
            }
            self.full = self.full.filter(|until| Instant::now() < *until);
            if looked.elapsed() >= LOOK {
                looked = Instant::now();
                self.look();
            }
            self.let_go();
        }
    }

    /// Waits for something to do: the signal, the listener, handshakes, guests, and connections that have not ended. A
    /// guest whose request the system refused is tried again soon, and not before.
    fn wait(&self, looked: Instant) -> Vec<bool> {
        let listener = if self.full.is_none() { Some(self.listener.as_fd()) } else { None };
        let mut all: Vec<Option<BorrowedFd<'_>>> = vec![Some(self.stop.as_fd()), listener];
        all.extend(self.handshakes.iter().map(|handshake| Some(handshake.stream.as_fd())));
        let alone = self.team.is_none();
        let served = |running: &Running| (alone && running.refused.is_none()).then_some(());
        all.extend(self.running.iter().map(|running| served(running).map(|()| running.guest.fd())));
        // A microVM that does not read its replies is not listened to.
        let heard = |running: &&Running| !running.is_behind();
        let stream = |running| Some(running).filter(heard).and_then(|running| running.stream.as_ref()).map(AsFd::as_fd);
        all.extend(self.running.iter().map(stream));
        let again = self.running.iter().any(|running| running.again || running.is_behind());
        system::wait(&all, if again { SOON } else { LOOK.saturating_sub(looked.elapsed()) })
    }

    /// Reads the requests of guests. Guests without a bitmap send none: if such a connection is ready, it has ended. An
    /// older Firecracker closes it right away, so the guest is asked whether it has ended too.
    fn hear_streams(&mut self, ready: &[bool]) {
        for (running, ready) in self.running.iter_mut().zip(ready) {
            if (*ready || running.is_behind()) && !running.hear() {
                running.stream = None;
                running.guest.has_ended();
            }
        }
    }

    fn hear(&mut self, ready: &[bool]) {
        for ready in ready {
            let Some(handshake) = self.handshakes.pop_front() else { return };
            if *ready {
                self.hear_one(handshake, false);
            } else if handshake.is_late() {
                warn("a connection was closed because it sent nothing in time");
            } else {
                self.handshakes.push_back(handshake);
            }
        }
    }

    /// Reads what a connection has sent. It may send more later, unless this is its last chance.
    fn hear_one(&mut self, mut handshake: Handshake, last: bool) {
        match handshake.hear() {
            Ok(None) if last => warn("an unfinished connection was closed because there are too many"),
            Ok(None) if handshake.is_late() => warn("a connection was closed because it did not finish in time"),
            Ok(None) => self.handshakes.push_back(handshake),
            Ok(Some(said)) => self.begin(said, handshake.stream),
            Err(problem) => warn(&format!("a connection is refused: {problem}")),
        }
    }

    fn begin(&mut self, said: Said, stream: UnixStream) {
        let has_bitmap = said.file.as_ref().is_some_and(|file| file.bitmap.is_some());
        let requests = match has_bitmap.then(|| Requests::new(said.more)).transpose() {
            Ok(requests) => requests,
            Err(problem) => return warn(&format!("a microVM is refused: {problem}")),
        };
        let area = &self.snapshot.area;
        let guest = match said.file {
            Some(file) => Guest::with_file(area, said.uffd, file, &said.ranges, &self.options),
            None => Guest::new(area, said.uffd, &said.ranges, &self.options),
        };
        match guest.and_then(|guest| Ok((self.guard.watch(&guest, &stream)?, guest))) {
            Ok((watched, guest)) => {
                let guest = Arc::new(guest);
                self.total.guests += 1;
                let number = self.total.guests;
                say(&report::began(number, said.ranges.len(), &guest.stats()));
                let stream = Some(stream);
                if let Some(team) = &self.team
                    && let Err(problem) = team.add(number, &guest)
                {
                    return warn(&format!("microVM {number} is not served: {problem}"));
                }
                self.running.push(Running { number, guest, watched, stream, requests, again: true, refused: None });
            }
            Err(error) => warn(&format!("a microVM is refused: {error}")),
        }
    }

    /// Accepts connections, but only so many that guests don't wait long.
    fn accept(&mut self) {
        for _ in 0..MOST_HANDSHAKES {
            let refused = match self.listener.accept() {
                Ok((stream, _)) => {
                    self.greet(stream);
                    continue;
                }
                Err(refused) => refused,
            };
            match refused.kind() {
                ErrorKind::WouldBlock => return,
                ErrorKind::Interrupted | ErrorKind::ConnectionAborted => {}
                _ if self.let_oldest_go() => {}
                _ => {
                    // The listener stays ready: without a pause it would be tried again and again.
                    self.full = Some(Instant::now() + LOOK);
                    return warn(&format!("no connection can be taken now: {refused}"));
                }
            }
        }
    }

    fn greet(&mut self, stream: UnixStream) {
        if self.handshakes.len() >= MOST_HANDSHAKES {
            self.let_oldest_go();
        }
        match Handshake::new(stream) {
            Ok(handshake) => self.handshakes.push_back(handshake),
            Err(problem) => warn(&problem),
        }
    }

    /// Closes the oldest unfinished connection. Returns whether there was one.
    fn let_oldest_go(&mut self) -> bool {
        let oldest = self.handshakes.pop_front();
        oldest.map(|handshake| self.hear_one(handshake, true)).is_some()
    }

    /// Asks all guests whether they have ended, because a connection may live on in another process.
    fn look(&mut self) {
        for running in &mut self.running {
            running.guest.has_ended();
        }
    }

    fn let_go(&mut self) {
        let (total, guard, team) = (&mut self.total, &self.guard, &self.team);
        self.running.retain(|running| {
            let stats = running.guest.stats();
            if stats.ended {
                total.add(&stats);
                guard.forget(running.watched);
                team.iter().for_each(|team| team.remove(&running.guest));
                say(&report::ended(running.number, &stats));
            }
            !stats.ended
        });
    }

    /// Dismisses the guardian if there are no guests. Otherwise it takes care of them after this process.
    pub fn end(&mut self) {
        if self.running.is_empty() {
            self.guard.dismiss();
        }
    }

    /// Returns the statistics of all guests, and the number of those still running.
    pub fn table(&mut self) -> Result<String> {
        let still: Vec<GuestStats> = self.running.iter().map(|running| running.guest.stats()).collect();
        for stats in &still {
            self.total.add(stats);
        }
        report::table(&self.snapshot, &self.total, still.len())
    }
}

impl Running {
    fn serve(&mut self) {
        match self.guest.serve() {
            Ok(served) => {
                self.again = served.again;
                self.refused = None;
            }
            Err(error) => {
                self.again = true;
                self.tell(error);
            }
        }
    }

    /// Returns whether it has asked for pages that it did not get yet.
    fn is_behind(&self) -> bool {
        self.stream.is_some() && self.requests.as_ref().is_some_and(Requests::is_behind)
    }

    /// Reads its requests, and answers them. False: the connection has ended or can't be used any more.
    fn hear(&mut self) -> bool {
        let (Some(requests), Some(stream)) = (&mut self.requests, &mut self.stream) else { return false };
        match requests.serve(stream, &self.guest) {
            Ok((goes_on, refused)) => {
                // Touches may be waiting too.
                self.again = true;
                refused.into_iter().for_each(|error| self.tell(error));
                goes_on
            }
            Err(problem) => {
                warn(&format!("microVM {} is heard no more: {problem}", self.number));
                false
            }
        }
    }

    fn tell(&mut self, error: zsalloc::Error) {
        if self.refused.replace(error) != Some(error) {
            warn(&format!("microVM {}: {error}", self.number));
        }
    }
}
