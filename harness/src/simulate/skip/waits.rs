//! Instances that wait for the next request that acts: of one flow, or of any of those that do.

use rand::RngExt;
use rand_distr::{Distribution, Exp1};

use super::flow::Call;
use super::{Mode, Simulation};

impl Simulation<'_> {
    /// The next request of a flow will be played.
    pub(super) fn await_next(&mut self, instance: u32, flow: usize) {
        let cell = self.cell(instance, flow);
        if matches!(self.cells[cell].mode, Mode::Played(_)) {
            return;
        }
        self.pause(instance, flow);
        self.waits += 1;
        let amount = Exp1.sample(&mut self.instances[instance as usize].rng);
        self.flows[flow].requests.wait(self.now, amount, (instance, self.waits));
        self.cells[cell].mode = Mode::Played(self.waits);
    }

    /// The next request of any of these flows will be played: all that act on a cache.
    pub(super) fn await_any(&mut self, instance: u32, acting: &[usize]) {
        let waits = |flow: &usize| matches!(self.cells[self.cell(instance, *flow)].mode, Mode::Played(_));
        if acting.iter().all(waits) {
            return;
        }
        let rate: f64 = acting.iter().map(|flow| self.flows[*flow].requests.per_second()).sum();
        // While few requests act, most that come would have to be waited for in vain.
        if acting.len() == 1 || 2.0 * rate < self.groups.per_second(instance) {
            acting.iter().for_each(|flow| self.await_next(instance, *flow));
            return;
        }
        self.waits += 1;
        for flow in acting {
            self.pause(instance, *flow);
            let cell = self.cell(instance, *flow);
            self.cells[cell].mode = Mode::Played(self.waits);
        }
        self.await_other(instance, self.waits);
    }

    /// Waits for a request of any flow at an instance.
    fn await_other(&mut self, instance: u32, wait: u64) {
        let amount = Exp1.sample(&mut self.instances[instance as usize].rng);
        self.groups.wait(self.now, amount, (instance, wait));
    }

    /// A request that an instance waited for has come, unless it does not wait any more.
    pub(super) fn called(&mut self, flow: usize, (instance, wait): Call) {
        let cell = self.cell(instance, flow);
        if self.cells[cell].mode == Mode::Played(wait) {
            self.act(instance, Some(flow));
        }
    }

    /// A request has come to an instance that waited for one of several flows.
    pub(super) fn called_by_any(&mut self, (instance, wait): Call) {
        let waits = |it: &Self, flow: usize| it.cells[it.cell(instance, flow)].mode == Mode::Played(wait);
        if !self.flows_to(instance).any(|flow| waits(self, flow)) {
            return;
        }
        let luck: f64 = self.instances[instance as usize].rng.random();
        let mut left = luck * self.groups.per_second(instance);
        let came = self.flows_to(instance).find(|flow| {
            left -= self.flows[*flow].requests.per_second();
            left < 0.0
        });
        match came.filter(|flow| waits(self, *flow)) {
            Some(flow) => self.act(instance, Some(flow)),
            // One that does not act is counted with its own.
            None => self.await_other(instance, wait),
        }
    }

    /// Ends a wait of an instance that is over, for all flows that it was for.
    pub(super) fn end_wait(&mut self, instance: u32, wait: Mode) {
        for place in 0..self.live.len() {
            let flow = self.live[place];
            if self.cells[self.cell(instance, flow)].mode == wait {
                self.pause(instance, flow);
            }
        }
    }
}
