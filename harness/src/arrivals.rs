//! When requests are sent, by whom and to which replica: a pure function of the plan.

use keyquake_core::{Span, Time};
use rand::RngExt;
use rand::rngs::ChaCha8Rng;

use crate::plan::{Plan, Stream};
use crate::scenario::{Arrivals as Spacing, Balance, TokenSource};
use crate::seed;

/// One planned request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Arrival {
    /// The planned moment, from which its latency counts.
    pub(crate) at: Time,
    /// The number of its stream in the plan.
    pub(crate) stream: usize,
    /// Whose token it carries, if a session's.
    pub(crate) session: Option<u32>,
    pub(crate) replica: u32,
    /// Which of the replica's idle connections it takes: an index to be taken modulo their number.
    pub(crate) connection: u32,
}

/// The planned requests of a run, in order, from the start of warm-up to the end.
///
/// Each stream draws from generators of its own, so that a further stream moves nobody else's requests.
#[derive(Debug)]
pub(crate) struct Arrivals(Vec<OfStream>);

#[derive(Debug)]
struct OfStream {
    number: usize,
    times: ChaCha8Rng,
    choices: ChaCha8Rng,
    spacing: Spacing,
    mean_gap: Option<Span>,
    /// The next request of its rate.
    next: Time,
    until: Time,
    /// What is left of its burst.
    burst: Option<(Time, u32)>,
    sessions: Option<u32>,
    replicas: Vec<u32>,
    balance: Balance,
}

impl Arrivals {
    pub(crate) fn new(plan: &Plan) -> Self {
        Self(plan.streams.iter().enumerate().map(|(i, stream)| OfStream::new(plan, i, stream)).collect())
    }
}

impl Iterator for Arrivals {
    type Item = Arrival;

    fn next(&mut self) -> Option<Arrival> {
        // Of two in one instant, the stream that was named first goes first.
        let earliest = self.0.iter_mut().filter_map(|stream| Some((stream.peek()?, stream)));
        earliest.min_by_key(|(at, _)| *at).map(|(at, stream)| stream.take(at))
    }
}

impl OfStream {
    fn new(plan: &Plan, number: usize, stream: &Stream) -> Self {
        let mut it = Self {
            number,
            times: seed::generator(plan.seed, &format!("arrival times of {}", stream.name), 0),
            choices: seed::generator(plan.seed, &format!("arrival choices of {}", stream.name), 0),
            spacing: stream.spacing,
            mean_gap: (stream.per_second > 0.0).then(|| Span::from_secs(1).scale(1.0 / stream.per_second)),
            next: stream.from,
            until: stream.until,
            burst: stream.burst,
            sessions: (stream.token == TokenSource::Session).then_some(plan.traffic.sessions),
            replicas: stream.replicas.clone(),
            balance: plan.traffic.balance,
        };
        it.advance();
        it
    }

    fn advance(&mut self) {
        let gap = match (self.mean_gap, self.spacing) {
            (None, _) => Span::INFINITE,
            (Some(mean), Spacing::Even) => mean,
            // The logarithm of libm is the same on every machine.
            (Some(mean), Spacing::Poisson) => mean.scale(-libm::log(1.0 - self.times.random::<f64>())),
        };
        self.next = self.next + gap;
    }

    /// When its next request is due; `None` when there are no more.
    fn peek(&self) -> Option<Time> {
        let steady = (self.next < self.until).then_some(self.next);
        let burst = self.burst.map(|(at, _)| at);
        steady.into_iter().chain(burst).min()
    }

    fn take(&mut self, at: Time) -> Arrival {
        match self.burst {
            Some((moment, left)) if moment == at => {
                self.burst = (left > 1).then_some((moment, left - 1));
            }
            _ => self.advance(),
        }
        let session = self.sessions.map(|sessions| self.choices.random_range(0..sessions));
        let any: usize = self.choices.random_range(0..self.replicas.len());
        let index = match (self.balance, session) {
            (Balance::Sticky, Some(session)) => session as usize % self.replicas.len(),
            _ => any,
        };
        let connection = self.choices.random();
        Arrival { at, stream: self.number, session, replica: self.replicas[index], connection }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::testing::plan;

    fn arrivals(lines: &str) -> Vec<Arrival> {
        Arrivals::new(&plan(lines)).collect()
    }

    #[test]
    fn the_same_seed_plans_the_same_requests() {
        assert_eq!(arrivals("seed = 1"), arrivals("seed = 1"));
        assert_ne!(arrivals("seed = 1"), arrivals("seed = 2"));
    }

    #[test]
    fn they_come_in_order_from_the_warmup_to_the_end() {
        let all = arrivals("warmup = \"5s\"");
        assert!(all.is_sorted_by_key(|arrival| arrival.at));
        let (first, last) = (all[0].at.as_secs_f64(), all[all.len() - 1].at.as_secs_f64());
        assert!((-5.0..-3.0).contains(&first) && (57.0..60.0).contains(&last), "{first} to {last}");
    }

    #[test]
    fn poisson_gaps_vary_as_much_as_they_last_and_even_gaps_do_not_vary() {
        let gaps = |spacing: &str| {
            let all = arrivals(&format!(
                "[traffic]\nrate = \"200/s\"\narrivals = \"{spacing}\"\nbackground = {{ expired = \"0%\", forged = \"0%\" }}"
            ));
            let gaps: Vec<f64> =
                all.windows(2).map(|pair| pair[1].at.since(pair[0].at).as_secs_f64()).collect();
            let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
            let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
            (mean, variance.sqrt())
        };
        let (mean, deviation) = gaps("poisson");
        assert!((mean - 0.005).abs() < 0.000_2 && (deviation - 0.005).abs() < 0.000_4, "{mean} {deviation}");
        let (mean, deviation) = gaps("even");
        assert!((mean - 0.005).abs() < 1e-6 && deviation < 1e-6, "{mean} {deviation}");
    }

    #[test]
    fn streams_and_replicas_have_their_shares() {
        let all = arrivals(
            "[fleet]\nreplicas = 4\n[traffic]\nrate = \"200/s\"\nbackground = { expired = \"10%\", forged = \"5%\" }",
        );
        let share = |of: &dyn Fn(&Arrival) -> bool| {
            all.iter().filter(|arrival| of(arrival)).count() as f64 / all.len() as f64
        };
        assert!((share(&|arrival| arrival.stream == 1) - 0.1).abs() < 0.01);
        assert!((share(&|arrival| arrival.stream == 2) - 0.05).abs() < 0.01);
        assert!((share(&|arrival| arrival.replica == 3) - 0.25).abs() < 0.02);
        assert!(all.iter().all(|arrival| arrival.session.is_some() == (arrival.stream == 0)));
    }

    #[test]
    fn a_sticky_session_keeps_to_its_replica() {
        let all = arrivals("[fleet]\nreplicas = 4\n[traffic]\nrate = \"50/s\"\nbalance = \"sticky\"");
        let mut of_sessions = all.iter().filter_map(|arrival| Some((arrival.session?, arrival.replica)));
        assert!(of_sessions.all(|(session, replica)| session % 4 == replica));
    }

    #[test]
    fn a_burst_comes_at_once_within_its_stream() {
        let lines = "[traffic]\nrate = \"10/s\"\n[[traffic.stream]]\nname = \"b\"\ntoken = \"unknown_kid\"\n\
                     burst = { at = \"20s\", count = 50 }\n";
        let all = arrivals(lines);
        let burst: Vec<_> = all.iter().filter(|arrival| arrival.stream == 3).collect();
        assert_eq!(burst.len(), 50);
        assert!(burst.iter().all(|arrival| arrival.at == Time::ZERO + Span::from_secs(20)));
        assert!(all.is_sorted_by_key(|arrival| arrival.at));
    }

    #[test]
    fn a_further_stream_moves_nobody_else() {
        let with = "[traffic]\nrate = \"10/s\"\n[[traffic.stream]]\nname = \"l\"\ntoken = \"login\"\nrate = \"5/s\"\n\
                    from = \"10s\"\nuntil = \"20s\"\n";
        let (alone, with) = (arrivals("[traffic]\nrate = \"10/s\""), arrivals(with));
        let logins: Vec<_> = with.iter().filter(|arrival| arrival.stream == 3).copied().collect();
        assert!((30..70).contains(&logins.len()));
        assert!(logins.iter().all(|arrival| (10.0..20.0).contains(&arrival.at.as_secs_f64())));
        assert_eq!(with.into_iter().filter(|arrival| arrival.stream < 3).collect::<Vec<_>>(), alone);
    }
}
