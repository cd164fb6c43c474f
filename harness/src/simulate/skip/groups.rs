//! Instances that get the same flows, and all requests that each of them gets.

use keyquake_core::Time;

use super::flow::{Call, Flow};
use super::intensity::Intensity;
use crate::plan::Plan;

/// Names a group.
pub(super) type GroupId = usize;

#[derive(Debug)]
pub(super) struct Groups {
    /// The group of each instance.
    of: Vec<GroupId>,
    groups: Vec<Group>,
}

#[derive(Debug)]
struct Group {
    /// The first instance of the group.
    first: u32,
    /// What each of its instances gets of all flows, as expected.
    requests: Intensity<Call>,
}

impl Groups {
    pub(super) fn new(flows: &[Flow], plan: &Plan, start: Time) -> Self {
        let alike = |one: u32, other: u32| flows.iter().all(|flow| flow.has(one) == flow.has(other));
        let mut groups: Vec<Group> = Vec::new();
        let mut group = |instance| {
            let known = groups.iter().position(|group| alike(group.first, instance));
            known.unwrap_or_else(|| {
                groups.push(Group { first: instance, requests: Intensity::new(start) });
                groups.len() - 1
            })
        };
        let of = (0..plan.instances()).map(&mut group).collect();
        Self { of, groups }
    }

    pub(super) fn of(&self, instance: u32) -> GroupId {
        self.of[instance as usize]
    }

    /// From now on flows send as they do.
    pub(super) fn sum_up(&mut self, flows: &[Flow], now: Time) {
        for Group { first, requests } in &mut self.groups {
            let sent = flows.iter().filter(|flow| flow.has(*first));
            requests.set(now, sent.map(|flow| flow.requests.per_second()).sum());
        }
    }

    /// How many requests per second an instance gets.
    pub(super) fn per_second(&self, instance: u32) -> f64 {
        self.groups[self.of(instance)].requests.per_second()
    }

    /// Waits until the requests of an instance have come to so much more.
    pub(super) fn wait(&mut self, now: Time, amount: f64, (instance, wait): Call) {
        let group = self.of(instance);
        self.groups[group].requests.wait(now, amount, (instance, wait));
    }

    /// When the first has waited long enough, if rates stay as they are; [`Time::NEVER`] when none waits.
    pub(super) fn next(&self) -> Time {
        self.groups.iter().map(|group| group.requests.next()).fold(Time::NEVER, Time::min)
    }

    /// One that has waited long enough.
    pub(super) fn due(&mut self, now: Time) -> Option<Call> {
        self.groups.iter_mut().find_map(|group| group.requests.due(now))
    }
}
