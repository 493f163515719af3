//! Globs over names.

/// Whether `name` matches `glob`, in which `*` stands for any text and `?` for one character.
pub fn matches(glob: &str, name: &str) -> bool {
    let (glob, name): (Vec<char>, Vec<char>) = (glob.chars().collect(), name.chars().collect());
    // reachable[n]: the glob so far matches the first n characters of the name.
    let mut reachable: Vec<bool> = (0..=name.len()).map(|length| length == 0).collect();
    for wanted in glob {
        if wanted == '*' {
            let first = reachable.iter().position(|reached| *reached).unwrap_or(reachable.len());
            reachable.iter_mut().skip(first).for_each(|reached| *reached = true);
        } else {
            for length in (1..=name.len()).rev() {
                reachable[length] = reachable[length - 1] && (wanted == '?' || wanted == name[length - 1]);
            }
            reachable[0] = false;
        }
    }
    reachable[name.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs() {
        for (glob, name, expected) in [
            ("memfd.*", "memfd.basic", true),
            ("*", "memfd.basic", true),
            ("*.basic", "memfd.basic", true),
            ("memfd.basi?", "memfd.basic", true),
            ("m*d*c", "memfd.basic", true),
            ("memfd", "memfd.basic", false),
            ("memfd.*x", "memfd.basic", false),
            ("", "memfd.basic", false),
        ] {
            assert_eq!(matches(glob, name), expected, "{glob}");
        }
    }
}
