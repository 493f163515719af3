//! The bounds of a reply. A guest can say anything, and small text becomes large: a page that a reply names is copied.

use luqual_model::bounds::{PROBE_TEXT, REPLY_ITEMS, REPLY_PAGE_RUNS, REPLY_PAGES};
use luqual_protocol::{NotDone, Reply, Said};

/// The reply, if it is within the bounds. Nothing is left out of a reply: an agent whose reply is too large has failed.
pub(super) fn bounded(reply: Reply) -> Result<Reply, String> {
    too_much(&reply).map_or(Ok(reply), Err)
}

fn too_much(reply: &Reply) -> Option<String> {
    match reply {
        Reply::Done { said, .. } => of_said(said),
        Reply::NotDone { why, said, .. } => of_said(said).or_else(|| match why {
            NotDone::Refused { call, errno, about } => of_texts([call, errno, about]),
            // Shown in one line, which is cut.
            NotDone::Missing { .. } | NotDone::Failed { .. } => None,
        }),
        Reply::Hello(hello) => of_texts([&hello.agent, &hello.release, &hello.build_id, &hello.nonce, &hello.boot_id]),
        // The log is bounded by the size of the reply; it is scanned whole.
        Reply::Located(_) | Reply::KernelLog(_) => None,
    }
}

fn of_said(said: &Said) -> Option<String> {
    let Said { probes, measures, reaches, frames, written, paused: _, vm_reports, loaded, pages } = said;
    let runs = pages.iter().map(|memfd| memfd.runs.len()).sum();
    let reached = reaches.as_ref().map_or(0, |reaches| reaches.quiet.len());
    let moments = vm_reports.iter().map(|report| report.moments.len() + report.counts.len()).sum();
    let lists = [
        ("probes", probes.len(), REPLY_ITEMS),
        ("measures", measures.len(), REPLY_ITEMS),
        ("pages", reached, REPLY_PAGES),
        ("memfds", pages.len(), REPLY_ITEMS),
        ("runs of pages", runs, REPLY_PAGE_RUNS),
        ("files of an initramfs", loaded.len(), REPLY_ITEMS),
        ("runs of frames", frames.len(), REPLY_ITEMS),
        ("reports of virtual machines", vm_reports.len(), REPLY_ITEMS),
        ("events of virtual machines", moments, REPLY_ITEMS),
    ];
    if let Some((what, count, most)) = lists.iter().find(|(_, count, most)| count > most) {
        return Some(format!("the agent's reply has {count} {what}; luqual takes {most}"));
    }
    let of_probes = probes.iter().flat_map(|probe| [&probe.name, &probe.expected, &probe.observed]);
    let of_measures = measures.iter().flat_map(|measure| [&measure.what, &measure.unit]);
    let of_reports = vm_reports.iter().flat_map(|report| {
        let names = report.moments.iter().map(|(name, _)| name).chain(report.counts.iter().map(|(name, ..)| name));
        names.chain([&report.machine])
    });
    let of_pages = written.iter().map(|written| &written.digest);
    let of_pages = of_pages.chain(reaches.iter().map(|reaches| &reaches.known.digest));
    let of_files = loaded.iter().flat_map(|file| [&file.path, &file.sha256]);
    let of_memfds = pages.iter().map(|memfd| &memfd.name);
    of_texts(of_probes.chain(of_measures).chain(of_reports).chain(of_pages).chain(of_files).chain(of_memfds))
}

fn of_texts<'a>(texts: impl IntoIterator<Item = &'a String>) -> Option<String> {
    // Bytes, of which a character has one at least.
    let longest = texts.into_iter().map(String::len).max().unwrap_or_default();
    (longest > 4 * PROBE_TEXT)
        .then(|| format!("the agent's reply has a text of {longest} bytes; luqual takes {}", 4 * PROBE_TEXT))
}

#[cfg(test)]
mod tests {
    use super::*;
    use luqual_protocol::{Archived, Measure, Probe, Reaches, VmReport};

    fn told(said: Said) -> String {
        too_much(&Reply::Done { said, taint: 0 }).unwrap_or_default()
    }

    #[test]
    fn each_list_of_a_reply_has_a_bound() {
        let probe = Probe { name: "x".into(), expected: "1".into(), observed: "1".into(), passed: true };
        let measure = Measure { what: "x".into(), size: 1, unit: "files".into(), duration_us: 1 };
        let report = VmReport { machine: "x".into(), moments: Vec::new(), counts: Vec::new(), apart_us: 0 };
        let pages = |count| Some(Reaches { quiet: vec![0; count], ..Reaches::default() });
        let moments = |count| VmReport { moments: vec![("x".into(), 1); count], ..report.clone() };
        let file = Archived { path: "/x".into(), mode: 0, sha256: "x".into() };
        let more = REPLY_ITEMS + 1;
        for (said, what) in [
            (Said { probes: vec![probe.clone(); more], ..Said::default() }, "20001 probes"),
            (Said { measures: vec![measure; more], ..Said::default() }, "20001 measures"),
            (Said { reaches: pages(REPLY_PAGES + 1), ..Said::default() }, "4097 pages"),
            (Said { loaded: vec![file; more], ..Said::default() }, "20001 files"),
            (Said { frames: vec![(0, 0); more], ..Said::default() }, "20001 runs of frames"),
            (Said { vm_reports: vec![report.clone(); more], ..Said::default() }, "20001 reports"),
            (Said { vm_reports: vec![moments(more)], ..Said::default() }, "20001 events"),
        ] {
            assert!(told(said).contains(what), "{what}");
        }
        let all = Said { probes: vec![probe; REPLY_ITEMS], reaches: pages(REPLY_PAGES), ..Said::default() };
        assert_eq!(told(all), "");
    }

    #[test]
    fn each_text_of_a_reply_has_a_bound() {
        let long = "x".repeat(4 * PROBE_TEXT + 1);
        let probe = Probe { name: "x".into(), expected: "1".into(), observed: long.clone(), passed: false };
        assert!(told(Said { probes: vec![probe], ..Said::default() }).contains("a text of 16385 bytes"));
        let why = NotDone::Refused { call: long, errno: "EINVAL".into(), about: "x".into() };
        assert!(too_much(&why.into()).is_some());
    }
}
