//! Random words: salts for the store, and names for operations.

use core::time::Duration;
use nexus_proto::rng::{Client, Request};
use nexus_rt::Environment;

/// Time that random bytes may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Words that are drawn at once.
const WORDS: usize = 32;

/// Words that nobody can guess.
pub struct Seeds<'a> {
    environment: &'a Environment,
    source: Client,
    words: [u64; WORDS],
    left: usize,
}

impl<'a> Seeds<'a> {
    /// The first words; `None` where there is no entropy.
    pub fn draw(environment: &'a Environment) -> Option<Self> {
        let source = Client::new(environment.to_call(nexus_proto::rng::REFERENCE.endpoint).ok()?);
        let mut seeds = Seeds { environment, source, words: [0; WORDS], left: 0 };
        seeds.refill()?;
        Some(seeds)
    }

    fn refill(&mut self) -> Option<()> {
        let request = Request { bytes: size_of_val(&self.words) as u64 };
        let bytes = self.source.entropy(&request, self.environment.deadline(PATIENCE)).ok()?.0;
        for (word, bytes) in self.words.iter_mut().zip(bytes.as_chunks().0) {
            *word = u64::from_le_bytes(*bytes);
        }
        self.left = bytes.len() / size_of::<u64>();
        (self.left > 0).then_some(())
    }

    /// A word that nobody else has; `None` where there is no entropy any more.
    pub fn next(&mut self) -> Option<u64> {
        if self.left == 0 {
            self.refill()?;
        }
        self.left -= 1;
        self.words.get_mut(self.left).map(core::mem::take)
    }
}
