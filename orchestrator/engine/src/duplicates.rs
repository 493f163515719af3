//! Kernels that a matrix names twice in different words: their cells would be the same, and a record cannot tell them
//! apart.

use crate::error::EngineError;
use luqual_kernels::{KernelError, Store};
use std::collections::HashMap;

/// An error if two of these names are of one kernel, which names both. `names` are as the matrix has them.
pub(crate) fn distinct(store: &Store, matrix: &str, names: &[String]) -> Result<(), EngineError> {
    distinct_by(matrix, names, |name| store.identity(name))
}

fn distinct_by(
    matrix: &str,
    names: &[String],
    identity: impl Fn(&str) -> Result<String, KernelError>,
) -> Result<(), EngineError> {
    let mut known: HashMap<String, (usize, &String)> = HashMap::new();
    for (place, name) in (1..).zip(names) {
        let Some((before, other)) = known.insert(identity(name)?, (place, name)) else { continue };
        return Err(EngineError::usage(format!(
            "the matrix {matrix} names one kernel twice: `{other}`, the kernel {before} of its list, and `{name}`, the kernel {place}"
        ))
        .hint("remove one of the names: they have the same image and the same command line, or are the same commit"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn both_names_of_a_kernel_are_told() {
        let names = ["7.3.4", "./tree@HEAD", "./tree@v7.3"].map(str::to_owned);
        let told = |of: fn(&str) -> String| distinct_by("m", &names, |name| Ok(of(name))).err();
        assert!(told(str::to_owned).is_none());
        let error = told(|name| name.split('@').next().unwrap().to_owned()).unwrap();
        assert_eq!(error.kind(), ErrorKind::Usage);
        let text = error.to_string();
        assert!(text.contains("`./tree@HEAD`, the kernel 2") && text.contains("`./tree@v7.3`, the kernel 3"), "{text}");
    }
}
