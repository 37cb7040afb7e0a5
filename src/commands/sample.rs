//! Made-up directories for the demonstration and the benchmark: valid phone
//! numbers of every region, and mail addresses.

use std::{
    fs::File,
    io::{self, BufWriter, Write as _},
    path::Path,
};

use blindbook::identifier::{Sii, mobile_numbers, regions};

/// One in so many records is a mail address, the others are phone numbers.
const MAIL_EVERY: usize = 3;

/// One made-up person.
pub(crate) struct Sample {
    pub(crate) sii: String,
    pub(crate) user: String,
}

/// Distinct people without end, always the same: phone numbers region by region
/// in turn, and mail addresses between them.
pub(crate) fn people() -> impl Iterator<Item = Sample> {
    let mut numbers = phone_numbers();
    (0_usize..).map_while(move |n| {
        let sii = if n % MAIL_EVERY == MAIL_EVERY - 1 {
            mail_address(n)
        } else {
            // `tel:` is left out: an operator's file has numbers.
            numbers.next()?.as_str().trim_start_matches("tel:").to_owned()
        };
        Some(Sample { sii, user: user_name(n) })
    })
}

/// Valid phone numbers of every region in turn.
pub(crate) fn phone_numbers() -> impl Iterator<Item = Sii> {
    let mut regions: Vec<_> = regions().map(mobile_numbers).collect();
    let mut turn = 0;
    std::iter::from_fn(move || {
        loop {
            let numbers = regions.get_mut(turn)?;
            if let Some(sii) = numbers.next() {
                turn = (turn + 1) % regions.len();
                return Some(sii);
            }
            drop(regions.remove(turn));
            if turn >= regions.len() {
                turn = 0;
            }
        }
    })
}

fn mail_address(n: usize) -> String {
    const HOSTS: [&str; 5] =
        ["mail.example", "post.example", "bücher.example", "correo.example", "почта.example"];
    let host = HOSTS.get(n / MAIL_EVERY % HOSTS.len()).unwrap_or(&"mail.example");
    format!("person.{n}@{host}")
}

fn user_name(n: usize) -> String {
    format!("user-{n:08}")
}

/// Writes the first `count` people as CSV, telling of each thousand.
pub(crate) fn write_csv(path: &Path, count: usize, tell: impl Fn(u64)) -> io::Result<()> {
    let mut out = BufWriter::new(File::create_new(path)?);
    writeln!(out, "sii,user")?;
    for (n, person) in people().take(count).enumerate() {
        writeln!(out, "{},{}", person.sii, person.user)?;
        if n % 1000 == 999 {
            tell(n as u64 + 1);
        }
    }
    out.into_inner()?.sync_all()
}
