//! What the parts do to a reply, and which of them do not go together.

use axum::http::{StatusCode, header};
use keyquake_core::{Algorithm, Jwks, Span};
use serde_json::{Value, json};

use super::*;
use crate::decoy::decoy;
use crate::share::Share;

const SEED: u64 = 7;

fn parts(table: Value) -> Parts {
    serde_json::from_value(table).unwrap()
}

fn strike(faults: &[Fault]) -> Strike {
    let request = RequestFacts { endpoint: Endpoint::Jwks, instance: Some(3), number: 0 };
    let in_force: Vec<_> =
        faults.iter().enumerate().map(|(index, fault)| (FaultId::at(index), fault.clone())).collect();
    Strike::of(SEED, &in_force, request)
}

fn jwks(table: Value) -> Fault {
    Fault::new(Endpoint::Jwks, parts(table))
}

fn healthy() -> Reply {
    let set = json!({ "keys": [decoy(Algorithm::Es256, 1, 0)] }).to_string();
    let mut reply = Reply::new(StatusCode::OK, "application/jwk-set+json", set);
    reply.headers.insert(header::CACHE_CONTROL, "max-age=300".parse().unwrap());
    reply.headers.insert(header::ETAG, "\"x\"".parse().unwrap());
    reply
}

fn bent(faults: &[Fault]) -> Reply {
    match strike(faults).bend(healthy()).ending {
        Ending::Reply(reply) => reply,
        other => panic!("{other:?}"),
    }
}

#[test]
fn only_faults_of_the_endpoint_and_in_scope_strike() {
    let nobody = Scope { probability: None, replicas: Some(Replicas::Listed([4].into())) };
    let faults =
        [Fault::status(Endpoint::Token, 500), Fault { scope: nobody, ..Fault::status(Endpoint::Jwks, 500) }];
    assert_eq!(strike(&faults), Strike::default());
    assert_eq!(bent(&faults), healthy());
    assert_eq!(bent(&[Fault::status(Endpoint::Jwks, 500)]), Reply::empty(StatusCode::INTERNAL_SERVER_ERROR));
}

#[test]
fn the_last_fault_holds_where_two_name_one_part() {
    let faults = [
        jwks(json!({ "status": 503, "headers": { "age": "1", "x": "y" }, "delay": "1s" })),
        jwks(json!({ "status": 429, "headers": { "age": "2" }, "retry_after": "1500ms" })),
    ];
    let answer = strike(&faults).bend(healthy());
    assert_eq!((answer.after, answer.status()), (Span::from_secs(1), Some(429)));
    let headers = bent(&faults).headers;
    for (name, value) in [("age", "2"), ("x", "y"), ("retry-after", "2")] {
        assert_eq!(headers[name], value);
    }
}

#[test]
fn the_last_way_to_end_holds_and_silence_hides_the_rest() {
    let ending = |faults: &[Fault]| strike(faults).bend(healthy()).ending;
    let (hang, reset, drop) = (json!({ "hang": true }), json!({ "reset": true }), json!({ "drop": true }));
    let status = json!({ "status": 503 });
    assert_eq!(ending(&[jwks(hang.clone()), jwks(status.clone())]), Ending::Hang(FaultId::at(0)));
    assert_eq!(ending(&[jwks(status), jwks(hang.clone())]), Ending::Hang(FaultId::at(1)));
    assert_eq!(ending(&[jwks(hang.clone()), jwks(reset.clone())]), Ending::Reset);
    assert_eq!(ending(&[jwks(reset.clone()), jwks(hang)]), Ending::Hang(FaultId::at(1)));
    let length = healthy().body.len();
    assert_eq!(ending(&[jwks(reset), jwks(drop)]), Ending::Cut { reply: healthy(), at: length / 2 });
}

#[test]
fn parts_are_independent() {
    let retry = bent(&[jwks(json!({ "retry_after": "3s" }))]);
    assert_eq!((retry.status, retry.body), (StatusCode::OK, healthy().body));
    assert_eq!(retry.headers["retry-after"], "3");
    // A JWKS that comes with an error, and that a cache may keep for a day.
    let lasting =
        json!({ "status": 503, "body": "empty_set", "headers": { "cache-control": "max-age=86400" } });
    let reply = bent(&[jwks(lasting)]);
    assert_eq!((reply.status.as_u16(), &reply.body[..]), (503, &br#"{"keys":[]}"#[..]));
    assert_eq!(reply.headers["cache-control"], "max-age=86400");
    assert!(!reply.headers.contains_key("etag"));
    // Alone a status has neither body nor headers.
    let bare = bent(&[jwks(json!({ "status": 503, "headers": { "cache-control": "no-store" } }))]);
    assert_eq!((bare.headers.len(), bare.body.len()), (1, 0));
    let moved = bent(&[jwks(json!({ "redirect": "/elsewhere", "status": 307 }))]);
    assert_eq!((moved.status.as_u16(), &moved.headers["location"]), (307, &"/elsewhere".parse().unwrap()));
    assert_eq!(bent(&[jwks(json!({ "redirect": "/" }))]).status, StatusCode::FOUND);
}

#[test]
fn bodies_are_what_they_are_called() {
    let whole = healthy().body;
    let kid = decoy(Algorithm::Es256, 1, 0)["kid"].clone();
    let body = |name: &str| bent(&[jwks(json!({ "body": name }))]);
    assert_eq!(body("html").headers["content-type"], "text/html; charset=utf-8");
    assert!(!body("html").headers.contains_key("cache-control"));
    for (name, expected) in [
        ("empty", &b""[..]),
        ("empty_set", br#"{"keys":[]}"#),
        ("no_keys", b"{}"),
        ("truncated", &whole[..whole.len() / 2]),
        ("bom", &[b"\xEF\xBB\xBF", &whole[..]].concat()),
    ] {
        let reply = body(name);
        assert_eq!(&reply.body[..], expected, "{name}");
        assert_eq!(reply.status, StatusCode::OK);
        let type_and_age = (&reply.headers["content-type"], &reply.headers["cache-control"]);
        assert_eq!(
            type_and_age,
            (&"application/jwk-set+json".parse().unwrap(), &"max-age=300".parse().unwrap())
        );
        assert!(!reply.headers.contains_key("etag"), "{name}");
    }
    let object: Value = serde_json::from_slice(&body("keys_object").body).unwrap();
    assert_eq!(object["keys"][&kid]["kid"], json!(kid));
}

#[test]
fn extras_are_unusable_and_leave_the_own_keys_usable() {
    let own = || vec![decoy(Algorithm::Es256, 1, 0), decoy(Algorithm::Es256, 1, 1)];
    let parse = |keys: &Value, algorithm| {
        let keys: Keys = serde_json::from_value(keys.clone()).unwrap();
        let document = json!({ "keys": keys.bend(own(), algorithm, SEED) });
        Jwks::parse(document.to_string().as_bytes()).unwrap()
    };
    for algorithm in [Algorithm::Rs256, Algorithm::Es256] {
        let unusable = [
            ("unknown_kty", "unknown key type"),
            ("akp", "unknown key type"),
            ("unknown_crv", "unknown curve"),
            ("encryption", "`use` is not `sig`"),
            ("private", "a private key in a public key set"),
        ];
        for (extra, reason) in unusable {
            let set = parse(&json!([extra]), algorithm);
            let found: Vec<_> = set.unusable.iter().map(|(place, why)| (*place, why.to_string())).collect();
            assert_eq!((set.keys.len(), found), (2, vec![(0, reason.to_owned())]), "{extra}");
        }
        let null = parse(&json!(["null"]), algorithm);
        assert_eq!((null.keys.len(), null.unusable.len()), (2, 1));
        let nameless = parse(&json!(["no_kid"]), algorithm);
        assert_eq!((nameless.keys.len(), nameless.unusable.len()), (3, 0));
        assert_eq!((&nameless.keys[0].kid, nameless.keys[0].algorithm), (&None, algorithm));
    }
}

#[test]
fn wrong_and_swapped_sets_have_as_many_keys_of_others() {
    let own = || vec![decoy(Algorithm::Es256, 1, 0), decoy(Algorithm::Es256, 1, 1)];
    let kids = |keys: &[Value]| keys.iter().map(|key| key["kid"].clone()).collect::<Vec<_>>();
    let before: Vec<_> = own().into_iter().map(|key| json!(key)).collect();
    let wrong = Keys::WrongSet.bend(own(), Algorithm::Es256, SEED);
    assert_eq!(wrong.len(), 2);
    assert!(kids(&wrong).iter().all(|kid| !kids(&before).contains(kid)));
    let swapped = Keys::Swapped.bend(own(), Algorithm::Es256, SEED);
    assert_eq!(kids(&swapped), kids(&before));
    assert!(swapped.iter().zip(&before).all(|(new, old)| new["x"] != old["x"]));
    assert!(swapped[0]["x"] != swapped[1]["x"]);
    assert_eq!(Keys::Swapped.bend(own(), Algorithm::Es256, SEED), swapped);
}

#[test]
fn what_is_sent_is_read_again() {
    for table in [
        json!({ "status": 503, "retry_after": "3s", "headers": { "age": "7", "etag": "" }, "delay": "2s" }),
        json!({ "keys": ["unknown_kty", "akp", "unknown_crv", "null", "no_kid", "encryption", "private"] }),
        json!({ "keys": "wrong_set", "body": "bom", "drop": true }),
        json!({ "keys": "swapped", "stale": "1h", "body": "truncated" }),
        json!({ "hang": true }),
        json!({ "reset": true, "delay": "1s" }),
        json!({ "redirect": "https://elsewhere.test/", "status": 301 }),
    ] {
        let parts = parts(table.clone());
        assert_eq!(jwks(table.clone()).check(), Ok(()), "{table}");
        assert_eq!(serde_json::to_value(&parts).unwrap(), table);
    }
}

#[test]
fn parts_that_contradict_each_other_are_both_named() {
    use FaultError::{Bodiless, Contradiction, JwksOnly, Length, NoRedirect, NothingToCut};
    let table = [
        (json!({}), FaultError::Nothing),
        (json!({ "hang": false }), FaultError::Nothing),
        (json!({ "status": 101 }), FaultError::Status(101)),
        (json!({ "status": 600 }), FaultError::Status(600)),
        (json!({ "retry_after": "inf" }), FaultError::RetryAfter),
        (json!({ "delay": "0s" }), Length("delay")),
        (json!({ "stale": "inf" }), Length("stale")),
        (json!({ "hang": true, "status": 503 }), Contradiction("hang", "status")),
        (json!({ "hang": true, "delay": "1s" }), Contradiction("hang", "delay")),
        (json!({ "hang": true, "reset": true }), Contradiction("hang", "reset")),
        (json!({ "reset": true, "body": "html" }), Contradiction("reset", "body")),
        (json!({ "reset": true, "drop": true }), Contradiction("reset", "drop")),
        (json!({ "redirect": "/", "keys": "swapped" }), Contradiction("redirect", "keys")),
        (json!({ "redirect": "/", "headers": { "location": "/x" } }), Contradiction("redirect", "headers")),
        (
            json!({ "retry_after": "1s", "headers": { "Retry-After": "" } }),
            Contradiction("retry_after", "headers"),
        ),
        (json!({ "body": "html", "keys": ["akp"] }), Contradiction("body", "keys")),
        (json!({ "body": "empty_set", "stale": "1h" }), Contradiction("body", "stale")),
        (json!({ "body": "empty", "drop": true }), Contradiction("body", "drop")),
        (json!({ "status": 503, "drop": true }), NothingToCut),
        (json!({ "status": 204, "body": "html" }), Bodiless(204, "body")),
        (json!({ "status": 304, "keys": "swapped" }), Bodiless(304, "keys")),
        (json!({ "status": 503, "redirect": "/" }), NoRedirect(503)),
    ];
    for (table, error) in table {
        assert_eq!(jwks(table.clone()).check(), Err(error), "{table}");
    }
    for table in [json!({ "keys": "swapped" }), json!({ "stale": "1h" }), json!({ "body": "keys_object" })] {
        let part = parts(table.clone()).named().next().unwrap();
        assert_eq!(Fault::new(Endpoint::Discovery, parts(table)).check(), Err(JwksOnly(part)));
    }
    assert_eq!(jwks(json!({ "status": 503, "body": "html", "drop": true })).check(), Ok(()));
}

#[test]
fn a_scope_that_spares_everybody_is_refused() {
    let fault = |endpoint, scope| Fault { scope, ..Fault::status(endpoint, 503) }.check();
    let none = Scope { probability: Some(Share::NONE), replicas: None };
    assert_eq!(fault(Endpoint::Jwks, none), Err(FaultError::Nobody("probability")));
    for replicas in [Replicas::Share(Share::NONE), Replicas::Listed([].into())] {
        let scope = Scope { probability: None, replicas: Some(replicas) };
        assert_eq!(fault(Endpoint::Jwks, scope), Err(FaultError::Nobody("replicas")));
    }
    let listed = Scope { probability: None, replicas: Some(Replicas::Listed([0].into())) };
    assert_eq!(fault(Endpoint::Token, listed), Err(FaultError::TokenReplicas));
    let window =
        FaultWindow { fault: Fault::status(Endpoint::Jwks, 503), from: Time::ZERO, until: Time::ZERO };
    assert_eq!(window.check(), Err(FaultError::Empty));
}

#[test]
fn words_that_nobody_knows_are_refused() {
    for (table, error) in [
        (json!({ "satus": 503 }), "unknown field `satus`"),
        (json!({ "body": "htlm" }), "unknown variant `htlm`"),
        (json!({ "keys": "swaped" }), "unknown variant `swaped`, expected `wrong_set` or `swapped`"),
        (json!({ "keys": ["apk"] }), "unknown variant `apk`"),
        (json!({ "keys": 7 }), "expected \"wrong_set\", \"swapped\" or a list of extra keys"),
        (json!({ "keys": [] }), "no extra keys"),
        (json!({ "keys": vec!["null"; 65] }), "more than 64 extra keys"),
        (json!({ "redirect": "a\nb" }), "not the value of a header"),
    ] {
        let found = serde_json::from_value::<Parts>(table).unwrap_err().to_string();
        assert!(found.contains(error), "{found}");
    }
    for (replicas, error) in [
        (json!("20"), "a share needs its unit"),
        (json!([-1]), "invalid value"),
        (json!(0.2), "expected a share like \"20%\" or a list of replicas"),
    ] {
        let found = serde_json::from_value::<Replicas>(replicas).unwrap_err().to_string();
        assert!(found.contains(error), "{found}");
    }
}
