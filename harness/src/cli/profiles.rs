//! `keyquake profiles`: what is known of real software, and where from.

mod client;
mod idp;

use clap::Args;

use super::{End, Unusable};
use crate::profiles::{ClientProfile, IdpProfile};
use crate::scenario::nearest;
use crate::terminal::print;

/// Between two columns.
const GAP: &str = "  ";

#[derive(Debug, Args)]
pub(super) struct Profiles {
    /// All that is known of the one of this name.
    name: Option<String>,
    /// Identity providers, which `idp.profile` names, rather than the clients of `fleet.profile`.
    #[arg(long)]
    idp: bool,
}

impl Profiles {
    pub(super) fn execute(self) -> anyhow::Result<End> {
        let text = match &self.name {
            None if self.idp => idp::overview(),
            None => client::overview()?,
            Some(name) => match (ClientProfile::find(name).filter(|_| !self.idp), IdpProfile::find(name)) {
                (Some(client), _) => client::details(client)?,
                (None, Some(idp)) => idp::details(idp),
                (None, None) => return Err(Unusable(unknown(name)).into()),
            },
        };
        print(&text);
        Ok(End::Done)
    }
}

fn unknown(name: &str) -> String {
    let clients = ClientProfile::all().iter().map(|profile| profile.name.as_str());
    let idps = IdpProfile::all().iter().map(|profile| profile.name.as_str());
    let hint = match nearest(name, clients.chain(idps)) {
        Some(nearest) => format!("did you mean `{nearest}`?"),
        None => {
            "`keyquake profiles` lists clients, and `keyquake profiles --idp` identity providers".to_owned()
        }
    };
    format!("error: unknown profile `{name}`\nhint: {hint}")
}

/// Rows in columns as wide as what is in them, the headings first.
fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let mut widths = [0; N];
    for row in rows {
        for (width, entry) in widths.iter_mut().zip(row) {
            *width = entry.chars().count().max(*width);
        }
    }
    let line = |row: &[String; N]| {
        let padded = row.iter().zip(widths).map(|(entry, width)| format!("{entry:width$}"));
        padded.collect::<Vec<_>>().join(GAP).trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_entry() {
        let row = |one: &str, other: &str| [one.to_owned(), other.to_owned()];
        let rows = [row("name", "what"), row("ä", ""), row("longer", "x")];
        assert_eq!(table(&rows), "name    what\nä\nlonger  x\n");
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_nearest() {
        assert!(unknown("dexx").ends_with("hint: did you mean `dex`?"));
        assert!(unknown("0").ends_with("identity providers"));
    }
}
