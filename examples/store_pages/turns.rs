//! Turns of two sides, so that both meet the same machine.

use std::ops::Range;

/// Things of a turn.
const TURN: usize = 256;

/// Ranges for two sides that take turns, never on the same pages at the same time if possible.
pub struct Turns {
    things: usize,
    /// The number of turns.
    pub count: usize,
}

impl Turns {
    /// Divides `things` things.
    pub fn new(things: usize) -> Self {
        Self { things, count: things.div_ceil(TURN) }
    }

    /// Returns the range of a turn.
    pub fn at(&self, turn: usize) -> Range<usize> {
        turn * TURN..self.things.min((turn + 1) * TURN)
    }

    /// Returns the range half of all further on; the end is followed by the start.
    pub fn ahead(&self, turn: usize) -> Range<usize> {
        self.at((turn + self.count / 2) % self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_meet_everything_once() {
        for things in [0, 1, TURN, TURN + 1, 5 * TURN - 1] {
            let turns = Turns::new(things);
            let all = |part: fn(&Turns, usize) -> Range<usize>| {
                (0..turns.count).flat_map(move |turn| part(&Turns::new(things), turn)).collect::<Vec<_>>()
            };
            let wanted: Vec<_> = (0..things).collect();
            assert_eq!(all(Turns::at), wanted);
            let mut ahead = all(Turns::ahead);
            ahead.sort_unstable();
            assert_eq!(ahead, wanted);
        }
    }
}
