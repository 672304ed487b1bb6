//! Whether a series of samples grows, and what it looks like. Pure.

use std::fmt::Write as _;

/// A sample: seconds since the beginning, and a value.
pub type Point = (f64, f64);

/// A straight line through samples.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Slope {
    /// How much the value grows in an hour.
    pub per_hour: f64,
    /// How far off that may be: twice its standard error.
    pub error: f64,
}

/// The slope of the second half of the samples, by least squares: the first is for warming up. None for fewer than seven.
pub fn slope(samples: &[Point]) -> Option<Slope> {
    let half = samples.get(samples.len() / 2..).filter(|half| half.len() >= 4)?;
    let n = half.len() as f64;
    let mean = |of: &dyn Fn(&Point) -> f64| half.iter().map(of).sum::<f64>() / n;
    let (x, y) = (mean(&|p| p.0), mean(&|p| p.1));
    let spread: f64 = half.iter().map(|p| (p.0 - x).powi(2)).sum();
    let slope = half.iter().map(|p| (p.0 - x) * (p.1 - y)).sum::<f64>() / spread;
    let rest: f64 = half.iter().map(|p| (p.1 - y - slope * (p.0 - x)).powi(2)).sum();
    let error = (rest / (n - 2.0) / spread).sqrt();
    Some(Slope {
        per_hour: slope * 3600.0,
        error: 2.0 * error * 3600.0,
    })
}

/// Whether the samples grow by more than `bound` an hour, beyond doubt.
pub fn grows(samples: &[Point], bound: f64) -> bool {
    slope(samples).is_some_and(|slope| slope.per_hour - slope.error > bound)
}

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 140.0;
const LEFT: f64 = 90.0;

/// A plot of each series, one below the other, as an SVG file.
pub fn svg(title: &str, series: &[(&str, &[Point])]) -> String {
    let total = 40.0 + series.len() as f64 * (HEIGHT + 40.0);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{w}\" height=\"{total}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n<text x=\"10\" y=\"20\" font-size=\"15\">{title}</text>\n",
        w = LEFT + WIDTH + 20.0
    );
    for (index, (name, points)) in series.iter().enumerate() {
        plot(&mut svg, 60.0 + index as f64 * (HEIGHT + 40.0), name, points);
    }
    svg.push_str("</svg>\n");
    svg
}

fn plot(svg: &mut String, top: f64, name: &str, points: &[Point]) {
    let range = |of: &dyn Fn(&Point) -> f64| {
        let low = points.iter().map(of).fold(f64::INFINITY, f64::min);
        let high = points.iter().map(of).fold(f64::NEG_INFINITY, f64::max);
        (low, high.max(low + 1.0))
    };
    if points.is_empty() {
        return;
    }
    let ((first, last), (low, high)) = (range(&|p| p.0), range(&|p| p.1));
    let x = |at: f64| LEFT + (at - first) / (last - first) * WIDTH;
    let y = |value: f64| top + HEIGHT - (value - low) / (high - low) * HEIGHT;
    let line: Vec<String> = points.iter().map(|p| format!("{:.1},{:.1}", x(p.0), y(p.1))).collect();
    let _ = write!(
        svg,
        "<text x=\"{LEFT}\" y=\"{}\">{name}</text>\n\
         <rect x=\"{LEFT}\" y=\"{top}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"none\" stroke=\"#bbb\"/>\n\
         <text x=\"{end}\" y=\"{}\" text-anchor=\"end\">{high:.0}</text>\n\
         <text x=\"{end}\" y=\"{}\" text-anchor=\"end\">{low:.0}</text>\n\
         <text x=\"{}\" y=\"{}\" text-anchor=\"end\">{last:.0} s</text>\n\
         <polyline fill=\"none\" stroke=\"#1565c0\" points=\"{}\"/>\n",
        top - 6.0,
        top + 10.0,
        top + HEIGHT,
        LEFT + WIDTH,
        top + HEIGHT + 14.0,
        line.join(" "),
        end = LEFT - 6.0,
    );
}
