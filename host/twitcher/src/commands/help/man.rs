//! The manual pages: those of the commands, and twitcher-TOPIC(7).

use std::io;
use std::path::Path;

use clap::Command;
use clap_mangen::roff::{Roff, bold, roman};

use super::markup::{Block, parse};
use super::{TOPICS, Topic};

/// Writes every manual page to a directory, which must exist; pages of these names are replaced.
pub fn write(program: Command, dir: &Path) -> io::Result<()> {
    let version = program.get_version().unwrap_or_default().to_owned();
    clap_mangen::generate_to(program, dir)?;
    for topic in &TOPICS {
        std::fs::write(dir.join(format!("twitcher-{}.7", topic.name)), page(topic, &version))?;
    }
    Ok(())
}

/// A page in section 7.
fn page(topic: &Topic, version: &str) -> String {
    let name = format!("twitcher-{}", topic.name);
    let mut roff = Roff::new();
    let source = format!("twitcher {version}");
    // An empty argument has to be seen; the page is as old as the program, so no date.
    roff.control("TH", [name.to_uppercase().as_str(), "7", "\"\"", &source, "Twitcher"]);
    roff.control("SH", ["NAME"]);
    roff.text([roman(format!("{name} - {}", topic.summary))]);
    let mut blocks = parse(&topic.text());
    if !matches!(blocks.first(), Some(Block::Heading(_))) {
        blocks.insert(0, Block::Heading("DESCRIPTION".to_owned()));
    }
    let mut below_heading = false;
    for block in blocks {
        let is_heading = matches!(block, Block::Heading(_));
        // A heading begins a paragraph by itself.
        if matches!(block, Block::Paragraph(_) | Block::Literal(_)) && !below_heading {
            roff.control("PP", []);
        }
        below_heading = is_heading;
        add(&mut roff, block);
    }
    roff.control("SH", ["SEE ALSO"]);
    let others = TOPICS.iter().filter(|other| other.name != topic.name);
    let others = others.map(|other| format!("twitcher-{}(7)", other.name));
    let others: Vec<String> = ["twitcher(1)".to_owned()].into_iter().chain(others).collect();
    roff.text([roman(others.join(", "))]);
    roff.render()
}

fn add(roff: &mut Roff, block: Block) {
    match block {
        Block::Heading(text) => {
            roff.control("SH", [text.as_str()]);
        }
        Block::Paragraph(text) => {
            roff.text([roman(text)]);
        }
        Block::Points(points) => {
            for point in points {
                roff.control("IP", [r"\(bu", "2"]);
                roff.text([roman(point)]);
            }
        }
        Block::Item { term, meaning } => {
            roff.control("TP", []);
            roff.text([bold(term)]);
            roff.text([roman(meaning)]);
        }
        Block::Literal(text) => {
            roff.control("RS", ["4"]);
            roff.control("nf", []);
            for line in text.split('\n') {
                roff.text([roman(line)]);
            }
            roff.control("fi", []);
            roff.control("RE", []);
        }
    }
}
