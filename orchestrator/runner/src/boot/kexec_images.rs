//! Which kernel images each guest needs for its own kexec and for later ones, and whether what a guest has loaded is
//! what it was given. Pure.

use crate::boot::role;
use luqual_protocol::{AUTORUN, Archived, KERNELS, Kernel};

/// The image for the kexec number `hop`, from 1. If one image is both sides, it is the target.
pub(super) fn image_for_hop(hop: u32, is_one: bool) -> Kernel {
    if is_one { Kernel::Target } else { role(hop) }
}

/// The images that the guest after `hop` kexecs needs: for its own kexec, and for later ones.
pub(super) fn images_in_guest(hop: u32, hops: u32, is_one: bool) -> Vec<Kernel> {
    let mut kernels: Vec<Kernel> = (hop + 1..=hops).take(2).map(|hop| image_for_hop(hop, is_one)).collect();
    kernels.dedup();
    kernels
}

/// What is wrong with the files that a guest has loaded for the next kernel: they have to be those that the first guest
/// was `given`, with the kernels to `carry` and the `kernel` itself. The requests of a guest without a connection become
/// fewer by each kexec, and their replies are compared with them.
pub(super) fn wrong_file(given: &[Archived], loaded: &[Archived], kernel: Kernel, carry: &[Kernel]) -> Option<String> {
    let is_wanted =
        |it: &&Archived| !it.path.starts_with(KERNELS) || carry.iter().any(|kernel| kernel.path() == it.path);
    let image = given.iter().find(|it| it.path == kernel.path()).map(|it| Archived { mode: 0, ..it.clone() });
    let wanted: Vec<Archived> = given.iter().filter(is_wanted).cloned().chain(image).collect();
    let is_same = |one: &Archived, other: &Archived| one == other || one.path == AUTORUN && other.path == AUTORUN;
    if let Some(wrong) = loaded.iter().find(|it| !wanted.iter().any(|given| is_same(given, it))) {
        return Some(format!("{} is not the one that it was given", wrong.path));
    }
    let missing = wanted.iter().find(|given| !loaded.iter().any(|it| is_same(given, it)));
    missing.map(|it| format!("{} is missing", it.path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use Kernel::{Source, Target};

    #[test]
    fn a_guest_carries_what_is_still_loaded_and_no_more() {
        assert_eq!([0, 1].map(|hop| images_in_guest(hop, 1, false)), [vec![Target], vec![]]);
        let three = [0, 1, 2, 3].map(|hop| images_in_guest(hop, 3, false));
        assert_eq!(three, [vec![Target, Source], vec![Source, Target], vec![Target], vec![]]);
        assert_eq!([0, 1, 2].map(|hop| images_in_guest(hop, 2, true)), [vec![Target], vec![Target], vec![]]);
        assert_eq!([1, 2, 3].map(|hop| image_for_hop(hop, false)), [Target, Source, Target]);
    }

    #[test]
    fn the_next_kernel_gets_the_files_that_the_first_one_was_given() {
        let file = |path: &str, content: &str| Archived::new(path, 0o100_755, content.as_bytes());
        let loaded_kernel = |content: &str| Archived::new(Target.path(), 0, content.as_bytes());
        let given =
            [file("/bin/luqual-agent", "a"), file(Source.path(), "s"), file(Target.path(), "t"), file(AUTORUN, "12")];
        let agent = || file("/bin/luqual-agent", "a");
        let requests = || file(AUTORUN, "2");
        let wrong = |loaded: &[Archived]| wrong_file(&given, loaded, Target, &[Source]);
        let right = [agent(), file(Source.path(), "s"), requests(), loaded_kernel("t")];
        assert_eq!(wrong(&right), None);
        let with = |place: usize, other: Archived| {
            let mut loaded = right.clone();
            loaded[place] = other;
            wrong(&loaded).unwrap()
        };
        assert_eq!(with(0, file("/bin/luqual-agent", "b")), "/bin/luqual-agent is not the one that it was given");
        assert!(with(0, Archived { mode: 0o104_755, ..agent() }).contains("is not the one"));
        assert_eq!(with(1, file(Source.path(), "x")), "/luqual/kernels/source is not the one that it was given");
        assert_eq!(with(3, loaded_kernel("x")), "/luqual/kernels/target is not the one that it was given");
        assert_eq!(with(0, file("/etc/more", "")), "/etc/more is not the one that it was given");
        assert_eq!(wrong(&right[1..]).unwrap(), "/bin/luqual-agent is missing");
        assert_eq!(wrong(&right[..3]).unwrap(), "/luqual/kernels/target is missing");
        assert_eq!(wrong(&[]).unwrap(), "/bin/luqual-agent is missing");
        assert_eq!(wrong_file(&[], &[], Target, &[]), None, "a machine that is not there was given nothing");
    }
}
