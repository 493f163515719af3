//! Strips of the frames that were sent over updates, drawn without a script.

use crate::devices::Sent;
use crate::frames::{PARTS, Received, Strip};
use maud::{Markup, html as markup};

/// One cell's.
pub(super) fn of_cell(strip: &Strip) -> Markup {
    markup! {
        figure.frames {
            figcaption { "frames received: " (strip.in_words()) }
            (drawn(strip, "Frames received over the update", strip.duration_us))
        }
    }
}

/// All of a run's, on one scale. Nothing, if none were sent.
pub(super) fn of_devices(sent: &[Sent]) -> Markup {
    let longest_us = sent.iter().map(|it| it.strip.duration_us).max().unwrap_or(0);
    markup! {
        @if !sent.is_empty() {
            h3 { "A packet survives" }
            p {
                "Numbered frames that were sent to a device during the update. Filled: received; empty: lost; pale: "
                "some were lost. The frame marks the blackout."
            }
            @for Sent { device, profile, pair, strip } in sent {
                @let name = format!("{device} on {profile}, {pair}");
                figure.frames {
                    figcaption { b { (name) } " " (strip.in_words()) }
                    (drawn(strip, &format!("Frames received by {name}"), longest_us))
                }
            }
            @if longest_us > 0 { p.scale aria-hidden="true" {
                @for quarter in 0..=4 { span { ((longest_us as f64 / 4000.0 * f64::from(quarter)).round()) " ms" } }
            } }
        }
    }
}

/// As long as it took, of the longest. Runs of parts are as many as there are parts, at most.
fn drawn(strip: &Strip, title: &str, longest_us: u64) -> Markup {
    let width = strip.duration_us as f64 * 100.0 / longest_us.max(1) as f64;
    let place = |frame: u64| frame as f64 * PARTS as f64 / strip.length.max(1) as f64;
    let runs = strip.parts.chunk_by(|one, other| one == other).scan(0, |next, run| {
        let first = *next;
        *next += run.len();
        Some((run.first().copied(), first, run.len()))
    });
    markup! {
        @if strip.length > 0 {
            svg viewBox=(format!("0 0 {PARTS} 10")) preserveAspectRatio="none" role="img" style=(format!("width:{width:.2}%")) {
                title { (title) }
                desc { (described(strip)) }
                @for (part, first, count) in runs { @match part {
                    Some(Received::All) => rect.all x=(first) width=(count) height="10" {},
                    Some(Received::Some) => rect.some x=(first) width=(count) height="10" {},
                    Some(Received::None) | None => {},
                } }
                @if let Some(blackout) = &strip.blackout {
                    rect.blackout x=(format!("{:.2}", place(blackout.start)))
                        width=(format!("{:.2}", place(blackout.end - blackout.start))) height="10" {}
                }
            }
        }
    }
}

/// What is seen, for those who do not see it.
fn described(strip: &Strip) -> String {
    let ms = |frame: u64| (strip.duration_us as f64 / 1000.0 * frame as f64 / strip.length.max(1) as f64).round();
    let blackout = strip.blackout.as_ref();
    let blackout = blackout.map(|it| format!("; the blackout is from {} ms to {} ms", ms(it.start), ms(it.end)));
    format!("{}; all took {} ms{}", strip.in_words(), ms(strip.length), blackout.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::devices::Devices;
    use crate::samples::{cells, framed_cells, frames, record_of};

    fn lines(markup: Markup) -> String {
        let mut text = markup.into_string();
        for tag in ["<figure", "<figcaption", "<svg", "<title", "<desc", "<rect", "<p"] {
            text = text.replace(tag, &format!("\n{tag}"));
        }
        text
    }

    #[test]
    fn devices_stand_below_each_other_on_one_scale() {
        let record = record_of(framed_cells());
        insta::assert_snapshot!(lines(of_devices(&Devices::of(&[&record]).unwrap().sent)));
    }

    #[test]
    fn a_cell_has_its_own_strip() {
        let cell = framed_cells().swap_remove(0);
        insta::assert_snapshot!(lines(of_cell(&Strip::of(&cell.frames.unwrap()))));
    }

    #[test]
    fn no_frames_are_nothing_to_draw() {
        let record = record_of(cells());
        assert_eq!(of_devices(&Devices::of(&[&record]).unwrap().sent).into_string(), "");
        for spans in [&[][..], &[("source", 0, 0, 0), ("blackout", 5, 0, 0)]] {
            let strip = || Strip::of(&frames(spans, &[]));
            let none = Sent { device: "a".into(), profile: "b".into(), pair: "c".into(), strip: strip() };
            for drawn in [of_cell(&strip()), of_devices(&[none])].map(Markup::into_string) {
                assert!(!drawn.contains("<svg") && !drawn.contains("NaN") && !drawn.contains("inf"), "{drawn}");
                assert!(drawn.contains("</figcaption>"), "{drawn}");
            }
        }
    }

    #[test]
    fn a_strip_has_a_few_hundred_rectangles_at_most() {
        let scattered: Vec<(u32, u32)> = (0..50_000).map(|run| (1000 * run, 1000 * run + 500)).collect();
        let strip = Strip::of(&frames(&[("source", 0, 50_000 * 1000, 1)], &scattered));
        assert!(of_cell(&strip).into_string().matches("<rect").count() <= PARTS);
        let odd: Vec<(u32, u32)> = (0..200).map(|run| (2 * run, 2 * run)).collect();
        let strip = Strip::of(&frames(&[("source", 0, 400, 200)], &odd));
        assert_eq!(of_cell(&strip).into_string().matches("<rect").count(), 200);
    }
}
