//! Processes that write: into the memfd on their standard input, and then stay; or into all free memory, and then end.

use crate::mapping::{Mapping, PAGE};
use crate::memfd::Memfd;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command};

/// What a writer prints when it has begun to write.
const READY: &str = "ready";

/// Waits until a writer is ready.
pub(crate) fn wait_ready(child: &mut Child) -> Result<(), String> {
    let stdout = child.stdout.take().ok_or("the writer process has no standard output")?;
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line).map_err(|error| format!("the writer process: {error}"))?;
    if line.trim_end() == READY { Ok(()) } else { Err(format!("the writer process answered `{}`", line.trim_end())) }
}

fn say_ready() -> Result<(), String> {
    let mut out = std::io::stdout();
    writeln!(out, "{READY}").and_then(|()| out.flush()).map_err(|error| format!("standard output: {error}"))
}

/// `luqual-agent write-pages NAME SIZE SEED GENERATION`: writes the content of its generation into every third page.
pub(crate) fn pages() -> Result<(), String> {
    let words: Vec<String> = std::env::args().skip(2).collect();
    let [name, size, seed, generation] = words.as_slice() else {
        return Err("usage: luqual-agent write-pages NAME SIZE SEED GENERATION".to_owned());
    };
    let number = |text: &String| text.parse::<u64>().map_err(|error| format!("`{text}`: {error}"));
    let memfd = Memfd::new(name.clone().leak(), number(size)?);
    let (seed, generation) = (number(seed)?, number(generation)?);
    let mut mapping = map(memfd.size)?;
    for page in memfd.all_pages().filter(|page| page % 3 == generation) {
        mapping.write(page as usize * PAGE, memfd.content(seed, page, generation as u8).as_slice());
    }
    say_ready()?;
    loop {
        std::thread::park();
    }
}

/// How often [`log`] has written all words when it is ready.
pub(crate) const PASSES: u64 = 3;

/// `luqual-agent write-log SIZE`: stores 1 into each word of 8 bytes, in order, then 2, and so on, for ever.
pub(crate) fn log() -> Result<(), String> {
    let size =
        std::env::args().nth(2).and_then(|text| text.parse().ok()).ok_or("usage: luqual-agent write-log SIZE")?;
    let mut mapping = map(size)?;
    for pass in 1.. {
        (0..size / 8).for_each(|word| mapping.store(word * 8, pass));
        if pass == PASSES {
            say_ready()?;
        }
    }
    Ok(())
}

/// `luqual-agent fill-memory LEFT`: takes memory and writes each byte of it until so many KiB are available, ends, which frees
/// it, and prints how many KiB it was. What is available is asked for again and again: page tables take a part of it, and a
/// kernel with several zones has less than it says.
pub(crate) fn fill_memory() -> Result<(), String> {
    const CHUNK_KIB: u64 = 16 << 10;
    let left: u64 =
        std::env::args().nth(2).and_then(|text| text.parse().ok()).ok_or("usage: luqual-agent fill-memory LEFT")?;
    // Rather this process than one that holds what is preserved (Documentation/filesystems/proc.rst, 3.1).
    std::fs::write("/proc/self/oom_score_adj", "1000").map_err(|error| format!("oom_score_adj: {error}"))?;
    let mut chunks: Vec<Vec<u8>> = Vec::new();
    while crate::facts::available_to_the_kernel_kib()? > left + CHUNK_KIB {
        let (mut chunk, bytes) = (Vec::new(), (CHUNK_KIB << 10) as usize);
        chunk.try_reserve_exact(bytes).map_err(|error| error.to_string())?;
        chunk.resize(bytes, FILL);
        chunks.push(chunk);
    }
    println!("{}", std::hint::black_box(&chunks).len() as u64 * CHUNK_KIB);
    Ok(())
}

/// What [`fill_memory`] writes.
const FILL: u8 = 0xa5;

/// Has a process of its own fill memory and free it. Returns how many KiB it was.
pub(crate) fn fill_memory_once(left_kib: u64) -> Result<u64, String> {
    let ran = Command::new(luqual_protocol::AGENT).args(["fill-memory", &left_kib.to_string()]).output();
    let output = ran.map_err(|error| format!("fill-memory: {error}"))?;
    let said = String::from_utf8_lossy(&output.stdout);
    match said.trim_end().parse() {
        Ok(filled) if output.status.success() => Ok(filled),
        _ => Err(format!("fill-memory: {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim_end())),
    }
}

/// The pass in which such a log was cut off. It is an error if its words are not those of one pass and the pass before it.
pub(crate) fn last_pass(log: &[u8]) -> Result<u64, String> {
    let words: Vec<u64> = log.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word)).collect();
    let pass = *words.first().ok_or("no words")?;
    let old = words.iter().position(|word| *word != pass).unwrap_or(words.len());
    match words[old..].iter().position(|word| *word + 1 != pass) {
        None => Ok(pass),
        Some(at) => Err(format!("word {} is {} in pass {pass}, which came to word {old}", old + at, words[old + at])),
    }
}

fn map(size: u64) -> Result<Mapping, String> {
    Mapping::of_file(std::io::stdin(), size as usize).map_err(|error| format!("the memfd on standard input: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_has_the_words_of_two_passes_in_order() {
        let bytes = |words: &[u64]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
        assert_eq!(last_pass(&bytes(&[5, 5, 4, 4])), Ok(5));
        assert_eq!(last_pass(&bytes(&[5, 5, 5])), Ok(5));
        assert_eq!(last_pass(&bytes(&[0, 0])), Ok(0));
        assert!(last_pass(&bytes(&[5, 4, 5, 4])).unwrap_err().contains("word 2 is 5 in pass 5"));
        assert!(last_pass(&bytes(&[5, 3, 3])).is_err());
        assert!(last_pass(&[]).is_err());
    }
}
