//! The colours of charts and pages, by role.

use plotters::style::RGBColor;

/// What a colour stands for. Where two could be mixed up, dashes or a pattern tell them apart too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ink {
    Paper,
    Text,
    Muted,
    Grid,
    Axis,
    /// The accent, and the only strong colour: users turned away.
    Denied,
    /// The same for all traffic: dashed.
    All,
    /// Denials by 5xx, resets and time-outs: hatched.
    Failures,
    /// Dotted.
    Orphaned,
    /// Dashes and dots.
    FalseAccepts,
    Jwks,
    Event,
    Overlap,
    Gap,
    Outage,
    Stream,
    Warmup,
    Median,
    /// Dashed.
    Tail,
    /// The steps of a heat map, from the best to the worst: one hue, so that only their strength tells them apart. On the
    /// first four text is legible in its own colour, on the others in that of the paper.
    Heat0,
    Heat1,
    Heat2,
    Heat3,
    Heat4,
    Heat5,
    Heat6,
}

impl Ink {
    /// From the best to the worst.
    pub(super) const HEAT: [Self; 7] =
        [Self::Heat0, Self::Heat1, Self::Heat2, Self::Heat3, Self::Heat4, Self::Heat5, Self::Heat6];

    const ALL: [Self; 26] = [
        Self::Paper,
        Self::Text,
        Self::Muted,
        Self::Grid,
        Self::Axis,
        Self::Denied,
        Self::All,
        Self::Failures,
        Self::Orphaned,
        Self::FalseAccepts,
        Self::Jwks,
        Self::Event,
        Self::Overlap,
        Self::Gap,
        Self::Outage,
        Self::Stream,
        Self::Warmup,
        Self::Median,
        Self::Tail,
        Self::Heat0,
        Self::Heat1,
        Self::Heat2,
        Self::Heat3,
        Self::Heat4,
        Self::Heat5,
        Self::Heat6,
    ];

    /// The colour to draw with, until [`colour`] replaces it.
    pub(super) fn rgb(self) -> RGBColor {
        RGBColor(0xfa, 0x01, self as u8)
    }

    /// Its name in classes and variables; its colour on light and on dark paper; its dashes, in user units.
    fn look(self) -> (&'static str, &'static str, &'static str, Option<&'static str>) {
        match self {
            Self::Paper => ("paper", "#ffffff", "#171a20", None),
            Self::Text => ("text", "#1c222d", "#e7eaf0", None),
            Self::Muted => ("muted", "#596273", "#a3acbb", None),
            Self::Grid => ("grid", "#e6e9ee", "#2a303b", None),
            Self::Axis => ("axis", "#a9b1be", "#505a6a", None),
            Self::Denied => ("denied", "#c02f1d", "#ff7d68", None),
            Self::All => ("all", "#2b5d9b", "#82b4f3", Some("28 16")),
            Self::Failures => ("failures", "#8f5a00", "#e6b252", None),
            Self::Orphaned => ("orphaned", "#6d7482", "#98a1b1", Some("4 14")),
            Self::FalseAccepts => ("false-accepts", "#a01f77", "#f08fcb", Some("28 12 6 12")),
            Self::Jwks => ("jwks", "#2f6d6a", "#6fc3ba", None),
            Self::Event => ("event", "#3d4656", "#b8c0cd", Some("10 8")),
            Self::Overlap => ("overlap", "#3b7a4a", "#79c18d", None),
            Self::Gap => ("gap", "#8f6200", "#dfb045", None),
            Self::Outage => ("outage", "#6c4690", "#bb9fe4", None),
            Self::Stream => ("stream", "#96591f", "#dd9f63", None),
            Self::Warmup => ("warmup", "#7d8694", "#6b7585", None),
            Self::Median => ("median", "#1c222d", "#e7eaf0", None),
            Self::Tail => ("tail", "#2b5d9b", "#82b4f3", Some("20 12")),
            Self::Heat0 => ("heat-0", "#f1f5fa", "#1d2430", None),
            Self::Heat1 => ("heat-1", "#d9e6f3", "#213348", None),
            Self::Heat2 => ("heat-2", "#b7d0e8", "#264463", None),
            Self::Heat3 => ("heat-3", "#8fb6da", "#2c5680", None),
            Self::Heat4 => ("heat-4", "#3b74ac", "#6fa8db", None),
            Self::Heat5 => ("heat-5", "#265890", "#9ac6ee", None),
            Self::Heat6 => ("heat-6", "#143b6b", "#d3e7fa", None),
        }
    }
}

/// Replaces the colours of roles by classes, with the light colours beside them for a file that stands alone.
pub(super) fn colour(svg: &str, id: &str) -> String {
    let mut coloured =
        svg.replace(" opacity=\"1\"", "").replace(" font-family=\"sans-serif\"", "").replace(" \"", "\"");
    for ink in Ink::ALL {
        let (name, light, _, dashes) = ink.look();
        let RGBColor(red, green, blue) = ink.rgb();
        let drawn = format!("#{red:02X}{green:02X}{blue:02X}");
        let dashes = dashes.map(|dashes| format!(" stroke-dasharray=\"{dashes}\"")).unwrap_or_default();
        let fill = match ink {
            Ink::Failures => format!("fill=\"url(#{id}-hatch)\""),
            _ => format!("class=\"f-{name}\" fill=\"{light}\""),
        };
        coloured = coloured
            .replace(
                &format!("stroke=\"{drawn}\""),
                &format!("class=\"s-{name}\" stroke=\"{light}\"{dashes}"),
            )
            .replace(&format!("fill=\"{drawn}\""), &fill);
    }
    coloured
}

/// The hatching of failures.
pub(super) fn patterns(id: &str) -> String {
    let (name, light, ..) = Ink::Failures.look();
    format!(
        "<defs><pattern id=\"{id}-hatch\" width=\"20\" height=\"20\" patternUnits=\"userSpaceOnUse\" \
         patternTransform=\"rotate(45)\"><path class=\"s-{name}\" stroke=\"{light}\" stroke-width=\"14\" d=\"M0 0V20\"/>\
         </pattern></defs>\n"
    )
}

/// The style rules that give the classes their colours: as the reader likes it on screens, light on paper.
pub(crate) fn css() -> String {
    let variables = |dark: bool| {
        Ink::ALL.into_iter().fold(String::new(), |css, ink| {
            let (name, light_colour, dark_colour, _) = ink.look();
            css + "--" + name + ":" + if dark { dark_colour } else { light_colour } + ";"
        })
    };
    let classes = Ink::ALL.into_iter().fold(String::new(), |css, ink| {
        let (name, ..) = ink.look();
        css + &format!(".f-{name}{{fill:var(--{name})}}.s-{name}{{stroke:var(--{name})}}\n")
    });
    format!(
        ":root{{{}}}\n@media screen and (prefers-color-scheme:dark){{:root{{{}}}}}\n{classes}",
        variables(false),
        variables(true),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_role_has_a_colour_of_its_own_to_draw_with() {
        for (index, ink) in Ink::ALL.into_iter().enumerate() {
            assert_eq!(ink as usize, index, "the order of the list is that of the roles");
        }
    }

    #[test]
    fn no_colour_of_a_role_is_left_over() {
        let RGBColor(red, green, blue) = Ink::Denied.rgb();
        let drawn = format!("<line opacity=\"1\" stroke=\"#{red:02X}{green:02X}{blue:02X}\"/>");
        assert_eq!(colour(&drawn, "x"), "<line class=\"s-denied\" stroke=\"#c02f1d\"/>");
    }
}
