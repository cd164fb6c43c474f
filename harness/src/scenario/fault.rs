//! What breaks at the provider, when and for whom.

use keyquake_core::Span;
use keyquake_idp::{Parts, Replicas, Share};
use serde::Deserialize;

/// One fault: a table of independent parts for each endpoint that breaks.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Fault {
    pub(crate) from: Span,
    #[serde(rename = "for")]
    pub(crate) lasting: Span,
    pub(crate) jwks: Option<Parts>,
    pub(crate) discovery: Option<Parts>,
    pub(crate) token: Option<Parts>,
    /// The share of requests that are struck; all of them if it is not said.
    pub(crate) probability: Option<Share>,
    /// The replicas whose requests are struck; those of everybody if it is not said.
    pub(crate) replicas: Option<Replicas>,
}
