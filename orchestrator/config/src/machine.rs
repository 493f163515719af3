//! `[machine.NAME]`: machine profiles, in luqual's own file and in matrix files.

use crate::document::{self, Mistakes, Table, Text};
use crate::names::unknown;
use luqual_model::{Append, Bus, Device, Iommu, Node, Profile};
use std::cell::RefCell;
use std::sync::LazyLock;

/// luqual's own machines.
const OWN: &str = include_str!("../machines.toml");

/// The machine of which others are variants, if they do not say otherwise.
pub const DEFAULT_MACHINE: &str = "q35-intel";

/// luqual's own machines, by name.
pub fn own_machines() -> &'static [Profile] {
    static READ: LazyLock<Vec<Profile>> = LazyLock::new(|| {
        let read = read_own(OWN);
        // A test reads the file, which is a part of luqual.
        read.unwrap_or_else(|mistakes| panic!("luqual's own machines: {mistakes}"))
    });
    &READ
}

fn read_own(text: &str) -> Result<Vec<Profile>, Mistakes> {
    document::read("machines.toml", text, |table| read(table, &[]))
}

/// The machine of that name among luqual's own.
pub fn own_machine(name: &str) -> Option<&'static Profile> {
    own_machines().iter().find(|profile| profile.name == name)
}

/// Reads all machines of a file, sorted by name. None if one of them is wrong, which is reported. `known` are those that are
/// known without it.
pub(crate) fn read(table: &Table<'_>, known: &[Profile]) -> Option<Vec<Profile>> {
    let entries = table.named("machine", |name, table| Some(Entry::read(name, table)))?;
    let file = File { entries: &entries, known, under_way: RefCell::default() };
    let profiles = entries.iter().map(|entry| file.resolve(entry));
    // Collected first, since the first None would end the iteration.
    let mut profiles: Vec<Profile> = profiles.collect::<Vec<_>>().into_iter().collect::<Option<_>>()?;
    profiles.sort_by(|left, right| left.name.cmp(&right.name));
    Some(profiles)
}

/// A machine as it is written. What is absent is inherited.
struct Entry<'a> {
    name: Text<'a>,
    inherits: Option<Text<'a>>,
    summary: Option<String>,
    machine: Option<String>,
    cpu: Option<String>,
    cpus: Option<u64>,
    sockets: Option<u64>,
    memory_mib: Option<u64>,
    nodes: Option<Vec<Node>>,
    iommu: Option<Iommu>,
    bus: Option<Bus>,
    devices: Option<Vec<Device>>,
    qemu: Option<Vec<String>>,
    append: Option<String>,
    append_source: Option<String>,
    append_target: Option<String>,
    /// Whether a value could not be read, which is reported.
    is_wrong: bool,
}

impl<'a> Entry<'a> {
    fn read(name: Text<'a>, table: &Table<'a>) -> Self {
        let before = table.mistakes();
        let text = |key: &'static str| table.text(key).map(|text| text.text.to_owned());
        let list = |key: &'static str| table.has(key).then(|| table.texts(key));
        let words = |texts: Vec<Text<'_>>| texts.iter().map(|text| text.text.to_owned()).collect();
        let iommus = Iommu::ALL.map(|iommu| (iommu.word(), iommu));
        let buses = Bus::ALL.map(|bus| (bus.word(), bus));
        let devices = Device::ALL.map(|device| (device.id(), device));
        let mut entry = Self {
            name,
            inherits: table.text("inherits"),
            summary: text("summary"),
            machine: text("type"),
            cpu: text("cpu"),
            cpus: table.number("cpus"),
            sockets: table.number("sockets"),
            memory_mib: table.text("memory").and_then(|text| memory_of(&text)),
            nodes: table.has("nodes").then(|| table.tables("nodes", |table| Some(node(table)))),
            iommu: table.text("iommu").and_then(|text| one_of(&text, "IOMMU", &iommus)),
            bus: table.text("bus").and_then(|text| one_of(&text, "bus", &buses)),
            devices: list("devices")
                .map(|texts| texts.iter().filter_map(|text| one_of(text, "device", &devices)).collect()),
            qemu: list("qemu").map(words),
            append: text("append"),
            append_source: text("append_source"),
            append_target: text("append_target"),
            is_wrong: false,
        };
        entry.is_wrong = table.mistakes() > before;
        entry
    }

    /// The machine, with the rest from `base`.
    fn over(&self, base: &Profile) -> Profile {
        let small = |number: Option<u64>, otherwise| {
            number.map_or(otherwise, |number| u32::try_from(number).unwrap_or(u32::MAX))
        };
        let nodes = self.nodes.clone().unwrap_or_else(|| match self.memory_mib {
            // A memory of its own is that of a machine without nodes.
            Some(_) => Vec::new(),
            None => base.nodes.clone(),
        });
        let of_nodes = nodes.iter().map(|node| node.memory_mib).fold(0, u64::saturating_add);
        let inherited = if nodes.is_empty() { base.memory_mib } else { of_nodes };
        let append = [&self.append, &self.append_source, &self.append_target].map(Option::as_deref);
        Profile {
            name: self.name.text.to_owned(),
            summary: self.summary.clone().unwrap_or_else(|| format!("like {}", base.name)),
            machine: self.machine.clone().unwrap_or_else(|| base.machine.clone()),
            cpu: self.cpu.clone().unwrap_or_else(|| base.cpu.clone()),
            cpus: small(self.cpus, base.cpus),
            sockets: small(self.sockets, base.sockets),
            memory_mib: self.memory_mib.unwrap_or(inherited),
            nodes,
            iommu: self.iommu.unwrap_or(base.iommu),
            bus: self.bus.unwrap_or(base.bus),
            devices: self.devices.clone().unwrap_or_else(|| base.devices.clone()),
            qemu: self.qemu.clone().unwrap_or_else(|| base.qemu.clone()),
            append: match append {
                [None, None, None] => base.append.clone(),
                [both, source, target] => Append::of(both, source, target),
            },
        }
    }
}

/// The machines of a file, which can inherit from each other in any order.
struct File<'f, 'a> {
    entries: &'f [Entry<'a>],
    known: &'f [Profile],
    /// The machines whose bases are being looked for.
    under_way: RefCell<Vec<&'f str>>,
}

impl<'f> File<'f, '_> {
    fn resolve(&self, entry: &'f Entry<'_>) -> Option<Profile> {
        let name = entry.name.text;
        if self.known.iter().any(|profile| profile.name == name) {
            let hint = format!("give it another name, and write inherits = \"{name}\"");
            entry.name.wrong(format!("luqual has a machine `{name}`"), Some(hint));
            return None;
        }
        if self.under_way.borrow().contains(&name) {
            let hint = "a machine inherits from one that does not inherit from it".to_owned();
            entry.name.wrong(format!("the machine `{name}` inherits from itself"), Some(hint));
            return None;
        }
        self.under_way.borrow_mut().push(name);
        let base = self.base(entry);
        self.under_way.borrow_mut().pop();
        let profile = entry.over(&base?);
        if entry.is_wrong {
            return None;
        }
        match profile.mistake() {
            Some(why) => {
                entry.name.wrong(format!("the machine `{name}` is wrong: {why}"), None);
                None
            }
            None => Some(profile),
        }
    }

    fn base(&self, entry: &'f Entry<'_>) -> Option<Profile> {
        let base = entry.inherits.as_ref().map_or(DEFAULT_MACHINE, |text| text.text);
        // The machine that has no base has everything.
        if base == entry.name.text && entry.inherits.is_none() {
            return Some(nothing());
        }
        if let Some(known) = self.known.iter().find(|profile| profile.name == base) {
            return Some(known.clone());
        }
        match self.entries.iter().find(|entry| entry.name.text == base) {
            Some(entry) => self.resolve(entry),
            None => {
                let own = self.entries.iter().map(|entry| entry.name.text);
                let names: Vec<&str> = self.known.iter().map(|profile| profile.name.as_str()).chain(own).collect();
                if let Some(text) = &entry.inherits {
                    unknown(text, "machine", &names, "");
                }
                None
            }
        }
    }
}

/// What a machine has that inherits from none.
fn nothing() -> Profile {
    Profile {
        name: String::new(),
        summary: String::new(),
        machine: String::new(),
        cpu: String::new(),
        cpus: 0,
        sockets: 1,
        memory_mib: 0,
        nodes: Vec::new(),
        iommu: Iommu::None,
        bus: Bus::Root,
        devices: Vec::new(),
        qemu: Vec::new(),
        append: Append::default(),
    }
}

fn node(table: &Table<'_>) -> Node {
    let memory_mib = table.text("memory").and_then(|text| memory_of(&text)).unwrap_or_default();
    let cpus = table.text("cpus").and_then(|text| {
        let cpus = numbers(text.text);
        if cpus.is_none() {
            text.wrong(format!("`{}` is no list of processors", text.text), Some("write 0-3, or 0,2".to_owned()));
        }
        cpus
    });
    Node { memory_mib, cpus: cpus.unwrap_or_default() }
}

/// The numbers of a list such as `0-3,8` (Documentation/admin-guide/kernel-parameters.rst, cpu lists).
fn numbers(list: &str) -> Option<Vec<u32>> {
    /// More than a machine can have.
    const MOST: u32 = 1024;
    let mut all = Vec::new();
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        if first > last || last > MOST {
            return None;
        }
        all.extend(first..=last);
    }
    Some(all)
}

/// The machine as an entry of a file, with all that it inherits.
pub fn machine_as_toml(profile: &Profile) -> String {
    let text = |text: &str| toml::Value::from(text).to_string();
    let list = |words: &mut dyn Iterator<Item = &str>| toml::Value::from(words.collect::<Vec<_>>()).to_string();
    let memory = |mib: u64| if mib.is_multiple_of(1024) { format!("{}G", mib / 1024) } else { format!("{mib}M") };
    let mut lines = vec![
        format!("[machine.{}]", profile.name),
        format!("summary = {}", text(&profile.summary)),
        format!("type = {}", text(&profile.machine)),
        format!("cpu = {}", text(&profile.cpu)),
        format!("cpus = {}", profile.cpus),
        format!("sockets = {}", profile.sockets),
        format!("memory = {}", text(&memory(profile.memory_mib))),
    ];
    if !profile.nodes.is_empty() {
        let node = |node: &Node| {
            let cpus = node.cpus.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
            let memory = Some(format!("memory = \"{}\"", memory(node.memory_mib))).filter(|_| node.memory_mib > 0);
            let cpus = Some(format!("cpus = \"{cpus}\"")).filter(|_| !node.cpus.is_empty());
            format!("{{ {} }}", memory.into_iter().chain(cpus).collect::<Vec<_>>().join(", "))
        };
        lines.push(format!("nodes = [{}]", profile.nodes.iter().map(node).collect::<Vec<_>>().join(", ")));
    }
    lines.push(format!("iommu = {}", text(profile.iommu.word())));
    lines.push(format!("bus = {}", text(profile.bus.word())));
    lines.push(format!("devices = {}", list(&mut profile.devices.iter().map(|device| device.id()))));
    if !profile.qemu.is_empty() {
        lines.push(format!("qemu = {}", list(&mut profile.qemu.iter().map(String::as_str))));
    }
    let Append { source, target } = &profile.append;
    let of_one = [("append_source", source), ("append_target", target)];
    let of_both = [("append", source)];
    let append = if source == target { &of_both[..] } else { &of_one[..] };
    lines.extend(append.iter().filter(|(_, it)| !it.is_empty()).map(|(key, it)| format!("{key} = {}", text(it))));
    lines.join("\n") + "\n"
}

fn memory_of(text: &Text<'_>) -> Option<u64> {
    parse_memory(text.text).map_err(|why| text.wrong(why, None)).ok()
}

/// The MiB of a size such as `8G` or `900M`.
pub fn parse_memory(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is no size of memory; write it as 8G or 900M");
    let (number, shift) = match (text.strip_suffix(['G', 'g']), text.strip_suffix(['M', 'm'])) {
        (Some(number), _) => (number, 10),
        (None, Some(number)) => (number, 0),
        (None, None) => return Err(wrong()),
    };
    let number: u64 = number.parse().map_err(|_| wrong())?;
    number.checked_mul(1 << shift).ok_or_else(wrong)
}

fn one_of<T: Copy>(text: &Text<'_>, what: &str, all: &[(&str, T)]) -> Option<T> {
    let found = all.iter().find(|(word, _)| *word == text.text).map(|(_, value)| *value);
    if found.is_none() {
        let words: Vec<&str> = all.iter().map(|(word, _)| *word).collect();
        unknown(text, what, &words, "");
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machines(text: &str) -> Result<Vec<Profile>, String> {
        document::read("m.toml", text, |table| read(table, own_machines())).map_err(|mistakes| mistakes.to_string())
    }

    #[test]
    fn luquals_own_are_read() {
        let own = read_own(OWN).unwrap();
        assert_eq!(own.len(), 12);
        let plain = own_machine(DEFAULT_MACHINE).unwrap();
        assert_eq!((plain.cpus, plain.memory_mib, plain.iommu), (2, 1024, Iommu::Intel));
        assert_eq!(plain.append, Append::default());
        let virtio = own_machine("vfio-virtio").unwrap();
        assert_eq!((virtio.iommu, virtio.devices.len(), virtio.memory_mib), (Iommu::Virtio, 7, 1024));
        let options = "initcall_blacklist=nvme_init,e1000_init_module iommufd.allow_unsafe_interrupts=1 \
                       vfio_iommu_type1.allow_unsafe_interrupts=1";
        assert_eq!([&virtio.append.source, &virtio.append.target], [options; 2]);
    }

    #[test]
    fn a_machine_is_like_another_except_for_what_it_says() {
        let text = "[machine.b]\ninherits = \"a\"\nbus = \"root-port\"\nappend_target = \"x=1\"\n\
                    [machine.a]\nsummary = \"two nodes\"\ncpus = 4\nsockets = 2\ncpu = \"max,la57=off\"\ndevices = [\"nvme\"]\n\
                    nodes = [{ memory = \"4G\", cpus = \"0-1\" }, { memory = \"512M\", cpus = \"2,3\" }, {}]\n\
                    qemu = [\"-device\", \"usb-kbd\"]\nappend = \"numa=on\"\n\
                    [machine.c]\ninherits = \"b\"\nmemory = \"900M\"\n";
        let machines = machines(text).unwrap();
        let [a, b, c] = machines.as_slice() else { panic!("{machines:?}") };
        let node = |memory_mib, cpus: &[u32]| Node { memory_mib, cpus: cpus.to_vec() };
        assert_eq!(a.nodes, [node(4096, &[0, 1]), node(512, &[2, 3]), node(0, &[])]);
        assert_eq!((a.memory_mib, a.cpus, a.sockets, a.iommu), (4608, 4, 2, Iommu::Intel));
        assert_eq!((a.devices.as_slice(), a.summary.as_str()), ([Device::Nvme].as_slice(), "two nodes"));
        assert_eq!((b.summary.as_str(), b.bus, &b.nodes, &b.qemu), ("like a", Bus::RootPort, &a.nodes, &a.qemu));
        // What is written replaces what is inherited.
        assert_eq!(b.append, Append { source: String::new(), target: "x=1".into() });
        assert_eq!((c.memory_mib, c.nodes.len(), &c.append), (900, 0, &b.append));
    }

    #[test]
    fn a_machine_is_read_as_it_is_shown() {
        let nodes = vec![Node { memory_mib: 1000, cpus: vec![0, 1] }, Node { memory_mib: 0, cpus: Vec::new() }];
        let (qemu, append) = (vec!["-a \"b\"".into()], Append { source: "a=1".into(), target: String::new() });
        let plain = own_machine(DEFAULT_MACHINE).unwrap();
        let other = Profile { nodes, memory_mib: 1000, qemu, append, ..plain.clone() };
        for profile in own_machines().iter().chain([&other]) {
            let profile = Profile { name: "shown".into(), ..profile.clone() };
            assert_eq!(machines(&machine_as_toml(&profile)), Ok(vec![profile]));
        }
    }

    #[test]
    fn mistakes_are_told_with_their_places() {
        for (text, told) in [
            (
                "[machine.vfio-intel]\n",
                "m.toml:1:10: luqual has a machine `vfio-intel`\n  hint: give it another name, and write",
            ),
            (
                "[machine.a]\ninherits = \"vfio-intl\"\n",
                "m.toml:2:12: unknown machine `vfio-intl`\n  hint: is `vfio-intel` meant?",
            ),
            ("[machine.a]\ninherits = \"a\"\n", "m.toml:1:10: the machine `a` inherits from itself"),
            ("[machine.a]\ninherits = \"b\"\n[machine.b]\ninherits = \"a\"\n", "inherits from itself"),
            ("[machine.a]\ncpus = 3\nsockets = 2\n", "m.toml:1:10: the machine `a` is wrong: 2 sockets cannot have 3"),
            ("[machine.a]\nmemory = \"8\"\n", "m.toml:2:10: `8` is no size of memory; write it as 8G or 900M"),
            ("[machine.a]\nmemory = \"99999999999999999999G\"\n", "is no size of memory"),
            ("[machine.a]\nmemory = \"17592186044416G\"\n", "a machine has 256 MiB to 1048576 MiB"),
            (
                "[machine.a]\nnodes = [{ memory = \"1G\", cpus = \"1-0\" }]\n",
                "m.toml:2:34: `1-0` is no list of processors",
            ),
            ("[machine.a]\nnodes = [{ memory = \"1G\", cpu = \"0\" }]\n", "unknown key `cpu`"),
            (
                "[machine.a]\nnodes = [{ memory = \"1G\", cpus = \"0\" }]\n",
                "each of the processors 0 to 1 is in one node",
            ),
            ("[machine.a]\niommu = \"vt-d\"\n", "m.toml:2:9: unknown IOMMU `vt-d`\n  hint: known: none, intel"),
            ("[machine.a]\ndevices = [\"nvm\"]\n", "unknown device `nvm`\n  hint: is `nvme` meant?"),
            ("[machine.a]\nmemroy = \"8G\"\n", "unknown key `memroy`\n  hint: is `memory` meant?"),
            ("[machine.\"a b\"]\n", "the name of a machine has up to"),
        ] {
            let mistakes = machines(text).unwrap_err();
            assert!(mistakes.contains(told), "{mistakes}, not {told}");
        }
    }
}
