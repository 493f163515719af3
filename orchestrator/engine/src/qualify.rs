//! Qualifies an update: may a host be updated from one kernel to the other?

use crate::context::Context;
use crate::error::EngineError;
use crate::folder::{Finished, IfExists};
use crate::interactive::Interactive;
use crate::request::RunRequest;
use crate::run::run;
use luqual_reports::Qualification;
use luqual_runner::JOURNAL;
use std::fs;

/// The name of the HTML page in the run's folder.
pub const QUALIFICATION_PAGE: &str = "qualification.html";

/// Runs one pair and judges it. Writes the result into the run's folder, as text and as HTML.
pub async fn qualify(
    context: &Context<'_>,
    request: &RunRequest,
    interactive: Interactive,
) -> Result<(Finished, Qualification), EngineError> {
    let finished = run(context, request, IfExists::Fail, interactive).await?;
    let Finished { record, folder } = &finished;
    let qualification = Qualification::of(record).map_err(EngineError::own(folder.join(JOURNAL).display()))?;
    let (text, page) = (qualification.text(&record.run), qualification.html(&record.run));
    for (name, content) in [("qualification.txt", &text), (QUALIFICATION_PAGE, &page)] {
        let path = folder.join(name);
        fs::write(&path, content).map_err(EngineError::own(path.display()))?;
    }
    Ok((finished, qualification))
}
