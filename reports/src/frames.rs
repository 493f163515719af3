//! Which of the numbered frames that were sent to a device over an update it received.

use luqual_model::Frames;
use std::ops::Range;

/// By when frames are sent, in the order of the time.
pub(crate) const SPANS: [&str; 4] = ["source", "blackout", "target", "after"];

/// So many equal parts of the time are told apart, whatever a record has.
pub(crate) const PARTS: usize = 400;

/// So many characters has a bar, beside the borders of the blackout.
const WIDTH: usize = 40;

/// What was received of the frames of a part of the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Received {
    All,
    Some,
    None,
}

/// The frames of one cell, in a few bytes.
pub(crate) struct Strip {
    /// How many were received and sent, by [`SPANS`]; a record may have no such span.
    counts: [Option<(u32, u32)>; SPANS.len()],
    /// How many there are from the first to the end of the last span.
    pub(crate) length: u64,
    /// How long that took.
    pub(crate) duration_us: u64,
    /// The frames of the blackout, from the first of all.
    pub(crate) blackout: Option<Range<u64>>,
    /// [`PARTS`] of them, or none where no frame was sent.
    pub(crate) parts: Vec<Received>,
}

impl Strip {
    pub(crate) fn of(frames: &Frames) -> Self {
        let of = |when: &str| frames.spans.iter().find(|span| span.when == when);
        let sent = || frames.spans.iter().filter(|span| span.sent > 0);
        let bounds = |first: u32, sent: u32| u64::from(first)..u64::from(first) + u64::from(sent);
        let start = sent().map(|span| u64::from(span.first)).min().unwrap_or(0);
        let end = sent().map(|span| bounds(span.first, span.sent).end).max().unwrap_or(0);
        let length = end - start;
        let blackout = of("blackout").filter(|span| span.sent > 0).map(|span| bounds(span.first, span.sent));
        Self {
            counts: SPANS.map(|when| of(when).map(|span| (span.received, span.sent))),
            length,
            duration_us: length.saturating_mul(frames.period_us.max(1)),
            blackout: blackout.map(|it| it.start - start..it.end - start),
            parts: parts(&apart(&frames.received), start, length),
        }
    }

    /// The counts, a span each.
    pub(crate) fn counts(&self) -> [Option<String>; SPANS.len()] {
        self.counts.map(|count| count.map(|(received, sent)| format!("{received} of {sent}")))
    }

    /// The counts in one line.
    pub(crate) fn in_words(&self) -> String {
        let counts = SPANS.iter().zip(self.counts()).filter_map(|(when, count)| Some(format!("{when} {}", count?)));
        let counts: Vec<String> = counts.collect();
        if counts.is_empty() { "no frames were sent".to_owned() } else { counts.join(" · ") }
    }

    /// Equal parts of the time, a character each, with `│` at the borders of the blackout: it looks like `|`, which
    /// would end a field of a table even in code. Nothing, if no frame was sent.
    pub(crate) fn bar(&self) -> String {
        let border = |frame: u64| (frame * WIDTH as u64 + self.length / 2).checked_div(self.length);
        let borders: Vec<u64> = self.blackout.iter().flat_map(|it| [it.start, it.end]).filter_map(border).collect();
        let mut bar = String::new();
        for (at, parts) in (0..).zip(self.parts.chunks(PARTS / WIDTH)) {
            bar.extend(borders.iter().filter(|border| **border == at).map(|_| '│'));
            bar.push(match parts.iter().copied().reduce(and) {
                Some(Received::All) => '█',
                Some(Received::Some) => '▒',
                Some(Received::None) | None => '·',
            });
        }
        bar.extend(borders.iter().filter(|border| **border == WIDTH as u64).map(|_| '│'));
        bar
    }
}

/// What is said of two parts together.
fn and(one: Received, other: Received) -> Received {
    if one == other { one } else { Received::Some }
}

/// What was received by these runs, of which none meets another, in equal parts of the time.
fn parts(received: &[Range<u64>], start: u64, length: u64) -> Vec<Received> {
    let count = if length == 0 { 0 } else { PARTS as u64 };
    let part = |number: u64| {
        let (first, end) = (length * number / PARTS as u64, length * (number + 1) / PARTS as u64);
        // Where parts are shorter than a frame is, several show the same one.
        let part = start + first..start + end.max(first + 1);
        let from = received.partition_point(|run| run.end <= part.start);
        let within = received[from..].iter().take_while(|run| run.start < part.end);
        let count: u64 = within.map(|run| run.end.min(part.end) - run.start.max(part.start)).sum();
        match count {
            0 => Received::None,
            all if all == part.end - part.start => Received::All,
            _ => Received::Some,
        }
    };
    (0..count).map(part).collect()
}

/// The runs in order, with those that meet made one.
fn apart(received: &[(u32, u32)]) -> Vec<Range<u64>> {
    let mut runs: Vec<Range<u64>> = received
        .iter()
        .map(|(first, last)| u64::from(*first)..u64::from(*last) + 1)
        .filter(|run| !run.is_empty())
        .collect();
    runs.sort_unstable_by_key(|run| run.start);
    runs.dedup_by(|next, run| {
        let meets = next.start <= run.end;
        if meets {
            run.end = run.end.max(next.end);
        }
        meets
    });
    runs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::frames;

    fn bar(spans: &[(&str, u32, u32, u32)], received: &[(u32, u32)]) -> String {
        Strip::of(&frames(spans, received)).bar()
    }

    const SPANS: [(&str, u32, u32, u32); 4] =
        [("source", 0, 1000, 1000), ("blackout", 1000, 2000, 0), ("target", 3000, 500, 0), ("after", 3500, 500, 500)];

    #[test]
    fn a_bar_has_a_character_for_each_equal_part() {
        assert_eq!(bar(&SPANS, &[(0, 999), (3500, 3999)]), "██████████│····················│·····█████");
        // One lost, one received, and a run over the border.
        assert_eq!(
            bar(&SPANS, &[(0, 549), (551, 1049), (1300, 1300), (3500, 3999)]),
            "█████▒████│▒··▒················│·····█████"
        );
        assert_eq!(bar(&SPANS, &[(0, 3999)]), "██████████│████████████████████│██████████");
        assert_eq!(bar(&SPANS, &[]), "··········│····················│··········");
    }

    #[test]
    fn a_blackout_may_be_at_an_end_or_too_short_to_be_drawn() {
        let all = "█".repeat(40);
        assert_eq!(bar(&[("blackout", 0, 400, 400)], &[(0, 399)]), format!("│{all}│"));
        let short = [("source", 0, 200, 200), ("blackout", 200, 1, 1), ("after", 201, 199, 199)];
        let half = "█".repeat(20);
        assert_eq!(bar(&short, &[(0, 399)]), format!("{half}││{half}"));
        assert_eq!(bar(&[("source", 0, 400, 400), ("blackout", 400, 0, 0)], &[(0, 399)]), all);
    }

    #[test]
    fn fewer_frames_than_parts_are_wider() {
        assert_eq!(bar(&[("source", 7, 4, 2)], &[(7, 7), (9, 9)]), "██████████··········██████████··········");
        assert_eq!(bar(&[("source", 7, 1, 1)], &[(7, 7)]), "█".repeat(40));
        let three = bar(&[("source", 0, 3, 1)], &[(1, 1)]);
        assert_eq!(three, "·············▒████████████▒·············");
    }

    #[test]
    fn no_frames_are_no_bar() {
        for spans in [&[][..], &[("source", 3, 0, 0), ("blackout", 9, 0, 0)]] {
            let strip = Strip::of(&frames(spans, &[(0, 5)]));
            assert_eq!((strip.bar(), strip.parts.len(), strip.duration_us), (String::new(), 0, 0));
            assert!(strip.blackout.is_none());
        }
        assert_eq!(Strip::of(&frames(&[], &[])).in_words(), "no frames were sent");
        assert_eq!(Strip::of(&frames(&[("after", 3, 0, 0)], &[])).in_words(), "after 0 of 0");
    }

    #[test]
    fn whatever_a_record_has_is_drawn() {
        // Backwards, doubled, outside of all spans.
        let odd = [(90, 20), (0, 199), (100, 250), (u32::MAX, u32::MAX)];
        assert_eq!(
            bar(&[("after", 200, 200, 0), ("source", 0, 200, 900)], &odd),
            format!("{}▒{}", "█".repeat(25), "·".repeat(14))
        );
        let mut most = frames(&[("source", 0, u32::MAX, 1), ("blackout", u32::MAX, u32::MAX, 1)], &[(0, u32::MAX)]);
        (most.period_us) = u64::MAX;
        let strip = Strip::of(&most);
        assert_eq!((strip.bar().chars().count(), strip.parts.len(), strip.duration_us), (42, PARTS, u64::MAX));
        most.period_us = 0;
        assert!(Strip::of(&most).duration_us > 0);
        let scattered: Vec<(u32, u32)> = (0..50_000).map(|number| (2 * number, 2 * number)).collect();
        let strip = Strip::of(&frames(&[("source", 0, 100_000, 50_000)], &scattered));
        assert_eq!((strip.bar(), strip.parts.len()), ("▒".repeat(40), PARTS));
    }

    #[test]
    fn counts_are_those_of_the_record() {
        let strip = Strip::of(&frames(&SPANS, &[]));
        assert_eq!(strip.in_words(), "source 1000 of 1000 · blackout 0 of 2000 · target 0 of 500 · after 500 of 500");
        assert_eq!((strip.length, strip.duration_us, strip.blackout), (4000, 4_000_000, Some(1000..3000)));
    }
}
