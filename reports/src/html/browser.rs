//! The page in a real browser, driven as a person would: by keys and clicks.

use crate::record::Record;
use crate::samples::{cell, cells, record, record_of};
use headless_chrome::browser::tab::Tab;
use headless_chrome::protocol::cdp::types::Event;
use headless_chrome::protocol::cdp::{Emulation, Network};
use headless_chrome::{Browser, LaunchOptions};
use luqual_model::{CellRecord, Outcome};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// A page, open in a browser of its own.
struct Open {
    tab: Arc<Tab>,
    /// Errors on the console, and everything that was asked of anybody.
    complaints: Arc<Mutex<Vec<String>>>,
    url: String,
    _browser: Browser,
    _folder: tempfile::TempDir,
}

fn chromium() -> PathBuf {
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = names.iter().flat_map(|name| std::env::split_paths(&path).map(move |folder| folder.join(name)));
    std::env::var_os("CHROMIUM").map(PathBuf::from).or_else(|| found.into_iter().find(|file| file.is_file())).expect(
        "no Chromium: apt-get install chromium, or name the program of one in the environment variable CHROMIUM",
    )
}

fn open(page: &[u8]) -> Open {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.html");
    std::fs::write(&file, page).unwrap();
    let options = LaunchOptions {
        path: Some(chromium()),
        // Chromium's sandbox does not work for root, as CI often is; the page is our own.
        sandbox: false,
        window_size: Some((1200, 900)),
        idle_browser_timeout: Duration::from_secs(300),
        args: vec![OsStr::new("--disable-dev-shm-usage")],
        ..LaunchOptions::default()
    };
    let browser = Browser::new(options).unwrap();
    let tab = browser.new_tab().unwrap();
    tab.set_default_timeout(Duration::from_secs(120));
    let complaints = Arc::new(Mutex::new(Vec::new()));
    let url = format!("file://{}", file.display());
    let (heard, own) = (complaints.clone(), url.clone());
    tab.add_event_listener(Arc::new(move |event: &Event| {
        let complaint = match event {
            Event::RuntimeExceptionThrown(thrown) => format!("exception: {:?}", thrown.params.exception_details.text),
            Event::RuntimeConsoleAPICalled(called) => format!("console: {:?}", called.params.args),
            Event::LogEntryAdded(added) => format!("log: {}", added.params.entry.text),
            Event::NetworkRequestWillBeSent(sent) if !sent.params.request.url.starts_with(&own) => {
                format!("request: {}", sent.params.request.url)
            }
            _ => return,
        };
        heard.lock().unwrap().push(complaint);
    }))
    .unwrap();
    tab.enable_log().unwrap();
    tab.enable_runtime().unwrap();
    let network = Network::Enable {
        max_total_buffer_size: None,
        max_resource_buffer_size: None,
        max_post_data_size: None,
        report_direct_socket_traffic: None,
        enable_durable_messages: None,
    };
    tab.call_method(network).unwrap();
    tab.navigate_to(&url).unwrap().wait_until_navigated().unwrap();
    Open { tab, complaints, url, _browser: browser, _folder: folder }
}

impl Open {
    fn ask(&self, expression: &str) -> serde_json::Value {
        self.tab.evaluate(expression, false).unwrap().value.unwrap_or_default()
    }

    fn shown(&self) -> String {
        self.tab.find_element("#shown").unwrap().get_inner_text().unwrap()
    }

    fn cells_in_sight(&self) -> u64 {
        self.ask("[...document.querySelectorAll('details.cell')].filter(cell => cell.offsetHeight).length")
            .as_u64()
            .unwrap()
    }

    fn complaints(&self) -> Vec<String> {
        self.complaints.lock().unwrap().clone()
    }
}

fn page(record: &Record, read: &dyn Fn(&CellRecord, &str) -> Option<String>) -> Vec<u8> {
    let mut page = Vec::new();
    super::html(record, super::Evidence { read, linked: true }, &mut page).unwrap();
    page
}

fn console(_: &CellRecord, name: &str) -> Option<String> {
    (name == "console.log").then(|| "[    1.0] a line\n".repeat(300))
}

#[test]
fn a_page_is_opened_filtered_and_read() {
    let open = open(&page(&record(), &console));
    let all = cells().len() as u64;
    assert_eq!((open.shown(), open.cells_in_sight()), (format!("{all} of {all} shown"), all));

    let filter = open.tab.find_element("#filter").unwrap();
    filter.click().unwrap();
    open.tab.type_str("7.3.4 LOST").unwrap();
    assert_eq!((open.shown(), open.cells_in_sight()), (format!("1 of {all} shown"), 1));
    for _ in "7.3.4 LOST".chars() {
        open.tab.press_key("Backspace").unwrap();
    }
    assert_eq!(open.cells_in_sight(), all);
    open.tab.find_element(".filters input[value=survived]").unwrap().click().unwrap();
    assert_eq!(open.cells_in_sight(), all - 2);
    open.tab.find_element(".filters input[value=survived]").unwrap().click().unwrap();

    // By status, and by what only the title says.
    open.tab.find_element(".filters input[value=unexpected]").unwrap().click().unwrap();
    assert_eq!(open.cells_in_sight(), 1);
    open.tab.find_element(".filters input[value=unexpected]").unwrap().click().unwrap();
    filter.click().unwrap();
    open.tab.type_str("panic").unwrap();
    assert_eq!(open.cells_in_sight(), 1);
    // A link from the grid to a cell that the filter hides takes the filter away.
    let hidden = cells()[2].id.to_string();
    open.tab.find_element(&format!(".grid a[href='#{hidden}']")).unwrap().click().unwrap();
    open.tab.wait_for_element(&format!("[id='{hidden}'][open]")).unwrap();
    assert_eq!((open.shown(), open.ask("filter.value")), (format!("{all} of {all} shown"), "".into()));
    assert_eq!(open.ask("document.activeElement.parentElement.id"), hidden.as_str());
    let top = open.ask("document.activeElement.getBoundingClientRect().top").as_f64().unwrap();
    let height = open.ask("innerHeight").as_f64().unwrap();
    assert!((0.0..height).contains(&top), "it is at {top} of {height}");

    // A clean survival is closed until it is asked for: by its line, and by its square in the grid.
    let id = cells()[0].id.to_string();
    let probes = format!("document.getElementById('{id}').querySelector('table').checkVisibility()");
    assert_eq!(open.ask(&probes), false);
    let line = format!("[id='{id}'] > summary");
    open.tab.find_element(&line).unwrap().click().unwrap();
    assert_eq!(open.ask(&probes), true);
    open.tab.find_element(&line).unwrap().click().unwrap();
    assert_eq!(open.ask(&probes), false);
    open.tab.find_element(&format!(".grid a[href='#{id}']")).unwrap().click().unwrap();
    open.tab.wait_for_element(&format!("[id='{id}'][open]")).unwrap();
    assert_eq!(open.ask(&probes), true);
    // The same link again, which changes no address.
    open.tab.find_element(&line).unwrap().click().unwrap();
    assert_eq!(open.ask(&probes), false);
    open.tab.find_element(&format!(".grid a[href='#{id}']")).unwrap().click().unwrap();
    open.tab.wait_for_element(&format!("[id='{id}'][open]")).unwrap();
    open.ask("location.hash = '#%'");
    assert_eq!(open.complaints(), Vec::<String>::new(), "{}", open.url);
}

#[test]
fn it_is_read_in_the_dark_and_on_a_phone() {
    let open = open(&page(&record(), &console));
    let background = |scheme: &str| {
        let feature = Emulation::MediaFeature { name: "prefers-color-scheme".into(), value: scheme.into() };
        open.tab.call_method(Emulation::SetEmulatedMedia { media: None, features: Some(vec![feature]) }).unwrap();
        let canvas = "(() => { const mark = document.body.appendChild(document.createElement('i')); \
                      mark.style.color = 'canvas'; const color = getComputedStyle(mark).color; mark.remove(); return color })()";
        let text = open.ask("getComputedStyle(document.querySelector('summary .tag')).color");
        (open.ask(canvas), text)
    };
    let (light, dark) = (background("light"), background("dark"));
    assert!(light.0 != dark.0 && light.1 != dark.1, "{light:?} {dark:?}");

    let phone = Emulation::SetDeviceMetricsOverride {
        width: 390,
        height: 844,
        device_scale_factor: 3.0,
        mobile: true,
        scale: None,
        screen_width: None,
        screen_height: None,
        position_x: None,
        position_y: None,
        dont_set_visible_size: None,
        screen_orientation: None,
        viewport: None,
        display_feature: None,
        device_posture: None,
    };
    open.tab.call_method(phone).unwrap();
    let widths = open.ask("document.documentElement.scrollWidth + ' ' + innerWidth");
    assert_eq!(widths, "390 390");
    assert_eq!(open.complaints(), Vec::<String>::new());
}

#[test]
fn ten_thousand_cells_are_filtered() {
    let many = (0..100).flat_map(|source| (0..100).map(move |target| (source, target)));
    let outcome = |target| if target % 50 == 7 { Outcome::Lost } else { Outcome::Survived };
    let many = many.map(|(source, target)| {
        let title = if target % 50 == 7 { "x" } else { "" };
        ordinary(cell(&format!("7.{source}.1"), &format!("8.{target}.1"), outcome(target), title))
    });
    let page = page(&record_of(many.collect()), &|_, _| None);
    let started = Instant::now();
    let open = open(&page);
    assert_eq!(open.shown(), "10000 of 10000 shown");
    let opened = started.elapsed();
    open.tab.find_element("#filter").unwrap().click().unwrap();
    let started = Instant::now();
    open.tab.type_str("7.3.1 lost").unwrap();
    // Two in the row of 7.3.1; the words are looked for anywhere in a line, so that 17.3.1 would count too.
    assert_eq!((open.shown(), open.cells_in_sight()), ("2 of 10000 shown".to_owned(), 2));
    let typed = started.elapsed();
    // What a key costs in the page, with its layout; the rest is the browser's protocol.
    let own = open.ask("(() => { const start = performance.now(); show(); document.body.offsetHeight; return performance.now() - start })()");
    println!("{} MiB, opened in {opened:?}, ten keys in {typed:?}, a filter in {own} ms", page.len() >> 20);
    assert_eq!(open.complaints(), Vec::<String>::new());
}

/// With as many phases, probes and findings as a cell of memfd.basic has.
fn ordinary(mut cell: CellRecord) -> CellRecord {
    cell.phases = cell.phases.iter().cycle().take(11).cloned().collect();
    cell.probes = cell.probes.iter().cycle().take(15).cloned().collect();
    cell.findings = cell.findings.iter().cycle().take(6).cloned().collect();
    cell
}

/// That nothing was complained of says something only if complaints are heard.
#[test]
fn errors_and_requests_are_heard() {
    let mut broken = page(&record(), &console);
    let other = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"));
    let script = format!("<img src='file://{}'><script>throw new Error('planted')</script>", other.display());
    broken.extend(script.bytes());
    let complaints = open(&broken).complaints();
    assert!(complaints.iter().any(|it| it.starts_with("exception: ")), "{complaints:?}");
    assert!(complaints.iter().any(|it| it.starts_with("request: ")), "{complaints:?}");
}
