//! All machines: luqual's own, and those of a matrix file.

use crate::error::EngineError;
use crate::request::{MachineSize, QemuArguments};
use luqual_config::own_machines;
use luqual_model::{CellKey, Profile};
use std::collections::BTreeMap;

/// The machines by name; of one that cannot have the user's size, why.
#[derive(Clone, Debug)]
pub struct Profiles(BTreeMap<String, Result<Profile, String>>);

impl Default for Profiles {
    /// luqual's own machines as they are.
    fn default() -> Self {
        Self::new(&[], MachineSize::default())
    }
}

impl Profiles {
    /// luqual's own machines and those of a matrix file, each of that size.
    pub fn new(of_file: &[Profile], size: MachineSize) -> Self {
        let all = own_machines().iter().chain(of_file).map(|profile| {
            let sized = sized(profile, size);
            (profile.name.clone(), sized.mistake().map_or(Ok(sized), Err))
        });
        Self(all.collect())
    }

    /// The machines of a run that is resumed or reproduced. A record of an earlier luqual has none; it used luqual's own.
    pub(crate) fn of_run(recorded: &BTreeMap<String, Profile>, arguments: QemuArguments) -> Result<Self, EngineError> {
        let mut all = Self::default();
        for (name, profile) in recorded {
            let mistake = profile.mistake().or_else(|| (profile.name != *name).then(|| "it has two names".to_owned()));
            if let Some(why) = mistake {
                return Err(EngineError::usage(format!("the record has a machine {name} that cannot be: {why}"))
                    .hint("the record was changed after the run; start a new run"));
            }
            if !profile.qemu.is_empty() && arguments == QemuArguments::Refused {
                let words = profile.qemu.join(" ");
                return Err(EngineError::usage(format!("the machine {name} of this run gives QEMU the arguments `{words}`"))
                    .hint("QEMU's arguments can read and run anything on this host; if they are yours, add --allow-qemu-arguments"));
            }
            all.0.insert(name.clone(), Ok(profile.clone()));
        }
        Ok(all)
    }

    /// All machines, by name.
    pub fn all(&self) -> impl Iterator<Item = &Profile> {
        self.0.values().flatten()
    }

    /// The machine with that name; an error lists the machines, or says that it cannot have the size of the user's.
    pub fn find(&self, name: &str) -> Result<&Profile, EngineError> {
        let profile = self.0.get(name).ok_or_else(|| {
            let names: Vec<&str> = self.0.keys().map(String::as_str).collect();
            EngineError::usage(format!("there is no profile `{name}`")).hint(format!("there are {}", names.join(", ")))
        })?;
        profile.as_ref().map_err(|why| {
            EngineError::usage(format!("the machine {name} cannot have that size: {why}"))
                .hint("give another --memory or --cpus, or a machine of your own by --matrix-file and --profile")
        })
    }

    /// The machines of these cells.
    pub(crate) fn of_cells<'a>(&self, keys: impl Iterator<Item = &'a CellKey>) -> BTreeMap<String, Profile> {
        let of = |key: &CellKey| self.0.get(&key.profile)?.as_ref().ok();
        keys.filter_map(of).map(|profile| (profile.name.clone(), profile.clone())).collect()
    }
}

fn sized(profile: &Profile, size: MachineSize) -> Profile {
    let (memory_mib, cpus) = (size.memory_mib.unwrap_or(profile.memory_mib), size.cpus.unwrap_or(profile.cpus));
    Profile { memory_mib, cpus, ..profile.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use luqual_config::own_machine;
    use luqual_model::Node;

    fn machine(name: &str) -> Profile {
        Profile { name: name.to_owned(), ..own_machine("q35-intel").unwrap().clone() }
    }

    #[test]
    fn a_size_is_that_of_each_machine_that_can_have_it() {
        let node = |cpu| Node { memory_mib: 512, cpus: vec![cpu] };
        let nodes = Profile { nodes: vec![node(0), node(1)], sockets: 2, ..machine("nodes") };
        let size = MachineSize { memory_mib: Some(8192), cpus: Some(4) };
        let profiles = Profiles::new(&[nodes], size);
        let vfio = profiles.find("vfio-intel").unwrap();
        assert_eq!((vfio.memory_mib, vfio.cpus), (8192, 4));
        let told = profiles.find("nodes").unwrap_err();
        assert!(
            told.to_string().contains("the nodes have 1024 MiB together") && told.kind() == ErrorKind::Usage,
            "{told}"
        );
        assert!(profiles.find("none").unwrap_err().hint_text().unwrap_or_default().contains("nodes, q35-intel"));
        assert!(Profiles::default().all().all(|it| own_machine(&it.name) == Some(it)));
    }

    #[test]
    fn a_record_cannot_choose_what_qemu_does() {
        let of =
            |profile: Profile, arguments| Profiles::of_run(&BTreeMap::from([("own".to_owned(), profile)]), arguments);
        assert_eq!(of(machine("own"), QemuArguments::Refused).unwrap().find("own").unwrap(), &machine("own"));
        let adds = Profile { qemu: vec!["-drive".into(), "file=/etc/shadow".into()], ..machine("own") };
        let told = of(adds.clone(), QemuArguments::Refused).unwrap_err();
        assert!(told.to_string().contains("`-drive file=/etc/shadow`"), "{told}");
        assert!(told.hint_text().unwrap_or_default().contains("--allow-qemu-arguments"));
        assert!(of(adds, QemuArguments::Allowed).is_ok());
        for wrong in [Profile { machine: "q35,firmware=/x".into(), ..machine("own") }, machine("another")] {
            assert!(
                of(wrong, QemuArguments::Allowed).unwrap_err().to_string().contains("a machine own that cannot be")
            );
        }
    }
}
