//! A table in `docs/` that tests keep true: what each fault costs, as it was measured.
//!
//! A test that has measured a fault calls [`fault`]. As a rule the row in `docs/durability.md` must
//! say the same of what was lost and what clients saw; counts and pauses differ from run to run and
//! are not compared. With `TK_WRITE_TABLES=1` the row is written instead.

use std::fs;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

/// What a fault came to.
#[derive(Debug, Clone, Copy)]
pub struct Fault<'a> {
    /// The store it was measured over: `SQLite`, `etcd`.
    pub store: &'a str,
    /// What happened.
    pub fault: &'a str,
    /// How often in this run.
    pub times: usize,
    /// Acknowledged mints and revocations that were lost.
    pub lost: usize,
    /// How long nothing was acknowledged, at worst; `None` where that is not the question.
    pub pause: Option<Duration>,
    /// In a few words.
    pub clients_saw: &'a str,
}

const PAGE: &str = "docs/durability.md";
static LOCK: Mutex<()> = Mutex::new(());

/// Compares a row with the page, or writes it.
///
/// # Panics
/// When the page has no such row, or says something else.
pub fn fault(row: &Fault<'_>) {
    let _lock = LOCK.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let path: PathBuf = crate::signer::workspace().join(PAGE);
    let page = fs::read_to_string(&path).unwrap_or_default();
    let begins = format!("| {} | {} |", row.store, row.fault);
    let pause = row.pause.map_or("-".to_owned(), |pause| format!("{:.1} s", pause.as_secs_f64()));
    let ours = format!("{begins} {} | {} | {pause} | {} |", row.times, row.lost, row.clients_saw);
    println!("{ours}");
    let there = page.lines().find(|line| line.starts_with(&begins));
    if std::env::var("TK_WRITE_TABLES").is_ok_and(|set| set == "1") {
        let page = match there {
            Some(line) => page.replace(line, &ours),
            None => {
                page.replacen("\n\n<!-- end of faults -->", &format!("\n{ours}\n\n<!-- end of faults -->"), 1)
            }
        };
        fs::write(&path, page).expect("the page is written");
        return;
    }
    let cells = |line: &str| line.split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
    let Some(there) = there.map(cells) else { panic!("{PAGE} has no row {begins}") };
    let ours = cells(&ours);
    for at in [4, 6] {
        assert_eq!(there.get(at), ours.get(at), "{PAGE}, {begins} (TK_WRITE_TABLES=1 writes it)");
    }
}

/// Notes a time in the page's second table (`| what | time | how |`), only with
/// `TK_WRITE_TABLES=1`: times are never compared.
///
/// # Panics
/// When the page cannot be written.
pub fn time(what: &str, took: Duration, how: &str) {
    let ours = format!("| {what} | {:.2} s | {how} |", took.as_secs_f64());
    println!("{ours}");
    if !std::env::var("TK_WRITE_TABLES").is_ok_and(|set| set == "1") {
        return;
    }
    let _lock = LOCK.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let path: PathBuf = crate::signer::workspace().join(PAGE);
    let page = fs::read_to_string(&path).unwrap_or_default();
    let begins = format!("| {what} |");
    let page = match page.lines().find(|line| line.starts_with(&begins)) {
        Some(line) => page.replace(line, &ours),
        None => page.replacen("\n\n<!-- end of times -->", &format!("\n{ours}\n\n<!-- end of times -->"), 1),
    };
    fs::write(&path, page).expect("the page is written");
}
