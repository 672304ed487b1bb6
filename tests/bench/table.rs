//! The table that `make bench` prints, and what becomes of it: Markdown, JSON and a plot.

use std::fmt::{Display, Write as _};
use std::path::Path;
use std::time::Duration;
use std::{fs, io};

use serde::Serialize;

/// One row. Times are in nanoseconds.
#[derive(Debug, Clone, Default, Serialize)]
struct Row {
    measured: String,
    /// As it is printed, with its unit.
    median: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    median_ns: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    p99_ns: Option<u64>,
    /// Beside the row that has 1, or in words.
    ratio: String,
    /// The same figure of this build beside that of the build before, which is 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    of_before: Option<f64>,
}

/// What was measured so far.
#[derive(Debug, Default)]
pub struct Table(Vec<Row>);

impl Table {
    pub fn row(&mut self, what: impl Display, median: impl Display, ratio: impl Display) {
        self.push(Row {
            measured: what.to_string(),
            median: median.to_string(),
            ratio: ratio.to_string(),
            ..Row::default()
        });
    }

    /// A row of samples, with what one of a hundred takes more than.
    pub fn samples(&mut self, what: impl Display, samples: Vec<Duration>) {
        self.beside(what, samples, "");
    }

    /// The same beside another row.
    pub fn beside(&mut self, what: impl Display, samples: Vec<Duration>, ratio: impl Display) {
        self.push(Row {
            ratio: ratio.to_string(),
            ..of_samples(what, samples)
        });
    }

    /// The same with the samples of the build before, which were taken in turns with them; none if there is no such build.
    pub fn judged(
        &mut self,
        what: impl Display,
        samples: Vec<Duration>,
        before: Option<Vec<Duration>>,
        ratio: impl Display,
    ) {
        let of_before = before.map(|before| {
            let [now, before] = [samples.clone(), before].map(|samples| quantile(samples, 50).as_secs_f64());
            (now / before * 1000.0).round() / 1000.0
        });
        self.push(Row {
            ratio: ratio.to_string(),
            of_before,
            ..of_samples(what, samples)
        });
    }

    fn push(&mut self, row: Row) {
        eprintln!("{}", markdown(&row));
        self.0.push(row);
    }

    /// Prints all of it, and writes it as JSON and as a plot into a directory.
    pub fn finish(&self, dir: &Path) -> io::Result<()> {
        println!("\n| measured | median | p99 | ratio | of the build before |\n| --- | --- | --- | --- | --- |");
        self.0.iter().for_each(|row| println!("{}", markdown(row)));
        fs::create_dir_all(dir)?;
        let json = serde_json::to_string_pretty(&self.0).map_err(io::Error::other)?;
        fs::write(dir.join("bench.json"), json + "\n")?;
        fs::write(dir.join("bench.svg"), self.plot())?;
        println!("\nAlso as {0}/bench.json and {0}/bench.svg", dir.display());
        Ok(())
    }

    /// A bar for each row that has a ratio to another, which is the line at 1.
    fn plot(&self) -> String {
        let bars: Vec<(&Row, f64)> = self
            .0
            .iter()
            .filter_map(|row| Some((row, row.ratio.parse().ok()?)))
            .collect();
        let bars: Vec<_> = bars
            .into_iter()
            .filter(|(_, ratio)| *ratio > 0.0 && *ratio != 1.0 && *ratio < 3.0)
            .collect();
        let most = bars.iter().map(|(_, ratio)| *ratio).fold(1.0, f64::max);
        let (line, left, width) = (26, 470.0, 300.0);
        let height = bars.len() * line + 40;
        let x = |ratio: f64| left + ratio / most * width;
        let mut svg = format!(
            "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 830 {height}' font-family='system-ui, sans-serif' font-size='12' role='img'>\n\
             <title>Figures beside what one would do without</title>\n\
             <style>text {{ fill: #171a1f }} .bar {{ fill: #0b5cd0 }} .one {{ stroke: #566070; stroke-dasharray: 3 3 }} .dim {{ fill: #566070 }}\n\
             @media (prefers-color-scheme: dark) {{ text {{ fill: #e7eaee }} .bar {{ fill: #72aeff }} .one {{ stroke: #9aa4b1 }} .dim {{ fill: #9aa4b1 }} }}</style>\n"
        );
        for (index, (row, ratio)) in bars.iter().enumerate() {
            let y = index * line + 12;
            let text = escaped(&shortened(&row.measured.replace('`', ""), 72));
            let _ = writeln!(
                svg,
                "<text x='{}' y='{}' text-anchor='end'>{text}</text>\
                 <rect class='bar' x='{left}' y='{y}' width='{:.1}' height='16' rx='2'/>\
                 <text class='dim' x='{:.1}' y='{}'>{ratio:.2}</text>",
                left - 10.0,
                y + 12,
                x(*ratio) - left,
                x(*ratio) + 6.0,
                y + 12,
            );
        }
        let _ = writeln!(
            svg,
            "<line class='one' x1='{0:.1}' x2='{0:.1}' y1='4' y2='{1}'/><text class='dim' x='{0:.1}' y='{2}' text-anchor='middle'>1</text>\n</svg>",
            x(1.0),
            height - 22,
            height - 8
        );
        svg
    }
}

fn of_samples(what: impl Display, samples: Vec<Duration>) -> Row {
    let (median, p99) = (quantile(samples.clone(), 50), quantile(samples, 99));
    let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).ok();
    Row {
        measured: what.to_string(),
        median: shown(median),
        median_ns: nanoseconds(median),
        p99_ns: nanoseconds(p99),
        ..Row::default()
    }
}

fn markdown(row: &Row) -> String {
    let p99 = row
        .p99_ns
        .map_or_else(String::new, |time| shown(Duration::from_nanos(time)));
    let before = row.of_before.map_or_else(String::new, |ratio| format!("{ratio:.2}"));
    format!(
        "| {} | {} | {p99} | {} | {before} |",
        row.measured, row.median, row.ratio
    )
}

/// In the unit that leaves some digits.
fn shown(time: Duration) -> String {
    match time.as_nanos() {
        0..10_000 => format!("{:.2} us", time.as_secs_f64() * 1e6),
        10_000..1_000_000 => format!("{:.0} us", time.as_secs_f64() * 1e6),
        _ => format!("{:.2} ms", time.as_secs_f64() * 1e3),
    }
}

/// What so many of a hundred samples are at most.
pub fn quantile(mut samples: Vec<Duration>, percent: usize) -> Duration {
    samples.sort_unstable();
    samples[(samples.len() * percent / 100).min(samples.len() - 1)]
}

fn shortened(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
