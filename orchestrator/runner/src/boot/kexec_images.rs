//! Which kernel images each guest needs for its own kexec and for later ones. Pure.

use luqual_protocol::Kernel;

/// The image for the kexec number `hop`, from 1. If one image is both sides, it is the target.
pub(super) fn image_for_hop(hop: u32, is_one: bool) -> Kernel {
    if is_one || !hop.is_multiple_of(2) { Kernel::Target } else { Kernel::Source }
}

/// The images that the guest after `hop` kexecs needs: for its own kexec, and for later ones.
pub(super) fn images_in_guest(hop: u32, hops: u32, is_one: bool) -> Vec<Kernel> {
    let mut kernels: Vec<Kernel> = (hop + 1..=hops).take(2).map(|hop| image_for_hop(hop, is_one)).collect();
    kernels.dedup();
    kernels
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
}
