//! Clients: each holds one token, renews it in time, and reacts when it is rejected.

use std::collections::BTreeSet;

use hyper::header::HeaderValue;
use keyquake_core::{Span, Time, UnixTime};
use keyquake_idp::{Forgery, Grant, Idp, Login, Minted};
use rand::RngExt;

use super::AUDIENCE;
use crate::observe::Outcome;
use crate::oracle::TokenFacts;
use crate::plan::Plan;
use crate::scenario::{Endpoint, OnReject};
use crate::seed;

/// A session with this many denials in a row counts as locked out.
const LOCKED_OUT: u32 = 3;

/// What a request carries.
#[derive(Clone, Debug)]
pub(crate) struct Credentials {
    pub(crate) authorization: HeaderValue,
    /// The nonce of the login, for ID tokens.
    pub(crate) nonce: Option<HeaderValue>,
    pub(crate) facts: TokenFacts,
    /// Counts the session's tokens, so that a late rejection of an earlier one is told from one of this.
    pub(crate) number: u64,
}

/// How a session asks for its next token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Renewal {
    pub(crate) session: u32,
    /// What it asks with; `None` to log in anew.
    pub(crate) refresh_token: Option<String>,
    /// A rejection made it ask.
    pub(crate) forced: bool,
}

#[derive(Debug)]
struct Session {
    credentials: Credentials,
    refresh_token: String,
    denied_in_a_row: u32,
    /// When it asks for the next token; `None` while it is asking.
    due: Option<Due>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Due {
    at: Time,
    forced: bool,
    relogin: bool,
}

/// All sessions of a run.
#[derive(Debug)]
pub(crate) struct Sessions {
    sessions: Vec<Session>,
    queue: BTreeSet<(Time, u32)>,
    /// How long after its issue a token is renewed.
    renew_after: Span,
    on_reject: OnReject,
}

/// A token that a session got, and what it asks with next time.
#[derive(Debug)]
pub(crate) struct NewToken {
    pub(crate) token: String,
    pub(crate) facts: TokenFacts,
    pub(crate) refresh_token: String,
}

/// The IdP had no token for a session.
#[derive(Debug, thiserror::Error)]
#[error("no first token for session {session}: {reason}")]
pub(crate) struct NoToken {
    session: u32,
    reason: String,
}

impl Sessions {
    /// Logs all sessions in. Their tokens are as old as those of sessions that have long been renewing: their ages are
    /// spread evenly up to the moment of renewal.
    pub(crate) fn log_in(plan: &Plan, idp: &mut Idp, date: UnixTime) -> Result<Self, NoToken> {
        let renew_after = plan.token_lifetime.scale(plan.traffic.renew_at.fraction());
        let start = Time::ZERO - plan.warmup;
        let mut ages = seed::generator(plan.seed, "token ages", 0);
        let mut all = Self {
            sessions: Vec::new(),
            queue: BTreeSet::new(),
            renew_after,
            on_reject: plan.traffic.on_reject,
        };
        for session in 0..plan.traffic.sessions {
            let age = renew_after.scale(ages.random());
            let grant = grant(plan.traffic.endpoint, session);
            let token =
                first_token(idp, start, &grant, date - age).map_err(|reason| NoToken { session, reason })?;
            let nonce = nonce_of(plan.traffic.endpoint, session);
            let due = Due { at: start + renew_after.saturating_sub(age), forced: false, relogin: false };
            all.queue.insert((due.at, session));
            all.sessions.push(Session {
                credentials: credentials(&token, nonce.as_deref(), 0),
                refresh_token: token.refresh_token,
                denied_in_a_row: 0,
                due: Some(due),
            });
        }
        Ok(all)
    }

    pub(crate) fn credentials(&self, session: u32) -> &Credentials {
        &self.sessions[session as usize].credentials
    }

    /// When the next session asks for a token.
    pub(crate) fn next_due(&self) -> Option<Time> {
        self.queue.first().map(|(at, _)| *at)
    }

    /// The sessions that ask for a token now; each waits for its answer.
    pub(crate) fn due(&mut self, now: Time) -> Vec<Renewal> {
        let mut due = Vec::new();
        while let Some(&(at, session)) = self.queue.first().filter(|(at, _)| *at <= now) {
            self.queue.remove(&(at, session));
            let it = &mut self.sessions[session as usize];
            let Some(Due { forced, relogin, .. }) = it.due.take() else { continue };
            let refresh_token = (!relogin).then(|| it.refresh_token.clone());
            due.push(Renewal { session, refresh_token, forced });
        }
        due
    }

    /// A session got its token.
    pub(crate) fn renewed(&mut self, session: u32, token: NewToken, now: Time) {
        let it = &mut self.sessions[session as usize];
        let nonce = it.credentials.nonce.clone();
        let number = it.credentials.number + 1;
        it.credentials = Credentials { nonce, ..credentials(&token, None, number) };
        it.refresh_token = token.refresh_token;
        self.schedule(session, Due { at: now + self.renew_after, forced: false, relogin: false });
    }

    /// A session got none, and asks again in a second.
    pub(crate) fn not_renewed(&mut self, renewal: &Renewal, now: Time) {
        let relogin = renewal.refresh_token.is_none();
        self.schedule(renewal.session, Due { at: now + Span::from_secs(1), forced: renewal.forced, relogin });
    }

    /// A request of a session has ended. Returns whether the session is locked out with it.
    pub(crate) fn ended(
        &mut self,
        session: u32,
        number: u64,
        (outcome, denied): (Outcome, bool),
        now: Time,
    ) -> bool {
        let it = &mut self.sessions[session as usize];
        it.denied_in_a_row = if denied { it.denied_in_a_row + 1 } else { 0 };
        let locked_out = it.denied_in_a_row == LOCKED_OUT;
        let current = it.credentials.number == number;
        if current && matches!(outcome, Outcome::Rejected(_)) {
            self.react(session, now);
        }
        locked_out
    }

    fn react(&mut self, session: u32, now: Time) {
        let reaction = match self.on_reject {
            OnReject::Keep => return,
            OnReject::Renew(renew) => Due { at: now + renew.after, forced: true, relogin: false },
            OnReject::Relogin => Due { at: now, forced: true, relogin: true },
        };
        // A session that is asking already, or will sooner, has reacted.
        if self.sessions[session as usize].due.is_some_and(|due| reaction.at < due.at) {
            self.schedule(session, reaction);
        }
    }

    fn schedule(&mut self, session: u32, due: Due) {
        let it = &mut self.sessions[session as usize];
        if let Some(old) = it.due.replace(due) {
            self.queue.remove(&(old.at, session));
        }
        self.queue.insert((due.at, session));
    }
}

fn credentials(token: &NewToken, nonce: Option<&str>, number: u64) -> Credentials {
    Credentials {
        authorization: bearer(&token.token),
        nonce: nonce.and_then(|nonce| HeaderValue::from_str(nonce).ok()),
        facts: token.facts,
        number,
    }
}

/// A token as a header. The alphabet of tokens is one of headers.
pub(crate) fn bearer(token: &str) -> HeaderValue {
    HeaderValue::try_from(format!("Bearer {token}")).unwrap_or_else(|_| HeaderValue::from_static("Bearer"))
}

/// What tells one login of a session from another.
pub(crate) fn nonce_of(endpoint: Endpoint, session: u32) -> Option<String> {
    (endpoint == Endpoint::Session).then(|| format!("nonce-{session}"))
}

/// The login of a session. Its ID tokens are for the service itself, which takes none that another client asked for
/// (OpenID Connect Core 1.0 section 3.1.3.7 (5)).
pub(crate) fn login(endpoint: Endpoint, session: u32) -> Login {
    let subject = format!("session-{session}");
    let client = match endpoint {
        Endpoint::Api => subject.clone(),
        Endpoint::Session => AUDIENCE.to_owned(),
    };
    Login { subject, client, scope: "openid".to_owned() }
}

/// What a session presents when it logs in.
fn grant(endpoint: Endpoint, session: u32) -> Grant {
    Grant::ClientCredentials { login: login(endpoint, session), nonce: nonce_of(endpoint, session) }
}

fn first_token(idp: &mut Idp, start: Time, grant: &Grant, issued: UnixTime) -> Result<NewToken, String> {
    let tokens = idp.order(start, issued, grant).map_err(|refusal| refusal.to_string())?.sign();
    let is_login_with_nonce = matches!(grant, Grant::ClientCredentials { nonce: Some(_), .. });
    let token = tokens.id.filter(|_| is_login_with_nonce).unwrap_or(tokens.access);
    Ok(NewToken { facts: facts(&token, None), token: token.token, refresh_token: tokens.refresh })
}

/// What is true of a token that was just made.
pub(crate) fn facts(token: &Minted, forged: Option<Forgery>) -> TokenFacts {
    TokenFacts { key: token.key, expires: token.expires, forged }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::testing::plan;
    use keyquake_idp::{KeyRing, Settings};

    const DATE: UnixTime = UnixTime(1_000_000);

    fn at(secs: i64) -> Time {
        Time::from_nanos(secs * 1_000_000_000)
    }

    /// Ten sessions whose tokens live for 100 s and are renewed after 80 s.
    fn sessions(traffic: &str) -> Sessions {
        let plan = plan(&format!(
            "[idp]\nalgorithm = \"ES256\"\ntoken_lifetime = \"100s\"\n\
             [traffic]\nrate = \"10/s\"\nsessions = 10\n{traffic}"
        ));
        let keys = KeyRing::generate(&plan.timeline, plan.algorithm).unwrap();
        let settings = Settings {
            issuer: "http://idp.test".to_owned(),
            audience: "keyquake".to_owned(),
            algorithm: plan.algorithm,
            token_lifetime: plan.token_lifetime,
            cache_control: None,
            seed: plan.seed,
        };
        let mut idp = Idp::new(settings, plan.timeline.clone(), keys, Time::ZERO).unwrap();
        Sessions::log_in(&plan, &mut idp, DATE).unwrap()
    }

    fn new_token(expires: i64) -> NewToken {
        let facts = TokenFacts {
            key: keyquake_idp::KeyId::FIRST,
            expires: DATE + Span::from_secs(expires as u64),
            forged: None,
        };
        NewToken { token: "new".to_owned(), facts, refresh_token: "next".to_owned() }
    }

    const REJECTED: (Outcome, bool) = (Outcome::Rejected(401), true);

    #[test]
    fn first_tokens_have_all_ages_up_to_their_renewal() {
        let sessions = sessions("");
        let mut left: Vec<i64> =
            (0..10).map(|session| sessions.credentials(session).facts.expires.0 - DATE.0).collect();
        left.sort_unstable();
        assert!(left.iter().all(|left| (20..=100).contains(left)), "{left:?}");
        assert!(left[9] - left[0] > 20, "{left:?}");
    }

    #[test]
    fn a_token_is_renewed_in_time_with_the_refresh_token() {
        let mut sessions = sessions("");
        let first = sessions.next_due().unwrap();
        assert_eq!(sessions.due(first - Span::from_secs(1)), []);
        let renewal = sessions.due(first).remove(0);
        assert!(!renewal.forced && renewal.refresh_token.is_some());
        sessions.renewed(renewal.session, new_token(200), at(50));
        assert_eq!(sessions.credentials(renewal.session).authorization, "Bearer new");
        let all = sessions.due(at(130));
        let again = all.iter().find(|again| again.session == renewal.session).unwrap();
        assert_eq!(again.refresh_token.as_deref(), Some("next"));
    }

    #[test]
    fn a_rejection_brings_the_renewal_forward_once() {
        let mut sessions = sessions("on_reject = { renew = { after = \"2s\" } }\nrenew_at = \"100%\"");
        let session =
            (0..10).find(|session| sessions.sessions[*session].due.unwrap().at > at(10)).unwrap() as u32;
        sessions.ended(session, 0, REJECTED, at(1));
        sessions.ended(session, 0, REJECTED, at(2));
        let due = sessions.sessions[session as usize].due.unwrap();
        assert_eq!((due.at, due.forced), (at(3), true));
        let renewal = sessions.due(at(3)).into_iter().find(|due| due.session == session).unwrap();
        assert!(renewal.forced && renewal.refresh_token.is_some());
        sessions.ended(session, 0, REJECTED, at(3));
        assert_eq!(sessions.sessions[session as usize].due, None, "it is asking already");
        sessions.renewed(session, new_token(200), at(4));
        sessions.ended(session, 0, REJECTED, at(5));
        assert_eq!(
            sessions.sessions[session as usize].due.unwrap().at,
            at(104),
            "a late rejection of the old token"
        );
    }

    #[test]
    fn keeping_does_nothing_and_relogin_asks_anew_at_once() {
        let mut keeping = sessions("on_reject = \"keep\"");
        let before = keeping.sessions[0].due;
        keeping.ended(0, 0, REJECTED, at(0));
        assert_eq!(keeping.sessions[0].due, before);

        let mut relogin = sessions("on_reject = \"relogin\"");
        relogin.ended(0, 0, REJECTED, at(0));
        let renewal = relogin.due(at(0)).into_iter().find(|due| due.session == 0).unwrap();
        assert!(renewal.forced && renewal.refresh_token.is_none());
    }

    #[test]
    fn three_denials_in_a_row_lock_out_once() {
        let mut sessions = sessions("");
        let accepted = (Outcome::Accepted(200), false);
        let ends = [REJECTED, REJECTED, accepted, REJECTED, REJECTED, REJECTED, REJECTED];
        let locked: Vec<bool> = ends.map(|end| sessions.ended(0, 0, end, at(0))).to_vec();
        assert_eq!(locked, [false, false, false, false, false, true, false]);
    }

    #[test]
    fn a_failed_renewal_is_tried_again() {
        let mut sessions = sessions("");
        let first = sessions.next_due().unwrap();
        let renewal = sessions.due(first).remove(0);
        sessions.not_renewed(&renewal, first);
        let again = sessions.due(first + Span::from_secs(1));
        assert!(again.contains(&renewal));
    }
}
