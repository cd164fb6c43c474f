//! Times variants of one job in turns.
//!
//! A shared machine is twice as fast in one second as in the next, and whoever times one variant after the other
//! measures that. Here every variant has its turn in each round, and what counts is the ratio to the first one.

use std::time::{Duration, Instant};

/// So many rounds, each with a turn of this length for each variant: some seconds for a handful of variants.
const ROUNDS: usize = 200;
const TURN: Duration = Duration::from_millis(4);

/// A way to do the job: its name, and what does it once.
pub(crate) type Variant<'a> = (&'a str, Box<dyn FnMut() + 'a>);

/// Times the variants and prints a table: each one's best turn, and how much longer than the first it takes, by the
/// best turns and by the median over the rounds.
pub(crate) fn compare(title: &str, mut variants: Vec<Variant<'_>>) {
    let repeats: Vec<u32> = variants.iter_mut().map(|(_, work)| repeats(work)).collect();
    let mut micros = vec![Vec::with_capacity(ROUNDS); variants.len()];
    let mut order: Vec<usize> = (0..variants.len()).collect();
    for _ in 0..ROUNDS {
        for &number in &order {
            let turn = time(&mut variants[number].1, repeats[number]);
            micros[number].push(turn.as_secs_f64() * 1e6 / f64::from(repeats[number]));
        }
        // Nobody always has the same predecessor, which may leave the caches in a state.
        order.reverse();
    }
    println!("\n{title:<48} {:>9} {:>9} {:>9}", "best", "by best", "by median");
    for ((name, _), own) in variants.iter().zip(&micros) {
        let ratios = own.iter().zip(&micros[0]).map(|(own, first)| own / first).collect();
        let by_best = best(own) / best(&micros[0]);
        println!("  {name:<46} {:>6.2} us {by_best:>7.3} x {:>7.3} x", best(own), median(ratios));
    }
}

/// How often the job has to be done to fill a turn.
fn repeats(work: &mut impl FnMut()) -> u32 {
    let mut repeats = 1;
    while time(work, repeats) < TURN {
        repeats *= 2;
    }
    repeats
}

#[expect(clippy::disallowed_methods, reason = "a benchmark is about the clock")]
fn time(work: &mut impl FnMut(), repeats: u32) -> Duration {
    let start = Instant::now();
    (0..repeats).for_each(|_| work());
    start.elapsed()
}

fn best(of: &[f64]) -> f64 {
    of.iter().copied().fold(f64::INFINITY, f64::min)
}

fn median(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    of[of.len() / 2]
}
