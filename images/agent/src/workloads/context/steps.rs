//! The steps of a case, as the host requests them.

use super::Context;
use crate::errno::success_or_errno;
use crate::mapping::{Mapping, PAGE};
use crate::memfd::Memfd;
use crate::workloads::case::Case;
use crate::workloads::error::StepError;
use luqual_protocol::{Said, WorkloadPage};
use rustix::fd::AsFd;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::rc::Rc;

impl Context {
    /// Preserves the state and holds it. In a target that is the next source, the state is what was retrieved.
    pub(crate) fn preserve(&mut self) -> Result<(), StepError> {
        self.preserve_all().map_err(|error| match error {
            StepError::NotHeld(what) if self.hop > 0 => {
                StepError::Missing(format!("{what}, which it did not give back"))
            }
            error => error,
        })
    }

    fn preserve_all(&mut self) -> Result<(), StepError> {
        self.is_preserved = true;
        if self.hop == 0 {
            self.unpreserved = Some(Mapping::locked_page().map_err(StepError::agent("a page of memory"))?);
            // All memory is filled before the kernel is asked for anything, so that a shortage is not taken for a refusal.
            for kept in self.case.kept {
                let file = self.make_memfd(&kept.memfd)?;
                self.keep(kept.memfd.name, file);
            }
            (self.case.prepare)(self)?;
        }
        for kept in self.case.kept {
            let memfd = self.kept(kept.memfd.name)?;
            let session = match self.sessions.get(kept.session) {
                Some(session) => session.clone(),
                None => self.create(kept.session)?,
            };
            self.preserve_fd(&session, memfd.as_fd(), kept.token, kept.memfd.name)?;
        }
        (self.case.source)(self)?;
        self.report_pages()
    }

    /// Retrieves what is kept.
    pub(crate) fn retrieve(&mut self) -> Result<(), StepError> {
        for label in labels(self.case) {
            self.retrieve_session(label)?;
        }
        for kept in self.case.kept {
            let memfd = self.sessions.get(kept.session).map(|session| session.retrieve(kept.token));
            let observed =
                memfd.as_ref().map_or_else(|| "no session".to_owned(), |memfd| success_or_errno(memfd, "a descriptor"));
            self.check(format!("memfd {} retrieve", kept.memfd.name), "a descriptor", observed);
            if let Some(Ok(memfd)) = memfd {
                self.memfds.insert(kept.memfd.name, Rc::new(File::from(memfd)));
            }
        }
        self.report_pages()?;
        StepError::unless_lost((self.case.retrieved)(self))
    }

    /// Tells the host where the memory of each kept memfd is. A case that closes one tells it before.
    fn report_pages(&mut self) -> Result<(), StepError> {
        self.case.kept.iter().try_for_each(|kept| self.report_pages_of(&kept.memfd))
    }

    /// Tells the host where the memory of a kept memfd is, if it is held.
    pub(crate) fn report_pages_of(&mut self, memfd: &Memfd) -> Result<(), StepError> {
        if let Some(file) = self.memfds.get(memfd.name) {
            let told = memfd.locate(file).map_err(StepError::agent(format!("pages of {}", memfd.name)))?;
            self.said.pages.push(told);
        }
        Ok(())
    }

    /// Compares what is held with its expected content, in a source or in a target.
    pub(crate) fn verify(&mut self) -> Result<(), StepError> {
        for kept in self.case.kept {
            // For a memfd that was not retrieved another probe has failed.
            if let Some(file) = self.memfds.get(kept.memfd.name).cloned() {
                self.check_memfd(&kept.memfd, &file);
            }
        }
        if self.hop > 0 && !self.is_preserved {
            StepError::unless_lost((self.case.target)(self))?;
        }
        Ok(())
    }

    /// Finishes the sessions, and checks that the kernel has forgotten them.
    pub(crate) fn finish(&mut self) -> Result<(), StepError> {
        for label in labels(self.case) {
            // The session is closed here, after it was finished.
            if let Some(session) = self.sessions.remove(label) {
                self.check(
                    format!("session {label} finish"),
                    "finished",
                    success_or_errno(&session.finish(), "finished"),
                );
            }
        }
        let device = self.device()?;
        for label in labels(self.case) {
            let again = device.retrieve_session(&self.session_name(label));
            self.check(format!("session {label} after finish"), "ENOENT", success_or_errno(&again, "still there"));
        }
        drop(device);
        StepError::unless_lost((self.case.finished)(self))
    }

    /// The memfd that has this page, and the byte offset of the page in it.
    fn page(&self, memfd: &str, page: u64) -> Option<(&File, u64)> {
        let at = page * PAGE as u64;
        let kept = self.case.kept.iter().find(|kept| kept.memfd.name == memfd && at < kept.memfd.size)?;
        Some((self.memfds.get(kept.memfd.name)?, at))
    }

    /// Flips the lowest bit of a byte, for a fault that is injected on purpose.
    pub(crate) fn flip(&mut self, place: &WorkloadPage, offset: u64) -> Result<(), StepError> {
        let flipped = match place {
            WorkloadPage::Unpreserved => self.unpreserved.as_mut().map(|page| {
                page.store(0, 1);
                Ok(())
            }),
            WorkloadPage::Memfd { memfd, page } => self.page(memfd, *page).map(|(file, at)| {
                let mut byte = [0];
                file.read_exact_at(&mut byte, at + offset)?;
                file.write_all_at(&[byte[0] ^ 1], at + offset)
            }),
        };
        let name = self.case.name;
        let nothing = || StepError::Missing(format!("{name} has no {place} into which a fault could be injected"));
        flipped.ok_or_else(nothing)?.map_err(StepError::agent(format!("a bit of {place}")))
    }

    /// The guest-physical address of a page, if the case has such a page.
    pub(crate) fn locate(&self, place: &WorkloadPage) -> Result<Option<u64>, StepError> {
        let address = match place {
            WorkloadPage::Unpreserved => self.unpreserved.as_ref().map(|page| page.physical_address(0)),
            WorkloadPage::Memfd { memfd, page } => self
                .page(memfd, *page)
                .map(|(file, at)| Mapping::page_of(file, at).and_then(|page| page.physical_address(0))),
        };
        address.transpose().map_err(StepError::agent(format!("the address of {place:?}")))
    }

    /// Ends a step, whether it was done or not: closes /dev/liveupdate, and returns the findings.
    pub(crate) fn end_step(&mut self) -> Said {
        self.device = None;
        let said = std::mem::take(&mut self.said);
        if self.mute { Said::default() } else { said }
    }
}

/// The labels of the sessions with what is kept, each once.
pub(super) fn labels(case: &'static Case) -> Vec<&'static str> {
    let mut labels: Vec<&str> = Vec::new();
    for kept in case.kept {
        if !labels.contains(&kept.session) {
            labels.push(kept.session);
        }
    }
    labels
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_kernel_did_not_give_back_is_no_failure_of_the_agent() {
        let case = crate::workloads::find("lifecycle.there-and-back").unwrap();
        let again = Context::new(case, 0, 1, None).preserve();
        assert!(matches!(&again, Err(StepError::Missing(what)) if what.starts_with("memfd control")), "{again:?}");
        let lost = || StepError::NotHeld("memfd control".to_owned());
        assert!(StepError::unless_lost(Err(lost())).is_ok());
        assert!(StepError::unless_lost(Err(StepError::Agent("no memory".to_owned()))).is_err());
        let failed = luqual_protocol::NotDone::from(lost());
        assert!(
            matches!(failed, luqual_protocol::NotDone::Failed { message } if message == "memfd control is not held")
        );
    }
}
