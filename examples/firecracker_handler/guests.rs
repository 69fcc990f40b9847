//! All microVMs, served in turn by one thread.

use super::Result;
use super::args::Args;
use super::handshake::{Handshake, Said};
use super::report;
use super::snapshot::Snapshot;
use super::{say, system, warn};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};
use zsalloc::{Guest, GuestOptions, GuestStats};

/// How often guests are asked whether they have ended, and connections are looked at that say nothing.
const LOOK: Duration = Duration::from_millis(200);
/// How soon a guest is served again that could not be served at once.
const SOON: Duration = Duration::from_millis(1);

/// One microVM.
struct Running {
    number: u64,
    guest: Guest,
    /// Until it ends, which is when its process does, mostly. Nothing more is said.
    stream: Option<UnixStream>,
    /// It is to be served again, though its descriptor may have nothing to read.
    again: bool,
    /// What the system refused last, so that it is told once.
    refused: Option<zsalloc::Error>,
}

/// All of them.
pub struct Guests {
    snapshot: Snapshot,
    listener: UnixListener,
    stop: OwnedFd,
    options: GuestOptions,
    handshakes: Vec<Handshake>,
    running: Vec<Running>,
    total: report::Total,
}

impl Guests {
    /// None yet.
    pub fn new(snapshot: Snapshot, listener: UnixListener, stop: OwnedFd, args: &Args) -> Result<Self> {
        let options = GuestOptions { pages_at_once: args.ahead };
        let (handshakes, running, total) = (Vec::new(), Vec::new(), report::Total::default());
        Ok(Self { snapshot, listener, stop, options, handshakes, running, total })
    }

    /// Serves until a signal says to stop.
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
                    self.running[index].serve();
                }
            }
            self.end_streams(&ready[streams..]);
            self.hear(&ready[listener..handshakes]);
            if ready[1] {
                self.accept();
            }
            if looked.elapsed() >= LOOK {
                looked = Instant::now();
                self.look();
            }
            self.let_go();
        }
    }

    /// Waits for something to do: the signal, the listener, the handshakes, the guests, and their connections that have
    /// not ended.
    fn wait(&self, looked: Instant) -> Vec<bool> {
        let mut all: Vec<BorrowedFd<'_>> = vec![self.stop.as_fd(), self.listener.as_fd()];
        all.extend(self.handshakes.iter().map(|handshake| handshake.stream.as_fd()));
        all.extend(self.running.iter().map(|running| running.guest.fd()));
        all.extend(self.running.iter().filter_map(|running| Some(running.stream.as_ref()?.as_fd())));
        let again = self.running.iter().any(|running| running.again);
        system::wait(&all, if again { SOON } else { LOOK.saturating_sub(looked.elapsed()) })
    }

    /// Connections of guests say nothing: if one is ready it has ended. An older Firecracker ends it right away, and so
    /// the guest is asked whether it has ended too. One may also live on in another process, and so all guests are asked
    /// now and then.
    fn end_streams(&mut self, ready: &[bool]) {
        let mut ready = ready.iter();
        for running in self.running.iter_mut().filter(|running| running.stream.is_some()) {
            if ready.next().is_some_and(|ready| *ready) {
                running.stream = None;
                running.guest.has_ended();
            }
        }
    }

    fn hear(&mut self, ready: &[bool]) {
        let handshakes = std::mem::take(&mut self.handshakes);
        let mut ready = ready.iter();
        for mut handshake in handshakes {
            let heard = if ready.next().is_some_and(|ready| *ready) { handshake.hear() } else { Ok(None) };
            match heard {
                Ok(None) if handshake.is_late() => warn("a connection said nothing in time, and is let go"),
                Ok(None) => self.handshakes.push(handshake),
                Ok(Some(said)) => self.begin(said, handshake.stream),
                Err(problem) => warn(&format!("a connection is refused: {problem}")),
            }
        }
    }

    fn begin(&mut self, said: Said, stream: UnixStream) {
        match Guest::new(&self.snapshot.area, said.uffd, &said.ranges, &self.options) {
            Ok(guest) => {
                self.total.guests += 1;
                let number = self.total.guests;
                say(&report::began(number, said.ranges.len(), &guest.stats()));
                self.running.push(Running { number, guest, stream: Some(stream), again: true, refused: None });
            }
            Err(error) => warn(&format!("a microVM is refused: {error}")),
        }
    }

    fn accept(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            match Handshake::new(stream) {
                Ok(handshake) => self.handshakes.push(handshake),
                Err(problem) => warn(&format!("{problem}")),
            }
        }
    }

    fn look(&mut self) {
        for running in &mut self.running {
            running.guest.has_ended();
        }
    }

    fn let_go(&mut self) {
        let total = &mut self.total;
        self.running.retain(|running| {
            let stats = running.guest.stats();
            if stats.ended {
                total.add(&stats);
                say(&report::ended(running.number, &stats));
            }
            !stats.ended
        });
    }

    /// What was done, for all guests, and those that still run.
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
                self.again = self.guest.stats().waiting > 0;
                if self.refused.replace(error) != Some(error) {
                    warn(&format!("microVM {}: {error}", self.number));
                }
            }
        }
    }
}
