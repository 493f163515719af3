//! Where the memory of a preserved memfd is, so that the host can look at it without the guest.

use crate::content::PAGE;
use serde::{Deserialize, Serialize};

/// The pages of a preserved memfd.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemfdPages {
    /// The name of the memfd, from which its content follows ([`crate::content`]).
    pub name: String,
    /// Its size in bytes.
    pub size: u64,
    /// All of its pages, in order.
    pub runs: Vec<PageRun>,
}

/// Consecutive pages of a memfd that are alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageRun {
    /// The number of pages.
    #[serde(rename = "n")]
    pub count: u64,
    /// Where they are.
    #[serde(rename = "at")]
    pub place: PagePlace,
    /// What they have to contain.
    #[serde(rename = "is")]
    pub content: PageContent,
}

/// Where the pages of a run are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PagePlace {
    /// In memory: the guest-physical address of the first one. Each further page follows the one before it.
    Memory(u64),
    /// In memory, and each further page precedes the one before it: the page allocator gives out many blocks from
    /// their end.
    Downwards(u64),
    /// In swap, so the host cannot see them.
    Swap,
    /// Nowhere: a hole, which reads as zeros, or behind the end of the file.
    Nowhere,
}

/// What the pages of a run have to contain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PageContent {
    /// Zeros.
    Zeros,
    /// The content of this generation, which follows from seed, name and page.
    Filled(u8),
}

impl PagePlace {
    /// The place of the page `further` pages on, in a run that begins here.
    pub const fn further(self, further: u64) -> Self {
        match self {
            Self::Memory(address) => Self::Memory(address.saturating_add(further.saturating_mul(PAGE as u64))),
            Self::Downwards(address) => Self::Downwards(address.saturating_sub(further.saturating_mul(PAGE as u64))),
            Self::Swap | Self::Nowhere => self,
        }
    }

    /// The same first page, and the further ones before it.
    const fn turned(self) -> Self {
        match self {
            Self::Memory(address) => Self::Downwards(address),
            place => place,
        }
    }

    /// The place of one page, without a direction.
    const fn of_one(self) -> Self {
        match self {
            Self::Downwards(address) => Self::Memory(address),
            place => place,
        }
    }
}

impl MemfdPages {
    /// The pages of a memfd, of which each has a place and a content.
    pub fn new(name: &str, size: u64, pages: impl IntoIterator<Item = (PagePlace, PageContent)>) -> Self {
        let mut runs: Vec<PageRun> = Vec::new();
        for (place, content) in pages {
            match runs.last_mut().filter(|run| run.content == content) {
                Some(run) if run.place.further(run.count).of_one() == place => run.count += 1,
                Some(run) if run.count == 1 && run.place.turned().further(1).of_one() == place => {
                    (run.count, run.place) = (2, run.place.turned());
                }
                _ => runs.push(PageRun { count: 1, place, content }),
            }
        }
        Self { name: name.to_owned(), size, runs }
    }

    /// The number of pages, by the size.
    pub const fn count(&self) -> u64 {
        self.size.div_ceil(PAGE as u64)
    }

    /// Whether each page is told once.
    pub fn is_whole(&self) -> bool {
        let told = self.runs.iter().try_fold(0_u64, |sum, run| sum.checked_add(run.count));
        told == Some(self.count())
    }

    /// The place of each page. The caller has checked that there are not too many.
    pub fn places(&self) -> impl Iterator<Item = PagePlace> + '_ {
        self.runs.iter().flat_map(|run| (0..run.count).map(|further| run.place.further(further).of_one()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use PageContent::{Filled, Zeros};
    use PagePlace::{Memory, Nowhere, Swap};

    #[test]
    fn pages_that_are_alike_are_one_run_and_come_out_as_they_went_in() {
        let pages = [
            (Memory(0x1000), Filled(0)),
            (Memory(0x2000), Filled(0)),
            (Memory(0x3000), Filled(1)),
            (Memory(0x5000), Filled(1)),
            (Nowhere, Zeros),
            (Nowhere, Zeros),
            (Swap, Filled(0)),
        ];
        let told = MemfdPages::new("a", 6 * 4096 + 1, pages);
        assert_eq!(told.runs.iter().map(|run| run.count).collect::<Vec<_>>(), [2, 1, 1, 2, 1]);
        assert!(told.places().eq(pages.iter().map(|(place, _)| *place)));
        assert!(told.is_whole());
        assert!(!MemfdPages { size: 6 * 4096, ..told.clone() }.is_whole());
        assert!(!MemfdPages { size: 7 * 4096 + 1, ..told }.is_whole());
        assert!(MemfdPages::new("empty", 0, []).is_whole());
    }

    #[test]
    fn pages_that_come_from_the_end_of_a_block_are_one_run() {
        let pages = [0x5000, 0x4000, 0x3000, 0x9000, 0xa000, 0].map(|address| (Memory(address), Filled(0)));
        let told = MemfdPages::new("a", 6 * 4096, pages);
        let runs: Vec<_> = told.runs.iter().map(|run| (run.count, run.place)).collect();
        assert_eq!(runs, [(3, PagePlace::Downwards(0x5000)), (2, Memory(0x9000)), (1, Memory(0))]);
        assert!(told.places().eq(pages.iter().map(|(place, _)| *place)));
    }

    #[test]
    fn a_count_that_overflows_is_not_whole() {
        let run = |count| PageRun { count, place: Nowhere, content: Zeros };
        let told = MemfdPages { name: String::new(), size: 4096, runs: vec![run(u64::MAX), run(2)] };
        assert!(!told.is_whole());
    }
}
