//! When requests are sent, by whom and to which replica: a pure function of the plan.

use keyquake_core::{Span, Time};
use rand::RngExt;
use rand::rngs::ChaCha8Rng;

use crate::plan::Plan;
use crate::scenario::{Arrivals as Spacing, Balance};
use crate::seed;

/// One planned request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Arrival {
    /// The planned moment, from which its latency counts.
    pub(crate) at: Time,
    pub(crate) sender: Sender,
    pub(crate) replica: u32,
    /// Which of the replica's idle connections it takes: an index to be taken modulo their number.
    pub(crate) connection: u32,
}

/// Whose token a request carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Sender {
    Session(u32),
    /// A token that expired long ago.
    Expired,
    /// A signature that no key made.
    Forged,
}

/// The planned requests of a run, in order, from the start of warm-up to the end.
#[derive(Debug)]
pub(crate) struct Arrivals {
    times: ChaCha8Rng,
    choices: ChaCha8Rng,
    next: Time,
    end: Time,
    spacing: Spacing,
    mean_gap_s: f64,
    sessions: u32,
    replicas: u32,
    balance: Balance,
    expired: f64,
    forged: f64,
}

impl Arrivals {
    pub(crate) fn new(plan: &Plan) -> Self {
        let traffic = &plan.traffic;
        let mut arrivals = Self {
            times: seed::generator(plan.seed, "arrival times", 0),
            choices: seed::generator(plan.seed, "arrival choices", 0),
            next: Time::ZERO - plan.warmup,
            end: plan.end(),
            spacing: traffic.arrivals,
            mean_gap_s: 1.0 / traffic.rate.per_second(),
            sessions: traffic.sessions,
            replicas: plan.replicas,
            balance: traffic.balance,
            expired: traffic.background.expired.fraction(),
            forged: traffic.background.forged.fraction(),
        };
        arrivals.advance();
        arrivals
    }

    fn advance(&mut self) {
        let gap_s = match self.spacing {
            Spacing::Even => self.mean_gap_s,
            // The logarithm of libm is the same on every machine.
            Spacing::Poisson => -libm::log(1.0 - self.times.random::<f64>()) * self.mean_gap_s,
        };
        self.next = self.next + Span::from_secs(1).scale(gap_s);
    }

    fn sender(&mut self) -> Sender {
        let kind = self.choices.random::<f64>();
        let session = self.choices.random_range(0..self.sessions);
        if kind < self.expired {
            Sender::Expired
        } else if kind < self.expired + self.forged {
            Sender::Forged
        } else {
            Sender::Session(session)
        }
    }
}

impl Iterator for Arrivals {
    type Item = Arrival;

    fn next(&mut self) -> Option<Arrival> {
        if self.next >= self.end {
            return None;
        }
        let at = self.next;
        self.advance();
        let sender = self.sender();
        let any = self.choices.random_range(0..self.replicas);
        let replica = match (self.balance, sender) {
            (Balance::Sticky, Sender::Session(session)) => session % self.replicas,
            _ => any,
        };
        Some(Arrival { at, sender, replica, connection: self.choices.random() })
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
            let all = arrivals(&format!("[traffic]\nrate = \"200/s\"\narrivals = \"{spacing}\""));
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
    fn senders_and_replicas_are_drawn_by_their_shares() {
        let all = arrivals(
            "[fleet]\nreplicas = 4\n[traffic]\nrate = \"200/s\"\nbackground = { expired = \"10%\", forged = \"5%\" }",
        );
        let share = |of: &dyn Fn(&Arrival) -> bool| {
            all.iter().filter(|arrival| of(arrival)).count() as f64 / all.len() as f64
        };
        assert!((share(&|arrival| arrival.sender == Sender::Expired) - 0.1).abs() < 0.01);
        assert!((share(&|arrival| arrival.sender == Sender::Forged) - 0.05).abs() < 0.01);
        assert!((share(&|arrival| arrival.replica == 3) - 0.25).abs() < 0.02);
    }

    #[test]
    fn a_sticky_session_keeps_to_its_replica() {
        let all = arrivals("[fleet]\nreplicas = 4\n[traffic]\nrate = \"50/s\"\nbalance = \"sticky\"");
        let mut of_sessions = all.iter().filter_map(|arrival| match arrival.sender {
            Sender::Session(session) => Some((session, arrival.replica)),
            _ => None,
        });
        assert!(of_sessions.all(|(session, replica)| session % 4 == replica));
    }
}
