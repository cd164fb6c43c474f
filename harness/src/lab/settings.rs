//! The settings of a scenario as they take effect, by the paths that would change them.

use std::collections::BTreeMap;

use keyquake_core::Span;
use keyquake_idp::{Parts, Style};

use crate::plan::Plan;
use crate::scenario::{self, Cache, Scenario};

/// What takes effect, as it would be written; `None` where nothing is written and something else decides.
pub(super) type Effective = BTreeMap<String, Option<String>>;

/// The settings of a plan, and of the first rotation and the first fault of its scenario.
pub(super) fn effective(scenario: &Scenario, plan: &Plan) -> Effective {
    let mut settings: Effective =
        plan.parameters.iter().map(|(path, value)| (path.clone(), Some(value.clone()))).collect();
    if let Cache::Age(age) = scenario.fleet.cache {
        settings.insert("fleet.cache".to_owned(), Some(format!("{{ age = \"{age}\" }}")));
    }
    settings.extend(scenario.rotation.first().into_iter().flat_map(of_rotation));
    settings.extend(scenario.fault.first().into_iter().flat_map(of_fault));
    settings
}

/// A rotation that was written in few words has the numbers that its style gives it.
fn of_rotation(written: &scenario::Rotation) -> Effective {
    let style = written.style();
    let lead = written.lead.map_or_else(|| "0s".to_owned(), |lead| lead.to_string());
    let late = style == Some(Style::Late) && !lead.starts_with('-');
    let leaves_at_once = matches!(style, Some(Style::NoOverlap | Style::Revoke | Style::Rekey));
    let retention = written.retention.or(leaves_at_once.then_some(Span::ZERO));
    let settings = [
        ("at", Some(written.at.to_string())),
        ("style", style.map(|style| style.to_string())),
        ("lead", Some(if late { format!("-{lead}") } else { lead })),
        // Otherwise the old key stays for as long as its tokens live.
        ("retention", retention.map(|retention| retention.to_string())),
    ];
    settings.map(|(field, value)| (format!("rotation[0].{field}"), value)).into()
}

fn of_fault(written: &scenario::Fault) -> Effective {
    let settings = [
        ("from", Some(written.from.to_string())),
        ("for", Some(written.lasting.to_string())),
        ("jwks", written.jwks.as_ref().and_then(inline)),
    ];
    settings.map(|(field, value)| (format!("fault[0].{field}"), value)).into()
}

/// The parts of a fault in one line, as in `{ status = 503 }`.
fn inline(parts: &Parts) -> Option<String> {
    toml::Value::try_from(parts).ok().map(|table| table.to_string())
}
